"""`vision-jax match`: two pictures in, matched key points out."""

import dataclasses
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Annotated

import tyro

from vision_jax.cli.features import Features, load_extractor
from vision_jax.cli.options import FeatureOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  result_record,
  write_json,
)

if TYPE_CHECKING:
  import numpy as np

__all__ = ["MatchOptions"]

_Image = Annotated[pathlib.Path, tyro.conf.arg(metavar="IMAGE")]
_LEAST = 4  # matches that determine a homography


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchOptions(FeatureOptions):
  """Match two images by their key points.

  Finds key points in both, matches their descriptors and estimates the
  homography between the images. Writes a picture of the matches (inliers
  green, others red) and, beside it, an NPZ and a JSON file with everything.

  Attributes:
    image0: First image.
    image1: Second image.
    ratio: Lowe's ratio test on descriptor distances, for example 0.9.
    ransac: Distance in pixels up to which a match is an inlier of the
      homography.
    max_lines: At most so many matches are drawn.
    out: Picture to write; .npz and .json get the same name.
  """

  image0: tyro.conf.Positional[_Image]
  image1: tyro.conf.Positional[_Image]
  ratio: float | None = None
  ransac: float = 3.0
  max_lines: int = 150
  out: pathlib.Path = pathlib.Path("matches.png")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return _run(self)


def _run(options: MatchOptions) -> int:
  if options.ratio is not None and not 0.0 < options.ratio <= 1.0:
    raise UserError(f"--ratio must be in (0, 1], got {options.ratio}")
  if not options.ransac > 0.0:
    raise UserError(f"--ransac must be positive, got {options.ransac}")
  if options.max_lines < 0:
    raise UserError(f"--max-lines must be at least 0, got {options.max_lines}")
  check_outputs("--out", options.out, inputs=(options.image0, options.image1))
  import jax
  import numpy as np

  from vision_jax import data, ops
  from vision_jax.systems import elf

  images = [data.read_image(p) for p in (options.image0, options.image1)]
  seconds: dict[str, float] = {}
  clock = time.perf_counter()
  extractor = load_extractor(options)
  seconds["load"], clock = _lap(clock)
  features = []
  for i, image in enumerate(images):
    features.append(extractor.features(image, options.max_side))
    seconds[f"image{i}"], clock = _lap(clock)
  matches = elf.match(
    features[0].keypoints, features[1].keypoints, ratio=options.ratio
  )
  matches = jax.tree.map(np.asarray, matches)
  pairs = np.stack([matches.index0, matches.index1], -1)[matches.valid]
  seconds["matching"], clock = _lap(clock)
  points0 = np.asarray(features[0].keypoints.xy)[pairs[:, 0]]
  points1 = np.asarray(features[1].keypoints.xy)[pairs[:, 1]]
  inliers = np.zeros(len(pairs), bool)
  homography = None
  if len(pairs) >= _LEAST:
    estimate = ops.estimate_homography(
      points0, points1, threshold=options.ransac
    )
    if bool(estimate.success):
      homography = np.asarray(estimate.matrix, np.float64)
      inliers = np.asarray(estimate.inliers)
  seconds["homography"], clock = _lap(clock)
  _write(
    options,
    images,
    features,
    pairs,
    matches.scores[matches.valid],
    inliers,
    homography,
    seconds,
    extractor.config,
  )
  _print(options, features, pairs, inliers, homography, seconds)
  empty = [
    str(path)
    for path, found in zip(
      (options.image0, options.image1), features, strict=True
    )
    if found.num_keypoints == 0
  ]
  if empty:
    print(
      f"vision-jax match: no key points found in {' and '.join(empty)}"
      " (is it a constant image?)",
      file=sys.stderr,
    )
    return 1
  return 0


def _lap(start: float) -> tuple[float, float]:
  """Seconds since a moment, and the moment now."""
  now = time.perf_counter()
  return now - start, now


def _write(
  options: MatchOptions,
  images: list["np.ndarray"],
  features: list[Features],
  pairs: "np.ndarray",
  scores: "np.ndarray",
  inliers: "np.ndarray",
  homography: "np.ndarray | None",
  seconds: dict[str, float],
  config: dict,
) -> None:
  """Writes the picture, the arrays and the record."""
  import numpy as np

  from vision_jax import data, viz

  count0, count1 = (found.num_keypoints for found in features)
  first, second = (found.keypoints for found in features)
  matrix = np.full((3, 3), np.nan) if homography is None else homography
  picture = viz.draw_matches(
    images[0],
    images[1],
    first.xy[pairs[:, 0]],
    second.xy[pairs[:, 1]],
    inliers=inliers,
    max_lines=options.max_lines,
  )
  record = result_record(
    options,
    {
      "images": [
        {
          "path": path,
          "width": found.image_size[0],
          "height": found.image_size[1],
          "keypoints": found.num_keypoints,
        }
        for path, found in zip(
          (options.image0, options.image1), features, strict=True
        )
      ],
      "matches": len(pairs),
      "inliers": int(inliers.sum()),
      "homography_0to1": homography,
      "convention": "(x, y) in pixels of each file; the centre of the"
      " first pixel is (0, 0)",
      "seconds": {n: round(t, 4) for n, t in seconds.items()},
      "config": config,
    },
  )
  data.write_image(options.out, picture)
  write_json(options.out.with_suffix(".json"), record)
  np.savez(
    options.out.with_suffix(".npz"),
    keypoints0=first.xy[:count0],
    keypoints1=second.xy[:count1],
    scores0=first.scores[:count0],
    scores1=second.scores[:count1],
    matches=pairs.astype(np.int32),
    match_scores=scores.astype(np.float32),
    inliers=inliers,
    homography_0to1=matrix,
    record=np.array(json.dumps(record)),
  )


def _print(
  options: MatchOptions,
  features: list[Features],
  pairs: "np.ndarray",
  inliers: "np.ndarray",
  homography: "np.ndarray | None",
  seconds: dict[str, float],
) -> None:
  """Prints the result."""
  note = " with compilation" if options.method == "elf" else ""
  for i, (path, found) in enumerate(
    zip((options.image0, options.image1), features, strict=True)
  ):
    width, height = found.image_size
    print(
      f"{found.num_keypoints:5d} key points in {path} ({width} x {height}),"
      f" {seconds[f'image{i}']:.2f} s{note if i == 0 else ''}"
    )
  print(f"{len(pairs):5d} matches, {seconds['matching']:.2f} s")
  if homography is not None:
    print(
      f"{int(inliers.sum()):5d} inliers of a homography within"
      f" {options.ransac:g} px, {seconds['homography']:.2f} s"
    )
    print("homography from the first to the second image:")
    for row in homography:
      print("  " + " ".join(f"{value:14.6g}" for value in row))
  elif len(pairs) < _LEAST:
    print(f"no homography: it needs at least {_LEAST} matches")
  else:
    print("no homography: the matches agree on none")
  names = [options.out.with_suffix(s).name for s in (".npz", ".json")]
  print(f"written: {options.out}, {', '.join(names)}")

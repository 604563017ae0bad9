"""ELF beside its controls and the classical baselines, in every protocol.

Run:  python -m experiments.elf.evaluate
      python -m experiments.elf.evaluate --data hpatches --root DIR \
          --networks vgg16=IMAGENET1K_V1 alexnet=alexnet.pth

Prints a table, and with --write puts it and the figures into README.md.
Features are kept per image in --cache: a run that was stopped goes on.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.elf import methods, report
from vision_jax import bench, data, metrics, ops
from vision_jax.cli import parsing
from vision_jax.systems import elf

THRESHOLDS = tuple(range(1, 11))
ANGLES = (10.0, 50.0, 90.0, 130.0, 170.0, 210.0)  # degrees, as the authors'
ZOOMS = (1.25, 1.5, 1.75, 2.0)
SHOWN = (  # their key points are drawn
  "ELF vgg_small",
  "ELF vgg_small, random weights",
  "Harris + vgg_small",
  "SIFT",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What is evaluated.

  Attributes:
    data: the pairs: generated from photographs, or a folder of the release.
    root: folder of hpatches or webcam.
    published: the protocol of the paper: all pairs, brought to 480 x 640 with
      homographies scaled plainly; 8-bit maps and entropy threshold.
    networks: further rows, MODEL=WEIGHTS, for example vgg16=IMAGENET1K_V1.
    max_keypoints: points per image, for every method.
    num_per_image: homography pairs for each of the seven photographs.
    curves: also evaluate rotation and zoom.
    cache: folder of features, safe to delete.
    out: folder of the numbers and figures.
    write: put table and figures into experiments/elf/README.md.
  """

  data: Literal["homography_pairs", "hpatches", "webcam"] = "homography_pairs"
  root: pathlib.Path | None = None
  published: bool = False
  networks: tuple[str, ...] = ()
  max_keypoints: int = 500
  num_per_image: int = 10
  curves: bool = True
  cache: pathlib.Path = pathlib.Path("runs/elf_features")
  out: pathlib.Path = pathlib.Path("runs/elf")
  write: bool = False


class FeatureCache:
  """Features in one file for each image and method; damaged ones are redone.

  Attributes:
    folder: where the files are.
    seconds: name of a method -> times of the extractions made now.
    damaged: files that could not be read.
  """

  def __init__(self, folder: pathlib.Path):
    """Opens, or creates, the folder."""
    self.folder = folder
    self.seconds: dict[str, list[float]] = {}
    self.damaged: list[str] = []

  def get(self, method: methods.Method, image: np.ndarray) -> ops.Keypoints:
    """Features of an image, read or computed."""
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    digest.update(f"{image.shape}{method.settings}".encode())
    path = self.folder / f"{digest.hexdigest()[:24]}.npz"
    if path.exists():
      try:
        with np.load(path) as stored:
          return ops.Keypoints(**{k: stored[k] for k in stored.files})
      except Exception as error:  # whatever a damaged zip file may raise
        self.damaged.append(f"{path}: {error}")
    started = time.perf_counter()
    found = jax.block_until_ready(method.extract(image))
    elapsed = time.perf_counter() - started
    self.seconds.setdefault(method.name, []).append(elapsed)
    fields = {
      name: np.asarray(value)
      for name, value in found._asdict().items()
      if value is not None
    }
    self.folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **fields)
    partial.replace(path)
    return ops.Keypoints(**fields)


def score_pair(
  method: methods.Method, cache: FeatureCache, images: Any, matrix: np.ndarray
) -> metrics.PairScores:
  """Every number of one method on one pair."""
  truth = metrics.homography_ground_truth(
    matrix, images[0].shape[:2], images[1].shape[:2]
  )
  found = tuple(cache.get(method, image) for image in images)
  if method.adapt is not None:
    found = method.adapt(images, found)
  matches = elf.match(*found)
  valid = np.asarray(matches.valid)
  if method.refine is None:
    ends = (
      np.asarray(found[0].xy)[np.asarray(matches.index0)],
      np.asarray(found[1].xy)[np.asarray(matches.index1)],
    )
  else:
    ends = method.refine([jnp.asarray(i) for i in images], found, matches)
  xy0, xy1 = (np.asarray(e, np.float64)[valid] for e in ends)
  return metrics.score_pair(*found, xy0, xy1, truth)


def evaluate_pairs(
  rows: list[methods.Method],
  pairs: Iterable[Any],
  cache: FeatureCache,
  *,
  total: int,
  label: str,
) -> dict[str, list[dict[str, Any]]]:
  """Method -> one record for each pair; failures are noted, not fatal."""
  records: dict[str, list[dict[str, Any]]] = {m.name: [] for m in rows}
  for pair in tqdm(pairs, total=total, desc=label, unit="pair"):
    images = [_as_float(pair.image0), _as_float(pair.image1)]
    for method in rows:
      record: dict[str, Any] = {"pair": f"{pair.name}/{pair.index}"}
      record["kind"] = getattr(pair, "kind", "")
      record["index"] = pair.index
      try:
        scores = score_pair(method, cache, images, pair.homography_0to1)
        record |= scores._asdict()
      except ValueError as error:  # say which pair, and evaluate the rest
        record["error"] = str(error)
      records[method.name].append(record)
  return records


def _as_float(image: np.ndarray) -> np.ndarray:
  """Float32 in [0, 1]."""
  if image.dtype == np.uint8:
    return image.astype(np.float32) / 255
  return np.asarray(image, np.float32)


def summarize(records: list[dict[str, Any]]) -> dict[str, Any]:
  """Means over the pairs that could be evaluated."""
  good = [
    metrics.PairScores(**{f: r[f] for f in metrics.PairScores._fields})
    for r in records
    if "error" not in r
  ]
  failed = {"failed": len(records) - len(good)}
  if not good:
    return {"num_pairs": 0} | failed
  return metrics.average_scores(good)._asdict() | failed


def summarize_kinds(
  records: dict[str, list[dict[str, Any]]],
) -> dict[str, dict[str, Any]]:
  """Kind of change -> method -> means, where pairs are of several kinds."""
  kinds = sorted({r["kind"] for rows in records.values() for r in rows})
  if len(kinds) < 2:
    return {}
  return {
    kind: {
      name: summarize([r for r in rows if r["kind"] == kind])
      for name, rows in records.items()
    }
    for kind in kinds
  }


def load_pairs(options: Options) -> tuple[Any, int, Callable[[], list[str]]]:
  """Pairs, their number, and a function that lists what was skipped."""
  if options.data == "homography_pairs":
    pairs = data.homography_pairs(num_per_image=options.num_per_image)
    return pairs, options.num_per_image * len(data.EVALUATION), list
  if options.root is None:
    raise SystemExit(f"--data {options.data} needs --root, its folder")
  if options.data == "webcam":
    reader = data.webcam_pairs(options.root)
  else:
    subset = "all" if options.published else "standard"
    reader = data.hpatches_pairs(options.root, subset=subset)
  pairs = map(resize_as_published, reader) if options.published else reader
  return pairs, len(reader.files), lambda: [str(s) for s in reader.skipped]


def resize_as_published(pair: Any) -> Any:
  """The pair at 480 x 640 whatever its aspect, as the authors' code does."""
  height, width = size = (480, 640)
  images = [
    cv2.resize(np.asarray(image), (width, height))
    for image in (pair.image0, pair.image1)
  ]
  matrix = metrics.resized_homography(
    pair.homography_0to1,
    pair.image0.shape[:2],
    size,
    pair.image1.shape[:2],
    size,
    convention="diag",
  )
  return pair._replace(
    image0=images[0], image1=images[1], homography_0to1=matrix
  )


def evaluate_curves(
  options: Options, cache: FeatureCache
) -> dict[str, dict[str, Any]]:
  """Matching score of every angle and zoom, method by method."""
  rows = methods.robust_methods(options.max_keypoints)
  curves: dict[str, dict[str, Any]] = {}
  for name, pairs, steps in (
    ("rotation", data.rotation_pairs(angles=ANGLES), ANGLES),
    ("zoom", data.zoom_pairs(zooms=ZOOMS), ZOOMS),
  ):
    total = len(steps) * len(data.EVALUATION)
    records = evaluate_pairs(rows[name], pairs, cache, total=total, label=name)
    curves[name] = {"steps": list(steps)}
    for method, rows_of in records.items():
      curves[name][method] = [
        summarize([r for r in rows_of if r["index"] == k])
        for k in range(len(steps))
      ]
  return curves


def pairs_per_second(
  method: methods.Method, cache: FeatureCache, options: Options
) -> float:
  """How fast pairs are scored when their features are stored."""
  pairs, _, _ = load_pairs(options)
  rates = []
  for pair in itertools.islice(pairs, 10):
    images = [_as_float(pair.image0), _as_float(pair.image1)]
    started = time.perf_counter()
    try:
      score_pair(method, cache, images, pair.homography_0to1)
    except ValueError:  # counted before
      continue
    rates.append(1 / (time.perf_counter() - started))
  return float(np.median(rates)) if rates else 0.0


def draw_points(
  rows: list[methods.Method], cache: FeatureCache, options: Options
) -> dict[str, str]:
  """Writes the key points of four detectors on two photographs."""
  kinds = [m for m in rows if m.name in SHOWN]
  images = [
    _as_float(p.image0)
    for p in data.homography_pairs(num_per_image=options.num_per_image)
    if p.index == 0
  ][:2]
  pictures = [
    (m.name, image, cache.get(m, image)) for image in images for m in kinds
  ]
  path = options.out / "keypoints.jpg"
  report.draw_keypoints(pictures, path, columns=len(kinds))
  return {path.name: "The key points of each detector, coloured by rank."}


def main(options: Options) -> None:
  """Evaluates, prints, and writes."""
  started = time.perf_counter()
  cache = FeatureCache(options.cache)
  pairs, total, skipped = load_pairs(options)
  networks = [tuple(n.split("=", 1)) for n in options.networks]
  rows = methods.default_methods(
    options.max_keypoints, networks, published=options.published
  )
  records = evaluate_pairs(rows, pairs, cache, total=total, label=options.data)
  result: dict[str, Any] = {
    "data": options.data,
    "summary": {name: summarize(r) for name, r in records.items()},
    "kinds": summarize_kinds(records),
    "skipped": skipped(),
    "damaged": cache.damaged,
    "seconds": {k: float(np.median(v)) for k, v in cache.seconds.items()},
    "pairs_per_second": pairs_per_second(rows[0], cache, options),
  }
  if options.curves and options.data == "homography_pairs":
    result["curves"] = evaluate_curves(options, cache)
  result["minutes"] = (time.perf_counter() - started) / 60
  options.out.mkdir(parents=True, exist_ok=True)
  (options.out / "records.json").write_text(json.dumps(records))
  (options.out / "result.json").write_text(json.dumps(result, indent=1))
  text = report.format_result(result)
  print(text)
  captions = report.draw_figures(result, options.out)
  if options.data == "homography_pairs":
    captions |= draw_points(rows, cache, options)
  if options.write:
    report.write_readme(text, result, captions, options)


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(
    parsing.read_options(
      Options,
      prog="python -m experiments.elf.evaluate",
      description=__doc__,
      use_underscores=True,
    )
  )

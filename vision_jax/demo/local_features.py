"""ELF on the demo page: saliency, key points, matches, beside SIFT."""

import time
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np

from vision_jax import data, metrics, viz, weights
from vision_jax.systems import elf, opencv_features

__all__ = ["Method", "elf_section", "load_methods"]

LAYERS = ("pool1", "pool2", "pool3", "pool4")
MAX_ERROR = 5.0  # pixels; the matching score's limit


class Method(NamedTuple):
  """A name and a function image -> key points.

  Attributes:
    name: for the tables.
    extract: image [H, W, 3] -> key points.
  """

  name: str
  extract: Any


class _Result(NamedTuple):
  """What a method did on a pair."""

  xy0: np.ndarray
  xy1: np.ndarray
  correct: np.ndarray
  num_known: int
  row: list[Any]


def load_methods() -> tuple[list[Method], Any]:
  """ELF with bundled and with random weights, and SIFT; and the network."""
  module, variables, preprocess = weights.resolve("vgg_small", "bundled")
  config = elf.make_config(
    "vgg_small",
    preprocess,
    threshold="none",  # the same number of points for every method
  )
  random = weights.random_variables(module)

  def with_weights(v):
    return lambda image: jax.block_until_ready(
      elf.extract(module, v, image, config)
    )

  methods = [
    Method("ELF, bundled weights", with_weights(variables)),
    Method("ELF, random weights", with_weights(random)),
    Method(
      "SIFT (OpenCV)",
      lambda image: opencv_features.detect_opencv(
        image, method="sift", max_keypoints=config.max_keypoints
      ),
    ),
  ]
  return methods, (module, variables, config)


def _run(
  method: Method,
  image0: np.ndarray,
  image1: np.ndarray,
  truth: metrics.GroundTruth,
) -> _Result:
  """Extracts, matches and scores one pair; the second call is timed."""
  method.extract(image0)
  started = time.perf_counter()
  k0 = method.extract(image0)
  seconds = time.perf_counter() - started
  k1 = method.extract(image1)
  matches = elf.match(k0, k1)
  valid = np.asarray(matches.valid)
  xy0 = np.asarray(k0.xy)[np.asarray(matches.index0)[valid]]
  xy1 = np.asarray(k1.xy)[np.asarray(matches.index1)[valid]]
  error = np.linalg.norm(truth.warp0to1(xy0) - xy1, axis=1)
  known = ~np.isnan(error)
  correct = known & (error <= MAX_ERROR)
  points0, points1 = (np.asarray(k.xy)[np.asarray(k.valid)] for k in (k0, k1))
  descriptors0, descriptors1 = (
    np.asarray(k.descriptors)[np.asarray(k.valid)] for k in (k0, k1)
  )
  score = metrics.matching_score(
    points0, points1, descriptors0, descriptors1, truth
  )
  row = [
    method.name,
    len(points0),
    int(valid.sum()),
    int(correct.sum()),
    f"{100 * correct.sum() / max(1, known.sum()):.0f} %",
    f"{metrics.repeatability(points0, points1, truth):.3f}",
    f"{score:.3f}",
    f"{1000 * seconds:.0f} ms",
  ]
  return _Result(xy0, xy1, correct, int(known.sum()), row)


_HEADERS = (
  "method",
  "points",
  "matches",
  "correct",
  "of known",
  "repeatability",
  "matching score",
  "per image",
)


def _saliency(section: viz.Section, network: Any, image: np.ndarray) -> None:
  """One picture for each layer, all from one call."""
  module, variables, config = network
  jax.block_until_ready(elf.saliency(module, variables, image, LAYERS, config))
  started = time.perf_counter()
  maps = jax.block_until_ready(
    elf.saliency(module, variables, image, LAYERS, config)
  )
  seconds = time.perf_counter() - started
  pictures, captions = [], []
  for layer in LAYERS:
    energy = np.asarray(maps[layer].mean(-1))
    pictures.append(viz.overlay_heatmap(image, energy, blur=2.0, grey=True))
    captions.append(f"Saliency of `{layer}`.")
  section.figures(pictures, captions, columns=2)
  section.paragraph(
    f"The four maps together took {1000 * seconds:.0f} ms after compilation: "
    "one forward pass, one backward pass from each layer."
  )


def _pair(
  page: viz.Page,
  methods: list[Method],
  title: str,
  text: str,
  images: tuple[np.ndarray, np.ndarray],
  truth: metrics.GroundTruth,
) -> None:
  """One pair: the matches of each method, and the table."""
  started = time.perf_counter()
  section = page.section(title, text)
  results = [_run(method, *images, truth) for method in methods]
  for method, result in zip(methods, results, strict=True):
    section.figure(
      viz.draw_matches(*images, result.xy0, result.xy1, inliers=result.correct),
      f"{method.name}: {int(result.correct.sum())} of {result.num_known} "
      f"mutual matches with known truth are within {MAX_ERROR:.0f} pixels of "
      "it (green).",
    )
  section.table(_HEADERS, [result.row for result in results], strong=[0])
  section.seconds = time.perf_counter() - started


def elf_section(page: viz.Page) -> None:
  """Adds saliency, key points and two scored pairs to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax import viz
    >>> from vision_jax.demo import local_features
    >>> local_features.LAYERS[1]
    'pool2'
  """
  started = time.perf_counter()
  methods, network = load_methods()
  stereo = data.stereo_motorcycle()
  section = page.section(
    "ELF: key points from the saliency of a pretrained network",
    "The saliency of a feature map F for image I is |Fᵀ ∂F/∂I|: one "
    "vector-Jacobian product. Its local maxima in a low layer are key points; "
    "deeper layers of the same network, read at those points, are their "
    "descriptors. Nothing is trained for the task.",
  )
  _saliency(section, network, stereo.left)
  keypoints = methods[0].extract(stereo.left)
  section.figure(
    viz.draw_keypoints(
      stereo.left, keypoints.xy, scores=keypoints.scores, valid=keypoints.valid
    ),
    f"The {int(keypoints.valid.sum())} best key points, coloured by rank.",
  )
  section.seconds = time.perf_counter() - started
  _pair(
    page,
    methods,
    "Stereo: scored against the true disparity",
    "The Middlebury motorcycle, at most 500 points for every method. A match "
    f"is correct if it lies within {MAX_ERROR:.0f} pixels of where the "
    "measured disparity puts the point; points without a measurement count "
    "neither way.",
    (stereo.left, stereo.right),
    metrics.disparity_ground_truth(stereo.disparity),
  )
  photograph = data.load_photograph("astronaut.png")
  image = cv2.resize(photograph, (640, 480), interpolation=cv2.INTER_AREA)
  matrix = cv2.getPerspectiveTransform(
    np.array([[0, 0], [639, 0], [639, 479], [0, 479]], np.float32),
    np.array([[70, 20], [610, 60], [560, 470], [30, 420]], np.float32),
  )
  warped = cv2.warpPerspective(
    image, matrix, (640, 480), borderMode=cv2.BORDER_REFLECT_101
  )
  warped = np.clip(0.85 * warped**1.3 + 0.05, 0, 1).astype(np.float32)
  _pair(
    page,
    methods,
    "A photograph, warped and darkened",
    "A known homography, a gamma of 1.3 and less contrast. The photograph was "
    "not used to train the bundled weights.",
    (image, warped),
    metrics.homography_ground_truth(matrix, (480, 640), (480, 640)),
  )

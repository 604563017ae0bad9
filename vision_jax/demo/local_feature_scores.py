"""ELF on the demo page in the protocols of its field, on generated pairs."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vision_jax import data, metrics, ops, viz
from vision_jax.demo import local_features
from vision_jax.systems import elf

__all__ = ["elf_scores_section"]

_HEADERS = (
  "method",
  "repeatability",
  "matching score",
  "matches",
  "MMA@1",
  "MMA@3",
  "MMA@5",
  "homography within 3 px",
)


class _Row(NamedTuple):
  """Extracts key points, and moves their matches or leaves them."""

  extract: Callable[[np.ndarray], ops.Keypoints]
  refine: Callable[..., Any] | None = None


def _rows() -> dict[str, _Row]:
  """The methods of the first section, and ELF refined."""
  methods, (module, variables, config) = local_features.load_methods()
  rows = {method.name: _Row(method.extract) for method in methods}
  ours = methods[0]

  def refine(image0, image1, k0, k1, matches):
    return elf.refine_homography(
      module, variables, image0, image1, k0, k1, matches, config
    )[:2]

  return {f"{ours.name}, refined": _Row(ours.extract, refine)} | rows


def score_rows(
  rows: Mapping[str, _Row], pairs: Iterable[data.HomographyPair]
) -> dict[str, metrics.MeanScores]:
  """Name -> means over the pairs; detections are shared by equal extractors."""
  scores: dict[str, list[metrics.PairScores]] = {name: [] for name in rows}
  for pair in pairs:
    images = pair.image0, pair.image1
    truth = metrics.homography_ground_truth(
      pair.homography_0to1, images[0].shape[:2], images[1].shape[:2]
    )
    known: dict[Any, tuple[ops.Keypoints, ops.Keypoints]] = {}
    for name, row in rows.items():
      if row.extract not in known:
        known[row.extract] = row.extract(images[0]), row.extract(images[1])
      k0, k1 = known[row.extract]
      matches = elf.match(k0, k1)
      if row.refine is None:
        ends = k0.xy[matches.index0], k1.xy[matches.index1]
      else:
        ends = row.refine(*images, k0, k1, matches)
      valid = np.asarray(matches.valid)
      xy0, xy1 = (np.asarray(e)[valid] for e in ends)
      scores[name].append(metrics.score_pair(k0, k1, xy0, xy1, truth))
  return {name: metrics.average_scores(list_) for name, list_ in scores.items()}


def elf_scores_section(page: viz.Page) -> None:
  """Adds a table of all protocols and the accuracy curve to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import local_feature_scores
    >>> local_feature_scores.elf_scores_section.__name__
    'elf_scores_section'
  """
  started = time.perf_counter()
  section = page.section(
    "ELF in the protocols of its field",
    "One pair for each of seven photographs that no training has seen: a "
    "random homography and another illumination. At most 500 points, mutual "
    "nearest neighbours. Repeatability and matching score are those of ELF "
    "(5 pixels), MMA is the share of matches within so many pixels; "
    "`refined`: the matches are aligned at shallower layers, once as they are "
    "and once more through a first homography.",
  )
  means = score_rows(_rows(), data.homography_pairs(num_per_image=1))
  section.table(
    _HEADERS,
    [
      [
        name,
        f"{m.repeatability:.3f}",
        f"{m.matching_score:.3f}",
        round(m.num_matches),
        *(f"{100 * m.mma[t - 1]:.1f} %" for t in (1, 3, 5)),
        f"{100 * m.mha[1]:.0f} %",
      ]
      for name, m in means.items()
    ],
    strong=[0],
  )
  section.figure(
    viz.plot_curves(
      {name: (range(1, 11), m.mma) for name, m in means.items()},
      x_label="threshold, pixels",
      y_label="mean matching accuracy",
    ),
    "Share of the matches within a distance of the truth.",
    encoding="png",
  )
  section.seconds = time.perf_counter() - started

"""Numbers of a row: how well pictures are ranked and boxes found."""

from typing import Any

import numpy as np

from experiments.instance_search.benchmark import GROUPS, Truth
from experiments.instance_search.methods import Ranked
from vision_jax import metrics


def _keep(ranked: Ranked, limit: int) -> Ranked:
  """The ranking without pictures from `limit` on."""
  kept = ranked.order < limit
  return Ranked(ranked.order[kept], ranked.boxes[kept])


def score(
  ranked: list[Ranked],
  truth: Truth,
  *,
  num_distractors: int | None = None,
  group: str | None = None,
) -> dict[str, float]:
  """Means over the queries; query i asks for instance i.

  `num_distractors`: fewer than there are; `group`: sizes that count, others
  are junk.
  """
  limit = len(truth.boxes)
  if num_distractors is not None:
    limit -= truth.num_distractors - num_distractors
  rows: list[dict[str, Any]] = []
  for instance, found in enumerate(ranked):
    good, junk = truth.positives(instance, group)
    if not good:
      continue
    order, boxes = _keep(found, limit)
    names = list(good)
    place = {image: n for n, image in enumerate(order.tolist())}
    returned = np.array(
      [boxes[place[n]] if n in place else np.zeros(4) for n in names]
    )
    nearest = np.array(
      [
        good[n][
          np.argmax([metrics.best_region_overlap(box, b) for b in good[n]])
        ]
        for n, box in zip(names, returned, strict=True)
      ]
    )
    local = metrics.localization_scores(returned, nearest)
    known = {*names, *junk}
    wrong = next((n for n in order.tolist() if n not in known), None)
    rows.append(
      {
        "trapezoid": metrics.average_precision_trapezoid(
          order, names, junk=junk
        ),
        "top50": metrics.average_precision_at(order, names, 50, junk=junk),
        "top100": metrics.average_precision_at(order, names, 100, junk=junk),
        "all": metrics.average_precision(order, names, junk=junk),
        "truncated50": metrics.average_precision_truncated(
          order, names, 50, junk=junk
        ),
        "map_loc": metrics.average_precision_localized(
          order, boxes, good, junk=junk
        ),
        "iou": local.ranked_iou,
        "corloc": local.corloc,
        "twin": wrong is not None
        and bool((truth.labels[wrong] == instance ^ 1).any()),
        "random": metrics.random_average_precision(
          len(names), limit - len(junk)
        ),
      }
    )
  return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}


def best_overlap(regions: Any, truth: Truth, hull: bool = False) -> float:
  """Mean over pictures of the best overlap of any region with any true box."""
  return float(
    np.mean(
      [
        metrics.best_region_overlap(boxes[valid], true, hull=hull)
        for boxes, valid, true in zip(
          regions.boxes, regions.valid, truth.boxes, strict=True
        )
        if len(true)
      ]
    )
  )


def by_group(ranked: list[Ranked], truth: Truth, name: str) -> list[float]:
  """One number for each group of sizes; NaN where there is none."""
  values = []
  for group in GROUPS:
    low, high = GROUPS[group]
    sides = np.concatenate(truth.sides)
    if not ((sides >= low) & (sides < high)).any():
      values.append(float("nan"))
    else:
      values.append(score(ranked, truth, group=group)[name])
  return values

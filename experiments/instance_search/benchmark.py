"""The pictures of the benchmark, and what is true about them.

`generated_instances` of data/GENERATED.md, version 1: seed 0 is the published
set, seed 1 is for whitening, vocabularies and choices.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from vision_jax import data

GROUPS = {"easy": (96, 1e9), "medium": (48, 96), "hard": (0, 48)}
"""Sides of the instance, pixels: from, and below."""


@dataclasses.dataclass(frozen=True)
class Truth:
  """What is in the pictures of a database.

  Attributes:
    boxes: of each picture, [n, 4].
    labels: instances in each picture, [n].
    sides: of each, pixels.
    num_distractors: the last so many pictures show clutter alone.
  """

  boxes: list[np.ndarray]
  labels: list[np.ndarray]
  sides: list[np.ndarray]
  num_distractors: int

  def positives(
    self, instance: int, group: str | None = None
  ) -> tuple[dict[int, np.ndarray], list[int]]:
    """Picture -> true boxes of an instance; and those of other sizes, junk."""
    low, high = GROUPS.get(group or "", (0, np.inf))
    good, junk = {}, []
    for number, labels in enumerate(self.labels):
      here = labels == instance
      fits = (self.sides[number] >= low) & (self.sides[number] < high) & here
      if fits.any():
        good[number] = self.boxes[number][fits]
      elif here.any():
        junk.append(number)
    return good, junk


def records(
  seed: int, preset: str, num_distractors: int
) -> dict[str, list[data.InstanceRecord]]:
  """The pictures of a set, by kind; the database ends with distractors."""
  settings: dict[str, Any] = dict(data.INSTANCE_PRESETS[preset])
  settings["num_distractors"] = num_distractors
  everything = data.instance_set(seed=seed, **settings)
  queries = [r for r in everything if r.kind == "query"]
  return {
    "database": [r for r in everything if r.kind != "query"],
    "query": queries,
  }


def draw(
  rows: list[data.InstanceRecord],
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
  """Picture float32 [H, W, 3] in [0, 1] and its truth, one after the other."""
  for record in rows:
    example = data.draw_instance_image(record)
    yield example["image"].astype(np.float32) / 255, example

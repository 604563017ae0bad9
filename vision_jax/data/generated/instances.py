"""A generated benchmark for instance search, with truth for each picture.

Version 1, frozen in GENERATED.md.
"""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from vision_jax.data.generated import (
  instance_art,
  mask_truth,
  silhouettes,
  streams,
)

__all__ = [
  "INSTANCES_VERSION",
  "INSTANCE_PRESETS",
  "INSTANCE_SIDES",
  "InstanceRecord",
  "draw_instance_image",
  "instance_set",
]

INSTANCES_VERSION = 1

INSTANCE_SIDES = (24, 32, 48, 64, 96, 128, 192)
"""Longest sides of the instances in the database, pixels."""

INSTANCE_PRESETS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
  {
    "full": types.MappingProxyType({}),
    "tiny": types.MappingProxyType(
      {
        "num_instances": 8,
        "sides": (32, 64, 96),
        "num_distractors": 12,
        "size": 160,
      }
    ),
  }
)
"""Arguments of `instance_set` by name: the benchmark, and a smoke test."""

_KINDS = ("database", "distractor", "query")
_TRIES = 50  # places for an instance before it is skipped
_OVERLAP = 0.1  # of the smaller silhouette
_MARGIN = 2  # pixels around the box of an instance: room for the blur
_TAU = 2 * np.pi


class InstanceRecord(NamedTuple):
  """What one picture is to show; `draw_instance_image` draws it.

  Attributes:
    kind: "database", "distractor" or "query".
    number: position among the pictures of its kind.
    instances: numbers of the instances, the first is what the picture is for.
    sides: longest side of each, pixels.
    seed: number of the set.
    size: side of the picture, pixels.

  Example:
    >>> from vision_jax.data import InstanceRecord
    >>> InstanceRecord("query", 0, (0,), (160,)).size
    256
  """

  kind: str
  number: int
  instances: tuple[int, ...]
  sides: tuple[int, ...]
  seed: int = 0
  size: int = 256


class _Item(NamedTuple):
  """One pasted instance: its silhouette in a window of the picture."""

  window: tuple[slice, slice]
  mask: np.ndarray  # bool [h, w]
  total: int


def instance_set(
  *,
  seed: int = 0,
  num_instances: int = 40,
  sides: Sequence[int] = INSTANCE_SIDES,
  num_per_side: int = 2,
  num_distractors: int = 1000,
  size: int = 256,
  query_side: int | None = None,
) -> list[InstanceRecord]:
  """Describes a set for instance search; nothing is drawn.

  For each instance and side `num_per_side` database pictures, each with 0, 1
  or 2 further instances of other pairs (probability 1/2, 1/4, 1/4) at random
  sides; then distractors, clutter alone; then one query for each instance.
  Instances 2 i and 2 i + 1 are twins (`label ^ 1` is the twin).

  Convention:
    A picture is fixed by its record. A longer list of distractors begins with
    the shorter one.

  Args:
    seed: number of the set.
    num_instances: even, at least 2.
    sides: longest sides of the instances in the database, pixels.
    num_per_side: database pictures for each instance and side.
    num_distractors: pictures of clutter alone.
    size: side of the pictures, pixels, at least 64.
    query_side: longest side of the instance in a query, pixels; 5/8 of `size`
      by default.

  Returns:
    Records: the database, the distractors, the queries.

  Raises:
    ValueError: if a number is out of range.

  Example:
    >>> from vision_jax.data import INSTANCE_PRESETS, instance_set
    >>> records = instance_set(**INSTANCE_PRESETS["tiny"])
    >>> [sum(r.kind == k for r in records)
    ...  for k in ("database", "distractor", "query")]
    [48, 12, 8]

  Source:
    GENERATED.md, "Instances, version 1".
  """
  query_side = round(0.625 * size) if query_side is None else query_side
  _check_set(num_instances, sides, num_per_side, num_distractors, size)
  _check_sides((query_side,), size, "query_side")
  records = []
  pairs = num_instances // 2
  for number in range(num_instances * len(sides) * num_per_side):
    place, _ = divmod(number, num_per_side)
    instance, step = divmod(place, len(sides))
    rng = streams.random_stream(streams.Domain.INSTANCE_PLANS, seed, number)
    count = (0, 0, 1, 2)[int(rng.integers(4))]
    others = rng.permutation(pairs)
    others = others[others != instance // 2][:count]
    more = 2 * others + rng.integers(2, size=len(others))
    steps = rng.integers(len(sides), size=len(others))
    records.append(
      InstanceRecord(
        "database",
        number,
        (instance, *more.tolist()),
        (int(sides[step]), *(int(sides[s]) for s in steps)),
        seed,
        size,
      )
    )
  records += [
    InstanceRecord("distractor", number, (), (), seed, size)
    for number in range(num_distractors)
  ]
  records += [
    InstanceRecord("query", number, (number,), (query_side,), seed, size)
    for number in range(num_instances)
  ]
  return records


def _check_set(
  num_instances: int,
  sides: Sequence[int],
  num_per_side: int,
  num_distractors: int,
  size: int,
) -> None:
  """Raises ValueError where a number of `instance_set` is out of range."""
  if num_instances < 2 or num_instances % 2:
    raise ValueError(
      "instance_set: `num_instances` must be even and at least 2 (instances "
      f"come as twins), got {num_instances}."
    )
  if num_per_side < 0 or num_distractors < 0:
    raise ValueError(
      "instance_set: `num_per_side` and `num_distractors` must be at least 0, "
      f"got {num_per_side} and {num_distractors}."
    )
  if size < 64:
    raise ValueError(f"instance_set: `size` must be at least 64, got {size}.")
  _check_sides(sides, size, "sides")


def _check_sides(sides: Sequence[int], size: int, name: str) -> None:
  """Raises ValueError where an instance would not fit."""
  wrong = [side for side in sides if not 8 <= side <= size - 2]
  if wrong:
    raise ValueError(
      f"instance_set: `{name}` must be from 8 to `size` - 2 = {size - 2} "
      f"pixels, got {wrong[0]}."
    )


def _transform(
  rng: np.random.Generator, silhouette: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
  """Homography from an instance's canvas to its window, and its polygon.

  Both in continuous frames; the window has two pixels for each of the
  picture's. The box of the polygon begins at [0, 2) and is 2 * side long.
  """
  art = instance_art.ART_SIDE
  corners = np.array([[0, 0], [art, 0], [art, art], [0, art]], np.float64)
  turn, length = rng.uniform(0, _TAU, 4), rng.uniform(0, 0.08 * art, 4)
  moved = corners + np.stack([np.cos(turn), np.sin(turn)], -1) * length[:, None]
  angle = rng.uniform(-np.pi / 6, np.pi / 6)
  c, s = np.cos(angle), np.sin(angle)
  moved = moved @ np.array([[c, s], [-s, c]])
  matrix = cv2.getPerspectiveTransform(
    corners.astype(np.float32), moved.astype(np.float32)
  )
  polygon = cv2.perspectiveTransform(silhouette[None], matrix)[0]
  low, high = polygon.min(0), polygon.max(0)
  scale = 2 * side / (high - low).max()
  shift = 2 * rng.random(2) - scale * low
  place = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])
  return place @ matrix, polygon * scale + shift


def _appearance(
  rng: np.random.Generator,
  texture: np.ndarray,
  matrix: np.ndarray,
  shape: tuple[int, int],
  side: int,
) -> np.ndarray:
  """The warped texture under gain, bias and gamma, uint8 [h, w, 3]."""
  gain, gamma = rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.25)
  table = gain * 255 * np.linspace(0, 1, 256) ** gamma + rng.uniform(-15, 15)
  texture = cv2.LUT(texture, np.clip(np.rint(table), 0, 255).astype(np.uint8))
  art = instance_art.ART_SIDE
  # Averaged down to about the size it is shown at, so that the warp, which
  # reads four pixels, leaves none out.
  small = min(art, math.ceil(art * 2 * side / 360))
  if small < art:
    texture = cv2.resize(texture, (small, small), interpolation=cv2.INTER_AREA)
  half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
  grow = np.diag([art / small, art / small, 1.0])
  index_matrix = np.linalg.inv(half) @ matrix @ grow @ half
  return cv2.warpPerspective(
    texture,
    index_matrix,
    shape[::-1],
    flags=cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REFLECT,
  )


def _paste(
  rng: np.random.Generator,
  canvas: np.ndarray,
  items: list[_Item],
  art: tuple[np.ndarray, np.ndarray],
  side: int,
) -> _Item | None:
  """Pastes an instance where it fits; `canvas` has twice the picture's side."""
  size = canvas.shape[0] // 2
  matrix, polygon = _transform(rng, art[1], side)
  width, height = np.ceil(polygon.max(0) / 2).astype(int)
  shape = (int(height) + 2 * _MARGIN, int(width) + 2 * _MARGIN)
  fine_shape = (2 * shape[0], 2 * shape[1])
  room = np.eye(3)
  room[:2, 2] = 2 * _MARGIN
  fill = _appearance(rng, art[0], room @ matrix, fine_shape, side)
  cover = silhouettes.fill_polygons([polygon + 2 * _MARGIN], fine_shape, fine=2)
  mask = cv2.resize(cover, shape[::-1], interpolation=cv2.INTER_AREA) >= 128
  sigma = rng.uniform(0, 0.8)
  if sigma > 0.1:  # less does nothing
    fill = cv2.GaussianBlur(fill, (0, 0), 2 * sigma)
    cover = cv2.GaussianBlur(cover, (0, 0), 2 * sigma)
  total = int(np.count_nonzero(mask))
  for _ in range(_TRIES):
    top = int(rng.integers(size - height + 1)) - _MARGIN
    left = int(rng.integers(size - width + 1)) - _MARGIN
    rows = slice(max(top, 0), min(top + shape[0], size))
    columns = slice(max(left, 0), min(left + shape[1], size))
    part = (
      slice(rows.start - top, rows.stop - top),
      slice(columns.start - left, columns.stop - left),
    )
    item = _Item((rows, columns), mask[part], total)
    if all(_overlap(item, other) <= _OVERLAP for other in items):
      break
  else:
    return None
  under = canvas[_double((rows, columns))]
  weight = cover[_double(part)] * np.float32(1 / 255)
  blend = cv2.blendLinear(fill[_double(part)], under, weight, 1 - weight)
  canvas[_double((rows, columns))] = blend
  return item


def _double(part: tuple[slice, slice]) -> tuple[slice, slice]:
  """A part of the picture on a canvas of twice its side."""
  rows, columns = part
  return (
    slice(2 * rows.start, 2 * rows.stop),
    slice(2 * columns.start, 2 * columns.stop),
  )


def _overlap(item: _Item, other: _Item) -> float:
  """Pixels that two silhouettes share, as a share of the smaller one."""
  both = list(zip(item.window, other.window, strict=True))
  low = [max(a.start, b.start) for a, b in both]
  high = [min(a.stop, b.stop) for a, b in both]
  if low[0] >= high[0] or low[1] >= high[1]:
    return 0.0
  parts = []
  for one in (item, other):
    top, left = one.window[0].start, one.window[1].start
    parts.append(
      one.mask[low[0] - top : high[0] - top, low[1] - left : high[1] - left]
    )
  return np.count_nonzero(parts[0] & parts[1]) / min(item.total, other.total)


def _hide(
  rng: np.random.Generator,
  canvas: np.ndarray,
  owner: np.ndarray,
  items: list[_Item],
  colour: list[int],
  side: int,
) -> None:
  """Covers up to 30 % of the last item by a primitive, in place.

  The primitive grows about its centre until it covers the share drawn for it
  or is as long as the item; it is left out where it would cover more than
  30 % of another item.
  """
  number, size = len(items) - 1, owner.shape[0]
  rows, columns = items[-1].window
  share, kind = rng.uniform(0, 0.3), int(rng.integers(3))
  u, angle = rng.random(2), rng.uniform(0, _TAU)
  centre = np.array(
    [
      columns.start + u[0] * (columns.stop - columns.start),
      rows.start + u[1] * (rows.stop - rows.start),
    ]
  )

  def points(length):
    return instance_art.draw_primitive(kind, centre, length, angle)

  def covered(length):
    mask = silhouettes.fill_polygons([points(length)], (size, size), fine=1)
    return mask > 0

  low, high = 0.0, float(side)
  for _ in range(12):
    middle = (low + high) / 2
    count = np.count_nonzero(covered(middle)[owner == number])
    inside = count <= share * items[-1].total
    low, high = (middle, high) if inside else (low, middle)
  hidden = covered(low)
  counts = np.bincount(owner[hidden] + 1, minlength=number + 2)[1:]
  if any(
    count > 0.3 * item.total for count, item in zip(counts, items, strict=True)
  ):
    return
  fixed = np.rint(points(low) * 32 - 8).astype(np.int32)
  cv2.fillPoly(canvas, [fixed], colour, lineType=cv2.LINE_AA, shift=4)
  owner[hidden] = -1


def draw_instance_image(record: InstanceRecord) -> dict[str, Any]:
  """Draws one picture of a set for instance search, with its truth.

  Convention:
    Layout [H, W, 3], RGB; boxes in the continuous frame, tight around the
    visible pixels.

  Args:
    record: what to show, from `instance_set`.

  Returns:
    A dictionary: `image` uint8 [H, W, 3]; `boxes` float32 [N, 4]; `labels`
    int32 [N], numbers of the instances; `visible` float32 [N], visible share
    of the silhouette; `side` float32 [N], longest side as asked for; `masks`
    uint8 0/1 [N, H, W], visible parts. The first object is the first of the
    record; others that found no place are missing; distractors have none.

  Raises:
    ValueError: if `record.kind` is none of the three.

  Example:
    >>> from vision_jax.data import draw_instance_image, instance_set
    >>> example = draw_instance_image(instance_set(num_instances=4)[-1])
    >>> example["image"].shape, example["labels"].tolist()
    ((256, 256, 3), [3])

  Source:
    GENERATED.md, "Instances, version 1".
  """
  if record.kind not in _KINDS:
    raise ValueError(
      f"draw_instance_image: `record.kind` must be one of {' '.join(_KINDS)}, "
      f"got {record.kind!r}."
    )
  base = 16 * _KINDS.index(record.kind)

  def stream(part):
    return streams.random_stream(
      streams.Domain.INSTANCE_PICTURES,
      record.seed,
      record.number,
      item=base + part,
    )

  size = record.size
  rng = stream(0)
  canvas = instance_art.draw_clutter(rng, 2 * size)
  rows, columns = rng.integers(2 * size, size=(2, len(record.instances)))
  colours = canvas[rows, columns].tolist()
  owner = np.full((size, size), -1, np.int8)
  items: list[_Item] = []
  placed: list[int] = []
  for place, instance in enumerate(record.instances):
    rng = stream(2 + place)
    art = instance_art.draw_instance(record.seed, instance)
    item = _paste(rng, canvas, items, art, record.sides[place])
    if item is None:
      continue
    owner[item.window][item.mask] = len(items)
    items.append(item)
    placed.append(place)
    if rng.random() < 0.25:
      _hide(rng, canvas, owner, items, colours[place], record.sides[place])
  image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
  noise = stream(1).standard_normal(image.shape, np.float32)
  image = cv2.add(image, 4 * noise, dtype=cv2.CV_8U)
  numbers = np.arange(len(items), dtype=np.int8)
  masks = (owner == numbers[:, None, None]).view(np.uint8)
  boxes = [mask_truth.mask_box(mask) for mask in masks]
  pixels = np.array([cv2.countNonZero(mask) for mask in masks], np.float32)
  totals = np.array([item.total for item in items], np.float32)
  return {
    "image": image,
    "boxes": np.array(boxes, np.float32).reshape(-1, 4),
    "labels": np.array([record.instances[p] for p in placed], np.int32),
    "visible": pixels / totals,
    "side": np.array([record.sides[p] for p in placed], np.float32),
    "masks": masks,
  }

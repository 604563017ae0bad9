"""Examples of different sizes to batches of one static shape.

Inside an image, `pad_example` brings everything to fixed shapes:

| entry | shape | padding |
|---|---|---|
| `image` | [H, W, C] | 0, at the bottom and at the right |
| `image_size` | int32 [2] | the picture's own (height, width) |
| `masks` | [M, H, W] | 0 |
| `semantic` | [H, W] | 255, which is ignored |
| `ignore` | [H, W] | 1, which is left out |
| `boxes`, `labels`, `crowd`, `area`, `keypoints` | [M, ...] | 0 |
| `objects_valid` | bool [M] | False where there is no object |
| `objects_left_out` | int32 [] | objects beyond the maximum |

Of more than M objects the M largest are kept, in their order: by `area`, or
else by the area of the box. `polygons` are dropped, having no static shape.

In a batch each entry has a first axis B, and `valid`, bool [B], is False where
a row holds no example; such a row is 0 in all entries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.objects import PER_OBJECT

__all__ = ["collate", "pad_example"]


def pad_example(
  example: Mapping[str, Any],
  *,
  max_objects: int | None = None,
  image_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
  """Pads an example to static shapes; the head of this module says how.

  Args:
    example: entries as the table of `vision_jax.data` names them.
    max_objects: M; None pads no objects.
    image_size: (height, width) of the canvas; None pads no picture.

  Returns:
    The padded example, without `polygons`.

  Raises:
    ValueError: if the picture is larger than the canvas, or `max_objects` is
      below 1.

  Example:
    >>> from vision_jax.data import pad_example
    >>> example = {"image": np.ones((3, 4, 3), np.uint8),
    ...            "boxes": np.array([[0, 0, 2, 2]], np.float32)}
    >>> padded = pad_example(example, max_objects=2, image_size=(4, 4))
    >>> print(padded["image_size"], padded["boxes"].shape)
    [3 4] (2, 4)
    >>> print(padded["objects_valid"], padded["objects_left_out"])
    [ True False] 0

  Source:
    Interface of this library.
  """
  new = {k: v for k, v in example.items() if k != "polygons"}
  if image_size is not None:
    new.update(_padded_pictures(new, image_size))
  if max_objects is not None:
    new.update(_padded_objects(new, max_objects))
  return new


def _padded_pictures(
  example: Mapping[str, Any], image_size: tuple[int, int]
) -> dict[str, Any]:
  """The entries with pixels, on the canvas."""
  size = example["image"].shape[:2]
  missing = np.subtract(image_size, size)
  if (missing < 0).any():
    raise ValueError(
      f"pad_example: `image_size` must be at least the picture's {size}, got"
      f" {tuple(image_size)}; resize or crop it first."
    )
  border = [(0, int(m)) for m in missing]
  new: dict[str, Any] = {"image_size": np.array(size, np.int32)}
  for name, fill in (("semantic", 255), ("ignore", 1)):
    if name in example:
      new[name] = np.pad(example[name], border, constant_values=fill)
  if "masks" in example:
    new["masks"] = np.pad(example["masks"], [(0, 0), *border])
  new["image"] = np.pad(example["image"], [*border, (0, 0)])
  return new


def _padded_objects(
  example: Mapping[str, Any], max_objects: int
) -> dict[str, Any]:
  """The entries of the objects, M rows each."""
  if max_objects < 1:
    raise ValueError(
      f"pad_example: `max_objects` must be at least 1, got {max_objects}."
    )
  objects = {k: example[k] for k in PER_OBJECT if k in example}
  count = len(next(iter(objects.values()), ()))
  kept: Any = slice(None)
  if count > max_objects:
    areas = objects.get("area")
    if areas is None and "boxes" in objects:
      areas = np.prod(objects["boxes"][:, 2:] - objects["boxes"][:, :2], -1)
    if areas is None:
      areas = np.zeros(count)
    kept = np.sort(np.argsort(-areas, kind="stable")[:max_objects])
  new: dict[str, Any] = {}
  for name, value in objects.items():
    value = value[kept]
    border = [(0, max_objects - len(value))] + [(0, 0)] * (value.ndim - 1)
    new[name] = np.pad(value, border)
  new["objects_valid"] = np.arange(max_objects) < count
  new["objects_left_out"] = np.array(max(count - max_objects, 0), np.int32)
  return new


def collate(examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """Stacks examples of equal shapes to a batch.

  Args:
    examples: at least one; the same entries, shapes and dtypes in all.

  Returns:
    name -> array [B, ...], with `valid`, bool [B], all True.

  Raises:
    ValueError: if there is no example, or entries or shapes differ.
    TypeError: if an entry is no array of numbers.

  Example:
    >>> from vision_jax.data import collate
    >>> batch = collate([{"label": np.int32(3)}, {"label": np.int32(1)}])
    >>> print(batch["label"], batch["valid"])
    [3 1] [ True  True]

  Source:
    Interface of this library.
  """
  if not examples:
    raise ValueError("collate: `examples` must hold at least one, got 0.")
  names = set(examples[0])
  for example in examples:
    if set(example) != names:
      raise ValueError(
        "collate: `examples` must have the same entries, got"
        f" {sorted(names)} and {sorted(example)}."
      )
  batch = {}
  for name in examples[0]:
    values = [example[name] for example in examples]
    if isinstance(values[0], (list, tuple, dict, str, bytes, type(None))):
      raise TypeError(
        f"collate: `{name}` must be an array of numbers, got"
        f" {type(values[0]).__name__}; drop it, or pad it with `pad_example`."
      )
    arrays = [np.asarray(value) for value in values]
    kinds = {(a.shape, a.dtype.name) for a in arrays}
    if len(kinds) > 1:
      found = " and ".join(f"{d} {list(s)}" for s, d in sorted(kinds)[:2])
      raise ValueError(
        f"collate: `{name}` must have one shape and dtype in all examples, got"
        f" {found}; resize, crop or use `pad_example`."
      )
    if arrays[0].dtype.kind not in "biuf":
      raise TypeError(
        f"collate: `{name}` must be an array of numbers, got dtype"
        f" {arrays[0].dtype}; drop it."
      )
    batch[name] = np.stack(arrays)
  batch["valid"] = np.ones(len(examples), bool)
  return batch

"""How an example lies on disk: pictures as PNG, masks as run lengths.

`encode_example` and `decode_example` are each other's inverse; GENERATED.md,
"On disk", describes the layout for other readers.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data import decoding, mask_codes

__all__ = [
  "MAPS",
  "PICTURES",
  "decode_masks",
  "decode_polygons",
  "encode_example",
  "wrap_pictures",
]

PICTURES = ("image", "image0", "image1")
"""Features of one or three channels, [..., H, W, C]."""

MAPS = ("semantic", "ignore")
"""Features of one channel, [..., H, W]."""


def encode_example(example: Mapping[str, Any]) -> dict[str, Any]:
  """What is stored in place of an example's arrays.

  Pictures and maps become PNG; frames lie below each other in one file. Masks
  become their compressed run lengths, one line each. Polygons become all
  their points, the number of points in each polygon and the number of
  polygons of each object. All else stays.
  """
  stored = dict(example)
  for name, value in example.items():
    if name in PICTURES:
      picture = value.reshape(-1, *value.shape[-2:])
      if picture.shape[-1] == 1:
        picture = picture[..., 0]
      stored[name] = decoding.encode_png(picture)
    elif name in MAPS:
      stored[name] = decoding.encode_png(value.reshape(-1, value.shape[-1]))
    elif name == "masks":
      lines = [mask_codes.mask_to_rle(mask)["counts"] for mask in value]
      stored[name] = "\n".join(lines)
    elif name == "polygons":
      stored[name] = _encode_polygons(value)
  return stored


def _encode_polygons(
  polygons: Sequence[Sequence[np.ndarray]],
) -> dict[str, np.ndarray]:
  rings = [ring for rings in polygons for ring in rings]
  return {
    "points": np.concatenate([np.zeros((0, 2), np.float32), *rings]),
    "lengths": np.array([len(ring) for ring in rings], np.int32),
    "counts": np.array([len(rings) for rings in polygons], np.int32),
  }


def decode_polygons(
  stored: Mapping[str, np.ndarray],
) -> list[list[np.ndarray]]:
  """For each object its polygons, float32 [P, 2]."""
  rings = np.split(stored["points"], np.cumsum(stored["lengths"])[:-1])
  polygons, start = [], 0
  for count in stored["counts"]:
    polygons.append(rings[start : start + count])
    start += count
  return polygons


def decode_masks(stored: bytes, size: tuple[int, int]) -> np.ndarray:
  """Masks, uint8 0/1 [N, H, W], of their lines of run lengths."""
  lines = stored.split(b"\n") if stored else []
  masks = np.empty((len(lines), *size), np.uint8)
  for place, counts in enumerate(lines):
    masks[place] = mask_codes.rle_to_mask({"size": size, "counts": counts})
  return masks


def wrap_pictures(stored: Mapping[str, Any]) -> dict[str, Any]:
  """The same, with encoded pictures as the files that TFDS asks for."""
  return {
    name: io.BytesIO(value) if name in (*PICTURES, *MAPS) else value
    for name, value in stored.items()
  }

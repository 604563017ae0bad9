"""Everything that the methods need to know about a picture, in one pass.

The network and the top-down passes are run once for each picture; rows of the
tables differ in what they make of the maps, which are kept.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from experiments.instance_search import benchmark
from vision_jax import nn, ops, weights
from vision_jax.systems import dasr, rcnn

FEATURES = ("layer3", "layer4")
NUM_DETECTIONS = 16


class Cut(NamedTuple):
  """How a box comes from a map: what is kept, moments, deviations."""

  threshold: str = "percentile"
  value: float = 95.0
  num_deviations: float = 2.0
  weighted: bool = False

  @property
  def name(self) -> str:
    """For tables."""
    kind = f"{self.value:g} %" if self.threshold == "percentile" else ""
    kind = kind or f"mass {self.value:g}"
    return (
      f"{kind}, k = {self.num_deviations:.3g}"
      f"{', weighted' if self.weighted else ''}"
    )


PAPER = Cut()
CUTS = (
  PAPER,
  Cut(num_deviations=3**0.5),
  Cut("percentile", 98.0),
  Cut("mass", 0.9),
  Cut("mass", 0.7),
  Cut("mass", 0.5),
  Cut("mass", 0.5, 3**0.5),
  Cut("mass", 0.9, 2.0, True),
)


@dataclasses.dataclass
class Described:
  """What is kept of N pictures.

  Attributes:
    features: layer -> float16 [N, h, w, C].
    logits: [N, K].
    boxes: by cut, [N, cuts, P, 4].
    cells: float16 [N, P, h, w], kept pixels of the paper's cut on the cells of
      `layer4`.
    scores: of the seeds, [N, P].
    valid: bool [N, P].
    above_mean: bool [N, P], seeds that DASR takes.
    truth: what the pictures show.
    detections: name of a detector -> boxes [N, P, 4], valid [N, P] and kept
      cells of `layer4` [N, P, h, w], best first.
    side: of a picture, pixels; boxes are in its frame, whatever size the
      network saw it at.
  """

  features: dict[str, np.ndarray]
  logits: np.ndarray
  boxes: np.ndarray
  cells: np.ndarray
  scores: np.ndarray
  valid: np.ndarray
  above_mean: np.ndarray
  truth: benchmark.Truth
  detections: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
  side: int

  def stride(self, layer: str) -> int:
    """Pixels of a picture for each cell of a layer."""
    return self.side // self.features[layer].shape[1]


def _cut(maps: jax.Array, cut: Cut, size: tuple[int, int]) -> Any:
  """Boxes [P, 4] and kept pixels of maps."""
  if cut.threshold == "mass":
    kept = ops.mass_pixels(maps, share=cut.value)
  else:
    kept = ops.brightest_pixels(maps, percentile=cut.value)
  moments = ops.region_moments(kept * maps if cut.weighted else kept)
  boxes = ops.moment_box(*moments, num_deviations=cut.num_deviations)
  limit = jnp.array([[size[1], size[0]] * 2], boxes.dtype)
  return jnp.clip(boxes, 0, limit), kept


@functools.partial(
  jax.jit, static_argnames=("module", "config", "cuts", "scale")
)
def _look(module, variables, image, config, cuts, scale):
  """One picture, [H, W, 3], seen `scale` times as large."""
  if scale != 1:
    image = ops.resize(image, (scale * image.shape[0], scale * image.shape[1]))
  mean, std = (jnp.array([[v]]) for v in (config.mean, config.std))
  normal = ((image - mean) / std)[None]
  names = [*FEATURES, config.response_layer, "logits"]
  found = nn.read_layers(module, variables, normal, names)
  maps, scores, valid = dasr.pixel_maps(module, variables, image, config)
  average = found[config.response_layer][0].mean()
  boxes, kept = zip(
    *(_cut(maps, c, image.shape[:2]) for c in cuts), strict=True
  )
  size = found["layer4"].shape[1:3]
  stride = image.shape[0] // size[0]
  return {
    "features": {k: found[k][0].astype(jnp.float16) for k in FEATURES},
    "logits": found["logits"][0],
    "boxes": jnp.stack(boxes) / scale,
    "cells": ops.mask_weights(kept[0], size, stride=stride, valid=valid).astype(
      jnp.float16
    ),
    "scores": scores,
    "valid": valid & (boxes[0][:, 2] > boxes[0][:, 0]),
    "above_mean": scores >= average,
  }


def load_detectors(names: Sequence[str], side: int) -> dict[str, Any]:
  """Bundled weights of `rcnn_small` -> detector of square pictures."""
  found = {}
  for name in names:
    module, variables, _ = weights.load_bundled("rcnn_small", weights=name)
    settings = dataclasses.replace(
      module.settings, min_size=side, max_size=side
    )
    found[name] = module.clone(settings=settings), variables
  return found


def detect(
  detector: Any, image: np.ndarray, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The best objects of a picture: boxes, valid, share of cells x cells.

  Without masks a box keeps all its cells. Classes are not looked at.
  """
  module, variables = detector
  side = image.shape[0]
  (found,) = rcnn.predict(
    module,
    variables,
    [image],
    canvases=((side, side),),
    mask_threshold=0.5,
  )
  boxes = np.zeros((NUM_DETECTIONS, 4), np.float32)
  kept = np.ones((NUM_DETECTIONS, cells, cells), np.float16)
  count = min(len(found["boxes"]), NUM_DETECTIONS)
  boxes[:count] = found["boxes"][:count]
  if "masks" in found:
    stride = side // cells
    masks = found["masks"][:count].reshape(count, cells, stride, cells, stride)
    kept[:count] = masks.mean((2, 4))
  return boxes, np.arange(NUM_DETECTIONS) < count, kept


def describe(
  module: Any,
  variables: Any,
  rows: list,
  config: dasr.DasrConfig,
  *,
  cuts: tuple[Cut, ...] = CUTS,
  detectors: Mapping[str, Any] | None = None,
  scale: int = 1,
  text: str = "pictures",
) -> Described:
  """Draws and describes pictures, enlarged `scale` times for the network."""
  found, truth = [], []
  for image, example in tqdm.tqdm(
    benchmark.draw(rows), total=len(rows), desc=text, disable=None
  ):
    seen = _look(module, variables, image, config, cuts, scale)
    cells = seen["features"]["layer4"].shape[0]
    seen["detections"] = {
      name: detect(detector, image, cells)
      for name, detector in (detectors or {}).items()
    }
    found.append(jax.tree.map(np.asarray, seen))
    truth.append(example)
  stacked = jax.tree.map(lambda *parts: np.stack(parts), *found)
  return Described(
    **stacked,
    truth=benchmark.Truth(
      [e["boxes"] for e in truth],
      [e["labels"] for e in truth],
      [e["side"] for e in truth],
      sum(r.kind == "distractor" for r in rows),
    ),
    side=rows[0].size,
  )


def crops(module: Any, variables: Any, rows: list, config: Any) -> Any:
  """Features and logits of the boxes of queries, each alone as a picture.

  A crop is enlarged or shrunk to 160 x 160, about its own size, so that one
  program serves all.
  """
  found = []

  @jax.jit
  def look(image):
    shift, scale = (jnp.array([[v]]) for v in (config.mean, config.std))
    normal = ((image - shift) / scale)[None]
    seen = nn.read_layers(module, variables, normal, ["layer4", "logits"])
    return seen["layer4"][0], seen["logits"][0]

  images = []
  for image, example in benchmark.draw(rows):
    x1, y1, x2, y2 = example["boxes"][0].astype(int)
    side = round(0.625 * image.shape[0] / 16) * 16
    crop = np.asarray(ops.resize(image[y1:y2, x1:x2], (side, side)))
    images.append(image[y1:y2, x1:x2])
    found.append(jax.tree.map(np.asarray, look(crop)))
  features, logits = zip(*found, strict=True)
  return np.stack(features), np.stack(logits), images

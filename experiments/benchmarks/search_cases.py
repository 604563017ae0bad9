"""Rows of the benchmark: instance search.

Top-down passes beside PyTorch's: one seed after the other on a kept graph, as
the published code, and batches of seeds (`tests/parity/torch_excitation.py`).
Exact search beside NumPy, PyTorch and, where it is installed, FAISS.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from vision_jax import nn, ops, weights
from vision_jax.nn import backbones
from vision_jax.systems import retrieval

_TORCH_BATCH = 4  # seeds at once; 32 need more memory than there is


def _boxes(maps: jax.Array) -> jax.Array:
  """The paper's boxes of maps [P, H, W]."""
  kept = ops.brightest_pixels(jnp.maximum(maps, 0))
  return ops.moment_box(*ops.region_moments(kept))


def _torch_boxes(maps: torch.Tensor) -> torch.Tensor:
  """The same in torch."""
  maps = maps.clamp(min=0)
  flat = maps.flatten(1)
  place = 0.95 * (flat.shape[1] - 1)
  low = int(place)
  first = flat.kthvalue(low + 1, 1).values
  second = flat.kthvalue(low + 2, 1).values
  limit = first + (place - low) * (second - first)
  kept = ((maps >= limit[:, None, None]) & (maps > 0)).double()
  total = kept.sum((1, 2))
  means, halves = [], []
  for axis in (1, 2):  # x, y
    line = kept.sum(axis)
    steps = torch.arange(line.shape[1]) + 0.5
    mean = (line * steps).sum(1) / total
    variance = (line * (steps - mean[:, None]) ** 2).sum(1) / total
    means.append(mean)
    halves.append(2 * variance.sqrt())
  middle, half = torch.stack(means, 1), torch.stack(halves, 1)
  return torch.cat([middle - half, middle + half], 1).float()


def peaks_to_boxes(num_seeds: int, size: int = 512, stop_at: str | None = None):
  """From an image and its seeds to boxes, ResNet-50, rule prm."""
  from tests.parity import torch_backbones, torch_excitation

  draw = functools.partial(weights.random_state_dict, seed=3)
  theirs, _ = torch_backbones.random_model("resnet50", draw)
  network = torch_excitation.substitute(theirs, "prm")
  module = backbones.resnet50()
  variables = jax.device_put(weights.random_variables(module, seed=3))
  rng = np.random.default_rng(0)
  coarse = rng.normal(size=(size // 16, size // 16, 3))
  image = coarse.repeat(16, 0).repeat(16, 1) + 0.3 * rng.normal(
    size=(size, size, 3)
  )
  image = image.astype(np.float32)
  side = size // 32
  index = rng.permutation(side * side)[:num_seeds]
  cells = [(int(i) // side, int(i) % side) for i in index]
  seeds = np.zeros((num_seeds, side, side), np.float32)
  for p, (row, column) in enumerate(cells):
    seeds[p, row, column] = 1

  def run(variables, image, seeds):
    apply = lambda x: module.apply(variables, x[None])[1]["layer4"][0]  # noqa: E731
    maps = nn.top_down(apply, image, seeds, chunk=4, stop_at=stop_at)
    if stop_at is not None:
      maps = ops.resize(maps[..., None], (size, size))[..., 0]
    return _boxes(maps)

  jitted = jax.jit(run)
  inputs = jax.device_put((variables, image, seeds))

  def features(images):
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    for layer in (network.layer1, network.layer2, network.layer3):
      x = layer(x)
    return network.layer4(x)

  tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()

  def batched():
    parts = [
      torch_excitation.maps(
        features, tensor, cells[k : k + _TORCH_BATCH], "prm"
      )
      for k in range(0, num_seeds, _TORCH_BATCH)
    ]
    return _torch_boxes(torch.cat([maps for maps, _ in parts]))

  def one_by_one():
    images = tensor[None].clone().requires_grad_()
    y = features(images)
    maps = []
    for row, column in cells:
      mass = torch.zeros_like(y)
      mass[0, :, row, column] = 1 / y.shape[1]
      (pixels,) = torch.autograd.grad(y, images, mass, retain_graph=True)
      maps.append(pixels[0].sum(0))
    return _torch_boxes(torch.stack(maps))

  ours = lambda: jax.block_until_ready(jitted(*inputs))  # noqa: E731
  if stop_at is None:
    np.testing.assert_allclose(ours(), one_by_one(), atol=2.0)
  flops = sum(
    row.flops
    for row in nn.layer_table(module, image_size=(size, size))
    if row.kind == "Conv"
  )
  contestants = {
    "vision_jax": ours, "torch batched": batched, "torch loop": one_by_one,
  }  # fmt: skip
  return contestants, {"flops": flops * (2 + num_seeds)}


def pool_regions(num_regions: int, channels: int):
  """Mean features of boxes of a map of 16 x 16 cells."""
  rng = np.random.default_rng(1)
  features = rng.normal(size=(16, 16, channels)).astype(np.float32)
  corners = np.sort(rng.uniform(0, 512, (num_regions, 2, 2)), 1)
  boxes = corners.reshape(-1, 4).astype(np.float32)

  @jax.jit
  def run(features, boxes):
    weights = ops.box_weights(boxes, (16, 16), stride=32)
    return ops.unit_rows(ops.pool_regions(features, weights))

  inputs = jax.device_put((features, boxes))
  theirs = torch.from_numpy(features)

  def torch_run():
    rows = []
    for x1, y1, x2, y2 in boxes / 32:
      part = theirs[
        int(np.floor(y1)) : int(np.ceil(y2)),
        int(np.floor(x1)) : int(np.ceil(x2)),
      ]
      rows.append(part.mean((0, 1)))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)

  ours = lambda: jax.block_until_ready(run(*inputs))  # noqa: E731
  np.testing.assert_allclose(ours(), torch_run(), atol=1e-4)
  return {"vision_jax": ours, "torch eager": torch_run}, {
    "bytes_moved": features.nbytes
  }


def search(num_rows: int, dims: int, num_queries: int, top_k: int = 100):
  """The best rows of a database for queries, exactly."""
  rng = np.random.default_rng(2)
  vectors = rng.standard_normal((num_rows, dims), np.float32)
  queries = rng.standard_normal((num_queries, dims), np.float32)
  database = retrieval.place_database(vectors)
  placed = jax.device_put(queries)

  def ours():
    found = retrieval.search(placed, database, top_k=top_k)
    return jax.block_until_ready(found)

  def numpy_run():
    scores = queries @ vectors.T
    rows = np.argpartition(-scores, top_k, 1)[:, :top_k]
    part = np.take_along_axis(scores, rows, 1)
    return np.take_along_axis(rows, np.argsort(-part, 1), 1)

  tensors = torch.from_numpy(queries), torch.from_numpy(vectors)

  def torch_run():
    return (tensors[0] @ tensors[1].T).topk(top_k)

  contestants: dict[str, Callable[[], Any]] = {
    "vision_jax": ours,
    "numpy": numpy_run,
    "torch eager": torch_run,
  }
  if importlib.util.find_spec("faiss"):
    index = retrieval.build_faiss(vectors)
    contestants["faiss flat"] = lambda: retrieval.search_faiss(
      queries, index, top_k=top_k
    )
  assert (np.asarray(ours().rows) == numpy_run()).mean() > 0.99
  return contestants, {"bytes_moved": vectors.nbytes}


CASES = {
  "DASR, 8 seeds to boxes, ResNet-50, 512 x 512": lambda: peaks_to_boxes(8),
  "DASR, 32 seeds to boxes, ResNet-50, 512 x 512": lambda: peaks_to_boxes(32),
  "DASR, 8 seeds to boxes, ends at the pool": (
    lambda: peaks_to_boxes(8, stop_at="maxpool")
  ),
  "region pooling, 32 boxes, 16 x 16 x 2048": lambda: pool_regions(32, 2048),
  "search, 1 query, 1e6 x 256, top 100": lambda: search(10**6, 256, 1),
  "search, 100 queries, 1e6 x 256, top 100": lambda: search(10**6, 256, 100),
  "search, 1 query, 2e5 x 2048, top 100": lambda: search(2 * 10**5, 2048, 1),
  "search, 100 queries, 2e5 x 2048, top 100": (
    lambda: search(2 * 10**5, 2048, 100)
  ),
}

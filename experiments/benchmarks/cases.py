"""The rows of the benchmark: name -> function that makes its contestants.

Each function returns `(functions, facts)`: the contestants by name, ready to
be called, and `flops` or `bytes_moved` of one call. Inputs, weights and the
number of threads are the same for all.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from experiments.benchmarks import (
  detection_cases,
  detector_cases,
  search_cases,
  segmentation_cases,
  torch_elf,
  train_cases,
  warp_cases,
)
from vision_jax import metrics, ops, weights
from vision_jax.nn import backbones, layer_table
from vision_jax.systems import elf

HEIGHT, WIDTH = 480, 640
Contestants = dict[str, Callable[[], Any]]


def _image(batch: int = 1) -> np.ndarray:
  """Photographs are not needed for timing; noise over structure is enough."""
  rng = np.random.default_rng(0)
  coarse = rng.uniform(0.2, 0.8, size=(batch, HEIGHT // 16, WIDTH // 16, 3))
  image = coarse.repeat(16, 1).repeat(16, 2)
  # Not clipped: flat patches would be full of windows without a clear maximum.
  noise = rng.uniform(-0.2, 0.2, size=image.shape)
  return (image + noise).astype(np.float32)


def _to_torch(images: np.ndarray, *, channels_last: bool) -> torch.Tensor:
  tensor = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()
  if channels_last:
    tensor = tensor.to(memory_format=torch.channels_last)
  return tensor


@functools.cache
def _vgg16() -> tuple[Any, dict]:
  module = backbones.vgg16(num_classes=None)
  variables = weights.random_variables(module, seed=0)
  return module, jax.device_put(variables)


def _in_torch(
  make: Callable[[bool], torch.nn.Module],
  run: Callable[[Any, torch.Tensor], Any],
  images: np.ndarray,
) -> Contestants:
  """Eager, channels-last eager, and compiled channels-last."""
  contestants = {}
  for name, channels_last in (("eager", False), ("channels_last", True)):
    network = make(channels_last)
    tensor = _to_torch(images, channels_last=channels_last)
    contestants[f"torch {name}"] = functools.partial(run, network, tensor)
  compiled = torch.compile(network)
  contestants["torch compile"] = functools.partial(run, compiled, tensor)
  return contestants


def _ready(function: Callable, *args: Any) -> Callable[[], Any]:
  return lambda: jax.block_until_ready(function(*args))


def _torchvision(name: str, module, variables) -> Callable[[bool], Any]:
  """Torchvision's network with the same weights."""
  from tests.parity.torchvision_shim import torchvision

  def make(channels_last: bool) -> torch.nn.Module:
    network = getattr(torchvision.models, name)()
    state = weights.variables_to_state_dict(module, variables)
    state = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
    network.load_state_dict(state, strict=False)
    network = network.eval().requires_grad_(False)
    if channels_last:
      network = network.to(memory_format=torch.channels_last)
    return network

  return make


def forward(name: str):
  """Class scores of one 224 x 224 image."""
  module = backbones.MODELS[name]()
  variables = weights.random_variables(module, seed=0)
  make = _torchvision(name, module, variables)
  images = _image()[:, :224, :224]
  apply = jax.jit(lambda v, x: module.apply(v, x)[0])

  @torch.no_grad()
  def run(network, tensor):
    return network(tensor)

  flops = sum(r.flops for r in layer_table(module, image_size=(224, 224)))
  ours = _ready(apply, jax.device_put(variables), jnp.asarray(images))
  return {"vision_jax": ours, **_in_torch(make, run, images)}, {"flops": flops}


def vgg16_saliency(layer: str):
  """|F^T dF/dI| of one 480 x 640 image."""
  module, variables = _vgg16()
  images = _image()
  block = int(layer[-1])
  upto = sum(2 * len(b) + 1 for b in module.blocks[:block])
  config = elf.SETTINGS["vgg16"]
  normal = np.asarray(elf.preprocess(jnp.asarray(images), config))

  def make(channels_last):
    full = torch_elf.make_vgg(variables["params"], channels_last=channels_last)
    return full[:upto]

  single = jnp.asarray(images[0])
  ours = lambda: jax.block_until_ready(  # noqa: E731
    elf.saliency(module, variables, single, layer, config)
  )
  flops = 2 * torch_elf.conv_flops(module.blocks, HEIGHT, WIDTH, block)
  others = _in_torch(make, torch_elf.saliency, normal)
  _same(ours()[layer], others["torch eager"]()[0].permute(1, 2, 0))
  return {"vision_jax": ours, **others}, {"flops": flops}


def _same(ours: Any, theirs: torch.Tensor) -> None:
  """Timing two different things would say nothing.

  Among millions of pooling windows a few have two values that are equal up to
  rounding, and there the derivative may go to either, which changes the pixels
  that the window sees. (tests/parity shows equality to 1e-9 in float64.)
  """
  ours, theirs = np.asarray(ours), theirs.detach().numpy()
  error = np.abs(ours - theirs) / np.abs(theirs).max()
  median, mean = float(np.median(error)), float(error.mean())
  if not (median < 1e-5 and mean < 1e-3):
    raise AssertionError(
      f"the contestants differ: median {median:.1e}, mean {mean:.1e}"
    )


def _elf(batch: int):
  """Ours and PyTorch's ways to the key points of a batch, checked."""
  module, variables = _vgg16()
  images = _image(batch)
  config = elf.SETTINGS["vgg16"]
  normal = np.asarray(elf.preprocess(jnp.asarray(images), config))
  contestants = {}
  for name, channels_last in (("eager", False), ("channels_last", True)):
    network = torch_elf.make_vgg(
      variables["params"], channels_last=channels_last
    )
    extractor = torch_elf.Extractor(network[:10], network[10:])
    tensor = _to_torch(normal, channels_last=channels_last)
    contestants[f"torch {name}"] = functools.partial(extractor, tensor)
  compiled = torch_elf.Extractor(
    torch.compile(network[:10]), torch.compile(network[10:])
  )
  contestants["torch compile"] = functools.partial(compiled, tensor)
  jax_images = jnp.asarray(images)
  ours = lambda: jax.block_until_ready(  # noqa: E731
    elf.extract(module, variables, jax_images, config)
  )
  k = ours()
  for i, (xy, _, _) in enumerate(contestants["torch eager"]()):
    a = {tuple(p) for p in np.asarray(k.xy[i])[np.asarray(k.valid[i])]}
    b = {tuple(p) for p in xy.numpy().astype(np.float32)}
    if len(a & b) < 0.95 * max(len(a), len(b)):
      raise AssertionError(f"only {len(a & b)} of {len(b)} points agree")
  flops = batch * (
    torch_elf.conv_flops(module.blocks, HEIGHT, WIDTH, 4)
    + torch_elf.conv_flops(module.blocks, HEIGHT, WIDTH, 2)
  )
  return ours, contestants, flops


def elf_extract(batch: int):
  """Key points and descriptors, VGG16 pool2 -> pool4, 480 x 640."""
  ours, others, flops = _elf(batch)
  return {"vision_jax": ours, **others}, {"flops": flops}


def elf_pair():
  """Two images, one after the other, and their mutual matches."""
  ours, others, flops = _elf(1)

  def run_ours():
    first, second = (jax.tree.map(lambda v: v[0], ours()) for _ in range(2))
    return jax.block_until_ready(elf.match(first, second))

  def in_torch(extract):
    def run():
      (first,), (second,) = extract(), extract()
      return torch_elf.match(first[2], second[2])

    return run

  contestants = {name: in_torch(f) for name, f in others.items()}
  return {"vision_jax": run_ours, **contestants}, {"flops": 2 * flops}


def max_pool_derivative():
  """Gradient of a 2 x 2 max-pool, 224 x 224 x 64."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 224, 224, 64)).astype(np.float32)
  c = rng.normal(size=(1, 112, 112, 64)).astype(np.float32)

  def xla_pool(v):
    return lax.reduce_window(
      v, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )

  def gradient(pool):
    run = jax.jit(lambda v, ct: jax.vjp(pool, v)[1](ct)[0])
    return _ready(run, jnp.asarray(x), jnp.asarray(c))

  def in_torch(channels_last):
    v = _to_torch(x, channels_last=channels_last)
    ct = _to_torch(c, channels_last=channels_last)

    def run():
      leaf = v.detach().requires_grad_(True)
      y = torch.nn.functional.max_pool2d(leaf, 2)
      return torch.autograd.grad(y, leaf, ct)[0]

    return run

  contestants = {
    "vision_jax": gradient(ops.max_pool),
    "XLA select-and-scatter": gradient(xla_pool),
    "torch eager": in_torch(False),
    "torch channels_last": in_torch(True),
  }
  return contestants, {"bytes_moved": 2 * x.nbytes + c.nbytes}


def matching():
  """Mutual nearest neighbours, 500 x 500 descriptors of length 512."""
  rng = np.random.default_rng(0)
  d0, d1 = rng.normal(size=(2, 500, 512)).astype(np.float32)
  d0, d1 = (d / np.linalg.norm(d, axis=1, keepdims=True) for d in (d0, d1))
  run = jax.jit(lambda a, b: ops.match_mutual(ops.similarity(a, b)))
  t0, t1 = torch.from_numpy(d0), torch.from_numpy(d1)
  compiled = torch.compile(torch_elf.match)
  contestants = {
    "vision_jax": _ready(run, jnp.asarray(d0), jnp.asarray(d1)),
    "torch eager": lambda: torch_elf.match(t0, t1),
    "torch compile": lambda: compiled(t0, t1),
  }
  return contestants, {"flops": 2 * 500 * 500 * 512}


def _paired_in_turn(cost: np.ndarray, limit: float) -> set[tuple[int, int]]:
  """Greedy pairing as it is written: all pairs sorted, both ends free."""
  order = np.argsort(cost, axis=None, kind="stable")
  free0, free1 = np.ones(cost.shape[0], bool), np.ones(cost.shape[1], bool)
  pairs = set()
  for i, j in zip(*np.unravel_index(order, cost.shape), strict=True):
    if cost[i, j] > limit:
      break
    if free0[i] and free1[j]:
      free0[i] = free1[j] = False
      pairs.add((int(i), int(j)))
  return pairs


def protocol_scores():
  """Repeatability and matching score of one pair, 500 points, length 192."""
  rng = np.random.default_rng(0)
  size = (HEIGHT, WIDTH)
  matrix = np.array([[0.9, 0.1, 20], [-0.1, 1.0, 30], [1e-4, 0, 1]])
  truth = metrics.homography_ground_truth(matrix, size, size)
  xy0 = rng.uniform(0, [WIDTH, HEIGHT], (500, 2))
  xy1 = truth.warp0to1(xy0) + rng.normal(0, 2, (500, 2))
  d0 = rng.normal(size=(500, 192))
  d1 = d0 + 2 * rng.normal(size=(500, 192))

  def ours():
    return (
      metrics.repeatability(xy0, xy1, truth),
      metrics.matching_score(xy0, xy1, d0, d1, truth),
    )

  def in_turn():
    keep0, keep1 = metrics.covisible(xy0, xy1, truth)
    moved = truth.warp0to1(xy0[keep0])
    away = np.hypot(*np.moveaxis(moved[:, None] - xy1[keep1], -1, 0))
    unlike = np.linalg.norm(d0[keep0][:, None] - d1[keep1], axis=-1)
    near, alike = _paired_in_turn(away, 5.0), _paired_in_turn(unlike, np.inf)
    smaller = min(keep0.sum(), keep1.sum())
    return len(near) / smaller, len(near & alike) / smaller

  if ours() != in_turn():
    raise AssertionError(f"scores differ: {ours()} and {in_turn()}")
  return {"vision_jax": ours, "NumPy, pair by pair": in_turn}, {}


CASES: Mapping[str, Callable[[], tuple[Contestants, dict[str, float]]]] = {
  "VGG16 forward, 224 x 224": lambda: forward("vgg16"),
  "ResNet-50 forward, 224 x 224": lambda: forward("resnet50"),
  "VGG16 saliency pool2, 480 x 640": lambda: vgg16_saliency("pool2"),
  "VGG16 saliency pool4, 480 x 640": lambda: vgg16_saliency("pool4"),
  "ELF extract, 1 image, 480 x 640": lambda: elf_extract(1),
  "ELF extract, 8 images, 480 x 640": lambda: elf_extract(8),
  "ELF pair, 2 x 480 x 640 and matching": elf_pair,
  "max-pool derivative, 224 x 224 x 64": max_pool_derivative,
  "matching, 500 x 500 x 512": matching,
  "ELF protocol of a pair, 500 points": protocol_scores,
  "ResNet-18 train step, 32 x 64 x 64": lambda: train_cases.train_step(
    "resnet18", 64, 32
  ),
  "ResNet-50 train step, 8 x 224 x 224": lambda: train_cases.train_step(
    "resnet50", 224, 8
  ),
  "ST-CNN train step, 128 x 42 x 42": (
    lambda: train_cases.transformer_step(128)
  ),
  "affine_grid, 8 x 224 x 224": lambda: warp_cases.affine_grid(8, 224),
  "thin_plate_grid and derivative, 8 x 64 x 64": (
    lambda: warp_cases.thin_plate_grid(8, 64)
  ),
  "grid_sample, 8 x 224 x 224 x 3": (
    lambda: warp_cases.grid_sample(8, 224, 3, False)
  ),
  "grid_sample and derivatives, 8 x 224 x 224 x 3": (
    lambda: warp_cases.grid_sample(8, 224, 3, True)
  ),
  "grid_sample, 4 x 56 x 56 x 64": (
    lambda: warp_cases.grid_sample(4, 56, 64, False)
  ),
  "grid_sample and derivatives, 4 x 56 x 56 x 64": (
    lambda: warp_cases.grid_sample(4, 56, 64, True)
  ),
  "grid_sample, 4 x 28 x 28 x 256": (
    lambda: warp_cases.grid_sample(4, 28, 256, False)
  ),
  "grid_sample and derivatives, 4 x 28 x 28 x 256": (
    lambda: warp_cases.grid_sample(4, 28, 256, True)
  ),
  "soft_argmax and derivative, 32 x 64 x 64 x 17": (
    lambda: warp_cases.soft_argmax(32, 64, 17)
  ),
  "crop_and_resize, 256 boxes, 14 x 14 x 256": (
    lambda: warp_cases.crop_and_resize(256, 14, 256)
  ),
  "NMS, 1000 boxes": lambda: detection_cases.nms(1000),
  "NMS, 2000 boxes": lambda: detection_cases.nms(2000),
  "NMS, 5000 boxes": lambda: detection_cases.nms(5000),
  "RoIAlign, 256 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align(256, False)
  ),
  "RoIAlign, 1000 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align(1000, False)
  ),
  "RoIAlign and derivative, 256 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align(256, True)
  ),
  "RoIAlign and derivative, 1000 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align(1000, True)
  ),
  "RoIAlign on a pyramid, 256 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align_pyramid(256)
  ),
  "RoIAlign on a pyramid, 1000 boxes, 7 x 7 x 256": (
    lambda: detection_cases.roi_align_pyramid(1000)
  ),
  **search_cases.CASES,
  "PointRend subdivision, 20 boxes, 80 classes": (
    lambda: segmentation_cases.instance_subdivision(20)
  ),
  "PointRend subdivision, 100 boxes, 80 classes": (
    lambda: segmentation_cases.instance_subdivision(100)
  ),
  "PointRend subdivision, 1024 x 2048, 19 classes": (
    segmentation_cases.semantic_subdivision
  ),
  "DeepLabV3 ResNet-50 forward, 520 x 520": segmentation_cases.deeplabv3,
  **detector_cases.CASES,
}

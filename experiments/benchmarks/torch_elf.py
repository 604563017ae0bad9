"""ELF in PyTorch, written for speed: the counterpart of our benchmark rows.

The same steps and settings as `vision_jax.systems.elf`; one forward pass
serves the saliency and the descriptors, and nothing is computed twice.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from vision_jax.nn import backbones
from vision_jax.systems import elf


def make_vgg(params: dict, *, channels_last: bool) -> torch.nn.Sequential:
  """VGG16 up to pool4 with our weights."""
  layers: list[torch.nn.Module] = []
  for block in backbones.vgg16().blocks[:4]:
    for features in block:
      ours = params["features"][str(len(layers))]
      kernel = np.array(ours["kernel"]).transpose(3, 2, 0, 1)
      conv = torch.nn.Conv2d(kernel.shape[1], features, 3, padding=1)
      conv.weight.data = torch.from_numpy(kernel.copy())
      conv.bias.data = torch.from_numpy(np.array(ours["bias"]))
      layers += [conv, torch.nn.ReLU()]
    layers.append(torch.nn.MaxPool2d(2))
  network = torch.nn.Sequential(*layers).eval().requires_grad_(False)
  if channels_last:
    network = network.to(memory_format=torch.channels_last)
  return network


def saliency(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
  """|F^T dF/dI|, [B, 3, H, W]."""
  images = images.detach().requires_grad_(True)
  features = network(images)
  (gradient,) = torch.autograd.grad(features, images, features.detach())
  return gradient.abs()


def _blur(maps: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
  """Separable Gaussian blur of [B, 1, H, W], reflected at the border."""
  i = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
  w = torch.exp(-(i**2) / (2 * sigma**2))
  w = w / w.sum()
  r = size // 2
  maps = F.pad(maps, (r, r, r, r), mode="reflect")
  return F.conv2d(
    F.conv2d(maps, w.reshape(1, 1, size, 1)), w.reshape(1, 1, 1, size)
  )


def _kapur(maps: torch.Tensor) -> float:
  """Entropy threshold of one map in [0, 1]."""
  levels = (255 * maps).floor().clamp(0, 255).to(torch.int64).flatten()
  h = torch.bincount(levels, minlength=256).double()
  hlogh = torch.where(h > 0, h * h.clamp(min=1).log(), 0.0)

  def entropy(mass, total):
    return torch.where(
      mass > 0, mass.clamp(min=1).log() - total / mass.clamp(min=1), 0.0
    )

  below, above = h.cumsum(0), h.flip(0).cumsum(0).flip(0) - h
  gain = entropy(below, hlogh.cumsum(0)) + entropy(
    above, hlogh.flip(0).cumsum(0).flip(0) - hlogh
  )
  filled = torch.nonzero(h).flatten()
  inside = torch.zeros(256, dtype=torch.bool)
  inside[filled[0] : filled[-1] + 1] = True
  gain = torch.where(inside, gain, 0.0)
  return float(gain.argmax()) / 255 if gain.max() > 0 else 0.0


def _window_max(maps: torch.Tensor, radius: int) -> torch.Tensor:
  """Maximum over (2 r + 1)^2 windows of [1, 1, H, W]."""
  size = 2 * radius + 1
  maps = F.max_pool2d(maps, (1, size), 1, (0, radius))
  return F.max_pool2d(maps, (size, 1), 1, (radius, 0))


def _suppress(
  smooth: torch.Tensor, alive: torch.Tensor, radius: int
) -> torch.Tensor:
  """Greedy suppression by rounds over unique ranks."""
  flat = smooth.flatten()
  candidates = torch.nonzero(alive.flatten()).flatten()
  order = candidates[torch.argsort(-flat[candidates], stable=True)]
  rank = torch.zeros_like(flat)
  rank[order] = torch.arange(len(order), 0, -1, dtype=torch.float32)
  rank = rank.reshape(1, 1, *smooth.shape)
  kept = torch.zeros_like(rank, dtype=torch.bool)
  while bool((rank > 0).any()):
    peaks = (rank == _window_max(rank, radius)) & (rank > 0)
    kept |= peaks
    rank = torch.where(_window_max(peaks.float(), radius) > 0, 0.0, rank)
  return kept[0, 0]


def detect(gradient: torch.Tensor, config: elf.ElfConfig):
  """Points [N, 2] of one saliency map [3, H, W]."""
  gray = gradient.mean(0)[None, None]
  gray = gray / gray.max()
  smooth = _blur(gray, *config.denoise_blur)[0, 0]
  tau = _kapur(_blur(gray, *config.threshold_blur))
  kept = _suppress(smooth, smooth > tau, config.radius)
  b = config.border
  inside = torch.zeros_like(kept)
  inside[b:-b, b:-b] = True
  where = torch.nonzero(kept & inside)
  scores = smooth[where[:, 0], where[:, 1]]
  order = torch.argsort(-scores, stable=True)[: config.max_keypoints]
  return where[order].flip(1), scores[order]


def describe(features: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
  """Unit descriptors of VGG16's pool4 [C, h, w] at points."""
  u = (xy.float() - 7.5) / 16
  size = torch.tensor([features.shape[2], features.shape[1]]).float()
  grid = (2 * u / (size - 1) - 1)[None, None]
  values = F.grid_sample(
    features[None], grid, align_corners=True, padding_mode="border"
  )
  return F.normalize(values[0, :, 0].T, dim=1)


class Extractor:
  """Key points of a batch, as `elf.extract` with `SETTINGS["vgg16"]`."""

  def __init__(self, low: torch.nn.Module, high: torch.nn.Module):
    self.low, self.high = low, high  # to pool2; from there to pool4
    self.config = elf.SETTINGS["vgg16"]

  def __call__(self, images: torch.Tensor):
    """Images [B, 3, H, W], normalised."""
    images = images.detach().requires_grad_(True)
    features = self.low(images)
    (gradient,) = torch.autograd.grad(features, images, features.detach())
    with torch.no_grad():
      deep = self.high(features.detach())
      results = []
      for g, d in zip(gradient.abs(), deep, strict=True):
        xy, scores = detect(g, self.config)
        results.append((xy, scores, describe(d, xy)))
    return results


def match(d0: torch.Tensor, d1: torch.Tensor) -> torch.Tensor:
  """Mutual nearest neighbours, [M, 2]."""
  table = d0 @ d1.T
  forward, backward = table.argmax(1), table.argmax(0)
  index = torch.arange(len(d0))
  keep = backward[forward] == index
  return torch.stack([index[keep], forward[keep]], 1)


def conv_flops(blocks, height: int, width: int, upto: int) -> float:
  """Operations of the convolutions of the first blocks of a VGG."""
  total, channels = 0.0, 3
  for b, block in enumerate(blocks[:upto]):
    pixels = height * width / math.pow(4, b)
    for features in block:
      total += 2 * 9 * channels * features * pixels
      channels = features
  return total

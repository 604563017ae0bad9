"""Top-down rules written for torch, layer by layer, with autograd functions.

Batches of seeds share one image: its activations are repeated, so that one
backward pass of a batch serves all (`maps`).
"""

import copy

import torch

_F = torch.nn.functional

__all__ = ["maps", "substitute"]


class _ConvRule(torch.autograd.Function):
  """A convolution whose derivative is a rule."""

  @staticmethod
  def forward(ctx, x, layer, rule):
    ctx.layer, ctx.rule = layer, rule
    ctx.save_for_backward(x)
    return layer._conv_forward(x, layer.weight, layer.bias)

  @staticmethod
  def backward(ctx, mass):
    (x,) = ctx.saved_tensors
    layer, weight = ctx.layer, ctx.layer.weight.clamp(min=0)
    if ctx.rule == "prm":
      x = x - x.amin((1, 2, 3), keepdim=True)
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    n = _F.conv2d(x, weight, None, *settings)
    if ctx.rule == "prm":
      part = torch.where(n < 1e-10, 0.0, mass / (n + 1e-10))
    else:
      part = mass / (n + 1e-20)
    back = torch.nn.grad.conv2d_input(x.shape, weight, part, *settings)
    return x * back, None, None


class _SumRule(torch.autograd.Function):
  """A sum that hands its mass to both in proportion."""

  @staticmethod
  def forward(ctx, a, b):
    ctx.save_for_backward(a, b)
    return a + b

  @staticmethod
  def backward(ctx, mass):
    a, b = ctx.saved_tensors
    return a / (a + b) * mass, b / (a + b) * mass


class _NormRule(torch.autograd.Function):
  """A normalisation that lets mass through."""

  @staticmethod
  def forward(ctx, x, layer):
    return _F.batch_norm(
      x,
      layer.running_mean,
      layer.running_var,
      layer.weight,
      layer.bias,
      eps=layer.eps,
    )

  @staticmethod
  def backward(ctx, mass):
    return mass, None


def _bottleneck(self, x):
  y = self.relu(self.bn1(self.conv1(x)))
  y = self.relu(self.bn2(self.conv2(y)))
  y = self.bn3(self.conv3(y))
  short = x if self.downsample is None else self.downsample(x)
  total = _SumRule.apply(y, short) if self.rule == "ebp" else y + short
  return self.relu(total)


def substitute(network, rule):
  """A copy of a torchvision ResNet or VGG with the derivatives of a rule."""
  network = copy.deepcopy(network).eval().requires_grad_(False)
  for module in network.modules():
    kind = type(module).__name__
    if kind == "Conv2d":
      module.forward = lambda x, m=module: _ConvRule.apply(x, m, rule)
    elif kind == "BatchNorm2d" and rule == "ebp":
      module.forward = lambda x, m=module: _NormRule.apply(x, m)
    elif kind == "ReLU":
      module.inplace = False
    elif kind == "Bottleneck":
      module.rule = rule
      module.forward = lambda x, m=module: _bottleneck(m, x)
  return network


def maps(features, image, cells, rule):
  """Pixel maps [P, H, W] of seeds at cells (y, x) of the channel mean.

  `features`: images [P, 3, H, W] -> features [P, C, h, w]; `image` [3, H, W].
  """
  images = image.expand(len(cells), -1, -1, -1).clone().requires_grad_()
  y = features(images)
  mass = torch.zeros_like(y)
  for p, (row, column) in enumerate(cells):
    x = y[p, :, row, column].detach()
    mass[p, :, row, column] = 1 / len(x) if rule == "prm" else x / x.sum()
  (pixels,) = torch.autograd.grad(y, images, mass)
  return pixels.sum(1), y.detach()

"""A detector of torchvision and ours, with the same random weights.

The logits of random networks are enormous and favour one class everywhere.
Their last layers are shifted and scaled, by what they give on one picture, so
that scores spread, boxes move by a part of their size, and all classes occur.
Batch normalisation gets the statistics of that picture: without them rounding
grows a thousandfold on its way through a MobileNet.
"""

import numpy as np
import torch

from tests.parity.torchvision_shim import torchvision
from vision_jax import weights

__all__ = ["blocks_image", "build", "calibrate"]

# Layer -> (deviation of its outputs, axis of channels whose mean becomes 0).
_SPREAD = {
  "rpn.head.cls_logits": 2.0,
  "rpn.head.bbox_pred": 0.3,
  "roi_heads.box_predictor.cls_score": 2.0,
  "roi_heads.box_predictor.bbox_pred": 1.0,
  "roi_heads.mask_predictor.mask_fcn_logits": 2.0,
  "roi_heads.keypoint_predictor.kps_score_lowres": 3.0,
}


def calibrate(net, image, spread=None):
  """Shifts and scales the last layers, each once, in the order of calls."""
  spread = {**_SPREAD, **(spread or {})}
  hooks = []

  def adjust(deviation):
    seen = []

    def hook(layer, inputs, output):
      del inputs
      if seen:
        return None
      seen.append(True)
      axes = [k for k in range(output.ndim) if k != 1]
      mean = output.mean(axes)
      shape = (1, -1, *[1] * (output.ndim - 2))
      centred = output - mean.reshape(shape)
      factor = deviation / centred.std()
      layer.weight.data *= factor
      layer.bias.data = (layer.bias.data - mean) * factor
      return centred * factor

    return hook

  for name, layer in net.named_modules():
    if name in spread:
      hooks.append(layer.register_forward_hook(adjust(spread[name])))
  picture = torch.from_numpy(image.transpose(2, 0, 1).copy())
  norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
  with torch.no_grad():
    batch, _ = net.transform([picture])
    for norm in norms:
      norm.momentum = 1.0
    net.backbone.train()(batch.tensors)
    for norm in norms:  # channels that hardly vary must not be blown up
      norm.running_var += norm.running_var.mean()
    net.eval()([picture])
  for hook in hooks:
    hook.remove()


def build(name, *, seed=0, spread=None, torch_settings=None, **settings):
  """(torch module, our module, our variables) on small pictures."""
  classes = settings.pop("num_classes", 6)
  net = getattr(torchvision.models.detection, name)(
    weights=None,
    weights_backbone=None,
    num_classes=classes,
    min_size=settings.setdefault("min_size", 128),
    max_size=settings.setdefault("max_size", 224),
    rpn_pre_nms_top_n_test=settings.setdefault("rpn_pre_test", 200),
    rpn_post_nms_top_n_test=settings.setdefault("rpn_post_test", 40),
    **(torch_settings or {}),
  ).eval()
  shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
  state = weights.random_state_dict(shapes, seed=seed)
  net.load_state_dict(
    {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  )
  rng = np.random.default_rng(seed)
  calibrate(net, blocks_image(rng, 128, 160), spread)
  state = {k: v.numpy() for k, v in net.state_dict().items()}
  module, variables = weights.from_torchvision(name, state, **settings)
  assert module.num_classes == classes
  return net, module, variables


def blocks_image(rng, height, width, side=8):
  """A picture of random squares, float32 [height, width, 3]."""
  cells = rng.uniform(size=(-(-height // side), -(-width // side), 3))
  picture = cells.repeat(side, 0).repeat(side, 1)[:height, :width]
  return picture.astype(np.float32)

"""Runs torchvision's segmentation networks with random weights."""

import numpy as np
import torch

from tests.parity.torchvision_shim import torchvision

__all__ = ["random_model", "scores"]

segmentation = torchvision.models.segmentation


def _create(name, num_classes):
  if name == "deeplabv3_tiny":
    resnet = torchvision.models.ResNet(
      torchvision.models.resnet.Bottleneck,
      [1, 1, 1, 1],
      replace_stride_with_dilation=[False, True, True],
    )
    layers = {"layer4": "out", "layer3": "aux"}
    backbone = torchvision.models._utils.IntermediateLayerGetter(
      resnet, return_layers=layers
    )
    return segmentation.DeepLabV3(
      backbone,
      segmentation.deeplabv3.DeepLabHead(2048, num_classes),
      segmentation.fcn.FCNHead(1024, num_classes),
    )
  options = {} if name.startswith("lraspp") else {"aux_loss": True}
  return torchvision.models.get_model(
    name,
    weights=None,
    weights_backbone=None,
    num_classes=num_classes,
    **options,
  )


def random_model(name, num_classes, draw):
  """A model with weights drawn by `draw(shapes)`; returns them too."""
  with torch.device("meta"):
    model = _create(name, num_classes).eval()
  state = draw({k: tuple(v.shape) for k, v in model.state_dict().items()})
  tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  model.load_state_dict(tensors, strict=True, assign=True)
  return model, state


def scores(model, images):
  """Scores of NHWC images, as NHWC arrays by name."""
  with torch.no_grad():
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return {k: v.numpy().transpose(0, 2, 3, 1) for k, v in model(x).items()}

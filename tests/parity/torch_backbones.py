"""Runs classifiers of torch and records our endpoints on the way.

Most are torchvision's; the others are written in torch_foreign.py.
"""

import numpy as np
import torch

from tests.parity import torch_foreign
from tests.parity.torchvision_shim import torchvision

__all__ = [
  "create",
  "dilate_mobilenet_v2",
  "endpoints",
  "random_model",
  "state_shapes",
]

models = torchvision.models


def create(name, **kwargs):
  """A model without weights, in evaluation mode."""
  with torch.device("meta"):
    if name in torch_foreign.MODELS:
      return torch_foreign.MODELS[name](**kwargs).eval()
    if name == "densenet_tiny":
      return models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=10).eval()
    return models.get_model(name, weights=None, **kwargs).eval()


def state_shapes(model):
  """Torch name -> shape."""
  return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def random_model(name, draw, **kwargs):
  """A model with weights drawn by `draw(shapes)`; returns them too."""
  model = create(name, **kwargs)
  state = draw(state_shapes(model))
  tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  model.load_state_dict(tensors, strict=True, assign=True)
  return model, state


def dilate_mobilenet_v2(model):
  """Output stride 8: features 7 and 14 keep the size, those behind dilate.

  torchvision has no option for it; this is what DeepLab does to the network.
  """
  for index in range(7, 18):
    dilation = 1 if index == 7 else 2 if index < 15 else 4
    conv = model.features[index].conv[1][0]
    conv.stride = (1, 1)
    conv.dilation = conv.padding = (dilation, dilation)


def endpoints(model, images):
  """Logits and endpoints of NHWC images, as NHWC arrays.

  The names are ours; where each is taken is written down here once more,
  against torchvision's own modules, in the order in which they run.
  """
  found = {}
  names = _names(model)
  hooks = [
    module.register_forward_hook(_keep(found, names[path]))
    for path, module in model.named_modules()
    if path in names
  ]
  with torch.no_grad():
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    logits = model(x).numpy()
  for hook in hooks:
    hook.remove()
  # The last ReLU of a DenseNet is not a module.
  if isinstance(model, torchvision.models.DenseNet):
    found["relu5"] = np.maximum(found["relu5"], 0)
    found["pooled"] = found["relu5"].mean((1, 2))
  return logits, found


def _keep(found, name):
  def hook(module, inputs, output):
    del module, inputs
    # A copy: ReLU is done in place, and so is what follows it.
    array = output.detach().clone().numpy()
    if array.ndim == 4:
      array = array.transpose(0, 2, 3, 1)
    if name == "pooled":
      array = array.reshape(len(array), -1)
    found[name] = array

  return hook


def _names(model):
  """Path of a module -> our endpoint."""
  if hasattr(model, "endpoint_paths"):
    return model.endpoint_paths
  for kind, names in (
    (models.DenseNet, _densenet_names),
    (models.SqueezeNet, _squeezenet_names),
    ((models.MobileNetV2, models.MobileNetV3), _mobilenet_names),
  ):
    if isinstance(model, kind):
      return names(model)
  if isinstance(model, models.ResNet):
    names = {f"layer{k}": f"layer{k}" for k in range(1, 5)}
    return {**names, "relu": "conv1", "maxpool": "pool1", "avgpool": "pooled"}
  if isinstance(model, models.AlexNet):
    return {
      "features.1": "relu1",
      "features.2": "pool1",
      "features.4": "relu2",
      "features.5": "pool2",
      "features.7": "relu3",
      "features.9": "relu4",
      "features.11": "relu5",
      "features.12": "pool5",
      "classifier.2": "fc6",
      "classifier.5": "fc7",
    }
  names, block, conv = {}, 1, 1
  for index, layer in enumerate(model.features):
    if isinstance(layer, torch.nn.ReLU):
      names[f"features.{index}"] = f"relu{block}_{conv}"
      conv += 1
    elif isinstance(layer, torch.nn.MaxPool2d):
      names[f"features.{index}"] = f"pool{block}"
      block, conv = block + 1, 1
  return {**names, "classifier.1": "fc6", "classifier.4": "fc7"}


def _densenet_names(model):
  same = [name for name, _ in model.features.named_children()]
  kept = [n for n in same if n.startswith(("pool", "dense", "trans"))]
  names = {f"features.{name}": name for name in kept}
  return {**names, "features.relu0": "conv0", "features.norm5": "relu5"}


def _squeezenet_names(model):
  names = {"features.1": "conv1", "classifier.2": "conv10"}
  number = 1
  for index, layer in enumerate(model.features):
    if isinstance(layer, models.squeezenet.Fire):
      number += 1
      names[f"features.{index}"] = f"fire{number}"
    elif isinstance(layer, torch.nn.MaxPool2d):
      names[f"features.{index}"] = f"pool{number}"
  return names


def _mobilenet_names(model):
  last = len(model.features) - 1
  names = {f"features.{k}": f"block{k}" for k in range(1, last)}
  names |= {"features.0": "conv0", f"features.{last}": f"conv{last}"}
  if isinstance(model, models.MobileNetV3):
    return {**names, "avgpool": "pooled", "classifier.1": "hidden"}
  return {**names, "classifier.0": "pooled"}  # dropout: what comes in

"""Runs torchvision's classifiers and records our endpoints on the way."""

import numpy as np
import torch

from tests.parity.torchvision_shim import torchvision

__all__ = ["create", "endpoints", "random_model", "state_shapes"]

models = torchvision.models


def create(name, **kwargs):
  """A model of torchvision without weights, in evaluation mode."""
  with torch.device("meta"):
    model = models.get_model(name, weights=None, **kwargs)
  return model.eval()


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
  """Path of a module of torchvision -> our endpoint."""
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

"""The result of any layer of a network, by endpoint or by path."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import inspection

__all__ = ["layer_stride", "read_layers"]


def read_layers(
  module: nn.Module,
  variables: Mapping[str, Any],
  images: jax.Array,
  layers: Sequence[str],
) -> dict[str, jax.Array]:
  """Runs a network and returns the results of some of its layers.

  Under jit what is not returned is not computed.

  Args:
    module: a network that returns (logits, endpoints).
    variables: its variables.
    images: [B, H, W, 3].
    layers: names of endpoints, such as "layer4", or paths of modules joined by
      ".", such as "layer4.0" (its first block); "logits" are the class scores.

  Returns:
    Name -> [B, h, w, C].

  Raises:
    ValueError: if there is no such layer.

  Example:
    >>> from vision_jax import nn, weights
    >>> net = nn.backbones.resnet_small()
    >>> found = nn.read_layers(net, weights.random_variables(net),
    ...                        jnp.zeros((1, 32, 48, 3)), ["layer4.0"])
    >>> found["layer4.0"].shape
    (1, 2, 3, 128)

  Source:
    Interface of this library.
  """
  seen: dict[str, Any] = {}

  def watch(next_fun, args, kwargs, context):
    result = next_fun(*args, **kwargs)
    path = ".".join(context.module.path)
    if context.method_name == "__call__" and path in layers:
      seen[path] = result
    return result

  with nn.intercept_methods(watch):
    logits, endpoints = module.apply(variables, images)
  known = seen | dict(endpoints) | {"logits": logits}
  missing = [name for name in layers if known.get(name) is None]
  if missing:
    raise ValueError(
      f"read_layers: `layers` must be endpoints ({', '.join(endpoints)}) or "
      f"paths of layers, got {missing[0]!r}; `nn.layer_table` lists the paths."
    )
  return {name: known[name] for name in layers}


@functools.cache
def layer_stride(module: nn.Module, layer: str) -> int:
  """Input pixels per cell of a layer's result.

  Args:
    module: the network.
    layer: endpoint or path, as in `read_layers`.

  Returns:
    The stride.

  Raises:
    ValueError: if there is no such layer, or it is not a map.

  Example:
    >>> from vision_jax import nn
    >>> nn.layer_stride(nn.backbones.resnet_small(), "layer4.0")
    16
  """
  endpoints = inspection.endpoint_info(module)
  if layer in endpoints:
    return endpoints[layer].stride
  rows = [
    row
    for row in inspection.layer_table(module, image_size=(256, 256))
    if row.name == layer or row.name.startswith(f"{layer}.")
  ]
  if not rows or rows[-1].stride is None:
    raise ValueError(
      f"layer_stride: `layer` must be an endpoint ({', '.join(endpoints)}) or "
      f"the path of a layer with a map, got {layer!r}."
    )
  return rows[-1].stride

"""Files of weights of darknet: one stream of numbers without names.

Little-endian. Header: three int32 (major, minor, revision), then the number of
images seen, 8 bytes if 10 major + minor >= 2, else 4. Then float32, for every
convolution in the order of the configuration file:

* with batch normalisation: bias, scale, mean, variance, kernel;
* without: bias, kernel.

Kernels are [out, in / groups, height, width]. Nothing says where one array
ends, so the size of the file must be exactly that of the model.
"""

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vision_jax.nn import backbones, inspection
from vision_jax.weights import convert
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.readers import first_bytes

__all__ = ["DarknetLayer", "darknet_layers", "from_darknet", "read_darknet"]


class DarknetLayer(NamedTuple):
  """A convolution of a stream.

  Attributes:
    conv: path of the convolution, joined by ".".
    norm: path of the batch normalisation behind it, or None.
    shape: of its kernel, (out, in / groups, height, width).

  Example:
    >>> from vision_jax import weights
    >>> weights.DarknetLayer("conv0.conv", "conv0.norm", (32, 3, 3, 3)).size
    992
  """

  conv: str
  norm: str | None
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """How many numbers it takes."""
    vectors = 1 if self.norm is None else 4
    return math.prod(self.shape) + vectors * self.shape[0]


def darknet_layers(module: nn.Module) -> list[DarknetLayer]:
  """The convolutions of a network in the order in which they are called.

  That is the order of a darknet configuration file if the module calls its
  layers as the file lists them.

  Args:
    module: a network whose `apply` returns (output, endpoints).

  Returns:
    One `DarknetLayer` per convolution; batch normalisation belongs to the
    convolution called just before it.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> layers = weights.darknet_layers(backbones.darknet53())
    >>> len(layers), layers[1].conv, layers[-1].norm
    (53, 'stage1.down.conv', None)
  """
  shapes = convert.torch_shapes(module)
  rows = inspection.layer_table(module)
  found = []
  for row, after in zip(rows, [*rows[1:], None], strict=True):
    if row.kind == "Conv":
      normed = after is not None and after.kind == "BatchNorm"
      norm = after.name if after is not None and normed else None
      found.append(DarknetLayer(row.name, norm, shapes[f"{row.name}.weight"]))
  return found


def read_darknet(
  path: str | os.PathLike[str], layers: Sequence[DarknetLayer]
) -> dict[str, np.ndarray]:
  """Reads a file of darknet as a state dict.

  Args:
    path: a ``.weights`` file, or one cut after some layers (``.conv.74``).
    layers: the convolutions in the file, all of them, in order.

  Returns:
    name -> float32 array in torch's names and layout, read-only.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if it is no file of darknet, or its size is not that of the
      layers: truncated, or of another model.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.weights")
    >>> header = np.array([0, 2, 0, 64, 0], "<i4").tobytes()
    >>> content = header + np.arange(8, dtype="<f4").tobytes()
    >>> with open(path, "wb") as file: _ = file.write(content)
    >>> layers = [weights.DarknetLayer("fc", None, (2, 3, 1, 1))]
    >>> state = weights.read_darknet(path, layers)
    >>> print(state["fc.bias"], state["fc.weight"].ravel())
    [0. 1.] [2. 3. 4. 5. 6. 7.]

  Source:
    load_weights_upto in parser.c of github.com/pjreddie/darknet.
  """
  path = Path(path)
  header = _header_size(path)
  size, ends = path.stat().st_size, np.cumsum([layer.size for layer in layers])
  expected = header + 4 * int(ends[-1])
  if size != expected:
    raise WeightsError(
      f"{path}: has {size} bytes, expected {expected} for the {len(layers)} "
      f"convolutions of the model: {_mismatch(size - header, ends, layers)}."
    )
  values = np.fromfile(path, "<f4", offset=header)
  values.flags.writeable = False
  state: dict[str, np.ndarray] = {}
  for layer, end in zip(layers, ends, strict=True):
    rest = values[end - layer.size : end]
    out = layer.shape[0]
    names = [f"{layer.conv}.bias"]
    if layer.norm is not None:
      leaves = ("bias", "weight", "running_mean", "running_var")
      names = [f"{layer.norm}.{leaf}" for leaf in leaves]
    for name in names:
      state[name], rest = rest[:out], rest[out:]
    state[f"{layer.conv}.weight"] = rest.reshape(layer.shape)
  return state


def from_darknet(
  name: str,
  source: str | os.PathLike[str],
  *,
  num_classes: int | None = None,
  dtype: Any = jnp.float32,
  **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """Makes a backbone with weights of darknet.

  Args:
    name: name of the model: "darknet53".
    source: a ``.weights`` file; or one that ends before the classifier, such
      as ``darknet53.conv.74``, for the features alone.
    num_classes: length of the logits; by default that of the file, which its
      size tells. 0 drops the classifier of the module and of the weights.
    dtype: floating type of the parameters; batch statistics stay float32.
    **arguments: further arguments of the constructor.

  Returns:
    (module, variables).

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if the model is unknown, the file is broken or that of
      another model, or values are NaN or infinite.

  Example:
    >>> from vision_jax import weights
    >>> weights.from_darknet("darknet53", "none.weights")
    Traceback (most recent call last):
    ...
    vision_jax.weights.errors.WeightsNotFoundError: none.weights: there is...

  Source:
    cfg/darknet53.cfg of github.com/pjreddie/darknet.
  """
  constructor = backbones.MODELS.get(name)
  if constructor is not backbones.darknet53:
    raise WeightsError(
      f"from_darknet: `name` must be 'darknet53', got {name!r}; weights of "
      "other models are read by from_torchvision or from_keras."
    )
  path = Path(source)
  layers = darknet_layers(constructor(1, **arguments))
  header = _header_size(path)
  numbers = sum(layer.size for layer in layers[:-1])
  rest = (path.stat().st_size - header) // 4 - numbers
  in_file = rest // layers[-1].size
  if in_file < 0 or rest % layers[-1].size:
    in_file = 1000  # no number of classes fits: the error is about this one
  if num_classes:
    in_file = num_classes
  head = layers.pop()
  if in_file:
    layers.append(head._replace(shape=(in_file, *head.shape[1:])))
  state = read_darknet(path, layers)
  if num_classes == 0:
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
  classes = None if num_classes == 0 else in_file or None
  module = constructor(classes, **arguments)
  where = f"from_darknet({name!r})"
  return module, convert.to_variables(module, state, where=where, dtype=dtype)


def _header_size(path: Path) -> int:
  """Bytes before the first number; checks that this can be a header."""
  start = first_bytes(path)
  if len(start) < 12:
    raise WeightsError(f"{path}: is truncated ({len(start)} bytes).")
  major, minor, revision = struct.unpack("<3i", start[:12])
  if not (0 <= major < 1000 and 0 <= minor < 1000 and 0 <= revision < 1000):
    raise WeightsError(
      f"{path}: is not a file of darknet: its version would be "
      f"{major}.{minor}.{revision}."
    )
  return 20 if 10 * major + minor >= 2 else 16


def _mismatch(
  size: int, ends: np.ndarray, layers: Sequence[DarknetLayer]
) -> str:
  """Where the stream of `size` bytes leaves the list of layers."""
  if size >= 4 * ends[-1]:
    return f"{size - 4 * ends[-1]} bytes are left over, of another model"
  index = int(np.searchsorted(4 * ends, size, "right"))
  if index and size == 4 * ends[index - 1]:
    return f"it ends after {index} of them, a part of the weights"
  return (
    f"it ends inside number {index + 1}, {layers[index].conv!r}, truncated or "
    "of another model"
  )

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vision_jax.nn import backbones, inspection
from vision_jax.systems import yolo
from vision_jax.weights import convert
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.readers import first_bytes

__all__ = [
  "DarknetHeader",
  "DarknetLayer",
  "darknet_layers",
  "from_darknet",
  "read_darknet",
  "read_darknet_header",
  "write_darknet",
]


class DarknetHeader(NamedTuple):
  """The beginning of a file.

  Attributes:
    major: of the version.
    minor: of the version.
    revision: of the version.
    seen: how many images the network was trained on.

  Example:
    >>> from vision_jax import weights
    >>> weights.DarknetHeader().size
    20
  """

  major: int = 0
  minor: int = 2
  revision: int = 0
  seen: int = 0

  @property
  def size(self) -> int:
    """Bytes before the first number."""
    return 20 if 10 * self.major + self.minor >= 2 else 16

  def to_bytes(self) -> bytes:
    """As the file has it."""
    layout = "<3iQ" if self.size == 20 else "<3ii"
    return struct.pack(layout, *self)


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

  Source:
    The order of darknet's .cfg and .weights files (Redmon and Farhadi, arXiv
    1804.02767).
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
  header = read_darknet_header(path).size
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
    for name, shape in _arrays(layer):
      count = math.prod(shape)
      state[name], rest = rest[:count].reshape(shape), rest[count:]
  return state


def read_darknet_header(path: str | os.PathLike[str]) -> DarknetHeader:
  """Reads the version and the number of images seen.

  Args:
    path: a file of darknet.

  Returns:
    The header.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if this can be no header.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.weights")
    >>> with open(path, "wb") as file:
    ...   _ = file.write(weights.DarknetHeader(seen=64).to_bytes())
    >>> weights.read_darknet_header(path).seen
    64

  Source:
    load_weights_upto in parser.c of github.com/pjreddie/darknet.
  """
  path = Path(path)
  start = first_bytes(path)
  if len(start) < 12:
    raise WeightsError(f"{path}: is truncated ({len(start)} bytes).")
  header = DarknetHeader(*struct.unpack("<3i", start[:12]))
  if not all(0 <= number < 1000 for number in header[:3]):
    raise WeightsError(
      f"{path}: is not a file of darknet: its version would be "
      f"{header.major}.{header.minor}.{header.revision}."
    )
  seen = start[12 : header.size]
  if len(seen) < header.size - 12:
    raise WeightsError(f"{path}: is truncated ({len(start)} bytes).")
  return header._replace(seen=int.from_bytes(seen, "little"))


def write_darknet(
  path: str | os.PathLike[str],
  state: Mapping[str, Any],
  layers: Sequence[DarknetLayer],
  *,
  header: DarknetHeader | None = None,
) -> None:
  """Writes a state dict as a file that darknet reads.

  `read_darknet` and `write_darknet` are inverse to each other, bit by bit.

  Args:
    path: file to write; it appears whole or not at all.
    state: name -> array in torch's names and layout, as
      `variables_to_state_dict` gives it.
    layers: the convolutions in order, as `darknet_layers` gives them.
    header: version and number of images; version 0.2.0 by default.

  Raises:
    WeightsError: if arrays are missing, left over or of another shape.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.weights")
    >>> layers = [weights.DarknetLayer("fc", None, (2, 3, 1, 1))]
    >>> state = {"fc.bias": np.ones(2), "fc.weight": np.ones((2, 3, 1, 1))}
    >>> weights.write_darknet(path, state, layers)
    >>> os.path.getsize(path)
    52

  Source:
    save_weights_upto in parser.c of github.com/pjreddie/darknet.
  """
  shapes = {name: shape for layer in layers for name, shape in _arrays(layer)}
  found = {name: np.shape(array) for name, array in state.items()}
  convert.check_fit(shapes, found, {n: n for n in found}, "write_darknet")
  parts = [(header or DarknetHeader()).to_bytes()]
  parts += [np.asarray(state[n], "<f4").tobytes() for n in shapes]
  path = Path(path)
  partial = path.with_name(path.name + ".part")
  partial.write_bytes(b"".join(parts))
  os.replace(partial, path)


def _arrays(layer: DarknetLayer) -> list[tuple[str, tuple[int, ...]]]:
  """(name, shape) of the arrays of a convolution in the order of the file."""
  names = [f"{layer.conv}.bias"]
  if layer.norm is not None:
    leaves = ("bias", "weight", "running_mean", "running_var")
    names = [f"{layer.norm}.{leaf}" for leaf in leaves]
  vectors = [(name, layer.shape[:1]) for name in names]
  return [*vectors, (f"{layer.conv}.weight", layer.shape)]


def from_darknet(
  name: str,
  source: str | os.PathLike[str],
  *,
  num_classes: int | None = None,
  dtype: Any = jnp.float32,
  **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """Makes a backbone or a detector with weights of darknet.

  Args:
    name: "darknet53", "yolov3", "yolov3_spp" or "yolov3_tiny".
    source: a ``.weights`` file; or, of darknet53, one that ends before the
      classifier, such as ``darknet53.conv.74``, for the features alone.
    num_classes: number of classes; by default that of the file, which its
      size tells. 0 drops the classifier of darknet53.
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
    cfg/darknet53.cfg, yolov3.cfg, yolov3-spp.cfg and yolov3-tiny.cfg of
    github.com/pjreddie/darknet.
  """
  known = {"darknet53": backbones.MODELS["darknet53"], **yolo.MODELS}
  if name not in known:
    raise WeightsError(
      f"from_darknet: `name` must be one of {', '.join(known)}, got {name!r}; "
      "weights of other models are read by from_torchvision or from_keras."
    )
  constructor, path = known[name], Path(source)
  is_backbone = name == "darknet53"
  numbers = (_path_size(path) - read_darknet_header(path).size) // 4
  layers_of = _layers_by_classes(constructor, arguments)
  in_file = num_classes or _classes_in(numbers, layers_of)
  if in_file is None:  # the error is about the usual number
    in_file = 1000 if is_backbone else 80
  layers = layers_of(in_file)
  if not in_file:
    layers.pop()
  state = read_darknet(path, layers)
  if is_backbone and num_classes == 0:
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
  classes = None if num_classes == 0 else in_file or None
  module = constructor(classes, **arguments)
  where = f"from_darknet({name!r})"
  return module, convert.to_variables(module, state, where=where, dtype=dtype)


def _path_size(path: Path) -> int:
  """Bytes of a file, which must be there."""
  first_bytes(path)  # raises as every reader does
  return path.stat().st_size


def _layers_by_classes(
  constructor: Callable[..., nn.Module], arguments: Mapping[str, Any]
) -> Callable[[int], list[DarknetLayer]]:
  """Number of classes -> the layers; heads are linear in the number."""
  one = darknet_layers(constructor(1, **arguments))
  two = darknet_layers(constructor(2, **arguments))

  def layers_of(number: int) -> list[DarknetLayer]:
    found = []
    for a, b in zip(one, two, strict=True):
      more = b.shape[0] - a.shape[0]
      out = a.shape[0] + more * (number - 1)
      found.append(a._replace(shape=(out, *a.shape[1:])))
    return found

  return layers_of


def _classes_in(
  numbers: int, layers_of: Callable[[int], list[DarknetLayer]]
) -> int | None:
  """The classes for which a model has so many numbers, or None."""
  none, one = (sum(layer.size for layer in layers_of(k)) for k in (0, 1))
  classes, rest = divmod(numbers - none, one - none)
  return None if rest or classes < 0 else classes


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

"""Random weights that depend on names and a seed, not on a framework.

Each array is drawn by its own counter-based generator, keyed by the seed and
the torch name of the parameter. So the same numbers can be given to a torch
model and to ours without storing them, and adding a layer changes no other.
All draws are uniform, made from random bits by exact arithmetic, so that they
are the same on every machine.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from vision_jax.weights import convert

__all__ = ["random_array", "random_state_dict", "random_variables"]

# Residual branches are damped, so that sums over many blocks stay in range:
# the last BatchNorm of a block of ResNet, MobileNet, Darknet, Xception.
_DAMPED = {
  re.compile(r"layer\d+\.\d+\.bn2\.weight$"): 0.5,
  re.compile(r"layer\d+\.\d+\.bn3\.weight$"): 0.3,
  re.compile(r"features\.\d+\.conv\.3\.weight$"): 0.5,
  re.compile(r"(features|backbone)\.\d+\.block\.[23]\.1\.weight$"): 0.75,
  re.compile(r"stage\d\.\d\.conv2\.norm\.weight$"): 0.3,
  re.compile(r"block(\d|1[0-3])_sepconv[23]_bn\.weight$"): 0.3,
}


def random_array(
  name: str, shape: Sequence[int], *, seed: int = 0
) -> np.ndarray:
  """Draws one parameter from (seed, name, shape) alone.

  Everything is uniform: kernels with mean 0 and variance 2 / fan_in (He),
  BatchNorm scales in [0.7, 1.3], variances in [0.5, 1.5], biases and means in
  [-0.2, 0.2]. The last scale of a residual block is damped.

  Args:
    name: torch name, for example "layer1.0.conv1.weight".
    shape: torch shape, for example (out, in, height, width).
    seed: any integer.

  Returns:
    float32 array of that shape; int64 0 for "num_batches_tracked".

  Example:
    >>> from vision_jax import weights
    >>> a = weights.random_array("conv1.weight", (8, 3, 5, 5), seed=1)
    >>> b = weights.random_array("conv1.weight", (8, 3, 5, 5), seed=1)
    >>> a.dtype.name, bool((a == b).all())
    ('float32', True)

  Source:
    He et al., "Delving Deep into Rectifiers", 2015, section 2.2; Salmon et
    al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Philox).
  """
  shape = tuple(shape)
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
  values = _uniform(int.from_bytes(digest, "little"), math.prod(shape))
  if len(shape) > 1:
    bound = math.sqrt(6 / math.prod(shape[1:]))
    low, high = -bound, bound
  elif name.endswith("running_var"):
    low, high = 0.5, 1.5
  elif name.endswith("weight"):
    damping = next((v for p, v in _DAMPED.items() if p.search(name)), 1.0)
    low, high = 0.7 * damping, 1.3 * damping
  else:
    low, high = -0.2, 0.2
  values *= np.float32(high - low)
  values += np.float32(low)
  return values.reshape(shape)


def _uniform(key: int, size: int) -> np.ndarray:
  """Uniform float32 in [0, 1): 24 of every 32 bits, an exact quotient."""
  generator = np.random.Generator(np.random.Philox(key=key))
  return generator.random(size, np.float32)


def random_state_dict(
  shapes: Mapping[str, Sequence[int]], *, seed: int = 0
) -> dict[str, np.ndarray]:
  """Draws all the parameters of a state dict.

  Args:
    shapes: torch name -> torch shape.
    seed: any integer.

  Returns:
    torch name -> array, as `random_array` draws it.

  Example:
    >>> from vision_jax import weights
    >>> shapes = {"fc.weight": (2, 3), "fc.bias": (2,)}
    >>> state = weights.random_state_dict(shapes)
    >>> {name: array.shape for name, array in state.items()}
    {'fc.weight': (2, 3), 'fc.bias': (2,)}

  Source:
    Interface of this library.
  """
  return {
    name: random_array(name, shape, seed=seed) for name, shape in shapes.items()
  }


def random_variables(module: nn.Module, *, seed: int = 0) -> dict[str, Any]:
  """Draws all the variables of a backbone, BatchNorm statistics included.

  A control without learning, and the weights of the tests against torch.

  Args:
    module: a backbone of `vision_jax.nn.backbones`.
    seed: any integer.

  Returns:
    Variables {"params": ..., "batch_stats": ...} of float32 arrays.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> variables = weights.random_variables(backbones.resnet18(), seed=3)
    >>> variables["params"]["fc"]["kernel"].shape
    (512, 1000)

  Source:
    Interface of this library.
  """
  target = convert.target_tree(module)
  return convert.to_variables(
    module,
    random_state_dict(convert.target_shapes(target), seed=seed),
    where="random_variables",
    target=target,
  )

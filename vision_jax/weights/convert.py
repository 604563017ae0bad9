"""State dicts of torch <-> variables of Flax, by name.

The tree of the Flax module decides: each of its leaves asks for one torch name,
its path joined by dots with the last part translated, and says how the array
must be turned.

=================  ================  =======================================
Flax leaf          torch leaf        layout, Flax <- torch
=================  ================  =======================================
``kernel``, 3-5D   ``weight``        [spatial..., in, out] <- [out, in, ...]
``kernel``, 2D     ``weight``        [in, out] <- [out, in]; a layer behind a
                                     flattened map: [(H, W, C), out] <-
                                     [out, (C, H, W)]
``scale``          ``weight``        same
``bias``           ``bias``          same
``mean``           ``running_mean``  same
``var``            ``running_var``   same
=================  ================  =======================================
"""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.weights import names as names_lib
from vision_jax.weights.errors import WeightsError, mismatch_error

__all__ = [
  "state_dict_to_variables",
  "torch_shapes",
  "variables_to_state_dict",
]

# Flax leaf -> torch leaf; any other leaf has the same name in both.
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
_COUNTER = "num_batches_tracked"  # no use here: momentum is fixed

FlattenShapes = Mapping[str, tuple[int, int, int]]


def torch_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the parameters as torchvision's state dict has them.

  Args:
    module: a backbone of `vision_jax.nn.backbones`.

  Returns:
    torch name -> torch shape (kernels OIHW), without "num_batches_tracked".

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> shapes = weights.torch_shapes(backbones.vgg11())
    >>> shapes["features.3.weight"], shapes["classifier.6.weight"]
    ((128, 64, 3, 3), (1000, 4096))

  Source:
    The names and layouts of torchvision's state dicts, version 0.28.
  """
  return target_shapes(target_tree(module))


def state_dict_to_variables(
  module: nn.Module,
  state_dict: Mapping[str, Any],
  *,
  dtype: Any = jnp.float32,
) -> dict[str, Any]:
  """Gives the arrays of a torch state dict to a Flax module.

  Nothing may be missing and nothing left over; old names are understood (see
  `current_name`); "num_batches_tracked" is ignored.

  Args:
    module: a backbone of `vision_jax.nn.backbones`.
    state_dict: torch name -> array, torch layout (kernels OIHW).
    dtype: floating type of the parameters; batch statistics stay float32.

  Returns:
    Variables {"params": ..., "batch_stats": ...}.

  Raises:
    WeightsMismatchError: if names or shapes differ; lists both sides.
    WeightsError: if an array holds NaN or infinity.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> module = backbones.resnet18()
    >>> state = weights.random_state_dict(weights.torch_shapes(module))
    >>> variables = weights.state_dict_to_variables(module, state)
    >>> variables["params"]["layer1"]["0"]["conv1"]["kernel"].shape
    (3, 3, 64, 64)

  Source:
    The names and layouts of torchvision's state dicts, version 0.28.
  """
  return to_variables(
    module, state_dict, where="state_dict_to_variables", dtype=dtype
  )


def variables_to_state_dict(
  module: nn.Module, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Gives the variables of a Flax module torch's names and layout.

  Args:
    module: the module that the variables belong to.
    variables: {"params": ..., "batch_stats": ...}.

  Returns:
    torch name -> array, torch layout; without "num_batches_tracked".

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> module = backbones.resnet18()
    >>> variables = weights.random_variables(module)
    >>> state = weights.variables_to_state_dict(module, variables)
    >>> state["conv1.weight"].shape
    (64, 3, 7, 7)

  Source:
    The names and layouts of torchvision's state dicts, version 0.28.
  """
  return to_state_dict(variables, flatten_shapes(module))


def to_variables(
  module: nn.Module,
  state_dict: Mapping[str, Any],
  *,
  where: str,
  dtype: Any = jnp.float32,
  target: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """As `state_dict_to_variables`; `target` saves tracing the module again."""
  target = target_tree(module) if target is None else target
  flatten = flatten_shapes(module)
  given = given_names(state_dict, where=where)
  found = {new: np.shape(state_dict[old]) for new, old in given.items()}
  check_fit(target_shapes(target), found, given, where)
  variables: dict[str, Any] = {collection: {} for collection in target}
  for collection, path, _ in leaves(target):
    name = torch_name(path)
    array = np.asarray(state_dict[given[name]])
    _check_finite(array, given[name], where)
    array = _to_flax(array, path[-1], flatten.get(".".join(path[:-1])))
    kind = dtype if collection == "params" else jnp.float32
    _insert(variables[collection], path, jnp.asarray(array, kind))
  return variables


def to_state_dict(
  variables: Mapping[str, Any], flatten: FlattenShapes
) -> dict[str, np.ndarray]:
  """Inverse of `to_variables`, for a tree of any module."""
  state_dict = {}
  for _, path, leaf in leaves(variables):
    shape = flatten.get(".".join(path[:-1]))
    state_dict[torch_name(path)] = _to_torch(np.asarray(leaf), path[-1], shape)
  return state_dict


def to_tree(
  state_dict: Mapping[str, np.ndarray], flatten: FlattenShapes
) -> dict[str, Any]:
  """Variables from a state dict alone: the leaves tell what they are."""
  variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
  for name, array in state_dict.items():
    *parents, leaf = name.split(".")
    collection = "batch_stats" if leaf in _STATISTICS else "params"
    if leaf == "weight":
      leaf = "kernel" if array.ndim > 1 else "scale"
    leaf = _STATISTICS.get(leaf, leaf)
    array = _to_flax(array, leaf, flatten.get(".".join(parents)))
    _insert(variables[collection], (*parents, leaf), jnp.asarray(array))
  return {name: tree for name, tree in variables.items() if tree}


def target_tree(module: nn.Module) -> dict[str, Any]:
  """Shapes and types of the variables of a backbone; nothing is computed."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  return jax.eval_shape(
    functools.partial(module.init, train=False), key, images
  )


def target_shapes(target: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Torch name -> torch shape of every leaf of a target tree."""
  return {
    torch_name(path): _torch_shape(path[-1], leaf.shape)
    for _, path, leaf in leaves(target)
  }


def flatten_shapes(module: nn.Module) -> FlattenShapes:
  """Layers behind a flattened map -> its (H, W, C), as the module says."""
  method = getattr(module, "flatten_shapes", None)
  return dict(method()) if method is not None else {}


def torch_name(path: tuple[str, ...]) -> str:
  """The torch name of a leaf of a Flax tree."""
  return ".".join((*path[:-1], _LEAVES.get(path[-1], path[-1])))


def given_names(state_dict: Mapping[str, Any], *, where: str) -> dict[str, str]:
  """Today's name -> name in the state dict, without counters."""
  used = [n for n in state_dict if n.rpartition(".")[2] != _COUNTER]
  return names_lib.current_names(used, where=where)


def check_fit(
  expected: Mapping[str, tuple[int, ...]],
  found: Mapping[str, tuple[int, ...]],
  given: Mapping[str, str],
  where: str,
) -> None:
  """Raises unless names and shapes agree; `given`: name -> name in a file."""
  missing = [name for name in expected if name not in found]
  unused = [given[name] for name in found if name not in expected]
  shapes = {
    given[name]: (found[name], shape)
    for name, shape in expected.items()
    if name in found and found[name] != shape
  }
  if missing or unused or shapes:
    raise mismatch_error(where, missing, unused, shapes)


def leaves(
  tree: Mapping[str, Any],
) -> Iterator[tuple[str, tuple[str, ...], Any]]:
  """Yields (collection, path, leaf) of variables."""
  for collection, subtree in tree.items():
    for path, leaf in _walk(subtree, ()):
      yield collection, path, leaf


def _walk(
  tree: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
  for name, value in tree.items():
    if isinstance(value, Mapping):
      yield from _walk(value, (*path, name))
    else:
      yield (*path, name), value


def _insert(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = value


def _check_finite(array: np.ndarray, name: str, where: str) -> None:
  if array.dtype.kind in "cOSU":
    raise WeightsError(
      f"{where}: {name!r} must hold real numbers, got {array.dtype}."
    )
  if not np.isfinite(array).all():
    bad = array.size - int(np.isfinite(array).sum())
    raise WeightsError(
      f"{where}: {name!r} holds {bad} values that are NaN or infinite, of "
      f"{array.size}."
    )


def _torch_shape(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if leaf != "kernel" or len(shape) < 2:
    return tuple(shape)
  return (shape[-1], shape[-2], *shape[:-2])


def _to_flax(
  array: np.ndarray, leaf: str, flatten: tuple[int, int, int] | None
) -> np.ndarray:
  if leaf != "kernel" or array.ndim < 2:
    return array
  if flatten is not None:
    height, width, channels = flatten
    array = array.reshape(-1, channels, height, width)
    return array.transpose(2, 3, 1, 0).reshape(math.prod(flatten), -1)
  return array.transpose(*range(2, array.ndim), 1, 0)


def _to_torch(
  array: np.ndarray, leaf: str, flatten: tuple[int, int, int] | None
) -> np.ndarray:
  if leaf != "kernel" or array.ndim < 2:
    return array
  if flatten is not None:
    array = array.reshape(*flatten, -1).transpose(3, 2, 0, 1)
    return np.ascontiguousarray(array.reshape(len(array), -1))
  last = array.ndim - 1
  return np.ascontiguousarray(array.transpose(last, last - 1, *range(last - 1)))

"""Where the arrays of a state lie, and whether two states are alike.

With several processes a state is either on the devices of one process, the same
in each (pmap), or on all devices (shard_map). Files are written and read for
arrays on all devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["find_differences", "place_like", "signature", "target", "to_global"]


def signature(tree: Any) -> dict[str, list[Any]]:
  """Path -> [dtype, shape] of every leaf, as JSON holds it."""
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    leaves[jax.tree_util.keystr(path)] = [str(leaf.dtype), list(leaf.shape)]
  return leaves


def find_differences(
  saved: Mapping[str, list[Any]], wanted: Mapping[str, list[Any]]
) -> str | None:
  """What differs between two signatures, in words; None if nothing does."""
  problems = [
    f"{name} is not in the checkpoint" for name in wanted.keys() - saved
  ]
  problems += [
    f"{name} is in the checkpoint only" for name in saved.keys() - wanted
  ]
  problems += [
    f"{name} is {saved[name]} in the checkpoint, {wanted[name]} wanted"
    for name in saved.keys() & wanted.keys()
    if saved[name] != wanted[name]
  ]
  if not problems:
    return None
  # Statistics of the optimizer only repeat what differs in the parameters.
  problems.sort(key=lambda text: (text.startswith(".opt_state"), text))
  shown = "; ".join(problems[:4])
  return (
    f"it belongs to another model or optimizer ({len(problems)} differences): "
    f"{shown}"
  )


def to_global(tree: Any) -> Any:
  """The arrays on all devices of all processes, ready to be written.

  Args:
    tree: pytree of arrays, each the same in all processes.

  Returns:
    The tree; with several processes its leaves are replicated over all devices.
    Arrays that lie on all devices of their process are not copied.
  """
  if jax.process_count() == 1:
    return tree
  sharding = _everywhere()

  def convert(leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array):
      if not leaf.is_fully_addressable:
        return leaf
      if _is_key(leaf):
        data = convert(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
      shards = [shard.data for shard in leaf.addressable_shards]
      if leaf.is_fully_replicated and len(shards) == jax.local_device_count():
        return jax.make_array_from_single_device_arrays(
          leaf.shape, sharding, shards
        )
    host = np.asarray(leaf)
    return jax.make_array_from_process_local_data(sharding, host, host.shape)

  return jax.tree.map(convert, tree)


def target(tree: Any) -> Any:
  """What to read from files so that `place_like` can place it as `tree`.

  Args:
    tree: pytree of arrays or `jax.ShapeDtypeStruct`.

  Returns:
    The tree with `jax.ShapeDtypeStruct` for arrays; placed as they are, or on
    all devices where they are on those of this process only.
  """

  def convert(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
      return leaf
    sharding = leaf.sharding
    if sharding is None:
      sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if jax.process_count() > 1 and sharding.is_fully_addressable:
      sharding = _everywhere()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(convert, tree)


def place_like(tree: Any, like: Any) -> Any:
  """Moves what was read with `target(like)` to where `like` is."""
  if jax.process_count() == 1:
    return tree

  def convert(leaf: Any, wanted: Any) -> Any:
    if not isinstance(wanted, jax.Array | jax.ShapeDtypeStruct):
      return leaf
    sharding = wanted.sharding
    if sharding is None:
      sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if not sharding.is_fully_addressable:
      return leaf
    if _is_key(leaf):
      data = jax.device_put(np.asarray(jax.random.key_data(leaf)), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), sharding)

  return jax.tree.map(convert, tree, like)


def _everywhere() -> NamedSharding:
  """Replicated over all devices of all processes."""
  return NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec())


def _is_key(leaf: jax.Array) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

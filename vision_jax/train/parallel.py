"""One per-device function on many devices: the only user of pmap, shard_map.

A per-device function takes `(replicated, batch)` and returns a tree that it
made equal on all devices with collectives over `axis_name`. Here it gets its
global batch cut into equal parts and its replicated input placed, under any of

* `"pmap"`: `jax.pmap`, the default of the project;
* `"shard_map"`: `jit(jax.shard_map(..., check_vma=False))`;
* `"vmap"`: `jit(jax.vmap(..., axis_name))`, parts of the batch on one device.

Under `check_vma=True` differentiation sums gradients over devices by itself,
under the three above it does not; `step.py` uses the rule right for all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["BACKENDS", "DataParallel"]

BACKENDS = ("pmap", "shard_map", "vmap")


class DataParallel:
  """Callable `(replicated, batch) -> replicated` over several devices.

  Attributes:
    devices: the devices; under "vmap" only the first computes, and their number
      is the number of parts.
  """

  def __init__(
    self,
    function: Callable[[Any, Any], Any],
    *,
    name: str = "step",
    backend: str = "pmap",
    axis_name: str = "batch",
    devices: Sequence[jax.Device] | None = None,
    donate: bool = False,
  ):
    """Wraps `function`; see the class.

    Args:
      function: per-device function of `(replicated, part of the batch)`.
      name: what error messages call the function.
      backend: one of `BACKENDS`.
      axis_name: name of the device axis for collectives in `function`.
      devices: devices to use, all of `jax.devices()` if None.
      donate: whether the buffers of the replicated input are given up.

    Raises:
      ValueError: on an unknown backend or an empty list of devices.
    """
    if backend not in BACKENDS:
      raise ValueError(
        f"make_{name}: `backend` must be one of {', '.join(BACKENDS)}, got "
        f"{backend!r}."
      )
    self.devices = list(jax.devices() if devices is None else devices)
    if not self.devices:
      raise ValueError(f"make_{name}: `devices` must not be empty, got [].")
    self._name = name
    self._stacked = backend != "shard_map"
    donated = (0,) if donate and backend != "vmap" else ()
    self._copy = bool(donated)
    if backend == "vmap":
      mesh = Mesh(np.array(self.devices[:1]), (axis_name,))
      self._split_sharding = NamedSharding(mesh, PartitionSpec())
      self._call = jax.jit(
        jax.vmap(
          function, axis_name=axis_name, in_axes=(None, 0), out_axes=None
        )
      )
    else:
      mesh = Mesh(np.array(self.devices), (axis_name,))
      self._split_sharding = NamedSharding(mesh, PartitionSpec(axis_name))
      if backend == "pmap":
        self._call = jax.pmap(
          function,
          axis_name=axis_name,
          in_axes=(None, 0),
          out_axes=None,
          devices=self.devices,
          donate_argnums=donated,
        )
      else:
        self._call = jax.jit(
          jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(axis_name)),
            out_specs=PartitionSpec(),
            check_vma=False,
          ),
          donate_argnums=donated,
        )
    self._replicated = NamedSharding(mesh, PartitionSpec())

  def __call__(self, replicated: Any, batch: Any) -> Any:
    """Runs the function on the global batch."""
    batch = self.split(batch)
    return self._call(self.place(replicated), batch)

  def place(self, tree: Any) -> Any:
    """`tree` on all devices; leaves that are there already are not touched.

    With donation, other leaves are copied first, so that the caller's arrays
    (model variables, say) never share a buffer that a step gives up.
    """
    return jax.tree.map(self._place_leaf, tree)

  def _place_leaf(self, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array):
      if leaf.is_deleted():
        raise RuntimeError(
          f"{self._name}: `state` was used by an earlier call, which gave up "
          "its buffers; keep the returned state, or pass donate=False."
        )
      if leaf.sharding == self._replicated:
        return leaf
      if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = self._place_leaf(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.array(leaf) if self._copy else leaf
    return jax.device_put(host, self._replicated)

  def split(self, batch: Any) -> Any:
    """Global batch, leaves [B, ...], cut into one part per device.

    Args:
      batch: pytree of NumPy or JAX arrays with the same first axis.

    Returns:
      The batch on the devices; leaves [N, B / N, ...], or [B, ...] sharded over
      the first axis for shard_map.

    Raises:
      ValueError: if a leaf has no first axis, first axes differ, or the batch
        size is not a positive multiple of the number of devices.
      TypeError: if a leaf does not hold numbers.
    """
    size = self._batch_size(batch)
    number = len(self.devices)
    if size == 0 or size % number:
      near = sorted(
        {max(size // number, 1) * number, -(-size // number) * number}
      )
      near = [n for n in near if n] or [number]
      raise ValueError(
        f"{self._name}: `batch` must hold a positive multiple of {number} "
        f"examples, one part for each of {number} devices, got {size} "
        f"examples; use {' or '.join(map(str, near))}."
      )

    def put(leaf: Any) -> jax.Array:
      if self._stacked:
        leaf = leaf.reshape((number, size // number, *leaf.shape[1:]))
      return jax.device_put(leaf, self._split_sharding)

    return jax.tree.map(
      lambda a: put(a if isinstance(a, jax.Array) else np.asarray(a)), batch
    )

  def _batch_size(self, batch: Any) -> int:
    """The common first axis of all leaves."""
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
      name = jax.tree_util.keystr(path) or "batch"
      shape = np.shape(leaf)
      if not shape:
        raise ValueError(
          f"{self._name}: `batch` must have leaves [B, ...], got a scalar at "
          f"{name}; repeat it once for each example."
        )
      if (
        not isinstance(leaf, jax.Array)
        and np.asarray(leaf).dtype.kind in "OUSMm"
      ):
        raise TypeError(
          f"{self._name}: `batch` must hold numbers, got dtype "
          f"{np.asarray(leaf).dtype} at {name}; drop that entry."
        )
      sizes[name] = shape[0]
    if len(set(sizes.values())) != 1:
      raise ValueError(
        f"{self._name}: `batch` must have leaves of one batch size, got "
        f"{sizes or 'no leaves'}."
      )
    return next(iter(sizes.values()))

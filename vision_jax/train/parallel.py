"""One per-device function on many devices: the only user of pmap, shard_map.

A per-device function takes `(replicated, batch)` and returns a tree that it
made equal on all devices with collectives over `axis_name`. Here it gets its
global batch cut into equal parts and its replicated input placed, under any of

* `"pmap"`: `jax.pmap`, the default of the project;
* `"shard_map"`: `jit(jax.shard_map(..., check_vma=False))`;
* `"vmap"`: `jit(jax.vmap(..., axis_name))`, parts of the batch on one device.

Under `check_vma=True` differentiation sums gradients over devices by itself,
under the three above it does not; `step.py` uses the rule right for all.

Several processes: each gives the part of the batch for its own devices, and the
parts follow each other in the order of the processes. Replicated input is the
same everywhere (checked when it is placed). pmap takes and returns arrays on
the devices of one process, shard_map arrays on all devices.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax.train import distributed

__all__ = ["BACKENDS", "DataParallel", "PlacedBatch"]

BACKENDS = ("pmap", "shard_map", "vmap")


class PlacedBatch(NamedTuple):
  """A batch that lies on the devices already.

  Attributes:
    arrays: its parts, as `DataParallel.put` makes them.
    rows: examples of this process.
  """

  arrays: Any
  rows: int


class DataParallel:
  """Callable `(replicated, batch) -> replicated` over several devices.

  Attributes:
    devices: the devices of this process; their number is that of the parts into
      which its batch is cut. Under "vmap" only the first one computes.
    several: whether devices of other processes work with them.
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
      devices: devices to use, all of `jax.devices()` if None; with several
        processes the same list in each, with equally many of each process (or
        devices of this process only, which then works by itself).
      donate: whether the buffers of the replicated input are given up.

    Raises:
      ValueError: on an unknown backend, an empty list of devices, or devices
        that are not shared out evenly.
    """
    if backend not in BACKENDS:
      raise ValueError(
        f"make_{name}: `backend` must be one of {', '.join(BACKENDS)}, got "
        f"{backend!r}."
      )
    everywhere = list(jax.devices() if devices is None else devices)
    if not everywhere:
      raise ValueError(f"make_{name}: `devices` must not be empty, got [].")
    # Rows of one process lie together, whatever the topology's order is.
    everywhere.sort(key=lambda device: device.process_index)
    own = jax.process_index()
    self.devices = [d for d in everywhere if d.process_index == own]
    self.several = len(self.devices) != len(everywhere)
    if self.several:
      _check_devices(name, backend, everywhere)
    self._name = name
    self._stacked = backend != "shard_map"
    donated = (0,) if donate and backend != "vmap" else ()
    self._copy = bool(donated)
    self._agreed = not self.several
    # On the CPU programs with collectives that wait for each other use up the
    # threads; a few dozen in flight never end.
    self._waits = everywhere[0].platform == "cpu" and len(everywhere) > 1
    if backend == "vmap":
      mesh = Mesh(np.array(self.devices[:1]), (axis_name,))
      split = PartitionSpec()
      self._call = jax.jit(
        jax.vmap(
          function, axis_name=axis_name, in_axes=(None, 0), out_axes=None
        )
      )
    elif backend == "pmap":
      mesh = Mesh(np.array(self.devices), (axis_name,))
      split = PartitionSpec(axis_name)
      self._call = jax.pmap(
        function,
        axis_name=axis_name,
        in_axes=(None, 0),
        out_axes=None,
        devices=everywhere,
        donate_argnums=donated,
      )
    else:
      mesh = Mesh(np.array(everywhere), (axis_name,))
      split = PartitionSpec(axis_name)
      self._call = jax.jit(
        jax.shard_map(
          function,
          mesh=mesh,
          in_specs=(PartitionSpec(), split),
          out_specs=PartitionSpec(),
          check_vma=False,
        ),
        donate_argnums=donated,
      )
    self._split_sharding = NamedSharding(mesh, split)
    self._replicated = NamedSharding(mesh, PartitionSpec())

  def __call__(self, replicated: Any, batch: Any) -> Any:
    """Runs the function on the batch, of which this process has its part."""
    if not isinstance(batch, PlacedBatch):
      batch = self.put(batch)
    result = self._call(self.place(replicated), batch.arrays)
    return jax.block_until_ready(result) if self._waits else result

  def place(self, tree: Any) -> Any:
    """`tree` on all devices; leaves that are there already are not touched.

    With donation, other leaves are copied first, so that the caller's arrays
    (model variables, say) never share a buffer that a step gives up.

    Raises:
      ValueError: if the processes give different numbers.
    """
    if self.several:
      self._check_equal(tree)
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
    if self.several:
      host = np.array(leaf)
      return jax.make_array_from_process_local_data(
        self._replicated, host, host.shape
      )
    host = np.array(leaf) if self._copy else leaf
    return jax.device_put(host, self._replicated)

  def _check_equal(self, tree: Any) -> None:
    """Raises if processes are about to place different numbers."""
    crc = None
    for leaf in jax.tree.leaves(tree):
      if isinstance(leaf, jax.Array):
        if leaf.is_deleted() or leaf.sharding == self._replicated:
          continue
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
          leaf = jax.random.key_data(leaf)
      host = np.asarray(leaf)
      crc = zlib.crc32(f"{host.dtype}{host.shape}".encode(), crc or 0)
      crc = zlib.crc32(host.tobytes(), crc)
    if crc is not None and len(set(distributed.exchange(crc))) > 1:
      raise ValueError(
        f"{self._name}: `state` must be the same in all processes, got "
        "different numbers; use one seed and one file of weights everywhere."
      )

  def put(self, batch: Any) -> PlacedBatch:
    """Begins to copy a batch to the devices; a call takes what it returns.

    Args:
      batch: pytree of NumPy or JAX arrays with the same first axis.

    Returns:
      Its parts on the devices: leaves [N, B / N, ...] for N devices of this
      process; for shard_map [B, ...] sharded over the first axis, where B
      counts the rows of all processes.

    Raises:
      ValueError: if a leaf has no first axis, first axes differ, or the batch
        size is not a positive multiple of the number of devices, or not the
        same in all processes (looked at in the first call).
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
        f"examples, one part for each of {number} devices"
        f"{' of this process' if self.several else ''}, got {size} examples; "
        f"use {' or '.join(map(str, near))}."
      )
    if not self._agreed:
      sizes = distributed.exchange(size)
      if len(set(sizes)) > 1:
        raise ValueError(
          f"{self._name}: `batch` must have the same number of rows in every "
          f"process, got {sizes}; give each its share of the global batch."
        )
      self._agreed = True

    def put(leaf: Any) -> jax.Array:
      if self._stacked:
        leaf = leaf.reshape((number, size // number, *leaf.shape[1:]))
      elif self.several:
        return jax.make_array_from_process_local_data(
          self._split_sharding, np.asarray(leaf)
        )
      return jax.device_put(leaf, self._split_sharding)

    arrays = jax.tree.map(
      lambda a: put(a if isinstance(a, jax.Array) else np.asarray(a)), batch
    )
    return PlacedBatch(arrays, size)

  def lower(self, replicated: Any, batch: Any) -> Any:
    """The program for shapes alone, before compilation; nothing is placed.

    Args:
      replicated: as for a call; `jax.ShapeDtypeStruct` or arrays.
      batch: the same, of the whole batch of all processes.

    Returns:
      What `jax.jit(...).lower` returns. Its devices need not exist.

    Raises:
      ValueError: on another backend than "shard_map", which the other two are
        equal to.
    """
    if self._stacked:
      raise ValueError(
        f"{self._name}.lower: `backend` must be 'shard_map', got another one; "
        "its program is the same."
      )

    def placed(tree: Any, sharding: NamedSharding) -> Any:
      return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
        tree,
      )

    return self._call.lower(
      placed(replicated, self._replicated), placed(batch, self._split_sharding)
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


def _check_devices(
  name: str, backend: str, devices: Sequence[jax.Device]
) -> None:
  """Raises if several processes cannot work together on these devices."""
  if backend == "vmap":
    raise ValueError(
      f"make_{name}: `backend` must be 'pmap' or 'shard_map' with several "
      "processes, got 'vmap', which works on one device."
    )
  # Devices to compile for alone may be of processes that do not exist.
  last = max(device.process_index for device in devices)
  counts = [0] * max(jax.process_count(), last + 1)
  for device in devices:
    counts[device.process_index] += 1
  if len(set(counts)) > 1:
    raise ValueError(
      f"make_{name}: `devices` must hold equally many devices of every "
      f"process, got {counts}."
    )

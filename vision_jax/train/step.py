"""The data-parallel training step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vision_jax.train import optimizers
from vision_jax.train.parallel import DataParallel
from vision_jax.train.state import TrainState

__all__ = ["example_keys", "make_step"]

_RESERVED = ("loss", "grad_norm")
_AUX = ("batch_stats", "metrics")

LossFn = Callable[
  [Any, Any, Any, jax.Array],
  tuple[Mapping[str, tuple[Any, Any]], Mapping[str, Any] | None],
]
StepFn = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
  """One random key for each example, from its global index.

  A draw keyed by the global index is the same on one device and on many, in any
  batch order; a draw keyed by the device or the place in the batch is not.

  Args:
    key: typed key, shape []; in a loss function the key it is given, which
      already depends on the step.
    indices: global indices of the examples, integers [B].

  Returns:
    Typed keys [B].

  Raises:
    TypeError: if `indices` are not integers.
    ValueError: if `indices` is not [B].

  Example:
    >>> from vision_jax import train
    >>> keys = train.example_keys(jax.random.key(0), jnp.arange(4))
    >>> noise = jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys)
    >>> last = train.example_keys(jax.random.key(0), jnp.array([3]))[0]
    >>> bool((noise[3] == jax.random.normal(last, (2,))).all())
    True

  Source:
    Interface of this library.
  """
  indices = jnp.asarray(indices)
  if not jnp.issubdtype(indices.dtype, jnp.integer):
    raise TypeError(
      f"example_keys: `indices` must be integers, got dtype {indices.dtype}."
    )
  if indices.ndim != 1:
    raise ValueError(
      f"example_keys: `indices` must be [B], got shape {indices.shape}."
    )
  return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def make_step(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  *,
  backend: str = "pmap",
  axis_name: str = "batch",
  devices: Sequence[jax.Device] | None = None,
  donate: bool = True,
  accumulate: int = 1,
  ema_decay: float | None = None,
  ema_warmup: bool = True,
) -> StepFn:
  """Makes `step(state, batch) -> (state, metrics)` over several devices.

  `loss_fn(params, batch_stats, batch, key) -> ({term: (sum, count)}, aux)` is
  written for the part of the batch on one device and returns sums, never means:
  sums and counts are added over the devices and divided here, so a term over a
  varying number of valid items (boxes, points) is the mean over the whole batch
  on any number of devices. The loss is the sum of all terms; weights belong
  into the sums. Counts are constants: no gradient flows through them. A term
  with count 0 is 0 and has no gradient. `loss_fn` may use collectives over
  `axis_name` (`nn.BatchNorm(axis_name=...)`, `jax.lax.psum`,
  `jax.lax.all_gather` of descriptors).

  `aux` is None or a dict with the optional entries "batch_stats" (new running
  statistics, averaged over the devices) and "metrics" (`{name: (sum, count)}`,
  treated as the terms but not differentiated). `key` is
  `fold_in(state.key, state.step)`, the same on all devices: draw per example
  with `example_keys`.

  The gradient rule. Each device computes the same total loss L from sums over
  all devices. A collective's derivative adds what all devices send back, so the
  gradient on one device is N times its share of dL/dparams; the mean over the
  devices is dL/dparams exactly. This holds with collectives inside `loss_fn`,
  and under `shard_map(check_vma=True)` too, where the sum has happened already
  and the mean changes nothing.

  Accumulation. With `accumulate=k` the part of each device is cut into k
  micro-batches that are computed one after the other, with the memory of one.
  The update is that of the whole batch, also where micro-batches hold different
  numbers of valid items: their counts are added up first (for counts that
  depend on the batch only, this costs nothing; others cost one forward pass
  more), then gradients of sums over whole counts. Three things are of the
  micro-batch: batch normalisation, whose running statistics are updated k times
  in turn, as torch does; relations between examples of a batch (contrast); and
  draws from `key` that are not per example, which repeat.

  Averages. With `ema_decay=d` and a state from `create_state(..., ema=True)`,
  `state.ema` becomes d times itself plus 1 - d times the new parameters and
  running statistics. With `ema_warmup`, d is min(d, (1 + t) / (10 + t)) after t
  updates, so that the beginning is forgotten soon. `ema_state` gives a state to
  evaluate.

  Parts that `tx` has frozen (`scale_by_path`) are constants: no gradient is
  computed for them.

  Note:
    XLA for CPUs leaves the derivatives of convolutions inside loops in a slow
    form (some ten times slower). Accumulate there only where memory is short.

  Args:
    loss_fn: see above.
    tx: optax transformation; clipping and schedules belong into it.
    backend: "pmap", "shard_map", or "vmap" (all parts on the first device).
    axis_name: name of the device axis inside `loss_fn`.
    devices: devices to use; all if None.
    donate: whether a state that lies on the devices, as every returned state
      does, gives up its buffers to the next one. Then a state is used once. A
      state from elsewhere (`create_state`) is copied and stays usable. Never
      done under "vmap".
    accumulate: number of micro-batches of each device, at least 1.
    ema_decay: share of the averages that an update keeps, in (0, 1); None keeps
      no averages.
    ema_warmup: whether that share begins small.

  Returns:
    `step(state, batch)`; `batch` is a pytree of arrays [B, ...], the global
    batch, B a multiple of the number of devices times `accumulate`. `metrics`
    holds float scalars: each term, "loss", each metric and "grad_norm" (before
    `tx`, without frozen parts). `step.put(batch)` begins to copy a batch to the
    devices, for `data.prefetch_to_device`; a step takes what it returns.
    `step.lower(state, batch)` is the program for shapes alone, of the global
    batch, under "shard_map".

  Raises:
    ValueError: on an unknown backend or a number out of its range; `step`
      raises it for a batch that does not divide by the devices and
      micro-batches, a `loss_fn` with a wrong result, and a state that has
      averages where the step keeps none, or lacks them.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> def loss_fn(params, batch_stats, batch, key):
    ...   error = batch["x"] @ params["w"] - batch["y"]
    ...   return {"l2": ((error**2).sum(), error.shape[0])}, None
    >>> tx = optax.sgd(0.1)
    >>> params = {"w": jnp.zeros((2,))}
    >>> state = train.create_state(params, {}, tx, jax.random.key(0))
    >>> step = train.make_step(loss_fn, tx, devices=jax.devices()[:1])
    >>> batch = {"x": jnp.ones((4, 2)), "y": jnp.ones((4,))}
    >>> state, metrics = step(state, batch)
    >>> print(int(state.step), metrics["loss"], state.params["w"])
    1 1.0 [0.2 0.2]

  Source:
    The two patterns that hold under every wrapper were measured for this
    library; see the tests of this module.
  """
  if accumulate < 1:
    raise ValueError(
      f"make_step: `accumulate` must be at least 1, got {accumulate}."
    )
  if ema_decay is not None and not 0 < ema_decay < 1:
    raise ValueError(
      f"make_step: `ema_decay` must be in (0, 1) or None, got {ema_decay}."
    )
  run = DataParallel(
    _make_update(
      loss_fn,
      tx,
      axis_name,
      accumulate=accumulate,
      ema_decay=ema_decay,
      ema_warmup=ema_warmup,
    ),
    name="step",
    backend=backend,
    axis_name=axis_name,
    devices=devices,
    donate=donate,
  )

  def step(
    state: TrainState, batch: Any
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update with a global batch."""
    return run(state, batch)

  step.put = run.put  # type: ignore[attr-defined]
  step.lower = run.lower  # type: ignore[attr-defined]
  return step


def _make_update(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  axis_name: str,
  *,
  accumulate: int = 1,
  ema_decay: float | None = None,
  ema_warmup: bool = True,
) -> StepFn:
  """The per-device function, for any wrapper that binds `axis_name`."""

  def update(
    state: TrainState, batch: Any
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    _check_averages(state, ema_decay)
    trained = optimizers.trained_mask(tx, state.params)
    grads, (terms, pairs, stats) = _gradients(
      loss_fn, state, trained, batch, axis_name, accumulate
    )
    grads = jax.lax.pmean(grads, axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    stats = _mean_stats(stats, state.batch_stats, axis_name)
    ema = state.ema
    if ema_decay is not None:
      rate = jnp.asarray(1.0 - ema_decay)
      if ema_warmup:  # the share of the new is 9 / (10 + t) at first
        rate = jnp.maximum(rate, 9.0 / (10 + state.step))
      ema = _moved(ema, {"params": params, "batch_stats": stats}, rate)
    sums, counts = jax.lax.psum(_split(pairs), axis_name)
    metrics = {
      **terms,
      "loss": _total(terms),
      **_means(sums, counts),
      "grad_norm": optax.global_norm(grads),
    }
    new = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=stats,
      opt_state=opt_state,
      key=state.key,
      ema=ema,
    )
    return new, metrics

  return update


def _gradients(
  loss_fn: LossFn,
  state: TrainState,
  trained: Any,
  batch: Any,
  axis_name: str,
  accumulate: int,
) -> tuple[Any, tuple[dict[str, jax.Array], dict[str, Any], Any]]:
  """N times this device's share of dL/dparams, where `trained` is True.

  Beside it the terms (of all devices), the metrics' sums and counts, and the
  running statistics (both of this device).
  """
  key = jax.random.fold_in(state.key, state.step)

  def results(params: Any, batch_stats: Any, part: Any) -> Any:
    pairs, aux = loss_fn(params, batch_stats, part, key)
    return _checked_results(pairs, aux, batch_stats)

  def objective(
    chosen: Any, batch_stats: Any, part: Any, counts: Any
  ) -> tuple[jax.Array, Any]:
    params = optimizers.merge(trained, chosen, state.params)
    pairs, metrics, batch_stats = results(params, batch_stats, part)
    sums, own = _split(pairs)
    if counts is None:
      counts = jax.lax.psum(own, axis_name)
    terms = _means(jax.lax.psum(sums, axis_name), counts)
    return _total(terms), (terms, metrics, batch_stats)

  gradient = jax.grad(objective, has_aux=True)
  chosen = optimizers.select(trained, state.params)
  if accumulate == 1:
    return gradient(chosen, state.batch_stats, batch, None)

  # What the counts do not need is removed from this scan by the compiler.
  def count(batch_stats: Any, part: Any) -> tuple[Any, Any]:
    pairs, _, batch_stats = results(state.params, batch_stats, part)
    return batch_stats, _split(pairs)[1]

  def add(carry: Any, part: Any) -> tuple[Any, Any]:
    grads, batch_stats = carry
    new, (terms, metrics, batch_stats) = gradient(
      chosen, batch_stats, part, counts
    )
    return (jax.tree.map(jnp.add, grads, new), batch_stats), (terms, metrics)

  parts = _cut(batch, accumulate, axis_name)
  _, counts = jax.lax.scan(count, state.batch_stats, parts)
  counts = jax.lax.psum(_summed(counts), axis_name)
  zeros = jax.tree.map(jnp.zeros_like, chosen)
  (grads, stats), (terms, metrics) = jax.lax.scan(
    add, (zeros, state.batch_stats), parts
  )
  return grads, (*_summed((terms, metrics)), stats)


def _cut(batch: Any, number: int, axis_name: str) -> Any:
  """Leaves [b, ...] as [number, b / number, ...]."""
  size = jax.tree.leaves(batch)[0].shape[0]
  if size % number:
    devices = jax.lax.axis_size(axis_name)
    unit = devices * number
    near = size * devices // unit * unit
    wanted = " or ".join(str(n) for n in (near, near + unit) if n)
    raise ValueError(
      f"step: `batch` must hold a multiple of {unit} examples, {number} "
      f"micro-batches for each of {devices} devices, got {size * devices} "
      f"examples; use {wanted}."
    )
  return jax.tree.map(
    lambda a: a.reshape((number, size // number, *a.shape[1:])), batch
  )


def _checked_results(
  pairs: Mapping[str, tuple[Any, Any]],
  aux: Mapping[str, Any] | None,
  batch_stats: Any,
) -> tuple[dict[str, Any], dict[str, Any], Any]:
  """Terms, metrics and new running statistics, or an error that says why."""
  aux = dict(aux or {})
  if unknown := sorted(set(aux) - set(_AUX)):
    raise ValueError(
      f"make_step: `loss_fn` aux must have no entries but {list(_AUX)}, got "
      f"{unknown}."
    )
  terms = _checked_pairs(pairs, "terms")
  metrics = _checked_pairs(aux.get("metrics", {}), "metrics")
  if not terms:
    raise ValueError("make_step: `loss_fn` must return at least one term.")
  if clash := sorted(terms.keys() & metrics.keys()):
    raise ValueError(
      f"make_step: `loss_fn` must give terms and metrics different names, "
      f"got both for {clash}."
    )
  new = aux.get("batch_stats", batch_stats)
  found, wanted = (str(jax.tree.structure(s)) for s in (new, batch_stats))
  if found != wanted:
    raise ValueError(
      "make_step: `loss_fn` aux['batch_stats'] must have the tree of "
      f"state.batch_stats, {wanted}, got {found}; pass "
      "updates['batch_stats']."
    )
  stats = jax.tree.map(lambda n, o: n.astype(o.dtype), new, batch_stats)
  return terms, metrics, stats


def _checked_pairs(
  pairs: Mapping[str, tuple[Any, Any]], what: str
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Sums and counts as scalars of at least float32, counts without gradient."""
  checked = {}
  for name, pair in pairs.items():
    if name in _RESERVED:
      raise ValueError(
        f"make_step: `loss_fn` {what} must not be named {name!r}; that name "
        "is used for a result of the step."
      )
    shapes = [jnp.shape(value) for value in pair]
    if shapes != [(), ()]:
      raise ValueError(
        f"make_step: `loss_fn` {what} must map names to (sum, count), two "
        f"scalars, got shapes {shapes} for {name!r}; sum over the examples."
      )
    total, count = (_as_float(value) for value in pair)
    checked[name] = (total, jax.lax.stop_gradient(count))
  return checked


def _as_float(value: Any) -> jax.Array:
  """At least float32, so that sums of bfloat16 losses keep their digits."""
  value = jnp.asarray(value)
  return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _split(pairs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Sums and counts by name."""
  return (
    {name: total for name, (total, _) in pairs.items()},
    {name: count for name, (_, count) in pairs.items()},
  )


def _means(
  sums: Mapping[str, jax.Array], counts: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """Sums over counts; 0 where the count is 0."""
  means = {}
  for name, total in sums.items():
    filled = jnp.where(counts[name] == 0, 1.0, counts[name])
    means[name] = jnp.where(counts[name] == 0, 0.0, total / filled)
  return means


def _total(terms: Mapping[str, jax.Array]) -> jax.Array:
  """The loss: the sum of all terms."""
  return jnp.stack(list(terms.values())).sum()


def _summed(tree: Any) -> Any:
  """Sums over the first axis of every leaf."""
  return jax.tree.map(lambda a: a.sum(0), tree)


def _mean_stats(new: Any, old: Any, axis_name: str) -> Any:
  """Running statistics, averaged over the devices, in their dtypes.

  The changes are averaged: statistics that did not change keep their bits,
  which the mean of equal numbers does not promise.
  """
  changes = jax.lax.pmean(jax.tree.map(lambda n, o: n - o, new, old), axis_name)
  return jax.tree.map(lambda c, o: o + c.astype(o.dtype), changes, old)


def _moved(averages: Any, new: Any, rate: Any) -> Any:
  """Averages after a step of `rate` towards the new values."""

  def move(mean: jax.Array, leaf: jax.Array) -> jax.Array:
    if not jnp.issubdtype(mean.dtype, jnp.floating):
      return leaf
    difference = leaf.astype(mean.dtype) - mean
    return mean + jnp.asarray(rate, mean.dtype) * difference

  return jax.tree.map(move, averages, new)


def _check_averages(state: TrainState, ema_decay: float | None) -> None:
  """Raises unless the state has averages exactly if the step keeps them."""
  if ema_decay is not None and state.ema is None:
    raise ValueError(
      f"step: `state` must have moving averages for ema_decay={ema_decay}, got "
      "None; make it with create_state(..., ema=True)."
    )
  if ema_decay is None and state.ema is not None:
    raise ValueError(
      "step: `state` has moving averages that this step would leave behind; "
      "give make_step an `ema_decay`, or drop them by state._replace(ema=None)."
    )

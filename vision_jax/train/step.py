"""The data-parallel training step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

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
) -> StepFn:
  """Makes `step(state, batch) -> (state, metrics)` over several devices.

  `loss_fn(params, batch_stats, batch, key) -> ({term: (sum, count)}, aux)` is
  written for the part of the batch on one device and returns sums, never means:
  sums and counts are added over the devices and divided here, so a term over a
  varying number of valid items (boxes, points) is the mean over the whole batch
  on any number of devices. The loss is the sum of all terms; weights belong
  into the sums. A term with count 0 is 0 and has no gradient. `loss_fn` may use
  collectives over `axis_name` (`nn.BatchNorm(axis_name=...)`, `jax.lax.psum`,
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

  Returns:
    `step(state, batch)`; `batch` is a pytree of arrays [B, ...], the global
    batch, B a multiple of the number of devices. `metrics` holds float scalars:
    each term, "loss", each metric and "grad_norm" (before `tx`).

  Raises:
    ValueError: on an unknown backend; `step` raises it for a batch that does
      not divide by the devices and for a `loss_fn` with a wrong result.

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
  run = DataParallel(
    _make_update(loss_fn, tx, axis_name),
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

  return step


def _make_update(
  loss_fn: LossFn, tx: optax.GradientTransformation, axis_name: str
) -> StepFn:
  """The per-device function, for any wrapper that binds `axis_name`."""

  def update(
    state: TrainState, batch: Any
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(state.key, state.step)

    def objective(params: Any) -> tuple[jax.Array, Any]:
      pairs, aux = loss_fn(params, state.batch_stats, batch, key)
      terms = _global_means(pairs, "terms", axis_name)
      if not terms:
        raise ValueError("make_step: `loss_fn` must return at least one term.")
      return jnp.stack(list(terms.values())).sum(), (terms, _checked_aux(aux))

    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (terms, aux)), grads = gradient(state.params)
    grads = jax.lax.pmean(grads, axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics = _global_means(aux.get("metrics", {}), "metrics", axis_name)
    if clash := sorted(terms.keys() & metrics.keys()):
      raise ValueError(
        f"make_step: `loss_fn` must give terms and metrics different names, "
        f"got both for {clash}."
      )
    metrics = {**terms, "loss": loss, **metrics}
    metrics["grad_norm"] = optax.global_norm(grads)
    return TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=_mean_stats(aux, state.batch_stats, axis_name),
      opt_state=opt_state,
      key=state.key,
    ), metrics

  return update


def _global_means(
  pairs: Mapping[str, tuple[Any, Any]], what: str, axis_name: str
) -> dict[str, jax.Array]:
  """Sums over sum of counts, over all devices; 0 where the count is 0."""
  means = {}
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
    total, count = jax.lax.psum(tuple(_as_float(v) for v in pair), axis_name)
    filled = jnp.where(count == 0, 1.0, count)
    means[name] = jnp.where(count == 0, 0.0, total / filled)
  return means


def _as_float(value: Any) -> jax.Array:
  """At least float32, so that sums of bfloat16 losses keep their digits."""
  value = jnp.asarray(value)
  return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _checked_aux(aux: Mapping[str, Any] | None) -> dict[str, Any]:
  """`aux` as a dict, or an error that lists the known entries."""
  aux = dict(aux or {})
  if unknown := sorted(set(aux) - set(_AUX)):
    raise ValueError(
      f"make_step: `loss_fn` aux must have no entries but {list(_AUX)}, got "
      f"{unknown}."
    )
  return aux


def _mean_stats(aux: Mapping[str, Any], old: Any, axis_name: str) -> Any:
  """New running statistics, averaged over the devices, in the old dtypes."""
  new = aux.get("batch_stats", old)
  found, wanted = str(jax.tree.structure(new)), str(jax.tree.structure(old))
  if found != wanted:
    raise ValueError(
      "make_step: `loss_fn` aux['batch_stats'] must have the tree of "
      f"state.batch_stats, {wanted}, got {found}; pass "
      "updates['batch_stats']."
    )
  mean = jax.lax.pmean(new, axis_name)
  return jax.tree.map(lambda m, o: m.astype(o.dtype), mean, old)

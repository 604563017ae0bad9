"""The training state: everything that a restart needs, in one tuple."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["TrainState", "create_state", "ema_state"]


class TrainState(NamedTuple):
  """What one update reads and returns; a pytree.

  The state is never stacked over devices: it enters and leaves a step as plain
  arrays, the same on every device.

  Attributes:
    step: number of finished updates, int32 scalar.
    params: trained parameters, any pytree of arrays.
    batch_stats: running statistics of normalisation layers, `{}` if none.
    opt_state: state of the optax transformation.
    key: typed random key of the run. It never changes; randomness of one update
      comes from `fold_in(key, step)`.
    ema: moving averages `{"params": ..., "batch_stats": ...}`, at least
      float32, or None; see `make_step` and `ema_state`.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  key: jax.Array
  ema: Any = None


def create_state(
  params: Any,
  batch_stats: Any,
  tx: optax.GradientTransformation,
  key: jax.Array,
  *,
  ema: bool = False,
) -> TrainState:
  """State at step 0.

  Args:
    params: parameters, a pytree of arrays of any shapes (JAX or NumPy).
    batch_stats: the Flax collection of that name, or `{}` / None.
    tx: optimizer; `tx.init(params)` gives its state.
    key: typed key, `jax.random.key(seed)`, shape [].
    ema: whether the state holds moving averages, for `make_step` with
      `ema_decay`; they begin as the parameters and statistics given.

  Returns:
    A `TrainState` with `step` 0.

  Raises:
    TypeError: if `key` is not a typed key.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> params, tx = {"w": jnp.zeros((3, 2))}, optax.sgd(0.1)
    >>> state = train.create_state(params, {}, tx, jax.random.key(0))
    >>> int(state.step), state.params["w"].shape
    (0, (3, 2))

  Source:
    Interface of this library.
  """
  is_key = isinstance(key, jax.Array) and jnp.issubdtype(
    key.dtype, jax.dtypes.prng_key
  )
  if not is_key or key.shape:
    raise TypeError(
      "create_state: `key` must be one typed key, got "
      f"{getattr(key, 'dtype', type(key).__name__)} with shape "
      f"{getattr(key, 'shape', ())}; make it with jax.random.key(seed)."
    )
  params = jax.tree.map(jnp.asarray, params)
  batch_stats = {} if batch_stats is None else batch_stats
  batch_stats = jax.tree.map(jnp.asarray, batch_stats)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=tx.init(params),
    key=key,
    ema=_averages(params, batch_stats) if ema else None,
  )


def ema_state(state: TrainState) -> TrainState:
  """The state with its moving averages in place of the trained values.

  For evaluation and export: `evaluate(eval_step, ema_state(state), batches)`.
  Training goes on with the state itself.

  Args:
    state: a state with averages (`create_state(..., ema=True)`).

  Returns:
    The state whose `params` and `batch_stats` are the averages, in the dtypes
    of the trained values.

  Raises:
    ValueError: if the state has no averages.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> params, key = {"w": jnp.ones((2,))}, jax.random.key(0)
    >>> state = train.create_state(params, {}, optax.sgd(1.0), key, ema=True)
    >>> state = state._replace(params={"w": jnp.zeros((2,))})
    >>> print(train.ema_state(state).params["w"])
    [1. 1.]

  Source:
    Interface of this library.
  """
  if state.ema is None:
    raise ValueError(
      "ema_state: `state` must have moving averages, got None; make it with "
      "create_state(..., ema=True)."
    )
  trained = {"params": state.params, "batch_stats": state.batch_stats}
  averages = jax.tree.map(
    lambda mean, leaf: mean.astype(leaf.dtype), state.ema, trained
  )
  return state._replace(**averages)


def _averages(params: Any, batch_stats: Any) -> dict[str, Any]:
  """Copies that share no buffer, since a step gives up those of its state."""

  def copy(leaf: jax.Array) -> jax.Array:
    # In bfloat16 an average would stand still: 1 - decay is below its step.
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return jnp.array(leaf)
    return jnp.array(leaf, jnp.promote_types(leaf.dtype, jnp.float32))

  return jax.tree.map(copy, {"params": params, "batch_stats": batch_stats})

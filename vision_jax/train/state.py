"""The training state: everything that a restart needs, in one tuple."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["TrainState", "create_state"]


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
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  key: jax.Array


def create_state(
  params: Any,
  batch_stats: Any,
  tx: optax.GradientTransformation,
  key: jax.Array,
) -> TrainState:
  """State at step 0.

  Args:
    params: parameters, a pytree of arrays of any shapes (JAX or NumPy).
    batch_stats: the Flax collection of that name, or `{}` / None.
    tx: optimizer; `tx.init(params)` gives its state.
    key: typed key, `jax.random.key(seed)`, shape [].

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
  )

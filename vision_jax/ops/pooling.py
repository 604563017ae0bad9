"""Pooling over windows.

``max_pool`` has a derivative of its own: XLA differentiates a max-pool into a
select-and-scatter, which on a CPU is 30 to 40 times slower than comparing the
input with the output. The rule is a ``custom_jvp`` that is linear in the
tangent, so ``grad``, ``jvp``, ``vmap`` and higher orders all work.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["max_pool"]

_Pair = tuple[int, int]


def _pair(value: int | _Pair) -> _Pair:
  return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pads(
  size: _Pair, window: _Pair, stride: _Pair, padding: _Pair, ceil_mode: bool
) -> list[_Pair]:
  """(low, high) padding of the two axes; negative high drops a remainder."""
  pads = []
  for n, k, s, p in zip(size, window, stride, padding, strict=True):
    span = n + 2 * p - k
    num = (-(-span // s) if ceil_mode else span // s) + 1
    if ceil_mode and (num - 1) * s >= n + p:
      num -= 1  # torch drops a window that starts beyond the padded input
    pads.append((p, (num - 1) * s + k - n - p))
  return pads


def _blocks(
  x: jax.Array, axis: int, k: int, s: int, low: int, n: int, value: float
) -> jax.Array:
  """[..., H, ...] -> padded [..., n + ceil(k / s) - 1, s, ...]."""
  num = n + -(-k // s) - 1
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (low, num * s - x.shape[axis] - low, 0)
  x = lax.pad(x, jnp.asarray(value, x.dtype), config)
  at = x.ndim + axis
  return x.reshape(*x.shape[:at], num, s, *x.shape[at + 1 :])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4, 5))
def _max_line(x, axis, k, s, low, n):
  """Maximum of n windows of k elements, s apart, along a negative axis."""
  return functools.reduce(jnp.maximum, _line_slices(x, axis, k, s, low, n))


def _line_slices(x, axis, k, s, low, n):
  """The k strided views of a line."""
  blocks = _blocks(x, axis, k, s, low, n, -jnp.inf)
  for i in range(k):
    part = lax.slice_in_dim(blocks, i // s, i // s + n, axis=axis - 1)
    yield lax.index_in_dim(part, i % s, axis, keepdims=False)


@_max_line.defjvp
def _max_line_jvp(axis, k, s, low, n, primals, tangents):
  (x,), (t,) = primals, tangents
  y = _max_line(x, axis, k, s, low, n)
  first = jnp.full(y.shape, k - 1, jnp.int32 if k > 127 else jnp.int8)
  slices = list(_line_slices(x, axis, k, s, low, n))
  for i in reversed(range(k - 1)):
    first = jnp.where(slices[i] == y, i, first)
  # Block b + n' of s elements meets window n' in its elements bs to (b + 1)s.
  # All s at once: a derivative that only one of them receives, put in place by
  # padding between elements, would be a slow loop.
  first = jnp.expand_dims(first, axis)
  blocks, out = _blocks(t, axis, k, s, low, n, 0.0), jnp.zeros_like(y)
  lines = (*[1] * (first.ndim + axis), s, *[1] * (-axis - 1))
  for b in range(-(-k // s)):
    places = b * s + np.arange(s).reshape(lines)
    places = np.where(places < k, places, -1).astype(first.dtype)
    part = lax.slice_in_dim(blocks, b, b + n, axis=axis - 1)
    out += jnp.where(first == places, part, 0).sum(axis)
  return y, out


def _max_each_axis(
  x: jax.Array, window: _Pair, stride: _Pair, pads: tuple[_Pair, _Pair]
) -> jax.Array:
  """Maximum over columns, then over rows.

  The first maximum of a window in row-major order is, in the first row that has
  the maximum, the first in that row: so also the derivative is the same.
  """
  for axis in (1, 0):
    k, s, pad = window[axis], stride[axis], pads[axis]
    n = (x.shape[axis - 3] + sum(pad) - k) // s + 1
    x = _max_line(x, axis - 3, k, s, pad[0], n)
  return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, pads):
  if jax.default_backend() == "cpu":  # XLA's loop is two times slower
    return _max_each_axis(x, window, stride, pads)
  lead = (1,) * (x.ndim - 3)
  return lax.reduce_window(
    x,
    jnp.asarray(-jnp.inf, x.dtype),
    lax.max,
    (*lead, *window, 1),
    (*lead, *stride, 1),
    [*[(0, 0)] * (x.ndim - 3), *pads, (0, 0)],
  )


@_max_pool.defjvp
def _max_pool_jvp(window, stride, pads, primals, tangents):
  each_axis = functools.partial(
    _max_each_axis, window=window, stride=stride, pads=pads
  )
  return jax.jvp(each_axis, primals, tangents)


# One program also outside of jit, where each slice would be one.
_jitted_max_pool = jax.jit(_max_pool, static_argnums=(1, 2, 3))


def max_pool(
  features: jax.Array,
  *,
  window: int | tuple[int, int] = 2,
  stride: int | tuple[int, int] | None = None,
  padding: int | tuple[int, int] = 0,
  ceil_mode: bool = False,
) -> jax.Array:
  """Largest value of each window, with an exact and fast derivative.

  Where several elements of a window are equal, the first in row-major order
  takes the whole derivative, as in PyTorch and in XLA's own rule.

  Convention:
    Layout [..., H, W, C]; padding is -inf; sizes as torch.nn.MaxPool2d.

  Args:
    features: float [..., H, W, C].
    window: size (rows, columns) of the window, or one number for both.
    stride: step between windows; None means `window`.
    padding: rows and columns added on each side, at most half the window.
    ceil_mode: keep a last window that covers the input only in part.

  Returns:
    Pooled features [..., h, w, C], same dtype.

  Raises:
    TypeError: if `features` is not floating point.
    ValueError: if `features` has fewer than 3 axes, is smaller than the
      window, or the padding exceeds half the window.

  Example:
    >>> from vision_jax.ops import max_pool
    >>> x = jnp.arange(16.0).reshape(4, 4, 1)
    >>> print(max_pool(x)[..., 0])
    [[ 5.  7.]
     [13. 15.]]

  Source:
    torch.nn.MaxPool2d; the derivative is checked against XLA's and torch's.
  """
  if features.ndim < 3:
    raise ValueError(
      "max_pool: `features` must be [..., H, W, C], got shape "
      f"{features.shape}."
    )
  if not jnp.issubdtype(features.dtype, jnp.floating):
    raise TypeError(
      f"max_pool: `features` must be floating point, got {features.dtype}."
    )
  win = _pair(window)
  step = win if stride is None else _pair(stride)
  pad = _pair(padding)
  size = (features.shape[-3], features.shape[-2])
  if any(2 * p > k for p, k in zip(pad, win, strict=True)):
    raise ValueError(
      f"max_pool: `padding` must be at most half the window {win}, got {pad}."
    )
  if any(n + 2 * p < k for n, p, k in zip(size, pad, win, strict=True)):
    raise ValueError(
      f"max_pool: `features` must be at least as large as the window {win}, "
      f"got height and width {size}; pad them or use a larger image."
    )
  pads = _pads(size, win, step, pad, ceil_mode)
  return _jitted_max_pool(features, win, step, tuple(pads))

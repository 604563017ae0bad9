"""Exact evaluation: every example counted once, on any number of devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.train import distributed
from vision_jax.train.parallel import DataParallel
from vision_jax.train.state import TrainState

__all__ = ["evaluate", "make_eval_step", "pad_batch"]

MetricFn = Callable[[Any, Any, Any], Mapping[str, Any]]
EvalStepFn = Callable[[TrainState, Any], dict[str, tuple[Any, Any]]]


def pad_batch(batch: Mapping[str, Any], size: int) -> dict[str, Any]:
  """Fills a batch up with rows of zeros and says which rows are real.

  Args:
    batch: name -> array [B, ...], B >= 1; an entry "valid", bool [B], marks
      rows that are padding already.
    size: wanted number of rows, at least B.

  Returns:
    The batch as NumPy arrays [size, ...] with "valid", bool [size].

  Raises:
    ValueError: if the batch is empty, has more than `size` rows or entries with
      different numbers of rows.

  Example:
    >>> from vision_jax import train
    >>> padded = train.pad_batch({"x": np.ones((3, 2))}, 4)
    >>> print(padded["x"].shape, padded["valid"])
    (4, 2) [ True  True  True False]

  Source:
    Interface of this library.
  """
  arrays = {name: np.asarray(value) for name, value in batch.items()}
  rows = {name: a.shape[0] if a.ndim else 0 for name, a in arrays.items()}
  if len(set(rows.values())) != 1 or 0 in rows.values():
    raise ValueError(
      "pad_batch: `batch` must hold arrays [B, ...] with one B >= 1, got "
      f"rows {rows}."
    )
  count = next(iter(rows.values()))
  if count > size:
    raise ValueError(
      f"pad_batch: `batch` must have at most {size} rows, got {count}."
    )
  arrays.setdefault("valid", np.ones(count, bool))
  arrays["valid"] = arrays["valid"].astype(bool)
  return {
    name: np.pad(a, [(0, size - count)] + [(0, 0)] * (a.ndim - 1))
    for name, a in arrays.items()
  }


def make_eval_step(
  metric_fn: MetricFn,
  *,
  backend: str = "pmap",
  axis_name: str = "batch",
  devices: Sequence[jax.Device] | None = None,
) -> EvalStepFn:
  """Makes `eval_step(state, batch) -> {name: (sum, count)}`.

  `metric_fn(params, batch_stats, batch) -> {name: values}` is written for the
  part of the batch on one device. `values` is [B], one number per example, or a
  pair (values [B], counts [B]) where examples count differently (objects found,
  objects present). Rows whose "valid" is False are left out here, also when
  their values are NaN, so `metric_fn` need not think of padding.

  A batch that does not divide by the devices is padded with `pad_batch`; to
  keep one compilation, pad the last batch to the size of the others, as
  `evaluate` does.

  Args:
    metric_fn: see above.
    backend: "pmap", "shard_map", or "vmap" (all parts on the first device).
    axis_name: name of the device axis inside `metric_fn`.
    devices: devices to use; all if None.

  Returns:
    `eval_step(state, batch)`; `state` needs `params` and `batch_stats`, `batch`
    maps names to arrays [B, ...]. Sums and counts are float32 scalars over the
    valid rows; add them in float64 and divide at the end.

  Raises:
    ValueError: on an unknown backend; `eval_step` raises it for a `metric_fn`
      with a wrong result.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> params, key = {"w": jnp.ones(())}, jax.random.key(0)
    >>> state = train.create_state(params, {}, optax.sgd(0.1), key)
    >>> def metric_fn(params, batch_stats, batch):
    ...   return {"mean": params["w"] * batch["x"]}
    >>> eval_step = train.make_eval_step(metric_fn, devices=jax.devices()[:2])
    >>> batch = {"x": np.array([1.0, 2.0, 6.0])}
    >>> total, count = eval_step(state, batch)["mean"]
    >>> print(total, count)
    9.0 3.0

  Source:
    Interface of this library.
  """

  def sums(variables: tuple[Any, Any], batch: Any) -> Any:
    params, batch_stats = variables
    results = {}
    for name, value in metric_fn(params, batch_stats, batch).items():
      results[name] = _valid_sums(name, value, batch["valid"])
    return jax.lax.psum(results, axis_name)

  run = DataParallel(
    sums,
    name="eval_step",
    backend=backend,
    axis_name=axis_name,
    devices=devices,
  )

  def eval_step(
    state: TrainState, batch: Mapping[str, Any]
  ) -> dict[str, tuple[Any, Any]]:
    """Sums and counts over the valid rows of a global batch."""
    rows = {np.shape(value)[:1] for value in batch.values()}
    count = max((r[0] for r in rows if r), default=0)
    missing = -count % len(run.devices)
    if missing or "valid" not in batch or len(rows) != 1:
      batch = pad_batch(batch, count + missing)
    return run((state.params, state.batch_stats), batch)

  eval_step.place = run.place  # type: ignore[attr-defined]
  eval_step.several = run.several  # type: ignore[attr-defined]
  return eval_step


def _valid_sums(
  name: str, value: Any, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums of values and counts over the rows that are no padding."""
  values, counts = value if isinstance(value, tuple) else (value, valid)
  shapes = (jnp.shape(values), jnp.shape(counts))
  if set(shapes) != {valid.shape}:
    raise ValueError(
      "make_eval_step: `metric_fn` must map names to values [B] or (values "
      f"[B], counts [B]) with B = {valid.shape[0]}, got shapes {shapes} for "
      f"{name!r}; do not sum over the examples."
    )

  def total(rows: Any) -> jax.Array:
    rows = jnp.asarray(rows)
    rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    return jnp.where(valid, rows, 0.0).sum()

  return total(values), total(counts)


def evaluate(
  eval_step: EvalStepFn,
  state: TrainState,
  batches: Iterable[Mapping[str, Any]],
) -> dict[str, float]:
  """Means over all examples of a data set, each counted once.

  Args:
    eval_step: made by `make_eval_step`.
    state: state with the parameters, on any device.
    batches: batches of name -> array [B, ...]; no batch has more rows than the
      first one, smaller ones are padded to its size, so that one compilation
      serves all. With several processes each gives its own, and all give
      equally many (`data.make_eval_batches` does).

  Returns:
    name -> mean, sums and counts added in float64; NaN where nothing counted.

  Raises:
    ValueError: if there is no batch, one is larger than the first, or the
      processes have different numbers of them.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> params, key = {"w": jnp.ones(())}, jax.random.key(0)
    >>> state = train.create_state(params, {}, optax.sgd(0.1), key)
    >>> def metric_fn(params, batch_stats, batch):
    ...   return {"mean": params["w"] * batch["x"]}
    >>> eval_step = train.make_eval_step(metric_fn)
    >>> batches = [{"x": x} for x in np.split(np.arange(10.0), [4, 8])]
    >>> train.evaluate(eval_step, state, batches)
    {'mean': 4.5}

  Source:
    Interface of this library.
  """
  place = getattr(eval_step, "place", lambda tree: tree)
  state = state._replace(
    params=place(state.params), batch_stats=place(state.batch_stats)
  )
  size = 0
  totals: dict[str, np.ndarray] = {}
  pending: list[Any] = []
  if getattr(eval_step, "several", False):
    batches = _in_step(batches)
  for batch in batches:
    size = size or max(
      (len(np.atleast_1d(v)) for v in batch.values()), default=0
    )
    pending.append(eval_step(state, pad_batch(batch, size)))
    if len(pending) > 1:  # one batch computes while the next is read
      _accumulate(totals, pending.pop(0))
  if not size:
    raise ValueError("evaluate: `batches` must hold at least one batch, got 0.")
  for sums in pending:
    _accumulate(totals, sums)
  return {
    name: float(total / count) if count else float("nan")
    for name, (total, count) in totals.items()
  }


def _in_step(
  batches: Iterable[Mapping[str, Any]],
) -> Iterator[Mapping[str, Any]]:
  """The batches; an error in all processes when one of them has no more.

  Otherwise the others would wait for its devices for ever.
  """
  number = 0
  for number, batch in enumerate(batches, 1):
    _check_all(True, number)
    yield batch
  _check_all(False, number + 1)


def _check_all(more: bool, number: int) -> None:
  """Raises unless all processes have a batch, or all have none."""
  answers = distributed.exchange(more)
  if len(set(answers)) > 1:
    without = [p for p, answer in enumerate(answers) if not answer]
    raise ValueError(
      "evaluate: `batches` must be equally many in all processes, got none "
      f"for number {number} in process {without[0]}; give batches with no "
      "valid row, as data.make_eval_batches does."
    )


def _accumulate(totals: dict[str, np.ndarray], sums: Any) -> None:
  """Adds one batch's (sum, count) pairs in float64."""
  for name, pair in jax.device_get(sums).items():
    totals[name] = totals.get(name, np.zeros(2)) + np.asarray(pair, np.float64)

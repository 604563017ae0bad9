"""A small network with everything that devices must agree on.

Shared by tests and by the programs that tests start.
"""

import functools

import jax
import numpy as np
import optax
from flax import linen as nn

from vision_jax import train

ROWS = 16  # of a global batch


class Net(nn.Module):
  """Convolution, synchronised batch norm, dense."""

  axis_name: str | None = "batch"

  @nn.compact
  def __call__(self, images):
    # A bias would have no gradient but rounding errors.
    x = nn.Conv(4, (3, 3), use_bias=False, name="conv")(images)
    x = nn.BatchNorm(
      use_running_average=False,
      axis_name=self.axis_name,
      use_fast_variance=False,
      dtype=images.dtype,
      param_dtype=images.dtype,
      name="bn",
    )(x)
    return nn.Dense(3, name="fc")(nn.relu(x).mean((1, 2)))


def loss_fn(params, batch_stats, batch, key):
  """Cross-entropy over valid rows."""
  del key  # draws would take half of the time to compile
  logits, updates = Net().apply(
    {"params": params, "batch_stats": batch_stats},
    batch["image"],
    mutable=["batch_stats"],
  )
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, batch["label"]
  )
  valid = batch["valid"].astype(losses.dtype)
  return {"ce": ((losses * valid).sum(), valid.sum())}, updates


def metric_fn(params, batch_stats, batch):
  """Two numbers per example, one with its own count."""
  value = batch["image"].mean((1, 2, 3)) * params["fc"]["bias"].sum()
  return {"value": value, "found": (value, batch["label"])}


@functools.cache
def make_tx():
  return optax.sgd(0.1, momentum=0.9)


def make_state(dtype=np.float32, seed=0):
  """A state drawn by NumPy, so that nothing is compiled for it."""
  rng = np.random.default_rng(seed)
  params = {
    "conv": {"kernel": 0.3 * rng.normal(size=(3, 3, 2, 4))},
    "bn": {"scale": np.ones(4), "bias": np.zeros(4)},
    "fc": {
      "kernel": rng.normal(size=(4, 3)),
      "bias": 0.1 * rng.normal(size=3),
    },
  }
  stats = {"bn": {"mean": np.zeros(4), "var": np.ones(4)}}
  cast = lambda tree: jax.tree.map(lambda a: a.astype(dtype), tree)  # noqa: E731
  return train.create_state(
    cast(params), cast(stats), make_tx(), jax.random.key(7)
  )


def make_batch(step, dtype=np.float32, *, part=0, parts=1):
  """Batch number `step`, or the rows of one of several processes."""
  rng = np.random.default_rng(step)
  batch = {
    "image": rng.normal(size=(ROWS, 6, 5, 2)).astype(dtype),
    "label": rng.integers(0, 3, ROWS),
    "valid": rng.random(ROWS) < 0.8,
  }
  rows = slice(part * ROWS // parts, (part + 1) * ROWS // parts)
  return {name: array[rows] for name, array in batch.items()}


def numbers(state):
  """Every number of a state, as a flat list of NumPy arrays."""
  return [np.asarray(x) for x in jax.tree.leaves(as_numbers(state))]


def as_numbers(state):
  return state._replace(key=jax.random.key_data(state.key))


# Numbers of updates after which runs are compared, by precision.
STOPS = {np.float32: (5,), np.float64: (50,)}


def train_steps(step, state, dtype, stops, *, part=0, parts=1):
  """Parameters, statistics and momentum after some numbers of updates."""
  found = {}
  for number in range(max(stops)):
    state, metrics = step(
      state, make_batch(number, dtype, part=part, parts=parts)
    )
    if number + 1 in stops:
      tree = (state.params, state.batch_stats, state.opt_state)
      leaves = [np.array(x) for x in jax.tree.leaves(tree)]
      found[number + 1] = [*leaves, np.array(metrics["loss"])]
  return found


def distance(got, wanted):
  """Largest difference relative to the largest number of its array."""
  return max(
    float(np.abs(a - b).max() / np.abs(b).max())
    for a, b in zip(got, wanted, strict=True)
  )

"""One run: a network trained on distorted digits, and its error."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.stn.networks import DigitNetwork
from vision_jax import data, train

__all__ = ["Config", "error_percent", "scale", "train_network", "unscale"]

_MEAN, _DEVIATION = 0.13, 0.31  # of the ink

Digits = tuple[np.ndarray, np.ndarray]
"""Pictures uint8 [N, S, S], or volumes [N, S, S, S], and labels [N]."""


@dataclasses.dataclass(frozen=True)
class Config:
  """How a network is trained.

  Attributes:
    seed: of the parameters and of the order of the pictures.
    num_steps: updates.
    batch_size: pictures of an update.
    learning_rate: the largest, of Adam; it falls along a cosine.
    localisation_factor: what the rate of the localisation is multiplied by.
    clip_norm: largest norm of a gradient.
  """

  seed: int = 0
  num_steps: int = 2000
  batch_size: int = 64
  learning_rate: float = 5e-3
  localisation_factor: float = 0.3
  clip_norm: float = 1.0


def scale(images: jax.Array) -> jax.Array:
  """Bytes [B, S, S] -> [B, S, S, 1], of about mean 0 and deviation 1."""
  return (images.astype(jnp.float32)[..., None] / 255 - _MEAN) / _DEVIATION


def unscale(images: jax.Array) -> jax.Array:
  """What `scale` gives, in [0, 1]."""
  return images * _DEVIATION + _MEAN


def make_loss(network: DigitNetwork):
  """loss_fn of `train.make_step`: cross-entropy."""

  def loss_fn(params, batch_stats, batch, key):
    logits, _ = network.apply({"params": params}, scale(batch["image"]))
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
    )
    return {"cross_entropy": (losses.sum(), len(losses))}, None

  return loss_fn


def make_optimizer(
  network: DigitNetwork, config: Config
) -> optax.GradientTransformation:
  """Adam along a cosine; the localisation has a rate of its own."""
  schedule = train.make_schedule(
    "cosine",
    config.learning_rate,
    config.num_steps,
    warmup_steps=min(50, config.num_steps - 1),
  )
  factors = None
  if network.transformer is not None:
    factors = {"transformer": config.localisation_factor}
  return train.make_optimizer(
    "adam", schedule, clip_norm=config.clip_norm, factors=factors
  )


def _batches(config: Config, digits: Digits) -> Callable[[int], Any]:
  """The batch of a step: every picture once, in a new order each time."""
  images, labels = digits
  per_epoch = len(images) // config.batch_size

  @functools.lru_cache(maxsize=1)
  def order(epoch: int) -> np.ndarray:
    stream = data.random_stream(data.Domain.ORDER, config.seed, epoch)
    return stream.permutation(len(images))

  def batch(step: int) -> dict[str, np.ndarray]:
    epoch, place = divmod(step, per_epoch)
    part = order(epoch)[place * config.batch_size :][: config.batch_size]
    return {"image": images[part], "label": labels[part]}

  return batch


def train_network(
  network: DigitNetwork,
  config: Config,
  digits: Digits,
  *,
  watch: Callable[[int, Mapping[str, Any]], None] | None = None,
  progress: bool = True,
) -> tuple[Any, float]:
  """Trains one network.

  Args:
    network: a module from pictures [B, S, S, 1], or volumes, to logits.
    config: how.
    digits: distorted training pictures and labels.
    watch: called before every update with the number of those done and the
      variables; for pictures of a training.
    progress: whether to show a progress bar.

  Returns:
    The variables and the seconds of processor time it took, all cores and
    compilation included.
  """
  began = time.process_time()
  images, _ = digits
  params = jax.jit(network.init)(
    jax.random.key(config.seed), jnp.zeros((1, *images.shape[1:], 1))
  )["params"]
  tx = make_optimizer(network, config)
  state = train.create_state(params, None, tx, jax.random.key(config.seed))
  step = train.make_step(make_loss(network), tx)
  watched = step
  if watch is not None:

    def watched(state, batch):
      watch(int(state.step), {"params": state.params})
      return step(state, batch)

  state = train.fit(
    watched,
    state,
    _batches(config, digits),
    num_steps=config.num_steps,
    log_every=config.num_steps,
    progress=progress,
  )
  variables = jax.device_get({"params": state.params})
  return variables, time.process_time() - began


def error_percent(
  network: DigitNetwork, variables: Any, digits: Digits, *, batch: int = 500
) -> float:
  """Pictures whose digit is not the most likely one, percent."""
  apply = jax.jit(lambda v, x: network.apply(v, scale(x))[0].argmax(-1))
  images, labels = digits
  wrong = 0
  for start in range(0, len(images), batch):
    part = slice(start, start + batch)
    wrong += int((apply(variables, images[part]) != labels[part]).sum())
  return 100 * wrong / len(images)

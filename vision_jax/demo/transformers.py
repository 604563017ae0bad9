"""A spatial transformer that learns while the demo page is written."""

import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision_jax import data, ops, viz
from vision_jax.nn import layers
from vision_jax.systems import stn

__all__ = ["transformers_section"]

_SIDE = 40
_NUM_DIGITS = 2000
_NUM_STEPS = 700
_BATCH = 64


class DigitReader(nn.Module):
  """A transformer that gives 20 x 20 pixels to two dense layers."""

  @nn.compact
  def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures [B, H, W, 1] -> logits [B, 10] and what was seen."""
    transformer = stn.SpatialTransformer(
      stn.LocalisationFCN((64, 32)), "similarity", (20, 20), name="transformer"
    )
    seen, _ = transformer(images)
    x = seen.reshape(len(seen), -1)
    for k in (1, 2):
      x = layers.Dense(96, name=f"fc{k}")(x)
      x = layers.Relu(name=f"relu{k}")(x)
    return layers.Dense(10, name="logits")(x), seen


def _distort(key: jax.Array, images: jax.Array) -> jax.Array:
  """Digits [B, 28, 28, 1], turned, shrunk and moved, each by its own draw."""
  count = len(images)
  keys = jax.random.split(key, 3)
  angle = jax.random.uniform(keys[0], (count,), minval=-0.8, maxval=0.8)
  scale = jax.random.uniform(keys[1], (count,), minval=1.4, maxval=2.2)
  shift = jax.random.uniform(keys[2], (count, 2), minval=-0.6, maxval=0.6)
  linear = (scale * jnp.cos(angle), scale * jnp.sin(angle))
  parameters = jnp.stack([*linear, shift[:, 0], shift[:, 1]], -1)
  grid = ops.transform_grid("similarity", parameters, (_SIDE, _SIDE))
  return ops.grid_sample(images, grid)


def _loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
  logits, _ = DigitReader().apply({"params": params}, images)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses.mean()


def _train() -> tuple[Any, list[Any], float]:
  """The parameters, those of six moments, and the share read on new digits."""
  images, labels = data.digit_batch(0, range(_NUM_DIGITS))
  digits = jnp.asarray(images, jnp.float32) / 255
  params = DigitReader().init(
    jax.random.key(0), jnp.zeros((1, _SIDE, _SIDE, 1))
  )["params"]
  tx = optax.adam(optax.cosine_decay_schedule(3e-3, _NUM_STEPS))

  @jax.jit
  def step(params, state, index):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(1), index))
    chosen = jax.random.randint(keys[0], (_BATCH,), 0, _NUM_DIGITS)
    batch = _distort(keys[1], digits[chosen])
    slopes = jax.grad(_loss)(params, batch, jnp.asarray(labels)[chosen])
    updates, state = tx.update(slopes, state)
    return optax.apply_updates(params, updates), state

  state, moments = tx.init(params), []
  for index in range(_NUM_STEPS):
    if index in (0, 30, 100, 300):
      moments.append(params)
    params, state = step(params, state, index)
  images, labels = data.digit_batch(1, range(500))
  asked = _distort(jax.random.key(2), jnp.asarray(images, jnp.float32) / 255)
  logits, _ = jax.jit(DigitReader().apply)({"params": params}, asked)
  return params, [*moments, params], float((logits.argmax(-1) == labels).mean())


def transformers_section(page: viz.Page) -> None:
  """Adds a transformer in training to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import transformers
    >>> transformers.transformers_section.__name__
    'transformers_section'
  """
  started = time.perf_counter()
  section = page.section(
    "A spatial transformer, trained just now",
    "A layer in front of a classifier decides where to look: it predicts a "
    "similarity for each picture and reads the picture through it. Nothing but "
    "the labels of the digits tells it where they are.",
  )
  _, moments, share = _train()
  images, _ = data.digit_batch(1, range(10))
  asked = _distort(jax.random.key(2), jnp.asarray(images, jnp.float32) / 255)
  rows = [asked] + [
    jax.jit(DigitReader().apply)({"params": params}, asked)[1]
    for params in moments
  ]
  grown = [
    np.asarray(jnp.clip(x[..., 0], 0, 1)).repeat(k, 0).repeat(k, 1)
    for row in rows
    for x, k in ((x, 80 // x.shape[0]) for x in row)
  ]
  section.figure(
    viz.image_grid(grown, columns=len(asked), padding=4),
    "First row: digits as they come. Below: what the classifier is given after "
    f"0, 30, 100, 300 and {_NUM_STEPS} updates.",
  )
  section.numbers(
    {
      "trained in": f"{time.perf_counter() - started:.1f} s",
      "read correctly, of 500 new digits": f"{100 * share:.1f} %",
    }
  )
  section.seconds = time.perf_counter() - started

"""The section itself runs in `make demo`; here: what it shows is right."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import data
from vision_jax.demo import transformers


def test_digits_are_moved_whole():
  """Ink shrinks with the square of the scale, and stays in the picture."""
  images, _ = data.digit_batch(0, range(20))
  digits = jnp.asarray(images, jnp.float32) / 255
  moved = np.asarray(transformers._distort(jax.random.key(0), digits))
  assert moved.shape == (20, 40, 40, 1)
  # Read at a scale s of the ndc frame: 40 / 28 / s as large.
  share = moved.sum((1, 2, 3)) / digits.sum((1, 2, 3))
  assert (share > 0.9 * (40 / 28 / 2.2) ** 2).all()
  assert (share < 1.1 * (40 / 28 / 1.4) ** 2).all()
  places = moved[..., 0].reshape(20, -1).argmax(-1)
  assert len(set(places.tolist())) > 10


def test_it_learns_to_look(monkeypatch):
  monkeypatch.setattr(transformers, "_NUM_STEPS", 150)
  monkeypatch.setattr(transformers, "_NUM_DIGITS", 500)
  params, moments, share = transformers._train()
  assert len(moments) == 4
  assert share > 0.2  # chance is 0.1
  bias = params["transformer"]["regression"]["bias"]
  assert np.abs(bias - np.array([1, 0, 0, 0])).max() > 0.02
  np.testing.assert_array_equal(
    moments[0]["transformer"]["regression"]["bias"], [1, 0, 0, 0]
  )

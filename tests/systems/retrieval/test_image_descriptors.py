"""Image descriptors against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops
from vision_jax.systems import retrieval


def _unit(x):
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.where(norm > 0, norm, 1)


def _features(seed=0, channels=5):
  rng = np.random.default_rng(seed)
  return np.maximum(rng.normal(size=(6, 8, channels)), 0).astype(np.float32)


def _whitening(dims, seed=1):
  rng = np.random.default_rng(seed)
  return ops.fit_whitening(
    rng.normal(size=(40, dims)) @ rng.normal(size=(dims, dims))
  )


class DescriptorTest(parameterized.TestCase):
  def test_rmac(self):
    x, whitening = _features(), _whitening(5)
    regions = ops.rmac_regions((6, 8))
    vectors = np.array(
      [x[y1:y2, x1:x2].max((0, 1)) for x1, y1, x2, y2 in regions], np.float64
    )
    white = (_unit(vectors) - np.asarray(whitening.mean)) @ np.asarray(
      whitening.projection, np.float64
    )
    got = retrieval.rmac_descriptor(jnp.asarray(x), whitening=whitening)
    np.testing.assert_allclose(got, _unit(_unit(white).sum(0)), atol=1e-5)
    more = retrieval.rmac_descriptor(jnp.asarray(x), add_global=True)
    total = _unit(vectors).sum(0) + _unit(x.max((0, 1)))
    np.testing.assert_allclose(more, _unit(total), atol=1e-5)

  def test_crow(self):
    x = _features()
    x[..., 1] = 0
    a = x.sum(-1).astype(np.float64)
    cell = np.sqrt(a / np.sqrt((a**2).sum()))
    share = (x > 0).mean((0, 1))
    channel = np.array(
      [np.log(share.sum() / q) if q > 0 else 0.0 for q in share]
    )
    expected = _unit(channel * (cell[..., None] * x).sum((0, 1)))
    got = retrieval.crow_descriptor(jnp.asarray(x))
    np.testing.assert_allclose(got, expected, atol=1e-5)

  def test_cam(self):
    rng = np.random.default_rng(3)
    x, kernel = _features(), rng.normal(size=(5, 7)).astype(np.float32)
    logits = rng.normal(size=7).astype(np.float32)
    order = np.argsort(-logits)[:3]
    share = (x > 0).mean((0, 1))
    rows = []
    for k in order:
      cam = (x.astype(np.float64) * kernel[:, k]).sum(-1)
      cam = np.maximum(cam, 0) / cam.max() if cam.max() > 0 else 0 * cam
      rows.append(
        (x * cam[..., None]).sum((0, 1)) * np.log(share.sum() / share)
      )
    expected = _unit(np.array(rows))
    got = retrieval.cam_vectors(
      jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(logits), num_classes=3
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(
      retrieval.cam_descriptor(got), _unit(expected.sum(0)), atol=1e-5
    )

  def test_multi_scale(self):
    image = jax.random.uniform(jax.random.key(0), (12, 16, 3))
    describe = lambda x: ops.unit_rows(x.mean((0, 1)))  # noqa: E731
    got = retrieval.multi_scale(describe, image, scales=(1.0, 0.5))
    half = ops.resize(image, (6, 8), antialias=True)
    expected = _unit(np.asarray(describe(image) + describe(half)))
    np.testing.assert_allclose(got, expected, atol=1e-5)

  def test_empty_map(self):
    zero = jnp.zeros((3, 4, 5))
    for got in (
      retrieval.rmac_descriptor(zero),
      retrieval.crow_descriptor(zero),
      retrieval.cam_vectors(zero, jnp.ones((5, 2)), jnp.zeros(2)),
    ):
      self.assertFalse(np.asarray(got).any())

"""One device and eight: the same points, losses and parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.systems.pointrend.test_semantic import Coarse
from vision_jax import nn, train
from vision_jax.systems import pointrend

SIZE = (32, 48)


def _semantic():
  module = pointrend.PointRend(Coarse(), nn.PointHead(3, width=8))
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.normal(size=(8, *SIZE, 3)).astype(np.float32),
    "semantic": rng.integers(0, 3, (8, *SIZE)).astype(np.int32),
    "index": np.arange(8, dtype=np.int32),
  }
  params = module.init(jax.random.key(0), batch["image"][:1])["params"]

  def loss_fn(params, batch_stats, batch, key):
    terms, _ = pointrend.semantic_losses(
      train.example_keys(key, batch["index"]),
      module,
      {"params": params},
      batch["image"],
      batch["semantic"],
      num_points=20,
    )
    return terms, None

  return params, loss_fn, batch


def _instance():
  """A box in each picture; the coarse logits are a product of its pixels."""
  rng = np.random.default_rng(0)
  corner = rng.uniform(0, 16, (8, 1, 2))
  batch = {
    "fine": rng.normal(size=(8, 8, 12, 4)).astype(np.float32),
    "boxes": np.concatenate([corner, corner + 14], -1).astype(np.float32),
    "masks": (rng.uniform(size=(8, 1, *SIZE)) < 0.5).astype(np.float32),
    "index": np.arange(8, dtype=np.int32),
  }
  shapes = {"coarse": (4, 3), "points": (7, 1)}
  params = {k: rng.normal(size=s).astype("f4") for k, s in shapes.items()}

  def loss_fn(params, batch_stats, batch, key):
    def head(fine, coarse, label):
      return jnp.concatenate([fine, coarse], -1) @ params["points"]

    def one(key, fine, boxes, masks):
      cells = pointrend.coarse_cells(fine, boxes, SIZE, side=7)
      return pointrend.mask_losses(
        key,
        head,
        fine,
        cells @ params["coarse"],
        boxes,
        jnp.array([1]),
        jnp.array([0]),
        masks,
        num_points=30,
      )

    keys = train.example_keys(key, batch["index"])
    terms = jax.vmap(one)(keys, batch["fine"], batch["boxes"], batch["masks"])
    return jax.tree.map(jnp.sum, terms), None

  return params, loss_fn, batch


@pytest.mark.parametrize("make", [_semantic, _instance])
def test_one_device_and_eight_agree(make):
  params, loss_fn, batch = make()
  tx = train.make_optimizer("sgd", 0.1)
  ended = []
  for count in (1, 8, 8):
    state = train.create_state(params, None, tx, jax.random.key(3))
    step = train.make_step(loss_fn, tx, devices=jax.devices()[:count])
    state, first = step(state, batch)
    state, second = step(state, batch)
    ended.append(jax.device_get((first, second, state.params)))
  one, eight, again = ended
  chex.assert_trees_all_equal(eight, again)  # bit for bit
  assert any("point" in name for name in one[0]), sorted(one[0])
  assert one[0]["loss"] != one[1]["loss"]
  for a, b in zip(one[:2], eight[:2], strict=True):
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)
  chex.assert_trees_all_close(one[2], eight[2], rtol=1e-5, atol=1e-6)

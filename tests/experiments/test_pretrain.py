"""The tiny runs: train on all devices, save, stop, continue, export."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pretrain import evaluate, point_contrast, train
from experiments.pretrain.configs import (
  resnet_small,
  resnet_small_instances,
  vgg_small,
)
from vision_jax import weights
from vision_jax.nn import backbones


@pytest.mark.slow
@pytest.mark.parametrize(
  "config", [vgg_small, resnet_small, resnet_small_instances]
)
def test_tiny_run_writes_weights_that_load(config, tmp_path, quick_compile):
  run = train.Run(workdir=tmp_path, tiny=True, progress=False)
  state = train.train_and_evaluate(config.get_config(), run)
  assert int(state.step) == 4
  result = json.loads((tmp_path / "result.json").read_text())
  assert np.isfinite(result["metrics"]["loss"])
  module, variables, metadata = weights.load_model(
    tmp_path / "weights.safetensors"
  )
  assert "experiments.pretrain.train" in metadata.card
  _, endpoints = jax.jit(module.apply)(variables, jnp.ones((1, 64, 64, 3)))
  assert all(bool(jnp.isfinite(v).all()) for v in endpoints.values())
  # Starting again finds the finished checkpoint and changes nothing.
  again = train.train_and_evaluate(config.get_config(), run)
  chex.assert_trees_all_equal(state.params, again.params)


class ViewsTest(chex.TestCase):
  def test_points_of_both_views_show_the_same_place(self):
    """A smooth region without recolouring has equal values at partners."""
    side = np.arange(point_contrast.REGION)
    region = np.stack(
      np.broadcast_arrays(
        side[None, :] % 256, side[:, None] % 256, np.float32(0)
      ),
      -1,
    ).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(point_contrast, "recolour", lambda key, view: view)
      views, points, valid = jax.jit(
        lambda k: point_contrast.draw_views(k, jnp.asarray(region), size=80)
      )(jax.random.key(3))
    self.assertGreater(int(valid.sum()), 5)
    from vision_jax import ops

    values = [ops.sample(v, p) for v, p in zip(views, points, strict=True)]
    difference = np.asarray(jnp.abs(values[0] - values[1]) * 255)
    self.assertLess(difference[np.asarray(valid)].max(), 0.5)

  def test_batches_depend_on_the_step_alone(self):
    config = dataclasses.replace(
      vgg_small.tiny(vgg_small.get_config()), photographs=False
    )
    first = point_contrast.make_batches(config)
    again = point_contrast.make_batches(config)
    chex.assert_trees_all_equal(first(3), again(3))
    self.assertTrue((first(3)["index"] == np.arange(24, 32)).all())
    self.assertTrue((first(2)["regions"] != first(3)["regions"]).any())


class EvaluateTest(chex.TestCase):
  def test_table_reports_gain_and_worst_seed_pair(self):
    def rows(value):
      return {
        mode: [
          {"photograph": f"p{i % 3}", "rep": 0.5, "ms": value, "points": 10.0}
          for i in range(9)
        ]
        for mode in evaluate.MODES
      }

    records = {"trained 0": rows(0.5), "trained 1": rows(0.4)}
    records |= {"random 0": rows(0.3), "random 1": rows(0.1)}
    table = evaluate.table_rows("net", records)
    self.assertIn("+0.250", table[1][6])
    self.assertEqual(table[1][7], "+0.100")
    self.assertIn("0.450 ± 0.050", table[1][5])

  def test_random_control_is_the_same_network(self):
    networks = evaluate.load_networks("vgg_small", (), 1)
    self.assertEqual([n[0] for n in networks], ["trained 0", "random 0"])
    shapes = [jax.tree.map(jnp.shape, n[2]["params"]) for n in networks]
    self.assertEqual(shapes[0], shapes[1])
    self.assertIsInstance(networks[0][1], backbones.VGG)

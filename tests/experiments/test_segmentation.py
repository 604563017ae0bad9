"""The segmentation experiment: tiny runs, tables, the costs of the paper."""

import json

import numpy as np
import pytest
from absl.testing import absltest

from experiments.segmentation import configs, costs, tables, task, train
from experiments.segmentation.config import Config
from experiments.training_runs import Run
from vision_jax import weights


@pytest.mark.slow
def test_tiny_runs_and_tables(tmp_path, quick_compile):
  def run(name, folder, **changes):
    import dataclasses

    config = configs.tiny(configs.CONFIGS[name])
    config = dataclasses.replace(config, **changes)
    options = Run(workdir=str(tmp_path / folder), tiny=True, progress=False)
    return train.train_and_evaluate(config, options)

  first = run("generated_shapes", "coarse")
  assert int(first.step) == 4
  path = tmp_path / "coarse" / "weights.safetensors"
  result = json.loads((tmp_path / "coarse" / "result.json").read_text())
  assert 0 < result["metrics"]["points_pixel_accuracy"] <= 100
  module, variables, metadata = weights.load_model(path)
  assert metadata.class_names[0] == "background"
  assert module.num_classes == 13
  second = run("generated_shapes_points", "points", weights=str(path))
  frozen = second.params["coarse"]["backbone"]["conv1"]["kernel"]
  np.testing.assert_array_equal(
    frozen, variables["params"]["coarse"]["backbone"]["conv1"]["kernel"]
  )
  results = tables.main(
    tables.Options(
      coarse=(path,),
      num_train=4,
      num_test=2,
      num_steps=2,
      num_points=16,
      batch_size=2,
      out=tmp_path / "tables.json",
    )
  )
  rows = results[0]
  assert set(tables.SETTINGS) < set(rows)
  assert rows["bilinear"]["points"] == 0
  assert rows["mild"]["points"] == 4 * 256
  assert rows["threshold 0.5"]["points"] <= rows["mild"]["points"]


class CostsTest(absltest.TestCase):
  def test_table_2_of_the_paper(self):
    rows = costs.table()
    for name, products, values in (
      ("4 x conv, 28 x 28", 0.530, 0.514),
      ("4 x conv, 224 x 224", 33.9, 32.9),
      ("PointRend, 224 x 224", 0.894, 0.665),
    ):
      cost = rows[name]
      np.testing.assert_allclose(cost.products / 1e9, products, rtol=2e-3)
      np.testing.assert_allclose(cost.values / 1e6, values, rtol=2e-3)
    ratio = rows["4 x conv, 224 x 224"].products
    self.assertGreater(ratio / rows["PointRend, 224 x 224"].products, 20)
    self.assertEqual(costs.pointrend_points(784, 224), [784] * 4)


class ScoresTest(absltest.TestCase):
  def test_right_maps_score_full(self):
    scores = task.Scores(3)
    labels = np.zeros((32, 40), int)
    labels[8:20, 10:30] = 2
    scores.add(labels, labels)
    for value in scores.result().values():
      self.assertEqual(value, 100)

  def test_parts_of_the_network_are_frozen(self):
    for part, name in (("coarse", "point_head"), ("points", "coarse")):
      tx = task.make_optimizer(Config(part=part))
      params = {
        k: {"x": np.ones(2, np.float32)} for k in ("coarse", "point_head")
      }
      updates, _ = tx.update(params, tx.init(params), params)
      self.assertEqual(float(np.abs(updates[name]["x"]).max()), 0)


if __name__ == "__main__":
  absltest.main()

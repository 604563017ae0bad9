"""The segmentation experiment: tiny runs, tables, the costs of the paper."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
from absl.testing import absltest

from experiments.segmentation import (
  configs,
  costs,
  input_pipeline,
  tables,
  task,
  train,
)
from experiments.segmentation.config import Config, Data
from experiments.training_runs import Run
from vision_jax import data, weights


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


class CocoTest(absltest.TestCase):
  def test_overlaps_are_ignored(self):
    masks = np.zeros((3, 4, 6), np.uint8)
    masks[0, :2, :3], masks[1, 1:, 2:], masks[2] = 1, 1, 1
    labels = input_pipeline.paint(np.array([15, 8, 0]), masks)
    expected = np.zeros((4, 6), int)
    expected[:2, :3], expected[1:, 2:], expected[1, 2] = 15, 8, 255
    np.testing.assert_array_equal(labels, expected)
    self.assertFalse(input_pipeline.paint(np.array([0]), masks[:1]).any())

  def test_folder_in_the_layout_of_coco(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    ids = data.COCO_CATEGORY_IDS
    person, kite, sofa = (ids.index(k) for k in (1, 38, 63))
    masks = np.zeros((3, 60, 80), np.uint8)
    masks[0, 5:50, 5:35] = masks[1, :4, 60:] = masks[2, 20:40, 50:70] = 1
    large = {
      "image": np.full((60, 80, 3), 90, np.uint8),
      "boxes": np.array(
        [[5, 5, 35, 50], [60, 0, 80, 4], [50, 20, 70, 40]], "f"
      ),
      "labels": np.array([person, kite, sofa]),
      "masks": masks,
      "area": masks.sum((1, 2)).astype("f"),
      "crowd": np.zeros(3, bool),
    }
    small = {k: v if k == "image" else v[1:] for k, v in large.items()}
    data.write_coco(
      [small, large],
      folder / "coco" / "annotations" / "instances_val2017.json",
      image_folder=folder / "coco" / "val2017",
      class_names=data.COCO_CLASSES,
      category_ids=ids,
    )
    config = Data(name="coco", train="val2017", test="val2017", num_test=None)
    expected = np.zeros((60, 80), int)
    expected[5:50, 5:35], expected[20:40, 50:70] = 15, 18
    test = input_pipeline.open_split(config, str(folder), train=False)
    self.assertLen(test, 2)
    np.testing.assert_array_equal(test[1]["semantic"], expected)
    train = input_pipeline.open_split(config, str(folder), train=True)
    self.assertLen(train, 1)  # the other has 400 pixels of a sofa
    np.testing.assert_array_equal(train[0]["semantic"], expected)


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

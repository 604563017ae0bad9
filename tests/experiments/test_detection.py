"""The detection experiment: a tiny run, its transforms, its settings."""

import dataclasses
import json
import math
import pathlib
import tempfile
import types

import jax
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from experiments.detection import (
  configs,
  evaluate,
  input_pipeline,
  proposals,
  scoring,
  tasks,
  train,
  yolo_task,
)
from experiments.detection.config import Config, Data
from experiments.training_runs import Run, command_of
from tests import compilation
from vision_jax import data, weights
from vision_jax.systems import yolo

SMALL = {"num_blocks": [0, 1, 1], "width": 4}


@pytest.mark.slow
def test_tiny_run_and_what_it_writes(tmp_path, quick_compile):
  run = Run(
    workdir=str(tmp_path / "run"),
    data_dir=str(tmp_path / "data"),
    tiny=True,
    progress=False,
  )
  config = dataclasses.replace(
    configs.tiny(configs.CONFIGS["yolo_small_shapes"]), arguments=SMALL
  )
  state = train.train_and_evaluate(config, run)
  assert int(state.step) == 4
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert result["config"]["model"] == "yolo_small"
  assert result["metrics"]["AP50"] is not None
  path = tmp_path / "run" / "weights.safetensors"
  module, _, metadata = weights.load_model(path)
  assert metadata.class_names == data.SHAPE_NAMES
  assert module.image_size == (128, 128)
  found = evaluate.evaluate(
    evaluate.Options(
      weights=str(path),
      data_dir=str(tmp_path / "data" / "tiny"),
      batch_size=8,
      prepare=False,
      progress=False,
    )
  )
  assert (found["pictures"], found["classes"]) == (12, 12)
  np.testing.assert_allclose(
    found["AP50"], result["metrics"]["AP50"], atol=0.02
  )
  # Starting again finds the finished checkpoint and changes nothing.
  again = train.train_and_evaluate(config, run)
  jax.tree.map(np.testing.assert_array_equal, state.params, again.params)


class TransformTest(parameterized.TestCase):
  def _example(self, height=40, width=40):
    """A picture whose boxes are the bounds of rectangles of one colour."""
    image = np.zeros((height, width, 3), np.uint8)
    boxes = np.array([[4, 6, 14, 12], [20, 22, 25, 38]], np.float32)
    for k, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
      image[y1:y2, x1:x2, k] = 200
    return {"image": image, "boxes": boxes, "labels": np.array([3, 1])}

  def _bounds(self, image, channel):
    # Not the grey border, which is alike in all channels.
    excess = image[..., channel].astype(int) - image[..., 2]
    rows, columns = np.nonzero(excess > 100)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

  def test_all_eight_symmetries_carry_the_boxes(self):
    example = self._example()
    rng, seen = np.random.default_rng(0), set()
    for _ in range(100):
      new = input_pipeline.square_symmetry(example, rng)
      seen.add(new["image"].tobytes())
      for k in (0, 1):
        self.assertEqual(
          new["boxes"][k].tolist(), self._bounds(new["image"], k)
        )
    self.assertLen(seen, 8)

  def test_jitter_of_darknet(self):
    example = self._example(40, 60)
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(20):
      new = input_pipeline.darknet_jitter(example, rng, size=(64, 96))
      self.assertEqual(new["image"].shape, (64, 96, 3))
      for box, label in zip(new["boxes"], new["labels"], strict=True):
        bounds = self._bounds(new["image"], 0 if label == 3 else 1)
        np.testing.assert_allclose(box, bounds, atol=1.01)
      sides = new["boxes"][0, 2:] - new["boxes"][0, :2]
      aspect = sides[0] / sides[1] / (10 / 6)
      self.assertBetween(aspect, 0.7 / 1.3 - 1e-3, 1.3 / 0.7 + 1e-3)
      shapes.add(round(float(aspect), 3))
      # One side fills the canvas: the border is grey on one axis at most.
      grey = np.abs(new["image"].astype(int) - 127).max(-1) <= 1
      self.assertFalse(grey.all(0).any() and grey.all(1).any())
    self.assertGreater(len(shapes), 15)

  def test_what_is_not_to_be_learned(self):
    example = {
      **self._example(),
      "crowd": np.array([False, True]),
      "area": np.ones(2),
    }
    new = input_pipeline.clean(example, None, num_classes=4)
    self.assertEqual(sorted(new), ["boxes", "image", "labels"])
    self.assertEqual(new["labels"].tolist(), [3])
    with self.assertRaisesRegex(data.DataError, r"must be in 0..2, got \[3, 1"):
      input_pipeline.clean(self._example(), None, num_classes=3)

  def test_transforms_of_all_kinds_give_one_shape(self):
    for augment in ("symmetries", "jitter", "flip", "none"):
      config = Data(size=(40, 40), augment=augment, max_objects=3)
      new = self._example()
      rng = np.random.default_rng(0)
      for transform in input_pipeline.train_transforms(config, 4):
        new = transform(new, rng)
      self.assertEqual(
        {k: np.shape(v) for k, v in new.items()},
        {"image": (40, 40, 3), "boxes": (3, 4), "labels": (3,),
         "objects_valid": (3,), "objects_left_out": ()},
      )  # fmt: skip

  def test_a_damaged_training_picture_is_skipped_if_asked_for(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    example = {**self._example(), "crowd": np.zeros(2, bool)}
    data.write_coco(
      [example, example, example],
      folder / "coco" / "annotations" / "instances_val.json",
      image_folder=folder / "coco" / "val",
      class_names=list("abcd"),
    )
    damaged = sorted((folder / "coco" / "val").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    config = Data(name="coco", augment="none", size=(32, 32))
    source = input_pipeline.open_split(config, folder / "coco", "val")
    stop = Config(data=config, batch_size=3)
    with self.assertRaisesRegex(
      data.DataError, f"example 1 of .* must be readable.*{damaged.name}"
    ):
      next(iter(input_pipeline.train_batches(stop, source)))
    config = dataclasses.replace(config, on_error="skip")
    skip = dataclasses.replace(stop, data=config)
    batches = iter(input_pipeline.train_batches(skip, source))
    batch = next(batches)
    batches.close()
    self.assertEqual(batch["valid"].sum(), 2)
    self.assertEqual(list(batches.skipped), [1])
    self.assertEqual(
      batch["objects_valid"].sum(-1).tolist(),
      [2 * int(v) for v in batch["valid"]],
    )

  def test_tiny_runs_score_a_few_pictures_of_any_set(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    example = {**self._example(), "crowd": np.zeros(2, bool)}
    data.write_coco(
      [example] * 20,
      folder / "coco" / "annotations" / "instances_val.json",
      image_folder=folder / "coco" / "val",
      class_names=list("abcd"),
    )
    config = Config(data=Data(name="coco", test="val"), eval_batch_size=5)
    path = input_pipeline.find_set(config.data, str(folder), tiny=True)
    for tiny, count in ((True, input_pipeline.TINY["test"]), (False, 20)):
      seen = []

      def predict(module, variables, images, seen=seen, **settings):
        seen += images
        return [
          {
            "boxes": np.zeros((0, 4)),
            "scores": np.zeros(0),
            "labels": np.zeros(0, int),
          }
        ] * len(images)

      evaluate_state = train.make_evaluation(
        config,
        Run(workdir="w", tiny=tiny, progress=False),
        types.SimpleNamespace(predict=predict),
        None,
        path,
      )
      numbers = evaluate_state(types.SimpleNamespace(params={}, batch_stats={}))
      self.assertLen(seen, count)
      self.assertEqual(numbers["AP50"], 0)

  def test_folders_in_the_layouts_of_coco_and_voc(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    example = {**self._example(), "crowd": np.zeros(2, bool)}
    data.write_coco(
      [example, example],
      folder / "coco" / "annotations" / "instances_val.json",
      image_folder=folder / "coco" / "val",
      class_names=list("abcd"),
    )
    config = Data(name="coco")
    path = input_pipeline.find_set(config, str(folder))
    source = input_pipeline.open_split(config, path, "val")
    self.assertLen(source, 2)
    np.testing.assert_array_equal(source[1]["boxes"], example["boxes"])
    for year in ("VOC2007", "VOC2012"):
      root = folder / "voc" / year
      for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
      data.write_image(root / "JPEGImages" / "1.jpg", np.zeros((9, 8, 3)))
      (root / "ImageSets/Main/trainval.txt").write_text("1")
      box = "<xmin>2</xmin><ymin>1</ymin><xmax>7</xmax><ymax>8</ymax>"
      (root / "Annotations" / "1.xml").write_text(
        "<annotation><object><name>cat</name>"
        f"<bndbox>{box}</bndbox></object></annotation>"
      )
    config = Data(name="voc")
    path = input_pipeline.find_set(config, str(folder))
    source = input_pipeline.open_split(
      config, path, "VOC2007/trainval+VOC2012/trainval"
    )
    self.assertLen(source, 2)
    self.assertEqual(int(source[1]["index"]), 1)
    np.testing.assert_array_equal(source[1]["boxes"], [[1, 0, 7, 8]])


class TaskTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(compilation.quick_compile())

  def test_first_beliefs_and_a_backbone_from_darknet(self):
    config = Config(arguments=SMALL, data=Data(size=(32, 32)))
    module, variables = yolo_task.create_model(config, 3)
    maps, _ = jax.jit(module.clone(axis_name=None).apply)(
      variables, np.zeros((1, 32, 32, 3), np.float32)
    )
    # A black picture: nothing but the biases.
    prior = np.asarray(jax.nn.sigmoid(maps[0][0, 0, 0, 0]))
    np.testing.assert_allclose(prior[4:], [0.01, 0.25, 0.25, 0.25], atol=1e-6)
    layers = weights.darknet_layers(module)
    backbone = [a for a in layers if a.conv.startswith("backbone.")]
    self.assertLess(len(backbone), len(layers))
    state = weights.variables_to_state_dict(
      module, weights.random_variables(module, seed=5)
    )
    names = [n for n in state if n.startswith("backbone.")]
    path = (
      pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
      / "net.conv.9"
    )
    weights.write_darknet(path, {n: state[n] for n in names}, backbone)
    _, loaded = yolo_task.create_model(
      dataclasses.replace(config, weights=str(path)), 3
    )
    again = weights.variables_to_state_dict(module, loaded)
    first = weights.variables_to_state_dict(module, variables)
    for name in state:
      expected = state if name in names else first
      np.testing.assert_array_equal(again[name], expected[name], name)

  def test_score_of_the_truth_is_one(self):
    class Source:
      class_names = data.SHAPE_NAMES

      def __len__(self):
        return 5

      def __getitem__(self, index):
        return data.shapes(1, index)

    source = Source()

    def predict(images):
      keys = ("boxes", "labels", "masks")
      found = []
      for image in images:
        index = next(
          k for k in range(5)
          if np.allclose(data.shapes(1, k)["image"] / 255, image, atol=1e-6)
        )  # fmt: skip
        truth = data.shapes(1, index)
        scores = np.ones(len(truth["labels"]))
        found.append({k: truth[k] for k in keys} | {"scores": scores})
      return found

    def pairs():
      return scoring.find_all(predict, source, batch_size=2)

    self.assertLen(list(pairs()), 5)
    scores = scoring.score(
      pairs(), num_classes=12, metric="coco", kinds=scoring.KINDS
    )
    self.assertAlmostEqual(scores["AP"], 1)
    self.assertAlmostEqual(scores["mask_AP75"], 1)
    self.assertAlmostEqual(scores["boundary_AP"], 1)
    for metric in ("voc", "voc_11"):
      scores = scoring.score(pairs(), num_classes=12, metric=metric)
      self.assertAlmostEqual(scores["AP50"], 1)

  def test_configs_name_what_there_is(self):
    for name, config in configs.CONFIGS.items():
      self.assertIn(name, command_of("x", configs, config).split())
      self.assertTrue(hasattr(tasks.find_task(config.model), "make_loss"))
      self.assertEqual(configs.tiny(config).num_steps, 4)
      train.make_optimizer(config)
    self.assertIs(tasks.find_task("yolov3"), yolo_task)
    with self.assertRaisesRegex(ValueError, "got 'resnet18'"):
      tasks.find_task("resnet18")

  def test_proposals_are_timed(self):
    found = proposals.measure(proposals.Options(size=(60, 80), rounds=1))
    for stage in found["stages"].values():
      self.assertGreater(stage["boxes"], 0)
      self.assertTrue(math.isfinite(stage["seconds"]))


class PublishedTest(absltest.TestCase):
  def test_darknets_schedule_for_coco(self):
    config = configs.CONFIGS["yolov3_coco"]
    self.assertEqual(config.yolo.ignore_threshold, 0.7)
    self.assertEqual(config.optimizer.milestones, (400_000, 450_000))
    module = yolo.yolov3(80)
    self.assertEqual(module.image_size, config.data.size)


if __name__ == "__main__":
  absltest.main()

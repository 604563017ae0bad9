"""The segmentation experiment: tiny runs, tables, the costs of the paper."""

import dataclasses
import json
import pathlib
import tempfile
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from absl.testing import absltest

from experiments.segmentation import (
  configs,
  costs,
  evaluate,
  input_pipeline,
  tables,
  task,
  train,
)
from experiments.segmentation.config import Config, Data
from experiments.training_runs import (
  Run,
  begin_from,
  load_variables,
  run_command,
)
from tests import compilation
from tests.data import tfds_layouts
from vision_jax import data, nn, weights
from vision_jax.nn import aspp, backbones, segmentation_heads
from vision_jax.systems import deeplab, pointrend


def stand_in(num_classes, *, axis_name=None, aux=True):
  """PointRend on DeepLabV3 with its auxiliary head, in small."""
  common = {"axis_name": axis_name}
  coarse = deeplab.Segmenter(
    backbones.resnet14_small(**common),
    aspp.DeepLabHead(num_classes, (1, 2), 16, **common),
    segmentation_heads.FCNHead(num_classes, **common) if aux else None,
    features=("layer3",),
    aux_feature="layer2",
  )
  head = nn.PointHead(num_classes, width=16)
  return pointrend.PointRend(coarse, head, num_points=16)


def write_cityscapes(folder, split, sizes, seed=0):
  """Random pictures and label maps in the layout of Cityscapes."""
  rng = np.random.default_rng(seed)
  kinds = np.array([0, 7, 11, 23, 26])  # unlabelled, road, building, sky, car
  for k, (height, width) in enumerate(sizes):
    places = {
      "leftImg8bit": ("leftImg8bit", (height, width, 3)),
      "gtFine": ("gtFine_labelIds", (height, width)),
    }
    for kind, (ending, shape) in places.items():
      pixels = rng.integers(0, 256, shape).astype(np.uint8)
      if kind == "gtFine":
        cells = rng.integers(0, 5, (height // 8 + 1, width // 8 + 1))
        cells = kinds[cells].repeat(8, 0).repeat(8, 1)
        pixels = cells[:height, :width].astype(np.uint8)
      path = folder / "cityscapes" / kind / split / "ulm"
      path.mkdir(parents=True, exist_ok=True)
      data.write_image(path / f"ulm_{k:06}_000019_{ending}.png", pixels)


@pytest.mark.slow
def test_tiny_runs_and_tables(tmp_path, quick_compile):
  def run(name, folder, **changes):
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
  assert rows["bilinear"]["points"] == rows["points 0"]["points"] == 0
  assert rows["mild"]["points"] == 4 * 256
  assert rows["threshold 0.5"]["points"] <= rows["mild"]["points"]
  timed = tables.Options(
    times=path, rounds=1, batch_size=2, out=tmp_path / "tables.json"
  )
  assert tables.main(timed) == []
  times = json.loads((tmp_path / "times.json").read_text())
  assert set(times) == {
    "coarse network",
    "bilinear",
    "mild",
    *tables.PREDICTIONS,
  }
  assert min(times.values()) > 0
  # Without weights the numbers are read, and the times are a column.
  again = tables.main(tables.Options(out=tmp_path / "tables.json"))
  assert again == results
  assert "ms a picture" in tables.table(again, times)


def run_tiny(folder, name, *words):
  """The state after a tiny run of a config, on the small network."""
  small = ("--config.model", "pointrend_small")
  return run_command(
    "train",
    None,
    configs,
    train.train_and_evaluate,
    [
      *(name, "--tiny", "--no-progress", "--workdir", str(folder / "run")),
      *("--data-dir", str(folder / "data"), *small, *words),
    ],
  )


def check_run(folder, state, config):
  """All parts were trained, the scores are numbers, the file can be read."""
  assert int(state.step) == 4
  result = json.loads((folder / "run" / "result.json").read_text())
  for name in ("bilinear", "points"):
    assert 0 < result["metrics"][f"{name}_pixel_accuracy"] <= 100
  path = folder / "run" / "weights.safetensors"
  module, _, metadata = weights.load_model(path)
  assert module.num_classes == config.data.num_classes
  changes = {"model": "pointrend_small", "backbone": None}
  changes |= {"output_stride": None, "aux": None}
  _, first = task.create_model(
    dataclasses.replace(configs.tiny(config), **changes)
  )
  for part, *path in (
    ("coarse", "backbone", "conv1", "kernel"),
    ("coarse", "classifier", "4", "bias"),
    ("point_head", "predictor", "bias"),
  ):
    old, new = first["params"][part], state.params[part]
    for key in path:
      old, new = old[key], new[key]
    assert np.abs(np.asarray(new) - np.asarray(old)).max() > 0, part
  return metadata


@pytest.mark.slow
def test_tiny_run_of_both_parts(tmp_path, quick_compile):
  words = ("--config.part", "joint", "--config.backbone", "None")
  state = run_tiny(tmp_path, "generated_shapes", *words)
  check_run(tmp_path, state, configs.CONFIGS["generated_shapes"])
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  assert {"coarse", "points"} <= set(json.loads(lines[0]))


@pytest.mark.slow
def test_tiny_run_of_pets(tmp_path, quick_compile):
  kind = tfds_layouts.with_splits(tfds_layouts.OxfordIiitPet, "train", "test")
  kind(
    data_dir=str(tmp_path / "data"), file_format="array_record"
  ).download_and_prepare()
  state = run_tiny(tmp_path, "oxford_iiit_pet")
  check_run(tmp_path, state, configs.CONFIGS["oxford_iiit_pet"])


@pytest.mark.slow
def test_tiny_run_of_cityscapes(tmp_path, quick_compile):
  for split in ("train", "val"):
    write_cityscapes(tmp_path / "data", split, [(64, 128), (48, 96)])
  words = [
    word
    for name in ("backbone", "output-stride", "aux")
    for word in (f"--config.{name}", "None")
  ]
  state = run_tiny(tmp_path, "cityscapes", *words)
  metadata = check_run(tmp_path, state, configs.CONFIGS["cityscapes"])
  assert metadata.class_names == data.CITYSCAPES_CLASSES


@pytest.mark.slow
def test_tiny_run_of_points_on_a_coarse_network(tmp_path, quick_compile):
  coarse = weights.random_variables(stand_in(13).coarse, seed=4)
  config = dataclasses.replace(
    configs.tiny(configs.CONFIGS["generated_shapes_points"]),
    model="stand_in",
    weights="any",
  )
  run = Run(workdir=str(tmp_path), tiny=True, progress=False)
  models = {**pointrend.MODELS, "stand_in": stand_in}
  with (
    mock.patch.dict(pointrend.MODELS, models),
    mock.patch.object(task, "load_variables", return_value=coarse),
  ):
    state = jax.device_get(train.train_and_evaluate(config, run))
  assert int(state.step) == 4
  chex.assert_trees_all_equal(state.params["coarse"], coarse["params"])
  chex.assert_trees_all_equal(
    state.batch_stats["coarse"], coarse["batch_stats"]
  )
  assert np.abs(state.params["point_head"]["fc1"]["bias"]).max() > 0  # from 0


class EvaluateTest(absltest.TestCase):
  @pytest.mark.slow
  def test_scores_are_those_of_the_maps(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    write_cityscapes(folder, "val", [(40, 64), (48, 56), (40, 64)])
    module = pointrend.pointrend_small(19)
    variables = weights.random_variables(module, seed=3)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    path = folder / "net.safetensors"
    weights.save_weights(
      path,
      variables,
      metadata=weights.WeightsMetadata(
        "pointrend_small",
        {"num_classes": 19},
        preprocessing=weights.Preprocess(mean, std, resize=None, crop=None),
      ),
    )
    result = evaluate.evaluate(
      evaluate.Options(
        model="pointrend_small",
        weights=str(path),
        set="cityscapes",
        data_dir=str(folder),
        limit=2,
        out=folder / "results" / "scores.json",
        progress=False,
      )
    )
    source = data.open_cityscapes(folder / "cityscapes", "val")
    confusion = np.zeros((19, 19))
    for k in range(2):
      images = (source[k]["image"][None] / 255 - mean) / std
      found = pointrend.segment(module, variables, images.astype(np.float32))
      for truth in range(19):
        for given in range(19):
          both = (source[k]["semantic"] == truth) & (found[0] == given)
          confusion[truth, given] += np.asarray(both).sum()
    self.assertGreater(np.count_nonzero(confusion.sum(0)), 1)
    right, there = np.diag(confusion), confusion.sum(1)
    union = there + confusion.sum(0) - right
    expected = {
      "mean_iou": 100 * (right / np.maximum(union, 1))[there > 0].mean(),
      "pixel_accuracy": 100 * right.sum() / there.sum(),
    }
    for name, value in expected.items():
      self.assertAlmostEqual(result[name], value, places=6)
    self.assertEqual((result["pictures"], result["classes"]), (2, 19))
    self.assertGreater(result["boundary_iou_0.02"], 0)
    written = json.loads((folder / "results" / "scores.json").read_text())
    self.assertEqual(written["scores"], result)
    self.assertEqual(written["options"]["weights"], str(path))

  def test_bundled_network_on_generated_pictures(self):
    result = evaluate.evaluate(evaluate.Options(limit=6, progress=False))
    self.assertGreater(result["mean_iou"], 18)  # 21.2
    self.assertGreater(result["pixel_accuracy"], 90)  # 92.0
    self.assertGreater(result["boundary_iou_0.02"], 11)  # 13.8

  def test_pictures_are_resized_as_torchvision_does(self):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 21, (60, 84)).astype(np.uint8)
    ramp = (2 * np.arange(84, dtype=np.uint8))[None, :, None]
    image = np.broadcast_to(ramp, (60, 84, 3))
    small, kept = evaluate.resize(image, labels, 30)
    np.testing.assert_array_equal(kept, labels[1::2, 1::2])
    # Of a ramp the triangle takes what lies in its middle.
    inside = slice(2, -2)
    np.testing.assert_array_equal(
      small[0, inside, 0], (4 * np.arange(42) + 1)[inside]
    )
    wide = np.zeros((427, 640), np.uint8)
    pixels = np.zeros((427, 640, 3), np.uint8)
    self.assertEqual(evaluate.resize(pixels, wide, 520)[1].shape, (520, 779))
    tall = evaluate.resize(pixels.swapaxes(0, 1), wide.T, 520)
    self.assertEqual(tall[0].shape, (779, 520, 3))
    for side in (None, 427):
      self.assertIs(evaluate.resize(pixels, wide, side)[0], pixels)

  def test_weights_say_the_size(self):
    for model, side in (
      ("deeplabv3_resnet50", 520),
      ("lraspp_mobilenet_v3_large", 520),
    ):
      preprocess = weights.find_entry(model).preprocessing
      self.assertEqual(evaluate.find_side(preprocess, 0), side)
      self.assertEqual(evaluate.find_side(preprocess, 300), 300)
      self.assertIsNone(evaluate.find_side(preprocess, -1))
    released = weights.FOREIGN["pointrend_semantic_fpn_resnet101"]
    self.assertEqual(evaluate.find_side(released.preprocessing, 0), 1024)
    self.assertIsNone(evaluate.find_side(weights.Preprocess(), 0))
    with self.assertRaisesRegex(SystemExit, "at least -1, got -2"):
      evaluate.find_side(weights.Preprocess(), -2)

  def test_what_cannot_be_evaluated_is_said(self):
    for changes, words in (
      ({"model": "yolov3"}, "`--model` must be one of .*got 'yolov3'"),
      ({"set": "coco"}, "21 classes for coco, got 13"),
      ({"limit": 0}, "`--limit` must be at least 1, got 0"),
    ):
      with self.assertRaisesRegex(SystemExit, words):
        evaluate.evaluate(evaluate.Options(**changes))


class CoarseWeightsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(compilation.quick_compile())
    self.module = stand_in(5)
    self.coarse = weights.random_variables(self.module.coarse, seed=4)

  def create(self, num_classes, found):
    models = {**pointrend.MODELS, "stand_in": stand_in}
    config = Config(
      model="stand_in",
      part="points",
      weights="any",
      data=Data(num_classes=num_classes),
    )
    with (
      mock.patch.dict(pointrend.MODELS, models),
      mock.patch.object(task, "load_variables", return_value=found),
    ):
      return config, *task.create_model(config)

  @pytest.mark.slow
  def test_a_coarse_network_starts_a_run_of_points(self):
    config, _, variables = self.create(5, self.coarse)
    for kind, tree in self.coarse.items():
      chex.assert_trees_all_equal(variables[kind]["coarse"], tree)
    images = np.zeros((1, 64, 64, 3), np.float32)
    new = jax.eval_shape(self.module.init, jax.random.key(0), images)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, new)
    rng = np.random.default_rng(0)
    batch = {
      "image": rng.integers(0, 256, (2, 32, 48, 3)).astype(np.uint8),
      "semantic": rng.integers(0, 5, (2, 32, 48)),
      "valid": np.ones(2, bool),
      "index": np.arange(2),
    }
    loss_fn = task.make_loss(config, self.module)

    def loss(params):
      stats = variables["batch_stats"]
      terms, changed = loss_fn(params, stats, batch, jax.random.key(0))
      names.update(terms)
      return terms["points"][0], changed

    names = set()

    slope, changed = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    self.assertEqual(names, {"points"})
    chex.assert_trees_all_equal(
      changed["batch_stats"], variables["batch_stats"]
    )
    self.assertEqual(float(optax.global_norm(slope["coarse"])), 0)
    self.assertGreater(float(optax.global_norm(slope["point_head"])), 0)

  def test_other_classes_are_refused(self):
    with self.assertRaisesRegex(ValueError, "must be variables of"):
      self.create(6, self.coarse)

  def test_it_is_a_relative_to_begin_from(self):
    new = weights.random_variables(self.module, seed=5)
    taken = begin_from(new, self.coarse)
    for kind, tree in self.coarse.items():
      chex.assert_trees_all_equal(taken[kind]["coarse"], tree)
    chex.assert_trees_all_equal(
      taken["params"]["point_head"], new["params"]["point_head"]
    )

  @pytest.mark.slow
  def test_files_of_torchvision_by_the_name_of_the_network(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    shapes = weights.torch_shapes(deeplab.lraspp_mobilenet_v3_large(4))
    state = weights.random_state_dict(shapes)
    np.savez(folder / "x.npz", **state)
    found = load_variables(
      "pointrend_small", f"lraspp_mobilenet_v3_large/{folder / 'x.npz'}"
    )
    kernel = found["params"]["classifier"]["low_classifier"]["kernel"]
    expected = state["classifier.low_classifier.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.slow
def test_deeplabv3_of_torchvision_starts_a_run_of_points(tmp_path):
  coarse = deeplab.deeplabv3_resnet50()
  variables = weights.random_variables(coarse)
  path = tmp_path / "x.safetensors"
  weights.save_weights(
    path,
    variables,
    metadata=weights.WeightsMetadata("deeplabv3_resnet50"),
  )
  config = dataclasses.replace(
    configs.CONFIGS["deeplabv3_points_coco"],
    weights=f"deeplabv3_resnet50/{path}",
  )
  module, whole = task.create_model(config)
  for kind, tree in variables.items():
    chex.assert_trees_all_equal(whole[kind]["coarse"], tree)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  new = jax.eval_shape(module.init, jax.random.key(0), images)
  chex.assert_trees_all_equal_shapes_and_dtypes(whole, new)
  head = sum(
    leaf.size for leaf in jax.tree.leaves(whole["params"]["point_head"])
  )
  assert head == 3 * (256 + 21 + 0) * 256 + 3 * 256 + (256 + 21) * 21 + 21


class TablesTest(absltest.TestCase):
  def results(self):
    """Two seeds: "mild" is 1 and 3 above all others; 10 and 20 points up."""
    rows = (*tables.SETTINGS, "bilinear", *tables.PREDICTIONS)
    found = []
    for seed in (0, 1):
      one = {
        name: {key: 10.0 * (seed + 1) for key in tables.KEYS} | {"points": 64.0}
        for name in rows
      }
      for key in tables.KEYS:
        one["mild"][key] += 1 + 2 * seed
      found.append(one)
    return found

  def test_interval_of_student(self):
    values = [2.93, 1.65, 1.19, 1.39, 1.30]
    found = tables.t_interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found[1:], expected)
    self.assertAlmostEqual(found.mean, np.mean(values))
    mean, low, high = tables.t_interval([4.0])
    self.assertEqual(mean, 4)
    self.assertTrue(np.isnan(low) and np.isnan(high))

  def test_differences_are_paired(self):
    # Of 1 and 3 the mean is 2, the error 1, and 12.706 the quantile.
    cell = "+2.00 [-10.71, +14.71]"
    lines = tables.differences(self.results()).splitlines()[2:]
    self.assertLen(lines, len(tables.PAIRS))
    for line, (first, second) in zip(lines, tables.PAIRS, strict=True):
      self.assertEqual(
        line, f"| {first} above {second} | {cell} | {cell} | {cell} |"
      )
    rows = tables.table(self.results(), {"mild": 1.234}).splitlines()
    (line,) = (row for row in rows if row.startswith("| mild |"))
    self.assertEqual(line.count(cell), 2)
    self.assertTrue(line.endswith("| 64 | 1.23 |"))

  def test_the_baseline_is_enlarged_in_one_step(self):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    labels = rng.integers(0, 6, (3, 32, 40))
    found = tables.score_bilinear((logits,), labels, 2)
    large = jax.image.resize(logits, (3, 32, 40, 6), "bilinear").argmax(-1)
    right = 100 * (np.asarray(large) == labels).mean()
    self.assertAlmostEqual(found["pixel_accuracy"], right, places=3)
    self.assertEqual(found["points"], 0)

  def test_figure(self):
    picture = tables.draw_curves(self.results())
    self.assertEqual(picture.shape, (380, 700, 3))
    self.assertGreater(len(np.unique(picture.reshape(-1, 3), axis=0)), 20)


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


class LossTest(absltest.TestCase):
  @pytest.mark.slow
  def test_the_auxiliary_head_counts_half_in_every_part(self):
    self.enterContext(compilation.quick_compile())
    module = stand_in(4)
    variables = weights.random_variables(module, seed=1)
    params, stats = variables["params"], variables["batch_stats"]
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (2, 32, 48))
    labels[0, :9] = 255
    batch = {
      "image": rng.integers(0, 256, (2, 32, 48, 3)).astype(np.uint8),
      "semantic": labels,
      "valid": np.ones(2, bool),
      "index": np.arange(2),
    }
    key = jax.random.key(3)
    data = Data(num_classes=4)
    maps, _ = jax.jit(
      lambda images: module.apply(
        variables,
        images,
        train=True,
        method="maps",
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
    )(task.normalize(batch["image"], data))

    def entropy(logits):
      logits = np.asarray(
        jax.image.resize(logits, (2, 32, 48, 4), "bilinear"), np.float64
      )
      logits -= logits.max(-1, keepdims=True)
      logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
      return -sum(logs[labels == k][:, k].sum() for k in range(4))

    for part in ("coarse", "joint"):
      config = Config(part=part, num_points=8, data=data)
      loss_fn = jax.jit(task.make_loss(config, module))
      terms, changed = loss_fn(params, stats, batch, key)
      names = {"coarse", "aux"} | ({"points"} if part == "joint" else set())
      self.assertEqual(set(terms), names)
      for name, logits, weight in (
        ("coarse", maps.logits, 1),
        ("aux", maps.aux, 0.5),
      ):
        total, count = terms[name]
        self.assertEqual(int(count), (labels != 255).sum())
        np.testing.assert_allclose(total, weight * entropy(logits), rtol=1e-4)
      old, new = (
        tree["coarse"]["backbone"]["bn1"]["mean"]
        for tree in (stats, changed["batch_stats"])
      )
      self.assertGreater(np.abs(np.asarray(new - old)).max(), 0)


class CityscapesTest(absltest.TestCase):
  """What the paper's appendix B says."""

  def test_ten_times_the_rate_for_the_classifier(self):
    config = configs.CONFIGS["cityscapes"]
    options = dataclasses.replace(config.optimizer, warmup=0, weight_decay=0.0)
    tx = task.make_optimizer(dataclasses.replace(config, optimizer=options))
    one = {"x": np.ones(2, np.float32)}
    params = {
      "coarse": {"backbone": one, "classifier": one},
      "point_head": one,
    }
    updates, _ = tx.update(params, tx.init(params), params)
    rates = jax.tree.map(lambda leaf: -float(leaf[0]), updates)
    for rate, expected in (
      (rates["coarse"]["backbone"]["x"], 0.01),
      (rates["coarse"]["classifier"]["x"], 0.1),
      (rates["point_head"]["x"], 0.01),
    ):
      self.assertAlmostEqual(rate, expected, places=6)

  def test_crops_of_stride_16_at_half_to_twice_the_size(self):
    config = configs.CONFIGS["cityscapes"]
    module = task.create_module(config)
    images = jax.ShapeDtypeStruct((1, *config.data.size, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    maps = jax.eval_shape(
      lambda v, x: module.apply(v, x, method="maps"), variables, images
    )
    self.assertEqual(maps.logits.shape, (1, 48, 48, 19))
    self.assertEqual(config.num_points, 48 * 48)
    self.assertIsNone(maps.aux)
    fits = min(768 / 1024, 768 / 2048)
    np.testing.assert_allclose(np.multiply(config.data.scales, fits), (0.5, 2))
    self.assertEqual(task.arguments(config)["output_stride"], 16)


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

"""The classification experiment: tiny runs, its transforms, its settings."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from experiments.classification import (
  configs,
  evaluate,
  input_pipeline,
  task,
  throughput,
  train,
)
from experiments.classification.config import Config, Data, Optimizer
from experiments.training_runs import Run, run_command
from tests.data import tfds_layouts
from vision_jax import data, nn, weights


@pytest.mark.slow
def test_tiny_run_and_what_it_writes(tmp_path, quick_compile):
  run = Run(
    workdir=str(tmp_path / "run"),
    data_dir=str(tmp_path / "data"),
    tiny=True,
    progress=False,
  )
  config = configs.tiny(configs.CONFIGS["generated_textures"])
  config = dataclasses.replace(config, ema_decay=0.5)
  state = train.train_and_evaluate(config, run)
  assert int(state.step) == 4
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert result["config"]["model"] == "resnet_small"
  path = tmp_path / "run" / "weights.safetensors"
  _, _, metadata = weights.load_model(path)
  assert metadata.class_names == data.TEXTURE_NAMES
  # The file, read by the other script, has the accuracy of the run.
  found = evaluate.evaluate(
    evaluate.Options(
      weights=str(path),
      data_dir=str(tmp_path / "data" / "tiny"),
      batch_size=24,
      prepare=False,
    )
  )
  assert found["pictures"] == 40
  for name, tolerance in (("top1", 0.051), ("cross_entropy", 0.05)):
    np.testing.assert_allclose(
      found[name], result["metrics"][name], atol=tolerance
    )
  rates = throughput.measure(
    throughput.Options(
      data_dir=str(tmp_path / "data" / "tiny"),
      rounds=1,
      updates=1,
      prepare=False,
    )
  )
  assert min(v for k, v in rates.items() if k != "config") > 0
  # Starting again finds the finished checkpoint and changes nothing.
  again = train.train_and_evaluate(config, run)
  jax.tree.map(np.testing.assert_array_equal, state.params, again.params)


# Like the sets of TFDS, but small, and with the splits that a config names.
PREPARED = {
  "mnist": (tfds_layouts.Mnist, ("train", "test")),
  "cifar10": (tfds_layouts.Cifar10, ("train", "test")),
  "imagenet2012": (tfds_layouts.Imagenet2012, ("train", "validation")),
  "oxford_iiit_pet": (tfds_layouts.OxfordIiitPet, ("train", "test")),
}


def run_tiny(folder, name, *words):
  """The state after a tiny run of a config over a small set of its layout."""
  kind, splits = PREPARED[name]
  builder = tfds_layouts.with_splits(kind, *splits)(
    data_dir=str(folder / "data"), file_format="array_record"
  )
  builder.download_and_prepare()
  return run_command(
    "train",
    None,
    configs,
    train.train_and_evaluate,
    [
      *(name, "--tiny", "--no-progress", "--workdir", str(folder / "run")),
      *("--data-dir", str(folder / "data")),
      *("--config.model", "resnet_small", "--config.data.size", "16"),
      *words,
    ],
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", [name for name in PREPARED if name != "oxford_iiit_pet"]
)
def test_tiny_runs_of_prepared_sets(tmp_path, quick_compile, name):
  state = run_tiny(tmp_path, name)
  assert int(state.step) == 4
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert np.isfinite(result["metrics"]["cross_entropy"])
  _, _, metadata = weights.load_model(tmp_path / "run" / "weights.safetensors")
  classes = {"mnist": 10}.get(name, 3)
  assert len(metadata.class_names) == classes
  # An evaluation of the file prepares pictures as this one did: small ones.
  config = configs.CONFIGS[name].data
  assert (metadata.preprocessing.resize, metadata.preprocessing.crop) == (
    (18, 16) if config.crop else (None, None)
  )
  assert not (tmp_path / "data" / "tiny").exists()


@pytest.mark.slow
def test_tiny_fine_tuning_keeps_what_is_frozen(tmp_path, quick_compile):
  state = run_tiny(tmp_path, "oxford_iiit_pet", "--config.weights", "textures")
  assert int(state.step) == 4
  _, bundled, _ = weights.load_bundled("resnet_small", weights="textures")
  params = jax.device_get(state.params)
  for layer in ("conv1", "bn1"):
    chex.assert_trees_all_equal(params[layer], bundled["params"][layer])
  chex.assert_trees_all_equal(
    jax.device_get(state.batch_stats), bundled["batch_stats"]
  )
  # The rest moved, the new head of two classes from where it was drawn.
  body = params["layer1"]["0"]["conv1"]["kernel"]
  assert np.abs(
    body - bundled["params"]["layer1"]["0"]["conv1"]["kernel"]
  ).max()
  config = configs.tiny(configs.CONFIGS["oxford_iiit_pet"])
  config = dataclasses.replace(config, model="resnet_small", weights="textures")
  _, first = task.create_model(config, 2)
  first = first["params"]["fc"]["kernel"]
  assert first.shape == (bundled["params"]["fc"]["kernel"].shape[0], 2)
  assert np.abs(params["fc"]["kernel"] - first).max() > 1e-4


class TransformTest(parameterized.TestCase):
  def test_all_eight_symmetries_appear_once(self):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    rng = np.random.default_rng(0)
    found = {
      input_pipeline.quarter_turns({"image": image}, rng)["image"].tobytes()
      for _ in range(200)
    }
    expected = {
      np.ascontiguousarray(np.rot90(i, k)).tobytes()
      for i in (image, image[:, ::-1])
      for k in range(4)
    }
    self.assertEqual(found, expected)

  def test_shift_moves_by_at_most_a_sixteenth(self):
    side = np.arange(32)
    image = np.stack(np.broadcast_arrays(side[:, None], side, 0), -1)
    image = image.astype(np.uint8)
    rng = np.random.default_rng(1)
    moves = set()
    for _ in range(300):
      moved = input_pipeline.shift({"image": image}, rng)["image"]
      self.assertEqual(moved.shape, image.shape)
      moves.add(tuple(moved[16, 16, :2] - 16.0))
    reach = range(-2, 3)
    self.assertEqual(
      moves, {(float(y), float(x)) for y in reach for x in reach}
    )

  @parameterized.parameters(
    (40, 61, 32, 24), (61, 40, 32, 25), (33, 33, 48, 40)
  )
  def test_preparation_is_that_of_the_weights(self, high, wide, resize, crop):
    """`weights.preprocess_image` in floats is another implementation."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (high, wide, 3), np.uint8)
    got = input_pipeline.resize_and_crop(
      {"image": image}, resize=resize, crop=crop
    )["image"]
    preprocess = weights.Preprocess(
      mean=(0.0,) * 3, std=(1.0,) * 3, resize=resize, crop=crop
    )
    expected = weights.preprocess_image(
      jnp.asarray(image, jnp.float32) / 255, preprocess
    )
    np.testing.assert_allclose(got / 255, expected, atol=1.6 / 255)

  def test_a_picture_smaller_than_the_crop_is_named(self):
    image = np.zeros((30, 20, 3), np.uint8)
    with self.assertRaisesRegex(data.DataError, r"\(30, 20\), got 24"):
      input_pipeline.resize_and_crop({"image": image}, resize=None, crop=24)


class DamageTest(tfds_layouts.LayoutCase):
  def test_a_training_picture_is_skipped_if_asked_for(self):
    path = self.write(tfds_layouts.Damaged)
    source = input_pipeline.open_split(path, "train")
    settings = {"name": "damaged", "size": 32, "augment": "none"}
    for cache in (False, True):
      stop = Config(data=Data(cache=cache, **settings), batch_size=3)
      with self.assertRaisesRegex(data.DataError, "of 'damaged', split 'train"):
        next(iter(input_pipeline.train_batches(stop, source)))
      skip = dataclasses.replace(stop.data, on_error="skip")
      skip = dataclasses.replace(stop, data=skip)
      batches = iter(input_pipeline.train_batches(skip, source))
      batch = next(batches)
      batches.close()
      self.assertEqual(batch["valid"].sum(), 2)
      self.assertEqual(sorted(batch["label"][batch["valid"]]), [0, 2])
      with self.assertRaisesRegex(data.DataError, "of 'damaged', split 'train"):
        list(input_pipeline.eval_batches(skip, source))


class TaskTest(absltest.TestCase):
  def test_only_the_classifier_may_differ(self):
    old = weights.random_variables(nn.backbones.resnet_small(7), seed=1)
    new = weights.random_variables(nn.backbones.resnet_small(5), seed=2)
    got = task.replace_fitting(new, old)
    np.testing.assert_array_equal(
      got["params"]["conv1"]["kernel"], old["params"]["conv1"]["kernel"]
    )
    np.testing.assert_array_equal(
      got["batch_stats"]["bn1"]["mean"], old["batch_stats"]["bn1"]["mean"]
    )
    np.testing.assert_array_equal(
      got["params"]["fc"]["kernel"], new["params"]["fc"]["kernel"]
    )
    wide = weights.random_variables(nn.backbones.resnet_small(5, width=8))
    with self.assertRaisesRegex(ValueError, "last layer alone.*conv1"):
      task.replace_fitting(wide, old)

  def test_loss_leaves_out_rows_that_are_padding(self):
    module = nn.backbones.resnet_small(4, width=8)
    variables = weights.random_variables(module)
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    batch = {"image": images, "label": np.array([0, 1, 2, 3, 0, 1], np.int32)}
    loss_fn = task.make_loss(
      Config(freeze_norm=True, label_smoothing=0.1), module
    )
    run = jax.jit(loss_fn)
    args = variables["params"], variables["batch_stats"]
    valid = np.array([True, True, False, True, True, False])
    key = jax.random.key(0)
    terms, aux = run(*args, {**batch, "valid": valid}, key)
    total, count = terms["cross_entropy"]
    self.assertEqual(int(count), 4)
    self.assertEqual(int(aux["metrics"]["top1"][1]), 4)
    preprocess = task.preprocessing(Data())
    logits = module.apply(
      variables, weights.normalize(jnp.asarray(images) / 255.0, preprocess)
    )[0]
    logp = (
      np.float64(logits) - np.log(np.exp(np.float64(logits)).sum(-1))[:, None]
    )
    target = np.full((6, 4), 0.1 / 4)
    target[np.arange(6), batch["label"]] += 0.9
    expected = -(target * logp).sum(-1)[valid].sum()
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    # Frozen statistics stay what they were.
    jax.tree.map(np.testing.assert_array_equal, aux["batch_stats"], args[1])

  def test_steps_and_milestones_follow_the_number_of_pictures(self):
    config = dataclasses.replace(
      configs.CONFIGS["imagenet2012"], batch_size=256
    )
    tx, num_steps = task.make_optimizer(config, 1_281_167)
    self.assertEqual(num_steps, 450_410)
    del tx
    rates = {}
    for schedule in ("step", "cosine"):
      options = dataclasses.replace(
        Optimizer(name="sgd", learning_rate=1.0, momentum=0.0, warmup=0.0),
        schedule=schedule,
        milestones=(1.0,) if schedule == "step" else (),
        weight_decay=0.0,
      )
      tiny = Config(optimizer=options, epochs=2.0, batch_size=5)
      tx, num_steps = task.make_optimizer(tiny, 10)
      self.assertEqual(num_steps, 4)
      params = {"w": jnp.zeros(())}
      state, found = tx.init(params), []
      for _ in range(4):
        update, state = tx.update({"w": jnp.ones(())}, state, params)
        found.append(-float(update["w"]))
      rates[schedule] = found
    np.testing.assert_allclose(rates["step"], [1, 1, 0.1, 0.1])
    cosine = (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates["cosine"], cosine, atol=1e-6)

  def test_every_tiny_config_has_a_valid_schedule(self):
    """Of four updates, whatever the number of pictures."""
    for name, config in configs.CONFIGS.items():
      tiny = configs.tiny(config)
      for count in (1, 60_000, 1_281_167):
        _, num_steps = task.make_optimizer(tiny, count)
        self.assertEqual(num_steps, 4, name)
      self.assertLessEqual(tiny.data.size, 64)
      self.assertLessEqual(tiny.data.crop or 0, tiny.data.resize or 0)
      # The rate of one picture is that of the config.
      np.testing.assert_allclose(
        tiny.optimizer.learning_rate / tiny.batch_size,
        config.optimizer.learning_rate / config.batch_size,
      )
    # Milestones keep their place: after a third and two thirds of the run.
    options = configs.CONFIGS["imagenet2012"].optimizer
    options = dataclasses.replace(
      options, learning_rate=1.0, momentum=0.0, weight_decay=0.0
    )
    config = Config(optimizer=options, epochs=90, num_steps=12)
    tx, _ = task.make_optimizer(config, 7)
    params = {"w": jnp.zeros(())}
    state, rates = tx.init(params), []
    for _ in range(12):
      update, state = tx.update({"w": jnp.ones(())}, state, params)
      rates.append(-float(update["w"]))
    np.testing.assert_allclose(rates, [1] * 4 + [0.1] * 4 + [0.01] * 4)

  def test_every_config_is_described(self):
    for name, text in configs.SUMMARIES.items():
      self.assertIn(f"experiments.classification.train {name}", text)
      self.assertIn("Expect:", text)


if __name__ == "__main__":
  absltest.main()

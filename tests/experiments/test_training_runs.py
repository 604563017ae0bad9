"""What the training experiments share."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from experiments.classification import configs as classification
from experiments.detection import configs
from experiments.training_runs import (
  Run,
  begin_from,
  command_of,
  find_set,
  load_variables,
  make_loggers,
  run_command,
)
from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.systems import pointrend, rcnn


def _of(module, seed):
  return weights.random_variables(module, seed=seed)


def _shared(variables, found, changed):
  """Kernel of a path in each of the three."""

  def pick(tree, path):
    for name in path:
      tree = tree[name]
    return np.asarray(tree)

  return lambda path, other=None: (
    pick(variables, path),
    pick(found, other or path),
    pick(changed, path),
  )


def test_relatives_share_all_but_what_differs():
  first = _of(rcnn.rcnn_small(num_classes=4), 0)
  other = _of(rcnn.rcnn_small(num_classes=7, mask_layers=(8,)), 1)
  pick = _shared(other, first, begin_from(other, first))
  _, old, new = pick(("params", "backbone", "body", "conv1", "kernel"))
  np.testing.assert_array_equal(new, old)
  _, old, new = pick(("params", "rpn", "head", "cls_logits", "kernel"))
  np.testing.assert_array_equal(new, old)
  heads = ("params", "roi_heads")
  kept, old, new = pick((*heads, "box_predictor", "cls_score", "kernel"))
  assert kept.shape != old.shape
  np.testing.assert_array_equal(new, kept)
  path = (*heads, "mask_predictor", "mask_fcn_logits", "kernel")
  changed = begin_from(other, first)
  for name in path:
    other, changed = other[name], changed[name]
  np.testing.assert_array_equal(changed, other)


def test_a_body_goes_to_the_place_of_another():
  detector = _of(rcnn.rcnn_small(), 0)
  coarse = _of(pointrend.pointrend_small(), 1)
  body = ("batch_stats", "coarse", "backbone", "layer2", "0", "bn1", "var")
  detector = jax.tree.map(lambda leaf: leaf + 1, detector)
  pick = _shared(coarse, detector, begin_from(coarse, detector))
  _, old, new = pick(body, ("batch_stats", "backbone", "body", *body[3:]))
  np.testing.assert_array_equal(new, old)
  # A classifier, whose last layer nobody has.
  classifier = _of(backbones.resnet14_small(5), 2)
  pick = _shared(coarse, classifier, begin_from(coarse, classifier))
  body = ("params", *body[1:5], "conv1", "kernel")
  _, old, new = pick(body, ("params", *body[3:]))
  np.testing.assert_array_equal(new, old)


def test_all_can_be_asked_for(capsys):
  module = pointrend.pointrend_small(3)
  first, other = _of(module, 0), _of(module, 1)
  taken = begin_from(other, first, whole=True)
  chex.assert_trees_all_equal(taken, first)
  wider = _of(pointrend.pointrend_small(5), 1)
  with pytest.raises(ValueError, match=r"none that fits .*number of classes"):
    begin_from(wider, first, whole=True)
  begin_from(wider, first)
  assert "random: params.coarse.classifier" in capsys.readouterr().out


def test_what_to_begin_with_can_be_named_in_three_ways(tmp_path):
  module = backbones.resnet14_small(3)
  variables = _of(module, 4)
  path = tmp_path / "net.safetensors"
  weights.save_weights(
    path,
    variables,
    metadata=weights.WeightsMetadata("resnet14_small", {"num_classes": 3}),
  )
  chex.assert_trees_all_equal(load_variables("yolov3", str(path)), variables)
  _, textures, _ = weights.load_bundled("resnet_small", weights="textures")
  for model, source in (
    ("rcnn_small", "resnet_small/textures"),
    ("resnet_small", "textures"),
  ):
    chex.assert_trees_all_equal(load_variables(model, source), textures)
  _, bundled, _ = weights.load_model("vgg_small")
  chex.assert_trees_all_equal(load_variables("vgg16", "vgg_small"), bundled)


def test_the_command_says_what_differs():
  config = configs.CONFIGS["yolo_small_shapes"]
  words = command_of("x.train", configs, config)
  assert words == "python -m x.train yolo_small_shapes --config.seed 0"
  changed = dataclasses.replace(
    config,
    num_steps=7,
    seed=2,
    data=dataclasses.replace(config.data, size=(64, 96)),
  )
  words = command_of("x.train", configs, changed).split()
  assert words[3:] == [
    *("yolo_small_shapes", "--config.data.size", "64", "96"),
    *("--config.num_steps", "7", "--config.seed", "2"),
  ]


def test_strangers_are_refused():
  with pytest.raises(ValueError, match="must share parameters"):
    begin_from(_of(rcnn.rcnn_small(), 0), _of(backbones.alexnet(3), 1))


def test_a_command_line_becomes_settings():
  found = run_command(
    "x",
    None,
    classification,
    lambda config, run: (config, run),
    ["mnist", "--workdir", "w", "--config.data.size", "20", "--tiny"],
  )
  config = classification.CONFIGS["mnist"]
  config = dataclasses.replace(
    config, data=dataclasses.replace(config.data, size=20)
  )
  assert found[0] == classification.tiny(config)
  assert found[1].workdir == "w"


def test_unknown_options_list_those_of_the_subcommand(capsys):
  words = ["generated_textures", "--workdir", "w", "--foo", "3", "--epochs=2"]
  with pytest.raises(SystemExit) as left:
    run_command("x", None, classification, lambda *_: 1 / 0, words)
  assert left.value.code == 2
  _, text = capsys.readouterr()
  assert "--epochs is unknown; near it: --config.epochs" in text
  listed = text.partition("options of generated_textures: ")[2]
  for name in ("--tensorboard", "--config.data.augment", "--config.epochs"):
    assert name in listed


def test_only_generated_sets_have_tiny_ones(tmp_path):
  path = find_set("mnist", tmp_path, variant=None, tiny=True, generated=False)
  assert path == tmp_path / "mnist"
  path = find_set(
    "generated_textures",
    tmp_path,
    variant=None,
    num_examples={"test": 2},
    tiny=True,
  )
  assert path.is_relative_to(tmp_path / "tiny" / "generated_textures")


def test_event_files_if_asked_for(tmp_path):
  for asked in (False, True):
    run = Run(workdir=str(tmp_path), tensorboard=asked)
    for logger in make_loggers(tmp_path, run):
      logger.write(1, {"loss": 0.5})
      logger.close()
    events = [*tmp_path.glob("tensorboard/events.out.tfevents*")]
    assert len(events) == asked
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert len(lines) == 2

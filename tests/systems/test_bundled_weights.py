"""The files in assets/: small, described, and better than random weights."""

import dataclasses
import importlib.resources

import jax
import numpy as np
import pytest

from experiments.detection import scoring, tasks
from experiments.segmentation import configs as segmentation_configs
from experiments.segmentation import input_pipeline
from experiments.segmentation import task as segmentation_task
from vision_jax import data, metrics, weights
from vision_jax.systems import elf


@pytest.mark.parametrize(
  ("name", "kind", "file"),
  [(n, k, f) for n, files in weights.BUNDLED.items() for k, f in files.items()],
)
def test_file_is_small_and_has_a_card(name, kind, file):
  path = importlib.resources.files("vision_jax.assets") / file
  assert 10_000 < path.stat().st_size < 4_000_000
  _, _, metadata = weights.load_bundled(name, weights=kind)
  assert metadata.model == name
  assert metadata.licence == "Apache-2.0"
  for word in ("Data:", "Command:", "minutes"):
    assert word in metadata.card


def test_textures_are_told_apart():
  """Two hundred pictures that no other set holds; chance is 5 %."""
  module, variables, metadata = weights.load_bundled(
    "resnet_small", weights="textures"
  )
  assert metadata.class_names == data.TEXTURE_NAMES
  images, labels = data.texture_batch(123, range(200))
  images = weights.normalize(
    images.astype(np.float32) / 255, metadata.preprocessing
  )
  logits = jax.jit(lambda x: module.apply(variables, x)[0])(images)
  assert np.mean(np.argmax(logits, -1) == labels) > 0.9


def test_instances_are_told_apart():
  """Pictures that the training did not see; chance is 1 in 400."""
  module, variables, metadata = weights.load_bundled(
    "resnet_small", weights="instances"
  )
  labels = np.arange(0, 400, 4)
  assert metadata.class_names[labels[11]] == "set 101, 4"
  images = [
    data.draw_instance_image(
      data.InstanceRecord(
        "query", 7000 + k, (k % 40,), (80,), 100 + k // 40, 128
      )
    )["image"]
    for k in labels.tolist()
  ]
  images = weights.normalize(
    np.stack(images).astype(np.float32) / 255, metadata.preprocessing
  )
  logits = jax.jit(lambda x: module.apply(variables, x)[0])(images)
  assert np.mean(np.argmax(logits, -1) == labels) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "kind", "kinds", "bounds"),
  [
    ("yolo_small", "bundled", ("boxes",), {"AP50": 0.35}),
    ("rcnn_small", "bundled", ("boxes",), {"AP50": 0.5, "AP75": 0.4}),
    (
      "rcnn_small",
      "masks",
      ("boxes", "masks"),
      {"AP50": 0.5, "mask_AP50": 0.45},
    ),
  ],
)
def test_shapes_are_found(name, kind, kinds, bounds):
  """Sixty test pictures of 5,000; all of them in experiments/detection."""
  module, variables, _ = weights.load_bundled(name, weights=kind)
  examples = [data.shapes(1, index) for index in range(4000, 4060)]
  predict = tasks.find_task(name).predict
  pairs = scoring.find_all(
    lambda images: predict(module, variables, images, batch_size=20),
    examples,
    batch_size=20,
  )
  scores = scoring.score(pairs, num_classes=12, metric="coco", kinds=kinds)
  print(name, kind, {key: round(scores[key], 3) for key in bounds})
  for key, bound in bounds.items():
    assert scores[key] > bound, key


@pytest.mark.slow
def test_points_improve_the_coarse_masks():
  """Sixty test pictures; more of them in experiments/segmentation."""
  config = segmentation_configs.CONFIGS["generated_shapes_points"]
  config = dataclasses.replace(
    config, data=dataclasses.replace(config.data, num_test=60)
  )
  module, variables, metadata = weights.load_bundled("pointrend_small")
  assert metadata.class_names == ("background", *data.SHAPE_NAMES)
  source = input_pipeline.open_split(config.data, "none", train=False)
  scores = segmentation_task.evaluate(
    config, module, variables, input_pipeline.eval_batches(config, source)
  )
  print({name: round(value, 1) for name, value in scores.items()})
  assert scores["points_mean_iou"] > scores["bilinear_mean_iou"] + 1
  name = "boundary_iou_0.02"
  assert scores[f"points_{name}"] > scores[f"bilinear_{name}"] + 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg_small", "resnet_small"])
def test_beats_random_weights_on_unseen_photographs(name):
  """The full comparison is experiments/pretrain; here one pair a photo."""
  module, trained, metadata = weights.load_bundled(name)
  random = weights.random_variables(module, seed=5)
  config = elf.make_config(
    name, metadata.preprocessing, threshold="none", max_keypoints=200
  )
  scores = {"trained": [], "random": []}
  for pair in data.homography_pairs(num_per_image=1, seed=1, size=(240, 320)):
    truth = metrics.homography_ground_truth(
      pair.homography_0to1, (240, 320), (240, 320)
    )
    for kind, variables in (("trained", trained), ("random", random)):
      points = []
      for image in (pair.image0, pair.image1):
        k = elf.extract(module, variables, image, config)
        valid = np.asarray(k.valid)
        points.append(
          (np.asarray(k.xy)[valid], np.asarray(k.descriptors)[valid])
        )
      (xy0, d0), (xy1, d1) = points
      scores[kind].append(metrics.matching_score(xy0, xy1, d0, d1, truth))
  gain = np.mean(scores["trained"]) - np.mean(scores["random"])
  print(f"{name}: gain in matching score {gain:+.3f}")
  assert gain > 0.05

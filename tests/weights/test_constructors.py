"""The table of networks that weights can be for."""

import inspect

from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.systems import deeplab, rcnn, yolo
from vision_jax.weights import constructors


def test_networks_are_found():
  find = constructors.find_constructor
  assert find("vgg11") is backbones.vgg11
  assert find("rcnn_small") is rcnn.MODELS["rcnn_small"]
  assert find("yolov3") is yolo.yolov3
  assert find("fcn_resnet50") is deeplab.fcn_resnet50
  assert find("vgg12") is None
  names = constructors.model_names()
  assert len(set(names)) == len(names)
  assert set(weights.CATALOG) | set(weights.FOREIGN) <= set(names)


def test_the_number_of_classes_is_an_argument():
  for name in constructors.model_names():
    constructor = constructors.find_constructor(name)
    assert "num_classes" in inspect.signature(constructor).parameters, name

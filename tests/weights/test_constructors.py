from vision_jax.nn import backbones
from vision_jax.systems import rcnn
from vision_jax.weights import constructors


def test_backbones_and_detectors_are_found():
  assert constructors.find_constructor("vgg11") is backbones.vgg11
  assert (
    constructors.find_constructor("rcnn_small") is rcnn.MODELS["rcnn_small"]
  )
  assert constructors.find_constructor("vgg12") is None
  names = constructors.model_names()
  assert len(set(names)) == len(backbones.MODELS) + len(rcnn.MODELS)

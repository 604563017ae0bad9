from vision_jax.nn import backbones
from vision_jax.systems import rcnn, yolo
from vision_jax.weights import constructors


def test_backbones_and_detectors_are_found():
  assert constructors.find_constructor("vgg11") is backbones.vgg11
  assert (
    constructors.find_constructor("rcnn_small") is rcnn.MODELS["rcnn_small"]
  )
  assert constructors.find_constructor("yolov3") is yolo.yolov3
  assert constructors.find_constructor("vgg12") is None
  names = constructors.model_names()
  known = (backbones.MODELS, rcnn.MODELS, yolo.MODELS)
  assert len(set(names)) == sum(map(len, known))

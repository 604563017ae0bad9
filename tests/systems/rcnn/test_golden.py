"""A whole Mask R-CNN against what torchvision found, kept in a file.

The file is made by tests/golden/make_detection.py; torch is not needed here.
"""

import numpy as np

from tests.golden import make_detection
from tests.golden.make_backbones import sample_indices
from vision_jax import weights
from vision_jax.systems import rcnn


def test_detections_equal_those_of_torchvision(quick_compile):
  del quick_compile
  with np.load(make_detection.PATH) as file:
    golden = dict(file)
  names = golden["names"].tolist()
  shapes = {
    name: tuple(int(n) for n in shape if n)
    for name, shape in zip(names, golden["shapes"], strict=True)
  }
  state = make_detection.state_of(golden, shapes)
  module = make_detection.module()
  variables = weights.state_dict_to_variables(module, state)
  images, _ = make_detection.pictures()
  for k, image in enumerate(images):
    (found,) = rcnn.predict(module, variables, [image])
    np.testing.assert_array_equal(found["labels"], golden[f"labels{k}"])
    np.testing.assert_allclose(found["boxes"], golden[f"boxes{k}"], atol=1e-2)
    np.testing.assert_allclose(found["scores"], golden[f"scores{k}"], atol=1e-4)
    assert np.ptp(golden[f"scores{k}"]) > 0.1
    masks = found["masks"].reshape(len(found["masks"]), -1)
    sample = golden[f"masks{k}"]
    assert sample.std() > 0.1
    np.testing.assert_allclose(
      masks[:, sample_indices(masks.shape[1])], sample, atol=1e-4
    )
    np.testing.assert_allclose(
      masks.sum(1, dtype=np.float64), golden[f"areas{k}"], rtol=1e-4
    )

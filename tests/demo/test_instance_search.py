"""The section itself runs in `make demo`; here: its description of a set."""

import dataclasses

import numpy as np
import pytest
from absl.testing import absltest

from vision_jax import data
from vision_jax.demo import instance_search


@pytest.mark.usefixtures("quick_compile")
class InstanceSearchTest(absltest.TestCase):
  def test_description(self):
    module, variables, config = instance_search._settings()
    self.assertEqual(config.beta, 0.3)
    config = dataclasses.replace(config, max_regions=4)
    records = data.instance_set(
      num_instances=2, sides=(48,), num_per_side=1, num_distractors=0, size=96
    )[:2]
    images = [
      data.draw_instance_image(r)["image"].astype(np.float32) / 255
      for r in records
    ]
    found = instance_search._describe((module, variables, config), images)
    self.assertEqual(set(found.image_ids), {0, 1})
    self.assertEqual(found.vectors.shape, (len(found.boxes), 128))
    np.testing.assert_allclose(
      np.linalg.norm(found.vectors, axis=1), 1, atol=1e-4
    )
    self.assertTrue((found.boxes >= 0).all() and (found.boxes <= 96).all())


if __name__ == "__main__":
  absltest.main()

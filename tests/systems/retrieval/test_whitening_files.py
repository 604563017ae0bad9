import pathlib
import tempfile

import numpy as np
import pytest
import safetensors.numpy
from absl.testing import absltest

from vision_jax import ops
from vision_jax.systems import retrieval


class WhiteningFilesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = (
      pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
      / "w.safetensors"
    )

  def test_what_is_written_is_read(self):
    x = np.random.default_rng(0).normal(size=(20, 5))
    learned = ops.fit_whitening(x, num_dims=3)
    source = {"model": "m", "images": ["a", 3]}
    retrieval.save_whitening(self.path, learned, source=source)
    again, facts = retrieval.load_whitening(self.path)
    np.testing.assert_array_equal(again.mean, learned.mean)
    np.testing.assert_array_equal(again.projection, learned.projection)
    self.assertEqual(facts, source)
    self.assertEqual(
      [p.name for p in self.path.parent.iterdir()], ["w.safetensors"]
    )

  def test_what_is_no_whitening(self):
    safetensors.numpy.save_file({"mean": np.zeros(2)}, self.path)
    with pytest.raises(ValueError, match="no whitening of this version"):
      retrieval.load_whitening(self.path)
    self.path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read"):
      retrieval.load_whitening(self.path)

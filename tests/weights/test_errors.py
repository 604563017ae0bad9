"""Tests of the errors: types, and what the message lists."""

import re

from absl.testing import absltest

from vision_jax import weights
from vision_jax.weights import errors


class MismatchErrorTest(absltest.TestCase):
  def test_lists_ten_names_counts_and_nearest(self):
    missing = [f"layer1.{k}.conv1.weight" for k in range(25)]
    unused = ["layer1.7.conv_1.weight", "fc.bias"]
    shapes = {"fc.weight": ((10, 512), (1000, 512))}
    error = errors.mismatch_error("here", missing, unused, shapes)
    text = str(error)
    self.assertStartsWith(text, "here: the weights do not fit the model: ")
    self.assertIn("25 missing", text)
    self.assertIn("and 15 more", text)
    self.assertIn("2 left over", text)
    self.assertIn("conv1.weight': nearest 'layer1.7.conv_1.weight'", text)
    self.assertIn("'fc.weight': got [10, 512], expected [1000, 512]", text)
    self.assertLen(re.findall(r"layer1\.\d+\.conv1\.weight", text), 10)
    self.assertNotIn("\n", text)
    self.assertEqual(error.missing, tuple(missing))
    self.assertEqual(error.unused, tuple(unused))
    self.assertEqual(dict(error.shapes), shapes)

  def test_types(self):
    self.assertTrue(issubclass(weights.WeightsMismatchError, KeyError))
    self.assertTrue(issubclass(weights.WeightsMismatchError, ValueError))
    self.assertTrue(issubclass(weights.WeightsNotFoundError, FileNotFoundError))
    self.assertEqual(str(weights.WeightsNotFoundError("text")), "text")


if __name__ == "__main__":
  absltest.main()

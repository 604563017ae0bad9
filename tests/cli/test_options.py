"""Tests of the shared options."""

import dataclasses

from absl.testing import parameterized

from vision_jax.cli import options


class OptionsTest(parameterized.TestCase):
  @parameterized.parameters(
    options.CommonOptions, options.NetworkOptions, options.FeatureOptions
  )
  def test_are_frozen_with_defaults(self, kind):
    first = kind()
    with self.assertRaises(dataclasses.FrozenInstanceError):
      first.debug = True
    self.assertEqual(first, kind())

  def test_the_one_spelling(self):
    names = [f.name for f in dataclasses.fields(options.NetworkOptions)]
    self.assertEqual(names[:3], ["debug", "model", "weights"])
    self.assertEqual(options.NetworkOptions().weights, "bundled")

"""Tests of the description of machine and versions."""

import platform

import numpy as np
from absl.testing import parameterized

import vision_jax
from vision_jax import viz


class DescribeEnvironmentTest(parameterized.TestCase):
  def test_facts(self):
    facts = viz.describe_environment()
    self.assertEqual(facts["python"], platform.python_version())
    self.assertEqual(facts["numpy"], np.__version__)
    self.assertEqual(facts["vision_jax"], vision_jax.__version__)
    self.assertRegex(facts["date"], r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC$")
    self.assertGreaterEqual(int(facts["cores"]), 1)
    for text in facts.values():
      self.assertIsInstance(text, str)
      self.assertNotEmpty(text)

  def test_missing_packages_are_left_out(self):
    facts = viz.describe_environment(
      packages={"jax": "jax", "no": "no-such-package-anywhere"}
    )
    self.assertIn("jax", facts)
    self.assertNotIn("no", facts)
    self.assertNotIn("numpy", facts)

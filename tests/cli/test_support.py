"""Tests of what the commands share."""

import errno
import json
import pathlib

import numpy as np
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax import ops, viz
from vision_jax.cli import options, support


def _caught(function, *arguments, **settings):
  try:
    function(*arguments, **settings)
  except Exception as error:
    return error
  raise AssertionError("nothing was raised")


class DescribeErrorTest(command_case.CommandCase):
  def test_ours_are_shown_as_they_are(self):
    error = _caught(viz.to_picture, np.zeros(3))
    message, is_users = support.describe_error(error)
    self.assertTrue(is_users)
    self.assertStartsWith(message, "to_picture: `image` must be")
    error = _caught(ops.index_to_continuous, np.zeros((2, 3)))
    self.assertTrue(support.describe_error(error)[1])

  def test_errors_of_others_are_bugs(self):
    error = _caught(np.zeros(3).reshape, 2)
    message, is_users = support.describe_error(error)
    self.assertFalse(is_users)
    self.assertStartsWith(message, "internal error, ValueError: cannot reshape")

  def test_system_errors(self):
    error = OSError(errno.ENOSPC, "No space left on device", "out.h5")
    self.assertEqual(
      support.describe_error(error), ("No space left on device: 'out.h5'", True)
    )
    message, is_users = support.describe_error(MemoryError())
    self.assertIn("--max-side", message)
    self.assertTrue(is_users)
    message, _ = support.describe_error(
      RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
    )
    self.assertIn("not enough memory", message)

  def test_always_one_line(self):
    message, _ = support.describe_error(support.UserError("two\nlines."))
    self.assertEqual(message, "two lines")
    message, _ = support.describe_error(KeyError("a name"))
    self.assertIn("KeyError: a name", message)


class FitImageTest(parameterized.TestCase):
  @parameterized.parameters(
    ((60, 90, 3), 30, (20, 30, 3)),
    ((90, 60, 3), 30, (30, 20, 3)),
    ((90, 60, 3), 90, (90, 60, 3)),
    ((90, 60, 3), 0, (90, 60, 3)),
    ((5, 1000, 3), 50, (1, 50, 3)),
  )
  def test_sizes(self, shape, max_side, expected):
    image = np.zeros(shape, np.float32)
    self.assertEqual(support.fit_image(image, max_side).shape, expected)

  def test_is_the_mean_of_the_area(self):
    image = np.random.default_rng(0).random((6, 9, 3)).astype(np.float32)
    small = support.fit_image(image, 3)
    mean = image.reshape(2, 3, 3, 3, 3).mean((1, 3))
    np.testing.assert_allclose(small, mean, atol=1e-6)


class WriteJsonTest(command_case.CommandCase):
  def test_arrays_paths_and_odd_numbers(self):
    path = self.folder / "r.json"
    support.write_json(
      path,
      {
        "array": np.array([[1.5, np.nan]], np.float32),
        "integer": np.int64(3),
        "path": pathlib.Path("a/b"),
        "none": None,
        "flag": np.bool_(True),
        "tuple": (1, float("inf")),
      },
    )
    text = path.read_text()
    self.assertEndsWith(text, "}\n")
    self.assertEqual(
      json.loads(text),
      {
        "array": [[1.5, None]],
        "integer": 3,
        "path": "a/b",
        "none": None,
        "flag": True,
        "tuple": [1, None],
      },
    )


class ResultRecordTest(parameterized.TestCase):
  def test_holds_facts_options_and_environment(self):
    record = support.result_record(
      options.FeatureOptions(max_keypoints=7, debug=True), {"n": np.int32(2)}
    )
    self.assertEqual(record["n"], 2)
    self.assertEqual(record["options"]["max_keypoints"], 7)
    self.assertNotIn("debug", record["options"])
    self.assertIn("python", record["environment"])
    json.dumps(record)

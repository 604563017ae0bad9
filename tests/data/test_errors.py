"""The error of data sets: a ValueError that can be told apart and shipped."""

import pickle

from absl.testing import absltest

from vision_jax import data


class DataErrorTest(absltest.TestCase):
  def test_a_handler_of_bad_values_sees_it(self):
    with self.assertRaisesRegex(ValueError, "set x, example 3"):
      raise data.DataError("set x, example 3")

  def test_it_can_be_told_from_a_wrong_argument(self):
    self.assertFalse(issubclass(ValueError, data.DataError))

  def test_a_worker_process_can_send_it(self):
    error = pickle.loads(pickle.dumps(data.DataError("set x, example 3")))
    self.assertIsInstance(error, data.DataError)
    self.assertEqual(str(error), "set x, example 3")


if __name__ == "__main__":
  absltest.main()

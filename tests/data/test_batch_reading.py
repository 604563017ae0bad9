"""Tests of what threads and workers run: one process's part of a batch."""

import pickle

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data.batch_reading import BatchReader, source_name


class Numbers:
  """Examples that hold their index; some cannot be read."""

  name, split = "numbers", "train"

  def __init__(self, count, bad=(), error=data.ImageError):
    self.count, self.bad, self.error = count, bad, error

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    if index in self.bad:
      raise self.error(f"file {index}.png is truncated.")
    return {"x": np.full((2, 3), index, np.float32)}


class Odd(Exception):
  """An error that cannot be unpickled."""

  def __init__(self, first, second):
    super().__init__(f"{first} and {second}")


def _draw(example, rng):
  return {**example, "draw": rng.integers(2**40)}


def _reader(source, **changes):
  settings = {
    "seed": 3,
    "shuffle": True,
    "epochs": None,
    "batch_size": 4,
    "first_row": 0,
    "num_rows": 4,
    "transforms": (),
    "on_error": "stop",
    "in_worker": False,
  }
  return BatchReader(source=source, **{**settings, **changes})


class OrderTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 7, 1000)
  def test_each_epoch_has_everything_once(self, count):
    reader = _reader(Numbers(count))
    orders = []
    for epoch in range(3):
      rows = [reader.address(epoch * count + i) for i in range(count)]
      self.assertEqual({e for e, _ in rows}, {epoch})
      orders.append([i for _, i in rows])
      self.assertEqual(sorted(orders[-1]), list(range(count)))
    if count > 5:
      self.assertLen({tuple(order) for order in orders}, 3)
    # An old epoch may be asked for again.
    self.assertEqual(reader.address(0)[1], orders[0][0])

  def test_is_frozen(self):
    reader = _reader(Numbers(8), seed=0)
    order = [reader.address(row)[1] for row in range(8)]
    words = data.random_stream(
      data.Domain.ORDER, 0, 0
    ).bit_generator.random_raw(8)
    self.assertEqual(order, sorted(range(8), key=lambda i: words[i]))
    self.assertEqual(order, [2, 1, 7, 0, 5, 4, 6, 3])

  def test_seeds_and_epochs_do_not_repeat_each_other(self):
    first, second = (_reader(Numbers(50), seed=seed) for seed in (0, 1))
    epochs = {
      tuple(reader.address(50 * e + i)[1] for i in range(50))
      for reader in (first, second)
      for e in range(4)
    }
    self.assertLen(epochs, 8)

  def test_places_are_uniform(self):
    reader = _reader(Numbers(6))
    counts = np.zeros((6, 6))
    for row in range(6 * 600):
      counts[row % 6, reader.address(row)[1]] += 1
    self.assertLess(np.abs(counts - 100).max(), 45)  # 4.5 deviations

  def test_unshuffled_and_ended(self):
    reader = _reader(Numbers(5), shuffle=False, epochs=2)
    rows = [reader.address(row) for row in range(12)]
    self.assertEqual(rows[3:7], [(0, 3), (0, 4), (1, 0), (1, 1)])
    self.assertEqual(rows[9:], [(1, 4), None, None])


class ReadTest(parameterized.TestCase):
  def test_draws_depend_on_seed_epoch_index_and_place(self):
    streams = set()
    for seed in (0, 1):
      reader = _reader(Numbers(5), seed=seed, transforms=(_draw, _draw))
      self.assertNotEqual(
        reader.example(0, 2)["draw"],
        _reader(Numbers(5), seed=seed, transforms=(_draw,)).example(0, 2)[
          "draw"
        ],
      )
      for epoch in (0, 1):
        for index in range(5):
          draw = reader.example(epoch, index)["draw"]
          expected = data.random_stream(
            data.Domain.AUGMENTATION, seed, index, item=epoch * 2**16 + 1
          ).integers(2**40)
          self.assertEqual(draw, expected)
          streams.add(int(draw))
    self.assertLen(streams, 20)

  def test_rows_and_index(self):
    reader = _reader(Numbers(10), shuffle=False, first_row=1, num_rows=2)
    batch, notes = reader(1)
    np.testing.assert_array_equal(batch["x"][:, 0, 0], [5, 6])
    np.testing.assert_array_equal(batch["index"], [5, 6])
    self.assertEqual(batch["index"].dtype, np.int64)
    self.assertEqual(notes, ())

  def test_an_index_of_the_source_stays(self):
    source = [{"index": np.int64(40 + i)} for i in range(4)]
    batch, _ = _reader(source, shuffle=False)(0)
    np.testing.assert_array_equal(batch["index"], [40, 41, 42, 43])

  @parameterized.parameters(data.DataError, data.ImageError)
  def test_stop_names_set_split_example_and_file(self, error):
    reader = _reader(Numbers(8, bad=(5,), error=error), shuffle=False)
    reader(0)
    with self.assertRaisesRegex(
      data.DataError,
      "example 5 of 'numbers', split 'train' must be readable, got: file 5.png"
      ' is truncated; mend or remove it, or pass on_error="skip"',
    ):
      reader(1)

  def test_skip_gives_rows_of_zeros(self):
    reader = _reader(
      Numbers(8, bad=(1, 2, 4, 5, 6, 7)), shuffle=False, on_error="skip"
    )
    batch, notes = reader(0)
    np.testing.assert_array_equal(batch["valid"], [True, False, False, True])
    np.testing.assert_array_equal(batch["x"][:, 1, 1], [0, 0, 0, 3])
    np.testing.assert_array_equal(batch["index"], [0, 0, 0, 3])
    self.assertEqual([index for index, _ in notes], [1, 2])
    self.assertIn("file 1.png", notes[0][1])
    batch, notes = reader(1)  # no row can be read
    self.assertEqual(batch["x"].shape, (4, 2, 3))
    self.assertEqual(batch["x"].dtype, np.float32)
    self.assertFalse(batch["valid"].any() or batch["x"].any())
    self.assertLen(notes, 4)

  def test_a_set_of_which_nothing_can_be_read(self):
    reader = _reader(Numbers(4, bad=range(4)), on_error="skip")
    with self.assertRaisesRegex(
      data.DataError, "'numbers'.*must have a readable example.*file 3.png"
    ):
      reader(0)

  def test_other_errors_are_not_skipped_and_say_where(self):
    source = Numbers(4, bad=(2,), error=ZeroDivisionError)
    reader = _reader(source, shuffle=False, on_error="skip")
    with self.assertRaises(ZeroDivisionError) as caught:
      reader(0)
    self.assertIn(
      "in example 2 of 'numbers', split 'train'", caught.exception.__notes__[0]
    )

  def test_source_names(self):
    self.assertEqual(source_name([]), "'list'")
    self.assertEqual(source_name(Numbers(1)), "'numbers', split 'train'")


class WorkerTest(parameterized.TestCase):
  def test_can_be_pickled_after_use(self):
    reader = _reader(Numbers(9), transforms=(_draw,))
    expected, _ = reader(4)
    found, _ = pickle.loads(pickle.dumps(reader))(4)
    for name, value in expected.items():
      np.testing.assert_array_equal(found[name], value)

  @parameterized.parameters(
    (lambda text: SystemExit(0), RuntimeError, "SystemExit: 0"),
    (lambda text: Odd("a", "b"), RuntimeError, "Odd: a and b .*in example 1"),
    (KeyError, KeyError, "file 1.png"),
    (data.DataError, data.DataError, "file 1.png"),
  )
  def test_errors_can_travel(self, error, kind, message):
    source = Numbers(4, bad=(1,), error=error)
    with self.assertRaisesRegex(kind, message) as caught:
      _reader(source, shuffle=False, in_worker=True)(0)
    again = pickle.loads(pickle.dumps(caught.exception))
    self.assertEqual(str(again), str(caught.exception))


if __name__ == "__main__":
  absltest.main()

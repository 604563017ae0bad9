"""Tests of batches that are read ahead."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data


class Counter:
  """Counts up; its position can be saved."""

  def __init__(self, end, error=None):
    self.next, self.end, self.error, self.closed = 0, end, error, False

  def __iter__(self):
    return self

  def __next__(self):
    if self.next == self.end:
      raise self.error or StopIteration
    self.next += 1
    return self.next - 1

  def get_state(self):
    return {"next": self.next}

  def set_state(self, state):
    self.next = state["next"]

  def close(self):
    self.closed = True


class PrefetchToDeviceTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5, 50)
  def test_order_and_how_far_ahead(self, size):
    counter, put = Counter(10), []
    found = []
    for batch in data.prefetch_to_device(
      counter, lambda b: put.append(b) or -b, size=size
    ):
      found.append(batch)
      self.assertLen(put, min(len(found) + size - 1, 10))
    self.assertEqual(found, [-i for i in range(10)])
    self.assertEqual(put, list(range(10)))

  def test_state_is_that_of_the_batch_handed_out(self):
    ahead = data.prefetch_to_device(Counter(10), lambda b: b, size=3)
    self.assertEqual(ahead.get_state(), {"next": 0})
    states = [(next(ahead), ahead.get_state()) for _ in range(4)]
    self.assertEqual(states[3], (3, {"next": 4}))
    ahead.set_state(states[1][1])
    self.assertEqual(ahead.get_state(), {"next": 2})
    self.assertEqual(list(ahead), list(range(2, 10)))
    ahead.set_state({"next": 8})  # also after the end
    self.assertEqual(list(ahead), [8, 9])

  def test_errors_come_when_they_are_reached(self):
    ahead = data.prefetch_to_device(
      Counter(3, ValueError("damaged")), lambda b: b, size=4
    )
    self.assertEqual([next(ahead) for _ in range(3)], [0, 1, 2])
    with self.assertRaisesRegex(ValueError, "damaged"):
      next(ahead)

  def test_a_plain_iterable_has_no_state(self):
    ahead = data.prefetch_to_device([1, 2], lambda b: b)
    self.assertEqual(next(ahead), 1)
    self.assertFalse(hasattr(ahead, "get_state"))
    ahead.close()

  def test_pipelines(self):
    source = [{"x": np.float32(i)} for i in range(12)]
    pipeline = data.make_pipeline(
      source, batch_size=4, seed=0, process_index=0, process_count=1
    )
    ahead = data.prefetch_to_device(pipeline, lambda b: b["x"].tolist())
    first = [next(ahead) for _ in range(2)]
    state, third = ahead.get_state(), next(ahead)
    self.assertEqual(state["batch"], 2)
    ahead.set_state(state)
    self.assertEqual(next(ahead), third)
    self.assertEqual(sorted([*first[0], *first[1], *third]), list(range(12)))
    ahead.close()

  def test_close_reaches_the_source(self):
    counter = Counter(5)
    ahead = data.prefetch_to_device(counter, lambda b: b)
    next(ahead)
    ahead.close()
    self.assertTrue(counter.closed)

  def test_size_must_be_positive(self):
    with self.assertRaisesRegex(ValueError, "`size` must be at least 1, got 0"):
      data.prefetch_to_device([], lambda b: b, size=0)


if __name__ == "__main__":
  absltest.main()

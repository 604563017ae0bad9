"""Tests of vision_jax.train.batch_source."""

from unittest import mock

import chex
import jax
import pytest

from vision_jax.train import batch_source
from vision_jax.train.batch_source import BatchSource


class Numbers:
  """Iterator with a position."""

  def __init__(self):
    self.next = 0

  def __iter__(self):
    return self

  def __next__(self):
    self.next += 1
    return self.next - 1

  def get_state(self):
    return {"next": self.next}

  def set_state(self, state):
    self.next = state["next"]


class BatchSourceTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _log(self, caplog):
    self.log = caplog

  def test_function_of_the_step(self):
    source = BatchSource(lambda step: step**2)
    self.assertIsNone(source.positions())
    source.resume(5, None)
    self.assertEqual(source.get(3), 9)

  def test_plain_iterable_is_read_past_what_was_used(self):
    source = BatchSource(range(4))
    self.assertIsNone(source.positions())
    source.resume(2, None)
    self.assertEqual([source.get(i) for i in (2, 3)], [2, 3])
    with self.assertRaisesRegex(ValueError, "end before update 5; repeat"):
      source.get(4)

  def test_position_is_set(self):
    source = BatchSource(Numbers())
    self.assertEqual([source.get(i) for i in range(3)], [0, 1, 2])
    positions = source.positions()
    self.assertEqual(positions, [{"next": 3}])
    again = BatchSource(Numbers())
    again.resume(77, positions)
    self.assertEqual(again.get(0), 3)
    # A state without a position, as older runs or functions leave it.
    fresh = BatchSource(Numbers())
    fresh.resume(2, None)
    self.assertEqual(fresh.get(2), 2)

  def test_each_process_has_its_own_position(self):
    positions = [{"next": 10}, {"next": 20}]
    source = BatchSource(Numbers())
    with (
      mock.patch.object(jax, "process_count", return_value=2),
      mock.patch.object(jax, "process_index", return_value=1),
    ):
      source.resume(3, positions)
    self.assertEqual(source.get(0), 20)
    self.assertEqual(self.log.text, "")
    # They are not those of this one process.
    source = BatchSource(Numbers())
    source.resume(3, positions)
    self.assertEqual(source.get(0), 3)
    self.assertIn("saved by 2 processes, now there are 1", self.log.text)

  def test_equal_positions_serve_any_number_of_processes(self):
    source = BatchSource(Numbers())
    source.resume(3, [{"next": 8}, {"next": 8}])
    self.assertEqual(source.get(0), 8)
    source = BatchSource(Numbers())
    with (
      mock.patch.object(jax, "process_count", return_value=4),
      mock.patch.object(jax, "process_index", return_value=3),
    ):
      source.resume(3, [{"next": 9}])
    self.assertEqual(source.get(0), 9)
    self.assertEqual(self.log.text, "")

  def test_what_is_saved_comes_from_all(self):
    said = [{"next": 0}, {"next": 5}]
    with mock.patch.object(
      batch_source.distributed, "exchange", return_value=said
    ) as exchange:
      self.assertEqual(BatchSource(Numbers()).positions(), said)
    exchange.assert_called_once_with({"next": 0})

"""Tests of vision_jax.train.stopping; with real processes in test_restart."""

import os
import signal
import threading
from unittest import mock

import chex
import jax
import numpy as np

from vision_jax import train
from vision_jax.train import stopping
from vision_jax.train.stopping import StopRequest, stop_on_sigterm


class StoppingTest(chex.TestCase):
  def test_the_second_signal_acts_as_before(self):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("before"))
    self.addCleanup(signal.signal, signal.SIGTERM, before)
    with stop_on_sigterm(True) as stop:
      self.assertFalse(stop.reached(1))
      os.kill(os.getpid(), signal.SIGTERM)
      self.assertTrue(stop.reached(2))
      self.assertEqual(seen, [])
      os.kill(os.getpid(), signal.SIGTERM)
      self.assertEqual(seen, ["before"])
    os.kill(os.getpid(), signal.SIGTERM)
    self.assertEqual(seen, ["before", "before"])

  def test_handler_is_put_back(self):
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm(True):
      self.assertIsNot(signal.getsignal(signal.SIGTERM), before)
    self.assertIs(signal.getsignal(signal.SIGTERM), before)
    with stop_on_sigterm(False) as stop:
      self.assertIs(signal.getsignal(signal.SIGTERM), before)
      self.assertFalse(stop.reached(1))

  def test_other_threads_have_no_signals(self):
    found = []

    def work():
      with stop_on_sigterm(True) as stop:
        found.append(stop.reached(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    self.assertEqual(found, [False])

  def test_several_processes_stop_after_the_same_update(self):
    # Two requests side by side; the signal reaches the first one only, after
    # update 5, when the second one is an update behind.
    requests = [StopRequest(), StopRequest()]
    answers = {}

    def run(steps):
      stops = [[], []]
      for step in steps:
        if step == 5:
          requests[0].requested.set()
        flags = [request.requested.is_set() for request in requests]
        for i, request in enumerate(requests):
          with mock.patch.object(
            stopping.distributed,
            "any_process",
            side_effect=lambda flag, f=flags: np.bool_(any(f)),
          ):
            stops[i].append(request.reached(step))
      return stops

    with mock.patch.object(jax, "process_count", return_value=2):
      answers = run(range(1, 17))
    self.assertEqual(answers[0], answers[1])
    self.assertEqual(answers[0].index(True) + 1, 12)

  def test_preempted_is_the_code_of_schedulers(self):
    error = train.Preempted(7)
    self.assertEqual((error.code, error.step), (143, 7))
    self.assertIsInstance(error, SystemExit)

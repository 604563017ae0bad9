import sys

import numpy as np
import pytest

from vision_jax import bench


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_counts_only_what_came_after():
  before = np.ones(30_000_000)  # 240 MB, not counted
  meter = bench.MemoryMeter()
  work = np.ones(10_000_000)  # 80 MB, freed again
  del work
  peak = meter.peak()
  assert before.size == 30_000_000
  assert 70e6 < peak < 160e6

import time

import pytest

from vision_jax import bench


def test_calls_are_interleaved_and_counted():
  order = []
  functions = {n: lambda n=n: order.append(n) for n in "ab"}
  first, seconds = bench.time_interleaved(functions, rounds=3, warmup=2)
  assert order == list("ab") * 6
  assert set(first) == {"a", "b"}
  assert [len(v) for v in seconds.values()] == [3, 3]


def test_ratio_is_taken_against_the_fastest_other():
  result = bench.measure(
    "sleep",
    {
      "vision_jax": lambda: time.sleep(0.02),
      "slow": lambda: time.sleep(0.08),
      "fast": lambda: time.sleep(0.04),
    },
    rounds=3,
  )
  assert result.fastest_other() == "fast"
  assert 0.3 < result.ratio() < 0.8
  assert result.record()["ratio"] == result.ratio()


def test_ratio_pairs_rounds_so_that_drift_cancels():
  result = bench.CaseResult(
    "drift",
    {"vision_jax": 0.0, "torch": 0.0},
    {"vision_jax": [1.0, 2.0, 30.0], "torch": [2.0, 4.0, 60.0]},
    "vision_jax",
  )
  assert result.ratio() == 0.5


def test_table_shows_the_share_of_the_peak():
  result = bench.CaseResult(
    "case",
    {"vision_jax": 1.0},
    {"vision_jax": [0.5]},
    "vision_jax",
    flops=1e9,
  )
  text = bench.format_results([result], bench.Ceilings(4e9, 1e9))
  assert "50 % FLOP/s" in text


def test_errors():
  with pytest.raises(ValueError, match="must not be empty"):
    bench.time_interleaved({})
  with pytest.raises(ValueError, match="`ours` must be"):
    bench.measure("x", {"torch": lambda: None})

"""Timing, and flags that pay; the cases are in `experiments/benchmarks`."""

from vision_jax.bench.flags import set_cpu_flags
from vision_jax.bench.harness import (
  CaseResult,
  Ceilings,
  format_results,
  machine_ceilings,
  measure,
  time_interleaved,
)
from vision_jax.bench.memory import MemoryMeter

__all__ = [
  "CaseResult",
  "Ceilings",
  "MemoryMeter",
  "format_results",
  "machine_ceilings",
  "measure",
  "set_cpu_flags",
  "time_interleaved",
]

"""The timing harness; the cases are in `experiments/benchmarks`."""

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
  "time_interleaved",
]

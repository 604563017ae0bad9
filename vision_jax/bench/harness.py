"""Timing that can be trusted: interleaved, after warm-up, beside a reference.

Machines drift, so a single time says little. All functions of a case are
called in turn, A B A B ..., and the ratio is taken within each round.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
  "CaseResult",
  "Ceilings",
  "format_results",
  "machine_ceilings",
  "measure",
  "time_interleaved",
]

Function = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Ceilings:
  """What the machine can do at most, measured.

  Attributes:
    flops_per_second: a large float32 matrix product.
    bytes_per_second: reading and writing a large array.
  """

  flops_per_second: float
  bytes_per_second: float


@dataclasses.dataclass(frozen=True)
class CaseResult:
  """Times of one case.

  Attributes:
    name: of the case.
    first_call: function -> seconds of its first call (with compilation).
    seconds: function -> seconds of every timed call, in the order of rounds.
    ours: name of our function.
    flops: floating-point operations of one call, or None.
    bytes: smallest number of bytes that one call must move, or None.
  """

  name: str
  first_call: dict[str, float]
  seconds: dict[str, list[float]]
  ours: str
  flops: float | None = None
  bytes: float | None = None

  def median(self, function: str) -> float:
    """Median seconds of one function."""
    return statistics.median(self.seconds[function])

  def spread(self, function: str) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, high = np.percentile(self.seconds[function], (25, 75))
    return float((high - low) / 2 / self.median(function))

  def fastest_other(self) -> str | None:
    """The fastest function that is not ours; None if there is none."""
    others = [name for name in self.seconds if name != self.ours]
    return min(others, key=self.median) if others else None

  def ratio(self) -> float | None:
    """Median over the rounds of ours / fastest other; None without other."""
    other = self.fastest_other()
    if other is None:
      return None
    pairs = zip(self.seconds[self.ours], self.seconds[other], strict=True)
    return statistics.median(a / b for a, b in pairs)

  def record(self) -> dict[str, Any]:
    """Everything as plain data, for JSON."""
    other = self.fastest_other()
    return dataclasses.asdict(self) | {
      "median": {name: self.median(name) for name in self.seconds},
      "fastest_other": other,
      "ratio": self.ratio(),
    }


def time_interleaved(
  functions: Mapping[str, Function], *, rounds: int = 10, warmup: int = 1
) -> tuple[dict[str, float], dict[str, list[float]]]:
  """Calls all functions in turn and times every call.

  A function must return only when its work is done (for JAX:
  `block_until_ready`).

  Args:
    functions: name -> function without arguments.
    rounds: timed calls of each.
    warmup: further untimed calls of each after the first.

  Returns:
    Seconds of the first calls, and all timed seconds by name.

  Raises:
    ValueError: if `functions` is empty or `rounds` is not positive.

  Example:
    >>> from vision_jax import bench
    >>> first, seconds = bench.time_interleaved({"a": lambda: None}, rounds=3)
    >>> len(seconds["a"])
    3

  Source:
    Interface of this library.
  """
  if not functions or rounds < 1:
    raise ValueError(
      "time_interleaved: `functions` must not be empty and `rounds` at least "
      f"1, got {len(functions)} and {rounds}."
    )

  def timed(function: Function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started

  first = {name: timed(f) for name, f in functions.items()}
  for _ in range(warmup):
    for function in functions.values():
      function()
  seconds: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      seconds[name].append(timed(function))
  return first, seconds


def measure(
  name: str,
  functions: Mapping[str, Function],
  *,
  ours: str = "vision_jax",
  rounds: int = 10,
  flops: float | None = None,
  bytes_moved: float | None = None,
) -> CaseResult:
  """Times one case.

  Args:
    name: of the case.
    functions: name -> function; one of them is ours.
    ours: name of our function.
    rounds: timed calls of each.
    flops: floating-point operations of one call.
    bytes_moved: smallest number of bytes that one call must move.

  Returns:
    The result.

  Raises:
    ValueError: if `ours` is not among the functions.

  Example:
    >>> from vision_jax import bench
    >>> result = bench.measure(
    ...     "sum", {"vision_jax": lambda: 1, "other": lambda: 2}, rounds=3)
    >>> result.fastest_other()
    'other'

  Source:
    Interface of this library.
  """
  if ours not in functions:
    raise ValueError(
      f"measure: `ours` must be one of {sorted(functions)}, got {ours!r}."
    )
  first, seconds = time_interleaved(functions, rounds=rounds)
  return CaseResult(name, first, seconds, ours, flops, bytes_moved)


def machine_ceilings(*, size: int = 1536, rounds: int = 5) -> Ceilings:
  """Measures a matrix product and a copy with JAX on the default device.

  Args:
    size: side of the matrices; the copy has 16 times as many elements.
    rounds: timed calls; the fastest counts.

  Returns:
    The ceilings.

  Example:
    >>> from vision_jax import bench
    >>> bench.machine_ceilings(size=64, rounds=1).flops_per_second > 0
    True

  Source:
    The two ceilings of the roofline model (Williams, Waterman and Patterson,
    2009).
  """
  import jax
  import jax.numpy as jnp

  a = jnp.ones((size, size), jnp.float32)
  b = jnp.ones((16 * size, size), jnp.float32)
  product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
  copy = jax.jit(lambda x: x + 1)
  _, seconds = time_interleaved(
    {
      "product": lambda: product(a).block_until_ready(),
      "copy": lambda: copy(b).block_until_ready(),
    },
    rounds=rounds,
  )
  return Ceilings(
    2 * size**3 / min(seconds["product"]), 2 * b.nbytes / min(seconds["copy"])
  )


def format_results(
  results: Sequence[CaseResult], ceilings: Ceilings | None = None
) -> str:
  """A Markdown table of results.

  Args:
    results: one for each row.
    ceilings: of the machine; adds achieved shares where the work is known.

  Returns:
    The table; times are medians, ± half the distance of the quartiles.

  Example:
    >>> from vision_jax import bench
    >>> result = bench.CaseResult(
    ...     "case", {"vision_jax": 1.0, "torch": 1.0},
    ...     {"vision_jax": [0.1], "torch": [0.2]}, "vision_jax")
    >>> print(bench.format_results([result]).splitlines()[2])
    | case | 100.0 ms ± 0 % | torch | 200.0 ms ± 0 % | **0.50** | 1.0 s | |

  Source:
    Interface of this library.
  """
  header = (
    "case",
    "vision_jax",
    "fastest other",
    "its time",
    "ratio",
    "first call",
    "of the machine's peak",
  )
  lines = [
    "| " + " | ".join(header) + " |",
    "| " + " | ".join(["---"] * len(header)) + " |",
  ]

  def shown(result: CaseResult, name: str | None) -> str:
    if name is None:
      return ""
    milliseconds = 1000 * result.median(name)
    return f"{milliseconds:.1f} ms ± {100 * result.spread(name):.0f} %"

  for result in results:
    other, ratio = result.fastest_other(), result.ratio()
    share = ""
    if ceilings is not None:
      seconds = result.median(result.ours)
      if result.flops is not None:
        peak = result.flops / seconds / ceilings.flops_per_second
        share = f"{100 * peak:.0f} % FLOP/s"
      elif result.bytes is not None:
        peak = result.bytes / seconds / ceilings.bytes_per_second
        share = f"{100 * peak:.0f} % bytes/s"
    cells = (
      result.name,
      shown(result, result.ours),
      other or "",
      shown(result, other),
      "" if ratio is None else f"**{ratio:.2f}**",
      f"{result.first_call[result.ours]:.1f} s",
      share,
    )
    lines.append("| " + " | ".join(cells).rstrip() + " |")
  return "\n".join(lines)

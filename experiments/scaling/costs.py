"""What a compiled program needs: memory, arithmetic, communication."""

import dataclasses
import math
import re
from typing import Any

__all__ = ["Costs", "costs_of"]

_BYTES = {
  "pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2,
  "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip
_KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "collective-permute",
  "all-to-all",
)
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Costs:
  """Needs of one device for one execution.

  Attributes:
    arguments: bytes of the inputs, state and batch.
    temporaries: bytes of intermediate results at the worst moment.
    results: bytes of the outputs that reuse no input.
    program: bytes of the code.
    flops: multiplications and additions, as the compiler counts them.
    collectives: kind of communication -> bytes of its results.
  """

  arguments: int
  temporaries: int
  results: int
  program: int
  flops: float
  collectives: dict[str, int]

  @property
  def memory(self) -> int:
    """Bytes that must be there at once."""
    return self.arguments + self.temporaries + self.results + self.program


def costs_of(compiled: Any) -> Costs:
  """Reads the compiler's own account of a program.

  Args:
    compiled: what `.lower(...).compile()` returns.

  Returns:
    The needs of one device.
  """
  memory = compiled.memory_analysis()
  costs = compiled.cost_analysis()
  costs = costs[0] if isinstance(costs, list) else costs
  return Costs(
    arguments=memory.argument_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
    program=memory.generated_code_size_in_bytes,
    flops=float(costs.get("flops", math.nan)),
    collectives=collective_bytes(compiled.as_text()),
  )


def collective_bytes(text: str) -> dict[str, int]:
  """Bytes of the results of every kind of communication in a program's text."""
  found: dict[str, int] = {}
  for line in text.splitlines():
    right = line.partition(" = ")[2]
    for kind in _KINDS:
      # The end of an asynchronous pair repeats its beginning's result.
      match = re.search(rf"(?:^|[\s)}}]){kind}(-start)?\(", right)
      if not match:
        continue
      shapes = _SHAPE.findall(right[: match.start() + 1])
      sizes = [_size(kind_, dims) for kind_, dims in shapes]
      if match.group(1) and len(sizes) > 1 and kind != "all-reduce":
        sizes = sizes[len(sizes) // 2 :]  # (inputs, results)
      found[kind] = found.get(kind, 0) + sum(sizes)
  return found


def _size(kind: str, dims: str) -> int:
  """Bytes of one array, 0 for what is no array of numbers."""
  count = math.prod(int(n) for n in dims.split(",") if n)
  return _BYTES.get(kind, 0) * count

"""`vision-jax bench`: how fast a network and ELF are on this machine."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  format_columns,
  make_model,
  result_record,
  write_json,
)

if TYPE_CHECKING:
  from vision_jax import bench

__all__ = ["BenchOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions(CommonOptions):
  """Time the forward pass, the saliency and ELF of a network here.

  All rows are called in turn after warm-up; times are medians. FLOP/s are
  compared with a large matrix product on the same device.

  Attributes:
    model: Name of the network, for example vgg16.
    image_size: Height and width of the input.
    batch: Images per call.
    rounds: Timed calls of each row.
    out: JSON file to write every time to.
  """

  model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
  image_size: tuple[int, int] = (480, 640)
  batch: int = 1
  rounds: int = 5
  out: pathlib.Path | None = None

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    for option, value in (
      ("--image-size", min(self.image_size)),
      ("--batch", self.batch),
      ("--rounds", self.rounds),
    ):
      if value < 1:
        raise UserError(f"{option} must be positive, got {value}")
    if self.out is not None:
      check_outputs("--out", self.out, (".json",))
    from vision_jax import bench

    rows = _make_rows(self)
    first, seconds = bench.time_interleaved(
      {name: function for name, (function, _) in rows.items()},
      rounds=self.rounds,
    )
    results = [
      bench.CaseResult(
        name, {name: first[name]}, {name: seconds[name]}, name, flops
      )
      for name, (_, flops) in rows.items()
    ]
    ceilings = bench.machine_ceilings()
    height, width = self.image_size
    print(
      f"{self.model}, {self.batch} x {height} x {width} x 3; a matrix product"
      f" reaches {ceilings.flops_per_second / 1e9:.0f} GFLOP/s here\n"
    )
    headers = ("row", "median", "spread", "images/s", "of the peak", "compile")
    cells = [_cells(r, self.batch, ceilings) for r in results]
    print(format_columns(headers, cells, left=1))
    if self.out is not None:
      facts = {
        "rows": [r.record() for r in results],
        "flops_per_second": ceilings.flops_per_second,
        "bytes_per_second": ceilings.bytes_per_second,
      }
      write_json(self.out, result_record(self, facts))
      print(f"\nwritten: {self.out}")
    return 0


def _make_rows(
  options: BenchOptions,
) -> dict[str, tuple[Callable[[], Any], float | None]]:
  """Name -> function that waits for its result, and its FLOPs if known."""
  import jax
  import numpy as np

  from vision_jax import nn, weights
  from vision_jax.systems import elf

  module = make_model(options.model)
  variables = jax.device_put(weights.random_variables(module, seed=0))
  config = elf.make_config(options.model, weights.Preprocess())
  shape = (options.batch, *options.image_size, 3)
  images = jax.device_put(
    np.random.default_rng(0).random(shape, dtype=np.float32)
  )

  @jax.jit
  def forward(v, x):
    logits, endpoints = module.apply(v, x)
    return list(endpoints.values())[-1] if logits is None else logits

  layer = config.saliency_layer
  table = nn.layer_table(module, image_size=options.image_size)
  flops = float(options.batch * sum(row.flops for row in table))
  return {
    "forward": (
      lambda: jax.block_until_ready(forward(variables, images)),
      flops,
    ),
    f"saliency of {layer}": (
      lambda: jax.block_until_ready(
        elf.saliency(module, variables, images, layer, config)
      ),
      None,
    ),
    "ELF key points": (
      lambda: jax.block_until_ready(
        elf.extract(module, variables, images, config)
      ),
      None,
    ),
  }


def _cells(
  result: "bench.CaseResult", batch: int, ceilings: "bench.Ceilings"
) -> tuple[str, ...]:
  """One line of the table."""
  seconds = result.median(result.ours)
  share = ""
  if result.flops is not None:
    peak = result.flops / seconds / ceilings.flops_per_second
    share = f"{100 * peak:.0f} %"
  return (
    result.name,
    f"{1000 * seconds:.1f} ms",
    f"{100 * result.spread(result.ours):.0f} %",
    f"{batch / seconds:.1f}",
    share,
    f"{result.first_call[result.ours]:.1f} s",
  )

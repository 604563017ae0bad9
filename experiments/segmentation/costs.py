"""Multiplications and values of mask heads, counted on our own modules.

Run:  python -m experiments.segmentation.costs --write-readme

Table 2 of the paper: a multiplication with its addition counts once; of the
activations, the inputs of a region and the results of convolutions and dense
layers (of PointRend those of one step, its peak). Not counted, here as there:
the coarse head, reading points, and enlarging the maps.
"""

import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments import readme
from vision_jax import ops
from vision_jax.cli import parsing
from vision_jax.nn import layers, point_heads

README = pathlib.Path(__file__).with_name("README.md")


class Cost(NamedTuple):
  """What one call takes.

  Attributes:
    products: multiplications with their additions.
    values: results of convolutions and dense layers.
  """

  products: int
  values: int


def count(module: nn.Module, *shapes: tuple[int, ...]) -> Cost:
  """Counts the layers of a module called on arrays of these shapes."""
  products, values = [], []

  def follow(next_fun, args, kwargs, context):
    result = next_fun(*args, **kwargs)
    layer, channels = context.module, 0
    if context.method_name != "__call__":
      return result
    if isinstance(layer, layers.Conv):
      channels = layer.kernel_size**2 * args[0].shape[-1] // layer.groups
    elif isinstance(layer, layers.ConvTranspose):  # nothing overlaps
      channels = args[0].shape[-1]
    elif isinstance(layer, layers.Dense | point_heads._Predictor):
      channels = args[0].shape[-1]
    if channels:
      products.append(channels * math.prod(result.shape))
      values.append(math.prod(result.shape))
    return result

  def run(*inputs: Any) -> Any:
    with nn.intercept_methods(follow):
      return module.init_with_output(jax.random.key(0), *inputs)[0]

  jax.eval_shape(run, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
  return Cost(sum(products), sum(values))


def pointrend_points(num_points: int, side: int) -> list[int]:
  """Points of every step from 7 x 7 to a side."""
  seen: list[int] = []

  def head(points: jax.Array) -> jax.Array:
    seen.append(len(points))
    return jnp.zeros((len(points), 1))

  sizes = ops.subdivision_sizes((7, 7), (side, side))
  jax.eval_shape(
    lambda z: ops.refine(
      z,
      head,
      sizes,
      num_points=num_points,
      uncertainty=ops.binary_uncertainty,
    ).logits,
    jax.ShapeDtypeStruct((7, 7, 1), jnp.float32),
  )
  return seen


def table() -> dict[str, Cost]:
  """Row -> cost of one region, 80 classes."""
  rows = {}
  for side in (28, 224):
    shape = (1, side // 2, side // 2, 256)
    cost = count(point_heads.ConvMaskHead(80), shape)
    values = cost.values + math.prod(shape)
    rows[f"4 x conv, {side} x {side}"] = Cost(cost.products, values)
  points = pointrend_points(784, 224)
  one = count(point_heads.PointHead(80), (1, 1, 256), (1, 1, 80))
  rows["PointRend, 224 x 224"] = Cost(
    one.products * sum(points), one.values * max(points)
  )
  dense = 224 * 224
  rows["head of points on every cell"] = Cost(
    one.products * dense, one.values * dense
  )
  return rows


def as_text(rows: dict[str, Cost]) -> str:
  """The table in Markdown."""
  last = rows["PointRend, 224 x 224"].products
  return readme.format_table(
    ("head", "10^9 products", "10^6 values", "products / PointRend"),
    [
      (
        name,
        f"{cost.products / 1e9:.3f}",
        f"{cost.values / 1e6:.3f}",
        f"{cost.products / last:.1f}",
      )
      for name, cost in rows.items()
    ],
  )


@dataclasses.dataclass(frozen=True)
class Options:
  """Where the table goes.

  Attributes:
    write_readme: put it into README.md.
  """

  write_readme: bool = False


def main(options: Options) -> None:
  """Prints the table."""
  text = as_text(table())
  print(text)
  if options.write_readme:
    readme.replace_block(README, "costs", text)


if __name__ == "__main__":
  main(
    parsing.read_options(
      Options, prog="python -m experiments.segmentation.costs"
    )
  )

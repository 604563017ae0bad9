"""Paths of least cost by descent: the trajectory slide of the lecture.

A path is K waypoints between fixed ends; its cost is the integral of a cost
image along it, read by bicubic `ops.grid_sample`. How densely the path is
sampled decides what it can see: too few samples step over a thin wall.

Run:  python -m experiments.warp_descent.paths [--figure paths.png]
"""

import dataclasses
import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision_jax import ops
from vision_jax.cli import parsing

__all__ = [
  "Args",
  "find_path",
  "path_cost",
  "refraction",
  "thin_wall",
  "two_media",
]


def sample_path(waypoints: jax.Array, num_samples: int) -> jax.Array:
  """Places at equal steps of the polyline's parameter, [S, 2]."""
  place = jnp.linspace(0.0, len(waypoints) - 1.0, num_samples)
  below = jnp.clip(jnp.floor(place).astype(int), 0, len(waypoints) - 2)
  share = (place - below)[:, None]
  return (1 - share) * waypoints[below] + share * waypoints[below + 1]


def read_cost(cost: jax.Array, points: jax.Array) -> jax.Array:
  """The cost image [H, W] at places [S, 2] of the unit square, bicubic."""
  grid = (2 * points - 1)[None]
  values = ops.grid_sample(
    cost[..., None], grid, mode="bicubic", padding_mode="border"
  )
  return values[0, :, 0]


def path_cost(
  cost: jax.Array, waypoints: jax.Array, num_samples: int
) -> jax.Array:
  """Integral of the cost along the path, by the trapezium rule.

  Args:
    cost: image of costs over the unit square, [H, W].
    waypoints: (x, y) in the unit square, [K, 2].
    num_samples: where the path is looked at.

  Returns:
    The mean cost times the length, if samples are weighted by arc length.
  """
  points = sample_path(waypoints, num_samples)
  values = read_cost(cost, points)
  steps = jnp.sqrt(((points[1:] - points[:-1]) ** 2).sum(-1) + 1e-12)
  return ((values[1:] + values[:-1]) / 2 * steps).sum()


@functools.partial(jax.jit, static_argnums=(2, 3))
def find_path(
  cost: jax.Array,
  start: jax.Array,
  num_samples: int,
  num_steps: int = 3000,
  smoothness: float = 0.1,
) -> jax.Array:
  """Moves the inner waypoints down the cost of the path.

  Args:
    cost: image of costs over the unit square, [H, W].
    start: waypoints to begin with, [K, 2]; the ends stay.
    num_samples: how densely the path is looked at while it moves.
    num_steps: steps of Adam.
    smoothness: weight of the sum of squared second differences times K; keeps
      waypoints from crowding and so the samples apart by equal lengths.

  Returns:
    Waypoints [K, 2].
  """

  def loss(inner: jax.Array) -> jax.Array:
    path = jnp.concatenate([start[:1], inner, start[-1:]])
    bends = path[2:] - 2 * path[1:-1] + path[:-2]
    return (
      path_cost(cost, path, num_samples)
      + smoothness * len(start) * (bends**2).sum()
    )

  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, num_steps))

  def step(carry, _):
    inner, state = carry
    update, state = optimizer.update(jax.grad(loss)(inner), state)
    return (optax.apply_updates(inner, update), state), None

  inner = start[1:-1]
  (inner, _), _ = jax.lax.scan(
    step, (inner, optimizer.init(inner)), length=num_steps
  )
  return jnp.concatenate([start[:1], inner, start[-1:]])


def straight(start, end, num_waypoints: int) -> jax.Array:
  """Waypoints on the line between two places."""
  return jnp.linspace(jnp.asarray(start), jnp.asarray(end), num_waypoints)


def two_media(upper: float, lower: float, size: int = 256) -> jax.Array:
  """Cost image of two half-planes that meet at y = 0.5."""
  rows = jnp.where(jnp.arange(size) < size // 2, upper, lower)
  return jnp.broadcast_to(rows[:, None], (size, size)).astype(jnp.float32)


def refraction(upper: float, lower: float) -> dict[str, float]:
  """Snell's law: a cheapest path bends as light does.

  Args:
    upper: cost per length above y = 0.5.
    lower: cost per length below.

  Returns:
    Angles to the normal in degrees, fitted to the path away from the border,
    and the one below that n1 sin a1 = n2 sin a2 gives.
  """
  start = straight((0.15, 0.1), (0.85, 0.9), 41)
  path = np.asarray(find_path(two_media(upper, lower), start, 801, 6000, 0.0))

  def angle(part: np.ndarray) -> float:
    slope = np.polyfit(part[:, 1], part[:, 0], 1)[0]  # dx / dy
    return math.degrees(math.atan(slope))

  above = angle(path[path[:, 1] < 0.45])
  below = angle(path[path[:, 1] > 0.55])
  sine = upper / lower * math.sin(math.radians(above))
  return {
    "n1": upper,
    "n2": lower,
    "angle above": above,
    "angle below": below,
    "Snell": math.degrees(math.asin(sine)),
  }


def thin_wall(size: int = 256) -> jax.Array:
  """Cost 1 with a wall of cost up to 30, about 2 % thick, open at one end.

  Its profile is a Gaussian: bicubic interpolation of a sharp wall would fall
  below 0 beside it, and paths would run there.
  """
  y, x = (np.mgrid[:size, :size] + 0.5) / size
  beyond = np.maximum(x - 0.8, 0)
  wall = np.exp(-((y - 0.53) ** 2 + beyond**2) / (2 * 0.008**2))
  return jnp.asarray(1.0 + 29.0 * wall, jnp.float32)


def dense_cost(cost: jax.Array, path: jax.Array) -> float:
  """What the path costs, looked at 2,001 times."""
  return float(path_cost(cost, path, 2001))


@dataclasses.dataclass(frozen=True)
class Args:
  """Paths through cost images.

  Attributes:
    figure: file to draw the paths into, or nothing.
    out: file for the numbers, or nothing.
  """

  figure: str | None = None
  out: str | None = None


def compare_samples() -> tuple[jax.Array, dict[int, jax.Array], list[dict]]:
  """The wall, the path found with each number of samples, and its costs."""
  cost = thin_wall()
  start = straight((0.3, 0.1), (0.4, 0.95), 11)
  paths, rows = {}, []
  for count in (11, 21, 201):
    # Descent does not leap: it begins with a path around the open end too.
    around = jnp.asarray([[0.3, 0.1], [0.95, 0.53], [0.4, 0.95]])
    starts = [start, sample_path(around, 11)]
    found = [find_path(cost, s, count) for s in starts]
    path = min(found, key=lambda p: float(path_cost(cost, p, count)))
    paths[count] = path
    rows.append(
      {
        "samples": count,
        "cost it saw": float(path_cost(cost, path, count)),
        "cost at 2001 samples": dense_cost(cost, path),
      }
    )
  return cost, paths, rows


def main(args: Args) -> None:
  """Prints both comparisons."""
  snell = [refraction(*pair) for pair in ((1.0, 2.0), (1.0, 1.3), (2.0, 1.6))]
  print("n1   n2   above    below    Snell")
  for row in snell:
    print(
      f"{row['n1']:.1f}  {row['n2']:.1f}  {row['angle above']:6.2f}  "
      f"{row['angle below']:7.2f}  {row['Snell']:7.2f}  degrees"
    )
  cost, paths, rows = compare_samples()
  print("samples  cost it saw  cost at 2001 samples")
  for row in rows:
    print(
      f"{row['samples']:7d}  {row['cost it saw']:11.3f}  "
      f"{row['cost at 2001 samples']:20.3f}"
    )
  if args.out:
    text = json.dumps({"snell": snell, "samples": rows}, indent=1)
    pathlib.Path(args.out).write_text(text)
  if args.figure:
    draw(cost, paths, args.figure)


def draw(cost: jax.Array, paths: dict[int, jax.Array], file: str) -> None:
  """The wall and the paths."""
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, len(paths), figsize=(9, 3.3))
  for axis, (count, path) in zip(axes, paths.items(), strict=True):
    axis.imshow(cost, extent=(0, 1, 1, 0), cmap="Greys", vmax=40)
    seen = np.asarray(sample_path(path, count))
    axis.plot(*np.asarray(path).T, color="tab:blue", linewidth=1)
    axis.plot(*seen.T, ".", color="tab:red", markersize=4)
    axis.set_title(
      f"{count} samples: {float(path_cost(cost, path, count)):.2f}, "
      f"truly {dense_cost(cost, path):.2f}",
      fontsize=9,
    )
    axis.set_xticks([])
    axis.set_yticks([])
  figure.tight_layout()
  figure.savefig(file, dpi=110)
  plt.close(figure)


if __name__ == "__main__":
  main(parsing.read_options(Args))

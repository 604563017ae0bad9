"""A transformer in space: digits of some thickness, turned in a volume.

Run:     python -m experiments.stn.volumes [--write] [--figure volumes.png]
Expect:  a plain network and one behind a 3D affine transformer with as many
         parameters, three seeds each, a few minutes
"""

import bisect
import dataclasses
import functools
import math
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

from experiments import readme
from experiments.stn import networks, pictures, train, training
from vision_jax import bench, ops, viz
from vision_jax.cli import parsing
from vision_jax.data import Domain, random_stream
from vision_jax.systems import stn

__all__ = ["SIDE", "Args", "draw_rotation", "main", "make_network", "turn"]

SIDE = 20
_DIGIT, _DEPTH = 14, 6
_WIDTH = 64
_LARGEST = 60  # degrees
_ITEM = 5  # of the digits' distortions; the five of the table come before
_CHUNK = 250


@dataclasses.dataclass(frozen=True)
class Args:
  """Trains with and without a transformer, prints the errors.

  Attributes:
    num_train: volumes to train on.
    num_test: volumes that are asked.
    num_seeds: trainings of each network.
    num_steps: updates.
    figure: file for a picture of what is seen, or nothing.
    write: whether to put the table into the README.
    run: where the digits are.
  """

  num_train: int = 10000
  num_test: int = 2000
  num_seeds: int = 3
  num_steps: int = 1000
  figure: str | None = None
  write: bool = False
  run: tyro.conf.OmitArgPrefixes[train.Run] = dataclasses.field(
    default_factory=train.Run
  )


def draw_rotation(seed: int, index: int) -> np.ndarray:
  """A turn by up to 60 degrees about an axis of any direction, [3, 3]."""
  rng = random_stream(Domain.DIGIT_DISTORTIONS, seed, index, item=_ITEM)
  axis = rng.normal(size=3)
  angle = math.radians(rng.uniform(-_LARGEST, _LARGEST))
  turn = ops.axis_angle_to_rotation(
    jnp.asarray(angle * axis / np.linalg.norm(axis), jnp.float32)
  )
  return np.asarray(turn)


@jax.jit
def _read(volumes: jax.Array, rotations: jax.Array) -> jax.Array:
  """Volumes [B, S, S, S] seen through turns about their middle."""
  theta = jnp.concatenate([rotations, jnp.zeros((len(rotations), 3, 1))], -1)
  grid = ops.affine_grid(theta, (SIDE,) * 3)
  return ops.grid_sample(volumes[..., None], grid)[..., 0]


def turn(images: np.ndarray, seed: int) -> np.ndarray:
  """Digits [N, 28, 28] -> turned volumes uint8 [N, S, S, S]."""
  count = len(images)
  small = images.reshape(count, _DIGIT, 2, _DIGIT, 2).mean((2, 4))
  near, corner = (SIDE - _DEPTH) // 2, (SIDE - _DIGIT) // 2
  inside = slice(corner, corner + _DIGIT)
  result = np.zeros((count, SIDE, SIDE, SIDE), np.float32)
  result[:, near : near + _DEPTH, inside, inside] = small[:, None]
  rotations = np.stack([draw_rotation(seed, index) for index in range(count)])
  for start in range(0, count, _CHUNK):
    part = slice(start, start + _CHUNK)
    result[part] = _read(result[part], rotations[part])
  return np.rint(result).astype(np.uint8)


class _Localisation(nn.Module):
  """Two layers over means of 2 x 2 x 2 cells."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Volumes [B, S, S, S, 1] -> features [B, 32]."""
    x = nn.avg_pool(x, (2, 2, 2), strides=(2, 2, 2))
    return stn.LocalisationFCN(name="fcn")(x)


def _network(with_transformer: bool, width: int) -> networks.DigitNetwork:
  transformer = (
    stn.SpatialTransformer(_Localisation(), "affine3d")
    if with_transformer
    else None
  )
  classifier = networks.FullyConnected(width)
  return networks.DigitNetwork(classifier, transformer, pool=2)


@functools.cache
def make_network(with_transformer: bool) -> networks.DigitNetwork:
  """The network; with a transformer it has no more parameters than without."""
  count = functools.partial(networks.count_parameters, shape=(SIDE,) * 3)
  plain = _network(False, _WIDTH)
  if not with_transformer:
    return plain
  budget = count(plain)
  width = bisect.bisect_left(
    range(_WIDTH), True, lo=1, key=lambda w: count(_network(True, w)) > budget
  )
  return _network(True, width - 1)


def _figure(args: Args, seen: np.ndarray, volumes: np.ndarray) -> None:
  """Sums along the depth: what came in above, what was seen below."""
  sums = [v.sum(1) for v in (volumes.astype(np.float32), seen)]
  rows = [s / s.max((1, 2), keepdims=True) for s in sums]
  shown = [p for row in rows for p in pictures.grown(row, 4 * SIDE)]
  grid = viz.image_grid(shown, columns=len(volumes), padding=4)
  Image.fromarray(grid).quantize(64).save(args.figure, optimize=True)


def main(args: Args) -> dict[str, list[float]]:
  """Trains, asks, prints; returns the errors of both in percent."""
  parts = []
  for split, count in (("train", args.num_train), ("test", args.num_test)):
    images, labels = train.load_images(args.run, split, count)
    parts.append((turn(images, train.SEEDS[split]), labels))
  rows, errors = [], {}
  for name, with_transformer in (("FCN", False), ("ST-FCN Aff", True)):
    network = make_network(with_transformer)
    errors[name], seconds = [], []
    for seed in range(args.num_seeds):
      config = training.Config(seed=seed, num_steps=args.num_steps)
      variables, took = training.train_network(
        network, config, parts[0], progress=args.run.progress
      )
      errors[name].append(training.error_percent(network, variables, parts[1]))
      seconds.append(took)
    spread = np.std(errors[name], ddof=1) if args.num_seeds > 1 else 0.0
    count = networks.count_parameters(network, shape=(SIDE,) * 3)
    rows.append(
      (
        name,
        f"{count:,}",
        f"{np.mean(errors[name]):.2f} ± {spread:.2f}",
        f"{np.mean(seconds):.0f} s",
      )
    )
  text = readme.format_table(
    ("volumes", "parameters", "error, %", "processor time"), rows
  )
  print(text)
  if args.figure:
    some = parts[1][0][:8]
    _, seen = network.apply(variables, training.scale(some))
    _figure(args, np.asarray(seen[..., 0]), some)
  if args.write:
    readme.replace_block(
      pathlib.Path(__file__).with_name("README.md"), "volumes", text
    )
  return errors


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(parsing.read_options(Args, description=__doc__))

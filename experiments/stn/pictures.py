"""What a transformer does: a grid of pictures, and its training as a film.

Run:     python -m experiments.stn.pictures
Expect:  transformers.png and training.gif beside this file, four trainings of
         about two minutes of one core
"""

import dataclasses
import pathlib

import jax
import numpy as np
import tyro
from PIL import Image

from experiments.stn import networks, train, training
from vision_jax import bench, viz
from vision_jax.cli import parsing

__all__ = ["Args", "grown", "main"]

_ROWS = (("R", "Aff"), ("RTS", "Aff"), ("P", "Proj"), ("E", "TPS"))
_COUNT = 10
_FILM = "RTS"


@dataclasses.dataclass(frozen=True)
class Args:
  """Trains one transformer for each of four distortions, and shows them.

  Attributes:
    out: folder for the pictures.
    num_steps: updates of each.
    frames: of the film.
    run: where the digits are.
  """

  out: str = str(pathlib.Path(__file__).parent)
  num_steps: int = 1500
  frames: int = 30
  run: tyro.conf.OmitArgPrefixes[train.Run] = dataclasses.field(
    default_factory=train.Run
  )


def grown(pictures: np.ndarray, side: int) -> list[np.ndarray]:
  """Pictures [N, S, S] in [0, 1], about as large as `side`."""
  factor = max(1, side // pictures.shape[1])
  large = pictures.repeat(factor, 1).repeat(factor, 2)
  return list(np.clip(large, 0, 1))


def _seen(network, variables, images: np.ndarray) -> np.ndarray:
  """What the classifier sees, in [0, 1]."""
  _, seen = jax.jit(network.apply)(variables, training.scale(images))
  return np.asarray(training.unscale(seen[..., 0]))


def main(args: Args) -> list[pathlib.Path]:
  """Trains, draws; returns the files."""
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  config = training.Config(num_steps=3 if args.run.tiny else args.num_steps)
  above, film = [], []
  for kind, family in _ROWS:
    network = networks.make_network(f"ST-CNN {family}", kind)
    examples = train.load_digits(args.run, kind, args.run.split)[0][:_COUNT]
    rows = grown(examples / 255, 56)

    def watch(step, variables, network=network, examples=examples, rows=rows):
      if step * args.frames // config.num_steps == len(film):
        seen = grown(_seen(network, variables, examples), 56)
        film.append(viz.image_grid([*rows, *seen], columns=_COUNT, padding=4))

    variables, _ = training.train_network(
      network,
      config,
      train.load_digits(args.run, kind, "train"),
      watch=watch if kind == _FILM else None,
      progress=args.run.progress,
    )
    above += rows + grown(_seen(network, variables, examples), 56)
  paths = [out / "transformers.png", out / "training.gif"]
  grid = viz.image_grid(above, columns=_COUNT, padding=4)
  Image.fromarray(grid).quantize(64).save(paths[0], optimize=True)
  frames = [Image.fromarray(frame).quantize(32) for frame in film]
  frames[0].save(
    paths[1], save_all=True, append_images=frames[1:], duration=150, loop=0
  )
  print(*paths, sep="\n")
  return paths


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(parsing.read_options(Args, description=__doc__))

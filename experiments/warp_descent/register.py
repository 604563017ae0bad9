"""Registration of photographs by descent on a homography over a pyramid.

Run:  python -m experiments.warp_descent.register [--num-per-image 10]
"""

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import tqdm

from vision_jax import bench, data, ops
from vision_jax.cli import parsing
from vision_jax.systems import registration

__all__ = ["Args", "main", "register_pair", "transfer_error"]


@dataclasses.dataclass(frozen=True)
class Args:
  """Registration of the homography pairs.

  Attributes:
    num_per_image: homographies of each of the seven photographs.
    seed: number of the set of pairs; 0 is the published one.
    size: height and width of the pictures.
    num_levels: levels of the pyramid.
    num_steps: steps at each level.
    learning_rate: at the coarsest level.
    progress: whether to show a progress bar.
  """

  num_per_image: int = 10
  seed: int = 0
  size: tuple[int, int] = (240, 320)
  num_levels: int = 5
  num_steps: int = 100
  learning_rate: float = 0.02
  progress: bool = True


def _grey(image: np.ndarray) -> jnp.ndarray:
  """[H, W, 3] or [H, W] -> [H, W, 1]."""
  return jnp.asarray(image).reshape(*image.shape[:2], -1).mean(-1)[..., None]


def transfer_error(
  found: np.ndarray, true: np.ndarray, size: tuple[int, int]
) -> float:
  """Mean distance of where two homographies take what both pictures show.

  Args:
    found: [3, 3], index frame.
    true: [3, 3], index frame.
    size: (height, width) of both pictures.

  Returns:
    Pixels.
  """
  y, x = np.mgrid[: size[0] : 8, : size[1] : 8]
  points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
  a, b = (m[:2] / m[2:] for m in (true @ points, found @ points))
  limit = np.array([[size[1] - 1], [size[0] - 1]])
  shared = ((a >= 0) & (a <= limit)).all(0)
  return float(np.linalg.norm(a - b, axis=0)[shared].mean())


def register_pair(pair: data.HomographyPair, args: Args) -> np.ndarray:
  """The homography of a pair, from its first picture to its second."""
  found = registration.register(
    _grey(pair.image1),
    _grey(pair.image0),
    family="projective",
    num_levels=args.num_levels,
    num_steps=args.num_steps,
    learning_rate=args.learning_rate,
  )
  theta = ops.homography_from_parameters(found.parameters)
  sizes = (pair.image1.shape[:2], pair.image0.shape[:2])
  return np.asarray(ops.theta_to_matrix(theta, *sizes), np.float64)


def main(args: Args) -> dict[str, float]:
  """Prints and returns errors before and after."""
  pairs = data.homography_pairs(
    num_per_image=args.num_per_image, seed=args.seed, size=args.size
  )
  before, after, began = [], [], time.perf_counter()
  total = 7 * args.num_per_image
  for pair in tqdm.tqdm(pairs, total=total, disable=not args.progress):
    true = pair.homography_0to1
    before.append(transfer_error(np.eye(3), true, args.size))
    after.append(transfer_error(register_pair(pair, args), true, args.size))
  result = {
    "pairs": len(after),
    "median before, pixels": float(np.median(before)),
    "median after, pixels": float(np.median(after)),
    "within 0.1 pixels": float(np.mean(np.array(after) < 0.1)),
    "within 1 pixel": float(np.mean(np.array(after) < 1)),
    "seconds a pair": (time.perf_counter() - began) / len(after),
  }
  for name, value in result.items():
    print(f"{name:22s} {value:.3g}")
  return result


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(parsing.read_options(Args))

"""From the options to key points in the pixels of a file."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from vision_jax.cli.options import FeatureOptions
from vision_jax.cli.support import UserError, fit_image

if TYPE_CHECKING:
  import numpy as np

  from vision_jax.ops import Keypoints
  from vision_jax.systems import elf
  from vision_jax.weights import Preprocess

__all__ = ["Extractor", "Features", "elf_config", "load_extractor"]


class Extractor(NamedTuple):
  """A detector that is ready to run.

  Attributes:
    run: image float32 [H, W, 3] -> padded `Keypoints`.
    config: its settings by name, for the record.
  """

  run: Callable[["np.ndarray"], "Keypoints"]
  config: dict[str, Any]

  def features(self, image: "np.ndarray", max_side: int) -> "Features":
    """Key points of an image of any size, in its own pixels.

    Args:
      image: float32 [H, W, 3].
      max_side: the longest side that is worked on; 0 for no limit.

    Returns:
      `Features`, padded as the detector gave them.
    """
    import jax
    import numpy as np

    from vision_jax import ops

    small = fit_image(image, max_side)
    found = jax.tree.map(np.asarray, self.run(small))
    # Points of the smaller image, at half-pixel centres, in the larger one.
    size, small_size = image.shape[:2], small.shape[:2]
    matrix = ops.resize_matrix(small_size, size)
    factors = matrix[[0, 1], [0, 1]]
    valid = found.valid[:, None]
    xy = np.where(valid, found.xy * factors + matrix[:2, 2], 0.0)
    scale = None if found.scale is None else found.scale * factors.mean()
    keypoints = found._replace(xy=xy.astype(np.float32), scale=scale)
    return Features(keypoints, (image.shape[1], image.shape[0]), factors.mean())


class Features(NamedTuple):
  """Key points of one file.

  Attributes:
    keypoints: padded `Keypoints` of NumPy arrays; (x, y) in pixels of the
      file, index frame. Valid rows come first.
    image_size: (width, height) of the file.
    scaling: pixels of the file per pixel that was worked on.
  """

  keypoints: "Keypoints"
  image_size: tuple[int, int]
  scaling: float

  @property
  def num_keypoints(self) -> int:
    """Number of valid key points."""
    return int(self.keypoints.valid.sum())


def load_extractor(options: FeatureOptions) -> Extractor:
  """Loads what the options ask for.

  Args:
    options: of the command.

  Returns:
    The detector.

  Raises:
    UserError: if an option is out of range.
    WeightsError: if the model or its weights cannot be had.
  """
  if options.max_keypoints < 1:
    raise UserError(
      f"--max-keypoints must be at least 1, got {options.max_keypoints}"
    )
  if options.max_side < 0:
    raise UserError(f"--max-side must be at least 0, got {options.max_side}")
  if options.method != "elf":
    from vision_jax.systems import opencv_features

    def run_opencv(image: "np.ndarray") -> "Keypoints":
      return opencv_features.detect_opencv(
        image, method=options.method, max_keypoints=options.max_keypoints
      )

    return Extractor(
      run_opencv,
      {"method": options.method, "max_keypoints": options.max_keypoints},
    )
  from vision_jax import weights
  from vision_jax.systems import elf

  module, variables, preprocess = weights.resolve(
    options.model, options.weights, seed=options.seed
  )
  config = elf_config(options, preprocess)

  import jax.numpy as jnp

  def run_elf(image: "np.ndarray") -> "Keypoints":
    return elf.extract(module, variables, jnp.asarray(image), config)

  return Extractor(run_elf, {"method": "elf", **config.__dict__})


def elf_config(
  options: FeatureOptions, preprocess: "Preprocess"
) -> "elf.ElfConfig":
  """Settings of ELF for a model, its weights and the options."""
  from vision_jax.systems import elf

  changes: dict[str, Any] = {
    "max_keypoints": options.max_keypoints,
    "quantize": options.quantize,
  }
  if options.saliency_layer:
    changes["saliency_layer"] = options.saliency_layer
  if options.descriptor_layers:
    changes["descriptor_layers"] = options.descriptor_layers
  return elf.make_config(options.model, preprocess, **changes)

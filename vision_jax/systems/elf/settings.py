"""Settings of ELF for each network, and what the network reads."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

__all__ = ["SETTINGS", "ElfConfig", "make_config", "preprocess"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ElfConfig:
  """Settings of ELF; defaults are the paper's for VGG16.

  Attributes:
    saliency_layer: endpoint F whose saliency is the detector's map.
    descriptor_layers: endpoints read as descriptors; each is L2-normalised,
      several are concatenated.
    threshold_blur: (taps, sigma) of the blur before the threshold is chosen.
    denoise_blur: (taps, sigma) of the blur before maxima are taken.
    threshold: "kapur" (entropy) or "none" (every maximum competes).
    radius: Chebyshev radius r of the non-maximum suppression, pixels.
    border: points nearer than b pixels to the border are dropped.
    max_keypoints: K, the length of every result.
    quantize: round the maps to 8 bits as the authors' code does.
    sampling: "exact" registration of the descriptor cells, or "paper": the
      authors' normalised coordinates, off by up to half a cell.
    center: subtract each descriptor map's mean over the image.
    standardize: use the mean and deviation of each image, as the authors do,
      instead of `mean` and `std`.
    mean: per channel, in the order of `channel_order`.
    std: per channel.
    channel_order: order in which the network reads the channels.
  """

  saliency_layer: str = "pool2"
  descriptor_layers: tuple[str, ...] = ("pool4",)
  threshold_blur: tuple[int, float] = (5, 4.0)
  denoise_blur: tuple[int, float] = (5, 5.0)
  threshold: Literal["kapur", "none"] = "kapur"
  radius: int = 10
  border: int = 10
  max_keypoints: int = 500
  quantize: bool = False
  sampling: Literal["exact", "paper"] = "exact"
  center: bool = False
  standardize: bool = False
  mean: tuple[float, ...] = IMAGENET_MEAN
  std: tuple[float, ...] = IMAGENET_STD
  channel_order: Literal["RGB", "BGR"] = "RGB"


# VGG16 and AlexNet: the paper's layers and blurs. The paper has no ResNet; its
# first stage has the stride of VGG's pool2, its third that of pool4. Bundled
# networks: experiments/pretrain/README.md.
SETTINGS: dict[str, ElfConfig] = {
  "vgg16": ElfConfig(),
  "alexnet": ElfConfig("pool1", ("pool2",)),
  "resnet50": ElfConfig("layer1", ("layer3",)),
  "vgg_small": ElfConfig(
    "pool2", ("pool3", "pool4"), (5, 5.0), (5, 4.0), center=True
  ),
  "resnet_small": ElfConfig(
    "layer1", ("layer3", "layer4"), (5, 5.0), (5, 4.0), center=True
  ),
}


def make_config(model: str, preprocess: Any, **changes: Any) -> ElfConfig:
  """The settings of ELF for a network and the weights it was given.

  A network without an entry in `SETTINGS` takes that of its family: AlexNet,
  VGG16 or ResNet-50.

  Args:
    model: name of the network, as in `vision_jax.weights.resolve`.
    preprocess: what the weights expect, a `vision_jax.weights.Preprocess`.
    **changes: fields of `ElfConfig` to set otherwise.

  Returns:
    The configuration.

  Raises:
    TypeError: if `changes` has a name that is not a field of `ElfConfig`.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> module, variables, preprocess = weights.resolve("vgg_small", "bundled")
    >>> config = elf.make_config("vgg_small", preprocess, max_keypoints=100)
    >>> config.descriptor_layers, config.max_keypoints
    (('pool3', 'pool4'), 100)

  Source:
    ELF section 4.1 (layers and blurs of VGG and AlexNet); the others as the
    comment at `SETTINGS` says.
  """
  unknown = set(changes) - {f.name for f in dataclasses.fields(ElfConfig)}
  if unknown:
    known = ", ".join(f.name for f in dataclasses.fields(ElfConfig))
    raise TypeError(
      f"make_config: unknown settings {', '.join(sorted(unknown))}; "
      f"ElfConfig has {known}."
    )
  family = "resnet50" if "resn" in model else "vgg16"
  return dataclasses.replace(
    SETTINGS.get(model, SETTINGS[family]),
    **{
      # (scale x - mean) / std, written for images in [0, 1].
      "mean": tuple(v / preprocess.scale for v in preprocess.mean),
      "std": tuple(v / preprocess.scale for v in preprocess.std),
      "channel_order": preprocess.channel_order,
    }
    | changes,
  )


def preprocess(image: jax.Array, config: ElfConfig) -> jax.Array:
  """What the network reads: channels ordered and normalised.

  Args:
    image: RGB in [0, 1], float [..., H, W, 3].
    config: uses `standardize`, `mean`, `std`, `channel_order`.

  Returns:
    Network input, same shape.

  Example:
    >>> from vision_jax.systems import elf
    >>> out = elf.preprocess(jnp.full((2, 2, 3), 0.485), elf.ElfConfig())
    >>> print(out[0, 0, 0])
    0.0

  Source:
    ELF authors' code (`standardize`: population deviation over all pixels and
    channels, at least 1 / (H W C)); otherwise torchvision's normalisation.
  """
  if config.channel_order == "BGR":
    image = image[..., ::-1]
  if not config.standardize:
    mean, std = (jnp.asarray(v, image.dtype) for v in (config.mean, config.std))
    shape = (1,) * (image.ndim - 1) + (3,)
    return (image - mean.reshape(shape)) / std.reshape(shape)
  axes = (-3, -2, -1)
  size = image.shape[-3] * image.shape[-2] * image.shape[-1]
  deviation = jnp.maximum(image.std(axes, keepdims=True), 1.0 / size)
  return (image - image.mean(axes, keepdims=True)) / deviation

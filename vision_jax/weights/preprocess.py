"""What is done to an image before a network with published weights sees it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vision_jax.ops import sampling

__all__ = ["Preprocess", "normalize", "preprocess_image"]


class Preprocess(NamedTuple):
  """The preparation of images that belongs to weights.

  Attributes:
    mean: subtracted from each channel, after `scale` and `channel_order`.
    std: each channel is divided by it, last.
    scale: factor for images in [0, 1]; 255 for networks that want bytes.
    channel_order: "RGB" or "BGR", the order in which the network wants them.
    resize: length that the shorter side is resized to, or None.
    crop: side of the central square that is cut out, or None.
    antialias: whether resizing to a smaller size filters first.

  Example:
    >>> from vision_jax import weights
    >>> weights.preprocessing("resnet50/IMAGENET1K_V2").resize
    232
  """

  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  scale: float = 1.0
  channel_order: str = "RGB"
  resize: int | None = 256
  crop: int | None = 224
  antialias: bool = True


IMAGENET_PREPROCESS = Preprocess()
IMAGENET_V2_PREPROCESS = Preprocess(resize=232)
FEATURES_PREPROCESS = Preprocess(
  mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)
)
# The shorter side of segmentation; no crop.
SEGMENTATION_PREPROCESS = Preprocess(resize=520, crop=None)
# Of detectron2, for Cityscapes: bytes, in the order of their networks.
CAFFE_PREPROCESS = Preprocess(
  mean=(103.53, 116.28, 123.675),
  std=(1.0, 1.0, 1.0),
  scale=255.0,
  channel_order="BGR",
  resize=1024,
  crop=None,
)
COCO_CAFFE_PREPROCESS = CAFFE_PREPROCESS._replace(resize=800)
R103_PREPROCESS = Preprocess(
  mean=(123.675, 116.28, 103.53),
  std=(58.395, 57.12, 57.375),
  scale=255.0,
  resize=1024,
  crop=None,
)
# Darknet cuts out the central square first and takes the values as they are.
DARKNET_PREPROCESS = Preprocess(
  mean=(0.0, 0.0, 0.0),
  std=(1.0, 1.0, 1.0),
  resize=256,
  crop=256,
  antialias=False,
)
# `systems.rcnn` resizes, also to a longest side; nothing is cut off.
DETECTION_PREPROCESS = Preprocess(resize=800, crop=None, antialias=False)
# [-1, 1]. Keras states no crop: this is Inception's, 299 / 0.875.
KERAS_PREPROCESS = Preprocess(
  mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize=342, crop=299
)


def normalize(images: jax.Array, preprocess: Preprocess) -> jax.Array:
  """Shifts and scales the channels as the weights expect; no resizing.

  Convention:
    Layout [..., H, W, 3], RGB in [0, 1].

  Args:
    images: float [..., H, W, 3].
    preprocess: from `vision_jax.weights.preprocessing`.

  Returns:
    float [..., H, W, 3], channels in the order of `preprocess`.

  Raises:
    ValueError: if the last axis is not as long as `preprocess.mean`.
    TypeError: if the images are integers (bytes must be divided by 255).

  Example:
    >>> from vision_jax import weights
    >>> images = jnp.full((2, 4, 5, 3), 0.5)
    >>> out = weights.normalize(images, weights.preprocessing("vgg16"))
    >>> print(np.asarray(out)[0, 0, 0].round(2))
    [0.07 0.2  0.42]

  Source:
    The statistics of each set of weights, as its publisher has them.
  """
  images = jnp.asarray(images)
  if images.ndim < 3 or images.shape[-1] != len(preprocess.mean):
    raise ValueError(
      f"normalize: `images` must be [..., H, W, {len(preprocess.mean)}], got "
      f"{images.shape}."
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise TypeError(
      f"normalize: `images` must be floating point in [0, 1], got "
      f"{images.dtype}; divide bytes by 255 first."
    )
  if preprocess.channel_order == "BGR":
    images = images[..., ::-1]
  shape = (1,) * (images.ndim - 1) + (-1,)
  mean = jnp.asarray(preprocess.mean, images.dtype).reshape(shape)
  std = jnp.asarray(preprocess.std, images.dtype).reshape(shape)
  return (images * preprocess.scale - mean) / std


def preprocess_image(image: jax.Array, preprocess: Preprocess) -> jax.Array:
  """Resizes, cuts out the centre and normalises one image.

  The shorter side becomes `preprocess.resize`, the longer one
  int(resize * longer / shorter); the square is cut out at
  round((size - crop) / 2), ties to the even number.

  Convention:
    Layout [H, W, 3], RGB in [0, 1].

  Args:
    image: float [H, W, 3].
    preprocess: from `vision_jax.weights.preprocessing`.

  Returns:
    float [crop, crop, 3], or the resized shape if `crop` is None.

  Raises:
    ValueError: if `image` is not [H, W, 3] or smaller than the crop.
    TypeError: if the image holds integers (bytes must be divided by 255).

  Example:
    >>> from vision_jax import weights
    >>> image = jnp.full((300, 200, 3), 0.5)
    >>> preprocess = weights.preprocessing("resnet18")
    >>> weights.preprocess_image(image, preprocess).shape
    (224, 224, 3)

  Source:
    torchvision.transforms, the preset ImageClassification, on float tensors.
  """
  image = jnp.asarray(image)
  if image.ndim != 3 or image.shape[-1] != len(preprocess.mean):
    raise ValueError(
      f"preprocess_image: `image` must be [H, W, {len(preprocess.mean)}], "
      f"got {image.shape}."
    )
  if 0 in image.shape:
    raise ValueError(
      f"preprocess_image: `image` must not be empty, got {image.shape}."
    )
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f"preprocess_image: `image` must be floating point in [0, 1], got "
      f"{image.dtype}; divide bytes by 255 first."
    )
  height, width = image.shape[:2]
  if preprocess.resize is not None:
    short, long = min(height, width), max(height, width)
    long = int(preprocess.resize * long / short)
    short = preprocess.resize
    height, width = (short, long) if height <= width else (long, short)
    image = sampling.resize(
      image, (height, width), mode="bilinear", antialias=preprocess.antialias
    )
  if preprocess.crop is not None:
    size = preprocess.crop
    if size > min(height, width):
      raise ValueError(
        f"preprocess_image: `image` must be at least {size} pixels high and "
        f"wide for the crop, got {(height, width)}."
      )
    top, left = round((height - size) / 2), round((width - size) / 2)
    image = image[top : top + size, left : left + size]
  return normalize(image, preprocess)

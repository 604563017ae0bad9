"""The rows of the comparison: image -> 500 key points, and a way to match.

Every method returns the same `Keypoints`, sorted by its response, so that a
number of points can be the same for all.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops, weights
from vision_jax.systems import elf, opencv_features
from vision_jax.systems.elf import extraction

LUMA = (0.299, 0.587, 0.114)
ROTATIONS = tuple(range(0, 360, 30))
SCALES = (0.42, 0.5, 0.59, 0.71, 0.84, 1.0, 1.19, 1.41)


class Network(NamedTuple):
  """A backbone with weights and the settings of ELF that go with it.

  Attributes:
    name: for the table.
    module: the backbone.
    variables: its weights.
    config: settings of ELF.
  """

  name: str
  module: Any
  variables: Any
  config: elf.ElfConfig


class Method(NamedTuple):
  """One row.

  Attributes:
    name: of the row; also of its folder in the cache.
    extract: uint8-like float image [H, W, 3] -> key points.
    settings: everything that the result depends on, for the cache.
    refine: (pair, key points, matches) -> points [M, 2] of both pictures, or
      None where matches are taken as they are.
    adapt: (pair, key points of both) -> key points with other descriptors, or
      None; what is stored are those before.
  """

  name: str
  extract: Callable[[np.ndarray], ops.Keypoints]
  settings: str
  refine: Callable[..., Any] | None = None
  adapt: Callable[..., Any] | None = None


def load_network(
  model: str, source: str, *, max_keypoints: int, published: bool = False
) -> Network:
  """A network for ELF; `source` as in `weights.resolve`.

  `published` keeps the entropy threshold, rounds to 8 bits and samples as the
  authors' code; otherwise every picture gets the same number of points.
  """
  module, variables, preprocess = weights.resolve(model, source, seed=0)
  changes: dict[str, Any] = {"threshold": "none"}
  if published:
    changes = {"quantize": True, "sampling": "paper"}
  config = elf.make_config(
    model, preprocess, max_keypoints=max_keypoints, **changes
  )
  label = {"bundled": model, "random": f"{model}, random weights"}
  return Network(label.get(source, model), module, variables, config)


def _fingerprint(network: Network) -> str:
  """Of the weights and the settings."""
  digest = hashlib.sha256(repr(network.config).encode())
  for leaf in jax.tree.leaves(network.variables):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()[:16]


def elf_method(network: Network) -> Method:
  """ELF as published: detector and descriptor of one network."""

  def extract(image):
    return elf.extract(
      network.module, network.variables, jnp.asarray(image), network.config
    )

  return Method(f"ELF {network.name}", extract, _fingerprint(network))


def refined_method(network: Network, *, warped: bool) -> Method:
  """ELF with its matches aligned again, once or after a first homography."""
  plain = elf_method(network)
  model = network.module, network.variables

  def refine(images, keypoints, matches):
    run = elf.refine_homography if warped else elf.refine_matches
    return run(*model, *images, *keypoints, matches, network.config)[:2]

  suffix = " + refined twice" if warped else " + refined"
  return plain._replace(name=plain.name + suffix, refine=refine)


def view_method(
  network: Network, rotations: Sequence[float], scales: Sequence[float]
) -> Method:
  """ELF with picture 1 described in the view that resembles picture 0."""
  plain = elf_method(network)

  def adapt(images, keypoints):
    k0, k1 = keypoints
    views = elf.describe_views(
      network.module,
      network.variables,
      jnp.asarray(images[1]),
      k1,
      network.config,
      rotations=rotations,
      scales=scales,
    )
    _, descriptors = elf.choose_view(k0, views, k1.valid)
    return k0, k1._replace(descriptors=descriptors)

  kinds = [
    name
    for name, values in (("rotation", rotations), ("scale", scales))
    if len(values) > 1
  ]
  return plain._replace(
    name=f"{plain.name} + {' and '.join(kinds)}", adapt=adapt
  )


def scale_method(network: Network, *, of_picture: bool) -> Method:
  """ELF with every point described at the level of its own scale.

  The scale is that of the saliency at the point or, `of_picture`, that of the
  grey picture.
  """
  plain = elf_method(network)
  model = network.module, network.variables
  config = network.config
  unblurred = dataclasses.replace(config, denoise_blur=(1, 1.0))

  def extract(image):
    image = jnp.asarray(image)
    found = elf.extract(*model, image, config)
    if of_picture:
      gray = jnp.tensordot(image, jnp.asarray(LUMA), 1)[..., None]
      scale = elf.keypoint_scales(gray, found, unblurred, octaves=4)
    else:
      layer = config.saliency_layer
      saliency = elf.saliency(*model, image, layer, config)[layer]
      scale = elf.keypoint_scales(saliency, found, config, octaves=4)
    return elf.describe_at_scale(
      *model,
      image,
      found._replace(scale=scale),
      config,
      reference=4.5,
      levels=(1.41, 1.0, 0.79, 0.63, 0.5, 0.4, 0.31),
    )

  kind = "picture" if of_picture else "saliency"
  return Method(
    f"{plain.name} + point scales of the {kind}",
    extract,
    f"scales of {kind} {plain.settings}",
  )


def _responses() -> dict[str, Callable[[jax.Array], jax.Array]]:
  """Linear filters and corners: grey image [H, W] -> response [H, W]."""

  def sobel(gray):
    yy, _, xx = ops.structure_tensor(
      gray[..., None], derivative_sigma=None, integration_sigma=0.5
    )
    return jnp.sqrt(jnp.maximum(yy + xx, 1e-30))

  def difference(gray):
    stack, _ = ops.difference_of_gaussians(gray, intervals=1, octaves=1)
    return jnp.abs(stack[0])

  return {
    "Sobel": sobel,
    "LoG": lambda gray: jnp.abs(ops.laplacian_of_gaussian(gray, sigma=1.6)),
    "DoG": difference,
    "Harris": lambda gray: ops.harris_response(gray[..., None]),
  }


def response_method(
  network: Network,
  respond: Callable[[Any, jax.Array], jax.Array],
  *,
  name: str,
  settings: str,
) -> Method:
  """Another map in place of the saliency, described by the network.

  `respond` takes (variables, image [H, W, 3]) and returns the map [H, W].
  """
  config = network.config

  @jax.jit
  def extract(variables, image):
    response = respond(variables, image)[..., None]
    xy, scores, valid = elf.detect(response, config)
    x = elf.preprocess(image, config)
    descriptors = extraction.read_descriptors(
      network.module, variables, x, xy, config
    )
    descriptors = jnp.where(valid[:, None], descriptors, 0.0)
    return ops.Keypoints(xy, scores, valid, descriptors)

  return Method(
    name, lambda image: extract(network.variables, jnp.asarray(image)), settings
  )


def control_methods(network: Network) -> list[Method]:
  """Other detectors with the network's descriptor: does saliency matter?

  Responses pass through the rest of ELF's detector (blur, suppression, 500
  best), so that only the map differs.
  """

  def on_gray(response):
    return lambda _, image: response(jnp.tensordot(image, jnp.asarray(LUMA), 1))

  fingerprint = _fingerprint(network)
  return [
    response_method(
      network,
      on_gray(response),
      name=f"{name} + {network.name}",
      settings=f"{name} {fingerprint}",
    )
    for name, response in _responses().items()
  ]


def opencv_method(name: str, *, max_keypoints: int) -> Method:
  """SIFT, ORB or AKAZE."""

  def extract(image):
    return opencv_features.detect_opencv(
      image, method=name, max_keypoints=max_keypoints
    )

  return Method(name.upper(), extract, f"{name} {max_keypoints}")


def default_methods(
  max_keypoints: int,
  networks: Sequence[tuple[str, str]],
  *,
  published: bool = False,
) -> list[Method]:
  """All rows: bundled networks, controls, baselines, and what was asked for."""
  load = functools.partial(
    load_network, max_keypoints=max_keypoints, published=published
  )
  vgg = load("vgg_small", "bundled")
  random = vgg._replace(
    name=f"{vgg.name}, random weights",
    variables=weights.random_variables(vgg.module),
  )
  others = [(m, "bundled") for m in weights.BUNDLED if m != vgg.name]
  rows = [elf_method(vgg), *(elf_method(load(*other)) for other in others)]
  rows += [elf_method(random), *(elf_method(load(*n)) for n in networks)]
  rows += [refined_method(vgg, warped=w) for w in (False, True)]
  rows += control_methods(vgg)
  rows += [
    opencv_method(name, max_keypoints=max_keypoints)
    for name in opencv_features.OPENCV_METHODS
  ]
  return rows


def robust_methods(max_keypoints: int) -> dict[str, list[Method]]:
  """The rows of the rotation and of the zoom curve."""
  vgg = load_network("vgg_small", "bundled", max_keypoints=max_keypoints)
  sift = opencv_method("sift", max_keypoints=max_keypoints)
  return {
    "rotation": [elf_method(vgg), view_method(vgg, ROTATIONS, (1.0,)), sift],
    "zoom": [
      elf_method(vgg),
      view_method(vgg, (0.0,), SCALES),
      scale_method(vgg, of_picture=False),
      scale_method(vgg, of_picture=True),
      sift,
    ],
  }

"""Attribution of feature activity to the pixels that caused it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["saliency"]


def saliency(feature_fn: Callable[[jax.Array], Any], image: jax.Array) -> Any:
  r"""Saliency of feature maps, :math:`|F^T \partial F / \partial I|`.

  One vector-Jacobian product with the feature map itself as the cotangent;
  equal to the absolute gradient of :math:`\frac12 \lVert F(I) \rVert^2`. Can
  be differentiated itself. If `feature_fn` returns several maps
  (a dict, list or tuple), each gets its own saliency; the forward pass is
  shared once the call is jitted.

  Convention:
    Any layout; the result has the shape of `image`. One image [H, W, C], or a
    batch [B, H, W, C] through networks that treat its members independently
    (in evaluation mode); both also work through vmap.

  Args:
    feature_fn: image -> feature map, or a structure of feature maps.
    image: the input, float [H, W, C].

  Returns:
    Non-negative saliency [H, W, C], or the same structure of them.

  Raises:
    TypeError: if `image` is not floating point.

  Example:
    >>> from vision_jax.ops import saliency
    >>> image = jnp.array([[[1.0], [-2.0]]])
    >>> print(saliency(lambda i: 3.0 * i, image)[..., 0])
    [[ 9. 18.]]

  Source:
    Benbihi, Geist, Pradalier, "ELF", ICCV 2019 (arXiv 1907.03261), eq. 1.
  """
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f"saliency: `image` must be floating point, got {image.dtype}; "
      "convert it, for example to float32 in [0, 1]."
    )
  leaves, structure = jax.tree.flatten(jax.eval_shape(feature_fn, image))

  def one(index: int) -> jax.Array:
    features, vjp = jax.vjp(
      lambda x: jax.tree.leaves(feature_fn(x))[index], image
    )
    (gradient,) = vjp(features)
    return jnp.abs(gradient)

  return jax.tree.unflatten(structure, [one(i) for i in range(len(leaves))])

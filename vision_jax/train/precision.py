"""Computing in bfloat16: what is rounded and what is not.

The modules of this library take `dtype`, the type of their computation. With
bfloat16:

* parameters, their averages and the optimizer's state stay float32; a layer
  rounds its copy of them for each use, and gradients come back in float32;
* batch normalisation computes its statistics in float32 and keeps them so;
* a loss function turns what the network returns into float32 first
  (`logits.astype(jnp.float32)`), so that softmax, losses and their sums are
  float32; `make_step` adds sums and counts over devices in float32 at least;
* coordinates, boxes and grids are float32 everywhere in this library.

Losses are not scaled. bfloat16 has the exponents of float32: gradients that
float32 holds do not vanish. float16 has not and would need it; it is not
offered.
"""

import jax.numpy as jnp
import numpy as np

__all__ = ["compute_dtype"]

_KNOWN = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}


def compute_dtype(name: str) -> np.dtype:
  """The type for a module's `dtype`, from its name in a configuration.

  Nothing else changes between the two: parameters, statistics, losses and
  metrics are float32 in both, as the text of this module says.

  Args:
    name: "float32" or "bfloat16".

  Returns:
    The dtype.

  Raises:
    KeyError: if the name is unknown.

  Example:
    >>> from vision_jax import nn, train
    >>> conv = nn.Conv(8, 3, dtype=train.compute_dtype("bfloat16"))
    >>> images = jnp.ones((1, 5, 7, 3))
    >>> variables = conv.init(jax.random.key(0), images)
    >>> y = conv.apply(variables, images)
    >>> print(variables["params"]["kernel"].dtype, y.dtype)
    float32 bfloat16

  Source:
    Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training (arXiv
    1905.12322).
  """
  if name not in _KNOWN:
    raise KeyError(
      f"compute_dtype: `name` must be one of {', '.join(_KNOWN)}, got "
      f"{name!r}; float16 would need scaled losses."
    )
  return np.dtype(_KNOWN[name])

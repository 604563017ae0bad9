"""Points, regions and warps of pretrained networks, in JAX and Flax.

The subpackages are loaded on first use, so ``import vision_jax`` is cheap:

* ``vision_jax.ops``: pure functions on arrays.
* ``vision_jax.nn``: Flax modules and backbones.
* ``vision_jax.systems``: whole methods (``elf``).
* ``vision_jax.weights``: reading, converting and saving parameters.
* ``vision_jax.data``, ``metrics``, ``train``, ``viz``, ``bench``, ``demo``.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
  "bench",
  "data",
  "demo",
  "metrics",
  "nn",
  "ops",
  "systems",
  "train",
  "viz",
  "weights",
]

if TYPE_CHECKING:
  from vision_jax import (
    bench,
    data,
    demo,
    metrics,
    nn,
    ops,
    systems,
    train,
    viz,
    weights,
  )


def __getattr__(name: str):
  if name in __all__:
    return importlib.import_module(f"vision_jax.{name}")
  raise AttributeError(f"module 'vision_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])

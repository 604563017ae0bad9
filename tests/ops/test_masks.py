"""First check of ops.masks: the functions are exported."""

from vision_jax import ops
from vision_jax.ops import masks


def test_exported():
  for name in masks.__all__:
    assert getattr(ops, name) is getattr(masks, name)

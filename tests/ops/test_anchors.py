"""First check of ops.anchors: the functions are exported."""

from vision_jax import ops
from vision_jax.ops import anchors


def test_exported():
  for name in anchors.__all__:
    assert getattr(ops, name) is getattr(anchors, name)

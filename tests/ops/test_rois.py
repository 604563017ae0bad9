"""First check of ops.rois: the functions are exported."""

from vision_jax import ops
from vision_jax.ops import rois


def test_exported():
  for name in rois.__all__:
    assert getattr(ops, name) is getattr(rois, name)

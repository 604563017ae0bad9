"""First check of ops.roi_keypoints: the functions are exported."""

from vision_jax import ops
from vision_jax.ops import roi_keypoints


def test_exported():
  for name in roi_keypoints.__all__:
    assert getattr(ops, name) is getattr(roi_keypoints, name)

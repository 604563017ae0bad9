"""First check of ops.losses: the functions are exported."""

from vision_jax import ops
from vision_jax.ops import losses


def test_exported():
  for name in losses.__all__:
    assert getattr(ops, name) is getattr(losses, name)

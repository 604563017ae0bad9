"""Compiling without optimisation, for what runs a few times only."""

import contextlib

import jax

__all__ = ["quick_compile"]


@contextlib.contextmanager
def quick_compile():
  """Programs compiled inside are not optimised: it would not pay."""
  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, True)
  try:
    yield
  finally:
    jax.config.update(name, before)

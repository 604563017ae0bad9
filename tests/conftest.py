"""Shared test settings: eight CPU devices, strict ranks, no downloads."""

import importlib.metadata
import os
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# Most of the time goes into compiling small programs. XLA's older emitters do
# that in 60 % of the time; demo, benchmarks and parity use the newer ones. An
# unknown flag would end the program: it is set for a tried version alone.
if importlib.metadata.version("jaxlib").startswith("0.10."):
  os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest

from tests import compilation

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(name="quick_compile")
def _quick_compile():
  """See `compilation.quick_compile`."""
  with compilation.quick_compile():
    yield


@pytest.fixture(scope="session", autouse=True)
def _memory_is_given_back():
  """Commands run in this process must not change how it keeps memory."""
  with mock.patch("vision_jax.bench.flags._keep_freed_memory"):
    yield

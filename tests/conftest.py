"""Shared test settings: eight CPU devices, strict ranks, no downloads."""

import importlib.metadata
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# Most of the time goes into compiling small programs. XLA's older emitters do
# that in 60 % of the time; demo, benchmarks and parity use the newer ones. An
# unknown flag would end the program: it is set for a tried version alone.
if importlib.metadata.version("jaxlib").startswith("0.10."):
  os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

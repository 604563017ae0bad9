"""Tests of the compiler flags."""

import os
import platform
import subprocess
import sys
from unittest import mock

import pytest

from vision_jax import bench

CODE = """
import jax, jax.numpy as jnp
x = jnp.ones((1, 60, 80, 128)); w = jnp.ones((3, 3, 128, 128))
f = jax.jit(lambda x, w: jax.lax.conv_general_dilated(
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
print("ynn" in f.lower(x, w).compile().as_text(), float(f(x, w)[0, 9, 9, 0]))
"""


def _run(flags):
  environment = dict(os.environ, XLA_FLAGS=flags)
  return subprocess.run(
    [sys.executable, "-c", CODE],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()


@pytest.mark.slow
def test_the_flag_changes_who_convolves_and_not_the_result():
  with mock.patch.dict(os.environ, {"XLA_FLAGS": ""}):
    assert bench.set_cpu_flags()
    flags = os.environ["XLA_FLAGS"]
  assert _run("") == ["True", "1152.0"]
  assert _run(flags) == ["False", "1152.0"]


@pytest.mark.parametrize("choice", ["", "LIBRARY_FUSION_TYPE_DOT"])
def test_choices_are_respected(choice):
  chosen = f"--a=1 --xla_cpu_experimental_ynn_fusion_type={choice}"
  with mock.patch.dict(os.environ, {"XLA_FLAGS": chosen}):
    assert not bench.set_cpu_flags()
    assert os.environ["XLA_FLAGS"] == chosen


def test_other_flags_stay():
  with mock.patch.dict(os.environ, {"XLA_FLAGS": "--a=1"}):
    assert bench.set_cpu_flags()
    assert os.environ["XLA_FLAGS"].startswith("--a=1 --xla_cpu")


def test_unknown_versions_are_left_alone():
  with (
    mock.patch.dict(os.environ, {"XLA_FLAGS": ""}),
    mock.patch("importlib.metadata.version", return_value="0.99.0"),
  ):
    assert not bench.set_cpu_flags()
    assert os.environ["XLA_FLAGS"] == ""


FAULTS = """
import resource, sys
from vision_jax import bench
if sys.argv[1] == "kept": bench.set_cpu_flags()
import jax, jax.numpy as jnp
w = jnp.ones((64, 64))
def f(x):
  y = [x @ w]
  for _ in range(6): y.append(jnp.tanh(y[-1]) @ w)
  return sum(v.sum() for v in y)
f, x = jax.jit(jax.grad(f)), jnp.ones((1 << 16, 64))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = []
for _ in range(20):
  before = faults()
  f(x).block_until_ready()
  counts.append(faults() - before)
print(sorted(counts)[10])
"""


@pytest.mark.slow
@pytest.mark.skipif(
  "glibc" not in platform.libc_ver()[0], reason="a setting of glibc"
)
def test_freed_memory_is_kept():
  """A program of large arrays gets its pages anew in most calls, or not."""
  environment = dict(os.environ, XLA_FLAGS="")
  faults = {
    mode: int(
      subprocess.run(
        [sys.executable, "-c", FAULTS, mode],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
      ).stdout
    )
    for mode in ("given back", "kept")
  }
  assert faults["kept"] < 0.3 * faults["given back"], faults

"""Devices to compile for that are not here: TPU slices, and forced CPUs.

libtpu compiles on a machine without a TPU. It is kept out of the environment of
the library, because every process that finds it looks for chips:

    pip install --no-deps --target DIRECTORY libtpu
    PYTHONPATH=DIRECTORY python -m experiments.scaling.run ...
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import jax

__all__ = ["HBM_GIB", "MissingCompilerError", "compiling_for", "tpu_devices"]

# Memory of a chip's device in GiB; published by the maker.
HBM_GIB = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}


class MissingCompilerError(RuntimeError):
  """The compiler for TPUs is not installed."""


def tpu_devices(name: str) -> list[jax.Device]:
  """Devices of a TPU slice that need not exist.

  Args:
    name: kind and shape, such as "v5e:2x4" or "v4:2x2x4".

  Returns:
    Devices to make a mesh of and to compile for; nothing runs on them.

  Raises:
    MissingCompilerError: if libtpu is not there, with the command to get it.
    ValueError: if libtpu knows no such slice.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise MissingCompilerError(
      "tpu_devices: libtpu must be installed, got none; run `pip install "
      "--no-deps --target DIRECTORY libtpu` and set PYTHONPATH=DIRECTORY."
    )
  # Else libtpu asks the cloud what machine this is, and waits.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  from jax.experimental import topologies

  try:
    return list(topologies.get_topology_desc(name, platform="tpu").devices)
  except Exception as error:
    raise ValueError(
      f"tpu_devices: `name` must be a slice that libtpu knows, such as v5e:2x4,"
      f" got {name!r} ({str(error).splitlines()[0]})."
    ) from error


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
  """Traces programs as on a machine with these devices.

  The library asks `jax.default_backend()` which of several formulations of a
  convolution is fast. This machine's answer would be "cpu".
  """
  here = jax.default_backend
  jax.default_backend = lambda: platform
  try:
    yield
  finally:
    jax.default_backend = here

"""Settings of the compiler and of memory that pay on a CPU."""

import ctypes
import importlib.metadata
import os
import sys

__all__ = ["set_cpu_flags"]

# XLA gives convolutions and matrix products to the YNNPACK library, whose
# kernels are slower than its own for the shapes of VGG: experiments/benchmarks
# has the numbers. An unknown flag would end the program, so it is set for tried
# versions alone.
_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_TRIED = ("0.10.",)


# Parameters of glibc's mallopt, <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def set_cpu_flags() -> bool:
  """Asks XLA for the faster of its convolutions, and keeps freed memory.

  To be called before the first computation, because XLA reads the variable
  `XLA_FLAGS` once; a choice that is already in the variable is respected.
  Other devices are not affected.

  A program's intermediate results are one large block, which the C library
  would give back after every call and fetch anew, page by page: a third of the
  time of a train step of a small network. Under glibc it is kept instead.

  Returns:
    Whether the flag was set.

  Example:
    >>> import os
    >>> from unittest import mock
    >>> from vision_jax import bench
    >>> with mock.patch.dict(os.environ, {"XLA_FLAGS": ""}):
    ...   done = bench.set_cpu_flags(), bench.set_cpu_flags()
    >>> done
    (True, False)

  Source:
    XLA's debug options; measured in experiments/benchmarks.
  """
  _keep_freed_memory()
  flags = os.environ.get("XLA_FLAGS", "")
  version = importlib.metadata.version("jaxlib")
  if _FLAG in flags or not version.startswith(_TRIED):
    return False
  os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".strip()
  return True


def _keep_freed_memory() -> None:
  """Large blocks come from one heap that does not shrink."""
  if not sys.platform.startswith("linux"):
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None:  # glibc
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)

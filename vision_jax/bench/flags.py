"""Compiler flags that pay on a CPU."""

import importlib.metadata
import os

__all__ = ["set_cpu_flags"]

# XLA gives convolutions and matrix products to the YNNPACK library, whose
# kernels are slower than its own for the shapes of VGG: experiments/benchmarks
# has the numbers. An unknown flag would end the program, so it is set for tried
# versions alone.
_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_TRIED = ("0.10.",)


def set_cpu_flags() -> bool:
  """Asks XLA for the faster of its convolutions on a CPU.

  To be called before the first computation, because XLA reads the variable
  `XLA_FLAGS` once; a choice that is already in the variable is respected.
  Other devices are not affected.

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
  flags = os.environ.get("XLA_FLAGS", "")
  version = importlib.metadata.version("jaxlib")
  if _FLAG in flags or not version.startswith(_TRIED):
    return False
  os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".strip()
  return True

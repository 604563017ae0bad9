"""Peak memory of a piece of work, in a process of its own."""

import ctypes
import gc
import pathlib

__all__ = ["MemoryMeter"]


class MemoryMeter:
  """Peak resident memory since the meter was made, beyond what was held then.

  Make it after weights and inputs are loaded, do the work, read `peak`. Linux
  only; use one process for each measurement, since freed memory is not always
  returned to the system.

  Attributes:
    start: resident bytes when the meter was made.

  Example:
    >>> import sys
    >>> from vision_jax import bench
    >>> if sys.platform == "linux":
    ...   meter = bench.MemoryMeter()
    ...   work = np.ones(4_000_000)
    ...   assert meter.peak() > 20_000_000
  """

  def __init__(self):
    self._status = pathlib.Path("/proc/self/status")
    if not self._status.exists():
      raise OSError("MemoryMeter: /proc/self/status must exist; use Linux.")
    # Freed memory goes back to the system, or the work would reuse it unseen;
    # then the peak so far is forgotten, so that loading does not count.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
      trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    self.start = self._bytes("VmRSS")

  def _bytes(self, field: str) -> int:
    """One field of the process status, in bytes."""
    for line in self._status.read_text().splitlines():
      if line.startswith(field + ":"):
        return 1024 * int(line.split()[1])
    raise OSError(f"MemoryMeter: {field} must be in {self._status}.")

  def peak(self) -> int:
    """Largest resident size since the start, beyond the start, in bytes."""
    return self._bytes("VmHWM") - self.start

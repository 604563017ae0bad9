"""What a result was computed with: date, machine, versions, commit."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping

import vision_jax

__all__ = ["describe_environment"]

_PACKAGES = {
  "jax": "jax",
  "flax": "flax",
  "numpy": "numpy",
  "opencv": "opencv-contrib-python-headless",
}


def describe_environment(
  *, packages: Mapping[str, str] = _PACKAGES
) -> dict[str, str]:
  """Date, machine, versions and commit, for pages and result files.

  Nothing is imported and no device is started.

  Convention:
    No arrays. The date is UTC in ISO 8601.

  Args:
    packages: short name -> distribution whose version is listed; those not
      installed are left out.

  Returns:
    Text by name: "date", "processor", "cores", "memory", "system", "python",
    "vision_jax", one entry per package, and "commit" in a git checkout.

  Example:
    >>> from vision_jax import viz
    >>> "python" in viz.describe_environment()
    True

  Source:
    The platform and importlib.metadata modules.
  """
  now = datetime.datetime.now(datetime.UTC)
  facts = {
    "date": now.strftime("%Y-%m-%d %H:%M UTC"),
    "processor": _processor(),
    "cores": str(_cores()),
    "memory": _memory(),
    "system": f"{platform.system()} {platform.machine()}",
    "python": platform.python_version(),
    "vision_jax": vision_jax.__version__,
  }
  for name, package in packages.items():
    try:
      facts[name] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  facts["commit"] = _commit()
  return {name: text for name, text in facts.items() if text}


def _processor() -> str:
  """Model name of the processor, or the architecture."""
  try:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
      if line.startswith("model name"):
        return line.split(":", 1)[1].strip()
  except OSError:
    pass
  return platform.processor() or platform.machine()


def _cores() -> int:
  """Processors this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _memory() -> str:
  """Physical memory, or nothing where the system does not tell."""
  try:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  except (AttributeError, OSError, ValueError):
    return ""
  return f"{size / 2**30:.1f} GiB"


def _commit() -> str:
  """Commit of the checkout this package lies in, or nothing."""
  root = pathlib.Path(vision_jax.__file__).parent.parent
  if not (root / ".git").exists():
    return ""
  try:
    done = subprocess.run(
      ["git", "describe", "--always", "--dirty"],
      cwd=root,
      capture_output=True,
      text=True,
      timeout=10,
      check=False,
    )
  except (OSError, subprocess.SubprocessError):
    return ""
  return done.stdout.strip() if done.returncode == 0 else ""

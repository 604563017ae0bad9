"""Whitening on disk: safetensors, with what it was learned from."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from vision_jax import ops

__all__ = ["load_whitening", "save_whitening"]

_FORMAT = "vision_jax.whitening.1"


def save_whitening(
  path: str | os.PathLike[str],
  whitening: ops.Whitening,
  *,
  source: Mapping[str, Any],
) -> None:
  """Writes a whitening and where it comes from.

  Args:
    path: file, ending in .safetensors.
    whitening: from `ops.fit_whitening`.
    source: model, layer, images: whatever JSON can hold.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import ops
    >>> from vision_jax.systems import retrieval
    >>> path = os.path.join(tempfile.mkdtemp(), "w.safetensors")
    >>> x = np.random.default_rng(0).normal(size=(9, 4))
    >>> retrieval.save_whitening(path, ops.fit_whitening(x),
    ...                          source={"images": "mine"})
    >>> retrieval.load_whitening(path)[1]
    {'images': 'mine'}

  Source:
    Interface of this library.
  """
  arrays = {
    name: np.ascontiguousarray(np.asarray(value, np.float32))
    for name, value in whitening._asdict().items()
  }
  texts = {"format": _FORMAT, "source": json.dumps(dict(source))}
  partial = f"{os.fspath(path)}.partial"
  safetensors.numpy.save_file(arrays, partial, metadata=texts)
  os.replace(partial, path)


def load_whitening(
  path: str | os.PathLike[str],
) -> tuple[ops.Whitening, dict[str, Any]]:
  """Reads a whitening and where it comes from.

  Args:
    path: file that `save_whitening` wrote.

  Returns:
    The whitening and its source.

  Raises:
    ValueError: if there is no such file, or it is damaged or another kind.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> try:
    ...   retrieval.load_whitening("no/such/file")
    ... except ValueError as error:
    ...   print(error)  # doctest: +ELLIPSIS
    load_whitening: 'no/such/file' cannot be read (No such file ...

  Source:
    Interface of this library.
  """
  name = repr(os.fspath(path))
  try:
    with safetensors.safe_open(path, "numpy") as file:
      texts = file.metadata() or {}
      known = texts.get("format") == _FORMAT
      keys = set(file.keys())
      if not known or keys != {"mean", "projection"}:
        raise ValueError(
          f"load_whitening: {name} is no whitening of this version, got format "
          f"{texts.get('format')!r}; learn it again."
        )
      arrays = [file.get_tensor(key) for key in ("mean", "projection")]
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f"load_whitening: {name} cannot be read ({error}); copy it again."
    ) from error
  return ops.Whitening(*arrays), json.loads(texts["source"])

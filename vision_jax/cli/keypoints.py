"""`vision-jax keypoints`: features of many images in one HDF5 file."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vision_jax.cli.features import Features, load_extractor
from vision_jax.cli.options import FeatureOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  describe_error,
  result_record,
)

if TYPE_CHECKING:
  import h5py

__all__ = ["KeypointsOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeypointsOptions(FeatureOptions):
  """Write the key points of many images to one HDF5 file.

  The file has the layout that hloc reads: one group per image, named by its
  path below --root (or below the folder given), with the data sets keypoints
  of shape [N, 2], descriptors [D, N], scores [N] and image_size, width and
  height. Positions are (x, y) in pixels of the file, the centre of the first
  pixel at (0, 0); hloc adds the half pixel of COLMAP itself. An image that
  cannot be read is reported and the others are finished.

  Attributes:
    images: Image files, or folders (searched with all folders below).
    root: Folder that the names in the file are relative to.
    descriptor_dtype: Type of the stored descriptors.
    resume: Keep what an earlier run with the same settings wrote, add the rest.
    out: File to write, ending in .h5 or .hdf5.
  """

  images: tyro.conf.Positional[
    Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="IMAGE")]
  ]
  root: pathlib.Path | None = None
  descriptor_dtype: Literal["float16", "float32"] = "float16"
  resume: bool = False
  out: pathlib.Path = pathlib.Path("features.h5")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return _run(self)


def _run(options: KeypointsOptions) -> int:
  check_outputs("--out", options.out, (".h5", ".hdf5"))
  files, errors = _list_files(options.images, options.root)
  for error in errors:
    _report(error)
  if not files and not errors:
    raise UserError("no images given; name files or folders")
  if not files:
    return 2
  extractor = load_extractor(options)
  failed, written, empty = len(errors), 0, 0
  import tqdm

  from vision_jax import data

  with _open(options, extractor.config) as store:
    # Whatever ends the loop, finished images stay in the file.
    for name, path in tqdm.tqdm(
      files.items(), desc="key points", unit="image", disable=None
    ):
      if name in store:
        continue
      try:
        features = extractor.features(data.read_image(path), options.max_side)
      except Exception as error:
        if options.debug:
          raise
        _report(describe_error(error)[0])
        failed += 1
        continue
      _write(store, name, features, options.descriptor_dtype)
      written += 1
      empty += features.num_keypoints == 0
  skipped = len(files) + len(errors) - written - failed
  parts = [f"{written} written to {options.out}"]
  parts += [f"{skipped} kept from before"] if skipped else []
  parts += [f"{empty} without key points"] if empty else []
  parts += [f"{failed} failed"] if failed else []
  print(f"{len(files) + len(errors)} images: {', '.join(parts)}")
  return 1 if failed else 0


def _report(message: str) -> None:
  """Prints one line about a bad file, above the progress bar."""
  import tqdm

  tqdm.tqdm.write(f"vision-jax keypoints: error: {message}", file=sys.stderr)


def _list_files(
  paths: Sequence[pathlib.Path], root: pathlib.Path | None
) -> tuple[dict[str, pathlib.Path], list[str]]:
  """Files by their name in the store, and a message per bad argument.

  Raises:
    UserError: if two files have the same name, or one lies outside `root`.
  """
  from vision_jax import data

  files: dict[str, pathlib.Path] = {}
  errors = []
  for path in paths:
    try:
      found = data.list_images(path, recursive=True)
    except data.ImageError as error:
      errors.append(describe_error(error)[0])
      continue
    base = root if root is not None else path if path.is_dir() else path.parent
    for file in found:
      try:
        # Not resolved: folders of links keep the names of the links.
        name = file.absolute().relative_to(base.absolute()).as_posix()
      except ValueError as error:
        raise UserError(f"'{file}' is not below --root '{base}'") from error
      if name in files and files[name].resolve() != file.resolve():
        raise UserError(
          f"'{files[name]}' and '{file}' would both be called '{name}';"
          " give --root, a folder above them"
        )
      files[name] = file
  return files, errors


@contextlib.contextmanager
def _open(
  options: KeypointsOptions, config: dict[str, Any]
) -> "Iterator[h5py.File]":
  """The HDF5 file, which takes its name when it is closed.

  It is written under another name, so that a crash leaves no broken file.
  """
  import h5py

  part = options.out.with_name(options.out.name + ".part")
  record = json.dumps(result_record(options, {"config": config}), default=str)
  settings = json.dumps(
    [config, options.model, options.weights, options.seed, options.max_side],
    default=str,
  )
  keep = options.resume and options.out.exists()
  try:
    if keep:
      shutil.copyfile(options.out, part)
    store = h5py.File(part, "a" if keep else "w")
  except OSError as error:
    raise UserError(f"--out: cannot use '{options.out}': {error}") from error
  try:
    if keep and store.attrs.get("settings") != settings:
      raise UserError(
        f"--resume: '{options.out}' was written with other settings; choose"
        " another --out or leave --resume out"
      )
    store.attrs["settings"] = settings
    store.attrs["record"] = record
    yield store
  except UserError:
    store.close()
    part.unlink()
    raise
  finally:
    if store:
      store.close()
      os.replace(part, options.out)


def _write(
  store: "h5py.File", name: str, features: Features, dtype: str
) -> None:
  """Adds the group of one image."""
  import numpy as np

  count = features.num_keypoints
  found = features.keypoints
  group = store.create_group(name)
  # Positions stay float32: float16 has steps of a pixel above 2048.
  group.create_dataset("keypoints", data=found.xy[:count])
  group.create_dataset(
    "descriptors", data=found.descriptors[:count].T.astype(dtype)
  )
  group.create_dataset("scores", data=found.scores[:count])
  group.create_dataset(
    "image_size", data=np.array(features.image_size, np.int64)
  )
  # As hloc records it: one pixel of the image that was worked on.
  group["keypoints"].attrs["uncertainty"] = float(features.scaling)

"""An index of regions on disk: grows, survives a kill, checks itself.

A folder with `meta.json` and, for each part, five files::

  vectors-00000.npy   unit vectors of the regions, float32 or float16 [M, D]
  boxes-00000.npy     (x1, y1, x2, y2), continuous frame of the file, [M, 4]
  scores-00000.npy    of the regions, float32 [M]
  offsets-00000.npy   rows of image i: offsets[i] to offsets[i + 1], int64
  names-00000.json    of the images

A part is written under other names first, and counts from the moment that
`meta.json`, replaced as a whole, lists it with the SHA-256 of its files. What
a kill leaves behind is removed by the next writer. One writer at a time: it
holds a lock that ends with its process. Nothing is pickled.
"""

import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np

__all__ = ["IndexWriter", "SearchIndex", "SearchIndexError", "read_index"]

_FORMAT = "vision_jax.search_index"
_VERSION = 1
_KINDS = ("vectors", "boxes", "scores", "offsets", "names")
_PARTIAL = ".partial"


class SearchIndexError(ValueError):
  """An index that cannot be used; the text is one line with the remedy.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> try:
    ...   retrieval.read_index("no/such/folder")
    ... except ValueError as error:
    ...   print(error)
    read_index: 'no/such/folder' is no index (it has no meta.json); build one, \
or check the path.
  """


class SearchIndex(NamedTuple):
  """What `read_index` reads.

  Attributes:
    vectors: unit vectors of all regions, [M, D].
    boxes: float32 [M, 4].
    scores: float32 [M].
    image_ids: image of each region, int64 [M], ascending.
    names: of the images.
    recipe: how the vectors were made.
  """

  vectors: np.ndarray
  boxes: np.ndarray
  scores: np.ndarray
  image_ids: np.ndarray
  names: tuple[str, ...]
  recipe: dict[str, Any]


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
  """As JSON gives it back, so that recipes can be compared."""
  return json.loads(json.dumps(dict(recipe), sort_keys=True))


def _digest(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
  """The settings in which two recipes differ, as one line."""
  names = sorted(n for n in {*a, *b} if a.get(n) != b.get(n))
  return "; ".join(f"{n}: {a.get(n)!r}, here {b.get(n)!r}" for n in names)


def _read_meta(function: str, folder: pathlib.Path) -> dict[str, Any]:
  """The checked contents of meta.json."""
  path = folder / "meta.json"
  if not path.is_file():
    raise SearchIndexError(
      f"{function}: {str(folder)!r} is no index (it has no meta.json); build "
      "one, or check the path."
    )
  try:
    meta = json.loads(path.read_text(encoding="utf-8"))
    known = meta["format"] == _FORMAT
    version = meta["version"]
    for name in ("recipe", "parts", "dims", "dtype"):
      meta[name]
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise SearchIndexError(
      f"{function}: {str(path)!r} is damaged ({type(error).__name__}: {error});"
      " build the index again."
    ) from error
  if not known or version != _VERSION:
    raise SearchIndexError(
      f"{function}: {str(path)!r} has format {meta['format']!r} version "
      f"{version!r}, expected {_FORMAT!r} version {_VERSION}; build the index "
      "again, or use the release that wrote it."
    )
  return meta


def _load_part(
  folder: pathlib.Path, part: Mapping[str, Any], verify: bool
) -> dict[str, Any]:
  """The arrays and names of a part, checked against their digests."""
  loaded: dict[str, Any] = {}
  for kind in _KINDS:
    name = _file_name(kind, part["number"])
    path = folder / name
    try:
      if verify and _digest(path) != part["sha256"][name]:
        raise ValueError("its SHA-256 is another")
      if kind == "names":
        loaded[kind] = json.loads(path.read_text(encoding="utf-8"))
      else:
        loaded[kind] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
      raise SearchIndexError(
        f"read_index: {str(path)!r} is damaged or missing ({error}); copy the "
        "index again, or build it again."
      ) from error
  return loaded


def _file_name(kind: str, number: int) -> str:
  return f"{kind}-{number:05d}.{'json' if kind == 'names' else 'npy'}"


def read_index(
  path: str | os.PathLike[str],
  *,
  recipe: Mapping[str, Any] | None = None,
  verify: bool = True,
) -> SearchIndex:
  """Reads an index; a part that is being written does not count.

  Args:
    path: the folder.
    recipe: how the queries are described; must be the index's.
    verify: compare the SHA-256 of all files.

  Returns:
    The index; the vectors of a single part stay on disk until they are read.

  Raises:
    SearchIndexError: if there is no index, it is damaged, empty, of another
      version, or was built by another recipe.

  Example:
    >>> import tempfile
    >>> from vision_jax.systems import retrieval
    >>> folder = tempfile.mkdtemp()
    >>> with retrieval.IndexWriter(folder, {"model": "a"}, dims=2) as writer:
    ...   writer.add("one.jpg", np.eye(2), np.zeros((2, 4)), np.ones(2))
    >>> index = retrieval.read_index(folder)
    >>> index.names, index.vectors.shape, index.image_ids.tolist()
    (('one.jpg',), (2, 2), [0, 0])

  Source:
    Interface of this library.
  """
  folder = pathlib.Path(path)
  meta = _read_meta("read_index", folder)
  if recipe is not None and _plain(recipe) != meta["recipe"]:
    raise SearchIndexError(
      f"read_index: {str(folder)!r} was built another way ("
      f"{_differences(meta['recipe'], _plain(recipe))}); describe queries as "
      "the index, or build another."
    )
  if not meta["parts"]:
    raise SearchIndexError(
      f"read_index: {str(folder)!r} holds no image; add some."
    )
  parts = [_load_part(folder, part, verify) for part in meta["parts"]]
  counts = np.concatenate([np.diff(part["offsets"]) for part in parts])
  joined = {
    kind: parts[0][kind]
    if len(parts) == 1
    else np.concatenate([part[kind] for part in parts])
    for kind in ("vectors", "boxes", "scores")
  }
  names = tuple(name for part in parts for name in part["names"])
  rows = {len(joined[kind]) for kind in joined} | {int(counts.sum())}
  if len(rows) != 1 or len(names) != len(counts):
    raise SearchIndexError(
      f"read_index: the files of {str(folder)!r} do not fit each other; build "
      "the index again."
    )
  ids = np.repeat(np.arange(len(names)), counts)
  return SearchIndex(
    joined["vectors"], joined["boxes"], joined["scores"], ids, names,
    meta["recipe"],
  )  # fmt: skip


class IndexWriter:
  """Adds images to an index, which it creates if there is none.

  Used by `with`: the end of the block writes what is left, also if an error
  ends it, so that the work done is kept.

  Args:
    path: the folder.
    recipe: how the vectors are made: model, digest of its weights, layer,
      settings; whatever JSON can hold. An index has one recipe.
    dims: length D of the vectors.
    dtype: "float32" or "float16", of the stored vectors.
    images_per_part: a part is written whenever so many images are waiting.

  Raises:
    SearchIndexError: if another process writes to the index, it is damaged, or
      was built by another recipe.

  Example:
    >>> import tempfile
    >>> from vision_jax.systems import retrieval
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("a.jpg", "b.jpg"):  # the second run adds
    ...   with retrieval.IndexWriter(folder, {}, dims=2) as writer:
    ...     writer.add(name, np.eye(2)[:1], np.zeros((1, 4)), np.ones(1))
    >>> "a.jpg" in writer, len(writer)
    (True, 2)
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    recipe: Mapping[str, Any],
    *,
    dims: int,
    dtype: str = "float32",
    images_per_part: int = 1000,
  ) -> None:
    if dtype not in ("float32", "float16"):
      raise ValueError(
        f'IndexWriter: `dtype` must be "float32" or "float16", got {dtype!r}.'
      )
    self._folder = pathlib.Path(path)
    self._folder.mkdir(parents=True, exist_ok=True)
    self._lock: IO[str] | None = self._take_lock()
    self._waiting: list[tuple[str, tuple[np.ndarray, ...]]] = []
    self._per_part, self._dtype, self._dims = images_per_part, dtype, dims
    try:
      self._meta = self._open_meta(_plain(recipe))
    except BaseException:
      self._release()
      raise
    self._names = self._known_names()
    self._remove_leftovers()

  def __enter__(self) -> "IndexWriter":
    """Returns itself."""
    return self

  def __exit__(self, *error: Any) -> None:
    """Writes what is left and ends the lock."""
    try:
      self.flush()
    finally:
      self._release()

  def __contains__(self, name: str) -> bool:
    """Whether an image is in the index."""
    return name in self._names

  def __len__(self) -> int:
    """Number of images."""
    return len(self._names)

  def add(
    self,
    name: str,
    vectors: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
  ) -> None:
    """Adds the regions of one image; it may have none."""
    if name in self._names:
      raise SearchIndexError(
        f"IndexWriter.add: `name` must be new, got {name!r}, which is in the "
        "index; names must tell images apart."
      )
    vectors = np.asarray(vectors, self._dtype).reshape(-1, self._dims)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.asarray(scores, np.float32).reshape(-1)
    if not len(vectors) == len(boxes) == len(scores):
      raise SearchIndexError(
        f"IndexWriter.add: {name!r} must have as many vectors as boxes and "
        f"scores, got {len(vectors)}, {len(boxes)} and {len(scores)}."
      )
    if not np.isfinite(vectors).all():
      raise SearchIndexError(
        f"IndexWriter.add: the vectors of {name!r} must be finite."
      )
    self._names.add(name)
    self._waiting.append((name, (vectors, boxes, scores)))
    if len(self._waiting) >= self._per_part:
      self.flush()

  def flush(self) -> None:
    """Writes the waiting images as a part."""
    if not self._waiting:
      return
    names = [name for name, _ in self._waiting]
    arrays = [
      np.concatenate(rows)
      for rows in zip(*(part for _, part in self._waiting), strict=True)
    ]
    counts = [len(part[1]) for _, part in self._waiting]
    number = 1 + max((p["number"] for p in self._meta["parts"]), default=-1)
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    contents: dict[str, Any] = dict(
      zip(_KINDS, [*arrays, offsets, names], strict=True)
    )
    digests = {}
    for kind, content in contents.items():
      path = self._folder / _file_name(kind, number)
      partial = path.with_name(path.name + _PARTIAL)
      with open(partial, "wb") as file:
        if kind == "names":
          file.write(json.dumps(content, ensure_ascii=False).encode("utf-8"))
        else:
          np.save(file, content, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
      digests[path.name] = _digest(partial)
      os.replace(partial, path)
    self._meta["parts"].append({"number": number, "sha256": digests})
    self._write_meta()
    self._waiting = []

  def _take_lock(self) -> IO[str]:
    lock = open(self._folder / "lock", "a+")
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      lock.close()
      raise SearchIndexError(
        f"IndexWriter: another process is writing to {str(self._folder)!r}; "
        "wait for it, or build into another folder."
      ) from error
    return lock

  def _release(self) -> None:
    if self._lock is not None:
      self._lock.close()
      self._lock = None

  def _open_meta(self, recipe: dict[str, Any]) -> dict[str, Any]:
    if not (self._folder / "meta.json").exists():
      self._meta = {
        "format": _FORMAT,
        "version": _VERSION,
        "metric": "dot product of unit vectors",
        "dims": self._dims,
        "dtype": self._dtype,
        "recipe": recipe,
        "parts": [],
      }
      self._write_meta()
      return self._meta
    meta = _read_meta("IndexWriter", self._folder)
    if meta["recipe"] != recipe or meta["dims"] != self._dims:
      raise SearchIndexError(
        f"IndexWriter: {str(self._folder)!r} was built another way ("
        f"{_differences(meta['recipe'], recipe) or 'dims'}); build into another"
        " folder."
      )
    self._dtype = meta["dtype"]
    return meta

  def _write_meta(self) -> None:
    path = self._folder / "meta.json"
    partial = path.with_name("meta.json" + _PARTIAL)
    with open(partial, "w", encoding="utf-8") as file:
      json.dump(self._meta, file, indent=1)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)

  def _known_names(self) -> set[str]:
    names: set[str] = set()
    for part in self._meta["parts"]:
      path = self._folder / _file_name("names", part["number"])
      try:
        names.update(json.loads(path.read_text(encoding="utf-8")))
      except (OSError, ValueError) as error:
        self._release()
        raise SearchIndexError(
          f"IndexWriter: {str(path)!r} is damaged or missing ({error}); build "
          "the index again."
        ) from error
    return names

  def _remove_leftovers(self) -> None:
    """Files of parts that a killed writer did not finish."""
    listed = {n for part in self._meta["parts"] for n in part["sha256"]}
    for path in self._folder.iterdir():
      ours = path.name.endswith(_PARTIAL) or (
        path.name.split("-")[0] in _KINDS and path.name not in listed
      )
      if ours and path.is_file():
        path.unlink()

"""Sets for image retrieval, in their own layouts; `instance_sets` has more.

None is part of this project and nothing is fetched. Each reader gives a
`RetrievalSet`: the files of the database and, for each query, its file, its
box and what is relevant, as positions in the database. The truth is checked
while it is read. Where the published protocol keeps a query in the database,
the reader says so.
"""

import io
import json
import os
import pathlib
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = [
  "RetrievalQuery",
  "RetrievalSet",
  "open_buildings",
  "open_holidays",
  "open_revisited",
]

_PATH = str | os.PathLike[str]
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


class RetrievalQuery(NamedTuple):
  """A query and its truth.

  Attributes:
    path: the picture.
    box: (x1, y1, x2, y2), continuous frame of the file; None for the whole.
    relevant: kind -> positions in the database, int64: "good", or "easy" and
      "hard".
    junk: positions that count neither way, int64.
    boxes: position in the database -> true boxes [n, 4], where the set has
      them.

  Example:
    >>> from vision_jax.data import RetrievalQuery
    >>> query = RetrievalQuery("a.jpg", None, {"good": np.array([3])},
    ...                        np.zeros(0, int))
    >>> query.boxes is None
    True
  """

  path: str
  box: np.ndarray | None
  relevant: dict[str, np.ndarray]
  junk: np.ndarray
  boxes: dict[int, np.ndarray] | None = None


class RetrievalSet(NamedTuple):
  """A database and its queries.

  Attributes:
    name: of the set and its protocol.
    database: files of the pictures.
    queries: in the order of the set.

  Example:
    >>> from vision_jax.data import RetrievalSet
    >>> RetrievalSet("mine", ("a.jpg",), ()).name
    'mine'
  """

  name: str
  database: tuple[str, ...]
  queries: tuple[RetrievalQuery, ...]


def name_finder(
  reader: str, names: Sequence[str], where: str
) -> Callable[[Iterable[str]], np.ndarray]:
  """Names -> positions; DataError for a name that is not there."""
  places = {name: place for place, name in enumerate(names)}
  if len(places) != len(names):
    seen: set[str] = set()
    twice = next(n for n in names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
    raise DataError(
      f"{reader}: names of the database must differ, got {twice!r} twice in "
      f"{where}."
    )

  def find(wanted: Iterable[str]) -> np.ndarray:
    wanted = list(wanted)
    missing = [name for name in wanted if name not in places]
    if missing:
      raise DataError(
        f"{reader}: {where} names {missing[0]!r}, which is not in the database "
        f"of {len(places)} pictures; copy the set again."
      )
    return np.array([places[name] for name in wanted], np.int64)

  return find


def list_pictures(reader: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Name without suffix -> file, sorted."""
  found = {
    path.stem: path
    for path in sorted(folder.iterdir() if folder.is_dir() else ())
    if path.suffix in _SUFFIXES and not path.name.startswith(".")
  }
  if not found:
    raise DataError(
      f"{reader}: {str(folder)!r} must hold pictures, got none; unpack the set."
    )
  return found


def read_lines(reader: str, path: pathlib.Path) -> list[str]:
  """Lines of a text file that are not empty."""
  try:
    text = path.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(
      f"{reader}: {str(path)!r} cannot be read ({error}); copy it again."
    ) from None
  return [line.strip() for line in text.splitlines() if line.strip()]


def parse_numbers(
  reader: str, path: pathlib.Path, words: Sequence[str], count: int
) -> np.ndarray:
  try:
    values = np.array([float(word) for word in words], np.float32)
  except ValueError:
    values = np.zeros(0, np.float32)
  if values.shape != (count,):
    raise DataError(
      f"{reader}: {str(path)!r} must hold lines of {count} numbers, got "
      f"{' '.join(words)!r}."
    )
  return values


def open_buildings(
  root: _PATH,
  *,
  name: str = "oxford5k",
  leave_out: Iterable[str] = (),
) -> RetrievalSet:
  """Opens Oxford5k or Paris6k: 55 queries with boxes.

  Layout: `jpg/NAME.jpg` (or the pictures in `root` itself) and `gt/` with
  `*_query.txt` (name, with the prefix "oxc1_" on Oxford, and x1 y1 x2 y2),
  `*_good.txt`, `*_ok.txt`, `*_junk.txt`.

  Convention:
    The query's own picture stays in the database as relevant, as published.
    Boxes as the files give them.

  Args:
    root: the folder.
    name: for the result.
    leave_out: pictures that are damaged (Paris has 20), without suffix; they
      are dropped from database and truth.

  Returns:
    The set; relevant kind "good" is good and ok together.

  Raises:
    DataError: if a folder or file is missing, or names no picture.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_buildings
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "jpg").mkdir(); (root / "gt").mkdir()
    >>> for picture in ("a", "b"):
    ...   _ = (root / "jpg" / f"{picture}.jpg").write_bytes(b"")
    >>> for kind, text in (("query", "oxc1_a 1 2 9 8"), ("good", "a"),
    ...                    ("ok", "b"), ("junk", "")):
    ...   _ = (root / "gt" / f"x_1_{kind}.txt").write_text(text)
    >>> query = open_buildings(root).queries[0]
    >>> query.box.tolist(), query.relevant["good"].tolist()
    ([1.0, 2.0, 9.0, 8.0], [0, 1])

  Source:
    Philbin et al., CVPR 2007 and 2008.
  """
  reader = "open_buildings"
  folder = file_sources.check_root(reader, root, "check the path")
  jpg = folder / "jpg" if (folder / "jpg").is_dir() else folder
  gone = set(leave_out)
  pictures = {
    k: v for k, v in list_pictures(reader, jpg).items() if k not in gone
  }
  files = sorted((folder / "gt").glob("*_query.txt"))
  if not files:
    raise DataError(
      f"{reader}: {str(folder / 'gt')!r} must hold *_query.txt, got none; "
      "unpack the ground truth there."
    )
  find = name_finder(reader, list(pictures), "the ground truth")
  queries = []
  for file in files:
    words = " ".join(read_lines(reader, file)).split()
    stem = words[0].removeprefix("oxc1_") if words else ""
    box = parse_numbers(reader, file, words[1:], 4)
    parts = {}
    for kind in ("good", "ok", "junk"):
      beside = file.with_name(file.name.replace("_query", f"_{kind}"))
      names = [n for n in read_lines(reader, beside) if n not in gone]
      parts[kind] = find(names)
    (place,) = find([stem])
    good = np.concatenate([parts["good"], parts["ok"]])
    queries.append(
      RetrievalQuery(
        str(list(pictures.values())[place]), box, {"good": good}, parts["junk"]
      )
    )
  return RetrievalSet(
    name, tuple(str(p) for p in pictures.values()), tuple(queries)
  )


class _Plain(pickle.Unpickler):
  """Reads lists, numbers and arrays; anything else is refused."""

  _ALLOWED = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
  )

  def find_class(self, module: str, name: str) -> Any:
    """Only what arrays are made of."""
    if (module, name) == ("_codecs", "encode"):
      return lambda text, _: text.encode("latin1")  # bytes of old protocols
    if (module, name) not in self._ALLOWED:
      raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
    return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_truth(reader: str, path: pathlib.Path) -> dict[str, Any]:
  """The dictionary of a gnd_*.pkl or .json file."""
  try:
    content = path.read_bytes()
    if path.suffix == ".json":
      found = json.loads(content)
    else:
      found = _Plain(io.BytesIO(content), encoding="latin1").load()
    for name in ("imlist", "qimlist", "gnd"):
      found[name]
  except Exception as error:
    raise DataError(
      f"{reader}: {str(path)!r} must be a file of ground truth with imlist, "
      f"qimlist and gnd, got {type(error).__name__}: {error}; copy it again."
    ) from None
  return found


def open_revisited(
  root: _PATH, *, name: str = "roxford5k", distractors: _PATH | None = None
) -> RetrievalSet:
  """Opens revisited Oxford or Paris: 70 queries, easy, hard and junk.

  Layout: `gnd_NAME.pkl` (or .json) and `jpg/NAME.jpg` with database and
  queries. The pickle is read without running code.

  Convention:
    `metrics.revisited_truth` makes the protocols of `relevant` and `junk`.
    Crop a query to its box before it is described.

  Args:
    root: the folder.
    name: "roxford5k" or "rparis6k".
    distractors: folder of R1M; its pictures are appended to the database.

  Returns:
    The set.

  Raises:
    DataError: if the truth is missing, damaged, or names missing pictures.

  Example:
    >>> import json, pathlib, tempfile
    >>> from vision_jax.data import open_revisited
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "jpg").mkdir()
    >>> for picture in ("a", "b", "q"):
    ...   _ = (root / "jpg" / f"{picture}.jpg").write_bytes(b"")
    >>> truth = {"bbx": [0, 0, 5, 5], "easy": [1], "hard": [], "junk": [0]}
    >>> _ = (root / "gnd_roxford5k.json").write_text(json.dumps(
    ...   {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [truth]}))
    >>> open_revisited(root).queries[0].relevant["easy"].tolist()
    [1]

  Source:
    Radenović et al. (arXiv 1803.11285); filipradenovic/revisitop.
  """
  reader = "open_revisited"
  folder = file_sources.check_root(reader, root, "check the path")
  path = folder / f"gnd_{name}.pkl"
  if not path.exists():
    path = path.with_suffix(".json")
  truth = _read_truth(reader, path)
  jpg = folder / "jpg" if (folder / "jpg").is_dir() else folder
  database = [jpg / f"{stem}.jpg" for stem in truth["imlist"]]
  asked = [jpg / f"{stem}.jpg" for stem in truth["qimlist"]]
  file_sources.check_files(reader, "pictures", [*database, *asked])
  if set(truth["imlist"]) & set(truth["qimlist"]):
    raise DataError(
      f"{reader}: queries must not be in the database of {str(path)!r}."
    )
  queries = []
  for file, gnd in zip(asked, truth["gnd"], strict=True):
    kinds = {
      kind: np.asarray(gnd[kind], np.int64).ravel()
      for kind in ("easy", "hard", "junk")
    }
    every = np.concatenate(list(kinds.values()))
    if len(every) and (every.min() < 0 or every.max() >= len(database)):
      raise DataError(
        f"{reader}: positions in {str(path)!r} must be below {len(database)}, "
        f"got {every.max()}."
      )
    junk = kinds.pop("junk")
    box = np.asarray(gnd["bbx"], np.float32).ravel()
    queries.append(RetrievalQuery(str(file), box, kinds, junk))
  more: list[str] = []
  if distractors is not None:
    more = [
      str(p) for p in list_pictures(reader, pathlib.Path(distractors)).values()
    ]
  return RetrievalSet(name, (*map(str, database), *more), tuple(queries))


def open_holidays(root: _PATH) -> RetrievalSet:
  """Opens INRIA Holidays: 500 groups, the first of each is the query.

  Layout: `NNNNMM.jpg`: group NNNN, picture MM; 00 is the query. Many pictures
  lie on their side in the original files; say which release was used.

  Convention:
    A query is in the database, as junk of its own ranking: all others count as
    wrong there, as published.

  Args:
    root: folder of the pictures.

  Returns:
    The set.

  Raises:
    DataError: if a name is no number or a group has one picture only.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_holidays
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for number in ("100000", "100001", "100100", "100101"):
    ...   _ = (root / f"{number}.jpg").write_bytes(b"")
    >>> found = open_holidays(root)
    >>> len(found.database), found.queries[1].relevant["good"].tolist()
    (4, [3])

  Source:
    Jégou, Douze, Schmid, ECCV 2008.
  """
  reader = "open_holidays"
  folder = file_sources.check_root(reader, root, "check the path")
  pictures = list_pictures(reader, folder)
  wrong = [stem for stem in pictures if not stem.isdigit()]
  if wrong:
    raise DataError(
      f"{reader}: names of pictures must be numbers, got {wrong[0]!r} in "
      f"{str(folder)!r}."
    )
  numbers = np.array([int(stem) for stem in pictures])
  queries = []
  for place in np.flatnonzero(numbers % 100 == 0):
    same = numbers // 100 == numbers[place] // 100
    same[place] = False
    if not same.any():
      raise DataError(
        f"{reader}: every group must have a second picture, got "
        f"{numbers[place]} alone in {str(folder)!r}; copy the set again."
      )
    # The query is taken out of its own ranking: it counts neither way.
    queries.append(
      RetrievalQuery(
        str(list(pictures.values())[place]),
        None,
        {"good": np.flatnonzero(same)},
        np.array([place]),
      )
    )
  return RetrievalSet(
    "holidays", tuple(str(p) for p in pictures.values()), tuple(queries)
  )

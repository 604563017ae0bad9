"""Sets for instance search: INSTRE, Instance-160 and -335, plain folders."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources
from vision_jax.data.readers.retrieval_sets import (
  RetrievalQuery,
  RetrievalSet,
  list_pictures,
  name_finder,
  parse_numbers,
  read_lines,
)

__all__ = [
  "open_instance_videos",
  "open_instre",
  "open_instre_split",
  "open_retrieval_folders",
]

_PATH = str | os.PathLike[str]


def _corner_box(values: np.ndarray) -> np.ndarray:
  """Box (x, y, width, height) as corners."""
  return np.concatenate([values[:2], values[:2] + values[2:]])


def _instre_boxes(reader: str, path: pathlib.Path) -> np.ndarray:
  """Boxes of the objects of a picture of INSTRE, [n, 4]."""
  rows = [
    _corner_box(parse_numbers(reader, path, line.replace(",", " ").split(), 4))
    for line in read_lines(reader, path)
  ]
  return np.array(rows, np.float32).reshape(-1, 4)


def open_instre(
  root: _PATH, *, num_queries: int = 5, parts: Sequence[str] = ()
) -> RetrievalSet:
  """Opens INSTRE: pictures of 250 objects with boxes.

  Layout: `INSTRE-S1`, `INSTRE-S2` and `INSTRE-M`, each a folder per object (of
  M: per pair), with a picture and a text file of the same name for each view,
  a line `x y width height` for each object (of M two, in the order of the
  pair).

  The first pictures of a class are its queries. `open_instre_split` reads the
  split of Iscen et al. (5 of each, 1250); numbers of different splits cannot be
  compared.

  Args:
    root: the folder.
    num_queries: of each class.
    parts: folders to read; all `INSTRE-*` by default.

  Returns:
    The set, with true boxes.

  Raises:
    DataError: if a folder is missing, a box file is damaged or a class has too
      few pictures.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_instre
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> folder = root / "INSTRE-S1" / "01a_cup"
    >>> folder.mkdir(parents=True)
    >>> for view in ("001", "002"):
    ...   _ = (folder / f"{view}.jpg").write_bytes(b"")
    ...   _ = (folder / f"{view}.txt").write_text("10 20 30 40")
    >>> found = open_instre(root, num_queries=1)
    >>> found.queries[0].box.tolist(), found.queries[0].boxes[0].tolist()
    ([10.0, 20.0, 40.0, 60.0], [[10.0, 20.0, 40.0, 60.0]])

  Source:
    Wang, Jiang, "INSTRE: a new benchmark for instance-level object retrieval
    and recognition", 2015.
  """
  reader = "open_instre"
  folder = file_sources.check_root(reader, root, "check the path")
  parts = parts or [
    n for n in file_sources.folder_names(folder) if n.startswith("INSTRE-")
  ]
  if not parts:
    raise DataError(
      f"{reader}: `root` must hold folders INSTRE-*, got {str(folder)!r} "
      "without any; name the folder above them."
    )
  database: list[str] = []
  boxes: list[np.ndarray] = []
  asked: list[tuple[str, np.ndarray, int, slice]] = []
  for part in parts:
    below = file_sources.check_root(reader, folder / part, "unpack it")
    for class_name in file_sources.folder_names(below):
      files = list(list_pictures(reader, below / class_name).values())
      if len(files) <= num_queries:
        raise DataError(
          f"{reader}: every class must have more than {num_queries} pictures, "
          f"got {len(files)} in {str(below / class_name)!r}."
        )
      truth = [_instre_boxes(reader, f.with_suffix(".txt")) for f in files]
      start = len(database)
      rest = files[num_queries:]
      database += [str(f) for f in rest]
      boxes += truth[num_queries:]
      span = slice(start, start + len(rest))
      for file, own in zip(files[:num_queries], truth, strict=False):
        asked += [
          (str(file), box, number, span) for number, box in enumerate(own)
        ]
  queries = []
  for path, box, number, span in asked:
    places = np.arange(span.start, span.stop)
    known = {
      int(p): boxes[p][number : number + 1]
      for p in places
      if len(boxes[p]) > number
    }
    queries.append(
      RetrievalQuery(path, box, {"good": places}, np.zeros(0, np.int64), known)
    )
  return RetrievalSet("instre", tuple(database), tuple(queries))


def open_instre_split(root: _PATH, truth: _PATH) -> RetrievalSet:
  """Opens INSTRE in the split of Iscen et al.: 1250 queries, 27,293 pictures.

  Layout: folders as `open_instre`; `truth` is their `gnd_instre.mat`, with the
  lists `imlist` and `qimlist` and for each query `gnd.ok` and `gnd.bbx` (x1,
  y1, x2, y2). Names are paths from `root`, with a suffix or without.

  Whether `ok` counts from 0 or from 1 is not written down, and as the list is
  sorted by class a wrong guess shows only at the ends of a class. So it is
  found out: every relevant picture must lie in the folder of its query.

  Args:
    root: folder that holds `INSTRE-S1` and so on.
    truth: the file.

  Returns:
    The set; true boxes where a picture has a text file beside it and the query
    is the only object of its class.

  Raises:
    DataError: if a file is missing or damaged, or the relevant pictures lie in
      other folders than their queries, counted from 0 and from 1.

  Example:
    >>> import pathlib, tempfile
    >>> import scipy.io
    >>> from vision_jax.data import open_instre_split
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "INSTRE-S1" / "01a_cup").mkdir(parents=True)
    >>> names = [f"INSTRE-S1/01a_cup/00{k}" for k in (1, 2, 3)]
    >>> for name in names:
    ...   _ = (root / f"{name}.jpg").write_bytes(b"")
    >>> gnd = np.zeros(1, [("ok", object), ("bbx", object)])
    >>> gnd["ok"][0], gnd["bbx"][0] = [1, 2], [10, 20, 40, 60]
    >>> cells = np.array(names, object)
    >>> scipy.io.savemat(root / "gnd_instre.mat",
    ...   {"imlist": cells[1:], "qimlist": cells[:1], "gnd": gnd})
    >>> found = open_instre_split(root, root / "gnd_instre.mat")
    >>> found.queries[0].relevant["good"].tolist()
    [0, 1]

  Source:
    Iscen et al., "Efficient diffusion on region manifolds", 2017;
    imatge-upc/salbow.
  """
  reader = "open_instre_split"
  folder = file_sources.check_root(reader, root, "check the path")
  names, asked, found = _read_split(reader, pathlib.Path(truth))
  database = [_with_suffix(folder / name) for name in names]
  queries = [_with_suffix(folder / name) for name in asked]
  file_sources.check_files(reader, "pictures", [*database, *queries])
  for base in (0, 1):
    if all(
      0 <= k - base < len(database) and database[k - base].parent == file.parent
      for file, (ok, _) in zip(queries, found, strict=True)
      for k in ok.tolist()
    ):
      break
  else:
    raise DataError(
      f"{reader}: relevant pictures in {str(truth)!r} must lie in the folders "
      "of their queries, got others, counted from 0 and from 1; copy it again."
    )
  rows = []
  for file, (ok, box) in zip(queries, found, strict=True):
    known = {}
    for place in (ok - base).tolist():
      beside = database[place].with_suffix(".txt")
      if beside.exists():
        boxes = _instre_boxes(reader, beside)
        if len(boxes) == 1:
          known[place] = boxes
    good = {"good": ok - base}
    rows.append(
      RetrievalQuery(str(file), box, good, np.zeros(0, np.int64), known or None)
    )
  return RetrievalSet("instre_split", tuple(map(str, database)), tuple(rows))


def _with_suffix(path: pathlib.Path) -> pathlib.Path:
  """The file of a name that may lack its suffix."""
  return path if path.suffix else path.with_suffix(".jpg")


def _read_split(
  reader: str, path: pathlib.Path
) -> tuple[list[str], list[str], list[tuple[np.ndarray, np.ndarray]]]:
  """Names of the database and the queries; (ok, box) of each query."""
  import scipy.io

  try:
    content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    names, asked = (
      [str(name) for name in np.atleast_1d(content[key])]
      for key in ("imlist", "qimlist")
    )
    found = [
      (
        np.atleast_1d(gnd.ok).astype(np.int64),
        np.asarray(gnd.bbx, np.float32).reshape(4),
      )
      for gnd in np.atleast_1d(content["gnd"])
    ]
    if len(found) != len(asked):
      raise ValueError(f"{len(asked)} queries and truth of {len(found)}")
  except Exception as error:
    raise DataError(
      f"{reader}: {str(path)!r} must be gnd_instre.mat with imlist, qimlist "
      f"and gnd, got {type(error).__name__}: {error}; copy it again."
    ) from None
  return names, asked, found


def open_instance_videos(
  root: _PATH, *, queries: _PATH, relevant: _PATH, name: str = "instance-335"
) -> RetrievalSet:
  """Opens Instance-160 or Instance-335: frames of tracking videos.

  Layout: `Images/VIDEO/VIDEO_FRAME.jpg`. `queries` is a text file, a line
  `VIDEO_FRAME x y width height` for each query; `relevant` has a line
  `VIDEO_FRAME COUNT NAME NAME ...` for each.

  Args:
    root: folder that holds `Images`.
    queries: the file of the boxes.
    relevant: the file of the relevant pictures.
    name: for the result.

  Returns:
    The set; pictures of queries are not in the database.

  Raises:
    DataError: if a file is missing, a count is wrong or a name unknown.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_instance_videos
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "Images" / "cat").mkdir(parents=True)
    >>> for frame in (1, 2, 3):
    ...   _ = (root / "Images" / "cat" / f"cat_{frame}.jpg").write_bytes(b"")
    >>> _ = (root / "q.txt").write_text("cat_1 5 5 10 10")
    >>> _ = (root / "r.txt").write_text("cat_1 2 cat_2 cat_3")
    >>> found = open_instance_videos(root, queries=root / "q.txt",
    ...                              relevant=root / "r.txt")
    >>> len(found.database), found.queries[0].relevant["good"].tolist()
    (2, [0, 1])

  Source:
    Xiao et al. (arXiv 2002.00185); files as in wlzhao22/MSAR.
  """
  reader = "open_instance_videos"
  folder = file_sources.check_root(reader, root, "check the path")
  images = file_sources.check_root(
    reader, folder / "Images", "unpack the pictures"
  )
  pictures: dict[str, pathlib.Path] = {}
  for video in file_sources.folder_names(images):
    pictures |= list_pictures(reader, images / video)
  query_file, truth_file = pathlib.Path(queries), pathlib.Path(relevant)
  boxes = {}
  for line in read_lines(reader, query_file):
    stem, *words = line.replace(",", " ").split()
    boxes[stem] = _corner_box(parse_numbers(reader, query_file, words, 4))
  unknown = [stem for stem in boxes if stem not in pictures]
  if unknown:
    raise DataError(
      f"{reader}: {str(query_file)!r} names {unknown[0]!r}, which is not in "
      f"{str(images)!r}."
    )
  names = [stem for stem in pictures if stem not in boxes]
  find = name_finder(reader, names, repr(str(truth_file)))
  truth = {}
  for line in read_lines(reader, truth_file):
    stem, count, *found = line.split()
    if count != str(len(found)):
      raise DataError(
        f"{reader}: the line of {stem!r} in {str(truth_file)!r} must name "
        f"{count} pictures, got {len(found)}."
      )
    truth[stem] = find(n for n in found if n not in boxes)
  missing = [stem for stem in boxes if stem not in truth]
  if missing:
    raise DataError(
      f"{reader}: {str(truth_file)!r} must have a line for {missing[0]!r}."
    )
  return RetrievalSet(
    name,
    tuple(str(pictures[n]) for n in names),
    tuple(
      RetrievalQuery(
        str(pictures[stem]), box, {"good": truth[stem]}, np.zeros(0, np.int64)
      )
      for stem, box in boxes.items()
    ),
  )


def open_retrieval_folders(root: _PATH) -> RetrievalSet:
  """Opens a folder per object; the first picture of each is the query.

  Layout: `root/OBJECT/PICTURE.jpg`. A text file beside a query, of its name,
  may hold the line `x1 y1 x2 y2`. Folders of one picture are distractors.

  Args:
    root: the folder.

  Returns:
    The set.

  Raises:
    DataError: if there is no folder with two pictures.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_retrieval_folders
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("cup/1", "cup/2", "noise/1"):
    ...   (root / name).parent.mkdir(exist_ok=True)
    ...   _ = (root / f"{name}.jpg").write_bytes(b"")
    >>> found = open_retrieval_folders(root)
    >>> len(found.database), len(found.queries)
    (2, 1)

  Source:
    Interface of this library.
  """
  reader = "open_retrieval_folders"
  folder = file_sources.check_root(reader, root, "check the path")
  database: list[str] = []
  queries = []
  for name in file_sources.folder_names(folder):
    first, *rest = list_pictures(reader, folder / name).values()
    if not rest:
      database.append(str(first))
      continue
    places = np.arange(len(database), len(database) + len(rest))
    database += [str(path) for path in rest]
    beside, box = first.with_suffix(".txt"), None
    if beside.exists():
      words = " ".join(read_lines(reader, beside)).replace(",", " ").split()
      box = parse_numbers(reader, beside, words, 4)
    queries.append(
      RetrievalQuery(str(first), box, {"good": places}, np.zeros(0, np.int64))
    )
  if not queries:
    raise DataError(
      f"{reader}: `root` must hold folders with two pictures or more, got "
      f"{str(folder)!r} without any."
    )
  return RetrievalSet(folder.absolute().name, tuple(database), tuple(queries))

"""`vision-jax search`: find an object in a folder of pictures, and where."""

import dataclasses
import hashlib
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from vision_jax.cli.options import NetworkOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  describe_error,
  result_record,
  write_json,
)

if TYPE_CHECKING:
  import numpy as np

__all__ = ["SearchOptions"]

_CELL = 32  # pixels; canvases of a multiple of it, so that few are compiled


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions(NetworkOptions):
  """Describe the salient regions of a folder of pictures.

  Finds regions with DASR and writes their descriptors to a folder. Run again,
  it adds the pictures that are new; killed, it goes on where it was. A picture
  that cannot be read is reported and the others are finished.

  Attributes:
    folder: Folder of pictures, searched with all folders below.
    out: Folder of the index; created, or added to.
    method: dasr-star starts from every peak and drops regions that overlap;
      dasr keeps the best peaks.
    max_regions: At most so many regions for each picture, besides the picture
      as a whole.
    whitening: File of `retrieval.save_whitening`; none by default.
    dtype: Type of the stored descriptors.
    images_per_part: Pictures that are described before they are written.
  """

  folder: tyro.conf.Positional[
    Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")]
  ]
  out: pathlib.Path
  model: str = "resnet_small"
  max_side: int = 512
  method: Literal["dasr-star", "dasr"] = "dasr-star"
  max_regions: int = 16
  whitening: pathlib.Path | None = None
  dtype: Literal["float32", "float16"] = "float16"
  images_per_part: int = 100

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return _build(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryOptions:
  """Find the pictures of an index that show what is inside a box.

  Writes a page with the ranked pictures and the box found in each, and beside
  it a JSON file with the same.

  Attributes:
    index: Folder that `search build` wrote.
    image: The query picture.
    box: x1,y1,x2,y2 in pixels of the file, around the object; the whole picture
      by default.
    top: So many pictures are shown.
    expand: Add the regions of the first so many pictures to the query and
      search again; 0 does not.
    root: Folder of the pictures, if it was moved.
    out: Page to write.
    debug: Show the Python traceback of an error.
  """

  index: tyro.conf.Positional[
    Annotated[pathlib.Path, tyro.conf.arg(metavar="INDEX")]
  ]
  image: tyro.conf.Positional[
    Annotated[pathlib.Path, tyro.conf.arg(metavar="IMAGE")]
  ]
  box: str | None = None
  top: int = 20
  expand: int = 0
  root: pathlib.Path | None = None
  out: pathlib.Path = pathlib.Path("search.html")
  debug: bool = False

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return _query(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
  """Find an object in a folder of pictures, and where it is.

  `build` describes a folder, `query` searches it.

  Attributes:
    command: What to do.
  """

  command: (
    Annotated[BuildOptions, tyro.conf.subcommand("build")]
    | Annotated[QueryOptions, tyro.conf.subcommand("query")]
  )

  @property
  def debug(self) -> bool:
    """Whether tracebacks are shown."""
    return self.command.debug

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return self.command.run()


class _Describer(NamedTuple):
  """A network that finds and describes regions in pictures of any size."""

  module: Any
  variables: Any
  config: Any
  whitening: Any
  max_side: int

  @property
  def dims(self) -> int:
    """Length of a descriptor."""
    import jax
    import jax.numpy as jnp

    from vision_jax import nn

    if self.whitening is not None:
      return self.whitening.projection.shape[1]
    images = jnp.zeros((1, 2 * _CELL, 2 * _CELL, 3))
    shapes = jax.eval_shape(
      lambda v: nn.read_layers(
        self.module, v, images, [self.config.feature_layer]
      ),
      self.variables,
    )
    return shapes[self.config.feature_layer].shape[-1]

  def canvas(self, image: "np.ndarray") -> tuple[Any, "np.ndarray"]:
    """The picture as the network sees it, and pixels of the file per pixel."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(1.0, self.max_side / longest) if self.max_side else 1.0
    size = [
      max(_CELL, round(n * scale / _CELL) * _CELL) for n in (width, height)
    ]
    seen = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return seen, np.array([width / size[0], height / size[1]] * 2)

  def _white(self, vectors: Any) -> "np.ndarray":
    import numpy as np

    from vision_jax import ops

    if self.whitening is not None:
      vectors = ops.whiten(vectors, self.whitening)
    return np.asarray(vectors)

  def regions(
    self, image: "np.ndarray"
  ) -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Vectors, boxes in pixels of the file and scores; the picture first."""
    import numpy as np

    from vision_jax.systems import dasr, retrieval

    seen, grow = self.canvas(image)
    arguments = (self.module, self.variables, seen)
    found = dasr.find_regions(*arguments, self.config)
    whole = retrieval.full_image(seen.shape[:2])
    found = retrieval.concatenate_regions(whole, found)
    vectors = dasr.describe_regions(*arguments, found, self.config)
    valid = np.asarray(found.valid)
    boxes = np.asarray(found.boxes) * grow
    return (
      self._white(vectors)[valid], boxes[valid], np.asarray(found.scores)[valid]
    )  # fmt: skip

  def inside(self, image: "np.ndarray", box: "np.ndarray") -> "np.ndarray":
    """The vector of a box given in pixels of the file, [1, D]."""
    from vision_jax.systems import dasr, retrieval

    seen, grow = self.canvas(image)
    return self._white(
      dasr.describe_regions(
        self.module,
        self.variables,
        seen,
        retrieval.oracle((box / grow)[None]),
        self.config,
      )
    )


def _digest(variables: Any) -> str:
  """SHA-256 of the weights, in the order of their names."""
  import jax
  import numpy as np

  digest = hashlib.sha256()
  for _, value in sorted(
    (jax.tree_util.keystr(path), value)
    for path, value in jax.tree_util.tree_leaves_with_path(variables)
  ):
    digest.update(np.ascontiguousarray(value).tobytes())
  return digest.hexdigest()


def _load(settings: dict[str, Any]) -> tuple[_Describer, dict[str, Any]]:
  """The network of a recipe, and the recipe with the digest of its weights."""
  from vision_jax import weights
  from vision_jax.systems import dasr, retrieval

  module, variables, preprocess = weights.resolve(
    settings["model"], settings["weights"], seed=settings["seed"]
  )
  config = dasr.make_config(
    settings["model"],
    preprocess,
    max_regions=settings["max_regions"],
    pool="box",
  )
  if settings["method"] == "dasr-star":
    config = dasr.star(config)
  whitening, source = None, None
  if settings["whitening"]:
    whitening, source = retrieval.load_whitening(settings["whitening"])
  recipe = settings | {
    "weights_sha256": _digest(variables),
    "whitening_sha256": _digest(list(whitening)) if whitening else None,
    "whitening_source": source,
    "dasr": dataclasses.asdict(config),
  }
  describer = _Describer(
    module, variables, config, whitening, settings["max_side"]
  )
  return describer, recipe


def _build(options: BuildOptions) -> int:
  if options.max_regions < 1 or options.images_per_part < 1:
    raise UserError(
      "--max-regions and --images-per-part must be at least 1, got"
      f" {options.max_regions} and {options.images_per_part}"
    )
  if options.max_side < 0:
    raise UserError(f"--max-side must be at least 0, got {options.max_side}")
  if not options.folder.is_dir():
    raise UserError(f"DIR must be a folder, got '{options.folder}'")
  import tqdm

  from vision_jax import data
  from vision_jax.systems import retrieval

  files = data.list_images(options.folder, recursive=True)
  settings = {
    name: getattr(options, name)
    for name in (
      "model",
      "weights",
      "seed",
      "max_side",
      "method",
      "max_regions",
    )
  }
  settings["whitening"] = str(options.whitening) if options.whitening else None
  settings["root"] = str(options.folder.resolve())
  describer, recipe = _load(settings)
  started, written, failed = time.perf_counter(), 0, 0
  with retrieval.IndexWriter(
    options.out,
    recipe,
    dims=describer.dims,
    dtype=options.dtype,
    images_per_part=options.images_per_part,
  ) as writer:
    before = len(writer)
    for path in tqdm.tqdm(files, desc="index", unit="image", disable=None):
      name = path.relative_to(options.folder).as_posix()
      if name in writer:
        continue
      try:
        writer.add(name, *describer.regions(data.read_image(path)))
        written += 1
      except (ValueError, OSError) as error:
        if options.debug:
          raise
        tqdm.tqdm.write(
          f"vision-jax search: error: {describe_error(error)[0]}",
          file=sys.stderr,
        )
        failed += 1
  seconds = time.perf_counter() - started
  parts = [f"{written} described in {seconds:.1f} s"]
  parts += [f"{before} in the index before"] if before else []
  parts += [f"{failed} failed"] if failed else []
  print(f"{len(files)} images: {', '.join(parts)}; written to {options.out}")
  return 1 if failed else 0


def _parse_box(text: str | None, size: tuple[int, int]) -> "np.ndarray":
  """The box of a query, checked against the picture (height, width)."""
  import numpy as np

  height, width = size
  if text is None:
    return np.array([0.0, 0.0, width, height])
  try:
    box = np.array([float(part) for part in text.split(",")])
  except ValueError:
    box = np.zeros(0)
  if box.shape != (4,) or not np.isfinite(box).all():
    raise UserError(f"--box must be x1,y1,x2,y2 in pixels, got '{text}'")
  if not (box[:2] < box[2:]).all():
    raise UserError(
      f"--box must have x1 < x2 and y1 < y2, got '{text}', which is empty"
    )
  clipped = np.clip(box, 0, [width, height, width, height])
  if not (clipped[:2] < clipped[2:]).all():
    raise UserError(
      f"--box must lie in the picture of {width} x {height}, got '{text}'"
    )
  return clipped


def _query(options: QueryOptions) -> int:
  if options.top < 1:
    raise UserError(f"--top must be at least 1, got {options.top}")
  if options.expand < 0:
    raise UserError(f"--expand must be at least 0, got {options.expand}")
  check_outputs(
    "--out", options.out, (".html", ".htm"), inputs=(options.image,)
  )
  import jax.numpy as jnp
  import numpy as np

  from vision_jax import data
  from vision_jax.systems import retrieval

  image = data.read_image(options.image)
  box = _parse_box(options.box, image.shape[:2])
  index = retrieval.read_index(options.index)
  describer, recipe = _load(
    {
      name: index.recipe[name]
      for name in (
        "model", "weights", "seed", "max_side", "method", "max_regions",
        "whitening", "root",
      )
    }
  )  # fmt: skip
  retrieval.read_index(options.index, recipe=recipe, verify=False)
  started = time.perf_counter()
  query = describer.inside(image, box)
  vectors = np.asarray(index.vectors, np.float32)
  database = retrieval.place_database(vectors)
  most = int(np.bincount(index.image_ids).max(initial=1))
  top_k = min(options.top * most, len(vectors))

  def ranked(query):
    found = retrieval.search(query, database, top_k=top_k)
    return _best_regions(found, index.image_ids)

  rows, values = ranked(query)
  if options.expand:
    count = options.expand
    wider = retrieval.expand_queries(
      jnp.asarray(query),
      jnp.asarray(vectors[rows[:count]])[None],
      jnp.asarray(values[:count])[None],
    )
    rows, values = ranked(wider)
  seconds = time.perf_counter() - started
  rows, values = rows[: options.top], values[: options.top]
  root = options.root or pathlib.Path(index.recipe["root"])
  _write(options, image, box, index, rows, values, root, seconds)
  return 0


def _best_regions(
  found: Any, image_ids: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
  """The best region of each picture and its similarity, best first."""
  import numpy as np

  rows = np.asarray(found.rows[0])
  values = np.asarray(found.scores[0])[rows >= 0]
  rows = rows[rows >= 0]
  _, first = np.unique(image_ids[rows], return_index=True)
  first = np.sort(first)
  return rows[first], values[first]


def _write(
  options: QueryOptions,
  image: "np.ndarray",
  box: "np.ndarray",
  index: Any,
  rows: "np.ndarray",
  values: "np.ndarray",
  root: pathlib.Path,
  seconds: float,
) -> None:
  """The page, the JSON file and the lines on the screen."""
  import numpy as np

  from vision_jax import data, viz

  names = [index.names[i] for i in index.image_ids[rows]]
  boxes = np.asarray(index.boxes)[rows]
  page = viz.Page(
    "Search",
    f"{len(index.names)} pictures, {len(index.vectors)} regions,"
    f" {seconds:.2f} s.",
    facts=viz.describe_environment(),
  )
  page.section("Query", str(options.image)).figure(
    viz.draw_boxes(image, box[None], thickness=2), "The object is in the box."
  )
  pictures, captions = [], []
  for place, (name, found, value) in enumerate(
    zip(names, boxes, values, strict=True), 1
  ):
    text = f"{place}. {name}: {value:.3f}"
    try:
      picture = data.read_image(root / name)
      pictures.append(viz.draw_boxes(picture, found[None], thickness=2))
    except ValueError:
      pictures.append(np.full((64, 96, 3), 0.5))
      text += " (the picture cannot be read; see --root)"
    captions.append(text)
  page.section("Found", "Similarity is the cosine of the best region.").figures(
    pictures, captions, columns=4
  )
  page.write(options.out)
  write_json(
    options.out.with_suffix(".json"),
    result_record(
      options,
      {
        "query": {"image": options.image, "box": box},
        "results": [
          {"image": n, "box": b, "similarity": float(v)}
          for n, b, v in zip(names, boxes, values, strict=True)
        ],
        "convention": "boxes (x1, y1, x2, y2) in pixels of each file; the first"
        " pixel covers 0 to 1",
        "recipe": index.recipe,
        "seconds": seconds,
      },
    ),
  )
  for name, found, value in zip(names, boxes, values, strict=True):
    print(f"{value:6.3f}  {name}  {','.join(f'{v:.0f}' for v in found)}")
  print(f"written: {options.out}, {options.out.with_suffix('.json').name}")

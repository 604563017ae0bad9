"""Instance search on the demo page: heat maps, regions, and what was found."""

import time
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vision_jax import data, ops, viz, weights
from vision_jax.systems import dasr, retrieval

__all__ = ["instance_search_section"]

_INSTANCES = 6
_SIDES = (64, 96, 128)


class _Described(NamedTuple):
  """The regions of a set of pictures, one row each."""

  vectors: np.ndarray
  boxes: np.ndarray
  image_ids: np.ndarray


def _settings() -> tuple[Any, Any, dasr.DasrConfig]:
  module, variables, preprocess = weights.resolve("resnet_small", "instances")
  config = dasr.make_config("resnet_small", preprocess, max_regions=12)
  return module, variables, dasr.star(config)


def _describe(settings: Any, images: list[np.ndarray]) -> _Described:
  vectors, boxes, ids = [], [], []
  for number, image in enumerate(map(jnp.asarray, images)):
    found = dasr.find_regions(settings[0], settings[1], image, settings[2])
    rows = dasr.describe_regions(
      settings[0], settings[1], image, found, settings[2]
    )
    valid = np.asarray(found.valid)
    vectors.append(np.asarray(rows)[valid])
    boxes.append(np.asarray(found.boxes)[valid])
    ids.append(np.full(valid.sum(), number))
  return _Described(
    np.concatenate(vectors), np.concatenate(boxes), np.concatenate(ids)
  )


def _maps(section: viz.Section, settings: Any, image: np.ndarray) -> None:
  """The steps from an image to its regions."""
  module, variables, config = settings
  maps, _, valid = dasr.pixel_maps(
    module, variables, jnp.asarray(image), config
  )
  found = dasr.find_regions(module, variables, jnp.asarray(image), config)
  total = np.asarray(maps)[np.asarray(valid)].sum(0)
  top = np.percentile(total, 99.5)
  heat = viz.colorize(np.clip(total / (top if top > 0 else 1), 0, 1))
  kept = np.asarray(found.masks)[np.asarray(found.valid)].any(0)
  section.figures(
    [
      image,
      heat,
      np.where(kept[..., None], image, 0.15 * image),
      viz.draw_boxes(image, found.boxes, valid=found.valid, thickness=2),
    ],
    [
      "A picture with two objects among clutter.",
      "Mass that the peaks of the last layer put on its pixels.",
      "The brightest twentieth of each map, of regions that overlap little.",
      "Rectangles around the ellipses of their second moments.",
    ],
    columns=4,
  )


def _search(
  section: viz.Section,
  settings: Any,
  database: _Described,
  learned: ops.Whitening,
  images: list[np.ndarray],
  truth: list[dict[str, Any]],
  query: dict[str, Any],
) -> None:
  """One query: its first results, with the box found in each."""
  module, variables, config = settings
  image = query["image"].astype(np.float32) / 255
  box, instance = query["boxes"][0], int(query["labels"][0])
  asked = dasr.describe_regions(
    module,
    variables,
    jnp.asarray(image),
    retrieval.oracle(box[None]),
    config,
  )
  placed = retrieval.place_database(
    np.asarray(ops.whiten(jnp.asarray(database.vectors), learned))
  )
  found = retrieval.search(
    np.asarray(ops.whiten(asked, learned)),
    placed,
    top_k=len(database.vectors),
  )
  rows, scores = np.asarray(found.rows[0]), np.asarray(found.scores[0])
  values = np.empty(len(rows))
  values[rows] = scores
  ranked = retrieval.rank_images(values, database.image_ids)
  pictures = [viz.draw_boxes(image, box[None], thickness=2)]
  captions = [f"Query: object {instance} in its box."]
  for place in range(5):
    number, row = ranked.order[place], ranked.regions[place]
    right = instance in truth[number]["labels"]
    pictures.append(
      viz.draw_boxes(images[number], database.boxes[row][None], thickness=2)
    )
    captions.append(
      f"{place + 1}. {'shows it' if right else 'does not show it'}, cosine "
      f"{ranked.scores[place]:.2f}"
    )
  section.figures(pictures, captions, columns=6)


def instance_search_section(page: viz.Page) -> None:
  """Adds regions, heat maps and two searches to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import instance_search
    >>> instance_search.instance_search_section.__name__
    'instance_search_section'
  """
  started = time.perf_counter()
  settings = _settings()
  records = data.instance_set(
    num_instances=_INSTANCES, sides=_SIDES, num_per_side=1, num_distractors=6
  )
  shown = [r for r in records if r.kind != "query"]
  truth = [data.draw_instance_image(r) for r in shown]
  images = [t["image"].astype(np.float32) / 255 for t in truth]
  section = page.section(
    "DASR: an object in a collection, and where it is",
    "The network was trained to name 400 other objects, nothing else. Peaks of "
    "its last layer are propagated down to the pixels; the pixels that carry "
    "most of the mass make a region, and features inside describe it. A query "
    "is a picture with a box; the answer is a ranking with a box in every "
    "picture.",
  )
  two = next(n for n, t in enumerate(truth) if len(t["labels"]) > 1)
  _maps(section, settings, images[two])
  database = _describe(settings, images)
  learned = ops.fit_whitening(database.vectors, num_dims=64)
  for query in [r for r in records if r.kind == "query"][:2]:
    _search(
      section,
      settings,
      database,
      learned,
      images,
      truth,
      data.draw_instance_image(query),
    )
  section.numbers(
    {
      "pictures": len(images),
      "regions": len(database.vectors),
      "seconds": f"{time.perf_counter() - started:.1f}",
    }
  )
  section.seconds = time.perf_counter() - started

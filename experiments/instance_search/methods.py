"""The rows of the tables: from described pictures to rankings with boxes.

Whitenings, centres and words are learned on `learn`, pictures of another seed.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.instance_search.describe import CUTS, PAPER, Cut, Described
from vision_jax import ops
from vision_jax.ops.box_suppression import nms
from vision_jax.systems import retrieval

NUM_REGIONS = 8  # of DASR; DASR* starts from all
NUM_WORDS = 1000
NUM_CENTRES = 64


class Regions(NamedTuple):
  """Regions of N pictures: boxes [N, P, 4], valid [N, P], masks of cells."""

  boxes: np.ndarray
  valid: np.ndarray
  cells: np.ndarray | None = None


class Ranked(NamedTuple):
  """The ranking of a query, with the box in each picture."""

  order: np.ndarray
  boxes: np.ndarray


class Problem(NamedTuple):
  """A database, its queries, and what may be learned from.

  `crops`: features, logits and pictures of the queries' boxes alone.
  `enlarged`: database and `learn` as the network sees them at twice the size.
  """

  database: Described
  queries: Described
  crops: Any
  learn: Described
  kernel: np.ndarray  # of the classifier, [C, K]
  enlarged: tuple[Described, Described] | None = None


def join_regions(parts: Sequence[Regions]) -> Regions:
  """Boxes of the same pictures from several sources, one after the other."""
  return Regions(
    np.concatenate([part.boxes for part in parts], 1),
    np.concatenate([part.valid for part in parts], 1),
  )


@functools.partial(jax.jit, static_argnames=("stride", "power"))
def _pool(features, boxes, valid, cells, stride, power):
  def one(features, boxes, valid, cells):
    size = features.shape[:2]
    weights = ops.box_weights(boxes, size, stride=stride, valid=valid)
    if cells is not None:
      inside = cells * (weights > 0)
      total = inside.sum((-2, -1), keepdims=True)
      weights = jnp.where(
        total > 0, inside / jnp.where(total > 0, total, 1), weights
      )
    return ops.unit_rows(ops.pool_regions(features, weights, power=power))

  return jax.vmap(one)(features.astype(jnp.float32), boxes, valid, cells)


def pool(
  described: Described, regions: Regions, layer: str, power: float = 1.0
) -> np.ndarray:
  """Descriptors of regions, [N, P, C]."""
  parts = []
  for k in range(0, len(regions.boxes), 64):
    part = slice(k, k + 64)
    cells = regions.cells
    parts.append(
      _pool(
        described.features[layer][part],
        regions.boxes[part],
        regions.valid[part],
        None if cells is None else cells[part].astype(np.float32),
        described.stride(layer),
        power,
      )
    )
  return np.concatenate(parts)


@functools.partial(jax.jit, static_argnames="beta")
def _separate(boxes, scores, valid, beta):
  def one(boxes, scores, valid):
    count = len(boxes)
    index, chosen = nms(
      boxes, scores, valid, iou_threshold=beta, max_outputs=count
    )
    index = jnp.where(chosen, index, count)  # padding is dropped
    return jnp.zeros(count, bool).at[index].set(True, mode="drop")

  return jax.vmap(one)(boxes, scores, valid)


def dasr_regions(
  described: Described,
  *,
  cut: Cut = PAPER,
  cuts: tuple[Cut, ...] = CUTS,
  beta: float | None = None,
  masks: bool = False,
) -> Regions:
  """DASR, or with `beta` DASR*; `masks` for the -m variants."""
  boxes = described.boxes[:, cuts.index(cut)]
  full = ((boxes[..., 2:] - boxes[..., :2]) > 0).all(-1)
  valid = described.valid & full
  if beta is None:
    valid = valid & described.above_mean
    valid = valid & (np.cumsum(valid, 1) <= NUM_REGIONS)
  else:
    valid = np.asarray(_separate(boxes, described.scores, valid, beta))
  return Regions(boxes, valid, described.cells if masks else None)


def full_regions(described: Described) -> Regions:
  """Each picture as a whole."""
  side, count = described.side, len(described.logits)
  boxes = np.tile(np.float32([0, 0, side, side]), (count, 1, 1))
  return Regions(boxes, np.ones((count, 1), bool))


def grid_regions(described: Described) -> Regions:
  """The squares of R-MAC."""
  grid = np.asarray(retrieval.rmac_grid((described.side,) * 2).boxes)
  count = len(described.logits)
  return Regions(
    np.tile(grid[None], (count, 1, 1)), np.ones((count, len(grid)), bool)
  )


def oracle_regions(described: Described) -> Regions:
  """The true boxes."""
  most = max(1, max(len(b) for b in described.truth.boxes))
  boxes = np.zeros((len(described.logits), most, 4), np.float32)
  valid = np.zeros(boxes.shape[:2], bool)
  for n, true in enumerate(described.truth.boxes):
    boxes[n, : len(true)], valid[n, : len(true)] = true, True
  return Regions(boxes, valid)


def detected_regions(
  described: Described, name: str, *, masks: bool = False
) -> Regions:
  """What a detector finds, whatever it takes it for."""
  boxes, valid, cells = described.detections[name]
  return Regions(boxes, valid, cells if masks else None)


def cam_regions(
  described: Described, kernel: np.ndarray, num_classes: int = 4
) -> Regions:
  """Boxes of the class activation maps of the likeliest classes."""
  weights = jnp.asarray(kernel)
  stride, size = described.stride("layer4"), (described.side,) * 2

  @jax.jit
  def one(features, logits):
    _, classes = jax.lax.top_k(logits, num_classes)
    maps = retrieval.cam_maps(features.astype(jnp.float32), weights, classes)
    found = retrieval.cam_boxes(maps, stride=stride, size=size)
    return found.boxes, found.valid

  rows = [
    one(f, p)
    for f, p in zip(described.features["layer4"], described.logits, strict=True)
  ]
  boxes, valid = (np.stack(part) for part in zip(*rows, strict=True))
  return Regions(boxes, valid)


def search_regions(
  problem: Problem,
  database: Sequence[tuple[Described, Regions]],
  learn: Sequence[tuple[Described, Regions]],
  *,
  layer: str = "layer4",
  power: float = 1.0,
) -> tuple[list[Ranked], int]:
  """Ranks pictures by their best region; also the number of dimensions.

  `database` and `learn`: the pictures at one scale or more, each with regions
  of its own, described by the features of that scale.
  """
  known = [pool(d, found, layer, power)[found.valid] for d, found in learn]
  whitening = ops.fit_whitening(np.concatenate(known))
  queries = problem.queries
  first = np.stack([boxes[:1] for boxes in queries.truth.boxes])
  asked = Regions(first, np.ones(first.shape[:2], bool))
  query = ops.whiten(pool(queries, asked, layer, power)[:, 0], whitening)
  regions = join_regions([found for _, found in database])
  vectors = np.concatenate(
    [ops.whiten(pool(d, f, layer, power), whitening) for d, f in database], 1
  )
  count, most, dims = vectors.shape
  scores = np.asarray(query) @ vectors.reshape(-1, dims).T
  scores[:, ~regions.valid.ravel()] = -np.inf
  ids, boxes = np.repeat(np.arange(count), most), regions.boxes.reshape(-1, 4)
  ranked = []
  for row in scores:
    found = retrieval.rank_images(row, ids)
    ranked.append(Ranked(found.order, boxes[found.regions]))
  return ranked, dims


def search_vectors(
  queries: np.ndarray, database: np.ndarray, side: int
) -> list[Ranked]:
  """Ranks pictures by one vector each; the box is the whole picture."""
  scores = np.asarray(queries) @ np.asarray(database).T
  order = np.argsort(-scores, 1, kind="stable")
  boxes = np.tile(np.float32([0, 0, side, side]), (len(database), 1))
  return [Ranked(row, boxes) for row in order]


def _over(function: Any, *arrays: np.ndarray) -> np.ndarray:
  """A function of one picture over all, 64 at a time."""
  mapped = jax.jit(jax.vmap(function))
  return np.concatenate(
    [
      mapped(*(np.asarray(a[k : k + 64], np.float32) for a in arrays))
      for k in range(0, len(arrays[0]), 64)
    ]
  )


def image_vectors(problem: Problem) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Name -> vectors of the queries (crops) and of the database."""
  kernel = jnp.asarray(problem.kernel)
  maps = {
    "learn": problem.learn.features["layer4"],
    "query": problem.crops[0],
    "database": problem.database.features["layer4"],
  }
  logits = {
    "learn": problem.learn.logits,
    "query": problem.crops[1],
    "database": problem.database.logits,
  }
  found = {}

  def whitened(name, raw, finish=None):
    """Learns on `learn`, as `raw` [N, D] or [N, R, D]; `finish` sums."""
    values = {k: raw(k) for k in maps}
    learned = ops.fit_whitening(
      values["learn"].reshape(-1, values["learn"].shape[-1])
    )
    done = finish or (lambda x: x)
    found[name] = tuple(
      np.asarray(done(ops.whiten(jnp.asarray(values[k]), learned)))
      for k in ("query", "database")
    )

  for name, function in (
    ("SPoC", ops.spoc_pool),
    ("MAC", ops.mac_pool),
    ("GeM", ops.gem_pool),
    ("CroW", retrieval.crow_descriptor),
  ):
    whitened(
      name,
      lambda k, f=function: _over(lambda x: ops.unit_rows(f(x)), maps[k]),
    )

  def summed(x):
    return ops.unit_rows(x.sum(1))

  whitened(
    "R-MAC",
    lambda k: _over(lambda x: ops.unit_rows(ops.rmac_vectors(x)), maps[k]),
    summed,
  )
  if problem.enlarged is not None:
    views = dict(zip(("database", "learn"), problem.enlarged, strict=True))

    def two_scales(k, function):
      parts = [maps[k]]
      parts += [views[k].features["layer4"]] if k in views else []
      rows = [_over(lambda x: ops.unit_rows(function(x)), x) for x in parts]
      return np.concatenate(rows, 1)

    for name, function in (
      ("SPoC, 2 scales", lambda x: ops.spoc_pool(x)[None]),
      ("R-MAC, 2 scales", ops.rmac_vectors),
    ):
      whitened(name, lambda k, f=function: two_scales(k, f), summed)
  labels = np.array([names[0] for names in problem.learn.truth.labels])
  found["Regional attention"] = attention_vectors(maps, labels)
  whitened(
    "CAM",
    lambda k: _over(
      lambda x, p: retrieval.cam_vectors(x, kernel, p, num_classes=8),
      maps[k],
      logits[k],
    ),
    summed,
  )
  return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def update_attention(head, tx, params, state, seen, targets):
  """An update of Regional Attention: (params, state of `tx`)."""

  def loss(params):
    logits = head.apply(params, *seen)[1]
    return retrieval.attention_loss(logits, targets)

  updates, state = tx.update(jax.grad(loss)(params), state, params)
  return optax.apply_updates(params, updates), state


def attention_vectors(
  maps: dict[str, np.ndarray], labels: np.ndarray, *, num_steps: int = 300
) -> tuple[np.ndarray, np.ndarray]:
  """Regional attention, trained to name the instances of `learn`.

  As `image_vectors`; five levels of regions, whitened before they are weighed.
  """

  def look(x):
    size = x.shape[:2]
    regions = ops.rmac_regions(size, levels=5).astype(np.float32)
    weights = ops.box_weights(jnp.asarray(regions), size, stride=1)
    vectors = ops.unit_rows(ops.rmac_vectors(x, levels=5))
    return jnp.concatenate([vectors, ops.pool_regions(x, weights)], -1)

  both = {k: np.split(_over(look, v), 2, -1) for k, v in maps.items()}
  width = maps["learn"].shape[-1]
  learned = ops.fit_whitening(both["learn"][0].reshape(-1, width))
  scale = 1 / np.abs(both["learn"][1]).mean()
  seen = {
    k: (ops.whiten(jnp.asarray(v), learned), scale * m, scale * m.mean(1))
    for k, (v, m) in both.items()
  }
  classes, targets = np.unique(labels, return_inverse=True)
  head = retrieval.RegionalAttention(num_classes=len(classes))
  params = head.init(jax.random.key(0), *seen["learn"])
  tx = optax.adam(optax.cosine_decay_schedule(3e-3, max(num_steps, 1)))

  state, targets = tx.init(params), jnp.asarray(targets)
  for _ in range(num_steps):
    params, state = update_attention(
      head, tx, params, state, seen["learn"], targets
    )
  query, database = (
    np.asarray(head.apply(params, *seen[k])[0]) for k in ("query", "database")
  )
  return query, database


def local_words(
  problem: Problem,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """BLCF: words of the cells of `layer4`, enlarged twice.

  Queries are the cells of the whole picture inside the box. "salient" weighs
  the cells of the database by the response of the network.
  """
  rng = np.random.default_rng(0)

  def cells(features):
    x = jnp.asarray(features, jnp.float32)
    size = (2 * x.shape[1], 2 * x.shape[2])
    return np.asarray(ops.resize(x, size).reshape(len(x), -1, x.shape[-1]))

  some = cells(problem.learn.features["layer4"])
  some = some[:, rng.choice(some.shape[1], 64, replace=False)]
  some = some.reshape(-1, some.shape[-1])
  whitening = ops.fit_whitening(some)
  words = retrieval.kmeans(
    np.asarray(ops.whiten(some, whitening)), NUM_WORDS, rounds=10
  )

  def assign(features):
    rows = []
    for k in range(0, len(features), 64):
      white = ops.whiten(cells(features[k : k + 64]), whitening)
      flat = np.asarray(white).reshape(-1, white.shape[-1])
      rows.append(retrieval.assign_words(flat, words).reshape(len(white), -1))
    return np.concatenate(rows)

  described = problem.database
  database = assign(described.features["layer4"])
  asked = assign(problem.queries.features["layer4"])
  side = round(asked.shape[1] ** 0.5)
  query = []
  for row, boxes in zip(asked, problem.queries.truth.boxes, strict=True):
    weights = np.asarray(ops.box_weights(boxes[0], (side, side), stride=8))
    query.append(retrieval.blcf_histogram(row, weights.ravel() > 0, NUM_WORDS))
  response = described.features["layer4"].astype(np.float32).mean(-1)
  response = response / np.maximum(response.max((1, 2), keepdims=True), 1e-9)
  response = response.repeat(2, 1).repeat(2, 2).reshape(len(response), -1)
  found = {}
  for name, weights in (
    ("BLCF", np.ones_like(response)),
    ("BLCF, salient", response),
  ):
    bags = [
      retrieval.blcf_histogram(row, w, NUM_WORDS)
      for row, w in zip(database, weights, strict=True)
    ]
    found[name] = (np.stack(query), np.stack(bags))
  return found


def region_vlad(problem: Problem, source: Any) -> tuple[np.ndarray, np.ndarray]:
  """VLAD of the regions of a picture; a query's are those of its crop.

  128 dimensions and 64 centres, 8192 in all. A query has one region, its box.
  """
  learn, database = source(problem.learn), source(problem.database)
  known = pool(problem.learn, learn, "layer4")[learn.valid]
  whitening = ops.fit_whitening(known)
  centres = jnp.asarray(
    retrieval.kmeans(
      np.asarray(ops.whiten(known, whitening)), NUM_CENTRES, rounds=15
    )
  )

  def one(x, valid):
    return retrieval.region_vlad(x, valid > 0, centres, whitening=whitening)

  first = np.stack([b[:1] for b in problem.queries.truth.boxes])
  asked = Regions(first, np.ones(first.shape[:2], bool))
  return tuple(
    _over(one, pool(described, regions, "layer4"), regions.valid)
    for described, regions in (
      (problem.queries, asked),
      (problem.database, database),
    )
  )

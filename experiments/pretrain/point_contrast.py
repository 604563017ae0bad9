"""Point contrast: two views of a scene, and points that must find each other.

Each step cuts regions out of canvases, renders two warped and recoloured views
of each on the device, reads the feature maps at 25 points of the first view
and at their true places in the second, and asks every point to pick its
partner among all points of the batch (symmetric InfoNCE, van den Oord et al.,
arXiv 1807.03748) in each descriptor layer. No labels are needed.
"""

import dataclasses
import functools
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import data, nn, ops, train

MEAN = (0.45, 0.45, 0.45)
STD = (0.25, 0.25, 0.25)
REGION = 256  # side of the region that both views are cut from, pixels


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    seed: of the parameters, the canvases and every draw.
    num_canvases: synthetic dead-leaves canvases of 512 x 512.
    photographs: also use the training photographs.
    layers: feature maps that are trained.
    batch_size: regions per step, over all devices.
    view_size: side of a view, pixels.
    temperature: of the softmax over candidates.
    num_steps: updates.
    learning_rate: peak rate of Adam.
    warmup_steps: linear warm-up, then cosine to zero.
    weight_decay: decoupled.
    clip_norm: largest gradient norm.
    log_every: updates between log lines.
    checkpoint_every: updates between checkpoints.
  """

  model: str = "vgg_small"
  seed: int = 0
  num_canvases: int = 20
  photographs: bool = True
  layers: tuple[str, ...] = ("pool3", "pool4")
  batch_size: int = 24
  view_size: int = 80
  temperature: float = 0.07
  num_steps: int = 600
  learning_rate: float = 3e-3
  warmup_steps: int = 60
  weight_decay: float = 1e-4
  clip_norm: float = 5.0
  log_every: int = 50
  checkpoint_every: int = 200


@dataclasses.dataclass(frozen=True)
class ViewConfig:
  """How much a view differs from its region.

  Attributes:
    rotation: largest angle, degrees.
    scale: bounds of the magnification, drawn on a logarithmic scale.
    jitter: largest shift of a corner, share of the side.
    shift: largest shift of the whole view, share of the side.
  """

  rotation: float
  scale: tuple[float, float] = (0.7, 1.4)
  jitter: float = 0.06
  shift: float = 0.0


VIEWS = (ViewConfig(15.0), ViewConfig(25.0, jitter=0.10, shift=0.08))


def create_model(config: Config) -> Any:
  """The network with batch normalisation, statistics over all devices."""
  return nn.backbones.MODELS[config.model](batch_norm=True, axis_name="batch")


def load_canvases(config: Config) -> np.ndarray:
  """Canvases to cut regions from, uint8 [N, 512, 512, 3]."""
  canvases = [
    data.dead_leaves(config.seed, i) for i in range(config.num_canvases)
  ]
  for name in data.TRAINING if config.photographs else ():
    image = data.to_uint8(data.load_photograph(name))
    factor = 512 / min(image.shape[:2])
    if factor > 1 or min(image.shape[:2]) < 640:
      size = [max(512, round(n * factor)) for n in image.shape[1::-1]]
      image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    corners = {(0, 0), (image.shape[0] - 512, image.shape[1] - 512)}
    canvases += [image[y : y + 512, x : x + 512] for y, x in sorted(corners)]
  return np.stack(canvases)


def make_batches(config: Config):
  """Step -> regions, uint8 [B, 256, 256, 3], and their global indices."""
  canvases = load_canvases(config)

  def region(index: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[config.seed, index]))
    for _ in range(4):  # look for a place with some texture
      canvas = canvases[rng.integers(len(canvases))]
      y, x = rng.integers(0, 512 - REGION + 1, 2)
      cut = canvas[y : y + REGION, x : x + REGION]
      if cut[96:160, 96:160].std() > 15:
        break
    return cut

  def batch(step: int) -> dict[str, np.ndarray]:
    indices = step * config.batch_size + np.arange(config.batch_size)
    return {
      "index": indices.astype(np.int32),
      "regions": np.stack([region(int(i)) for i in indices]),
    }

  return batch


def draw_matrix(key: jax.Array, size: int, view: ViewConfig) -> jax.Array:
  """Random homography from view pixels to region pixels, [3, 3]."""
  keys = jax.random.split(key, 4)
  angle = jnp.deg2rad(
    jax.random.uniform(keys[0], (), minval=-view.rotation, maxval=view.rotation)
  )
  low, high = np.log(view.scale)
  zoom = jnp.exp(jax.random.uniform(keys[1], (), minval=low, maxval=high))
  jitter = jax.random.uniform(keys[2], (4, 2), minval=-1.0, maxval=1.0)
  shift = jax.random.uniform(keys[3], (1, 2), minval=-1.0, maxval=1.0)
  end = size - 1.0
  corners = jnp.array([[0.0, 0.0], [end, 0.0], [end, end], [0.0, end]])
  moved = corners - end / 2 + size * (view.jitter * jitter + view.shift * shift)
  c, s = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
  rotation = jnp.stack([jnp.stack([c, s]), jnp.stack([-s, c])])
  target = jnp.matmul(moved, rotation, precision="highest") + (REGION - 1) / 2
  return ops.homography_from_points(corners, target)


def recolour(key: jax.Array, view: jax.Array) -> jax.Array:
  """Random grey, gamma, gain, contrast, brightness, blur and noise."""
  keys = jax.random.split(key, 9)

  def uniform(k, low, high, shape=()):
    return jax.random.uniform(keys[k], shape, minval=low, maxval=high)

  gray = jnp.broadcast_to(view.mean(-1, keepdims=True), view.shape)
  view = jnp.where(uniform(0, 0.0, 1.0) < 0.4, gray, view)
  view = jnp.maximum(view, 1e-4) ** jnp.exp(uniform(1, -0.5, 0.5))
  view = view * uniform(2, 0.8, 1.2, (1, 1, 3))
  mean = view.mean()
  view = (view - mean) * uniform(3, 0.5, 1.4) + mean + uniform(4, -0.2, 0.2)
  sigma = uniform(5, 0.4, 1.2)
  taps = jnp.exp(-(jnp.arange(-2.0, 3.0) ** 2) / (2 * sigma**2))
  taps = jnp.where(
    uniform(6, 0.0, 1.0) < 0.25, taps / taps.sum(), jnp.eye(5)[2]
  )
  for axis in (0, 1):
    pad = [(2, 2) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(view, pad, mode="edge")
    view = sum(
      taps[k] * jax.lax.slice_in_dim(padded, k, k + view.shape[axis], axis=axis)
      for k in range(5)
    )
  noise = jax.random.normal(keys[7], view.shape) * uniform(8, 0.0, 0.04)
  return jnp.clip(view, 0.0, 1.0) + noise


def draw_views(
  key: jax.Array, region: jax.Array, *, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Two views [2, S, S, 3], points [2, P, 2] in them, and valid [P]."""
  region = region.astype(jnp.float32) / 255
  keys = jax.random.split(key, 5)
  side = jnp.arange(size, dtype=jnp.float32)
  grid = jnp.stack(jnp.meshgrid(side, side), -1)
  matrices, views = [], []
  for k, view in enumerate(VIEWS):
    matrix = draw_matrix(keys[k], size, view)
    places = ops.apply_homography(matrix, grid.reshape(-1, 2))
    pixels = ops.sample(region, places.reshape(size, size, 2), padding="edge")
    matrices.append(matrix)
    views.append(recolour(keys[2 + k], pixels))
  cells = jnp.arange(8.0, size, 16.0)
  points = jnp.stack(jnp.meshgrid(cells, cells), -1).reshape(-1, 2)
  points = points + jax.random.uniform(
    keys[4], points.shape, minval=-5.0, maxval=5.0
  )
  across = jnp.matmul(
    jnp.linalg.inv(matrices[1]), matrices[0], precision="highest"
  )
  partners = ops.apply_homography(across, points)
  valid = ((partners >= 4.0) & (partners <= size - 5.0)).all(-1)
  return jnp.stack(views), jnp.stack([points, partners]), valid


def info_nce(
  left: jax.Array, right: jax.Array, valid: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
  """Sum of losses and of hits of points [P, D] over all devices' points."""
  everything = functools.partial(
    jax.lax.all_gather, axis_name="batch", tiled=True
  )
  offset = jax.lax.axis_index("batch") * left.shape[0]
  own = offset + jnp.arange(left.shape[0])
  candidates = everything(valid)
  loss = hits = 0.0
  for anchors, others in ((left, right), (right, left)):
    logits = jnp.matmul(anchors, everything(others).T) / temperature
    logits = jnp.where(candidates[None], logits, -1e9)
    target = jnp.take_along_axis(logits, own[:, None], 1)[:, 0]
    rows = jax.nn.logsumexp(logits, -1) - target
    loss += jnp.where(valid, rows, 0.0).sum() / 2
    hits += jnp.where(valid, logits.argmax(-1) == own, False).sum() / 2
  return loss, hits


def contrast_terms(
  config: Config,
  geometry: Any,
  maps: dict[str, jax.Array],
  points: jax.Array,
  valid: jax.Array,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Losses and hits of each layer, as (sum, count).

  `maps` are of first views, then second views, [2 B, h, w, C]; `points` are
  [B, 2, P, 2] and `valid` is [B, P].
  """

  def read(features, places, name):
    cells = ops.image_to_feature(
      places, stride=geometry[name].stride, offset=geometry[name].offset
    )
    values = jax.vmap(ops.sample)(features, cells)
    squared = (values**2).sum(-1, keepdims=True)
    return (values * jax.lax.rsqrt(squared + 1e-12)).reshape(
      -1, values.shape[-1]
    )

  half = len(points)
  valid = valid.reshape(-1)
  terms, hits = {}, {}
  for name in config.layers:
    left = read(maps[name][:half], points[:, 0], name)
    right = read(maps[name][half:], points[:, 1], name)
    loss, hit = info_nce(left, right, valid, config.temperature)
    terms[f"nce_{name}"] = (loss, valid.sum())
    hits[f"found_{name}"] = (hit, valid.sum())
  return terms, hits


def make_loss(config: Config, model: Any):
  """loss_fn of `train.make_step`."""
  geometry = nn.endpoint_info(model)

  def loss_fn(params, batch_stats, batch, key):
    keys = train.example_keys(key, batch["index"])
    draw = functools.partial(draw_views, size=config.view_size)
    views, points, valid = jax.vmap(draw)(keys, batch["regions"])
    (_, maps), updates = model.apply(
      {"params": params, "batch_stats": batch_stats},
      normalize(jnp.concatenate([views[:, 0], views[:, 1]])),
      train=True,
      mutable=["batch_stats"],
    )
    terms, hits = contrast_terms(config, geometry, maps, points, valid)
    return terms, {"batch_stats": updates["batch_stats"], "metrics": hits}

  return loss_fn


def normalize(images: jax.Array) -> jax.Array:
  """The network's input from RGB in [0, 1]."""
  return (images - jnp.array(MEAN).reshape(1, 1, 1, 3)) / jnp.array(
    STD
  ).reshape(1, 1, 1, 3)


def evaluate(config: Config, model: Any, state: Any) -> dict[str, float]:
  """Nothing to add: the training hits are on views never seen before."""
  del config, model, state
  return {}


def finish(
  config: Config, model: Any, variables: dict
) -> tuple[Any, dict, dict[str, Any]]:
  """Folds batch normalisation; returns module, variables, metadata."""
  module, variables = nn.backbones.fold_batch_norm(
    model.clone(axis_name=None), variables
  )
  sources = f"{config.num_canvases} synthetic dead-leaves canvases"
  if config.photographs:
    sources += " and scikit-image photographs: " + ", ".join(data.TRAINING)
  return (
    module,
    variables,
    {
      "mean": MEAN,
      "std": STD,
      "class_names": (),
      "data": sources,
    },
  )

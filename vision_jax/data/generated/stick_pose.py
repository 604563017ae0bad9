"""StickPose: people with 15 joints, alone, in groups and in motion.

Version 1, frozen in GENERATED.md.
"""

import types
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from vision_jax.data.generated import stick_figures, streams

__all__ = [
  "STICK_POSE_SPLITS",
  "STICK_POSE_VERSION",
  "stick_pose_multi",
  "stick_pose_single",
  "stick_pose_video",
]

STICK_POSE_VERSION = 1

STICK_POSE_SPLITS: Mapping[str, range] = types.MappingProxyType(
  {
    "train": range(50_000),
    "val": range(50_000, 51_000),
    "test": range(51_000, 53_000),
  }
)
"""Indices of the three splits, at seed 0."""

_SMALLEST_SINGLE, _SMALLEST_MULTI = 32, 64
_LEAST_JOINTS = 5  # of 15 in the picture
_OCCLUDER = np.iinfo(np.int16).max  # nearer than every person

# Items of an example's streams.
_SCENE, _PIXELS, _PEOPLE = 0, 1, 2


class _Person(NamedTuple):
  """A figure in every frame; lengths in units of the picture's side."""

  scale: float
  joints: np.ndarray  # [T, 15, 2], (0, 0) is the picture's corner
  depth: np.ndarray  # [T, 15], units of `scale`, from the pelvis
  look: stick_figures.Look


class _Surroundings(NamedTuple):
  """What stands behind and before the people; units of the side."""

  segments: np.ndarray  # [D, 2, 2] distractor capsules
  radii: np.ndarray  # [D]
  colours: np.ndarray  # [D, 3]
  rectangles: np.ndarray  # [R, 4] occluders, x1, y1, x2, y2
  fills: np.ndarray  # [R, 3]


def _check(name: str, size: int, smallest: int) -> None:
  if size < smallest:
    raise ValueError(
      f"{name}: `size` must be at least {smallest} pixels, got {size}."
    )


def _draw_surroundings(rng: np.random.Generator) -> _Surroundings:
  """0 to 4 distractor capsules and 0 to 2 occluding rectangles."""
  count = int(rng.integers(5))
  centre = rng.uniform(0, 1, (count, 2))
  angle = rng.uniform(0, np.pi, count)
  half = 0.5 * rng.uniform(0.10, 0.40, count)[:, None]
  along = half * np.stack([np.cos(angle), np.sin(angle)], -1)
  radii = rng.uniform(0.015, 0.04, count)
  colours = rng.uniform(0.45, 1, (count, 3)) * rng.uniform(0.7, 1.1, (count, 1))
  rectangles = int(rng.integers(3))
  middle = rng.uniform(0, 1, (rectangles, 2))
  reach = 0.5 * rng.uniform(0.08, 0.25, (rectangles, 2))
  return _Surroundings(
    np.stack([centre - along, centre + along], 1),
    radii,
    colours.astype(np.float32),
    np.concatenate([middle - reach, middle + reach], -1),
    rng.uniform(0, 1, (rectangles, 3)).astype(np.float32),
  )


def _paint_background(
  rng: np.random.Generator, surroundings: _Surroundings, size: int
) -> np.ndarray:
  """Two octaves of noise and the distractors, float32 [size, size, 3]."""
  image = np.zeros((size, size, 3), np.float32)
  for cells, amplitude in ((4, 0.35), (9, 0.2)):
    grid = np.float32(amplitude) * rng.random((cells, cells, 3), np.float32)
    image += cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
  for ends, radius, colour in zip(
    surroundings.segments,
    surroundings.radii,
    surroundings.colours,
    strict=True,
  ):
    start, end = ends * size - 0.5
    stick_figures.paint_capsule(image, start, end, radius * size, colour)
  return image


def _paint_rectangles(
  image: np.ndarray, nearest: np.ndarray, surroundings: _Surroundings
) -> None:
  """Paints the occluders, in place; edges at whole pixels."""
  corners = np.rint(surroundings.rectangles * len(image)).astype(int)
  corners = np.clip(corners, 0, len(image))
  for (x1, y1, x2, y2), fill in zip(corners, surroundings.fills, strict=True):
    image[y1:y2, x1:x2] = fill
    nearest[y1:y2, x1:x2] = _OCCLUDER


def _visibility(
  joints: np.ndarray, nearest: np.ndarray, rank: int
) -> np.ndarray:
  """0 out of the picture, 1 behind somebody or something, 2 visible: [15].

  `nearest` [S, S] holds the rank of the nearest layer that covers at least
  half of each pixel; a limb of the same person hides nothing.
  """
  pixels = np.floor(joints + 0.5).astype(int)
  inside = np.all((pixels >= 0) & (pixels < len(nearest)), axis=-1)
  x, y = np.where(inside[:, None], pixels, 0).T
  return np.where(inside, np.where(nearest[y, x] > rank, 1, 2), 0)


def _box_and_area(silhouette: np.ndarray) -> tuple[np.ndarray, int]:
  """Box [4], continuous frame, and number of pixels; zeros without any."""
  rows, columns = silhouette.any(1), silhouette.any(0)
  if not rows.any():
    return np.zeros(4, np.float32), 0
  y, x = np.flatnonzero(rows), np.flatnonzero(columns)
  box = np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float32)
  return box, int(np.count_nonzero(silhouette))


def _render(
  people: list[_Person],
  frame: int,
  nearness: np.ndarray,
  num_labelled: int,
  surroundings: _Surroundings,
  background: np.ndarray,
) -> dict[str, np.ndarray]:
  """Paints one frame and labels the first `num_labelled` people.

  The picture is still float; `nearness` [N] ranks people, nearest highest.
  """
  size = len(background)
  image = background.copy()
  nearest = np.full((size, size), -1, np.int16)
  silhouettes = np.zeros((len(people), size, size), bool)
  # What is labelled is what is stored: visibility is that of rounded numbers.
  joints = [(p.joints[frame] * size - 0.5).astype(np.float32) for p in people]
  for number in np.argsort(nearness):
    person = people[number]
    silhouettes[number] = stick_figures.paint_figure(
      image,
      joints[number],
      person.depth[frame],
      person.look,
      person.scale * size,
    )
    nearest[silhouettes[number]] = nearness[number]
  _paint_rectangles(image, nearest, surroundings)
  keypoints = np.zeros((num_labelled, 15, 3), np.float32)
  z = np.zeros((num_labelled, 15), np.float32)
  boxes = np.zeros((num_labelled, 4), np.float32)
  area = np.zeros(num_labelled, np.float32)
  for number in range(num_labelled):
    v = _visibility(joints[number], nearest, int(nearness[number]))
    keypoints[number, :, :2], keypoints[number, :, 2] = joints[number], v
    keypoints[number, v == 0] = 0
    z[number] = np.where(v > 0, people[number].depth[frame], 0)
    boxes[number], area[number] = _box_and_area(silhouettes[number])
  heads = [np.linalg.norm(j[0] - j[1]) for j in joints[:num_labelled]]
  ignore = np.zeros((size, size), bool)
  if num_labelled < len(people):
    # Where a labelled person is seen before an unlabelled one, that counts.
    seen = np.isin(nearest, nearness[:num_labelled])
    ignore = silhouettes[num_labelled:].any(0) & ~seen
  return {
    "image": image,
    "keypoints": keypoints,
    "z": z,
    "boxes": boxes,
    "area": area,
    "head_size": np.array(heads, np.float32),
    "ignore": ignore.astype(np.uint8),
    "track_id": np.arange(num_labelled, dtype=np.int32),
  }


def _to_8_bit(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Adds the camera's noise, clips to [0, 1] and rounds to uint8."""
  noise = rng.standard_normal(image.shape, np.float32)
  noise *= np.float32(0.02)
  noise += image
  np.clip(noise, 0, 1, out=noise)
  noise *= 255
  return np.rint(noise, out=noise).astype(np.uint8)


def _inside(joints: np.ndarray) -> np.ndarray:
  """How many joints [..., 15, 2] are in the picture: [...]."""
  return ((joints >= 0) & (joints < 1)).all(-1).sum(-1)


def _scatter(rng: np.random.Generator, joints: np.ndarray) -> np.ndarray:
  """Moves joints [T, 15, 2] so that enough are seen in the middle frame."""
  while True:  # a pelvis in the middle of the picture always will do
    moved = rng.uniform(0, 1, 2) + joints
    if _inside(moved[len(moved) // 2]) >= _LEAST_JOINTS:
      return moved


def _draw_standing(rng: np.random.Generator) -> _Person:
  """One of several people, in a single frame."""
  scale = rng.uniform(0.25, 0.60)
  xy, depth = stick_figures.place_joints(stick_figures.draw_angles(rng)[None])
  look = stick_figures.draw_look(rng)
  return _Person(scale, _scatter(rng, scale * xy), depth, look)


def _draw_moving(
  rng: np.random.Generator, num_frames: int, path: np.ndarray | None
) -> _Person:
  """One of several people, in all frames; `path` [T, 2] of the pelvis."""
  scale = rng.uniform(0.25, 0.60)
  angles = stick_figures.draw_motion(rng, num_frames)
  xy, depth = stick_figures.place_joints(angles)
  look = stick_figures.draw_look(rng)
  if path is not None:
    return _Person(scale, path[:, None] + scale * xy, depth, look)
  time = np.arange(num_frames) - num_frames // 2
  shift = rng.uniform(-0.02, 0.02, 2) * time[:, None]
  joints = _scatter(rng, scale * xy + shift[:, None])
  return _Person(scale, joints, depth, look)


def _draw_crossing(rng: np.random.Generator, num_frames: int) -> np.ndarray:
  """Pelvis of two people who pass each other, float64 [2, num_frames, 2]."""
  meeting = rng.uniform(0.3, 0.7) * (num_frames - 1)
  place = rng.uniform(0.35, 0.65, 2)
  apart = np.array([0.0, rng.uniform(-0.05, 0.05)])
  velocity = rng.uniform(-0.02, 0.02, (2, 2))
  velocity[:, 0] = rng.uniform(0.006, 0.02, 2) * rng.permutation([-1, 1])
  time = (np.arange(num_frames) - meeting)[:, None]
  start = np.stack([place - apart, place + apart])[:, None]
  return start + velocity[:, None] * time


def stick_pose_single(
  seed: int, index: int, *, size: int = 64, hard: bool = False
) -> dict[str, np.ndarray]:
  """Draws one person on clutter, behind up to two rectangles.

  Convention:
    Layout [size, size, 3], RGB. Keypoints (x, y, v) in the index frame; v is 0
    out of the picture (then the row is 0), 1 covered by a rectangle, 2
    visible; own limbs hide nothing. Boxes in the continuous frame. Box and
    area are those of the whole silhouette inside the picture, covered parts
    too. (seed, index) fixes the example; lengths scale with `size`, pixel
    noise apart.

  Args:
    seed: number of the set; the splits are those of seed 0.
    index: number of the example; see `STICK_POSE_SPLITS`.
    size: side, pixels, at least 32.
    hard: whether the figure is turned by up to 180 degrees, not 30.

  Returns:
    `image` uint8 [size, size, 3]; `keypoints` float32 [1, 15, 3]; `z` float32
    [1, 15], depth away from the viewer, from the pelvis, in units of the
    figure's scale (0 where v is 0); `boxes` float32 [1, 4]; `area` float32
    [1], pixels; `head_size` float32 [1], distance of head and neck; `ignore`
    uint8 [size, size], all 0; `track_id` int32 [1].

  Raises:
    ValueError: if `size` is below 32, or `seed` or `index` out of range.

  Example:
    >>> from vision_jax.data import stick_pose_single
    >>> example = stick_pose_single(0, 5)
    >>> example["image"].shape, example["keypoints"].shape
    ((64, 64, 3), (1, 15, 3))

  Source:
    GENERATED.md, "StickPose, version 1".
  """
  _check("stick_pose_single", size, _SMALLEST_SINGLE)
  domain = streams.Domain.STICK_POSE_SINGLE
  rng = streams.random_stream(domain, seed, index, item=_SCENE)
  surroundings = _draw_surroundings(rng)
  rng = streams.random_stream(domain, seed, index, item=_PEOPLE)
  scale = rng.uniform(0.55, 0.85)
  root = 0.5 + rng.uniform(-0.08, 0.08, 2)
  angles = stick_figures.draw_angles(rng, hard=hard)
  xy, depth = stick_figures.place_joints(angles[None])
  person = _Person(
    scale, root + scale * xy, depth, stick_figures.draw_look(rng)
  )
  rng = streams.random_stream(domain, seed, index, item=_PIXELS)
  background = _paint_background(rng, surroundings, size)
  example = _render([person], 0, np.zeros(1, int), 1, surroundings, background)
  example["image"] = _to_8_bit(rng, example["image"])
  return example


def stick_pose_multi(
  seed: int, index: int, *, size: int = 256
) -> dict[str, np.ndarray]:
  """Draws 1 to 5 people who hide each other, and sometimes one without labels.

  Convention:
    As `stick_pose_single`; v is 1 also behind another person. People are in
    no order; at least 5 of the 15 joints of each are in the picture. A person
    may be hidden wholly.

  Args:
    seed: number of the set; the splits are those of seed 0.
    index: number of the example; see `STICK_POSE_SPLITS`.
    size: side, pixels, at least 64.

  Returns:
    As `stick_pose_single`, with P people in place of 1. `ignore` is 1 on the
    silhouette of the person without labels, except where a labelled person is
    seen before it.

  Raises:
    ValueError: if `size` is below 64, or `seed` or `index` out of range.

  Example:
    >>> from vision_jax.data import stick_pose_multi
    >>> example = stick_pose_multi(0, 3, size=64)
    >>> example["image"].shape, example["keypoints"].shape[1:]
    ((64, 64, 3), (15, 3))

  Source:
    GENERATED.md, "StickPose, version 1".
  """
  _check("stick_pose_multi", size, _SMALLEST_MULTI)
  domain = streams.Domain.STICK_POSE_MULTI
  rng = streams.random_stream(domain, seed, index, item=_SCENE)
  num_labelled = int(rng.integers(1, 6))
  count = num_labelled + int(rng.random() < 0.25)
  nearness = rng.permutation(count)
  surroundings = _draw_surroundings(rng)
  people = [
    _draw_standing(
      streams.random_stream(domain, seed, index, item=_PEOPLE + number)
    )
    for number in range(count)
  ]
  rng = streams.random_stream(domain, seed, index, item=_PIXELS)
  background = _paint_background(rng, surroundings, size)
  example = _render(people, 0, nearness, num_labelled, surroundings, background)
  example["image"] = _to_8_bit(rng, example["image"])
  return example


def stick_pose_video(
  seed: int, index: int, *, size: int = 256, num_frames: int = 16
) -> dict[str, np.ndarray]:
  """Draws 1 to 5 people who move; with two or more, two of them cross.

  The angles of the joints swing, the pelvis moves at a constant velocity of
  up to 2 % of the side per frame along x and along y. The first two people
  change their order from left to right while their boxes overlap.

  Convention:
    As `stick_pose_multi`, with a first axis of T = `num_frames` frames. A
    person has one place and one `track_id` in all frames. In the middle frame
    at least 5 joints of each person are in the picture; one who has left it
    has v = 0, box and area 0 in that frame. Background, distractors and
    rectangles stand still; the noise does not.

  Args:
    seed: number of the set; the splits are those of seed 0.
    index: number of the example; see `STICK_POSE_SPLITS`.
    size: side, pixels, at least 64.
    num_frames: T, at least 2. Speeds are per frame: a longer clip has the
      same motion, other positions.

  Returns:
    `image` uint8 [T, size, size, 3]; `keypoints` float32 [T, P, 15, 3]; `z`
    float32 [T, P, 15]; `boxes` float32 [T, P, 4]; `area` and `head_size`
    float32 [T, P]; `ignore` uint8 [T, size, size], all 0; `track_id` int32
    [P].

  Raises:
    ValueError: if `size` is below 64, `num_frames` below 2, or `seed` or
      `index` out of range.

  Example:
    >>> from vision_jax.data import stick_pose_video
    >>> example = stick_pose_video(0, 1, size=64, num_frames=4)
    >>> example["image"].shape, example["keypoints"].shape[2:]
    ((4, 64, 64, 3), (15, 3))

  Source:
    GENERATED.md, "StickPose, version 1".
  """
  _check("stick_pose_video", size, _SMALLEST_MULTI)
  if num_frames < 2:
    raise ValueError(
      f"stick_pose_video: `num_frames` must be at least 2, got {num_frames}."
    )
  domain = streams.Domain.STICK_POSE_VIDEO
  rng = streams.random_stream(domain, seed, index, item=_SCENE)
  count = int(rng.integers(1, 6))
  nearness = rng.permutation(count)
  surroundings = _draw_surroundings(rng)
  crossing = _draw_crossing(rng, num_frames)
  people = [
    _draw_moving(
      streams.random_stream(domain, seed, index, item=_PEOPLE + number),
      num_frames,
      crossing[number] if number < 2 <= count else None,
    )
    for number in range(count)
  ]
  rng = streams.random_stream(domain, seed, index, item=_PIXELS)
  background = _paint_background(rng, surroundings, size)
  frames = []
  for frame in range(num_frames):
    example = _render(people, frame, nearness, count, surroundings, background)
    example["image"] = _to_8_bit(rng, example["image"])
    frames.append(example)
  clip = {name: np.stack([f[name] for f in frames]) for name in frames[0]}
  return clip | {"track_id": frames[0]["track_id"]}

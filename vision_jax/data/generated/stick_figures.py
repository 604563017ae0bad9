"""Stick figures: the skeleton, where its joints may be, and how it is painted.

Part of the set StickPose, version 1, frozen in GENERATED.md. A figure faces
the viewer, so that its right side follows from the direction of its torso
alone: a mirrored figure with left and right exchanged is a figure again.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["STICK_FLIP", "STICK_JOINTS", "STICK_LIMBS", "STICK_SIGMAS"]

STICK_JOINTS = (
  "head",
  "neck",
  "right_shoulder",
  "right_elbow",
  "right_wrist",
  "left_shoulder",
  "left_elbow",
  "left_wrist",
  "right_hip",
  "right_knee",
  "right_ankle",
  "left_hip",
  "left_knee",
  "left_ankle",
  "pelvis",
)
"""The 15 joints, in the order of MPI."""

STICK_LIMBS = (
  (1, 0),
  (1, 2),
  (2, 3),
  (3, 4),
  (1, 5),
  (5, 6),
  (6, 7),
  (1, 14),
  (14, 8),
  (8, 9),
  (9, 10),
  (14, 11),
  (11, 12),
  (12, 13),
)
"""The 14 limbs, pairs of positions in `STICK_JOINTS`."""

STICK_FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 14)
"""Where each joint of a mirrored picture comes from."""

# fmt: off
STICK_SIGMAS = (
  0.026, 0.079, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062,
  0.107, 0.087, 0.089, 0.107, 0.087, 0.089, 0.107,
)
"""Spread of each joint in the object keypoint similarity."""
# fmt: on


class _Bone(NamedTuple):
  """A bone from `parent` to `child`; angles in degrees.

  Its direction is `start + side * angle`, from the figure's down towards its
  right, with `angle` uniform in [low, high]; `follows` adds the direction of
  the bone that ends at `parent`.
  """

  child: int
  parent: int
  length: float  # of the figure's scale
  start: float
  side: int
  low: float
  high: float
  tilt: float  # largest angle out of the picture plane
  follows: bool = False


_BONES = (  # a parent's bone comes before those of its children
  _Bone(1, 14, 0.28, 180, 1, 0, 0, 20),
  _Bone(0, 1, 0.13, 180, 1, -20, 20, 20),
  _Bone(2, 1, 0.11, 90, 1, -10, 10, 20),
  _Bone(3, 2, 0.16, 0, 1, -30, 160, 45),
  _Bone(4, 3, 0.15, 0, 1, -120, 120, 45, True),
  _Bone(5, 1, 0.11, -90, -1, -10, 10, 20),
  _Bone(6, 5, 0.16, 0, -1, -30, 160, 45),
  _Bone(7, 6, 0.15, 0, -1, -120, 120, 45, True),
  _Bone(8, 14, 0.07, 90, 1, -10, 10, 20),
  _Bone(9, 8, 0.23, 0, 1, -20, 60, 45),
  _Bone(10, 9, 0.22, 0, 1, -70, 20, 45, True),
  _Bone(11, 14, 0.07, -90, -1, -10, 10, 20),
  _Bone(12, 11, 0.23, 0, -1, -20, 60, 45),
  _Bone(13, 12, 0.22, 0, -1, -70, 20, 45, True),
)
_TILT_FIRST = 1 + len(_BONES)
_LENGTHS = np.array([bone.length for bone in _BONES])
_STARTS = np.deg2rad([bone.start for bone in _BONES])
_SIDES = np.array([bone.side for bone in _BONES])
_FOLLOWERS = [k for k, bone in enumerate(_BONES) if bone.follows]
_FOLLOWED = [  # no bone follows one that follows another
  next(k for k, other in enumerate(_BONES) if other.child == _BONES[f].parent)
  for f in _FOLLOWERS
]

_TORSO = STICK_LIMBS.index((1, 14))
_TORSO_RADIUS, _LIMB_RADIUS, _HEAD_RADIUS = 0.05, 0.035, 0.075

Window = tuple[slice, slice]


def angle_ranges(*, hard: bool) -> tuple[np.ndarray, np.ndarray]:
  """Bounds of the 29 angles of a pose, degrees: two float64 [29].

  First the rotation of the whole figure, then the angle of each bone, then
  its tilt out of the picture plane.
  """
  turn = 180.0 if hard else 30.0
  low = [-turn, *(b.low for b in _BONES), *(-b.tilt for b in _BONES)]
  high = [turn, *(b.high for b in _BONES), *(b.tilt for b in _BONES)]
  return np.array(low), np.array(high)


def draw_angles(rng: np.random.Generator, *, hard: bool = False) -> np.ndarray:
  """The angles of a pose, float64 [29], uniform within `angle_ranges`."""
  low, high = angle_ranges(hard=hard)
  return low + (high - low) * rng.random(low.shape)


def draw_motion(rng: np.random.Generator, num_frames: int) -> np.ndarray:
  """Angles that swing within their ranges, float64 [num_frames, 29].

  Each is a0 + A sin(w t + p): A from 5 to 35 % of half the range, w from 0.1
  to 0.4 radians per frame.
  """
  low, high = angle_ranges(hard=False)
  share, place, speed, phase = rng.random((4, *low.shape))
  swing = 0.5 * (high - low) * (0.05 + 0.30 * share)
  middle = low + swing + (high - low - 2 * swing) * place
  time = np.arange(num_frames)[:, None]
  turns = (0.1 + 0.3 * speed) * time + 2 * np.pi * phase
  return middle + swing * np.sin(turns)


def place_joints(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Joints [..., 15, 2] and depths [..., 15] of poses `angles` [..., 29].

  In units of the figure's scale, relative to the pelvis; x to the right, y
  down, depth away from the viewer.
  """
  radians = np.deg2rad(angles)
  # With y down, a turn from down (0, 1) towards the figure's right (-1, 0) is
  # one from the x axis to the y axis, as is the rotation of the figure.
  turns = _STARTS + _SIDES * radians[..., 1:_TILT_FIRST]
  turns[..., _FOLLOWERS] += turns[..., _FOLLOWED]
  turns += radians[..., :1]
  tilts = radians[..., _TILT_FIRST:]
  flat = _LENGTHS * np.cos(tilts)
  steps = np.stack([-np.sin(turns) * flat, np.cos(turns) * flat], -1)
  depths = _LENGTHS * np.sin(tilts)
  xy = np.zeros((*angles.shape[:-1], len(STICK_JOINTS), 2))
  depth = np.zeros(xy.shape[:-1])
  for number, bone in enumerate(_BONES):
    xy[..., bone.child, :] = xy[..., bone.parent, :] + steps[..., number, :]
    depth[..., bone.child] = depth[..., bone.parent] + depths[..., number]
  return xy, depth


class Look(NamedTuple):
  """How the 14 limbs and, last, the head of a figure look.

  Attributes:
    radii: float64 [15], in units of the figure's scale.
    colours: float32 [15, 3].
  """

  radii: np.ndarray
  colours: np.ndarray


def draw_look(rng: np.random.Generator) -> Look:
  """One colour for the figure, a brightness and a width for each limb."""
  colour = rng.uniform(0.45, 1.0, 3)
  gains = rng.uniform(0.7, 1.1, len(STICK_LIMBS) + 1)
  radii = _LIMB_RADIUS * rng.uniform(0.8, 1.2, len(STICK_LIMBS) + 1)
  radii[_TORSO], radii[-1] = _TORSO_RADIUS, _HEAD_RADIUS
  return Look(radii, (gains[:, None] * colour).astype(np.float32))


def paint_capsule(
  image: np.ndarray,
  start: np.ndarray,
  end: np.ndarray,
  radius: float,
  colour: np.ndarray,
) -> tuple[Window, np.ndarray] | None:
  """Paints all points within `radius` of a segment, in place.

  Index frame; the share of a pixel is clip(radius + 0.5 - distance, 0, 1).
  Returns the window that was painted and where in it the share is at least
  one half, or None if the capsule lies outside the picture.
  """
  height, width = image.shape[:2]
  reach = radius + 0.5
  left = max(int(np.floor(min(start[0], end[0]) - reach)), 0)
  right = min(int(np.ceil(max(start[0], end[0]) + reach)) + 1, width)
  top = max(int(np.floor(min(start[1], end[1]) - reach)), 0)
  bottom = min(int(np.ceil(max(start[1], end[1]) + reach)) + 1, height)
  if left >= right or top >= bottom:
    return None
  x = np.arange(left, right, dtype=np.float32) - np.float32(start[0])
  y = np.arange(top, bottom, dtype=np.float32) - np.float32(start[1])
  y = y[:, None]
  dx, dy = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
  square = dx * dx + dy * dy
  if square > 0:
    along = x * (dx / square) + y * (dy / square)
    along = np.minimum(np.maximum(along, 0), 1)
    distance = np.hypot(x - along * dx, y - along * dy)
  else:
    distance = np.hypot(x, y)
  share = np.minimum(np.maximum(np.float32(reach) - distance, 0), 1)
  window = (slice(top, bottom), slice(left, right))
  under = image[window]
  under += share[..., None] * (colour - under)
  return window, share >= 0.5


def paint_figure(
  image: np.ndarray,
  joints: np.ndarray,
  depth: np.ndarray,
  look: Look,
  scale: float,
) -> np.ndarray:
  """Paints a figure, far parts first; returns its silhouette, bool [H, W].

  Index frame; joints [15, 2] and `scale` in pixels, depth [15] in any unit. A
  pixel belongs to the silhouette where a part covers at least half of it.
  """
  pairs = (*STICK_LIMBS, (0, 0))  # the last one is the head's disc
  depths = [depth[a] + depth[b] for a, b in pairs]
  silhouette = np.zeros(image.shape[:2], bool)
  for part in sorted(range(len(pairs)), key=lambda k: -depths[k]):
    a, b = pairs[part]
    painted = paint_capsule(
      image,
      joints[a],
      joints[b],
      scale * look.radii[part],
      look.colours[part],
    )
    if painted is not None:
      window, inside = painted
      silhouette[window] |= inside
  return silhouette

"""Tests of the skeleton, its kinematics and its painting."""

import cmath
import math

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data.generated import stick_figures as figures

NAMES = figures.STICK_JOINTS


def _reference_pose(angles):
  """Joint -> (complex position, depth), written from the definition.

  The plane is a complex number x + iy with y down, the unit is the scale.
  """
  turn, bones, tilts = angles[0], list(angles[1:15]), list(angles[15:])
  down = 1j * cmath.exp(1j * math.radians(turn))
  up = -down
  right = up * cmath.exp(-1j * math.pi / 2)  # the person's right
  joints = {"pelvis": (0j, 0.0)}

  def add(name, parent, length, direction):
    number = _ORDER.index(name)
    tilt = math.radians(tilts[number])
    place, depth = joints[parent]
    joints[name] = (
      place + direction * length * math.cos(tilt),
      depth + length * math.sin(tilt),
    )

  def turned(direction, degrees):
    return direction * cmath.exp(1j * math.radians(degrees))

  def outward(side, degrees):
    """From down towards the outer side."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return down * c + (right if side == "right" else -right) * s

  value = dict(zip(_ORDER, bones, strict=True))
  add("neck", "pelvis", 0.28, up)
  add("head", "neck", 0.13, turned(up, value["head"]))
  for side, sign in (("right", 1), ("left", -1)):
    for name, parent, length in (
      ("shoulder", "neck", 0.11),
      ("hip", "pelvis", 0.07),
    ):
      joint = f"{side}_{name}"
      add(joint, parent, length, turned(sign * right, sign * value[joint]))
    for first, second, root, lengths in (
      ("elbow", "wrist", "shoulder", (0.16, 0.15)),
      ("knee", "ankle", "hip", (0.23, 0.22)),
    ):
      a = value[f"{side}_{first}"]
      add(f"{side}_{first}", f"{side}_{root}", lengths[0], outward(side, a))
      b = a + value[f"{side}_{second}"]
      add(f"{side}_{second}", f"{side}_{first}", lengths[1], outward(side, b))
  return joints


# The order in which bones draw their angles.
_ORDER = (
  "neck",
  "head",
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
)


class SkeletonTest(parameterized.TestCase):
  def test_flip_exchanges_left_and_right(self):
    flip = figures.STICK_FLIP
    self.assertEqual(sorted(flip), list(range(15)))
    for joint, other in enumerate(flip):
      self.assertEqual(flip[other], joint)
      swapped = (
        NAMES[joint]
        .replace("left", "?")
        .replace("right", "left")
        .replace("?", "right")
      )
      self.assertEqual(NAMES[other], swapped)
      self.assertEqual(figures.STICK_SIGMAS[joint], figures.STICK_SIGMAS[other])

  def test_limbs_are_a_tree_that_a_flip_keeps(self):
    limbs = {frozenset(pair) for pair in figures.STICK_LIMBS}
    self.assertLen(limbs, 14)
    mirrored = {
      frozenset(figures.STICK_FLIP[j] for j in limb) for limb in limbs
    }
    self.assertEqual(limbs, mirrored)
    reached = {NAMES.index("pelvis")}
    for _ in range(15):
      reached |= {j for limb in limbs if limb & reached for j in limb}
    self.assertLen(reached, 15)

  def test_sigmas(self):
    expected = {"head": 0.026, "neck": 0.079, "shoulder": 0.079}
    expected |= {"elbow": 0.072, "wrist": 0.062, "hip": 0.107}
    expected |= {"pelvis": 0.107, "knee": 0.087, "ankle": 0.089}
    for name, sigma in zip(NAMES, figures.STICK_SIGMAS, strict=True):
      self.assertEqual(sigma, expected[name.split("_")[-1]])


class KinematicsTest(parameterized.TestCase):
  def test_matches_the_definition_in_complex_numbers(self):
    rng = np.random.default_rng(0)
    angles = rng.uniform(-180, 180, (40, 29))  # beyond the ranges, too
    angles[:, 1] = 0  # the torso has no angle of its own
    xy, depth = figures.place_joints(angles)
    for pose in range(len(angles)):
      expected = _reference_pose(angles[pose])
      for joint, name in enumerate(NAMES):
        place, z = expected[name]
        np.testing.assert_allclose(
          xy[pose, joint], [place.real, place.imag], atol=1e-12
        )
        self.assertAlmostEqual(depth[pose, joint], z, places=12)

  def test_upright_figure(self):
    """Seen from the front, its right is on the left of the picture."""
    xy, depth = figures.place_joints(np.zeros(29))
    at = dict(zip(NAMES, xy, strict=True))
    np.testing.assert_allclose(at["head"], [0, -0.41], atol=1e-12)
    np.testing.assert_allclose(at["right_shoulder"], [-0.11, -0.28], atol=1e-12)
    np.testing.assert_allclose(at["left_ankle"], [0.07, 0.45], atol=1e-12)
    np.testing.assert_allclose(depth, 0, atol=1e-12)

  def test_batch_equals_the_loop(self):
    rng = np.random.default_rng(1)
    angles = rng.uniform(-90, 90, (2, 3, 29))
    xy, depth = figures.place_joints(angles)
    self.assertEqual(xy.shape, (2, 3, 15, 2))
    for i in range(2):
      for j in range(3):
        one, z = figures.place_joints(angles[i, j])
        np.testing.assert_allclose(xy[i, j], one, atol=1e-14)
        np.testing.assert_allclose(depth[i, j], z, atol=1e-14)

  @parameterized.parameters((False, 30), (True, 180))
  def test_ranges(self, hard, turn):
    rng = np.random.default_rng(2)
    drawn = np.stack([figures.draw_angles(rng, hard=hard) for _ in range(800)])
    arm = [(-10, 10), (-30, 160), (-120, 120)]
    leg = [(-10, 10), (-20, 60), (-70, 20)]
    bones = [(0, 0), (-20, 20), *arm, *arm, *leg, *leg]
    tilts = [20, 20, 20, 45, 45, 20, 45, 45, 20, 45, 45, 20, 45, 45]
    bounds = [(-turn, turn), *bones, *((-t, t) for t in tilts)]
    for values, (low, high) in zip(drawn.T, bounds, strict=True):
      width = high - low
      self.assertBetween(values.min(), low, low + 0.02 * width)
      self.assertBetween(values.max(), high - 0.02 * width, high)

  def test_motion_swings_within_the_ranges(self):
    low, high = figures.angle_ranges(hard=False)
    for seed in range(40):
      motion = figures.draw_motion(np.random.default_rng(seed), 64)
      self.assertTrue((motion >= low - 1e-9).all())
      self.assertTrue((motion <= high + 1e-9).all())
      moves = np.ptp(motion, axis=0)[high > low]
      self.assertTrue((moves > 0.04 * (high - low)[high > low]).all())
      # At most A w = 0.35 * half the range * 0.4 in a frame.
      step = np.abs(np.diff(motion, axis=0)).max(0)
      self.assertTrue((step <= 0.07 * (high - low) + 1e-9).all())

  def test_a_longer_motion_begins_with_the_shorter(self):
    short = figures.draw_motion(np.random.default_rng(3), 4)
    long = figures.draw_motion(np.random.default_rng(3), 9)
    np.testing.assert_array_equal(short, long[:4])


def _distance(x, y, start, end):
  """From a point to a segment, by the three cases of plane geometry."""
  p, a, b = complex(x, y), complex(*start), complex(*end)
  if a == b:
    return abs(p - a)
  local = (p - a) / (b - a)  # the segment becomes 0..1
  if local.real < 0:
    return abs(p - a)
  if local.real > 1:
    return abs(p - b)
  return abs(local.imag) * abs(b - a)


class PaintTest(parameterized.TestCase):
  @parameterized.parameters(
    ((3.2, 4.7), (14.1, 9.9), 2.3),
    ((14.1, 9.9), (3.2, 4.7), 0.6),
    ((-4.0, 5.0), (30.0, 8.0), 1.7),  # beyond both sides
    ((7.25, 6.5), (7.25, 6.5), 3.1),  # a disc
    ((5.0, -3.0), (9.0, 20.0), 1.0),
  )
  def test_capsule_matches_the_loop(self, start, end, radius):
    rng = np.random.default_rng(4)
    image = rng.random((13, 19, 3), np.float32)
    colour = np.array([0.9, 0.1, 0.4], np.float32)
    expected = image.astype(np.float64)
    inside = np.zeros(image.shape[:2], bool)
    for y in range(13):
      for x in range(19):
        distance = _distance(x, y, start, end)
        share = min(max(radius + 0.5 - distance, 0), 1)
        expected[y, x] = share * colour + (1 - share) * expected[y, x]
        inside[y, x] = distance <= radius
    window, got = figures.paint_capsule(
      image, np.array(start), np.array(end), radius, colour
    )
    np.testing.assert_allclose(image, expected, atol=2e-6)
    full = np.zeros_like(inside)
    full[window] = got
    self.assertGreater(inside.sum(), 3)
    np.testing.assert_array_equal(full, inside)

  @parameterized.parameters(
    ((-9, 3), (-4, 3)),
    ((30, 3), (40, 9)),
    ((3, -9), (9, -5)),
    ((3, 99), (9, 99)),
  )
  def test_outside_nothing_is_painted(self, start, end):
    image = np.zeros((13, 19, 3), np.float32)
    painted = figures.paint_capsule(
      image, np.array(start, float), np.array(end, float), 2.0, np.ones(3)
    )
    self.assertIsNone(painted)
    self.assertEqual(image.max(), 0)

  def test_every_limb_is_where_its_joints_are(self):
    """One limb shines at a time; its ends and middle shine if it is nearest."""
    rng = np.random.default_rng(5)
    scale = 170.0
    xy, _ = figures.place_joints(figures.draw_angles(rng))
    joints = 100.0 + scale * xy
    pairs = (*figures.STICK_LIMBS, (0, 0))
    look = figures.draw_look(rng)
    for part, (a, b) in enumerate(pairs):
      depth = np.full(15, 1.0)
      depth[a], depth[b] = -3.0, 0.0  # nearest
      colours = np.zeros((15, 3), np.float32)
      colours[part] = 1
      image = np.zeros((200, 200, 3), np.float32)
      figures.paint_figure(
        image, joints, depth, look._replace(colours=colours), scale
      )
      for place in (joints[a], joints[b], 0.5 * (joints[a] + joints[b])):
        x, y = np.rint(place).astype(int)
        self.assertEqual(image[y, x, 0], 1.0, (part, place))

  def test_near_limbs_hide_far_ones(self):
    """Two forearms that cross: the one with less depth is seen."""
    joints = np.full((15, 2), -1e4)
    joints[3], joints[4] = (5, 10), (25, 10)
    joints[6], joints[7] = (15, 2), (15, 18)
    right = figures.STICK_LIMBS.index((3, 4))
    left = figures.STICK_LIMBS.index((6, 7))
    colours = np.zeros((15, 3), np.float32)
    colours[right, 0] = colours[left, 1] = 1
    look = figures.Look(np.full(15, 0.03), colours)
    for near, channel in (((3, 4), 0), ((6, 7), 1)):
      depth = np.zeros(15)
      depth[list(near)] = -0.2
      image = np.zeros((20, 30, 3), np.float32)
      figures.paint_figure(image, joints, depth, look, 100.0)
      self.assertEqual(image[10, 15, channel], 1)
      self.assertEqual(image[10, 15, 1 - channel], 0)

  def test_looks(self):
    rng = np.random.default_rng(6)
    looks = [figures.draw_look(rng) for _ in range(600)]
    radii = np.stack([look.radii for look in looks])
    torso = figures.STICK_LIMBS.index((1, 14))
    self.assertTrue((radii[:, torso] == 0.05).all())
    self.assertTrue((radii[:, 14] == 0.075).all())
    limbs = np.delete(radii, [torso, 14], axis=1)
    self.assertBetween(limbs.min(), 0.028, 0.0283)
    self.assertBetween(limbs.max(), 0.0417, 0.042)
    colours = np.stack([look.colours for look in looks])
    self.assertBetween(colours.min(), 0.45 * 0.7, 0.34)
    self.assertBetween(colours.max(), 1.06, 1.1)
    # Neither brightness nor width tells left from right.
    for right, left in ((1, 4), (2, 5), (3, 6), (8, 11), (9, 12), (10, 13)):
      self.assertIn("right", NAMES[figures.STICK_LIMBS[right][1]])
      self.assertIn("left", NAMES[figures.STICK_LIMBS[left][1]])
      ratio = colours[:, right].mean() / colours[:, left].mean()
      self.assertBetween(ratio, 0.97, 1.03)
      ratio = radii[:, right].mean() / radii[:, left].mean()
      self.assertBetween(ratio, 0.97, 1.03)


if __name__ == "__main__":
  absltest.main()

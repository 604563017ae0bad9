"""Tests of StickPose: labels against pictures, splits, trivial baselines."""

import functools
import hashlib
import time

import cv2
import numpy as np
import pytest

from vision_jax import data
from vision_jax.data.generated import stick_figures, stick_pose

_FLIP = list(data.STICK_FLIP)
_PELVIS, _NECK, _HEAD = 14, 1, 0
_OCCLUDER = (255, 255)  # its colour in plain pictures


def _vectors(example, frame=None):
  """In-plane bones [P, 14, 2] as labelled, and the same in depth [P, 14]."""
  keypoints, z = example["keypoints"], example["z"]
  if frame is not None:
    keypoints, z = keypoints[frame], z[frame]
  a, b = np.array(data.STICK_LIMBS).T
  return keypoints[:, b, :2] - keypoints[:, a, :2], z[:, b] - z[:, a]


def _angle(vector, reference):
  """Degrees from one direction to another, x towards y, in (-180, 180]."""
  z = complex(*vector) / complex(*reference)
  return np.degrees(np.angle(z))


@functools.lru_cache(maxsize=2)
def _singles(hard=False):
  """Examples all of whose joints are in the picture."""
  examples = [data.stick_pose_single(0, i, hard=hard) for i in range(300)]
  return [e for e in examples if (e["keypoints"][..., 2] > 0).all()]


def _code(number):
  """A person's colour; on a parabola, so that no mixture is another's."""
  return 10 * (number + 1), 5 * (number + 1) ** 2


class _Plain:
  """Pictures that show who owns each pixel, and where joints really are.

  Occluders are white, everything else that is nobody's is black; no noise.
  `joints[k]` holds the pixels given to the painter, frame by frame.
  """

  def __init__(self, monkeypatch):
    self.joints, self.looks, self.scales = {}, {}, {}
    draw_look, paint = stick_figures.draw_look, stick_figures.paint_figure
    surroundings = stick_pose._draw_surroundings

    def plain_look(rng):
      look = draw_look(rng)
      number = len(self.looks)
      colours = np.zeros((15, 3), np.float32)
      colours[:, :2] = np.array(_code(number)) / 255
      self.looks[number] = look
      return look._replace(colours=colours)

    def watching_paint(image, joints, depth, look, scale):
      number = self.owner(np.rint(255 * look.colours[0]))
      self.joints.setdefault(number, []).append(joints)
      self.scales[number] = scale
      return paint(image, joints, depth, look, scale)

    def plain_surroundings(rng):
      drawn = surroundings(rng)
      return drawn._replace(fills=np.ones_like(drawn.fills))

    monkeypatch.setattr(stick_figures, "draw_look", plain_look)
    monkeypatch.setattr(stick_figures, "paint_figure", watching_paint)
    monkeypatch.setattr(stick_pose, "_draw_surroundings", plain_surroundings)
    monkeypatch.setattr(
      stick_pose,
      "_paint_background",
      lambda rng, surroundings, size: np.zeros((size, size, 3), np.float32),
    )
    monkeypatch.setattr(
      stick_pose,
      "_to_8_bit",
      lambda rng, image: np.rint(255 * image).astype(np.uint8),
    )

  def owner(self, colour):
    """Whose pixel: a number, "occluder", or None at an edge and elsewhere."""
    code = tuple(int(c) for c in colour[:2])
    if code == _OCCLUDER:
      return "occluder"
    return next((k for k in range(6) if _code(k) == code), None)

  def draw(self, function, *arguments, **settings):
    self.joints.clear()
    self.looks.clear()
    return function(*arguments, **settings)


@pytest.fixture
def plain(monkeypatch):
  return _Plain(monkeypatch)


def test_names_shapes_and_types():
  single = data.stick_pose_single(0, 3, size=48)
  multi = data.stick_pose_multi(0, 3, size=96)
  video = data.stick_pose_video(0, 3, size=64, num_frames=3)
  for example, lead, side in (
    (single, (), 48),
    (multi, (), 96),
    (video, (3,), 64),
  ):
    people = len(example["track_id"])
    expected = {
      "image": (np.uint8, (*lead, side, side, 3)),
      "keypoints": (np.float32, (*lead, people, 15, 3)),
      "z": (np.float32, (*lead, people, 15)),
      "boxes": (np.float32, (*lead, people, 4)),
      "area": (np.float32, (*lead, people)),
      "head_size": (np.float32, (*lead, people)),
      "ignore": (np.uint8, (*lead, side, side)),
      "track_id": (np.int32, (people,)),
    }
    assert {k: (v.dtype, v.shape) for k, v in example.items()} == expected
    np.testing.assert_array_equal(example["track_id"], np.arange(people))
  assert len(single["track_id"]) == 1
  assert not single["ignore"].any()
  assert not video["ignore"].any()


def test_splits_do_not_overlap():
  ranges = [data.STICK_POSE_SPLITS[name] for name in ("train", "val", "test")]
  assert [len(r) for r in ranges] == [50_000, 1_000, 2_000]
  assert len(set().union(*ranges)) == 53_000
  assert len(data.STICK_POSE_SPLITS) == 3


# The figure.


def _check_bones(vectors, depths):
  """Lengths of one figure's bones, whatever its scale: returns the scale."""
  lengths = [0.13, 0.11, 0.16, 0.15, 0.11, 0.16, 0.15]
  lengths += [0.28, 0.07, 0.23, 0.22, 0.07, 0.23, 0.22]
  torso = 7
  flat = np.sqrt(lengths[torso] ** 2 - depths[torso] ** 2)
  scale = np.linalg.norm(vectors[torso]) / flat
  whole = np.hypot(np.linalg.norm(vectors, axis=-1) / scale, depths)
  np.testing.assert_allclose(whole, lengths, atol=1e-5)
  return scale


def test_bones_have_their_lengths_tilt_included():
  scales = []
  for example in _singles():
    vectors, depths = _vectors(example)
    scales.append(_check_bones(vectors[0], depths[0]) / 64)
    assert np.abs(depths).max() > 0.01
  assert len(scales) > 250
  assert 0.55 <= min(scales) < 0.56
  assert 0.84 < max(scales) <= 0.85 + 1e-6


@pytest.mark.parametrize(("hard", "turn"), [(False, 30), (True, 180)])
def test_angles_cover_their_ranges(hard, turn):
  found = {}
  for example in _singles(hard):
    (vectors,), _ = _vectors(example)
    bone = dict(zip(data.STICK_LIMBS, vectors, strict=True))
    up = -bone[1, 14]
    right = np.array([up[1], -up[0]])  # up turned by -90 degrees
    note = functools.partial(_note, found)
    note("turn", _angle(up, (0, -1)), -turn, turn)
    note("head", _angle(bone[1, 0], up), -20, 20)
    for side, sign, limbs in (
      ("right", 1, [(1, 2), (2, 3), (3, 4), (14, 8), (8, 9), (9, 10)]),
      ("left", -1, [(1, 5), (5, 6), (6, 7), (14, 11), (11, 12), (12, 13)]),
    ):
      girdle, upper, fore, hip, thigh, shin = (bone[limb] for limb in limbs)
      note(f"{side} shoulder", _angle(girdle, sign * right), -10, 10)
      note(f"{side} hip", _angle(hip, sign * right), -10, 10)
      # From down towards the outer side counts positive on both sides.
      note(f"{side} arm", sign * _angle(upper, -up), -30, 160)
      note(f"{side} forearm", sign * _angle(fore, upper), -120, 120)
      note(f"{side} thigh", sign * _angle(thigh, -up), -20, 60)
      note(f"{side} shin", sign * _angle(shin, thigh), -70, 20)
  assert len(found) == 14
  for name, (values, low, high) in found.items():
    width = high - low
    assert low - 1e-3 <= min(values) < low + 0.1 * width, name
    assert high - 0.1 * width < max(values) <= high + 1e-3, name


def _note(found, name, value, low, high):
  found.setdefault(name, ([], low, high))[0].append(value)


def _sides(keypoints):
  """Of 4 pairs: whether the right joint is on the right side of the torso."""
  up = keypoints[_NECK, :2] - keypoints[_PELVIS, :2]
  right = np.array([up[1], -up[0]])
  return [
    (keypoints[r, :2] - keypoints[left, :2]) @ right > 0
    for r, left in ((2, 5), (8, 11))
  ]


def test_flip_with_exchange_keeps_left_and_right():
  for hard in (False, True):
    for example in _singles(hard)[:100]:
      keypoints = example["keypoints"][0]
      assert all(_sides(keypoints))
      mirrored = keypoints.copy()
      mirrored[:, 0] = 64 - 1 - mirrored[:, 0]
      assert not any(_sides(mirrored))
      assert all(_sides(mirrored[_FLIP]))
      vectors, depths = _vectors(
        {"keypoints": mirrored[None, _FLIP], "z": example["z"][:, _FLIP]}
      )
      _check_bones(vectors[0], depths[0])


def test_a_hard_figure_is_the_easy_one_turned():
  for index in range(20):
    easy = data.stick_pose_single(0, index)
    hard = data.stick_pose_single(0, index, hard=True)
    np.testing.assert_allclose(easy["head_size"], hard["head_size"], rtol=1e-5)
    both = (easy["z"] != 0) & (hard["z"] != 0)
    np.testing.assert_array_equal(easy["z"][both], hard["z"][both])


# Labels against pictures.


@pytest.mark.parametrize("size", [128, 200])
def test_visible_joints_show_their_person(plain, size):
  """The colour at a joint, the owner of its pixel, gives v."""
  counts, mixed = np.zeros(3, int), 0
  functions = [data.stick_pose_single] * 40 + [data.stick_pose_multi] * 60
  for index, function in enumerate(functions):
    example = plain.draw(function, 0, index, size=size)
    for number, keypoints in enumerate(example["keypoints"]):
      (joints,) = plain.joints[number]
      for (x, y, v), (true_x, true_y) in zip(keypoints, joints, strict=True):
        counts[int(v)] += 1
        inside = -0.5 <= true_x < size - 0.5 and -0.5 <= true_y < size - 0.5
        assert (v > 0) == inside
        if not inside:
          assert (x, y) == (0, 0)
          continue
        assert (x, y) == (true_x, true_y)
        owner = plain.owner(example["image"][round(y), round(x)])
        if owner is None:
          mixed += 1  # the edge of somebody
        else:
          assert v == (2 if owner == number else 1)
  assert counts.min() > 30
  assert mixed < 0.02 * counts.sum()


def test_visibility_against_a_loop_over_layers(plain):
  """v from distances to everybody's limbs and the rectangles, no picture."""
  hidden = 0
  for index in range(25):
    example = plain.draw(data.stick_pose_multi, 0, index, size=128)
    order = list(plain.joints)  # painted from far to near
    rectangles = (example["image"] == 255).all(-1)
    for number, keypoints in enumerate(example["keypoints"]):
      nearer = order[order.index(number) + 1 :]
      for x, y, v in keypoints:
        if v == 0:
          continue
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        gaps = [_gap(plain, other, column, row) for other in nearer]
        covered = rectangles[row, column] or min(gaps, default=1) <= 0
        assert v == (1 if covered else 2)
        hidden += covered
  assert hidden > 40


def _gap(plain, number, column, row):
  """Distance of pixel centres from a person's silhouette; <= 0 inside."""
  (joints,), scale = plain.joints[number], plain.scales[number]
  point = np.asarray(column) + 1j * np.asarray(row)
  gaps = []
  for part, (a, b) in enumerate((*data.STICK_LIMBS, (_HEAD, _HEAD))):
    start, end = complex(*joints[a]), complex(*joints[b])
    along = 0.0
    if a != b:
      along = np.clip(((point - start) / (end - start)).real, 0, 1)
    nearest = start + along * (end - start)
    gaps.append(abs(point - nearest) - scale * plain.looks[number].radii[part])
  return np.min(gaps, axis=0)


def test_boxes_and_area_are_those_of_the_whole_silhouette(plain):
  cut = 0
  size = 72
  y, x = np.mgrid[:size, :size]
  for index in range(25):
    example = plain.draw(data.stick_pose_multi, 0, index, size=size)
    for number in range(len(example["keypoints"])):
      gaps = _gap(plain, number, x, y)
      inside = gaps <= 0
      rows, columns = np.nonzero(inside)
      box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
      assert example["area"][number] == inside.sum()
      np.testing.assert_array_equal(example["boxes"][number], box)
      cut += min(box) == 0 or max(box) == size
  assert cut > 10  # people at the border are among them


def test_head_size_is_the_distance_of_head_and_neck(plain):
  for index in range(20):
    example = plain.draw(data.stick_pose_multi, 0, index, size=64)
    for number, head_size in enumerate(example["head_size"]):
      (joints,) = plain.joints[number]
      gap = np.linalg.norm(joints[_HEAD] - joints[_NECK])
      np.testing.assert_allclose(head_size, gap, rtol=1e-6)


def test_people_without_labels_fill_the_ignore_mask(plain):
  found = 0
  for index in range(30):
    example = plain.draw(data.stick_pose_multi, 0, index, size=96)
    image, ignore = example["image"], example["ignore"]
    labelled = len(example["keypoints"])
    others = [k for k in plain.looks if k >= labelled]
    assert set(np.unique(ignore)) <= {0, 1}
    for number in plain.looks:
      pure = (image[..., :2] == _code(number)).all(-1)
      assert (ignore[pure] == (number in others)).all()
    found += bool(others)
    assert ignore.any() == bool(others)
  assert 2 < found < 15  # a quarter


def test_people_per_picture_and_joints_inside():
  counts, scales = [], []
  for index in range(250):
    example = data.stick_pose_multi(0, index, size=64)
    counts.append(len(example["keypoints"]))
    assert ((example["keypoints"][..., 2] > 0).sum(-1) >= 5).all()
    vectors, depths = _vectors(example)
    for number, keypoints in enumerate(example["keypoints"]):
      if keypoints[:, 2].all():
        scales.append(_check_bones(vectors[number], depths[number]) / 64)
  assert set(counts) == {1, 2, 3, 4, 5}
  assert 0.25 <= min(scales) < 0.28
  assert 0.57 < max(scales) < 0.6 + 1e-6


# Motion.


def test_two_people_cross():
  ones = 0
  for index in range(40):
    example = data.stick_pose_video(0, index, size=64, num_frames=6)
    people = len(example["track_id"])
    if people == 1:
      ones += 1
      continue
    x = example["keypoints"][:, :2, _PELVIS, 0]
    order = np.sign(x[:, 0] - x[:, 1])
    assert order[0] == -order[-1]
    change = np.flatnonzero(np.diff(order))[0]
    (a, b) = example["boxes"][change, :2]
    overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    assert (overlap > 0).all()
  assert 0 < ones < 20


def test_people_move_at_a_constant_velocity(plain):
  fastest = 0.0
  for index in range(10):
    example = plain.draw(data.stick_pose_video, 0, index, size=64)
    for number in example["track_id"]:
      pelvis = np.stack(plain.joints[number])[:, _PELVIS] / 64
      velocity = np.diff(pelvis, axis=0)
      np.testing.assert_allclose(
        velocity, velocity[:1] + 0 * velocity, atol=1e-5
      )
      fastest = max(fastest, np.abs(velocity).max())
      v = example["keypoints"][:, number, :, 2]
      assert (v[8] > 0).sum() >= 5
      gone = example["area"][:, number] == 0
      assert not v[gone].any()
      assert not example["boxes"][gone, number].any()
  assert 0.015 < fastest <= 0.02 + 1e-5


def test_bones_keep_their_length_in_motion():
  checked = 0
  for index in range(6):
    example = data.stick_pose_video(0, index, size=64)
    for number in example["track_id"]:
      scales = []
      for frame in range(16):
        if example["keypoints"][frame, number, :, 2].all():
          vectors, depths = _vectors(example, frame)
          scales.append(_check_bones(vectors[number], depths[number]))
      checked += len(scales)
      if scales:
        np.testing.assert_allclose(scales, scales[0], rtol=1e-4)
      head = example["head_size"][:, number]
      assert np.abs(np.diff(head)).max() < 2
  assert checked > 100


def test_frames_of_video_are_labelled_by_their_own_pictures(plain):
  hidden = 0
  for index in (0, 2, 5):
    example = plain.draw(data.stick_pose_video, 0, index, size=128)
    for frame in range(16):
      for number, keypoints in enumerate(example["keypoints"][frame]):
        for x, y, v in keypoints[keypoints[:, 2] > 0]:
          owner = plain.owner(example["image"][frame, round(y), round(x)])
          if owner is not None:
            assert v == (2 if owner == number else 1)
            hidden += owner != number
  assert hidden > 50


def test_background_stands_still_and_noise_does_not():
  example = data.stick_pose_video(0, 1, size=64)
  frames = example["image"].astype(float)
  far = np.ones((64, 64), bool)
  for x1, y1, x2, y2 in example["boxes"].reshape(-1, 4).astype(int):
    far[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
  assert far.sum() > 500
  difference = (frames[1:] - frames[:-1])[:, far]
  assert 0.9 < difference.std() / (255 * 0.02 * np.sqrt(2)) < 1.05


def test_a_longer_clip_has_the_same_people():
  short = data.stick_pose_video(0, 2, size=64, num_frames=4)
  long = data.stick_pose_video(0, 2, size=64, num_frames=8)
  np.testing.assert_allclose(
    short["head_size"], long["head_size"][:4], rtol=1e-4
  )


# What fixes an example.


def test_examples_do_not_depend_on_order():
  first = [data.stick_pose_multi(0, i, size=64) for i in (4, 1, 7)]
  again = {i: data.stick_pose_multi(0, i, size=64) for i in (1, 7, 4)}
  for index, example in zip((4, 1, 7), first, strict=True):
    for name, value in example.items():
      np.testing.assert_array_equal(value, again[index][name])
  other = data.stick_pose_multi(1, 4, size=64)
  assert not np.array_equal(other["image"], first[0]["image"])


def test_lengths_scale_with_the_size():
  for function in (data.stick_pose_single, data.stick_pose_multi):
    for index in range(20):
      small = function(0, index, size=64)
      large = function(0, index, size=192)
      a, b = small["keypoints"], large["keypoints"]
      np.testing.assert_array_equal(a[..., 2] > 0, b[..., 2] > 0)
      inside = a[..., 2] > 0
      np.testing.assert_allclose(
        3 * (a[inside, :2] + 0.5), b[inside, :2] + 0.5, atol=1e-3
      )
      np.testing.assert_array_equal(small["z"], large["z"])
      np.testing.assert_allclose(small["boxes"] * 3, large["boxes"], atol=6)


def test_coco_file_and_back(tmp_path):
  examples = [data.stick_pose_multi(0, i, size=96) for i in range(3)]
  path = tmp_path / "people.json"
  data.write_coco(
    examples,
    path,
    image_folder=tmp_path,
    class_names=["person"],
    keypoint_names=data.STICK_JOINTS,
    skeleton=data.STICK_LIMBS,
  )
  source = data.open_coco(tmp_path, path)
  assert source.keypoint_names == data.STICK_JOINTS
  assert source.skeleton == data.STICK_LIMBS
  for example, read in zip(examples, source, strict=True):
    for name in ("image", "keypoints", "boxes", "area"):
      np.testing.assert_array_equal(example[name], read[name], err_msg=name)


# Frozen.


def _integers(example):
  """Everything of the labels that is an integer or is rounded to one."""
  keypoints = example["keypoints"].astype(np.float64)
  return (
    np.rint(16 * keypoints[..., :2]),
    keypoints[..., 2],
    np.rint(example["boxes"]),
    example["area"],
    example["track_id"],
  )


def _hash(examples):
  digest = hashlib.sha256()
  for example in examples:
    for part in _integers(example):
      digest.update(np.ascontiguousarray(part).astype("<i4").tobytes())
  return digest.hexdigest()


def _fixture():
  return [
    *(data.stick_pose_single(0, i) for i in range(16)),
    *(data.stick_pose_single(0, i, hard=True) for i in range(8)),
    *(data.stick_pose_multi(0, i) for i in range(8)),
  ]


def _blocks(image):
  """Mean grey level of the four quarters."""
  half = len(image) // 2
  quarters = image.reshape(2, half, 2, half, 3).mean((1, 3, 4))
  return quarters.ravel()


def test_frozen_labels_and_pictures():
  """Version 1: changing an example needs a new version."""
  assert data.STICK_POSE_VERSION == 1
  examples = _fixture()
  assert len(examples) == 32
  assert _hash(examples) == _FROZEN_HASH
  means = np.stack([_blocks(example["image"]) for example in examples])
  np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)


def test_frozen_video():
  clip = data.stick_pose_video(0, 0, size=128)
  assert _hash([clip]) == _FROZEN_VIDEO_HASH
  means = clip["image"].mean((1, 2, 3))
  np.testing.assert_allclose(means, _FROZEN_VIDEO_MEANS, atol=0.5)


# fmt: off
_FROZEN_HASH = (
  "71f62c9ed121a34999a2fc1b9f1ec4f87b79ed8f855ffd462c1ce701a54ba376"
)
_FROZEN_VIDEO_HASH = (
  "7d9c878cad328912c959a19f6e8a5e608943d6eb8337565130df02ff3f63288b"
)
_FROZEN_VIDEO_MEANS = [
  89.3, 89.3, 89.1, 88.8, 88.4, 88.3, 88.3, 88.4,
  88.4, 88.5, 88.7, 88.7, 89.0, 89.1, 89.0, 89.2,
]
_FROZEN_MEANS = [
  [66.4, 91.6, 85.8, 76.9],
  [87.0, 61.6, 79.5, 72.3],
  [72.4, 78.2, 81.3, 92.5],
  [89.9, 72.8, 75.7, 89.8],
  [86.3, 91.2, 73.2, 78.6],
  [90.1, 89.0, 86.7, 81.4],
  [88.0, 76.8, 83.7, 74.9],
  [92.4, 71.6, 67.3, 79.8],
  [78.2, 85.6, 72.6, 80.1],
  [103.3, 83.0, 88.2, 71.5],
  [75.1, 75.3, 76.2, 81.4],
  [90.6, 89.8, 72.8, 81.0],
  [88.5, 90.6, 79.8, 95.6],
  [80.7, 72.7, 75.5, 74.0],
  [96.3, 99.1, 89.2, 98.0],
  [77.6, 82.2, 61.0, 89.6],
  [66.3, 87.3, 81.2, 82.3],
  [87.0, 60.5, 79.9, 71.9],
  [74.1, 71.1, 86.4, 90.4],
  [78.3, 79.3, 86.4, 86.7],
  [75.0, 92.9, 86.9, 71.0],
  [77.1, 93.2, 92.9, 82.9],
  [73.7, 71.0, 88.6, 85.9],
  [89.7, 73.9, 67.2, 79.9],
  [66.7, 83.8, 91.2, 83.3],
  [78.2, 89.4, 89.8, 102.7],
  [101.8, 57.1, 79.8, 66.0],
  [88.6, 72.2, 86.6, 84.5],
  [79.3, 79.8, 83.2, 77.5],
  [83.0, 93.9, 85.9, 90.0],
  [90.3, 100.8, 76.6, 59.1],
  [77.2, 77.5, 68.8, 81.8],
]
# fmt: on


# Trivial baselines, as GENERATED.md states them.


@functools.lru_cache(maxsize=1)
def _sets():
  """2,000 training and 200 test examples of 64 pixels."""
  splits = data.STICK_POSE_SPLITS
  return tuple(
    [data.stick_pose_single(0, i) for i in splits[name][:count]]
    for name, count in (("train", 2000), ("test", 200))
  )


def _score(predictions, examples):
  """Mean error in pixels and share of joints within half a head: PCKh@.5."""
  truth = np.stack([e["keypoints"][0] for e in examples])
  heads = np.stack([e["head_size"][0] for e in examples])
  error = np.linalg.norm(predictions - truth[..., :2], axis=-1)
  labelled = truth[..., 2] > 0
  within = error <= 0.5 * heads[:, None]
  return error[labelled].mean(), within[labelled].mean()


def test_the_mean_pose_is_poor():
  learn, ask = _sets()
  poses = np.stack([e["keypoints"][0] for e in learn])
  weight = poses[..., 2:] > 0
  mean = (poses[..., :2] * weight).sum(0) / weight.sum(0)
  error, share = _score(mean[None], ask)
  print(f"mean pose: {error:.2f} px, PCKh@.5 {share:.3f}")
  assert 5 < error < 9
  assert share < 0.30


def test_nearest_neighbour_on_pixels_is_poor():
  learn, ask = _sets()
  a = np.stack([e["image"].ravel() for e in learn]).astype(np.float32)
  b = np.stack([e["image"].ravel() for e in ask]).astype(np.float32)
  nearest = ((a * a).sum(1) - 2 * b @ a.T).argmin(1)
  poses = np.stack([learn[k]["keypoints"][0, :, :2] for k in nearest])
  error, share = _score(poses, ask)
  print(f"nearest neighbour: {error:.2f} px, PCKh@.5 {share:.3f}")
  assert 5 < error < 9
  assert share < 0.30


def test_speed():
  cv2.setNumThreads(1)
  for function, count, limit in (
    (data.stick_pose_single, 60, 0.009),  # 2 ms on an idle core
    (data.stick_pose_multi, 10, 0.08),  # 10 ms
  ):
    function(0, 0)
    start = time.process_time()
    for index in range(count):
      function(0, index)
    assert (time.process_time() - start) / count < limit


def test_errors():
  with pytest.raises(ValueError, match="stick_pose_single: `size` must be at"):
    data.stick_pose_single(0, 0, size=16)
  with pytest.raises(ValueError, match="stick_pose_multi: `size` must be at"):
    data.stick_pose_multi(0, 0, size=63)
  with pytest.raises(ValueError, match="stick_pose_video: `size` must be at"):
    data.stick_pose_video(0, 0, size=63)
  with pytest.raises(ValueError, match="`num_frames` must be at least 2"):
    data.stick_pose_video(0, 0, num_frames=1)
  with pytest.raises(ValueError, match="`index` must be"):
    data.stick_pose_single(0, -1)
  with pytest.raises(TypeError, match="`seed` must be an integer"):
    data.stick_pose_multi(0.5, 0)

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from tests.systems.yolo import reference
from vision_jax.systems import yolo

SIZE = (64, 96)
ANCHORS = (((40, 36), (60, 50)), ((10, 12), (20, 16)))
SHAPES = ((2, 3, 2, 8), (4, 6, 2, 8))


def _total(maps, boxes, labels, valid, **settings):
  terms = yolo.yolo_loss(
    maps,
    boxes,
    labels,
    valid,
    image_size=SIZE,
    anchors=ANCHORS,
    **settings,
  )
  return sum(terms.values()), terms


_slope = jax.jit(
  jax.grad(_total, has_aux=True), static_argnames="ignore_threshold"
)


def _maps(rng):
  return [rng.normal(size=s).astype(np.float32) for s in SHAPES]


class LossTest(chex.TestCase):
  @parameterized.parameters(0.5, 0.7, 0.2)
  def test_gradient_is_what_darknet_passes_back(self, ignore):
    ignored = 0
    for seed in range(4):
      rng = np.random.default_rng(seed)
      maps = _maps(rng)
      boxes, labels = reference.scene(rng, size=SIZE, count=5, classes=3)
      padded = np.zeros((7, 4), np.float32)
      padded[:5] = boxes
      found, _ = _slope(
        maps,
        padded,
        np.pad(labels, (0, 2)),
        np.arange(7) < 5,
        ignore_threshold=ignore,
      )
      expected = reference.deltas(
        [m.astype(np.float64) for m in maps],
        reference.shares(padded[:5], SIZE),
        labels,
        SIZE,
        ANCHORS,
        ignore,
      )
      for ours, delta in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, -delta, atol=1e-5)
        ignored += (delta[..., 4] == 0).sum()
    if ignore < 0.5:
      self.assertGreater(ignored, 5)

  def test_middle_by_squares(self):
    rng = np.random.default_rng(0)
    maps = _maps(rng)
    box = np.array([[30.0, 10, 50, 26]], np.float32)
    _, terms = _total(
      maps, box, np.array([1]), np.array([True]), coordinates="mse"
    )
    value = maps[1][1, 2, 1].astype(np.float64)
    target = np.array([40 / 16 - 2, 18 / 16 - 1, 0, 0])
    found = np.concatenate([reference.sigmoid(value[:2]), value[2:4]])
    weight = 2 - 20 * 16 / (64 * 96)
    np.testing.assert_allclose(
      terms["box"], weight * ((found - target) ** 2).sum() / 2, rtol=1e-5
    )

  def test_no_objects(self):
    maps = _maps(np.random.default_rng(0))
    nothing = np.zeros((7, 4), np.float32), np.zeros(7, int), np.zeros(7, bool)
    slope, terms = _slope(maps, *nothing, ignore_threshold=0.5)
    self.assertEqual((float(terms["box"]), float(terms["classes"])), (0, 0))
    expected = sum(
      np.log1p(np.exp(m[..., 4].astype(float))).sum() for m in maps
    )
    np.testing.assert_allclose(terms["objectness"], expected, rtol=1e-5)
    chex.assert_tree_all_finite(slope)

  def test_degenerate_boxes_and_huge_maps_stay_finite(self):
    maps = [jnp.full(s, 200.0) for s in SHAPES]
    boxes = np.zeros((7, 4), np.float32)
    boxes[:3] = [[5, 5, 5, 9], [200, 0, 210, 9], [1, 1, 40, 40]]
    labels = np.array([0, 1, 2, 0, 0, 0, 0])
    slope, terms = _slope(
      maps, boxes, labels, np.ones(7, bool), ignore_threshold=0.5
    )
    chex.assert_tree_all_finite((slope, terms))

  def test_unknown_form(self):
    maps = _maps(np.random.default_rng(0))
    with self.assertRaisesRegex(ValueError, "`coordinates` must be"):
      _total(maps, np.zeros((1, 4)), np.zeros(1, int), np.ones(1, bool),
             coordinates="l1")  # fmt: skip

"""The section itself runs in `make demo`; here: what it shows is right."""

import numpy as np

from vision_jax import metrics, viz
from vision_jax.demo import segmentation


def test_the_refined_star_is_the_true_one(quick_compile):
  result, enlarged, truth = segmentation._rendered()
  refined = np.asarray(result.logits[..., 0]) > 0
  coarse = np.asarray(enlarged[..., 0]) > 0
  assert 0.1 < truth.mean() < 0.5
  assert metrics.boundary_iou(refined, truth) > 0.99
  assert metrics.boundary_iou(coarse, truth) < 0.8
  assert sum(len(p) for p in result.points) == 4 * 784


def test_classes_are_drawn_where_they_are():
  image = np.full((8, 10, 3), 128, np.uint8)
  labels = np.zeros((8, 10), int)
  labels[2:5, 3:7] = 4
  drawn = segmentation._classes_drawn(image, labels)
  changed = (drawn != 128).any(-1)
  np.testing.assert_array_equal(changed, (labels > 0).repeat(2, 0).repeat(2, 1))
  labels[6, 8] = 7
  other = segmentation._classes_drawn(image, labels)
  assert (other[13, 17] != other[6, 10]).any()


def test_the_figure_of_the_bundled_network(quick_compile, monkeypatch):
  del quick_compile
  monkeypatch.setattr(segmentation, "_SCORED", 4)
  page = viz.Page("title", "text")
  section = page.section("section")
  segmentation._learned_figure(section)
  text = viz.render_page(page)
  assert "coarse, enlarged" in text
  assert "4 test pictures" in text

"""Tests of the evaluation of ELF: cache, failures, table."""

import dataclasses
import json

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from experiments.elf import choices, evaluate, methods, report
from vision_jax import data, ops


def _fake_method(name="fake", calls=None):
  """Key points at the brightest pixels; descriptors are patches."""

  def extract(image):
    if calls is not None:
      calls.append(image.shape)
    gray = jnp.asarray(image).mean(-1)
    kept = ops.suppress_points(gray, gray > 0, radius=6)
    xy, scores, valid = ops.top_points(gray, kept, num_points=40)
    steps = np.stack(np.meshgrid(np.arange(-3.0, 4), np.arange(-3.0, 4)), -1)
    patches = ops.sample(
      jnp.asarray(image), xy[:, None] + steps.reshape(1, -1, 2), padding="edge"
    ).reshape(40, -1)
    patches = patches - patches.mean(-1, keepdims=True)
    norm = jnp.linalg.norm(patches, axis=-1, keepdims=True)
    return ops.Keypoints(xy, scores, valid, patches / (norm + 1e-6))

  return methods.Method(name, extract, name)


def _pairs(count=2):
  names = data.EVALUATION[:1]
  return list(
    data.zoom_pairs(zooms=[1.0, 1.1][:count], size=(90, 120), names=names)
  )


def test_features_are_read_again_and_damage_is_redone(tmp_path):
  calls = []
  method = _fake_method(calls=calls)
  image = _pairs()[0].image0
  cache = evaluate.FeatureCache(tmp_path)
  first = cache.get(method, image)
  again = evaluate.FeatureCache(tmp_path).get(method, image)
  assert len(calls) == 1
  chex.assert_trees_all_equal(first, again)
  # Other settings and other pixels are other features.
  cache.get(method._replace(settings="other"), image)
  cache.get(method, image[::-1])
  assert len(calls) == 3
  for file in tmp_path.iterdir():
    file.write_bytes(file.read_bytes()[:100])
  after = evaluate.FeatureCache(tmp_path)
  chex.assert_trees_all_equal(after.get(method, image), first)
  assert len(after.damaged) == 1
  assert len(calls) == 4


def test_identical_pictures_score_one_and_failures_are_counted(tmp_path):
  def broken(image):
    raise ValueError("no key points today")

  rows = [_fake_method(), methods.Method("broken", broken, "broken")]
  cache = evaluate.FeatureCache(tmp_path)
  records = evaluate.evaluate_pairs(
    rows, _pairs(), cache, total=2, label="test"
  )
  same = records["fake"][0]
  assert same["repeatability"] == same["matching_score"] == 1.0
  assert same["superpoint_repeatability"] == 1.0
  assert same["matching_accuracy"] == (1.0,) * 10
  assert same["corner_error"] < 1e-3
  summary = evaluate.summarize(records["fake"])
  assert summary["num_pairs"] == 2
  assert summary["repeatability"] == np.mean(
    [r["repeatability"] for r in records["fake"]]
  )
  assert evaluate.summarize(records["broken"]) == {"num_pairs": 0, "failed": 2}
  assert records["broken"][0]["error"] == "no key points today"
  result = {
    "data": "homography_pairs",
    "summary": {n: evaluate.summarize(r) for n, r in records.items()},
    "kinds": {},
    "skipped": ["one"],
    "damaged": [],
    "seconds": {"fake": 0.5},
    "pairs_per_second": 9.0,
    "minutes": 1.0,
  }
  text = report.format_result(result)
  assert "| broken | all 2 pairs failed |" in text
  assert "2 evaluations failed; 1 pairs skipped" in text
  assert list(report.draw_figures(result, tmp_path)) == ["mma.png"]
  assert (tmp_path / "mma.png").stat().st_size > 5000


@pytest.mark.slow
def test_default_rows_run(tmp_path, monkeypatch):
  """Two small pairs through every method, and the files that are written."""
  pairs = _pairs(1)
  small = lambda **_: iter(pairs)  # noqa: E731
  for name in ("homography_pairs", "rotation_pairs", "zoom_pairs"):
    monkeypatch.setattr(evaluate.data, name, small)
  monkeypatch.setattr(methods, "ROTATIONS", (0, 90))
  monkeypatch.setattr(methods, "SCALES", (1.0, 0.5))
  monkeypatch.setattr(methods.weights, "BUNDLED", ("vgg_small",))
  harris = methods._responses()["Harris"]
  monkeypatch.setattr(methods, "_responses", lambda: {"Harris": harris})
  options = evaluate.Options(
    max_keypoints=40,
    num_per_image=1,
    networks=("alexnet=random",),
    cache=tmp_path / "cache",
    out=tmp_path / "out",
  )
  evaluate.main(options)
  result = json.loads((options.out / "result.json").read_text())
  assert set(result["curves"]) == {"rotation", "zoom"}
  assert "ELF alexnet, random weights" in result["summary"]
  for name, summary in result["summary"].items():
    assert summary["num_pairs"] == 1, name
    assert summary["repeatability"] == 1.0, (
      name
    )  # the two pictures are the same
    assert summary["mha"][0] == 1.0, name
  assert (options.out / "keypoints.jpg").stat().st_size > 5000
  again = dataclasses.replace(options, curves=False)
  evaluate.main(again)
  result = json.loads((options.out / "result.json").read_text())
  assert result["seconds"] == {}  # everything came from the cache


def test_hpatches_in_the_published_protocol(tmp_path, monkeypatch, capsys):
  """Two sequences as the release has them; one picture is missing."""
  rng = np.random.default_rng(0)
  root = tmp_path / "release"
  for name in ("i_one", "v_two"):
    folder = root / name
    folder.mkdir(parents=True)
    noise = ndimage.gaussian_filter(rng.random((150, 240, 3)), (2, 2, 0))
    image = np.clip((noise - 0.5) * 4 + 0.5, 0, 1)
    for number in range(1, 7):
      # Viewpoints: each picture moved by 4 pixels more than the last.
      moved = np.roll(image, 4 * (number - 1) * (name[0] == "v"), 1)
      data.write_image(folder / f"{number}.ppm", moved)
      matrix = np.eye(3)
      matrix[0, 2] = 4 * (number - 1) * (name[0] == "v")
      if number > 1:
        np.savetxt(folder / f"H_1_{number}", matrix)
  (root / "v_two" / "6.ppm").unlink()
  sizes = []
  fake = _fake_method(calls=sizes)
  monkeypatch.setattr(methods, "default_methods", lambda *_, **__: [fake])
  options = evaluate.Options(
    data="hpatches",
    root=root,
    published=True,
    cache=tmp_path / "cache",
    out=tmp_path / "out",
  )
  evaluate.main(options)
  result = json.loads((options.out / "result.json").read_text())
  assert set(sizes) == {(480, 640, 3)}
  assert result["summary"]["fake"]["num_pairs"] == 9
  assert len(result["skipped"]) == 1
  assert "6.ppm" in result["skipped"][0]
  same, moved = (result["kinds"][kind]["fake"] for kind in ("i", "v"))
  assert (same["num_pairs"], moved["num_pairs"]) == (5, 4)
  assert same["repeatability"] == same["matching_score"] == 1.0
  assert moved["repeatability"] > 0.7
  assert moved["mha"][2] == 1.0
  text = capsys.readouterr().out
  assert "| illumination |" in text
  assert "| viewpoint |" in text
  assert "1 pairs skipped" in text


@pytest.mark.slow
def test_choices_run(tmp_path, monkeypatch, capsys):
  """One small pair and two small crops through the tables of choices."""
  pairs = _pairs(1)
  monkeypatch.setattr(choices.data, "homography_pairs", lambda **_: iter(pairs))
  crop = pairs[0].image0
  monkeypatch.setattr(choices, "training_crops", lambda: iter([crop, crop / 2]))
  monkeypatch.setattr(choices, "LAYERS", {"vgg_small": ("pool1", "pool2")})
  monkeypatch.setattr(choices, "DESCRIPTORS", (("pool3",),))
  monkeypatch.setattr(choices, "CORNERS", ("pool1",))
  choices.main(
    choices.Options(max_keypoints=40, num_per_image=1, cache=tmp_path)
  )
  lines = capsys.readouterr().out.splitlines()
  table = {
    cells[1].strip(): cells
    for cells in (line.split("|") for line in lines if line.startswith("|"))
  }
  assert "by hand" in table["pool2"][6]
  # The two pictures are the same: every descriptor matches all points.
  for name in ("pool3", "pool3, centred", "pool3, whitened"):
    assert float(table[name][2]) == 100.0, name
  assert any("of 2 crops" in line for line in lines)

"""The spatial-transformer experiment: distortions, networks, a tiny run."""

import functools
import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import tyro
from PIL import Image

from experiments.stn import (
  distortions,
  networks,
  pictures,
  table,
  train,
  training,
  volumes,
)
from vision_jax import data


@functools.lru_cache(maxsize=1)
def _digits():
  return data.digit_batch(0, range(40))[0][..., 0]


class TestDistortions:
  @pytest.mark.parametrize("kind", distortions.SIDES)
  def test_each_example_has_its_own(self, kind):
    images, side = _digits(), distortions.SIDES[kind]
    result = distortions.distort(kind, images, 0)
    assert result.shape == (40, side, side)
    assert result.dtype == np.uint8
    if kind != "TC":  # its pieces come from the whole set
      part = distortions.distort(kind, images[:7], 0)
      assert np.abs(part.astype(int) - result[:7]).max() <= 1
    other = distortions.distort(kind, images, 1)
    assert np.mean(np.any(result != other, (1, 2))) > 0.9
    with pytest.raises(
      ValueError, match="must be one of R, RTS, P, E, TC, got"
    ):
      distortions.distort("X", images, 0)
    with pytest.raises(ValueError, match=r"`images` must be \[N, 28, 28\]"):
      distortions.distort(kind, images[..., None], 0)

  def test_frozen_parameters(self):
    """Rounded, so that the last bit of a cosine does not count."""
    for kind, expected in _FROZEN.items():
      drawn = [distortions.draw_parameters(kind, 0, i) for i in range(50)]
      text = np.round(np.stack(drawn), 5) + 0.0
      digest = hashlib.sha256(text.astype("<f8").tobytes()).hexdigest()
      assert digest[:12] == expected, kind

  def test_rotation_equals_scipy(self):
    images = _digits()
    result = distortions.distort("R", images, 0)
    for index in range(10):
      c, s = distortions.draw_parameters("R", 0, index)[:2]
      angle = math.degrees(math.atan2(s, c))
      expected = scipy.ndimage.rotate(
        images[index].astype(float), -angle, reshape=False, order=1
      )
      difference = np.abs(result[index] - expected)
      assert difference.mean() < 3
      assert np.corrcoef(result[index].ravel(), expected.ravel())[0, 1] > 0.97

  def test_ranges(self):
    draw = distortions.draw_parameters
    p = np.stack([draw("R", 0, i) for i in range(400)])
    angles = np.degrees(np.arctan2(p[:, 1], p[:, 0]))
    assert 80 < angles.max() <= 90
    assert -90 <= angles.min() < -80
    p = np.stack([draw("RTS", 0, i) for i in range(400)]) * 28 / 42
    scales = 1 / np.hypot(p[:, 0], p[:, 1])
    assert 0.69 < scales.min() < 0.72
    assert 1.17 < scales.max() < 1.21
    moves = np.stack([draw("E", 0, i) for i in range(400)]).reshape(-1, 16, 2)
    deviation = moves.std(0).mean() * 14
    np.testing.assert_allclose(deviation, 1.5, rtol=0.03)

  def test_the_digit_of_rts_is_whole(self):
    """Ink grows with the square of the scale, and none is lost."""
    images = _digits()
    result = distortions.distort("RTS", images, 0)
    p = [distortions.draw_parameters("RTS", 0, i) for i in range(40)]
    scale = np.array([42 / 28 / np.hypot(*q[:2]) for q in p])
    ink = result.sum((1, 2), dtype=float) / images.sum((1, 2), dtype=float)
    np.testing.assert_allclose(ink, scale**2, rtol=0.05)

  def test_clutter_equals_its_parameters(self):
    images = _digits()
    result = distortions.distort("TC", images, 3)
    for index in (0, 17, 39):
      drawn = distortions.draw_parameters("TC", 3, index)
      x, y = drawn[0].astype(int)
      expected = np.zeros((60, 60), int)
      for k in range(16):
        (u, v), (a, b) = drawn[1 + k].astype(int), drawn[17 + k].astype(int)
        other = images[int(drawn[33 + k, 0] * 40)]
        for i in range(6):
          for j in range(6):
            old = expected[b + i, a + j]
            expected[b + i, a + j] = max(old, other[v + i, u + j])
      digit = expected[y : y + 28, x : x + 28]
      expected[y : y + 28, x : x + 28] = np.maximum(digit, images[index])
      np.testing.assert_array_equal(result[index], expected)


_FROZEN = {
  "R": "fff2626cc980",
  "RTS": "6f65f26223e3",
  "P": "0b5df4ca19ba",
  "E": "5588954411fd",
  "TC": "c4c9a72f17bc",
}


class TestNetworks:
  @pytest.mark.parametrize("kind", distortions.SIDES)
  @pytest.mark.parametrize("model", networks.MODELS)
  def test_equal_budgets(self, model, kind):
    plain = "FCN" if "FCN" in model else "CNN"
    side = distortions.SIDES[kind]
    counts = [
      networks.count_parameters(networks.make_network(m, kind), (side, side))
      for m in (model, plain)
    ]
    assert 0.9 * counts[1] < counts[0] <= counts[1]

  def test_plain_networks_have_the_layers_of_the_paper(self):
    network = networks.make_network("FCN", "R")
    count = networks.count_parameters(network, (28, 28))
    assert count == 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    network = networks.make_network("CNN", "R")
    count = networks.count_parameters(network, (28, 28))
    assert count == 81 * 32 + 32 + 49 * 32 * 32 + 32 + 4 * 32 * 10 + 10

  @pytest.mark.parametrize("kind", ["R", "TC"])
  def test_a_transformer_begins_with_what_is_there(self, kind):
    network = networks.make_network("ST-FCN TPS", kind)
    side = distortions.SIDES[kind]
    images = jax.random.uniform(jax.random.key(0), (2, side, side, 1))
    variables = network.init(jax.random.key(1), images)
    logits, seen = network.apply(variables, images)
    assert logits.shape == (2, 10)
    assert seen.shape == (2, 28, 28, 1)
    if kind == "R":
      np.testing.assert_allclose(seen, images, atol=1e-4)
    else:
      np.testing.assert_allclose(seen.mean(), images.mean(), atol=0.02)

  def test_unknown_model(self):
    with pytest.raises(ValueError, match="must be one of FCN, ST-FCN Aff"):
      networks.make_network("RNN", "R")


def test_tiny_run(tmp_path, quick_compile):
  run = train.Run(data_dir=str(tmp_path), tiny=True, progress=False)
  out = str(tmp_path / "result.json")
  error = train.main("ST-FCN Aff", "R", training.Config(), run, out)
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["error"] == error
  assert result["split"] == "test"
  assert 0 <= error <= 100
  seen = []
  training.train_network(
    networks.make_network("ST-FCN Aff", "R"),
    training.Config(num_steps=3, batch_size=16),
    train.load_digits(run, "R", "train"),
    watch=lambda step, variables: seen.append(step),
    progress=False,
  )
  assert seen == [0, 1, 2]


def test_error_percent():
  """Against predictions by hand, with a last batch that is not full."""
  network = networks.make_network("FCN", "R")
  images = _digits()
  variables = network.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
  scaled = (images[..., None] / 255 - 0.13) / 0.31
  logits, _ = network.apply(variables, jnp.asarray(scaled, jnp.float32))
  labels = np.arange(40) % 10
  expected = 100 * np.mean(logits.argmax(-1) != labels)
  got = training.error_percent(network, variables, (images, labels), batch=16)
  np.testing.assert_allclose(got, expected)


@pytest.mark.parametrize("module", [table, volumes, pictures])
def test_options(module):
  args = tyro.cli(module.Args, args=["--no-progress", "--data", "mnist"])
  assert args.run == train.Run(progress=False, data="mnist")


def test_table_goes_on_where_it_was(tmp_path, quick_compile, capsys):
  run = train.Run(data_dir=str(tmp_path), tiny=True, progress=False)
  args = table.Args(
    kinds=("R",), models=("FCN",), out=str(tmp_path / "runs"), run=run
  )
  first = table.main(args)
  files = sorted((tmp_path / "runs").iterdir())
  assert [f.name for f in files] == [f"fcn_R_{seed}.json" for seed in range(3)]
  files[0].write_text(files[0].read_text())  # untouched by the second time
  times = [f.stat().st_mtime_ns for f in files]
  assert table.main(args) == first
  assert [f.stat().st_mtime_ns for f in files] == times
  capsys.readouterr()


def test_table_of_known_errors():
  results = [
    {"model": "CNN", "kind": "R", "error": error} for error in (2.0, 3.0, 4.0)
  ]
  results.append({"model": "ST-CNN Aff", "kind": "P", "error": 1.25})
  assert table.format_table(results).splitlines() == [
    "| test error, % | R | P |",
    "| --- | --- | --- |",
    "| CNN | 3.00 ± 1.00 |  |",
    "| ST-CNN Aff |  | 1.25 |",
  ]


class TestVolumes:
  def test_a_turn_equals_scipy(self):
    """Whole volume, about its middle, by the same rotation."""
    images = _digits()[:3]
    got = volumes.turn(images, 0)
    assert got.shape == (3, 20, 20, 20)
    small = images.reshape(3, 14, 2, 14, 2).mean((2, 4))
    for index in range(3):
      flat = np.zeros((20, 20, 20))
      flat[7:13, 3:17, 3:17] = small[index]
      # (x, y, z) of the rotation are axes 2, 1, 0 of the volume.
      matrix = volumes.draw_rotation(0, index)[::-1, ::-1]
      middle = np.full(3, 9.5)
      expected = scipy.ndimage.affine_transform(
        flat, matrix, middle - matrix @ middle, order=1
      )
      np.testing.assert_allclose(got[index], expected, atol=1.01)

  def test_equal_budgets(self):
    counts = [
      networks.count_parameters(volumes.make_network(flag), (20,) * 3)
      for flag in (False, True)
    ]
    assert 0.9 * counts[0] < counts[1] <= counts[0]

  def test_tiny_run(self, tmp_path, quick_compile, capsys):
    run = train.Run(data_dir=str(tmp_path), tiny=True, progress=False)
    path = tmp_path / "volumes.png"
    errors = volumes.main(
      volumes.Args(
        num_train=64,
        num_test=20,
        num_seeds=1,
        num_steps=2,
        figure=str(path),
        run=run,
      )
    )
    assert "| ST-FCN Aff |" in capsys.readouterr().out
    assert all(0 <= e <= 100 for both in errors.values() for e in both)
    assert np.asarray(Image.open(path).convert("L")).std() > 10


def test_pictures_and_film(tmp_path, quick_compile, capsys, monkeypatch):
  monkeypatch.setattr(pictures, "_ROWS", (("RTS", "Aff"),))
  run = train.Run(data_dir=str(tmp_path), tiny=True, progress=False)
  args = pictures.Args(out=str(tmp_path / "out"), frames=3, run=run)
  grid, film = pictures.main(args)
  capsys.readouterr()
  assert np.asarray(Image.open(grid).convert("L")).std() > 10
  assert Image.open(film).n_frames >= 2  # those alike are one

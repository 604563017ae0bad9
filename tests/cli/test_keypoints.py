"""Tests of `vision-jax keypoints`."""

import json
import os

import h5py
import numpy as np
import PIL.Image
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax import data
from vision_jax.systems import opencv_features


class KeypointsTest(command_case.CommandCase):
  def _run(self, *arguments):
    self.out = self.folder / "out" / "f.h5"
    return self.run_command(
      "keypoints", *arguments, "--out", self.out, "--method", "sift"
    )

  def test_layout_is_that_of_hloc(self):
    self.save("set/b/one.png", command_case.photograph(96, 128))
    path = self.save("set/two.jpg", command_case.photograph(128, 96))
    result = self._run(self.folder / "set", "--max-keypoints", 50)
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertIn("2 images: 2 written to", result.out)
    with h5py.File(self.out) as store:
      names = []
      store.visititems(
        lambda name, node: names.append(node.parent.name.strip("/"))
        if isinstance(node, h5py.Dataset)
        else None
      )
      self.assertEqual(set(names), {"b/one.png", "two.jpg"})
      group = store["two.jpg"]
      expected = opencv_features.detect_opencv(
        data.read_image(path), max_keypoints=50
      )
      self.assertEqual(len(group["keypoints"]), int(expected.valid.sum()))
      count = len(group["keypoints"])
      self.assertGreater(count, 20)
      np.testing.assert_array_equal(
        group["keypoints"], expected.xy[: len(group["keypoints"])]
      )
      self.assertEqual(group["keypoints"].dtype, np.float32)
      self.assertEqual(group["descriptors"].shape, (128, count))
      self.assertEqual(group["descriptors"].dtype, np.float16)
      np.testing.assert_allclose(
        group["descriptors"][:].T, expected.descriptors[:count], atol=1e-3
      )
      np.testing.assert_array_equal(group["scores"], expected.scores[:count])
      np.testing.assert_array_equal(group["image_size"], [96, 128])
      self.assertEqual(group["keypoints"].attrs["uncertainty"], 1.0)
      record = json.loads(store.attrs["record"])
      self.assertEqual(record["options"]["method"], "sift")
      self.assertIn("numpy", record["environment"])

  def test_large_images_give_points_in_their_own_pixels(self):
    image = np.full((100, 300, 3), 0.2, np.float32)
    rows, columns = np.mgrid[:100, :300]
    spot = np.exp(-((columns - 200) ** 2 + (rows - 40) ** 2) / (2 * 8.0**2))
    path = self.save("a.png", np.clip(image + 0.7 * spot[..., None], 0, 1))
    self._run(path, "--max-side", 120)
    with h5py.File(self.out) as store:
      np.testing.assert_allclose(
        store["a.png/keypoints"][0], [200.0, 40.0], atol=0.3
      )
      np.testing.assert_array_equal(store["a.png/image_size"], [300, 100])
      self.assertEqual(store["a.png/keypoints"].attrs["uncertainty"], 2.5)

  def test_bad_files_are_reported_and_the_rest_is_finished(self):
    good = self.save("good.png", command_case.photograph(64, 96))
    bad = self.save_bytes("bad.png", b"no image")
    cut = self.save_bytes("cut.png", good.read_bytes()[:2000])
    last = self.save("last.png", np.full((64, 80, 3), 0.5))
    none = self.folder / "none.png"
    result = self._run(none, bad, good, cut, last)
    self.assertEqual(result.code, 1, result)
    lines = result.err.strip().split("\n")
    self.assertLen(lines, 3)
    for line, path in zip(lines, (none, bad, cut), strict=True):
      self.assertStartsWith(line, "vision-jax keypoints: error: ")
      self.assertIn(str(path), line)
    self.assertIn("5 images: 2 written", result.out)
    self.assertIn("1 without key points, 3 failed", result.out)
    with h5py.File(self.out) as store:
      self.assertEqual(set(store), {"good.png", "last.png"})
      self.assertEqual(store["last.png/keypoints"].shape, (0, 2))
      self.assertEqual(store["last.png/descriptors"].shape, (128, 0))
    self.assertEqual(os.listdir(self.out.parent), ["f.h5"])

  def test_every_kind_of_picture_is_read(self):
    image = PIL.Image.fromarray(
      (command_case.photograph(64, 96) * 255).astype(np.uint8)
    )
    (self.folder / "set").mkdir()
    for mode, suffix in (
      ("L", "png"), ("1", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "gif"),
      ("CMYK", "jpg"), ("I;16", "png"), ("RGB", "webp"), ("RGB", "ppm"),
    ):  # fmt: skip
      picture = image.convert("L" if mode == "I;16" else mode)
      if mode == "I;16":
        grey = np.asarray(picture).astype(np.uint16) * 257
        picture = PIL.Image.fromarray(grey)
      name = f"{mode.replace(';', '')}.{suffix}"
      picture.save(self.folder / "set" / name)
    PIL.Image.new("RGB", (1, 1)).save(self.folder / "set" / "tiny.png")
    result = self._run(self.folder / "set")
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertIn("10 images: 10 written", result.out)
    with h5py.File(self.out) as store:
      np.testing.assert_array_equal(
        store["L.png/keypoints"], store["I16.png/keypoints"]
      )
      for name in set(store) - {"tiny.png"}:
        self.assertNotEmpty(store[name]["keypoints"], name)

  def test_names(self):
    self.save("x/a.png", command_case.photograph(48, 64))
    self.save("y/a.png", command_case.photograph(48, 64))
    x, y = self.folder / "x", self.folder / "y"
    result = self._run(x, y)
    self.assert_one_line(result, 2, "would both be called 'a.png'; give --root")
    result = self._run(x, y / "a.png", "--root", self.folder)
    self.assertEqual(result.code, 0)
    with h5py.File(self.out) as store:
      self.assertIn("keypoints", store["x/a.png"])
      self.assertIn("keypoints", store["y/a.png"])
    result = self._run(x, "--root", y)
    self.assert_one_line(result, 2, "is not below --root")
    result = self._run(x / "a.png", x / "a.png")
    self.assertIn("1 images: 1 written", result.out)

  def test_links_keep_their_names(self):
    target = self.save("elsewhere/a.png", command_case.photograph(48, 64))
    (self.folder / "set").mkdir()
    (self.folder / "set" / "link.png").symlink_to(target)
    self.assertEqual(self._run(self.folder / "set").code, 0)
    with h5py.File(self.out) as store:
      self.assertEqual(list(store), ["link.png"])

  def test_resume_keeps_what_is_there(self):
    first = self.save("a.png", command_case.photograph(64, 96))
    second = self.save("b.png", command_case.photograph(64, 96))
    self._run(first)
    with h5py.File(self.out, "a") as store:
      store["a.png/scores"][0] = 77.0  # a mark
    result = self._run(first, second, "--resume")
    self.assertIn("1 written", result.out)
    self.assertIn("1 kept from before", result.out)
    with h5py.File(self.out) as store:
      self.assertEqual(set(store), {"a.png", "b.png"})
      self.assertEqual(store["a.png/scores"][0], 77.0)
    result = self._run(first, "--resume", "--max-keypoints", 9)
    self.assert_one_line(result, 2, "other settings")
    with h5py.File(self.out) as store:
      self.assertEqual(set(store), {"a.png", "b.png"})
    self._run(first)
    with h5py.File(self.out) as store:
      self.assertEqual(set(store), {"a.png"})

  def test_elf(self):
    path = self.save("a.png", command_case.photograph(96, 128))
    out = self.folder / "elf.h5"
    result = self.run_command(
      "keypoints", path, "--weights", "random", "--out", out,
      "--descriptor-dtype", "float32", "--max-keypoints", 40,
    )  # fmt: skip
    self.assertEqual((result.code, result.err), (0, ""), result)
    with h5py.File(out) as store:
      descriptors = store["a.png/descriptors"][:]
      self.assertGreater(descriptors.shape[1], 5)
      np.testing.assert_allclose(
        np.linalg.norm(descriptors, axis=0), 1.0, atol=1e-3
      )

  @parameterized.parameters(
    ((), "no images given"),
    (("none.png",), "none.png"),
  )
  def test_nothing_to_do(self, arguments, pattern):
    self.assert_one_line(self._run(*arguments), 2, pattern)

  def test_bad_outputs(self):
    path = self.save("a.png", command_case.photograph(48, 64))
    result = self.run_command("keypoints", path, "--out", "f.txt")
    self.assert_one_line(result, 2, "--out must end in .h5")
    broken = self.save_bytes("broken.h5", b"no such thing")
    result = self.run_command(
      "keypoints", path, "--out", broken, "--resume", "--method", "orb"
    )
    self.assert_one_line(result, 2, "--out: cannot use .*broken.h5")
    self.assertEqual(broken.read_bytes(), b"no such thing")

"""Tests of `vision-jax warp`."""

import cv2
import numpy as np
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax import data


class WarpTest(command_case.CommandCase):
  def setUp(self):
    super().setUp()
    self.image = command_case.photograph(61, 81)
    self.path = self.save("a.png", self.image)
    self.out = self.folder / "w.png"

  def warp(self, *arguments):
    result = self.run_command("warp", self.path, "--out", self.out, *arguments)
    self.assertEqual((result.code, result.err), (0, ""), result)
    return data.read_image(self.out)

  def test_quarter_turn_counter_clockwise(self):
    square = command_case.photograph(61, 61)
    self.path = self.save("square.png", square)
    got = self.warp("--rotate", 90, "--no-antialias")
    np.testing.assert_allclose(got, np.rot90(square), atol=1 / 200)

  def test_moved_right_and_down(self):
    got = self.warp("--translate", 5, 3, "--fill", 1, 0, 0)
    np.testing.assert_allclose(got[3:, 5:], self.image[:-3, :-5], atol=1 / 200)
    np.testing.assert_allclose(
      got[:3], np.broadcast_to([1, 0, 0], got[:3].shape), atol=1e-6
    )

  def test_scale_enlarges_about_the_middle(self):
    got = self.warp("--scale", 2)
    np.testing.assert_allclose(got[30, 40], self.image[30, 40], atol=1 / 200)
    np.testing.assert_allclose(got[50, 60], self.image[40, 50], atol=1 / 200)

  def test_homography_equals_opencv(self):
    h = command_case.HOMOGRAPHY
    numbers = [*h.ravel()]
    expected = cv2.warpPerspective(
      self.image, np.linalg.inv(h), (81, 61),
      flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    # OpenCV places samples to a 32nd of a pixel.
    for sign in (1, -1):
      got = self.warp(
        "--homography", *(sign * n for n in numbers), "--forward",
        "--no-antialias",
      )  # fmt: skip
      inside = np.s_[8:-8, 12:-12]
      error = np.abs(got[inside] - expected[inside])
      self.assertLess(error.mean(), 0.004)
      self.assertLess(np.quantile(error, 0.99), 0.03)

  def test_matrix_and_size(self):
    got = self.warp("--matrix", 1, 0, 10, 0, 1, 20, "--size", 15, 25)
    np.testing.assert_allclose(got, self.image[20:35, 10:35], atol=1 / 200)
    got = self.warp("--size", 41, 61)  # the middle
    np.testing.assert_allclose(got, self.image[10:51, 10:71], atol=1 / 200)

  def test_folders(self):
    self.save("in/b.png", self.image)
    self.save("in/c.png", self.image)
    out = self.folder / "out"
    result = self.run_command("warp", self.folder / "in", "--out", out)
    self.assertEqual(result.code, 0, result)
    self.assertEqual(sorted(p.name for p in out.iterdir()), ["b.png", "c.png"])
    (self.folder / "in" / "d.png").write_bytes(b"no picture")
    result = self.run_command("warp", self.folder / "in", "--out", out)
    self.assertEqual(result.code, 1)
    self.assertIn("2 of 3 written", result.out)
    self.assertIn("d.png", result.err)

  @parameterized.parameters(
    (("--scale", "0"), "--scale must be above 0"),
    (("--matrix", *"100200"), "--matrix must be invertible"),
    (("--homography", *"000000000"), "--homography must be invertible"),
    (("--size", "0", "5"), "--size must be at least"),
    (("--padding", "border", "--fill", *"111"), "--fill goes with"),
    (
      ("--matrix", *"100010", "--homography", *"100010001"),
      "exclude each other",
    ),
  )
  def test_mistakes(self, arguments, pattern):
    result = self.run_command("warp", self.path, "--out", self.out, *arguments)
    self.assert_one_line(result, 2, pattern)

  def test_the_input_is_not_overwritten(self):
    result = self.run_command("warp", self.path, "--out", self.path)
    self.assert_one_line(result, 2, "must not be an input")
    self.save("b.png", self.image)
    result = self.run_command(
      "warp", self.path, self.folder / "b.png", "--out", self.out
    )
    self.assert_one_line(result, 2, "must be a folder")

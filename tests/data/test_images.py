"""Tests of the picture reader on files made by Pillow, OpenCV and by hand."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from vision_jax import data

# What Pillow says about damaged files before it fails.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def _picture(shape=(13, 21, 3), seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _save(path, array, mode=None, **settings):
  image = PIL.Image.fromarray(array)
  if mode is not None:
    image = image.convert(mode)
  image.save(path, **settings)
  return path


def _check(image, shape):
  assert image.shape == shape
  assert image.dtype == np.float32
  assert image.flags["C_CONTIGUOUS"]
  assert np.isfinite(image).all()
  assert image.min() >= 0
  assert image.max() <= 1


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_rgb_files_are_read_exactly(tmp_path, suffix):
  pixels = _picture()
  settings = {"lossless": True} if suffix == "webp" else {}
  path = _save(tmp_path / f"a.{suffix}", pixels, **settings)
  image = data.read_image(path)
  _check(image, (13, 21, 3))
  np.testing.assert_array_equal(image, pixels / np.float32(255))


def test_jpeg_equals_opencv(tmp_path):
  smooth = cv2.resize(_picture((4, 5, 3)), (53, 37))
  path = tmp_path / "a.jpg"
  _save(path, smooth, quality=95)
  image = data.read_image(path)
  reference = cv2.imread(str(path))[..., ::-1] / 255
  _check(image, (37, 53, 3))
  assert np.abs(image - reference).max() <= 3 / 255
  assert np.abs(image - smooth / 255).mean() < 0.02


def test_channel_order_is_rgb(tmp_path):
  pixels = np.zeros((4, 6, 3), np.uint8)
  pixels[..., 0] = 255
  image = data.read_image(_save(tmp_path / "red.png", pixels))
  np.testing.assert_array_equal(image[2, 3], [1, 0, 0])


def test_grey_is_repeated(tmp_path):
  pixels = _picture((5, 9))
  image = data.read_image(_save(tmp_path / "a.png", pixels))
  _check(image, (5, 9, 3))
  np.testing.assert_array_equal(
    image, np.repeat(pixels[..., None], 3, -1) / np.float32(255)
  )


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_divided_by_65535(tmp_path, suffix):
  pixels = np.random.default_rng(1).integers(0, 65536, (5, 9), dtype=np.uint16)
  pixels[0, :3] = 0, 65535, 257
  path = tmp_path / f"a.{suffix}"
  assert cv2.imwrite(str(path), pixels)
  image = data.read_image(path)
  _check(image, (5, 9, 3))
  np.testing.assert_allclose(image[..., 1], pixels / 65535, atol=1e-7)
  np.testing.assert_allclose(image[0, :3, 0], [0, 1, 1 / 255], atol=1e-7)


def test_16_bit_grey_with_a_transparent_value(tmp_path):
  pixels = np.array([[0, 1000, 65535]], np.uint16)
  path = tmp_path / "a.png"
  PIL.Image.fromarray(pixels).save(path, transparency=1000)
  image = data.read_image(path)
  np.testing.assert_array_equal(image[0, :, 0], [0, 1, 1])


def test_16_bit_colour_keeps_its_upper_8_bits(tmp_path):
  pixels = np.random.default_rng(1).integers(
    0, 65536, (5, 9, 3), dtype=np.uint16
  )
  path = tmp_path / "a.png"
  cv2.imwrite(str(path), pixels[..., ::-1])
  image = data.read_image(path)
  np.testing.assert_allclose(image, pixels / 65535, atol=1.01 / 255)


def test_one_bit(tmp_path):
  pixels = _picture((5, 9)) > 127
  path = _save(tmp_path / "a.png", pixels)
  assert PIL.Image.open(path).mode == "1"
  image = data.read_image(path)
  _check(image, (5, 9, 3))
  np.testing.assert_array_equal(image[..., 2], pixels)


def test_float_tiff(tmp_path):
  pixels = np.random.default_rng(1).random((5, 9), np.float32)
  image = data.read_image(_save(tmp_path / "a.tif", pixels))
  np.testing.assert_array_equal(image[..., 0], pixels)
  bad = _save(tmp_path / "b.tif", pixels * 255)
  with pytest.raises(data.ImageError, match=r"not finite and in .0, 1"):
    data.read_image(bad)
  pixels[2, 3] = np.nan
  with pytest.raises(data.ImageError, match="not finite"):
    data.read_image(_save(tmp_path / "c.tif", pixels))


def test_32_bit_integers_beyond_16_bits_are_refused(tmp_path):
  pixels = np.full((5, 9), 70000, np.int32)
  with pytest.raises(data.ImageError, match=r"not in 0\.\.65535"):
    data.read_image(_save(tmp_path / "a.tif", pixels))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_over_white(tmp_path, mode):
  pixels = _picture((5, 9, 4))
  pixels[0, 0, 3], pixels[0, 1, 3] = 0, 255
  image = PIL.Image.fromarray(pixels).convert(mode)
  image.save(tmp_path / "a.png")
  rgba = np.asarray(image.convert("RGBA"), np.float64) / 255
  expected = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
  got = data.read_image(tmp_path / "a.png")
  _check(got, (5, 9, 3))
  np.testing.assert_allclose(got, expected, atol=1e-6)
  np.testing.assert_array_equal(got[0, 0], [1, 1, 1])


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette(tmp_path, suffix):
  image = PIL.Image.fromarray(_picture()).convert(
    "P", palette=PIL.Image.Palette.ADAPTIVE, colors=16
  )
  path = tmp_path / f"a.{suffix}"
  image.save(path)
  assert PIL.Image.open(path).mode == "P"
  expected = np.asarray(image.convert("RGB")) / np.float32(255)
  np.testing.assert_array_equal(data.read_image(path), expected)


def test_palette_with_a_transparent_colour(tmp_path):
  indices = np.array([[0, 1, 2]], np.uint8)
  image = PIL.Image.fromarray(indices).convert("P")
  image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
  image.save(tmp_path / "a.png", transparency=1)
  got = data.read_image(tmp_path / "a.png")
  np.testing.assert_array_equal(got[0], [[1, 0, 0], [1, 1, 1], [0, 0, 1]])


def test_rgb_with_a_transparent_colour(tmp_path):
  pixels = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
  _save(tmp_path / "a.png", pixels, transparency=(0, 255, 0))
  got = data.read_image(tmp_path / "a.png")
  np.testing.assert_array_equal(got[0], [[1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
  pixels = np.zeros((16, 24, 4), np.uint8)  # cyan, magenta, yellow, key
  pixels[:, :8, 0] = 255
  pixels[:, 8:16, 3] = 255
  path = tmp_path / f"a.{suffix}"
  PIL.Image.fromarray(pixels, "CMYK").save(path, quality=100)
  assert PIL.Image.open(path).mode == "CMYK"
  got = data.read_image(path)
  _check(got, (16, 24, 3))
  for x, colour in ((4, [0, 1, 1]), (12, [0, 0, 0]), (20, [1, 1, 1])):
    np.testing.assert_allclose(got[8, x], colour, atol=0.03)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
  """All eight kinds against the table of the EXIF standard."""
  upright = _picture((6, 10, 3))
  # The stored picture as a camera would store it for this tag.
  stored = {
    1: upright,
    2: upright[:, ::-1],
    3: upright[::-1, ::-1],
    4: upright[::-1],
    5: upright.transpose(1, 0, 2),
    6: np.rot90(upright, 1),
    7: upright[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(upright, -1),
  }[orientation]
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  path = tmp_path / "a.png"
  PIL.Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
  image = data.read_image(path)
  _check(image, (6, 10, 3))
  np.testing.assert_array_equal(image, upright / np.float32(255))


def test_damaged_exif_is_ignored(tmp_path):
  pixels = _picture()
  _save(tmp_path / "a.jpg", pixels, exif=b"Exif\0\0nonsense that is no TIFF")
  _check(data.read_image(tmp_path / "a.jpg"), (13, 21, 3))


def test_first_frame_is_read(tmp_path):
  frames = [PIL.Image.fromarray(_picture(seed=i)) for i in range(3)]
  frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
  np.testing.assert_array_equal(
    data.read_image(tmp_path / "a.tif"), np.asarray(frames[0]) / np.float32(255)
  )


def test_one_pixel(tmp_path):
  _check(
    data.read_image(_save(tmp_path / "a.png", _picture((1, 1, 3)))), (1, 1, 3)
  )


# Files that are no pictures.


def _message(path):
  with pytest.raises(data.ImageError) as caught:
    data.read_image(path)
  text = str(caught.value)
  assert "\n" not in text
  assert repr(os.fspath(path)) in text
  assert text.startswith("read_image: `path` must be an image file, got ")
  return text


def test_missing_file(tmp_path):
  assert "no such file" in _message(tmp_path / "none.png")
  assert "no such file" in _message(tmp_path / "none" / "none.png")


def test_folder(tmp_path):
  assert "it is a folder" in _message(tmp_path)


def test_path_below_a_file(tmp_path):
  path = _save(tmp_path / "a.png", _picture())
  assert "Not a directory" in _message(path / "b.png")


def test_empty_file(tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(b"")
  assert "empty" in _message(path)


@pytest.mark.parametrize(
  "content", [b"hello, this is text\n" * 40, b"\x00", b"\x80\x04N.", b"PK\3\4"]
)
def test_not_a_picture(tmp_path, content):
  path = tmp_path / "a.png"
  path.write_bytes(content)
  assert "not a known image format" in _message(path)


def test_null_character_in_the_name():
  assert "null" in _message("a\0b.png")


def test_path_of_another_type():
  with pytest.raises(TypeError):
    data.read_image(7)
  with pytest.raises(TypeError, match="must be a str path"):
    data.read_image(b"a.png")


@pytest.mark.parametrize(("width", "height"), [(0, 4), (4, 0), (0, 0)])
def test_zero_size(tmp_path, width, height):
  def chunk(kind, body):
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

  png = tmp_path / "a.png"
  png.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b""))
    + chunk(b"IEND", b"")
  )
  assert "zero size" in _message(png)
  pgm = tmp_path / "a.pgm"
  pgm.write_bytes(b"P5\n%d %d\n255\n" % (width, height))
  _message(pgm)
  gif = tmp_path / "a.gif"
  gif.write_bytes(
    b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00\x3b"
  )
  _message(gif)


def test_too_many_pixels(tmp_path):
  path = tmp_path / "a.pgm"
  path.write_bytes(b"P5\n40000 40000\n255\n")
  assert "exceeds limit" in _message(path)


@pytest.mark.parametrize(
  ("suffix", "mode"),
  [
    ("png", "RGB"),
    ("png", "I;16"),
    ("jpg", "RGB"),
    ("jpg", "CMYK"),
    ("bmp", "RGB"),
    ("tif", "RGB"),
    ("ppm", "RGB"),
    ("gif", "P"),
    ("webp", "RGB"),
  ],
)
def test_truncated_files(tmp_path, suffix, mode):
  """Cut anywhere, a file is refused or complete; it never is half a picture."""
  pixels = _picture((40, 60, 3))
  if mode == "I;16":
    image = PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
  else:
    image = PIL.Image.fromarray(pixels).convert(mode)
  whole = io.BytesIO()
  image.save(whole, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
  content = whole.getvalue()
  path = tmp_path / f"a.{suffix}"
  path.write_bytes(content)
  expected = data.read_image(path)
  refused = 0
  for cut in [*range(1, 60), *np.linspace(60, len(content) - 1, 60)]:
    path.write_bytes(content[: int(cut)])
    try:
      got = data.read_image(path)
    except data.ImageError:
      refused += 1
      _message(path)
    else:
      np.testing.assert_array_equal(got, expected)
  assert refused >= 115


def test_truncated_file_says_so(tmp_path):
  path = _save(tmp_path / "a.jpg", _picture((40, 60, 3)))
  path.write_bytes(path.read_bytes()[:-600])
  assert "truncated" in _message(path)


def test_random_damage_never_escapes(tmp_path):
  """Flipped bytes give a picture or an ImageError, nothing else."""
  rng = np.random.default_rng(0)
  for suffix in ("png", "jpg", "tif", "gif", "bmp", "webp"):
    path = _save(tmp_path / f"a.{suffix}", _picture((20, 30, 3)))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(40):
      damaged = content.copy()
      places = rng.integers(0, min(len(content), 400), 4)
      damaged[places] = rng.integers(0, 256, 4)
      path.write_bytes(damaged.tobytes())
      try:
        image = data.read_image(path)
      except data.ImageError:
        continue
      assert image.ndim == 3
      assert image.dtype == np.float32


# Writing.


def test_to_uint8_rounds_and_clips():
  image = np.array([-0.2, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 1.3], np.float64)
  np.testing.assert_array_equal(data.to_uint8(image), [0, 0, 0, 1, 255, 255])
  every = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(
    data.to_uint8(every.astype(np.float32) / np.float32(255)), every
  )
  np.testing.assert_array_equal(
    data.to_uint8(np.array([False, True])), [0, 255]
  )
  assert data.to_uint8(every) is every
  assert data.to_uint8(np.zeros((0, 3))).shape == (0, 3)


def test_to_uint8_refuses_other_scales():
  with pytest.raises(ValueError, match=r"divide a picture in 0\.\.255"):
    data.to_uint8(np.array([0.0, 200.0]))
  with pytest.raises(ValueError, match="must be finite"):
    data.to_uint8(np.array([0.0, np.nan]))
  with pytest.raises(TypeError, match="got int64"):
    data.to_uint8(np.array([0, 1]))
  with pytest.raises(TypeError, match="got complex"):
    data.to_uint8(np.array([0j]))


@pytest.mark.parametrize("shape", [(7, 11, 3), (7, 11, 4), (7, 11), (7, 11, 1)])
def test_write_then_read(tmp_path, shape):
  pixels = _picture(shape)
  if shape[-1] == 4:
    pixels[..., 3] = 255
  data.write_image(tmp_path / "a.png", pixels.astype(np.float32) / 255)
  image = data.to_uint8(data.read_image(tmp_path / "a.png"))
  expected = pixels.reshape(7, 11, -1)[..., :3]
  np.testing.assert_array_equal(image, np.broadcast_to(expected, (7, 11, 3)))


def test_write_errors(tmp_path):
  image = np.zeros((4, 6, 3))
  for path in (
    tmp_path / "none" / "a.png",
    tmp_path / "a.unknown",
    tmp_path / "a",
  ):
    with pytest.raises(data.ImageError, match="write_image: `path` must be"):
      data.write_image(path, image)
  with pytest.raises(data.ImageError):
    data.write_image(tmp_path / "a.jpg", np.zeros((4, 6, 4)))
  for shape in ((4, 6, 2), (0, 6, 3), (6,), (1, 4, 6, 3)):
    with pytest.raises(ValueError, match="`image` must be"):
      data.write_image(tmp_path / "a.png", np.zeros(shape))


# Lists.


def test_list_images(tmp_path):
  for name in ("b.PNG", "a.jpg", "c.txt", ".hidden.png"):
    (tmp_path / name).write_bytes(b"x")
  inner = tmp_path / "inner"
  inner.mkdir()
  (inner / "d.tiff").write_bytes(b"x")

  def names(*arguments, **settings):
    return [p.name for p in data.list_images(*arguments, **settings)]

  assert names(tmp_path) == ["a.jpg", "b.PNG"]
  assert names(str(tmp_path)) == ["a.jpg", "b.PNG"]
  assert names(tmp_path, recursive=True) == ["a.jpg", "b.PNG", "d.tiff"]
  # The order given is kept, a named file is always taken, once.
  assert names([inner, tmp_path / "c.txt", tmp_path, inner / "d.tiff"]) == [
    "d.tiff",
    "c.txt",
    "a.jpg",
    "b.PNG",
  ]


def test_list_images_errors(tmp_path):
  with pytest.raises(data.ImageError, match="must hold images"):
    data.list_images(tmp_path)
  with pytest.raises(data.ImageError, match="must exist, got"):
    data.list_images([tmp_path / "none.png"])
  with pytest.raises(data.ImageError, match="at least one"):
    data.list_images([])

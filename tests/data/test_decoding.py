"""Encoded pictures to arrays, beside `read_image` and Pillow."""

import io
import pathlib
import tempfile

import numpy as np
import PIL.Image
import skimage.data
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data import decoding

_PHOTO = skimage.data.astronaut()[40:100, 130:220]


def _encode(image, kind="PNG", **settings):
  stream = io.BytesIO()
  image.save(stream, kind, **settings)
  return stream.getvalue()


def _exif(orientation):
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  return exif


class DecodingTest(parameterized.TestCase):
  @parameterized.parameters(
    ("RGB", "PNG"),
    ("RGB", "JPEG"),
    ("L", "PNG"),
    ("L", "JPEG"),
    ("1", "PNG"),
    ("P", "PNG"),
    ("CMYK", "JPEG"),
    ("RGBA", "PNG"),
    ("LA", "PNG"),
    ("I;16", "PNG"),
  )
  def test_it_sees_what_read_image_sees(self, mode, kind):
    image = PIL.Image.fromarray(_PHOTO)
    if mode == "I;16":
      grey = np.asarray(image.convert("L"), np.uint16) * 257
      encoded = _encode(PIL.Image.fromarray(grey), kind)
    else:
      image.putalpha(PIL.Image.fromarray(_PHOTO[..., 0]))
      encoded = _encode(image.convert(mode), kind)
    got = decoding.decode_picture(encoded)
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "a")
      path.write_bytes(encoded)
      expected = data.to_uint8(data.read_image(path))
    self.assertEqual((got.dtype, got.shape), (np.uint8, (60, 90, 3)))
    self.assertTrue(got.flags.c_contiguous)
    np.testing.assert_array_equal(got, expected)

  @parameterized.parameters(*range(1, 9), 77)
  def test_pictures_are_turned_upright(self, orientation):
    encoded = _encode(PIL.Image.fromarray(_PHOTO), exif=_exif(orientation))
    got = decoding.decode_picture(encoded)
    expected = {
      2: _PHOTO[:, ::-1],
      3: _PHOTO[::-1, ::-1],
      4: _PHOTO[::-1],
      5: _PHOTO.transpose(1, 0, 2),
      6: np.rot90(_PHOTO, -1),
      7: _PHOTO[::-1, ::-1].transpose(1, 0, 2),
      8: np.rot90(_PHOTO, 1),
    }.get(orientation, _PHOTO)
    np.testing.assert_array_equal(got, expected)
    self.assertEqual(decoding.picture_size(encoded), expected.shape[:2])

  def test_maps_are_numbers_not_colours(self):
    numbers = np.arange(60, dtype=np.uint8).reshape(5, 12) % 7
    image = PIL.Image.fromarray(numbers)
    coloured = PIL.Image.fromarray(numbers)
    coloured.putpalette(list(range(255, 255 - 21, -1)))
    for encoded in (_encode(image), _encode(coloured)):
      got = decoding.decode_map(encoded)
      self.assertEqual(got.dtype, np.uint8)
      np.testing.assert_array_equal(got, numbers)
    got = decoding.decode_map(_encode(PIL.Image.fromarray(numbers > 3)))
    np.testing.assert_array_equal(got, numbers > 3)
    with self.assertRaisesRegex(data.ImageError, "a map of mode 'RGB', not of"):
      decoding.decode_map(_encode(image.convert("RGB")))

  def test_png_loses_nothing(self):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (7, 12, 3), np.uint8)
    encoded = decoding.encode_png(picture)
    np.testing.assert_array_equal(decoding.decode_picture(encoded), picture)
    numbers = rng.integers(0, 256, (7, 12), np.uint8)
    encoded = decoding.encode_png(numbers)
    np.testing.assert_array_equal(decoding.decode_map(encoded), numbers)
    self.assertEqual(decoding.picture_size(encoded), (7, 12))

  @parameterized.product(kind=("PNG", "JPEG", "WEBP"), share=(0.3, 0.6, 0.98))
  def test_truncated_pictures(self, kind, share):
    encoded = _encode(PIL.Image.fromarray(_PHOTO), kind)
    with self.assertRaisesRegex(data.ImageError, "truncated or damaged|format"):
      decoding.decode_picture(encoded[: int(share * len(encoded))])

  def test_what_is_no_picture(self):
    for content, reason in (
      (b"", "^empty$"),
      (b"no picture", "not of a known"),
    ):
      for decode in (decoding.decode_picture, decoding.decode_map):
        with self.assertRaisesRegex(data.ImageError, reason):
          decode(content)
      with self.assertRaises(data.ImageError):
        decoding.picture_size(content)


if __name__ == "__main__":
  absltest.main()

"""Small sets in the layouts of TFDS, written by TFDS itself."""

import io
import pathlib
import tempfile

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from absl.testing import parameterized

_F = tfds.features


def png(pixels, kind="PNG"):
  stream = io.BytesIO()
  PIL.Image.fromarray(pixels).save(stream, kind)
  stream.seek(0)
  return stream


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class Layout(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A set of TFDS in small: the same features, other pictures."""

  VERSION = tfds.core.Version("3.0.1")
  FEATURES = None
  SPLITS = ("train",)  # with the same examples
  url_infos = None

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self, features=_F.FeaturesDict(self.FEATURES)
    )

  def _split_generators(self, dl_manager):
    return {name: self._generate_examples() for name in self.SPLITS}

  def _generate_examples(self):
    yield from enumerate(self.examples())


class Mnist(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "image": _F.Image(shape=(28, 28, 1)),
    "label": _F.ClassLabel(num_classes=10),
  }

  def examples(self):
    for i in range(6):
      yield {"image": png(pixels(i, 28, 28)), "label": i}


class Cifar10(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "id": _F.Text(),
    "image": _F.Image(shape=(32, 32, 3)),
    "label": _F.ClassLabel(names=["airplane", "automobile", "bird"]),
  }

  def examples(self):
    for i in range(3):
      image = png(pixels(i, 32, 32, 3))
      yield {"id": f"train_{i}", "image": image, "label": i}


class Imagenet2012(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "image": _F.Image(encoding_format="jpeg"),
    "label": _F.ClassLabel(names=["n01440764", "n01443537", "n01484850"]),
    "file_name": _F.Text(),
  }

  def examples(self):
    for i in range(3):
      yield {
        "image": png(pixels(i, 20 + 8 * i, 30, 3), "JPEG"),
        "label": i,
        "file_name": f"n0144_{i}.JPEG",
      }


_TRIMAP = np.array([[1, 1, 2], [3, 3, 2]], np.uint8).repeat(7, 1)


class OxfordIiitPet(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "image": _F.Image(encoding_format="jpeg"),
    "label": _F.ClassLabel(names=["Abyssinian", "beagle"]),
    "species": _F.ClassLabel(names=["Cat", "Dog"]),
    "file_name": _F.Text(),
    "segmentation_mask": _F.Image(shape=(None, None, 1), use_colormap=True),
    "head_bbox": _F.BBoxFeature(),
  }

  def examples(self):
    yield {
      "image": png(pixels(0, 2, 21, 3), "JPEG"),
      "label": 1,
      "species": 1,
      "file_name": "beagle_1.jpg",
      "segmentation_mask": png(_TRIMAP),
      "head_bbox": _F.BBox(0.0, 0.0, 0.5, 0.5),
    }


class Coco(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "image": _F.Image(encoding_format="jpeg"),
    "image/filename": _F.Text(),
    "image/id": np.int64,
    "objects": _F.Sequence(
      {
        "id": np.int64,
        "area": np.int64,
        "bbox": _F.BBoxFeature(),
        "label": _F.ClassLabel(num_classes=80),
        "is_crowd": np.bool_,
      }
    ),
  }

  def examples(self):
    boxes = [_F.BBox(0.25, 0.1, 0.75, 0.5), _F.BBox(0.0, 0.0, 1.0, 1.0)]
    for count in (2, 0):
      yield {
        "image": png(pixels(count, 40, 60, 3), "JPEG"),
        "image/filename": "a.jpg",
        "image/id": 7,
        "objects": [
          {
            "id": 90 + i,
            "area": 480 + i,
            "bbox": boxes[i],
            "label": 3 + i,
            "is_crowd": i == 1,
          }
          for i in range(count)
        ],
      }


VOC_BOXES = ((1, 1, 500, 375), (48, 240, 195, 371), (8, 12, 352, 12))


class Voc(Layout, skip_registration=True):
  FEATURES = {  # noqa: RUF012
    "image": _F.Image(encoding_format="jpeg"),
    "objects": _F.Sequence(
      {
        "label": _F.ClassLabel(names=["aeroplane", "bicycle", "bird"]),
        "bbox": _F.BBoxFeature(),
        "is_difficult": np.bool_,
      }
    ),
    "labels": _F.Sequence(_F.ClassLabel(num_classes=20)),
  }

  def examples(self):
    yield {
      "image": png(pixels(0, 375, 500, 3), "JPEG"),
      "objects": [
        {
          "label": i,
          "bbox": _F.BBox(y1 / 375, x1 / 500, y2 / 375, x2 / 500),
          "is_difficult": i == 1,
        }
        for i, (x1, y1, x2, y2) in enumerate(VOC_BOXES)
      ],
      "labels": [4],
    }


class Damaged(Layout, skip_registration=True):
  """The second picture is cut off before it was written."""

  FEATURES = Cifar10.FEATURES

  def examples(self):
    for i in range(3):
      data = png(pixels(i, 32, 32, 3)).getvalue()
      if i == 1:
        data = data[: len(data) // 2]
      yield {"id": str(i), "image": io.BytesIO(data), "label": i}


def with_splits(kind, *names):
  """A layout with other splits than the one named train."""
  return type(kind.__name__, (kind,), {"SPLITS": names}, skip_registration=True)


class LayoutCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())

  def write(self, kind, file_format="array_record"):
    builder = kind(data_dir=self.folder, file_format=file_format)
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)

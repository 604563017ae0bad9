"""Sets prepared elsewhere: their layouts in our names, and damaged records."""

import numpy as np
from absl.testing import absltest, parameterized

from tests.data import tfds_layouts
from vision_jax import data


class LayoutsTest(tfds_layouts.LayoutCase):
  def _by_label(self, source):
    return sorted(source, key=lambda example: int(example["label"]))

  def test_grey_digits_become_three_equal_channels(self):
    source = data.read_prepared(self.write(tfds_layouts.Mnist), "train")
    self.assertEqual(source.class_names, tuple("0123456789"))
    self.assertLen(source, 6)
    for i, example in enumerate(self._by_label(source)):
      self.assertEqual(set(example), {"image", "label", "index"})
      self.assertEqual(example["image"].shape, (28, 28, 3))
      expected = tfds_layouts.pixels(i, 28, 28)[..., None].repeat(3, -1)
      np.testing.assert_array_equal(example["image"], expected)
      self.assertEqual(example["label"].dtype, np.int32)

  def test_cifar(self):
    source = data.read_prepared(self.write(tfds_layouts.Cifar10), "train")
    self.assertEqual(source.class_names, ("airplane", "automobile", "bird"))
    for i, example in enumerate(self._by_label(source)):
      self.assertEqual(set(example), {"image", "label", "index"})
      np.testing.assert_array_equal(
        example["image"], tfds_layouts.pixels(i, 32, 32, 3)
      )

  def test_pets(self):
    source = data.read_prepared(self.write(tfds_layouts.OxfordIiitPet), "train")
    example = source[0]
    self.assertEqual(source.class_names, ("Abyssinian", "beagle"))
    self.assertEqual(set(example), {"image", "label", "semantic", "index"})
    expected = np.array([[1, 1, 0], [255, 255, 0]], np.uint8).repeat(7, 1)
    np.testing.assert_array_equal(example["semantic"], expected)
    # What was not asked for is not touched, nor needed by the correction.
    source = data.read_prepared(self.folder, "train", features=("label",))
    self.assertEqual(set(source[0]), {"label", "index"})

  def test_normalised_boxes_become_pixels(self):
    source = data.read_prepared(self.write(tfds_layouts.Coco), "train")
    self.assertLen(source.class_names, 80)
    first, second = sorted(source, key=lambda example: -len(example["boxes"]))
    np.testing.assert_allclose(
      first["boxes"], [[6, 10, 30, 30], [0, 0, 60, 40]], rtol=1e-6
    )
    self.assertEqual(first["labels"].tolist(), [3, 4])
    self.assertEqual(first["crowd"].tolist(), [False, True])
    self.assertEqual(first["area"].tolist(), [480, 481])
    for example, count in ((first, 2), (second, 0)):
      self.assertEqual(example["boxes"].shape, (count, 4))
      for name, dtype in (
        ("boxes", np.float32),
        ("labels", np.int32),
        ("crowd", np.bool_),
        ("area", np.float32),
      ):
        self.assertEqual(example[name].dtype, dtype, name)
        self.assertLen(example[name], count)

  def test_boxes_without_the_image(self):
    path = self.write(tfds_layouts.Coco)
    source = data.read_prepared(path, "train", features=("boxes",))
    boxes = max((example["boxes"] for example in source), key=len)
    np.testing.assert_allclose(boxes[1], [0, 0, 60, 40], rtol=1e-6)

  def test_voc_gets_its_half_open_pixels(self):
    source = data.read_prepared(
      self.write(tfds_layouts.Voc),
      "train",
      rename={"objects/is_difficult": "difficult"},
    )
    expected = [
      (x1 - 1, y1 - 1, x2, y2) for x1, y1, x2, y2 in tfds_layouts.VOC_BOXES
    ]
    example = source[0]
    np.testing.assert_array_equal(example["boxes"], np.float32(expected))
    # Not the label of the picture as a whole.
    self.assertEqual(example["labels"].tolist(), [0, 1, 2])
    self.assertEqual(source.class_names, ("aeroplane", "bicycle", "bird"))
    self.assertEqual(example["difficult"].tolist(), [False, True, False])
    self.assertEqual(example["difficult"].dtype, np.bool_)

  def test_further_features_by_name(self):
    path = self.write(tfds_layouts.OxfordIiitPet)
    source = data.read_prepared(
      path, "train", rename={"species": "species", "file_name": "file"}
    )
    self.assertEqual(source[0]["species"], 1)
    self.assertEqual(source[0]["file"], "beagle_1.jpg")
    with self.assertRaisesRegex(
      KeyError, "`rename` must name features of .*, got breed; it has file_name"
    ):
      data.read_prepared(path, "train", rename={"breed": "label"})


class DamageTest(tfds_layouts.LayoutCase):
  def test_a_truncated_picture_is_named_and_the_rest_is_read(self):
    path = self.write(tfds_layouts.Damaged)
    source = data.read_prepared(path, "train")
    good, reasons = [], []
    for place in range(3):
      try:
        good.append(int(source[place]["label"]))
      except data.DataError as error:
        reasons.append(str(error))
    self.assertEqual(sorted(good), [0, 2])
    self.assertRegex(
      reasons[0],
      r"read_prepared: example \d of split 'train' of damaged is damaged"
      r" \('.*damaged/3.0.1': truncated or damaged: .*\);",
    )
    self.assertLen(reasons, 1)
    # Its label is not.
    source = data.read_prepared(path, "train", features=("label",))
    self.assertEqual(sorted(int(e["label"]) for e in source), [0, 1, 2])

  def test_a_pipeline_stops_at_it_or_goes_on_without_it(self):
    source = data.read_prepared(self.write(tfds_layouts.Damaged), "train")
    labels = data.read_prepared(self.folder, "train", features=("label",))
    bad = [int(example["label"]) for example in labels].index(1)
    settings = {"batch_size": 2, "seed": 0, "epochs": 2, "process_count": 1}
    message = (
      rf"make_pipeline: example {bad} of 'damaged', split 'train' must be"
      rf" readable, got: .*damaged/3.0.1': truncated or damaged"
    )
    with self.assertRaisesRegex(data.DataError, message):
      list(data.make_pipeline(source, **settings))
    batches = iter(data.make_pipeline(source, on_error="skip", **settings))
    rows = [
      (int(index), bool(valid), int(label), image.any())
      for batch in batches
      for index, valid, label, image in zip(
        *(batch[n] for n in ("index", "valid", "label", "image")), strict=True
      )
    ]
    # Each of the two epochs has a row of zeros in its place.
    self.assertEqual(list(batches.skipped), [bad])
    self.assertLen(rows, 6)
    read = [row for row in rows if row[1]]
    self.assertEqual(sorted(label for _, _, label, _ in read), [0, 0, 2, 2])
    self.assertTrue(all(drawn for *_, drawn in read))
    left = [row for row in rows if not row[1]]
    self.assertLen(left, 2)
    self.assertFalse(any(drawn for *_, drawn in left))

  def _damage(self, change):
    path = self.write(tfds_layouts.Cifar10)
    file = next(path.glob("*array_record*"))
    file.write_bytes(change(bytearray(file.read_bytes())))
    source = data.read_prepared(path, "train")
    self.assertLen(source, 3)
    return source

  def test_flipped_bits(self):
    def flip(content):
      content[20_000:20_010] = bytes(b ^ 255 for b in content[20_000:20_010])
      content[3000:3010] = bytes(b ^ 255 for b in content[3000:3010])
      return content

    source = self._damage(flip)
    with self.assertRaisesRegex(
      data.DataError, "of cifar10 is damaged .* hash mismatch"
    ):
      list(source)

  @parameterized.parameters(0, 1000, 40_000, 80_000)
  def test_a_file_that_is_cut_off(self, length):
    source = self._damage(lambda content: content[:length])
    with self.assertRaisesRegex(data.DataError, "example 0 .* is damaged"):
      source[0]


if __name__ == "__main__":
  absltest.main()

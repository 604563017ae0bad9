"""The prepared generated sets hold what their generators draw, bit by bit."""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data import builders
from vision_jax.data.generated import instances

_ROOT = pathlib.Path(data.__file__).parents[2]


def _texture(seed, index):
  image, label = data.textures(seed, index)
  return {"image": image, "label": np.int32(label)}


def _digit(seed, index):
  image, label = data.digits(seed, index)
  # Pictures are read with three channels.
  return {"image": np.repeat(image, 3, -1), "label": np.int32(label)}


def _pair(seed, index):
  number, place = divmod(index, 7)
  pair = data.homography_pair(
    data.EVALUATION[place], number, seed=seed, size=(240, 320)
  )
  return {
    "image0": data.to_uint8(pair.image0),
    "image1": data.to_uint8(pair.image1),
    "homography_0to1": pair.homography_0to1,
    "name": pair.name,
  }


def _instance(kind):
  def draw(seed, index):
    records = data.instance_set(seed=seed, **data.INSTANCE_PRESETS["tiny"])
    first = next(i for i, r in enumerate(records) if r.kind == kind)
    return data.draw_instance_image(records[first + index])

  return draw


# Set, configuration, split, examples, generator, its seed, its first index.
_SETS = (
  ("generated_textures", "64", "train", 21, _texture, 0, 0),
  ("generated_textures", "64", "test", 2, _texture, 1, 0),
  ("generated_digits", "28", "train", 12, _digit, 0, 0),
  ("generated_digits", "28", "validation", 3, _digit, 2, 0),
  (
    "generated_shapes",
    "64",
    "train",
    6,
    lambda s, i: data.shapes(s, i, size=64),
    0,
    0,
  ),
  (
    "generated_shapes",
    "64",
    "validation",
    2,
    lambda s, i: data.shapes(s, i, size=64),
    2,
    0,
  ),
  ("stick_pose", "single_64", "test", 3, data.stick_pose_single, 0, 51_000),
  (
    "stick_pose",
    "multi_256",
    "validation",
    6,
    data.stick_pose_multi,
    0,
    50_000,
  ),
  ("stick_pose", "video_256", "train", 1, data.stick_pose_video, 0, 0),
  ("generated_instances", "tiny", "database", 3, _instance("database"), 0, 0),
  (
    "generated_instances",
    "tiny",
    "distractor",
    1,
    _instance("distractor"),
    0,
    0,
  ),
  ("generated_instances", "tiny", "query", 2, _instance("query"), 0, 0),
  (
    "generated_instances",
    "tiny_validation",
    "query",
    2,
    _instance("query"),
    1,
    0,
  ),
  ("homography_pairs", "240x320", "test", 8, _pair, 0, 0),
  ("homography_pairs", "240x320", "validation", 1, _pair, 1, 0),
)


class PreparedSetsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    wanted = {}
    for name, config, split, count, *_ in _SETS:
      wanted.setdefault((name, config), {})[split] = count
    cls.paths = {
      (name, config): data.prepare_generated(
        name, cls.folder, config=config, num_examples=counts, progress=False
      )
      for (name, config), counts in wanted.items()
    }

  def _assert_same(self, got, expected):
    """Names, types and every number."""
    got = dict(got)
    polygons = got.pop("polygons", None)
    wanted = {k: v for k, v in expected.items() if k != "polygons"}
    self.assertEqual(set(got), set(wanted) | {"index"})
    self.assertEqual(polygons is None, "polygons" not in expected)
    for name, value in wanted.items():
      np.testing.assert_array_equal(got[name], value, err_msg=name)
      if not isinstance(value, str):
        self.assertEqual(got[name].dtype, value.dtype, name)
    for ours, theirs in zip(
      polygons or (), expected.get("polygons", ()), strict=True
    ):
      for ring, other in zip(ours, theirs, strict=True):
        self.assertEqual(ring.dtype, np.float32)
        np.testing.assert_array_equal(ring, other)

  @parameterized.parameters(*_SETS)
  def test_every_example_is_what_the_generator_draws(
    self, name, config, split, count, draw, seed, first
  ):
    source = data.read_prepared(self.paths[name, config], split)
    self.assertLen(source, count)
    self.assertEqual(source.name, name)
    for place, example in enumerate(source):
      self.assertEqual(example["index"], place)
      self._assert_same(example, draw(seed, first + place))

  def test_the_classes_are_kept(self):
    for name, config, split, names in (
      ("generated_textures", "64", "train", data.TEXTURE_NAMES),
      ("generated_digits", "28", "train", "0123456789"),
      ("generated_shapes", "64", "train", data.SHAPE_NAMES),
      ("stick_pose", "single_64", "test", ("person",)),
      ("homography_pairs", "240x320", "test", ()),
      ("generated_instances", "tiny", "query", ()),
    ):
      source = data.read_prepared(self.paths[name, config], split)
      self.assertEqual(source.class_names, tuple(names), name)
    source = data.read_prepared(
      self.paths["stick_pose", "multi_256"], "validation"
    )
    self.assertEqual(source.keypoint_names, data.STICK_JOINTS)
    self.assertEqual(source.skeleton, tuple(data.STICK_LIMBS))

  def test_parts_of_a_split_are_disjoint_and_complete(self):
    path = self.paths["generated_textures", "64"]
    whole = [e["image"] for e in data.read_prepared(path, "train")]
    for cut in ("33%", "50%", "7"):
      first = data.read_prepared(path, f"train[:{cut}]")
      second = data.read_prepared(path, f"train[{cut}:]")
      self.assertGreater(min(len(first), len(second)), 0)
      images = [e["image"] for e in (*first, *second)]
      np.testing.assert_array_equal(images, whole)
    both = data.read_prepared(path, "train+test")
    self.assertLen(both, 23)
    np.testing.assert_array_equal(both[21]["image"], data.textures(1, 0)[0])

  def test_a_source_travels_to_a_worker(self):
    source = data.read_prepared(self.paths["generated_shapes", "64"], "train")
    sent = pickle.dumps(source)
    self.assertLess(len(sent), 20_000)
    self._assert_same(pickle.loads(sent)[2], data.shapes(0, 2, size=64))

  def test_only_what_is_wanted_is_decoded(self):
    path = self.paths["generated_shapes", "64"]
    source = data.read_prepared(path, "train", features=("masks", "labels"))
    expected = data.shapes(0, 1, size=64)
    self.assertEqual(set(source[1]), {"masks", "labels", "index"})
    np.testing.assert_array_equal(source[1]["masks"], expected["masks"])
    with self.assertRaisesRegex(
      KeyError, "`features` must be features of generated_shapes, got depth"
    ):
      data.read_prepared(path, "train", features=("image", "depth"))

  def test_a_place_outside_is_an_index_error(self):
    source = data.read_prepared(self.paths["generated_shapes", "64"], "train")
    with self.assertRaises(IndexError):
      source[6]
    with self.assertRaises(IndexError):
      source[-7]
    self.assertEqual(source[-1]["index"], 5)

  def test_another_version_of_the_generator_is_refused(self):
    path = self.paths["stick_pose", "single_64"]
    old = pathlib.Path(self.folder, "old", "0.9.0")
    old.mkdir(parents=True)
    for file in path.iterdir():
      old.joinpath(file.name).write_bytes(file.read_bytes())
    info = old / "dataset_info.json"
    info.write_text(info.read_text().replace('"1.0.0"', '"0.9.0"'))
    with self.assertRaisesRegex(
      data.DataError, "stick_pose 0.9.0 .* in place of 1.0.0; prepare the set"
    ):
      data.read_prepared(old, "test")


class BuildersTest(parameterized.TestCase):
  def test_splits_do_not_overlap(self):
    for builder in builders.BUILDERS.values():
      for config in builder.BUILDER_CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
          made = builder(data_dir=folder, config=config.name)
        spans = [
          (part.seed, part.first, part.first + part.size)
          for part in made._parts().values()
        ]
        if builder is builders.GeneratedInstances:
          continue  # its splits are of three kinds
        for i, (seed, first, stop) in enumerate(spans):
          for other, start, end in spans[:i]:
            self.assertTrue(seed != other or stop <= start or end <= first)

  def test_default_sizes(self):
    with tempfile.TemporaryDirectory() as folder:
      made = builders.GeneratedTextures(data_dir=folder)
      self.assertEqual(
        made.num_examples, {"train": 20_000, "validation": 2_000, "test": 5_000}
      )
      made = builders.StickPose(data_dir=folder)
      self.assertEqual(
        made.num_examples, {"train": 50_000, "validation": 1_000, "test": 2_000}
      )
      made = builders.GeneratedInstances(data_dir=folder)
      records = data.instance_set()
      self.assertEqual(sum(made.num_examples.values()), len(records))
      made = builders.HomographyPairs(data_dir=folder)
      self.assertEqual(made.num_examples, {"test": 70, "validation": 70})

  def test_the_presets_of_instances_are_the_configurations(self):
    configs = {
      c.name: c.size
      for c in builders.GeneratedInstances.BUILDER_CONFIGS
      if not c.name.endswith("_validation")
    }
    sizes = {
      name: data.instance_set(**preset)[0].size
      for name, preset in instances.INSTANCE_PRESETS.items()
    }
    self.assertEqual(configs, {k: (v, v) for k, v in sizes.items()})


class WithoutTensorFlowTest(absltest.TestCase):
  def test_prepares_and_reads_where_there_is_no_tensorflow(self):
    # A finder that does not see it: TFDS takes a name in sys.modules, even
    # one that is None, for the library itself.
    program = textwrap.dedent("""
      import sys, tempfile
      from importlib.machinery import PathFinder

      class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
          if name.partition(".")[0] in ("tensorflow", "tf_nightly"):
            return None
          return super().find_spec(name, path, target)

      sys.meta_path[:] = [
        Finder if f is PathFinder else f for f in sys.meta_path
      ]
      try:
        import tensorflow
      except ModuleNotFoundError:
        print("HIDDEN")
      import numpy as np
      from vision_jax import data

      with tempfile.TemporaryDirectory() as folder:
        path = data.prepare_generated(
          "generated_shapes", folder, config="64", num_examples={"train": 4},
          progress=False)
        first = data.read_prepared(path, "train[:50%]")
        second = data.read_prepared(path, "train[50%:]")
        for place, example in enumerate((*first, *second)):
          expected = data.shapes(0, place, size=64)
          for name in ("image", "boxes", "labels", "masks"):
            np.testing.assert_array_equal(example[name], expected[name])
        print(len(first), len(second))
      print(sorted({"tensorflow", "torch"} & set(sys.modules)))
    """)
    done = subprocess.run(
      [sys.executable, "-c", program],
      env={**os.environ, "PYTHONPATH": str(_ROOT)},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(done.stdout.split("\n"), ["HIDDEN", "2 2", "[]", ""], done)


if __name__ == "__main__":
  absltest.main()

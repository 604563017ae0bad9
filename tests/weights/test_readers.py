"""Tests of the readers of foreign files; the files are made without torch."""

import io
import pickle
import zipfile

import ml_dtypes
import numpy as np
import safetensors.numpy
from absl.testing import absltest, parameterized

from tests.weights import file_case
from tests.weights import torch_files as tf
from vision_jax import weights


def _values(dtype):
  dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
  values = np.arange(24) % 2 if dtype.kind == "b" else np.arange(24) - 3
  return values.astype(dtype)


class ZipAndLegacyTest(file_case.FileCase):
  def both(self, tensors, storages):
    """Reads the same content in both formats and checks they agree."""
    content = {name: tf.tensor(**kwargs) for name, kwargs in tensors.items()}
    new = weights.read_state_dict(
      self.write(
        tf.zip_file(content, {k: v.tobytes() for k, v in storages.items()})
      )
    )
    content = {
      name: tf.tensor(**kwargs, legacy=True) for name, kwargs in tensors.items()
    }
    old = weights.read_state_dict(
      self.write(
        tf.legacy_file(
          content,
          {k: (v.size, v.tobytes()) for k, v in storages.items()},
        )
      )
    )
    self.assertEqual(list(new), list(old))
    for name in new:
      self.assertEqual(new[name].dtype, old[name].dtype)
      np.testing.assert_array_equal(new[name], old[name])
    return new

  @parameterized.parameters(*tf.KINDS)
  def test_types(self, dtype):
    values = _values(dtype)
    tensors = {
      "a.weight": {"key": "7", "dtype": dtype, "numel": 24, "shape": (2, 3, 4)}
    }
    got = self.both(tensors, {"7": values})["a.weight"]
    self.assertEqual(got.dtype, values.dtype)
    np.testing.assert_array_equal(got, values.reshape(2, 3, 4))

  def test_views_with_strides_and_offset_share_a_storage(self):
    values = _values("float32")
    common = {"key": "0", "dtype": "float32", "numel": 24}
    got = self.both(
      {
        "transposed": {**common, "shape": (4, 6), "strides": (1, 4)},
        "slice": {**common, "shape": (3, 2), "strides": (6, 2), "offset": 5},
        "expanded": {**common, "shape": (5, 2), "strides": (0, 1)},
        "scalar": {**common, "shape": (), "offset": 23},
        "empty": {**common, "shape": (0, 3), "offset": 24},
      },
      {"0": values},
    )
    np.testing.assert_array_equal(got["transposed"], values.reshape(6, 4).T)
    np.testing.assert_array_equal(
      got["slice"], values[5 + np.add.outer(6 * np.arange(3), [0, 2])]
    )
    np.testing.assert_array_equal(got["expanded"], [values[:2]] * 5)
    self.assertEqual(got["scalar"], values[23])
    self.assertEqual(got["empty"].shape, (0, 3))

  def test_oldest_files_hold_parameters_and_views_of_storages(self):
    values = _values("float32")
    plain = tf.tensor(
      "9", "float32", 24, (4, 6), legacy=True, rebuild="_rebuild_tensor"
    )
    view = tf.tensor(
      "9", "float32", 24, (3,), legacy=True, view=("10", 4, 6), offset=1
    )
    parameter = tf.build(
      tf.call(tf.glob("torch.nn.parameter", "Parameter"), plain),
      (True, False, {}),
    )
    rebuilt = tf.call(
      tf.glob("torch._utils", "_rebuild_parameter"), plain, True, {}
    )
    content = {"parameter": parameter, "rebuilt": rebuilt, "view": view}
    raw = tf.legacy_file(content, {"9": (24, values.tobytes())})
    got = weights.read_state_dict(self.write(raw))
    np.testing.assert_array_equal(got["parameter"], values.reshape(4, 6))
    np.testing.assert_array_equal(got["rebuilt"], values.reshape(4, 6))
    np.testing.assert_array_equal(got["view"], values[5:8])

  def test_big_endian_zip(self):
    values = _values("float32")
    raw = tf.zip_file(
      {"a": tf.tensor("0", "float32", 24, (24,))},
      {"0": values.astype(">f4").tobytes()},
      extra={"byteorder": b"big"},
    )
    got = weights.read_state_dict(self.write(raw))["a"]
    np.testing.assert_array_equal(got, values)

  @parameterized.parameters("state_dict", "model")
  def test_checkpoint_with_wrappers_and_other_entries(self, entry):
    values = _values("float32")
    ordered = tf.Raw(
      tf.call(tf.glob("collections", "OrderedDict"))
      + b"("
      + tf.op("module.fc.weight")
      + tf.tensor("0", "float32", 24, (4, 6))
      + tf.op("module.fc.bias")
      + tf.tensor("0", "float32", 24, (4,))
      + b"u"
    )
    ordered = tf.build(ordered, {"_metadata": {"": {"version": 1}}})
    dtype = tf.build(
      tf.call(tf.glob("numpy", "dtype"), "f8", False, True),
      (3, "<", None, None, None, 2**31 - 1, 2**31 - 1, 0),
    )
    eight = tf.call(
      tf.glob("_codecs", "encode"),
      np.float64(1.5).tobytes().decode("latin1"),
      "latin1",
    )
    scalar = tf.call(tf.glob("numpy.core.multiarray", "scalar"), dtype, eight)
    content = {"epoch": 3, "best": scalar, entry: ordered, "optimizer": [1]}
    raw = tf.zip_file(content, {"0": values.tobytes()})
    got = weights.read_state_dict(self.write(raw))
    self.assertEqual(list(got), ["fc.weight", "fc.bias"])
    np.testing.assert_array_equal(got["fc.weight"], values.reshape(4, 6))

  def test_numpy_array_inside_a_pickle(self):
    class Protocol2(pickle.Pickler):
      pass

    out = io.BytesIO()
    array = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    Protocol2(out, protocol=2).dump({"a": array, "b": np.float32(2.5)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
      file.writestr("x/data.pkl", out.getvalue())
    got = weights.read_state_dict(self.write(archive.getvalue()))
    np.testing.assert_array_equal(got["a"], np.arange(6).reshape(2, 3))
    self.assertEqual(got["b"], 2.5)


class OtherFormatsTest(file_case.FileCase):
  def test_safetensors(self):
    path = self.folder() / "any_name.bin"
    arrays = {
      "a": _values("float16").reshape(2, 12),
      "b": _values("bfloat16"),
      "n": np.asarray(3, np.int64),
    }
    safetensors.numpy.save_file(arrays, path, metadata={"model": "m"})
    got = weights.read_state_dict(path)
    self.assertEqual(set(got), set(arrays))
    for name, array in arrays.items():
      self.assertEqual(got[name].dtype, array.dtype)
      np.testing.assert_array_equal(got[name], array)
    self.assertEqual(weights.read_metadata(path), {"model": "m"})

  def test_npz_without_pickles(self):
    path = self.folder() / "a.npz"
    np.savez(path, a=np.arange(3))
    np.testing.assert_array_equal(weights.read_state_dict(path)["a"], [0, 1, 2])
    np.savez(path, a=np.array([object()], dtype=object))
    with self.assertRaisesRegex(weights.WeightsError, "not a readable"):
      weights.read_state_dict(path)

  def test_metadata_of_other_files(self):
    path = self.write(b"PK\x03\x04 something", "a.safetensors")
    with self.assertRaisesRegex(weights.WeightsError, "not a safetensors"):
      weights.read_metadata(path)


class BrokenFilesTest(file_case.FileCase):
  def whole(self):
    values = _values("float32")
    new = tf.zip_file(
      {"a": tf.tensor("0", "float32", 24, (24,))}, {"0": values.tobytes()}
    )
    old = tf.legacy_file(
      {"a": tf.tensor("0", "float32", 24, (24,), legacy=True)},
      {"0": (24, values.tobytes())},
    )
    return {
      "zip": new,
      "legacy": old,
      "safetensors": safetensors.numpy.save({"a": values}),
    }

  @parameterized.parameters("zip", "legacy", "safetensors")
  def test_every_truncation_is_an_error(self, kind):
    raw = self.whole()[kind]
    path = self.write(raw)
    weights.read_state_dict(path)
    for length in range(len(raw)):
      path.write_bytes(raw[:length])
      with self.assertRaises(weights.WeightsError) as context:
        weights.read_state_dict(path)
      self.assertIn(str(path), str(context.exception))

  @parameterized.parameters("zip", "legacy", "safetensors")
  def test_changed_bytes_never_raise_anything_else(self, kind):
    raw = self.whole()[kind]
    path = self.write(raw)
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(600):
      changed = bytearray(raw)
      for position in rng.integers(0, len(raw), size=rng.integers(1, 4)):
        changed[position] = rng.integers(256)
      path.write_bytes(changed)
      try:
        weights.read_state_dict(path)
      except weights.WeightsError:
        errors += 1
    self.assertGreater(errors, 100)

  def test_missing_empty_folder_and_other_kinds(self):
    folder = self.folder()
    with self.assertRaisesRegex(FileNotFoundError, "no such file"):
      weights.read_state_dict(folder / "none.pth")
    with self.assertRaises(weights.WeightsNotFoundError):
      weights.read_metadata(folder / "none.pth")
    with self.assertRaisesRegex(weights.WeightsError, "is a folder"):
      weights.read_state_dict(folder)
    self.fails(b"", "is empty")
    self.fails(b"<!DOCTYPE html><html>" * 9, "web page")
    self.fails(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")
    self.fails(b"\x89PNG\r\n\x1a\n" + b"0" * 99, "is not a file of weights")
    self.fails(b"\x80\x02", "pickle that torch.save did not write")
    self.fails(pickle.dumps({"a": 1}), "pickle that torch.save did not write")
    self.fails(b"abc", "truncated")

  def test_zip_files_of_others(self):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
      file.writestr("readme.txt", "hello")
    self.fails(out.getvalue(), "no data.pkl")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
      file.writestr("x/data.pkl", tf.pickled({}))
    self.fails(out.getvalue(), "compressed")

  def test_damaged_data_is_noticed(self):
    raw = bytearray(self.whole()["zip"])
    data = _values("float32").tobytes()
    raw[raw.find(data) + 9] ^= 1
    self.fails(bytes(raw), "damaged")

  def test_content_that_is_no_state_dict(self):
    self.fails(tf.zip_file([1, 2], {}), "holds a list")
    self.fails(tf.zip_file({}, {}), "holds no arrays")
    self.fails(tf.zip_file({"a": "text"}, {}), "'a' is a str")

  @parameterized.parameters(
    ({"shape": (5, 5)}, "reaches element 24"),
    ({"shape": (2,), "strides": (24,)}, "reaches element 24"),
    ({"shape": (4,), "offset": 21}, "reaches element 24"),
    ({"shape": (4,), "strides": (1, 1)}, "strides do not match"),
    ({"shape": (2,), "strides": (-1,), "offset": 3}, "malformed"),
    ({"shape": (2**40, 2**40)}, "reaches element"),
  )
  def test_views_out_of_bounds(self, kwargs, message):
    content = {"a": tf.tensor("0", "float32", 24, **kwargs)}
    self.fails(tf.zip_file(content, {"0": b"\0" * 96}), message)

  def test_storages_of_the_wrong_size(self):
    content = {"a": tf.tensor("0", "float32", 24, (24,))}
    self.fails(tf.zip_file(content, {"0": b"\0" * 95}), "has 95 bytes")
    self.fails(tf.zip_file(content, {}), "is missing")
    content = {
      "a": tf.tensor("0", "float32", 24, (24,)),
      "b": tf.tensor("0", "float64", 24, (24,)),
    }
    self.fails(tf.zip_file(content, {"0": b"\0" * 96}), "two types")
    content = {"a": tf.tensor("0", "float32", 24, (24,), legacy=True)}
    self.fails(
      tf.legacy_file(content, {"0": (25, b"\0" * 100)}), "has 25 elements"
    )


if __name__ == "__main__":
  absltest.main()

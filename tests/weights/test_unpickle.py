"""Tests that a pickle can build arrays and do nothing else."""

import io
import os
import pickle
import zipfile

from absl.testing import absltest, parameterized

from tests.weights import file_case
from tests.weights import torch_files as tf


class Attack:
  """Runs a command when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f"touch {self.path}",)


class MaliciousPickleTest(file_case.FileCase):
  def sentinel(self):
    return self.folder() / "code_was_run"

  def test_the_attack_works_on_plain_pickle(self):
    sentinel = self.sentinel()
    pickle.loads(pickle.dumps(Attack(sentinel)))
    self.assertTrue(sentinel.exists())

  @parameterized.parameters(0, 1, 2, 3, 4, 5)
  def test_code_is_refused_and_not_run(self, protocol):
    sentinel = self.sentinel()
    attack = pickle.dumps({"a": Attack(sentinel)}, protocol=protocol)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
      file.writestr("archive/data.pkl", attack)
    text = self.fails(archive.getvalue(), r"posix\.system|nt\.system")
    self.assertIn("refused", text)
    legacy = tf.legacy_file({}, {})
    head = legacy[: legacy.index(tf.pickled({}))]
    self.fails(head + attack + tf.pickled([]), r"posix\.system|nt\.system")
    self.assertFalse(sentinel.exists())

  def test_code_in_any_pickle_of_the_old_format(self):
    sentinel = self.sentinel()
    attack = pickle.dumps(Attack(sentinel), protocol=2)
    magic, version = tf.pickled(tf.MAGIC), tf.pickled(1001)
    info = tf.pickled({})
    for raw in (
      magic + attack,
      magic + version + attack,
      magic + version + info + tf.pickled({}) + attack,
    ):
      self.fails(raw, "refused")
    self.assertFalse(sentinel.exists())

  @parameterized.parameters(
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("os", "system"),
    ("subprocess", "Popen"),
    ("torch", "load"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch.nn.modules.linear", "Linear"),
    ("numpy", "load"),
    ("numpy.core.multiarray", "fromfile"),
    ("collections", "UserDict"),
    ("argparse", "Namespace"),
    ("collections.abc", "os.system"),
  )
  def test_every_other_global_is_named(self, module, name):
    content = {"a": tf.call(tf.glob(module, name), "1")}
    text = self.fails(tf.zip_file(content, {}), "refused")
    self.assertIn(f"{module}.{name}", text)

  def test_nothing_of_the_reader_can_be_changed(self):
    rebuild = tf.glob("torch._utils", "_rebuild_tensor_v2")
    for state in ({"a": 1}, (None, {"__defaults__": (1,)}), 1):
      content = {"a": tf.build(rebuild, state)}
      self.fails(tf.zip_file(content, {}), "not a readable")
      ordered = tf.glob("collections", "OrderedDict")
      self.fails(
        tf.zip_file({"a": tf.build(ordered, state)}, {}), "not a readable"
      )

  def test_whole_modules_and_endless_content(self):
    module = tf.Raw(tf.op(("module", "Net", "net.py", "code")) + b"Q")
    self.fails(tf.zip_file(module, {}), "state_dict")
    endless = tf.Raw(b"}q\x00(" + tf.op("state_dict") + b"h\x00u")
    self.fails(tf.zip_file(endless, {}), "not a readable")
    deep = tf.Raw(b"]" * 100_000)
    self.fails(tf.zip_file(deep, {}), "not a readable|holds a list")


if __name__ == "__main__":
  absltest.main()

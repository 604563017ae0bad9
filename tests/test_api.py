"""The public surface: documented, typed, keyword-only, and every example runs.

A public function or class is what a subpackage lists in `__all__`.
"""

import doctest
import importlib
import inspect
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SUBPACKAGES = (
  "ops",
  "nn",
  "nn.backbones",
  "systems",
  "systems.dasr",
  "systems.deeplab",
  "systems.elf",
  "systems.pointrend",
  "systems.rcnn",
  "systems.registration",
  "systems.retrieval",
  "systems.semantic_fpn",
  "systems.stn",
  "systems.yolo",
  "weights",
  "data",
  "metrics",
  "train",
  "viz",
  "bench",
)
SURFACE = pathlib.Path(__file__).parent / "api_surface.json"
# A state is built from its parts, in the order of its fields; a loss takes its
# arguments in the order of `train.make_step`.
KEY_LAST = {"train.create_state", "systems.rcnn.loss"}
NO_SECTIONS = re.compile(r"nn\.backbones\.\w+$")  # constructors: one line


def _constructors():
  """Those that a system lists by name: one line each, like the backbones'."""
  for package in SUBPACKAGES:
    module = importlib.import_module(f"vision_jax.{package}")
    for name in getattr(module, "MODELS", ()):
      yield f"{package}.{name}"


def _surface():
  surface = {}
  for name in SUBPACKAGES:
    module = importlib.import_module(f"vision_jax.{name}")
    surface[name] = sorted(module.__all__)
  return surface


def _members(kind):
  for package, names in _surface().items():
    module = importlib.import_module(f"vision_jax.{package}")
    for name in names:
      value = getattr(module, name)
      if kind(value):
        yield pytest.param(value, f"{package}.{name}", id=f"{package}.{name}")


def test_all_is_sorted_complete_and_resolves():
  for package in SUBPACKAGES:
    module = importlib.import_module(f"vision_jax.{package}")
    assert len(set(module.__all__)) == len(module.__all__), package
    for name in module.__all__:
      assert hasattr(module, name), f"{package}.{name}"


def test_nothing_public_has_vanished():
  """Removing a name is a decision: write it into CHANGELOG and the file."""
  recorded = json.loads(SURFACE.read_text())
  current = _surface()
  for package, names in recorded.items():
    gone = set(names) - set(current.get(package, ()))
    assert not gone, f"{package} lost {sorted(gone)}"
  assert recorded == current, (
    "new public names: run `python -m tests.test_api` to record them"
  )


@pytest.mark.parametrize(("function", "name"), _members(inspect.isfunction))
def test_function_is_documented_and_typed(function, name):
  doc = inspect.getdoc(function) or ""
  assert doc, f"{name} has no docstring"
  signature = inspect.signature(function)
  for parameter in signature.parameters.values():
    assert parameter.annotation is not parameter.empty, (
      f"{name}: `{parameter.name}` has no type"
    )
    if parameter.kind is parameter.KEYWORD_ONLY:
      continue
    # A positional argument with a default is data that may be left out, not a
    # setting: None or, for network constructors, the number of classes.
    if parameter.default is not parameter.empty:
      assert parameter.default is None or parameter.name == "num_classes", (
        f"{name}: `{parameter.name}` has a default and must be keyword-only"
      )
  names = list(signature.parameters)
  if not name.startswith("data."):  # there it is a NumPy generator
    assert "rng" not in names, f"{name}: random keys are called `key`"
  if "key" in names:
    first = names.index("key") == 0 or name in KEY_LAST
    assert first, f"{name}: the key comes first"
  if NO_SECTIONS.match(name) or name in set(_constructors()):
    return
  if names:
    assert "Args:" in doc, f"{name} documents no arguments"
    for argument in names:
      assert re.search(rf"^\s+\*{{0,2}}{argument}:", doc, re.M), (
        f"{name}: `{argument}` is not documented"
      )
  if signature.return_annotation not in (None, "None"):
    assert "Returns:" in doc or "Yields:" in doc, f"{name}: no Returns"
  assert "Example:" in doc, f"{name}: no example"
  assert "Source:" in doc, f"{name}: no source"


@pytest.mark.parametrize(("cls", "name"), _members(inspect.isclass))
def test_class_is_documented(cls, name):
  assert inspect.getdoc(cls), f"{name} has no docstring"
  fields = getattr(cls, "_fields", None)
  if fields is None and hasattr(cls, "__dataclass_fields__"):
    fields = [
      f for f in cls.__dataclass_fields__ if f not in ("parent", "name")
    ]
  own = [
    f for f in fields or () if f in cls.__dict__.get("__annotations__", {})
  ]
  if not cls.__module__.startswith("vision_jax"):
    return  # re-exported from Flax
  if own:
    for field in own:
      assert re.search(rf"^\s+{field}:", inspect.getdoc(cls), re.M), (
        f"{name}: attribute `{field}` is not documented"
      )


def _examples():
  finder = doctest.DocTestFinder(exclude_empty=True)
  seen = set()
  root = pathlib.Path(__file__).parent.parent / "vision_jax"
  for path in sorted(root.rglob("*.py")):
    relative = path.relative_to(root.parent).with_suffix("")
    module_name = ".".join(relative.parts).removesuffix(".__init__")
    if path.stem == "__main__" or ">>>" not in path.read_text():
      continue
    module = importlib.import_module(module_name)
    for test in finder.find(module, module_name):
      if test.examples and test.name not in seen:
        seen.add(test.name)
        yield pytest.param(test, id=test.name.removeprefix("vision_jax."))


@pytest.mark.parametrize("test", _examples())
def test_example_runs(test, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  test.globs = test.globs | {"jax": jax, "jnp": jnp, "np": np}
  flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
  runner = doctest.DocTestRunner(optionflags=flags)
  output = []
  runner.run(test, out=output.append, clear_globs=False)
  assert runner.summarize(verbose=False).failed == 0, "".join(output)


if __name__ == "__main__":
  SURFACE.write_text(json.dumps(_surface(), indent=1) + "\n")

"""Unknown options are answered by the options of the command."""

import contextlib
import dataclasses
import io
import pathlib
import re

import pytest
import tyro

from tests.cli import command_case
from vision_jax.cli import convert, match, parsing


@dataclasses.dataclass
class Inner:
  """Numbers.

  Attributes:
    batch_size: of an update. A long sentence, so that the help has several
      lines of it, one of which may begin with the name of an option:
      --not-an-option that is named here and does not exist.
    a_name_with_its_own_line: yes.
  """

  batch_size: int = 3
  a_name_with_its_own_line: bool = False


@dataclasses.dataclass
class Outer:
  """All.

  Attributes:
    name: of it.
    inner: more.
  """

  name: str
  inner: Inner = dataclasses.field(default_factory=Inner)


def _parse(words):
  return tyro.cli(Outer, args=words)


def _fail(parse, words):
  """(exit code, what was printed) of a command line with a mistake."""
  errors = io.StringIO()
  with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as left:
    parsing.parse_options(parse, words)
  return left.value.code, errors.getvalue()


@pytest.mark.parametrize("columns", [None, "40", "200"])
def test_known_options_at_any_width(monkeypatch, columns):
  if columns is not None:
    monkeypatch.setenv("COLUMNS", columns)
  long = "a-name-with-its-own-line"
  assert parsing.known_options(_parse) == (
    *("--help", "--name", "--inner.batch-size"),
    *(f"--inner.{long}", f"--inner.no-{long}"),
  )


def test_right_words_pass():
  found = parsing.parse_options(_parse, ["--name", "a", "--inner.batch_size=4"])
  assert found == Outer("a", Inner(batch_size=4))


def test_unknown_options_list_the_known():
  code, text = _fail(_parse, ["--name", "a", "--foo", "3"])
  assert code == 2
  listed = re.search(r"^options: (.*)", text, re.M | re.S)[1]
  assert re.findall(r"--[\w.-]+", listed)[:3] == [
    *("--help", "--name", "--inner.batch-size")
  ]
  assert ".no-" not in listed
  assert "--not-an-option" not in listed
  # A name without its group, and a slip.
  for word in ("--batch-size", "--inner.batch_siz=3"):
    _, text = _fail(_parse, ["--name", "a", word])
    assert re.search(r"is unknown; near it: --inner.batch-size$", text, re.M)


def test_names_with_underscores(capsys):
  settings = {"prog": "x", "use_underscores": True}
  found = parsing.read_options(Outer, args=["--name", "a"], **settings)
  assert found == Outer("a")
  with pytest.raises(SystemExit) as left:
    parsing.read_options(
      Outer, args=["--name", "a", "--batch-size", "3"], **settings
    )
  assert left.value.code == 2
  _, text = capsys.readouterr()
  assert "near it: --inner.batch_size" in text
  assert ", --inner.batch_size, --inner.a_name_with_its_own_line" in text
  assert ".no_" not in text.partition("options: ")[2]


def test_other_mistakes_list_nothing():
  code, text = _fail(_parse, ["--inner.batch-size", "3"])
  assert code == 2
  assert "--name" in text
  assert "options:" not in text
  code, text = _fail(_parse, ["--name", "a", "--inner.batch-size", "x"])
  assert code == 2
  assert "options:" not in text


class CommandTest(command_case.CommandCase):
  def test_of_the_command_alone(self):
    result = self.run_command("match", "a.jpg", "b.jpg", "--max_line", "3")
    self.assertEqual(result.code, 2)
    self.assertIn("--max-line is unknown; near it: --max-lines", result.err)
    listed = result.err.partition("options of match: ")[2]
    for field in dataclasses.fields(match.MatchOptions):
      if not field.name.startswith("image"):
        self.assertIn("--" + field.name.replace("_", "-"), listed)
    self.assertNotIn("--image-size", listed)  # of another command

  def test_commands_without_unknown_options_are_not_read_twice(self):
    names = [f.name for f in dataclasses.fields(convert.ConvertOptions)]
    self.assertIn("name", names)
    result = self.run_command("convert", pathlib.Path("a"))
    self.assertEqual(result.code, 2)
    self.assertNotIn("options of", result.err)

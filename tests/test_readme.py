"""What README says can be run: its program, its commands, its links."""

import importlib
import pathlib
import re
import shlex
import sys
from unittest import mock

import pytest

from vision_jax import cli
from vision_jax.cli import parsing
from vision_jax.train import launch

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_program_runs(capsys):
  (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
  exec(compile(program, "README.md", "exec"), {})
  count = int(capsys.readouterr().out.split()[0])
  assert count > 20


def test_programs_of_the_pages_run(capsys):
  for page in sorted(ROOT.glob("docs/*.md")):
    for program in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
      exec(compile(program, str(page), "exec"), {})
      assert capsys.readouterr().out


def test_links_lead_somewhere():
  pages = [ROOT / "README.md", *ROOT.glob("experiments/*/README.md")]
  for page in [*pages, *ROOT.glob("docs/*.md")]:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
      assert (page.parent / target).exists(), f"{page}: {target}"


def test_make_targets_exist():
  makefile = (ROOT / "Makefile").read_text()
  text = README + (ROOT / "CONTRIBUTING.md").read_text()
  for target in set(re.findall(r"\bmake ([a-z]+)\b", text)):
    assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize(
  "line", re.findall(r"^vision-jax (.*?)(?:\s+#.*)?$", README, re.M)
)
def test_commands_are_known(line, capsys):
  command, *arguments = shlex.split(line)
  commands = [command, arguments[0]] if command == "search" else [command]
  try:
    code = cli.main([*commands, "--help"])
  except SystemExit as stop:
    code = stop.code
  assert not code
  text = capsys.readouterr().out
  for argument in arguments:
    if argument.startswith("--"):
      assert argument in text, f"{command}: {argument}"


def _bash_commands():
  """(page, command) of every line of the bash blocks, joined at backslashes."""
  for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
      for line in block.replace("\\\n", " ").splitlines():
        yield page.name, " ".join(line.split())


def _parse_experiment(words):
  """Reads a command as its program does, which then trains nothing."""
  module = importlib.import_module(words[0])
  with (
    mock.patch.object(module, "train_and_evaluate") as work,
    mock.patch.object(sys, "argv", words),
  ):
    module.main()
  work.assert_called_once()


@pytest.mark.parametrize(
  ("page", "command"),
  [(p, c) for p, c in _bash_commands() if "python -m " in c],
)
def test_programs_take_their_options(page, command):
  words = shlex.split(command, comments=True)
  while words[:2] != ["python", "-m"]:  # variables of the environment
    assert re.fullmatch(r"[A-Z_]+=\S+", words.pop(0)), (page, command)
  words = words[2:]
  if words[0] == "vision_jax.train.launch":
    _, words = launch._parse(words[1:])
    assert words[:2] == ["python", "-m"]
    words = words[2:]
  _parse_experiment(words)


def test_mistakes_in_commands_would_be_found():
  with pytest.raises(SystemExit):
    _parse_experiment(
      shlex.split("experiments.classification.train mnist --workdir a --foo")
    )
  assert [c for _, c in _bash_commands() if c.endswith("--tensorboard")]


def test_options_of_the_pages_exist(capsys):
  """Of the training page: those in running text and in tables as well."""

  def parse(words):
    module = importlib.import_module("experiments.classification.train")
    with mock.patch.object(sys, "argv", ["train", *words]):
      module.main()

  known = set(parsing.known_options(parse, ["generated_textures"]))
  with pytest.raises(SystemExit):
    launch._parse(["--help"])
  known |= set(re.findall(r"--[\w-]+", capsys.readouterr().out))
  text = (ROOT / "docs" / "training.md").read_text()
  named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", text))
  assert len(named) > 8
  assert named <= known, named - known

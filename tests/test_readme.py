"""What README says can be run: its program, its commands, its links."""

import pathlib
import re
import shlex

import pytest

from vision_jax import cli

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
  try:
    code = cli.main([command, "--help"])
  except SystemExit as stop:
    code = stop.code
  assert not code
  text = capsys.readouterr().out
  for argument in arguments:
    if argument.startswith("--"):
      assert argument in text, f"{command}: {argument}"

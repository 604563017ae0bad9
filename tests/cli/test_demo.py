"""Tests of `vision-jax demo`."""

from unittest import mock

from tests.cli import command_case
from vision_jax import demo


def _section(page):
  page.section("Hello").paragraph("there")


def _broken(page):
  raise ValueError("no")


class DemoTest(command_case.CommandCase):
  def _run(self, functions, *arguments):
    run_demo = demo.run_demo

    def patched(out, *, sections):
      return run_demo(out, sections=sections, functions=functions)

    with mock.patch.object(demo, "run_demo", patched):
      return self.run_command("demo", *arguments)

  def test_writes_the_page(self):
    out = self.folder / "d"
    result = self._run({"hello": _section}, "--out", out)
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertIn(f"written: {out / 'index.html'}", result.out)
    self.assertIn("there", (out / "index.html").read_text(encoding="utf-8"))

  def test_a_broken_section_gives_exit_code_1(self):
    out = self.folder / "d"
    functions = {"broken": _broken, "hello": _section}
    result = self._run(functions, "--out", out)
    self.assertEqual(result.code, 1)
    self.assertIn("1 section failed (broken)", result.err)
    self.assertIn("there", (out / "index.html").read_text(encoding="utf-8"))
    result = self._run(functions, "--out", out, "--sections", "hello")
    self.assertEqual(result.code, 0)

  def test_bad_input(self):
    result = self._run({"hello": _section}, "--sections", "other")
    self.assert_one_line(result, 2, "among hello, got other")
    file = self.save_bytes("file", b"")
    result = self._run({"hello": _section}, "--out", file)
    self.assert_one_line(result, 2, "--out must be a folder")

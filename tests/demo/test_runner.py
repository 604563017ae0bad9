"""Tests of the demo page's frame."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest

from vision_jax import demo


def _good(page):
  page.section("Good", "All is well.")
  page.section("Good, second heading")


def _bad(page):
  page.section("Bad").paragraph("before")
  raise ValueError("a <very> bad thing")


def _early(page):
  del page
  raise KeyError("missing")


def _run(folder, **settings):
  with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
      path, error = demo.run_demo(folder, **settings), None
    except demo.DemoError as caught:
      path, error = caught.page, caught
  return path, error, out.getvalue()


class RunDemoTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "new", "demo"
    )

  def test_page_has_sections_times_and_facts(self):
    path, error, out = _run(self.folder, functions={"good": _good})
    self.assertIsNone(error)
    self.assertEqual(path, self.folder / "index.html")
    text = path.read_text(encoding="utf-8")
    self.assertIn("All is well.", text)
    self.assertRegex(text, r'class="time">\d+\.\d\u202fs<')
    for fact in ("python", "processor", "jax", "device", "date"):
      self.assertIn(f"<dt>{fact}</dt>", text)
    self.assertRegex(out, r"^good: \d+\.\d s\n$")

  def test_a_failing_section_is_reported_and_the_rest_is_run(self):
    functions = {"bad": _bad, "early": _early, "good": _good}
    path, error, out = _run(self.folder, functions=functions)
    self.assertEqual(error.failed, ("bad", "early"))
    self.assertRegex(str(error), r"^2 sections failed \(bad, early\); see .*")
    text = path.read_text(encoding="utf-8")
    self.assertIn("a &lt;very&gt; bad thing", text)
    self.assertIn("KeyError", text)
    self.assertIn("Traceback", text)
    self.assertIn("All is well.", text)
    self.assertIn("before", text)
    self.assertIn("bad: 0.0 s (failed)", out)

  def test_a_choice_of_sections(self):
    functions = {"bad": _bad, "good": _good}
    path, error, _ = _run(self.folder, functions=functions, sections=["good"])
    self.assertIsNone(error)
    self.assertNotIn("before", path.read_text(encoding="utf-8"))
    with self.assertRaisesRegex(ValueError, "among bad, good, got other"):
      demo.run_demo(self.folder, functions=functions, sections=["other"])

  def test_the_sections_of_the_demo_have_names(self):
    self.assertIn("elf", demo.SECTIONS)

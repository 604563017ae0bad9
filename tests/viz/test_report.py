"""Tests of the HTML page."""

import base64
import io
import pathlib
import re
import tempfile
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import PIL.Image
from absl.testing import parameterized

from vision_jax import viz


def _parse(page):
  """The page as a tree: it must be well-formed XML after its first line."""
  text = viz.render_page(page)
  first, rest = text.split("\n", 1)
  assert first == "<!DOCTYPE html>"
  return ElementTree.fromstring(rest)


def _full_page():
  page = viz.Page(
    "A <title> & more", "With `code`.", viz.describe_environment()
  )
  section = page.section("First", "One.\n\nTwo & `three`.")
  section.figure(np.zeros((4, 6, 3)), "A <b>black</b> image.")
  section.figures(
    [np.ones((3, 5)), np.zeros((3, 5))], ["a", 'b "q"'], encoding="png"
  )
  section.table(["name", "n"], [["x", 1], ["y", None]], caption="Numbers.")
  section.numbers({"points": 500})
  section.code("vision-jax demo <out>")
  section.paragraph("The end.")
  section.seconds = 1.23
  broken = page.section("Second").failure("It <failed>", details="Trace & back")
  broken.seconds = 130.0
  return page


class RenderPageTest(parameterized.TestCase):
  def test_is_well_formed_and_self_contained(self):
    text = viz.render_page(_full_page())
    _parse(_full_page())
    self.assertNotRegex(text, r"https?:")
    for reference in re.findall(r'(?:src|href)="([^"]*)"', text):
      self.assertRegex(reference, r"^(data:image/|#)")
    self.assertNotIn("<script", text)
    self.assertNotRegex(text, r"url\(|@import")

  def test_text_is_escaped(self):
    tree = _parse(_full_page())
    self.assertEqual(tree.find("head/title").text, "A <title> & more")
    captions = ["".join(c.itertext()) for c in tree.iter("figcaption")]
    self.assertEqual(captions[0], "A <b>black</b> image.")
    self.assertEqual(
      [image.get("alt") for image in tree.iter("img")],
      ["A <b>black</b> image.", "a", 'b "q"'],
    )
    self.assertIn("three", [code.text for code in tree.iter("code")])

  def test_odd_characters_stay_well_formed(self):
    page = viz.Page("\x00\x1b[0m \ud800 ok")
    page.section("λ 光", "\x08").code("a\tb\x7f")
    _parse(page)

  def test_pictures_survive(self):
    image = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)
    page = viz.Page("p")
    page.section("s").figure(image, "png", encoding="png")
    page.figure(np.full((8, 12, 3), 0.5), "jpeg")
    png, jpeg = (i.get("src") for i in _parse(page).iter("img"))
    self.assertStartsWith(png, "data:image/png;base64,")
    decoded = PIL.Image.open(io.BytesIO(base64.b64decode(png.split(",")[1])))
    np.testing.assert_array_equal(np.array(decoded), viz.to_picture(image))
    self.assertStartsWith(jpeg, "data:image/jpeg;base64,")
    decoded = PIL.Image.open(io.BytesIO(base64.b64decode(jpeg.split(",")[1])))
    np.testing.assert_allclose(np.array(decoded), 128, atol=1)

  def test_contents_link_to_every_section_with_times(self):
    page = _full_page()
    page.section("First")
    page.section("光")
    tree = _parse(page)
    links = [a.get("href")[1:] for a in tree.find("body/header/nav").iter("a")]
    names = [s.get("id") for s in tree.find("body/main").iter("section")]
    self.assertEqual(links, names)
    self.assertEqual(names, ["first", "second", "first-2", "section"])
    times = [s.text for s in tree.find("body/header/nav").iter("span")]
    self.assertEqual(times[0], "1.2\u202fs")
    self.assertEqual(times[1], "2\u202fmin 10\u202fs")
    self.assertEqual(times[-1], "2\u202fmin 11\u202fs")  # the total

  def test_empty_page(self):
    tree = _parse(viz.Page("Empty"))
    self.assertIsNone(tree.find("body/header/nav"))


class TableTest(parameterized.TestCase):
  def _cells(self, values):
    section = viz.Section("s").table(["h"], [[v] for v in values])
    tree = ElementTree.fromstring(section.blocks[0])
    cells = list(tree.iter("td"))
    numeric = {cell.get("class") == "n" for cell in cells}
    self.assertLen(numeric, 1)
    return [cell.text for cell in cells], numeric.pop()

  @parameterized.parameters(
    ([1, 12345], ["1", "12\u202f345"], True),
    ([0.5, 0.123456, 2.0], ["0.50", "0.12", "2.00"], True),
    ([0.0123, 1.0], ["0.012", "1.000"], True),
    ([42.31, 123.4], ["42", "123"], True),
    ([1e-9, 0.5], ["0.0000", "0.5000"], True),
    ([float("nan"), 0.5, None], ["–", "0.50", "–"], True),  # noqa: RUF001
    (["0.61 ± 0.02", "< 1 ms", "-3"], ["0.61 ± 0.02", "< 1 ms", "-3"], True),
    (["VGG", 16], ["VGG", "16"], False),
    ([True, False], ["True", "False"], False),
    ([None, None], ["–", "–"], False),  # noqa: RUF001
  )
  def test_cells(self, values, texts, numeric):
    self.assertEqual(self._cells(values), (texts, numeric))

  def test_numpy_and_jax_numbers(self):
    texts, numeric = self._cells([np.float32(0.25), jnp.float32(0.5)])
    self.assertEqual((texts, numeric), (["0.25", "0.50"], True))
    texts, numeric = self._cells([np.int64(3), jnp.int32(1000)])
    self.assertEqual((texts, numeric), (["3", "1\u202f000"], True))

  def test_strong_rows_and_bad_rows(self):
    block = viz.Section("s").table(["a"], [["x"], ["y"]], strong=[1]).blocks[0]
    rows = list(ElementTree.fromstring(block).find("table/tbody"))
    self.assertEqual([r.get("class") for r in rows], [None, "strong"])
    with self.assertRaisesRegex(ValueError, "must have 2 cells each, got 1"):
      viz.Section("s").table(["a", "b"], [["x"]])


class PageTest(parameterized.TestCase):
  def test_blocks_go_to_the_last_section(self):
    page = viz.Page("p")
    with self.assertRaisesRegex(ValueError, "`section` must be called"):
      page.table(["a"], [])
    page.section("one")
    page.section("two")
    page.table(["a"], [[1]])
    page.figures([np.zeros((2, 3))], ["c"], columns=3)
    self.assertEqual([len(s.blocks) for s in page.sections], [0, 2])

  def test_bad_encoding(self):
    with self.assertRaisesRegex(ValueError, "'jpeg' or 'png', got 'gif'"):
      viz.Section("s").figure(np.zeros((2, 3)), "c", encoding="gif")

  def test_write_creates_folders_and_replaces(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "a", "b", "index.html")
      viz.Page("one").write(path)
      self.assertEqual(viz.Page("two").write(path), path)
      self.assertIn("<title>two</title>", path.read_text(encoding="utf-8"))
      self.assertEqual([p.name for p in path.parent.iterdir()], ["index.html"])

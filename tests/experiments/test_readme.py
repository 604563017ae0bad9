"""What the experiments write into their README."""

import pytest

from experiments import readme


def test_format_table():
  assert readme.format_table(("a", "b"), [("1", "2")]) == (
    "| a | b |\n| --- | --- |\n| 1 | 2 |"
  )


def test_replace_block(tmp_path):
  path = tmp_path / "README.md"
  path.write_text("x\n<!-- t: begin -->\nold\n<!-- t: end -->\ny\n")
  for text in (r"n\1", "two\nlines"):
    readme.replace_block(path, "t", text)
    assert path.read_text() == (
      f"x\n<!-- t: begin -->\n{text}\n<!-- t: end -->\ny\n"
    )
  with pytest.raises(ValueError, match="must hold <!-- u: begin -->"):
    readme.replace_block(path, "u", "text")

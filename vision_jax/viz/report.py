"""A self-contained HTML page of figures, tables and numbers.

A `Page` collects sections, and sections collect blocks; `render_page` turns
them into one string with no reference to anything outside the file. Every text
is escaped; `backticks` in a text give code.
"""

import base64
import dataclasses
import html
import io
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from vision_jax.viz.pixels import to_picture

__all__ = ["Page", "Section", "render_page"]


@dataclasses.dataclass
class Section:
  """One chapter of a page: a heading, a lead text and blocks of HTML.

  The methods append a block and return the section, so that calls chain.

  Attributes:
    title: heading.
    text: lead paragraphs, separated by blank lines.
    seconds: time its content took, or None.
    blocks: finished HTML, in order.

  Example:
    >>> from vision_jax import viz
    >>> section = viz.Section("Numbers").table(["n"], [[1], [2]])
    >>> len(section.blocks)
    1
  """

  title: str
  text: str = ""
  seconds: float | None = None
  blocks: list[str] = dataclasses.field(default_factory=list)

  def figure(
    self, image: Any, caption: str, *, encoding: str = "jpeg"
  ) -> "Section":
    """Appends one picture; `encoding` is "jpeg" or "png"."""
    return self.figures([image], [caption], columns=1, encoding=encoding)

  def figures(
    self,
    images: Sequence[Any],
    captions: Sequence[str],
    *,
    columns: int = 2,
    encoding: str = "jpeg",
  ) -> "Section":
    """Appends pictures in a row, at most `columns` side by side."""
    parts = [
      _figure(image, caption, encoding)
      for image, caption in zip(images, captions, strict=True)
    ]
    least = f"{max(12.0, 52.0 / max(1, columns)):.1f}rem"
    style = (
      f"grid-template-columns:repeat(auto-fit,minmax(min(100%,{least}),1fr))"
    )
    self.blocks.append(
      f'<div class="figures" style="{style}">{"".join(parts)}</div>'
    )
    return self

  def table(
    self,
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    caption: str = "",
    strong: Sequence[int] = (),
  ) -> "Section":
    """Appends a table; numbers are aligned, rows in `strong` stand out."""
    self.blocks.append(_table(headers, rows, caption, strong))
    return self

  def numbers(self, values: Mapping[str, Any]) -> "Section":
    """Appends large key numbers, given as label -> value."""
    tiles = "".join(
      f"<div><strong>{_escape(value)}</strong><span>{_inline(label)}</span>"
      "</div>"
      for label, value in values.items()
    )
    self.blocks.append(f'<div class="numbers">{tiles}</div>')
    return self

  def paragraph(self, text: str) -> "Section":
    """Appends paragraphs, separated by blank lines."""
    self.blocks.append(_paragraphs(text))
    return self

  def code(self, text: str) -> "Section":
    """Appends commands or a program, as they are."""
    self.blocks.append(f"<pre><code>{_escape(text.strip())}</code></pre>")
    return self

  def failure(self, text: str, *, details: str = "") -> "Section":
    """Appends a message that something failed, with folded details."""
    folded = (
      "<details><summary>Details</summary><pre><code>"
      f"{_escape(details.strip())}</code></pre></details>"
      if details
      else ""
    )
    self.blocks.append(
      f'<div class="failure" role="alert"><p>{_inline(text)}</p>{folded}</div>'
    )
    return self


@dataclasses.dataclass
class Page:
  """A page: a title, a subtitle, facts about the run, and sections.

  Attributes:
    title: heading of the page and of the browser's window.
    subtitle: one sentence below it.
    facts: shown in the header, such as from `describe_environment`.
    sections: in order.

  Example:
    >>> from vision_jax import viz
    >>> page = viz.Page("Results", facts={"date": "today"})
    >>> _ = page.section("Key points", "Two of them.").figure(
    ...     np.zeros((4, 6, 3)), "A black image.")
    >>> text = viz.render_page(page)
    >>> text.startswith("<!DOCTYPE html>"), "http" in text
    (True, False)
  """

  title: str
  subtitle: str = ""
  facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  sections: list[Section] = dataclasses.field(default_factory=list)

  def section(self, title: str, text: str = "") -> Section:
    """Appends an empty section and returns it, to be filled."""
    self.sections.append(Section(title, text))
    return self.sections[-1]

  def figure(
    self, image: Any, caption: str, *, encoding: str = "jpeg"
  ) -> Section:
    """Appends a picture to the last section."""
    return self._last().figure(image, caption, encoding=encoding)

  def figures(
    self, images: Sequence[Any], captions: Sequence[str], **settings: Any
  ) -> Section:
    """Appends pictures in a row to the last section."""
    return self._last().figures(images, captions, **settings)

  def table(
    self,
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    **settings: Any,
  ) -> Section:
    """Appends a table to the last section."""
    return self._last().table(headers, rows, **settings)

  def write(self, path: str | pathlib.Path) -> pathlib.Path:
    """Writes the page to a file, whole or not at all; returns the path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(render_page(self), encoding="utf-8")
    os.replace(part, path)
    return path

  def _last(self) -> Section:
    """The section being filled."""
    if not self.sections:
      raise ValueError(
        "Page: `section` must be called before a block is added, got none."
      )
    return self.sections[-1]


def render_page(page: Page) -> str:
  """HTML text of a page, complete in itself.

  Convention:
    UTF-8 text, also well-formed XML after its first line; pictures are data
    URIs; light and dark by the reader's setting; no script.

  Args:
    page: what to show.

  Returns:
    The text.

  Example:
    >>> from vision_jax import viz
    >>> "<h1>A &amp; B</h1>" in viz.render_page(viz.Page("A & B"))
    True

  Source:
    The HTML standard.
  """
  names = _anchors([section.title for section in page.sections])
  contents = "".join(
    f'<li><a href="#{name}">{_escape(section.title)}</a>'
    f"<span>{_seconds(section.seconds)}</span></li>"
    for name, section in zip(names, page.sections, strict=True)
  )
  times = [s.seconds for s in page.sections if s.seconds is not None]
  total = (
    f"<li><b>Total</b><span>{_seconds(sum(times))}</span></li>"
    if len(times) > 1
    else ""
  )
  toc = f"<nav><ol>{contents}{total}</ol></nav>" if contents else ""
  facts = "".join(
    f"<div><dt>{_escape(name)}</dt><dd>{_escape(text)}</dd></div>"
    for name, text in page.facts.items()
  )
  facts = f"<dl>{facts}</dl>" if facts else ""
  subtitle = f'<p class="lead">{_inline(page.subtitle)}</p>'
  body = "".join(
    _section(name, section)
    for name, section in zip(names, page.sections, strict=True)
  )
  return (
    "<!DOCTYPE html>\n"
    '<html lang="en"><head><meta charset="utf-8"/>'
    '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
    f"<title>{_escape(page.title)}</title><style>{_STYLE}</style></head>\n"
    f"<body><header><h1>{_escape(page.title)}</h1>"
    f"{subtitle if page.subtitle else ''}{facts}{toc}</header>\n"
    f"<main>{body}</main></body></html>\n"
  )


def _section(name: str, section: Section) -> str:
  """HTML of one section."""
  time = (
    f'<span class="time">{_seconds(section.seconds)}</span>'
    if section.seconds is not None
    else ""
  )
  blocks = "\n".join(section.blocks)
  return (
    f'<section id="{name}"><h2>{_escape(section.title)}{time}</h2>'
    f"{_paragraphs(section.text)}{blocks}</section>\n"
  )


def _figure(image: Any, caption: str, encoding: str) -> str:
  """HTML of one picture with its caption."""
  if encoding not in ("jpeg", "png"):
    raise ValueError(
      f"Section.figure: `encoding` must be 'jpeg' or 'png', got '{encoding}'."
    )
  picture = PIL.Image.fromarray(to_picture(image))
  file = io.BytesIO()
  if encoding == "jpeg":
    picture.save(file, "JPEG", quality=88, subsampling=0, optimize=True)
  else:
    picture.save(file, "PNG", optimize=True)
  data = base64.b64encode(file.getvalue()).decode("ascii")
  label = _escape(caption.replace("`", ""))
  return (
    f'<figure><img src="data:image/{encoding};base64,{data}" alt="{label}"'
    f' width="{picture.width}" height="{picture.height}"/>'
    f"<figcaption>{_inline(caption)}</figcaption></figure>"
  )


def _table(
  headers: Sequence[str],
  rows: Sequence[Sequence[Any]],
  caption: str,
  strong: Sequence[int],
) -> str:
  """HTML of a table."""
  for row in rows:
    if len(row) != len(headers):
      raise ValueError(
        f"Section.table: `rows` must have {len(headers)} cells each, got"
        f" {len(row)}."
      )
  columns = [_cells([row[i] for row in rows]) for i in range(len(headers))]
  kinds = [' class="n"' if number else "" for _, number in columns]
  head = "".join(
    f"<th{kind}>{_inline(header)}</th>"
    for kind, header in zip(kinds, headers, strict=True)
  )
  body = []
  for r in range(len(rows)):
    mark = ' class="strong"' if r in strong else ""
    cells = "".join(
      f"<td{kind}>{_inline(cells[r])}</td>"
      for kind, (cells, _) in zip(kinds, columns, strict=True)
    )
    body.append(f"<tr{mark}>{cells}</tr>")
  title = f"<caption>{_inline(caption)}</caption>" if caption else ""
  return (
    f'<div class="table"><table>{title}<thead><tr>{head}</tr></thead>'
    f"<tbody>{''.join(body)}</tbody></table></div>"
  )


def _cells(values: Sequence[Any]) -> tuple[list[str], bool]:
  """Texts of a column, and whether it is one of numbers.

  Floats of a column get the same number of decimals, chosen so that the
  smallest shows two significant digits, four decimals at most.
  """
  floats = [float(v) for v in values if _is_number(v) and not _is_integer(v)]
  sizes = [abs(v) for v in floats if math.isfinite(v) and v != 0.0]
  decimals = 0
  if sizes:
    decimals = min(4, max(0, 1 - math.floor(math.log10(min(sizes)))))
  texts = []
  for value in values:
    if value is None:
      texts.append(_NOTHING)
    elif _is_integer(value):
      texts.append(f"{int(value):,}".replace(",", "\u202f"))
    elif _is_number(value):
      finite = math.isfinite(float(value))
      texts.append(f"{float(value):.{decimals}f}" if finite else _NOTHING)
    else:
      texts.append(str(value))
  filled = [text for text in texts if text not in ("", _NOTHING)]
  return texts, bool(filled) and all(_NUMBER.match(text) for text in filled)


def _is_number(value: Any) -> bool:
  """Whether a value is one real number of Python, NumPy or JAX."""
  if value is None or isinstance(value, (str, bytes, bool)):
    return False
  return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"


def _is_integer(value: Any) -> bool:
  """Whether a value is a whole number by its type."""
  return _is_number(value) and np.asarray(value).dtype.kind in "iu"


def _anchors(titles: Sequence[str]) -> list[str]:
  """A distinct name per title that may stand in a link."""
  names: list[str] = []
  for title in titles:
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    name, count = plain or "section", 2
    while name in names:
      name, count = f"{plain or 'section'}-{count}", count + 1
    names.append(name)
  return names


def _escape(value: Any) -> str:
  """Text that is safe in HTML and XML, without control characters."""
  return html.escape(_CONTROL.sub("\ufffd", str(value)))


def _inline(text: Any) -> str:
  """Escaped text with `code` between backticks."""
  return _CODE.sub(r"<code>\1</code>", _escape(text))


def _paragraphs(text: str) -> str:
  """Paragraphs of a text with blank lines between them."""
  parts = [part.strip() for part in re.split(r"\n\s*\n", text)]
  return "".join(f"<p>{_inline(part)}</p>" for part in parts if part)


def _seconds(seconds: float | None) -> str:
  """A duration in seconds or minutes."""
  if seconds is None:
    return ""
  if seconds < 100.0:
    return f"{seconds:.1f}\u202fs"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes}\u202fmin {rest:02d}\u202fs"


_CODE = re.compile(r"`([^`]+)`")
_CONTROL = re.compile(
  r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_NOTHING = "\u2013"
_NUMBER = re.compile(r"^[-+\u2212~<>\u2264\u2265\u00b1]?\s*\d")

_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1b1c1e;--soft:#5d6168;
--line:#e3e4e8;--card:#f7f7f9;--accent:#0b62c4;--bad:#b3261e;--badbg:#fdecea}
@media (prefers-color-scheme:dark){:root{--page:#131416;--ink:#e7e8ea;
--soft:#a0a4ac;--line:#2e3035;--card:#1b1d20;--accent:#7ab3ff;--bad:#ff8a80;
--badbg:#35191a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:76rem;padding:3rem 1.5rem 5rem;
background:var(--page);color:var(--ink);
font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
Arial,sans-serif;font-kerning:normal;text-rendering:optimizeLegibility}
h1{font-size:2.3rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .4rem;
text-wrap:balance}
h2{font-size:1.45rem;line-height:1.25;letter-spacing:-.01em;margin:0 0 .6rem;
display:flex;justify-content:space-between;align-items:baseline;gap:1rem}
p{max-width:46rem;margin:0 0 1rem;text-wrap:pretty;hyphens:auto}
.lead{font-size:1.15rem;color:var(--soft)}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
section{margin-top:3.5rem;padding-top:1.6rem;border-top:1px solid var(--line)}
.time,nav span{color:var(--soft);font-variant-numeric:tabular-nums;
font-weight:400;font-size:.9rem;letter-spacing:0;white-space:nowrap}
dl{display:flex;flex-wrap:wrap;gap:.5rem 1.8rem;margin:1.4rem 0;
font-size:.85rem;line-height:1.4}
dt{color:var(--soft)}dd{margin:0;font-variant-numeric:tabular-nums}
nav{background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.7rem 1.2rem;max-width:34rem}
nav ol{list-style:none;margin:0;padding:0}
nav li{display:flex;justify-content:space-between;gap:1rem;padding:.15rem 0}
.figures{display:grid;gap:1.4rem;margin:1.4rem 0;align-items:start}
figure{margin:0;min-width:0}
img{display:block;max-width:100%;height:auto;margin:0 auto;border-radius:.35rem}
figcaption{color:var(--soft);font-size:.88rem;line-height:1.45;
margin-top:.5rem;max-width:46rem}
.table{overflow-x:auto;margin:1.4rem 0}
table{border-collapse:collapse;font-size:.93rem;line-height:1.4}
caption{caption-side:bottom;text-align:left;color:var(--soft);
font-size:.88rem;padding-top:.5rem}
th{text-align:left;font-weight:600;border-bottom:2px solid var(--line);
vertical-align:bottom}
th,td{padding:.4rem 1.6rem .4rem 0}th:last-child,td:last-child{padding-right:0}
td{border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums lining-nums;
white-space:nowrap}
.strong td{font-weight:600}
.numbers{display:flex;flex-wrap:wrap;gap:1rem 2.6rem;margin:1.2rem 0 1.4rem}
.numbers strong{display:block;font-size:1.7rem;line-height:1.2;
letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.numbers span{color:var(--soft);font-size:.88rem}
code{font:.88em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
background:var(--card);border-radius:.25rem;padding:.08em .3em}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;
padding:.8rem 1rem;overflow-x:auto}pre code{background:none;padding:0}
.failure{border:1px solid var(--bad);border-left-width:.35rem;
background:var(--badbg);border-radius:.5rem;padding:.8rem 1.1rem;
margin:1.2rem 0}.failure p{margin:0;color:var(--bad);font-weight:600}
.failure summary{cursor:pointer;margin-top:.5rem}
@media print{body{padding:0}section{break-inside:auto}figure{
break-inside:avoid}}
""".replace("\n", "")

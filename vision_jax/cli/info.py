"""`vision-jax info`: the networks, their layers and what they cost."""

import dataclasses
import math
import pathlib
from typing import Annotated, Any

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  format_columns,
  make_model,
  write_json,
)

__all__ = ["InfoOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfoOptions(CommonOptions):
  """List the layers of a network: shapes, parameters, FLOPs, geometry.

  The stride is in input pixels per cell, the receptive field in input pixels;
  FLOPs count multiplications and additions of one image.

  Attributes:
    model: Name of the network, for example vgg16.
    all: List all networks instead, detectors and segmenters as well, with what
      weights there are for them and their published accuracy.
    image_size: Height and width of the input.
    weights: "bundled" or a converted .safetensors file, to print its card.
    out: JSON file to write the table to.
  """

  model: tyro.conf.Positional[
    Annotated[str | None, tyro.conf.arg(metavar="[MODEL]")]
  ] = None
  all: bool = False
  image_size: tuple[int, int] = (224, 224)
  weights: str | None = None
  out: pathlib.Path | None = None

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    if self.all:
      if self.model is not None:
        raise UserError(f"--all lists every network; leave out '{self.model}'")
      print(_all_networks())
      return 0
    if self.model is None:
      raise UserError("expected the name of a network, or --all")
    if min(self.image_size) < 1:
      raise UserError(f"--image-size must be positive, got {self.image_size}")
    if self.out is not None:
      check_outputs("--out", self.out, (".json",))
    from vision_jax import nn, weights

    known = {*weights.BUNDLED, *weights.CATALOG, *weights.FOREIGN}
    if self.model in known - {*nn.backbones.MODELS}:
      print(_weights_text(self.model, self.weights))  # not one chain of layers
      return 0
    module = make_model(self.model)
    table = nn.layer_table(module, image_size=self.image_size)
    endpoints = nn.endpoint_info(module, image_size=self.image_size)
    headers = ("layer", "kind", "output", "params", "MFLOPs", "stride", "field")
    rows = [
      (
        row.name,
        row.kind,
        " x ".join(str(n) for n in row.output_shape[1:]),
        f"{row.parameters:,}" if row.parameters else "",
        f"{row.flops / 1e6:,.1f}",
        _text(row.stride),
        _text(row.receptive_field),
      )
      for row in table
    ]
    height, width = self.image_size
    print(f"{self.model}, input {height} x {width} x 3\n")
    print(format_columns(headers, rows, left=3))
    print(
      f"\n{sum(row.parameters for row in table):,} parameters,"
      f" {sum(row.flops for row in table) / 1e9:.2f} GFLOPs\n"
    )
    ends = [
      (
        name,
        str(e.channels),
        _text(e.stride),
        f"{e.offset:g}",
        _text(e.receptive_field),
      )
      for name, e in endpoints.items()
    ]
    print(
      format_columns(
        ("endpoint", "channels", "stride", "offset", "field"), ends, left=1
      )
    )
    print("\n" + _weights_text(self.model, self.weights))
    if self.out is not None:
      write_json(
        self.out,
        {
          "model": self.model,
          "image_size": self.image_size,
          "layers": [row._asdict() for row in table],
          "endpoints": {n: e._asdict() for n, e in endpoints.items()},
        },
      )
      print(f"\nwritten: {self.out}")
    return 0


def _all_networks() -> str:
  """A row for each network and weights, with what is published of them."""
  from vision_jax import nn, weights

  models = {*nn.backbones.MODELS, *weights.BUNDLED}
  rows = []
  for model in sorted({*models, *weights.CATALOG, *weights.FOREIGN}):
    for name, entry in weights.CATALOG.get(model, {}).items():
      rows.append((model, name, entry.file, _published(entry)))
    if model in weights.FOREIGN:
      foreign = weights.FOREIGN[model]
      rows.append((model, foreign.reader, foreign.file, _published(foreign)))
    for name, file in weights.BUNDLED.get(model, {}).items():
      rows.append((model, name, file, ""))
  headers = ("model", "weights", "file", "published, per cent")
  return format_columns(headers, rows, left=4)


def _published(entry: Any) -> str:
  """The published number of an entry and what it is; empty without one."""
  if math.isnan(entry.accuracy):
    return ""
  return f"{entry.accuracy:.2f} {entry.metric}"


def _weights_text(model: str, source: str | None) -> str:
  """The card of a weights file, or what weights there are."""
  from vision_jax import weights

  if source is None:
    found: list[tuple[str, Any]] = [*weights.CATALOG.get(model, {}).items()]
    if model in weights.FOREIGN:
      found.append((weights.FOREIGN[model].file, weights.FOREIGN[model]))
    names = []
    for name, entry in found:
      text = _published(entry).replace(" ", " % ", 1)
      names.append(f"{name} ({text})" if text else name)
    names += weights.BUNDLED.get(model, {})
    return "weights: " + (", ".join(names) or "random only")
  if source in weights.BUNDLED.get(model, {}):
    metadata = weights.load_bundled(model, weights=source)[2]
  else:
    metadata = weights.load_model(source)[2]
    if metadata.model != model:
      raise UserError(
        f"{source} holds weights of {metadata.model}, not {model}"
      )
  return "\n".join(
    [
      f"weights: {source}, from {metadata.source}",
      f"licence: {metadata.licence}",
      f"card: {metadata.card}",
      f"preprocessing: {metadata.preprocessing}",
    ]
  )


def _text(value: int | None) -> str:
  """A number, or nothing where a layer has none."""
  return "" if value is None else str(value)

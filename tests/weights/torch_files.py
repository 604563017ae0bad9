"""Writes torch's two file formats without torch, opcode by opcode."""

import io
import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C

KINDS = {
  "float64": "DoubleStorage",
  "float32": "FloatStorage",
  "float16": "HalfStorage",
  "bfloat16": "BFloat16Storage",
  "int64": "LongStorage",
  "int32": "IntStorage",
  "int16": "ShortStorage",
  "int8": "CharStorage",
  "uint8": "ByteStorage",
  "bool": "BoolStorage",
}


class Raw(bytes):
  """Opcodes to be used as they are."""


def op(value):
  """Opcodes that build a value."""
  if isinstance(value, Raw):
    return value
  if value is None:
    return b"N"
  if isinstance(value, bool):
    return b"\x88" if value else b"\x89"
  if isinstance(value, int):
    if 0 <= value < 2**31:
      return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
  if isinstance(value, str):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw
  if isinstance(value, tuple):
    return b"(" + b"".join(map(op, value)) + b"t"
  if isinstance(value, list):
    return b"](" + b"".join(map(op, value)) + b"e"
  if isinstance(value, dict):
    items = b"".join(op(k) + op(v) for k, v in value.items())
    return b"}(" + items + b"u"
  raise TypeError(type(value))


def glob(module, name):
  return Raw(f"c{module}\n{name}\n".encode())


def call(function, *args):
  return Raw(function + op(args) + b"R")


def build(value, state):
  return Raw(op(value) + op(state) + b"b")


def tensor(
  key,
  dtype,
  numel,
  shape,
  strides=None,
  offset=0,
  view=None,
  legacy=False,
  rebuild="_rebuild_tensor_v2",
):
  """Opcodes of a tensor over the storage `key`."""
  if strides is None:
    strides, step = [], 1
    for size in reversed(shape):
      strides.insert(0, step)
      step *= size
  pid = ("storage", glob("torch", KINDS[dtype]), key, "cpu", numel)
  if legacy:
    pid = (*pid, view)
  storage = Raw(op(pid) + b"Q")
  args = (storage, offset, tuple(shape), tuple(strides))
  if rebuild == "_rebuild_tensor_v2":
    args = (*args, False, call(glob("collections", "OrderedDict")))
  return call(glob("torch._utils", rebuild), *args)


def pickled(value):
  return b"\x80\x02" + op(value) + b"."


def zip_file(content, storages, *, root="archive", extra=None):
  """A file of torch's zip format; storages: key -> bytes."""
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as archive:
    archive.writestr(f"{root}/data.pkl", pickled(content))
    for name, raw in (extra or {"byteorder": b"little"}).items():
      archive.writestr(f"{root}/{name}", raw)
    for key, raw in storages.items():
      archive.writestr(f"{root}/data/{key}", raw)
    archive.writestr(f"{root}/version", b"3\n")
  return out.getvalue()


def legacy_file(content, storages):
  """A file of torch's old format; storages: key -> (numel, bytes)."""
  info = {"protocol_version": 1001, "little_endian": True}
  out = pickled(MAGIC) + pickled(1001) + pickled(info) + pickled(content)
  out += pickled(list(storages))
  for numel, raw in storages.values():
    out += struct.pack("<q", numel) + raw
  return out

"""Metadata of a GGUF file as another one can have it: with types, and with the strings of arrays.

Knows how the container is laid out, as adapters.gguf_header does, which leaves long arrays of strings unread.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import gguf
from gguf.constants import GGUFValueType

from adapters.gguf_header import MAGIC, NUMBER_CODES, read_header

_START = len(MAGIC) + 4 + 8  # behind the version and the number of tensors


class Field(NamedTuple):
    """One value; strings are bytes, as not all of them are text, and arrays lists (of bytes: bytes)."""

    key: str
    type: GGUFValueType
    value: Any


class _Walk:
    def __init__(self, view: mmap.mmap) -> None:
        self.view, self.at = view, _START

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        packed = f"<{count}{code}"
        found = struct.unpack_from(packed, self.view, self.at)
        self.at += struct.calcsize(packed)
        return found

    def string(self) -> bytes:
        (length,) = self.numbers("Q")
        self.at += length
        return self.view[self.at - length : self.at]

    def value(self, kind: GGUFValueType) -> Any:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind == GGUFValueType.ARRAY:
            inner, count = GGUFValueType(self.numbers("I")[0]), self.numbers("Q")[0]
            if inner == GGUFValueType.STRING:
                return [self.string() for _ in range(count)]
            values = self.numbers(NUMBER_CODES[inner], count)
            return bytes(values) if inner == GGUFValueType.UINT8 else list(values)
        return self.numbers(NUMBER_CODES[kind])[0]


def read_fields(path: Path, prefix: str) -> list[Field]:
    """The values whose keys begin with `prefix`, in the file's order; raises ModelLoadError."""
    read_header(path)  # whether the file is whole
    found: list[Field] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        walk = _Walk(view)
        (n_fields,) = walk.numbers("Q")
        for _ in range(n_fields):
            key = walk.string().decode("utf-8", "replace")
            kind = GGUFValueType(walk.numbers("I")[0])
            value = walk.value(kind)
            if key.startswith(prefix):
                found.append(Field(key, kind, value))
    return found


def write_fields(writer: gguf.GGUFWriter, fields: list[Field]) -> None:
    """Have `writer` write what was read from another file; empty arrays, which it cannot, are left out."""
    for key, kind, value in fields:
        if kind != GGUFValueType.ARRAY or value:
            writer.add_key_value(key, value, kind)

"""The header of a GGUF file: its metadata, its tensor table, and the parts of a split file.

Knows how the container is laid out; reads no weight and gives the metadata no meaning. It walks the
bytes itself, with gguf's constants: gguf's own reader makes an array of every token, which takes it
5 s for a vocabulary of 49,000 and 31 s for one of 262,000.
"""

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from adapters.errors import ModelLoadError

MAGIC = b"GGUF"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")  # the names that llama.cpp insists on

_TYPE_NAMES: dict[int, str] = {kind.value: kind.name for kind in GGMLQuantizationType}
# (weights, bytes) of one block, by type
_BLOCKS: dict[int, tuple[int, int]] = {kind.value: s for kind, s in GGML_QUANT_SIZES.items()}
NUMBER_CODES: dict[int, str] = {  # how `struct` and numpy call GGUF's numbers
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the tensor table; `shape[0]` is the length of a row, as in ggml."""

    type_id: int
    shape: tuple[int, ...]
    offset: int  # from the start of the data

    @property
    def type(self) -> str:
        return _TYPE_NAMES.get(self.type_id, f"type {self.type_id}")

    @property
    def n_params(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def bytes(self) -> int:
        """Size in the file; 0 for a type that this version of gguf does not know."""
        weights, size = _BLOCKS.get(self.type_id, (1, 0))
        return self.n_params // weights * size

    @property
    def is_quantized(self) -> bool:
        """Whether weights share a scale; types unknown to this version of gguf are newer quants."""
        return _BLOCKS.get(self.type_id, (2, 0))[0] > 1


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata by key and tensors by name; an array of strings is there only as its range."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Tensor]
    bytes: int  # of the whole file
    data: int  # where the data begin

    def number(self, key: str, default: int = 0) -> int:
        """A whole number, the largest if there is one for each layer; raises ModelLoadError."""
        value = self.fields.get(key, default)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            return int(value.max(initial=0))
        if not isinstance(value, int):
            raise ModelLoadError(f"{self.path}: {key} is {value!r}, not a whole number")
        return value


class _Cursor:
    """Reads GGUF's values one after the other and never past the end (struct.error, ValueError)."""

    def __init__(self, view: mmap.mmap | bytes, at: int) -> None:
        self.view, self.at = view, at

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.view, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        end = self.number("Q") + self.at
        if end > len(self.view):
            raise ValueError(f"a string runs to byte {end}")
        text = self.view[self.at : end].decode("utf-8", "replace")
        self.at = end
        return text

    def value(self, kind: int) -> Any:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind == GGUFValueType.ARRAY:
            return self.array(self.number("I"), self.number("Q"))
        return self.number(_code(kind))

    def array(self, kind: int, count: int) -> Any:
        if kind == GGUFValueType.STRING:
            return self.skip_strings(count)
        values = np.frombuffer(self.view, f"<{_code(kind)}", count, self.at).copy()
        self.at += values.nbytes
        return values

    def skip_strings(self, count: int) -> range:
        at, view, length = self.at, self.view, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length(view, at)[0]
        self.at = at
        return range(count)

    def tensor(self) -> tuple[str, Tensor]:
        name, n_dims = self.string(), self.number("I")
        if not 1 <= n_dims <= 4:
            raise ValueError(f"tensor {name!r} has {n_dims} dimensions")
        shape = tuple(self.number("Q") for _ in range(n_dims))
        return name, Tensor(self.number("I"), shape, self.number("Q"))


def _code(kind: int) -> str:
    if kind not in NUMBER_CODES:
        raise ValueError(f"a value of unknown type {kind}")
    return NUMBER_CODES[kind]


def read_headers(path: Path) -> list[Header]:
    """The headers of `path` and, of a split model, of all further parts; raises ModelLoadError."""
    first = read_header(path)
    count, number = first.number("split.count"), first.number("split.no")
    if count < 2:
        return [first]
    parts = all_parts(path)
    if len(parts) != count:
        wanted = f"-{number + 1:05}-of-{count:05}.gguf"
        raise ModelLoadError(f"{path}: is a part of a split model; its name must end in {wanted}")
    if number:
        raise ModelLoadError(f"{path}: is part {number + 1} of {count}; give {parts[0]}")
    return [first, *(read_header(part) for part in parts[1:])]


def merged(headers: list[Header]) -> dict[str, Tensor]:
    """The tensor tables of all parts together."""
    return {name: tensor for header in headers for name, tensor in header.tensors.items()}


def read_header(path: Path) -> Header:
    """The header of one file, which is checked to hold all its tensors; raises ModelLoadError."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ModelLoadError(f"{path}: not a GGUF file (it does not begin with 'GGUF')")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _walk(path, _Cursor(view, len(MAGIC)), len(view))
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read ({error.strerror})") from error
    except (struct.error, OverflowError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "the header runs past the end"
        hint = "fetch or make it again"
        raise ModelLoadError(f"{path}: damaged or cut short ({reason}); {hint}") from error


def header_in(start: bytes, path: Path, n_bytes: int) -> Header | None:
    """The header of a file of `n_bytes` that begins with `start`; None where it goes on behind that.

    Raises ModelLoadError for what is no GGUF, or holds less than its header says.
    """
    if not start.startswith(MAGIC):
        raise ModelLoadError(f"{path}: not a GGUF file (it does not begin with 'GGUF')")
    try:
        return _walk(path, _Cursor(start, len(MAGIC)), n_bytes)
    except (struct.error, OverflowError, ValueError) as error:
        if len(start) < n_bytes:
            return None
        raise ModelLoadError(f"{path}: damaged or cut short ({error})") from error


def _walk(path: Path, cursor: _Cursor, n_bytes: int) -> Header:
    version = cursor.number("I")
    if version not in (2, 3):
        raise ValueError(f"version {version}, where 2 and 3 can be read")
    n_tensors, n_fields = cursor.number("Q"), cursor.number("Q")
    fields: dict[str, Any] = {}
    for _ in range(n_fields):
        key = cursor.string()
        fields[key] = cursor.value(cursor.number("I"))
    tensors = dict(cursor.tensor() for _ in range(n_tensors))
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"an alignment of {alignment!r}")
    data = -(-cursor.at // alignment) * alignment  # the next multiple
    header = Header(path, fields, tensors, n_bytes, data)
    _check_extents(header)
    return header


def _check_extents(header: Header) -> None:
    for name, tensor in header.tensors.items():
        end = header.data + tensor.offset + tensor.bytes
        if end > header.bytes:
            raise ValueError(f"tensor {name!r} ends at byte {end}, the file at {header.bytes}")


def part_of(path: Path) -> tuple[int, int] | None:
    """(number from 1, count) by the name of a split model's file; None for an unsplit one."""
    match = _PART.search(path.name)
    return (int(match[1]), int(match[2])) if match else None


def all_parts(path: Path) -> list[Path]:
    """All files, in order, of the model that `path` is or is a part of, by its name."""
    part = part_of(path)
    if part is None:
        return [path]
    ends = (f"-{number:05}-of-{part[1]:05}.gguf" for number in range(1, part[1] + 1))
    return [path.with_name(_PART.sub(end, path.name)) for end in ends]

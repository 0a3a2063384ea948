"""The weights in a GGUF file as float32 rows, dequantized a stretch at a time.

Knows where a tensor's bytes are, and gguf's own dequantization; gives the tensors no meaning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from adapters.errors import UnsupportedModel
from adapters.gguf_header import Header, Tensor, read_headers
from adapters.target import FloatArray

_STRETCH = 8 * 2**20  # bytes of float32 at a time; gguf needs about three times as many beside them
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file, none of it read yet; a vector is a single row."""

    path: Path
    name: str
    stored: Tensor
    start: int  # of its bytes in the file

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy and PyTorch have it: the length of a row comes last."""
        return self.stored.shape[::-1]

    @property
    def type(self) -> str:
        return self.stored.type

    @property
    def width(self) -> int:
        return self.stored.shape[0]

    @property
    def n_rows(self) -> int:
        return self.stored.n_params // self.width if self.width else 0

    def rows(self, start: int, stop: int) -> FloatArray:
        """Rows `start` to `stop`, `[n, width]`; raises UnsupportedModel for types that gguf cannot read."""
        start, stop, _ = slice(start, stop).indices(self.n_rows)
        row_bytes = self.stored.bytes // self.n_rows if self.n_rows else 0
        if stop <= start:
            return np.zeros((0, self.width), np.float32)
        if not row_bytes:
            raise self._unsupported()
        at, shape = self.start + start * row_bytes, (stop - start, row_bytes)
        data = np.asarray(np.memmap(self.path, np.uint8, "r", at, shape))
        try:
            values = dequantize(data, GGMLQuantizationType(self.stored.type_id))
        except NotImplementedError as error:
            raise self._unsupported() from error
        # F32 comes as a view of the file, which must not outlive this call
        found: FloatArray = values.astype(np.float32, copy=np.may_share_memory(values, data))
        return found

    def _unsupported(self) -> UnsupportedModel:
        return UnsupportedModel(
            f"{self.path}: {self.name} is stored as {self.type}, which this version of gguf cannot turn into "
            "floats; update gguf (pip install -U gguf), or quantize the model again with another type for it"
        )

    def chunks(self, n_rows: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """(first row, rows) for the whole tensor, `n_rows` at a time; by default as many as need 64 MB."""
        step = n_rows or max(1, _STRETCH // (_FLOAT * max(1, self.width)))
        for start in range(0, self.n_rows, step):
            yield start, self.rows(start, start + step)

    def read(self) -> FloatArray:
        """All of it, in its `shape`."""
        whole = np.empty((self.n_rows, self.width), np.float32)
        for start, rows in self.chunks():
            whole[start : start + len(rows)] = rows
        return whole.reshape(self.shape)


def read_weights(path: Path, name: str) -> GgufTensor:
    """The tensor `name` of the model at `path`, whichever part of a split one holds it.

    Raises ModelLoadError for what is no GGUF, UnsupportedModel if the model has no such tensor.
    """
    return find_weights(read_headers(path), name)


def find_weights(headers: Sequence[Header], name: str) -> GgufTensor:
    """The tensor `name` of a model whose headers are read already; raises UnsupportedModel."""
    for header in headers:
        if name in header.tensors:
            tensor = header.tensors[name]
            return GgufTensor(header.path, name, tensor, header.data + tensor.offset)
    raise UnsupportedModel(f"{headers[0].path}: no tensor {name!r} in this model; is it a text model?")

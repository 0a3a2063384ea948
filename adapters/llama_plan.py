"""What contexts of a model will take, by llama.cpp's own reckoning: it lays out all and allocates nothing.

Knows the lines in which llama.cpp says so; nothing of budgets. Only the header of the GGUF is read.
"""

import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from adapters.errors import AdapterError
from adapters.llama_context import LlamaContext
from adapters.llama_lib import log_listener
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings

_MIB = 2**20
_COMPUTE = re.compile(r": +(\S+) compute buffer size = +([\d.]+) MiB")
_CACHE = re.compile(r": size = +([\d.]+) MiB \( *\d+ cells, +\d+ layers")  # of recurrent states, too


@dataclass(frozen=True, slots=True)
class ContextMemory:
    """Bytes, to 0.01 MiB. n_ctx: tokens that fit. cache: keys, values and recurrent states. compute: by kind
    of buffer; layers: the same where the output is computed elsewhere, and output: there. inputs: what a
    decode is given, about, which is in the main memory wherever the rest is. rows: logits of the most rows
    that one decode may have, which grow into it."""

    n_ctx: int
    cache: int
    compute: dict[str, int]
    layers: dict[str, int]
    output: int
    inputs: int
    rows: int

    @property
    def total(self) -> int:
        return self.cache + sum(self.compute.values()) + self.rows


class PlannedModel:
    """A model of which there is only the header."""

    def __init__(self, path: Path, settings: ModelSettings | None = None) -> None:
        """`path`: a GGUF, or the header of one in a file of the same length; raises ModelLoadError."""
        bare = replace(settings or ModelSettings(), lora=(), lora_scale=(), rpc_servers=())
        self.model = LlamaModel(path, bare, weightless=True)

    def context(self, settings: ContextSettings) -> ContextMemory:
        """What an open context would take; raises what opening it would raise."""
        n_ctx, n_rows, lines = self._laid_out(settings)
        compute, cache = _compute(lines), _sum(_CACHE, lines)
        if not compute or not cache:
            raise AdapterError("this llama.cpp does not say what it needs; use llama-cpp-python 0.3.36")
        # as few outputs as there may be: what is left is the layers' own
        layers = _compute(self._laid_out(replace(settings, max_rows=settings.n_seq_max))[2])
        n_embd, n_vocab = self.model.n_embd, self.model.n_vocab
        inputs = 4 * min(n_ctx, settings.n_ubatch) * (n_embd + n_ctx)  # embeddings and the mask
        output = 4 * n_rows * (n_embd + n_vocab)
        return ContextMemory(n_ctx, cache, compute, layers, output, inputs, 4 * n_rows * n_vocab)

    def _laid_out(self, settings: ContextSettings) -> tuple[int, int, list[str]]:
        """Tokens and rows of a context, and what llama.cpp says while it lays it out."""
        lines: list[str] = []
        thread = threading.get_ident()  # another thread may be loading something else

        def collect(line: str) -> None:
            if threading.get_ident() == thread:
                lines.append(line)

        with log_listener(collect):
            context = LlamaContext(self.model, settings)
        n_ctx, n_rows = context.capabilities.n_ctx, context.capabilities.max_rows
        context.close()
        return n_ctx, n_rows, lines

    def close(self) -> None:
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _compute(lines: list[str]) -> dict[str, int]:
    """The last report of each buffer: a context may reserve more than once."""
    return {match[1]: int(float(match[2]) * _MIB) for line in lines if (match := _COMPUTE.search(line))}


def _sum(pattern: re.Pattern[str], lines: list[str]) -> int:
    return sum(int(float(match[1]) * _MIB) for line in lines if (match := pattern.search(line)))

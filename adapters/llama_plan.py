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
_CACHE = re.compile(  # of recurrent states, too
    r": size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers(?:.*V \(b?f(\d+)\): +([\d.]+) MiB)?"
)
_FLASH = re.compile(r"Flash Attention enabled|flash_attn += enabled")


@dataclass(frozen=True, slots=True)
class ContextMemory:
    """Bytes, to 0.01 MiB. n_ctx: tokens that fit. cache: keys, values and recurrent states. compute: by kind
    of buffer; layers: the same where the output is computed elsewhere, output: there, and last: with the last
    layer, behind whose attention there are as few rows. embedded: tokens as the first layer reads them,
    inputs: with all else that a decode is given; these are in the main memory wherever the rest is. rows:
    logits of the most rows that one decode may have, which grow into it."""

    n_ctx: int
    cache: int
    compute: dict[str, int]
    layers: dict[str, int]
    output: int
    last: int
    embedded: int
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
        compute, caches = _compute(lines), [found for line in lines if (found := _CACHE.search(line))]
        if not compute or not caches:
            raise AdapterError("this llama.cpp does not say what it needs; use llama-cpp-python 0.3.36")
        # as few outputs as there may be: what is left is the layers' own
        layers = _compute(self._laid_out(replace(settings, max_rows=settings.n_seq_max))[2])
        n_embd, n_vocab = self.model.n_embd, self.model.n_vocab
        n, flash = min(n_ctx, settings.n_ubatch), any(map(_FLASH.search, lines))
        embedded, given = 4 * n * n_embd, n * sum(_mask_row(found, flash) for found in caches)
        output = 4 * n_rows * (n_embd + n_vocab)
        last = max(output, given + 5 * embedded) if flash else max(compute.values())
        cache = sum(_bytes(found[1]) for found in caches)
        # embeddings twice: as they are made and as they are handed over
        return ContextMemory(
            n_ctx=n_ctx,
            cache=cache,
            compute=compute,
            layers=layers,
            output=output,
            last=last,
            embedded=embedded,
            inputs=2 * embedded + given,
            rows=4 * n_rows * n_vocab,
        )

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
    return {match[1]: _bytes(match[2]) for line in lines if (match := _COMPUTE.search(line))}


def _mask_row(cache: re.Match[str], flash: bool) -> int:
    """What a token brings along for one cache: who sees whom, in 16 bits where flash attention reads it, and
    without that where each number of its values goes, as they are stored across then."""
    n_cells, n_layers = int(cache[2]), int(cache[3])
    if flash or not cache[4]:
        return (2 if flash else 4) * n_cells
    n_values = _bytes(cache[5]) * 8 // int(cache[4]) // max(1, n_layers * n_cells)
    return 4 * n_cells + 8 * n_values


def _bytes(mebibytes: str) -> int:
    return int(float(mebibytes) * _MIB)

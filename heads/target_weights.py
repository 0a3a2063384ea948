"""What a head borrows from its target: embedding, output matrix and final norm, out of the GGUF.

Knows llama.cpp's names of these tensors; nothing of heads or contexts. A target's logits are `output` times a
post-norm row, but for what some architectures do afterwards (a bias, a scale, a soft cap).
"""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import ModelLoadError, UnsupportedModel
from adapters.gguf_header import read_headers
from adapters.gguf_weights import GgufTensor, find_weights

Progress = Callable[[int, int], None]  # rows of the matrix done, rows in all

# their graphs multiply every embedding by the root of its length
_SCALED = frozenset(("gemma", "gemma2", "gemma3", "gemma3n", "gemma4"))


class TargetWeights:
    """Each tensor is dequantized when it is first asked for, and kept."""

    def __init__(
        self,
        path: Path,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        """Read the header only; raises ModelLoadError for what is no GGUF of a model."""
        self.path, self.dtype, self.device, self._progress = path, dtype, device, progress
        self._headers = read_headers(path)
        architecture = self._headers[0].fields.get("general.architecture")
        if not isinstance(architecture, str):
            raise ModelLoadError(f"{path}: no general.architecture, so it holds no model")
        self.architecture: str = architecture

    @cached_property
    def embedding(self) -> Tensor:
        """`[n_vocab, n_embd]`, as stored: before the `embedding_scale`."""
        return self._load(self._stored("token_embd.weight"))

    @cached_property
    def output(self) -> Tensor:
        """`[n_vocab, n_embd]`; the same object as `embedding` where the GGUF has one tensor for both."""
        return self.embedding if self.tied else self._load(self._stored("output.weight"))

    @cached_property
    def final_norm(self) -> Tensor:
        """`[n_embd]`: what the normalised residual stream is multiplied by before the output matrix."""
        return self._load(self._stored("output_norm.weight")).flatten()

    @property
    def tied(self) -> bool:
        return not any("output.weight" in header.tensors for header in self._headers)

    @cached_property
    def eps(self) -> float:
        """Of the RMS norms; raises UnsupportedModel for architectures with another norm."""
        key = f"{self.architecture}.attention.layer_norm_rms_epsilon"
        value = self._headers[0].fields.get(key)
        if not isinstance(value, float):
            raise UnsupportedModel(
                f"{self.path}: {key} is {value!r}, so its final norm is no RMS norm; "
                "use a head that needs no norm of the target"
            )
        return value

    @property
    def embedding_scale(self) -> float:
        """What the target's graph multiplies embeddings by before its first layer."""
        width = self._stored("token_embd.weight").width
        return math.sqrt(width) if self.architecture in _SCALED else 1.0

    @property
    def n_bytes(self) -> int:
        """Memory that embedding, output and final norm take once loaded; reads none of them."""
        names = ["token_embd.weight", "output_norm.weight"] + ["output.weight"] * (not self.tied)
        return sum(self._stored(name).stored.n_params for name in names) * self.dtype.itemsize

    def _stored(self, name: str) -> GgufTensor:
        return find_weights(self._headers, name)

    def _load(self, stored: GgufTensor) -> Tensor:
        loaded = torch.empty((stored.n_rows, stored.width), dtype=self.dtype, device=self.device)
        for start, rows in stored.chunks():
            loaded[start : start + len(rows)] = torch.from_numpy(rows)
            if self._progress is not None and stored.n_rows > 1:
                self._progress(start + len(rows), stored.n_rows)
        return loaded

"""A target in memory that gives hidden rows, as a llama.cpp context does: for new tokens only, and gone with
the next decode."""

from collections.abc import Callable, Sequence

import numpy as np

from adapters.target import FloatArray, HiddenRows, HiddenTaps, Rows
from orchestrator.draft import Draft
from tests.fakes import Logits, MemoryTarget

Feature = Callable[[Sequence[int]], FloatArray]  # of the last of the given tokens


class HiddenTarget(MemoryTarget):
    """Keeps the common prefix of its memory, and reports the rows of what it had to read."""

    def __init__(self, logits: Logits, feature: Feature, n_vocab: int, taps: HiddenTaps, **options) -> None:
        super().__init__(logits, n_vocab, **options)
        self._feature, self._taps = feature, taps
        self._last: list[np.ndarray] = []
        self.n_read = 0

    def prefill(self, tokens, *, should_stop=None, on_hidden=None) -> int:
        old, new = self.memory, list(tokens[:-1])
        kept = 0
        while kept < min(len(old), len(new)) and old[kept] == new[kept]:
            kept += 1
        self.memory, self.root = new, tokens[-1]
        self.n_read += len(new) - kept
        for start in range(kept, len(new), 5):  # in stretches, as batches are
            stop = min(len(new), start + 5)
            if on_hidden is not None:
                on_hidden(start, self._rows([new[: i + 1] for i in range(start, stop)]))
        return kept

    def score(self, draft: Draft) -> Rows:
        before = [*self.memory, self.root]
        rows = super().score(draft)
        paths: list[list[int]] = []
        for token, parent in zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True):
            paths.append([*(paths[parent] if parent >= 0 else []), token])
        return Rows(rows.logits, self._rows([before, *([*before, *path] for path in paths)]))

    def _rows(self, texts: list[list[int]]) -> HiddenRows:
        for stale in self._last:
            stale.fill(np.nan)  # whoever kept a view notices
        rows = np.stack([self._feature(text) for text in texts]).astype(np.float32)
        if not self._taps.layers:
            self._last = [rows]
            return HiddenRows(rows)
        parts = np.split(rows, len(self._taps.layers), axis=1)
        self._last = [part.copy() for part in parts]
        return HiddenRows(None, dict(zip(self._taps.layers, self._last, strict=True)))

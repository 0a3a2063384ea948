"""Features that are on no disk: the target computes the rows of a text whenever they are read.

Slower by one prefill for each text and epoch. Knows the files of a store, but for the one with the rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from heads.training.store import FeatureStore, Text


class LiveFeatures(FeatureStore):
    """A store without `rows.bin`: to whom reads from it, it is a store like any other."""

    def __init__(
        self,
        folder: Path,
        n_features: int,
        n_last: int,
        meta: dict[str, object],
        rows: Callable[[Sequence[int]], Tensor],
    ) -> None:
        """rows: a text's tokens -> `[n, n_features + n_last]` bfloat16, the same whenever it is asked."""
        super().__init__(folder, n_features, n_last, meta)
        self._rows = rows

    @property
    def _row_bytes(self) -> int:
        return 0

    def add(self, key: str, n_prompt: int, tokens: list[int], rows: Tensor) -> None:
        """Append a text; its rows are not kept."""
        self.add_text(key, n_prompt, tokens)

    def add_text(self, key: str, n_prompt: int, tokens: list[int]) -> None:
        """Append a text whose rows nobody has computed yet."""
        self._add(key, n_prompt, tokens, b"")

    def read(self, text: Text) -> tuple[Tensor, Tensor]:
        """(tokens `[n]` int64, rows `[n, n_features + n_last]` bfloat16) of a text, by one prefill."""
        tokens = self._tokens(text)
        rows = self._rows(tokens.tolist())
        assert rows.shape == (text.n, self.n_features + self.n_last)
        return tokens, rows

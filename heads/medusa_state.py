"""Drafting with Medusa heads: the newest row that the target has given, and what each head makes of it.

Knows one row; nothing of trees.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.target import FloatArray
from heads.draft_state import likeliest_tokens
from heads.medusa import Medusa


class MedusaState:
    """The newest row of one text."""

    def __init__(self, network: Medusa) -> None:
        self.network = network
        self._row: Tensor | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a row to guess from."""
        return self._row is not None

    def forget(self) -> None:
        self._row = None

    def see(self, row: FloatArray) -> None:
        """The post-norm row `[h]` of the newest token that the target has decoded; copied."""
        self._row = torch.from_numpy(row.copy()).to(self.network.device)[None]

    @torch.inference_mode()
    def guesses(self, k: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Each head's k likeliest tokens and their log-probabilities, `[n_heads, k]` each, likeliest first.

        Head 0 guesses the token after the newest one that has been chosen and not decoded.
        """
        if self._row is None:
            raise ValueError("see a row first")
        return likeliest_tokens(self.network(self._row)[:, 0], k, self.network.token_map)

"""Keys and values of a draft layer: a stretch that is settled, and behind it the nodes of a tree.

Knows rows and lengths; nothing of tokens. Preallocated, so that a draft step allocates nothing.
"""

import torch
from torch import Tensor

_FIRST = 512  # rows allocated at once; then twice as many as are needed


class DraftCache:
    """`n` settled rows in each of `n_layers` layers; rows behind them are overwritten at will.

    n_room: rows that there is memory for. It may be written from outside, too: see `memory`.
    """

    def __init__(
        self, n_layers: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n = 0
        empty = torch.empty(2, n_layers, n_kv_heads, 0, head_dim, dtype=dtype, device=device)
        self._rows = empty  # keys and values

    def reserve(self, n: int) -> None:
        """Make room for `n` rows in all; what is settled stays."""
        if n <= self.n_room:
            return
        shape = list(self._rows.shape)
        shape[3] = max(_FIRST, 2 * n)
        larger = self._rows.new_zeros(shape)  # so that what is masked is a number
        larger[:, :, :, : self.n_room] = self._rows
        self._rows = larger

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Rows `start`, ... of a layer; keys, values: `[n, n_kv_heads, head_dim]`."""
        end = start + len(keys)
        self._rows[0, layer, :, start:end] = keys.transpose(0, 1)
        self._rows[1, layer, :, start:end] = values.transpose(0, 1)

    def read(self, layer: int, start: int, end: int) -> tuple[Tensor, Tensor]:
        """(keys, values) of rows `start` to `end`, `[n_kv_heads, n, head_dim]`; views."""
        return self._rows[0, layer, :, start:end], self._rows[1, layer, :, start:end]

    def memory(self, layer: int) -> tuple[Tensor, Tensor]:
        """(keys, values), `[n_kv_heads, n_room, head_dim]` without gaps; they move when `n_room` grows."""
        return self._rows[0, layer], self._rows[1, layer]

    @property
    def n_room(self) -> int:
        return self._rows.shape[3]

    @property
    def n_bytes(self) -> int:
        return self._rows.element_size() * self._rows.nelement()

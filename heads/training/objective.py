"""What a head learns: losses and hits of a batch, for each family of heads."""

from typing import Protocol

import torch
from torch import Tensor, nn

from heads.eagle import Eagle
from heads.rope import RotaryTable
from heads.training.unroll import Batch, Losses, losses


class Objective(Protocol):
    """A network and what is asked of it."""

    @property
    def network(self) -> nn.Module: ...

    def losses(self, batch: Batch) -> Losses: ...


class Eagle3Objective:
    """EAGLE-3 with training-time test: `n_steps` guesses in a row, each against the target's own law."""

    def __init__(self, network: Eagle, target_output: Tensor, n_steps: int) -> None:
        """target_output `[V, h]`: the target's projection, in the dtype that laws are computed in."""
        spec = network.spec
        self.network, self._n_steps = network, n_steps
        self._rope = RotaryTable(spec.rope, spec.head_dim, network.dtype, network.device)
        n_vocab = len(target_output)
        ids = torch.arange(n_vocab) if network.d2t is None else network.d2t
        self._draft_output = target_output[ids]
        self._places = torch.full((n_vocab,), -1, dtype=torch.int64)
        self._places[ids] = torch.arange(len(ids))

    def losses(self, batch: Batch) -> Losses:
        return losses(self.network, batch, self._n_steps, self._rope, self._draft_output, self._places)

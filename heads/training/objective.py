"""What a head learns: losses and hits of a batch, for each family of heads."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from heads.eagle import Eagle
from heads.medusa import Medusa
from heads.rope import RotaryTable
from heads.training.unroll import Aims, Batch, Losses, judged, losses
from heads.training.warm_start import places_of


class Objective(Protocol):
    """A network, what is asked of it, and the parts of it that are the target's and stay as they are.

    reached: the chance from which on a draft may go through a token, see `judged`.
    """

    @property
    def network(self) -> nn.Module: ...

    @property
    def frozen(self) -> Sequence[nn.Module]: ...

    def losses(self, batch: Batch, reached: float) -> Losses: ...


class Eagle3Objective:
    """EAGLE-3 with training-time test: `n_steps` guesses in a row, each against the target's own law."""

    def __init__(self, network: Eagle, aims: Aims, n_steps: int) -> None:
        self.network, self._aims, self._n_steps = network, aims, n_steps
        self.frozen: Sequence[nn.Module] = ()
        self._rope = rope_of(network)

    def losses(self, batch: Batch, reached: float) -> Losses:
        return losses(self.network, batch, self._n_steps, self._rope, self._aims, reached)


class EagleObjective:
    """EAGLE-1: the head's row shall be the target's next post-norm row, and say what that says.

    Unrolled as EAGLE-3 is (HASS: Zhang et al. 2024), so that it learns to go on from its own rows.
    """

    def __init__(self, network: Eagle, aims: Aims, n_steps: int) -> None:
        self.network, self._aims, self._n_steps = network, aims, n_steps
        self.frozen: Sequence[nn.Module] = (network.output,)
        self._rope = rope_of(network)

    def losses(self, batch: Batch, reached: float) -> Losses:
        rows = replace(batch, features=batch.last)
        return losses(self.network, rows, self._n_steps, self._rope, self._aims, reached, likeness=1.0)


class MedusaObjective:
    """Medusa-1: head i on the post-norm row of token t against the target's law of token t + 2 + i."""

    def __init__(self, network: Medusa, aims: Aims) -> None:
        self.network, self._aims = network, aims
        self.frozen: Sequence[nn.Module] = tuple(network.outputs)

    def losses(self, batch: Batch, reached: float) -> Losses:
        n_heads = self.network.spec.n_heads
        hidden = batch.last[:, : batch.tokens.shape[1] - 1 - n_heads]

        def guess(head: int, rows: Tensor) -> tuple[Tensor, Tensor]:
            last = self.network.last(head, hidden[rows].to(self.network.dtype))
            return last, self.network.projection(head)

        return judged(batch, n_heads, self._aims, reached, guess)


def rope_of(network: Eagle) -> RotaryTable:
    spec = network.spec
    return RotaryTable(spec.rope, spec.head_dim, network.dtype, network.device)


def aims_of(target_output: Tensor, ids: Tensor) -> Aims:
    """target_output `[V, h]`: the target's projection, in the dtype that laws are computed in. ids: the
    tokens that a head may draft."""
    return Aims(target_output[ids], places_of(ids, len(target_output)))

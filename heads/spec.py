"""What a head is, whatever file it came in: its family, its sizes, and its tensors by canonical names.

Knows shapes and flags; nothing of files, of networks or of how drafts are made. `h` is the target's
hidden size, `hd` the head's own, `V` the target's vocabulary, `Vd` the head's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Family = Literal["medusa", "eagle", "eagle3"]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions as the head was trained with them. scaling: Hugging Face's `rope_scaling`, None =
    none."""

    theta: float = 10000.0
    scaling: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MedusaSpec:
    """Medusa (Cai et al. 2024): head i of `n_heads` sees the post-norm row of token t and guesses token t + 2
    + i. n_blocks: residual blocks of each head. n_vocab: rows of its projection, None = the target's own
    projection is used."""

    n_heads: int
    n_blocks: int
    hidden_size: int
    n_vocab: int | None = None

    @property
    def family(self) -> Family:
        return "medusa"


@dataclass(frozen=True, slots=True, kw_only=True)
class EagleSpec:
    """EAGLE-1/2 (Li et al. 2024) and EAGLE-3 (Li et al. 2025).

    hidden_size: h. width: hd. n_vocab: Vd. taps: the layers whose inputs the target must give, low to high
    (EAGLE-3; empty = the default 2, n/2, n - 3 of a target of n layers, see `default_taps`); EAGLE-1/2 read
    post-norm rows. norm_before_residual: the residual is the normed feature. norm_output: the feature
    fed back is the normed one.
    """

    family: Family
    hidden_size: int
    width: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    n_vocab: int
    rope: Rope = Rope()
    eps: float = 1e-6
    n_taps: int = 1
    taps: tuple[int, ...] = ()
    norm_before_residual: bool = False
    norm_output: bool = False


Spec = MedusaSpec | EagleSpec


@dataclass(frozen=True, slots=True)
class Head:
    """A head as it was read. source: where from. notes: what the reader had to assume or correct."""

    spec: Spec
    tensors: "Mapping[str, Tensor]"
    source: str
    notes: tuple[str, ...] = field(default=())


def default_taps(n_layer: int) -> tuple[int, ...]:
    """Inputs of layers 2, n/2 and n - 3 (SafeAILab's reference); of very small models, those that exist."""
    return tuple(sorted({min(2, n_layer - 1), n_layer // 2, max(0, n_layer - 3)}))

"""Where a decode's time goes: the layers or the vocabulary projection, by rows.

The layers are a prefill that asks for no logits, the projection is the rest of a decode that asks for
all of them. Both are measured one after the other, so the difference of two near numbers is noisy:
every row count is measured several times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.llama_context import LlamaContext
from orchestrator.cost.timing import CLOCK, Clock, filler, fitting_rows, score_ms, typical
from orchestrator.tune.timing import layers_ms

ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
SHORT = 64  # tokens in the cache: attention is a part of the layers that no type changes


@dataclass(frozen=True, slots=True)
class Split:
    """ms by rows. head: the vocabulary projection with the end of the last layer."""

    rows: tuple[int, ...]
    layers: tuple[float, ...]
    head: tuple[float, ...]

    @property
    def total(self) -> tuple[float, ...]:
        return tuple(a + b for a, b in zip(self.layers, self.head, strict=True))

    def head_share(self, rows: int) -> float:
        """The projection's part of what `rows` rows cost more than one."""
        at = self.rows.index(rows)
        head, total = self.head[at] - self.head[0], self.total[at] - self.total[0]
        return min(max(head / total, 0.0), 1.0) if total > 0 else 0.0


def measure_split(context: LlamaContext, passes: int, clock: Clock = CLOCK) -> Split:
    """The split of an open context, whose cache is used and then worthless."""
    can = context.capabilities
    n_past = max(1, min(SHORT, can.n_ctx // 4))
    rows = fitting_rows(context, ROWS, n_past)
    tokens = filler(n_past + 1, can.n_vocab)
    context.prefill(tokens)
    whole: list[list[float]] = [[] for _ in rows]
    part: list[list[float]] = [[] for _ in rows]
    for _ in range(passes):
        for n, all_ms, layer_ms in zip(rows, whole, part, strict=True):
            # the first of each kind builds a graph, the second uses it again
            score_ms(context, n, clock)
            all_ms.append(score_ms(context, n, clock))
            layers_ms(context, tokens, n, clock)
            layer_ms.append(layers_ms(context, tokens, n, clock))
    total, layers = [typical(times) for times in whole], [typical(times) for times in part]
    return Split(rows, tuple(layers), _differences(total, layers))


def _differences(total: Sequence[float], layers: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(0.0, whole - part) for whole, part in zip(total, layers, strict=True))

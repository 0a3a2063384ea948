"""What tuning needs beside the timing of whole decodes: the layers alone, and models that can be timed."""

from collections.abc import Sequence
from dataclasses import replace

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel, amx_is_safe
from adapters.settings import ModelSettings
from orchestrator.cost.timing import CLOCK, Clock
from orchestrator.errors import UnsupportedTarget


def require_rollback(model: LlamaModel) -> None:
    """Raise UnsupportedTarget where a decode cannot be undone: such a model cannot speculate either."""
    if model.no_rollback:
        raise UnsupportedTarget(
            f"{model.path.name} cannot be sped up by speculation, so there is nothing to tune: "
            f"{model.no_rollback}"
        )


def settled(weights: ModelSettings) -> ModelSettings:
    """The same with repacking decided, for those who load many models: each would warn of AMX again."""
    decided = amx_is_safe() if weights.use_extra_bufts is None else weights.use_extra_bufts
    return replace(weights, use_extra_bufts=decided)


def layers_ms(context: LlamaContext, tokens: Sequence[int], rows: int, clock: Clock = CLOCK) -> float:
    """ms of `rows` rows through the layers alone: a prefill asks for no logits, so llama.cpp leaves the
    vocabulary projection out (and the end of the last layer). The cache holds `tokens[:-1]`, the first."""
    n_past = context.n_past
    longer = [*tokens[: n_past + 1], *[0] * rows]
    began = clock()
    context.prefill(longer)
    context.synchronize()
    elapsed = 1e3 * (clock() - began)
    context.truncate(n_past)
    context.root = tokens[n_past]
    return elapsed


def no_progress(_done: int, _total: int) -> None:
    """For those who want no reports."""

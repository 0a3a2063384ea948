"""Timing one decode on an open target, which is left as it was found."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel, amx_is_safe
from adapters.settings import ModelSettings
from orchestrator.draft import EMPTY, Draft
from orchestrator.errors import UnsupportedTarget
from orchestrator.protocols import Target

Clock = Callable[[], float]
CLOCK: Clock = perf_counter


def filler(n: int, n_vocab: int) -> list[int]:
    """`n` tokens of no meaning; shorter ones begin as longer ones do."""
    return [int(token) for token in np.random.default_rng(0).integers(n_vocab, size=n)]


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


def score_ms(target: Target, rows: int, clock: Clock = CLOCK) -> float:
    """ms of a decode of `rows` rows, the logits of each included."""
    draft = Draft.chain([0] * (rows - 1), source="tune") if rows > 1 else EMPTY
    began = clock()
    target.score(draft)
    elapsed = 1e3 * (clock() - began)
    target.rollback()
    return elapsed


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

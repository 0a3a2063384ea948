"""Reading the target's hidden rows off its own answers, one prefill each.

Knows contexts and taps; what is stored is the store's business.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from adapters.target import HiddenRows, HiddenTaps
from heads.training.answers import Answer
from heads.training.store import FeatureStore

_ROWS = 512  # of one decode: each is an output, as post-norm rows are wanted


def gather(
    model: LlamaModel,
    taps: tuple[int, ...],
    answers: Iterable[Answer],
    store: FeatureStore,
    *,
    max_length: int,
    budget: int,
    progress: Callable[[int], None] = lambda _n_tokens: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Add each answer that the store has not, cut to `max_length` tokens, while `budget` bytes allow."""
    settings = ContextSettings(n_ctx=max_length + 1, n_batch=_ROWS, n_ubatch=_ROWS, max_rows=_ROWS)
    context = LlamaContext(model, settings, HiddenTaps(post_norm=True, layers=taps))
    try:
        for answer in answers:
            if should_stop() or store.n_bytes >= budget:
                return
            tokens = [*answer.prompt, *answer.answer][:max_length]
            if answer.key in store or len(answer.prompt) >= len(tokens):
                continue
            store.add(answer.key, len(answer.prompt), tokens, _rows(context, tokens, taps))
            progress(store.n_tokens)
    finally:
        context.close()


def _rows(context: LlamaContext, tokens: list[int], taps: tuple[int, ...]) -> torch.Tensor:
    """`[n, taps and post-norm row]` bfloat16; the last token is decoded, too, behind which nothing is
    asked."""
    found: list[torch.Tensor] = []

    def take(_start: int, hidden: HiddenRows) -> None:
        assert hidden.post_norm is not None
        rows = np.concatenate([*(hidden.layers[layer] for layer in taps), hidden.post_norm], axis=1)
        found.append(torch.from_numpy(rows).to(torch.bfloat16))

    context.truncate(0)
    context.prefill([*tokens, tokens[-1]], on_hidden=take)
    return torch.cat(found)

"""Reading the target's hidden rows off texts, one prefill each.

Knows contexts and taps; what is stored is the store's business.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from adapters.target import HiddenRows, HiddenTaps
from heads.training.answers import Answer
from heads.training.store import FeatureStore

_ROWS = 512  # of one decode: each is an output, as post-norm rows are wanted


class Reader:
    """The target as a reader of texts of at most `max_length` tokens; its context opens with the first."""

    def __init__(
        self, model: LlamaModel, taps: tuple[int, ...], max_length: int, n_threads: int | None = None
    ) -> None:
        self._model, self._taps = model, taps
        self._settings = ContextSettings(
            n_ctx=max_length + 1,
            n_batch=_ROWS,
            n_ubatch=_ROWS,
            max_rows=_ROWS,
            n_threads=n_threads,
        )
        self._context: LlamaContext | None = None

    def rows(self, tokens: Sequence[int]) -> torch.Tensor:
        """`[n, taps and post-norm row]` bfloat16; the last token is decoded, too, behind which nothing is
        asked."""
        if self._context is None:
            taps = HiddenTaps(post_norm=True, layers=self._taps)
            self._context = LlamaContext(self._model, self._settings, taps)
        found: list[torch.Tensor] = []

        def take(_start: int, hidden: HiddenRows) -> None:
            assert hidden.post_norm is not None
            rows = np.concatenate([*(hidden.layers[layer] for layer in self._taps), hidden.post_norm], axis=1)
            found.append(torch.from_numpy(rows).to(torch.bfloat16))

        self._context.truncate(0)
        self._context.prefill([*tokens, tokens[-1]], on_hidden=take)
        return torch.cat(found)

    def close(self) -> None:
        """Free the context; safe to call twice, and a later text opens another."""
        if self._context is not None:
            self._context.close()
            self._context = None


def gather(
    reader: Reader,
    answers: Iterable[Answer],
    store: FeatureStore,
    *,
    max_length: int,
    budget: int,
    progress: Callable[[int], None] = lambda _n_tokens: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Add each text that the store has not, cut to `max_length` tokens, while `budget` bytes allow; how many
    were left out because they do not."""
    n_left_out = 0
    for key, n_prompt, tokens in new_texts(answers, store, max_length):
        if should_stop():
            break
        if store.n_bytes >= budget:
            n_left_out += 1
            continue
        store.add(key, n_prompt, tokens, reader.rows(tokens))
        progress(store.n_tokens)
    return n_left_out


def new_texts(
    answers: Iterable[Answer], store: FeatureStore, max_length: int
) -> Iterator[tuple[str, int, list[int]]]:
    """(key, tokens of the prompt, all tokens up to `max_length`) of what the store has not."""
    for answer in answers:
        tokens = [*answer.prompt, *answer.answer][:max_length]
        if answer.key not in store and len(answer.prompt) < len(tokens):
            yield answer.key, len(answer.prompt), tokens

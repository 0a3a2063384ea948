"""A smaller GGUF drafts for the target: its own context, its own KV cache, its own rollback.

Knows how to keep the draft model's cache in step with the target's text; the vocabularies must agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from adapters.target import FloatArray, IntArray, common_length
from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.chain import grown
from orchestrator.drafters.setup import Setup
from orchestrator.errors import ConfigError, UnsupportedTarget
from orchestrator.sampler import Guess


class DraftContext(Protocol):
    """What the drafter needs of a model's context (adapters.llama_context.LlamaContext has it)."""

    @property
    def n_past(self) -> int: ...
    @property
    def tokens(self) -> IntArray: ...
    def truncate(self, n: int) -> None: ...
    def extend(self, tokens: Sequence[int]) -> FloatArray: ...


class ModelDrafter(Drafter):
    """Drafts a chain with a second model, greedily or by sampling as the request does."""

    name = "model"
    max_draft = 4

    def __init__(
        self,
        model: DraftContext,
        n_vocab: int,
        n_ctx: int,
        *,
        max_draft: int | None = None,
        p_min: float = 0.0,
        close: Callable[[], None] | None = None,
    ) -> None:
        """n_vocab: the target's vocabulary. n_ctx: the draft's own context. p_min: stop drafting at a
        token that the draft model gives less probability. close: frees the model."""
        self._model, self._n_vocab, self._n_ctx, self._p_min = model, n_vocab, n_ctx, p_min
        self.max_draft = max_draft or ModelDrafter.max_draft
        self._close = close
        self._n_agreed = 0  # tokens of the cache that are known to be the context's

    def begin(self, context: Context) -> None:
        """Read the prompt, but for what the cache has of it already."""
        self._n_agreed = 0
        if len(context) <= self._n_ctx:
            self._drop_wrong_guesses(context)
            new = context.tokens[self._n_agreed : -1]
            if new:
                self._model.extend(new)
                self._n_agreed += len(new)

    def propose(self, context: Context, budget: int) -> Draft:
        n = min(budget, self.max_draft, self._n_ctx - len(context))
        if n <= 0:  # the draft model's context is full
            return Draft()
        row = self._catch_up(context)

        def guess(so_far: Sequence[Guess]) -> Guess:
            nonlocal row
            if so_far:
                row = self._model.extend([so_far[-1].token])
            return context.sampler.guess(self._fitted(row), len(context), [one.token for one in so_far])

        def goes_on(probs: Sequence[float]) -> bool:
            return self.gate.goes_on(self.name, probs, n)

        return grown(self.name, n, guess, goes_on, p_min=self._p_min)

    def _catch_up(self, context: Context) -> FloatArray:
        """Logits after the newest token, once the cache has dropped wrong guesses and read what is new."""
        self._drop_wrong_guesses(context)
        row = self._model.extend(context.tokens[self._n_agreed :])
        self._n_agreed = len(context)
        return row

    def _drop_wrong_guesses(self, context: Context) -> None:
        # the newest token is always read again: only a decode gives its logits
        cached = self._model.tokens[self._n_agreed : len(context) - 1]
        actual = np.asarray(context.tokens[self._n_agreed : self._n_agreed + len(cached)], np.int32)
        self._n_agreed += common_length(cached, actual)
        self._model.truncate(self._n_agreed)
        self._n_agreed = self._model.n_past

    def _fitted(self, row: FloatArray) -> FloatArray:
        """`row` at the target's vocabulary size: padding tokens are dropped or impossible."""
        missing = self._n_vocab - len(row)
        if missing <= 0:
            return row[: self._n_vocab]
        return np.concatenate([row, np.full(missing, -np.inf, np.float32)])

    def forget(self) -> None:
        self._model.truncate(0)
        self._n_agreed = 0

    def close(self) -> None:
        if self._close is not None:
            self._close()


def build(setup: Setup) -> ModelDrafter:
    """The `model` method: `setup.draft` names a GGUF (path, preset or Hub reference)."""
    from adapters.llama_context import LlamaContext
    from adapters.llama_model import LlamaModel
    from adapters.vocab import require_same_vocab

    if setup.draft is None:
        raise ConfigError("method='model' needs a draft model: give draft='a-smaller.gguf'")
    layers = setup.speculation.draft_n_gpu_layers
    # a draft model stays here: every token that it guesses would cross the network
    settings = replace(setup.model, lora=(), lora_scale=(), rpc_servers=())
    settings = settings if layers is None else replace(settings, n_gpu_layers=layers)
    model = LlamaModel(setup.resolve(setup.draft), settings)
    try:
        if model.no_rollback:
            raise UnsupportedTarget(
                f"{model.path.name} cannot draft: {model.no_rollback}; use a draft with attention only"
            )
        require_same_vocab(setup.target, model)
        context = LlamaContext(model, replace(setup.context, n_seq_max=1))
    except BaseException:
        model.close()
        raise
    return ModelDrafter(
        context,
        setup.target.n_vocab,
        context.capabilities.n_ctx,
        max_draft=setup.speculation.max_draft,
        p_min=setup.speculation.draft_p_min,
        close=model.close,
    )

"""Our drafters behind llama-cpp-python's hook: `llama_cpp.Llama(path, draft_model=SuffixDraft())`.

The hook is told the ids so far and answers with ids; it hears neither of probabilities nor of what became
of its guesses, so that drafts are bounded in length here and not by a planner.
"""

from typing import Any

import numpy as np

from adapters.settings import require
from adapters.target import IntArray, common_length
from orchestrator.context import Context
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.lookup import LookupDrafter
from orchestrator.drafters.suffix import SuffixDrafter
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.suffix.references import References


class HookDraft:
    """A drafter that is called with all ids so far; one serves one `Llama`."""

    def __init__(self, drafter: Drafter, num_pred_tokens: int) -> None:
        require(num_pred_tokens >= 1, f"num_pred_tokens must be >= 1, got {num_pred_tokens}")
        self.drafter, self.num_pred_tokens = drafter, num_pred_tokens
        self._known: IntArray = np.zeros(0, np.int32)
        self._context = Context([], Sampler(Sampling(temperature=0.0)))

    def __call__(self, input_ids: IntArray, /, **_kwargs: Any) -> IntArray:
        """Ids that may follow `input_ids [n]`; empty for no idea. Cheap where the ids of the call before
        have only grown."""
        ids = np.asarray(input_ids, np.int32)
        self._follow(ids)
        tokens = self.drafter.propose(self._context, self.num_pred_tokens).tokens
        return np.asarray(tokens[: self.num_pred_tokens], np.intc)

    def _follow(self, ids: IntArray) -> None:
        n_known = len(self._known)
        if n_known and common_length(self._known, ids) == n_known:
            self._context.extend(ids[n_known:].tolist())
        else:
            self._context = Context(ids.tolist(), self._context.sampler)
            self.drafter.begin(self._context)
        self._known = ids.copy()  # llama-cpp-python goes on writing into its own array


class LookupDraft(HookDraft):
    """Drafts what followed the last time the newest tokens stood in the text."""

    def __init__(self, ngram_min: int = 2, num_pred_tokens: int = 10) -> None:
        """ngram_min: tokens that must match. num_pred_tokens: tokens drafted at most."""
        require(ngram_min >= 1, f"ngram_min must be >= 1, got {ngram_min}")
        super().__init__(LookupDrafter(ngram_min, num_pred_tokens), num_pred_tokens)


class SuffixDraft(HookDraft):
    """Drafts what followed the longest stretch that the text shares with itself or with references, for as
    long as there is hope."""

    def __init__(
        self, ngram_min: int = 2, num_pred_tokens: int = 10, references: References | None = None
    ) -> None:
        """references: what `Engine.prepare` made of documents, for the model's vocabulary."""
        require(ngram_min >= 1, f"ngram_min must be >= 1, got {ngram_min}")
        drafter = SuffixDrafter(references, match_min=ngram_min, max_draft=num_pred_tokens)
        super().__init__(drafter, num_pred_tokens)

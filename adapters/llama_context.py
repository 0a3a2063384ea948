"""A llama.cpp context as a target: prefill, score a draft tree in one decode, keep a path.

State between calls: the KV cache holds `tokens` (every token but the root); `root` is the newest
token, not decoded yet. All sequences of the cache hold the same tokens, so that any leaf of the next
tree can continue them. Knows nothing of where drafts come from or which tokens are right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adapters.errors import AdapterError, ConfigError, ContextFull, DecodeError, RollbackError
from adapters.float_view import FloatViews
from adapters.llama_batch import LlamaBatch, TreeShape
from adapters.llama_hidden import HiddenReader, pointer_getter
from adapters.llama_lib import library
from adapters.llama_model import LlamaModel
from adapters.llama_open import context_params, open_context
from adapters.llama_state import read_state, write_state
from adapters.settings import ContextSettings, require
from adapters.target import (
    Capabilities,
    DraftLike,
    FloatArray,
    HiddenRows,
    HiddenTaps,
    IntArray,
    Rows,
    WalkLike,
    common_length,
)

DEFAULT_N_CTX = 4096
NO_TREE = TreeShape(np.zeros(0, np.int32), np.zeros((0, 0), bool))


class LlamaContext:
    """One open context of a model."""

    def __init__(
        self,
        model: LlamaModel,
        settings: ContextSettings | None = None,
        taps: HiddenTaps | None = None,
    ) -> None:
        """Open a context; raises ModelLoadError where llama.cpp refuses, UnsupportedModel for taps."""
        self.model, self.settings = model, settings or ContextSettings()
        self._hidden = HiddenReader(model, taps) if taps else None
        self._n_seq = 1 if model.no_rollback else self.settings.n_seq_max
        self._lib = lib = library()
        self._ctx, self._free = self._open()
        self._memory = lib.llama_get_memory(self._ctx)
        self._logits = pointer_getter("llama_get_logits")
        if self._hidden is not None:
            self._hidden.attach(self._ctx)
        n_ctx = lib.llama_n_ctx(self._ctx)
        self.capabilities = Capabilities(
            n_vocab=model.n_vocab,
            n_ctx=n_ctx,
            max_rows=min(self.settings.max_rows, n_ctx),
            max_leaves=self._n_seq,
            no_rollback=model.no_rollback,
        )
        self._n_batch: int = lib.llama_n_batch(self._ctx)
        self._batch = LlamaBatch(self._n_batch, self._n_seq, n_ctx)
        self._kv = np.zeros(n_ctx, np.int32)
        self._views = FloatViews(model.n_vocab)
        self._shape = NO_TREE
        self._scored: DraftLike | None = None
        self._dirty = False  # the cache may hold more than `tokens`
        self.n_past = 0
        self.root = -1
        self._n_sealed = 0  # below so many tokens the cache is good for nothing

    def _open(self) -> tuple[Any, Callable[[], object]]:
        """The C context and what frees it."""
        settings, params = self.settings, context_params(self.settings)
        params.n_ctx = settings.n_ctx or min(self.model.n_ctx_train, DEFAULT_N_CTX)
        params.n_seq_max, params.n_outputs_max = self._n_seq, settings.max_rows
        if self._hidden is not None:
            self._hidden.prepare(params)
        params.kv_unified = True  # trees share their prefix
        params.swa_full = True  # a recycled sliding-window cell could not be rolled back
        size, advice = f"{params.n_ctx} tokens", "a smaller n_ctx needs less memory"
        # what the context calls back must outlive it
        return open_context(self, self.model, params, size, advice, self._hidden)

    def close(self) -> None:
        """Free the context; safe to call twice."""
        self._ctx = None
        self._free()

    @property
    def tokens(self) -> IntArray:
        """The tokens in the KV cache, `[n_past]`; a view."""
        return self._kv[: self.n_past]

    # -- prefill ---------------------------------------------------------------------------------

    def prefill(
        self,
        tokens: Sequence[int],
        *,
        should_stop: Callable[[], bool] | None = None,
        on_hidden: Callable[[int, HiddenRows], None] | None = None,
    ) -> int:
        """Make `tokens[-1]` the root and bring the cache to `tokens[:-1]`; return how many it had.

        The longest common prefix with the cached tokens is kept. `should_stop` is asked between
        batches; a prefill that stops leaves a shorter, valid cache. `on_hidden(start, rows)` gets the
        hidden rows of each new stretch.
        """
        new = self.checked(tokens)
        self._require_open()
        require(
            on_hidden is None or self._hidden is not None,
            "on_hidden needs a context that was opened with taps",
        )
        if len(new) > self.capabilities.n_ctx:
            raise ContextFull(
                f"{len(new)} tokens do not fit the context of {self.capabilities.n_ctx}; "
                "shorten the prompt or load with a larger n_ctx"
            )
        kept = self._keep_prefix(new[:-1])
        self.root = int(new[-1])
        while self.n_past < len(new) - 1:
            if should_stop is not None and should_stop():
                break
            stop = min(len(new) - 1, self.n_past + self._prefill_stride(on_hidden is not None))
            self._append(new[self.n_past : stop], on_hidden)
        return kept

    def checked(self, tokens: Sequence[int]) -> IntArray:
        """`tokens` as an array; raises ConfigError for what are no tokens of this model."""
        require(
            len(tokens) > 0,
            "there are no tokens to decode; give at least one (a BOS token will do)",
        )
        array = np.asarray(tokens)
        require(
            array.dtype.kind in "iu" and array.ndim == 1, f"tokens must be whole numbers, got {tokens[:4]!r}"
        )
        wrong = array[(array < 0) | (array >= self.capabilities.n_vocab)]
        require(
            len(wrong) == 0,
            f"token {wrong[0] if len(wrong) else 0} is not in the vocabulary of "
            f"{self.capabilities.n_vocab} tokens",
        )
        return array.astype(np.int32)

    def _prefill_stride(self, with_hidden: bool) -> int:
        # where rows make every token an output: those are bounded by max_rows
        if with_hidden and self._hidden is not None and self._hidden.needs_outputs:
            return self.capabilities.max_rows
        return self._n_batch

    def _keep_prefix(self, tokens: IntArray) -> int:
        self.truncate(common_length(tokens, self.tokens))
        return self.n_past

    def _append(self, tokens: IntArray, on_hidden: Callable[[int, HiddenRows], None] | None) -> None:
        start, n = self.n_past, len(tokens)
        hidden = self._hidden if on_hidden is not None else None
        every_row = hidden is not None and hidden.needs_outputs
        self._batch.fill_chain(tokens, start, 1, outputs=every_row)
        self._decode(hidden=hidden is not None)
        for seq in range(1, self._n_seq):
            self._lib.llama_memory_seq_cp(self._memory, 0, seq, start, start + n)
        if hidden is not None and on_hidden is not None:
            on_hidden(start, hidden.rows(n))
        self._extend_tokens(tokens)

    # -- states ----------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        """The cache of `tokens`, for `load_state` of the same model with the same settings."""
        self._require_open()
        self._drop_uncommitted()
        return read_state(self._ctx, self.model.path.name)

    def load_state(self, tokens: Sequence[int], state: bytes) -> None:
        """Make the cache what it was when `save_state` gave `state`, at `tokens`; after an error it is empty.

        `state` must not come from anywhere else, which is for the caller to check.
        """
        kept = self.checked(tokens)
        require(len(kept) < self.capabilities.n_ctx, f"{len(kept)} tokens leave no room in the context")
        self.truncate(0)
        self._dirty = True
        try:
            write_state(self._ctx, state, self.model.path.name)
            last = self._lib.llama_memory_seq_pos_max(self._memory, 0)
            if last != len(kept) - 1:
                raise AdapterError(f"the saved memory ends at position {last} instead of {len(kept) - 1}")
        except AdapterError:
            self.truncate(0)
            raise
        for seq in range(1, self._n_seq):
            self._lib.llama_memory_seq_cp(self._memory, 0, seq, 0, len(kept))
        # of sliding windows only the last is saved, which is good for the newest token and what follows it
        self._n_sealed = len(kept) - 1 if self.model.memory_class == "sliding window" else 0
        self._extend_tokens(kept)

    # -- rounds ----------------------------------------------------------------------------------

    def score(self, draft: DraftLike) -> Rows:
        """Decode the root and the draft's nodes at once; logits `[1 + n, n_vocab]`, valid until the
        next decode. Follow it by `commit` or `rollback`."""
        self._require_open()
        self._drop_uncommitted()
        n, can = len(draft.tokens), self.capabilities
        if n >= can.max_rows:
            raise ConfigError(f"a draft of {n} nodes does not fit max_rows={can.max_rows} (root included)")
        if self.n_past + n >= can.n_ctx:
            raise ContextFull(f"{self.n_past + 1 + n} tokens do not fit the context of {can.n_ctx}")
        self._fill(draft)
        self._decode(hidden=True)
        self._scored = draft
        hidden = self._hidden.rows(1 + n) if self._hidden is not None else None
        return Rows(self._rows(1 + n), hidden)

    def _fill(self, draft: DraftLike) -> None:
        if draft.is_chain:
            self._shape = NO_TREE
            self._batch.fill_round(self.root, draft.tokens, self.n_past)
            return
        self._shape = TreeShape.of(draft.parents)
        n_leaves = len(self._shape.member)
        require(
            n_leaves <= self._n_seq,
            f"a draft tree of {n_leaves} leaves needs n_seq_max >= {n_leaves}, this context has "
            f"{self._n_seq}",
        )
        self._batch.fill_tree(self.root, draft.tokens, self._shape, self.n_past)

    def commit(self, walk: WalkLike) -> None:
        """Keep the root and the nodes on `walk.path`; `walk.tokens[-1]` becomes the root.

        Metadata only, no decode: nodes off the path lose their cells, and the sequences that did not
        run along the path get a reference to its cells.
        """
        self._require_open()
        if self._scored is None:
            raise RollbackError("there is nothing to keep: commit must follow score")
        start, n_kept = self.n_past, 1 + len(walk.path)
        if n_kept <= len(self._scored.tokens):
            self._remove(-1, start + n_kept)
            if walk.path and len(self._shape.member):
                self._share_path(np.asarray(walk.path), start + 1, start + n_kept)
            last = self._lib.llama_memory_seq_pos_max(self._memory, 0)
            if last != start + n_kept - 1:
                raise RollbackError(f"the KV cache ends at position {last} instead of {start + n_kept - 1}")
        self._kv[start] = self.root
        if walk.path:
            self._kv[start + 1 : start + n_kept] = walk.tokens[:-1]
        self._settle(start + n_kept)
        self.root = walk.tokens[-1]

    def _share_path(self, path: IntArray, start: int, end: int) -> None:
        on_path = self._shape.member[:, path]  # [n_leaves, n_accepted]
        winner = int(np.argmax(on_path[:, -1]))
        shared = on_path.sum(axis=1)
        for seq in range(self._n_seq):
            first = start + (int(shared[seq]) if seq < len(shared) else 0)
            if first < end:
                self._remove(seq, first)
                self._lib.llama_memory_seq_cp(self._memory, winner, seq, first, end)

    def rollback(self) -> None:
        """Drop what was scored but not committed. A recurrent memory can only forget everything."""
        self.truncate(self.n_past)

    def _drop_uncommitted(self) -> None:
        n_past = self.n_past
        if self._dirty:
            self.rollback()
        if self.n_past < n_past:
            raise RollbackError(
                f"{self.model.path.name}: {self.capabilities.no_rollback}, so an uncommitted round cost the "
                "whole cache; prefill again"
            )

    def truncate(self, n: int) -> None:
        """Keep the first `n` cached tokens; the root is undefined until the next prefill."""
        self._require_open()
        n = min(n, self.n_past)
        if n == self.n_past and not self._dirty:
            return
        if n < max(1, self._n_sealed) or self.capabilities.no_rollback:
            self._lib.llama_memory_clear(self._memory, False)
            n = self._n_sealed = 0
        else:
            self._remove(-1, n)
        self._settle(n)

    def extend(self, tokens: Sequence[int]) -> FloatArray:
        """Append `tokens` to the cache and return the logits `[n_vocab]` after the last: for drafting."""
        new = self.checked(tokens)
        self._require_open()
        self._drop_uncommitted()
        if self.n_past + len(new) > self.capabilities.n_ctx:
            raise ContextFull(
                f"{self.n_past + len(new)} tokens do not fit the context of {self.capabilities.n_ctx}"
            )
        while len(new) > self._n_batch:
            self._append(new[: self._n_batch], None)
            new = new[self._n_batch :]
        self._batch.fill_chain(new, self.n_past, self._n_seq, outputs=False)
        self._batch.output_last()
        self._decode()
        self._extend_tokens(new)
        row: FloatArray = self._rows(1)[0]
        return row

    def synchronize(self) -> None:
        """Wait for the device: a prefill has no result that it would have to hand over."""
        self._require_open()
        self._lib.llama_synchronize(self._ctx)

    # -- llama.cpp -------------------------------------------------------------------------------

    def _decode(self, *, hidden: bool = False) -> None:
        self._dirty = True
        if self._hidden is None:
            code = self._lib.llama_decode(self._ctx, self._batch.c)
        else:
            code = self._hidden.decode(self._lib.llama_decode, self._batch.c, wanted=hidden)
        if code == 0:
            return
        self.rollback()
        if code == 1:
            raise ContextFull(
                f"llama.cpp found no room for {self._batch.c.n_tokens} tokens after {self.n_past} in a "
                f"context of {self.capabilities.n_ctx}; load with a larger n_ctx"
            )
        raise DecodeError(
            f"llama_decode returned {code} for {self._batch.c.n_tokens} tokens after {self.n_past}"
        )

    def _rows(self, n: int) -> FloatArray:
        return self._views.at(self._logits(self._ctx), n)  # the address comes when the decode has finished

    def _extend_tokens(self, tokens: IntArray) -> None:
        end = self.n_past + len(tokens)
        self._kv[self.n_past : end] = tokens
        self._settle(end)

    def _settle(self, n_past: int) -> None:
        """The cache now holds the first `n_past` tokens and nothing else."""
        self.n_past, self._dirty, self._scored = n_past, False, None

    def _remove(self, seq: int, start: int) -> None:
        if not self._lib.llama_memory_seq_rm(self._memory, seq, start, -1):
            self._lib.llama_memory_clear(self._memory, False)
            self.n_past = self._n_sealed = 0
            raise RollbackError(
                f"{self.model.path.name}: llama.cpp could not drop the tokens from position {start} on "
                f"({self.model.memory_class} memory); the cache has been emptied"
            )

    def _require_open(self) -> None:
        if not self._ctx:
            raise AdapterError(f"the context of {self.model.path.name} is closed; open a new one")

"""Many prompts answered at once in one llama.cpp context: a sequence each, all of them in every decode.

Reading the weights is the price of a decode, and a crowd shares it. Knows tokens and sequences; nothing
of text, of drafts, or of how a token is chosen. A prompt is read along with the steps of those who are
answering already, so a place that falls free is filled at once.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from adapters.errors import AdapterError, DecodeError, RollbackError
from adapters.float_view import float_view
from adapters.llama_batch import LlamaBatch
from adapters.llama_hidden import pointer_getter
from adapters.llama_lib import library
from adapters.llama_model import LlamaModel
from adapters.llama_open import context_params, open_context
from adapters.settings import MAX_SEQ, ContextSettings, require
from adapters.target import FloatArray

K = TypeVar("K")
_Choose = Callable[[K, int, FloatArray], int]
_MOST_CELLS = 2**31 - 2**17  # llama.cpp counts cells in 32 bits, and rounds up by 256 a sequence


@dataclass(slots=True)
class _Place(Generic[K]):
    """One who is being answered: what is to be decoded next, after `n_past` tokens."""

    key: K
    pending: list[int]  # the rest of the prompt, later the newest token
    room: int  # how many tokens the answer may have
    n_past: int = 0
    answer: list[int] = field(default_factory=list)


class Crowd:
    """A context of `n_parallel` sequences with `n_ctx_each` tokens each."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_parallel: int = 16,
        n_ctx_each: int = 1024,
        settings: ContextSettings | None = None,
    ) -> None:
        """Of `settings`, n_ctx, max_rows and n_seq_max have no say here: the two numbers replace them.
        Raises ModelLoadError where llama.cpp refuses."""
        self.model, self.settings = model, settings or ContextSettings()
        most = min(MAX_SEQ, self.settings.n_batch)
        require(
            1 <= n_parallel <= most,
            f"n_parallel must be between 1 and {most} (n_batch, at most {MAX_SEQ}), got {n_parallel}",
        )
        require(
            2 <= n_ctx_each <= _MOST_CELLS // n_parallel,
            f"n_ctx_each must be between 2 and {_MOST_CELLS // n_parallel}, got {n_ctx_each}",
        )
        self.n_parallel, self.n_ctx_each = n_parallel, n_ctx_each
        self._lib = lib = library()
        self._ctx, self._free = self._open()
        self._memory = lib.llama_get_memory(self._ctx)
        self._logits = pointer_getter("llama_get_logits")
        self._n_batch: int = lib.llama_n_batch(self._ctx)
        self._batch = LlamaBatch(self._n_batch, 1, n_ctx_each)
        self._batch.n_seq_id[:] = 1
        self._busy = False

    def _open(self) -> tuple[Any, Callable[[], object]]:
        """The C context and what frees it."""
        params = context_params(self.settings)
        params.n_ctx = self.n_parallel * self.n_ctx_each
        params.n_seq_max = params.n_outputs_max = self.n_parallel
        # a cache of its own for each: in a common one, every row looks at all cells
        params.kv_unified = False
        params.swa_full = False  # nothing is rolled back here: cells behind the window may go
        size = f"{self.n_parallel} x {self.n_ctx_each} tokens"
        return open_context(
            self, self.model, params, size, "a smaller n_parallel or n_ctx_each needs less memory"
        )

    def close(self) -> None:
        """Free the context; safe to call twice."""
        self._ctx = None
        self._free()

    def answers(
        self,
        prompts: Iterable[tuple[K, Sequence[int]]],
        *,
        max_tokens: int,
        is_end: Callable[[int], bool],
        choose: Callable[[K, int, FloatArray], int] | None = None,
    ) -> Generator[tuple[K, list[int]], None, None]:
        """Each prompt's key with its answer, in the order in which they are finished.

        An answer ends with a token for which `is_end` holds (it is part of the answer), after
        `max_tokens`, or where prompt and answer together are `n_ctx_each` tokens. A prompt that leaves
        no room for a token has the empty answer, so that every key comes back. `prompts` is asked for
        one more whenever a place is free. `choose(key, position, logits)` picks the token at `position`
        of its sequence (as many tokens stand before it) from logits `[n_vocab]` that are valid during
        the call; None is greedy. After an error, its own or the callers', the crowd starts afresh.
        """
        require(max_tokens >= 1, f"max_tokens must be at least 1, got {max_tokens}")
        self._require_open()
        return self._run(self._places(prompts, max_tokens), is_end, choose)

    def _places(self, prompts: Iterable[tuple[K, Sequence[int]]], max_tokens: int) -> Iterator[_Place[K]]:
        for key, prompt in prompts:
            tokens = self._checked(key, prompt)
            yield _Place(key, tokens, min(max_tokens, self.n_ctx_each - len(tokens)))

    def _checked(self, key: object, prompt: Sequence[int]) -> list[int]:
        tokens = np.asarray(prompt)
        require(len(tokens) > 0, f"the prompt {key!r} has no tokens; give at least one (a BOS token will do)")
        require(
            tokens.dtype.kind in "iu" and tokens.ndim == 1,
            f"the prompt {key!r} must be a row of whole numbers, got {prompt[:4]!r}",
        )
        for token in (int(tokens.min()), int(tokens.max())):
            self._require_token(key, token)
        result: list[int] = tokens.tolist()
        return result

    def _run(
        self, waiting: Iterator[_Place[K]], is_end: Callable[[int], bool], choose: _Choose[K] | None
    ) -> Generator[tuple[K, list[int]], None, None]:
        require(not self._busy, "this crowd is still answering; exhaust or close() that iterator first")
        self._busy = True
        try:
            active: dict[int, _Place[K]] = {}
            while True:
                yield from self._admit(waiting, active)
                if not active:
                    return
                yield from self._step(active, is_end, choose)
        finally:
            self._busy = False
            if self._ctx:
                self._lib.llama_memory_clear(self._memory, False)

    def _admit(
        self, waiting: Iterator[_Place[K]], active: dict[int, _Place[K]]
    ) -> Iterator[tuple[K, list[int]]]:
        """Give every free sequence a prompt; those without room for an answer come out again."""
        for seq in range(self.n_parallel):
            while seq not in active:
                place = next(waiting, None)
                if place is None:
                    return
                if place.room > 0:
                    active[seq] = place
                else:
                    yield place.key, []

    def _step(
        self, active: dict[int, _Place[K]], is_end: Callable[[int], bool], choose: _Choose[K] | None
    ) -> list[tuple[K, list[int]]]:
        """One decode; those who are finished by it leave."""
        ready = self._fill(active)
        self._decode()
        if not ready:
            return []
        tokens, finished = self._pick([active[seq] for seq in ready], choose), []
        for seq, token in zip(ready, tokens, strict=True):
            place = active[seq]
            place.answer.append(token)
            place.pending = [token]
            if is_end(token) or len(place.answer) == place.room:
                self._vacate(seq)
                del active[seq]
                finished.append((place.key, place.answer))
        return finished

    def _fill(self, active: dict[int, _Place[K]]) -> list[int]:
        """Lay out one token of each, and more of the prompts as far as a batch holds them; the
        sequences that have nothing pending then, whose next token the decode will tell."""
        tokens: list[int] = []
        positions: list[int] = []
        seqs: list[int] = []
        outputs: list[int] = []  # rows
        ready = []
        spare = self._n_batch - len(active)
        for seq in sorted(active):  # llama.cpp takes neighbouring sequences together
            place = active[seq]
            n = min(len(place.pending), 1 + spare)
            spare -= n - 1
            tokens += place.pending[:n]
            positions += range(place.n_past, place.n_past + n)
            seqs += [seq] * n
            place.n_past += n
            place.pending = place.pending[n:]
            if not place.pending:
                outputs.append(len(tokens) - 1)
                ready.append(seq)
        batch, n_rows = self._batch, len(tokens)
        batch.token[:n_rows], batch.pos[:n_rows], batch.seq[:n_rows, 0] = tokens, positions, seqs
        batch.output[:n_rows] = 0
        batch.output[outputs] = 1
        batch.c.n_tokens = n_rows
        return ready

    def _decode(self) -> None:
        self._require_open()  # the caller may have closed it between two answers
        code = self._lib.llama_decode(self._ctx, self._batch.c)
        if code != 0:
            raise DecodeError(
                f"{self.model.path.name}: llama_decode returned {code} for {self._batch.c.n_tokens} tokens "
                f"of {self.n_parallel} sequences; where memory is short, lower n_parallel or n_ctx_each"
            )

    def _pick(self, places: list[_Place[K]], choose: _Choose[K] | None) -> list[int]:
        """The next token of each of `places`, who are the rows of the last decode."""
        rows = float_view(self._logits(self._ctx), len(places), self.model.n_vocab)
        likeliest = rows.argmax(axis=1)  # where there is a NaN, argmax finds it
        for place, row, token in zip(places, rows, likeliest, strict=True):
            if np.isnan(row[token]):
                raise DecodeError(
                    f"{self.model.path.name}: the logits of {place.key!r} are not numbers (NaN) after "
                    f"{place.n_past} tokens; the file may be damaged, or this build miscomputes its weights"
                )
        if choose is None:
            return [int(token) for token in likeliest]
        tokens = [int(choose(place.key, place.n_past, row)) for place, row in zip(places, rows, strict=True)]
        for place, token in zip(places, tokens, strict=True):
            self._require_token(place.key, token)
        return tokens

    def _vacate(self, seq: int) -> None:
        # from 0 to the end: the one removal that recurrent memories do, too
        if not self._lib.llama_memory_seq_rm(self._memory, seq, -1, -1):
            raise RollbackError(
                f"{self.model.path.name}: llama.cpp could not drop a finished sequence "
                f"({self.model.memory_class} memory); call answers() for one prompt at a time"
            )

    def _require_token(self, key: object, token: int) -> None:
        n_vocab = self.model.n_vocab
        require(
            0 <= token < n_vocab,
            f"token {token} of {key!r} is not in the vocabulary of {n_vocab} tokens",
        )

    def _require_open(self) -> None:
        if not self._ctx:
            raise AdapterError(f"the crowd of {self.model.path.name} is closed; open a new one")

"""llama-cpp-python's own `Llama` as an entrant, plain or with its prompt lookup.

What the stock class (0.3.36) does that shows in figures or needs a way round:
- With a draft model it reads the logits of all rows, but sizes their array by `logits_all` alone, so a
  context of more than n_batch tokens fails; `logits_all=True` is therefore given with it, and every
  token of the context then holds a row of n_vocab floats: 805 MB for 4096 tokens of 49152 entries.
- `generate` keeps what it has in common with the prompt before; here it is reset before each answer.
- Its flash attention is off unless asked for, and a draft goes up to the end of the context, also where
  fewer tokens are wanted; both are left as they are.
- `generate` has no logit bias. A logits processor stands in for it, and costs a pass in NumPy per token.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.bench.answer import Answer
from orchestrator.bench.peers.sampling import llama_seed, same_words, sampling_of
from orchestrator.errors import BenchError
from orchestrator.sampling import RANDOM_SEED, Sampling

Processor = Callable[[Any, Any], Any]  # (token ids, logits [n_vocab]) -> logits


class LlamaCppPython:
    """`Llama.generate` over token ids; an answer ends where the context is full."""

    def __init__(
        self,
        model: Path,
        *,
        n_ctx: int,
        n_threads: int,
        sampling: Mapping[str, Any],
        end_tokens: Sequence[int],
        ignore_eos: bool = False,
        lookup: int = 0,
        max_ngram_size: int = 2,
        flash_attn: bool = False,
        name: str = "llama-cpp-python",
    ) -> None:
        """lookup: tokens that prompt lookup drafts at once, 0 = no drafts; see above for n_ctx with it.

        max_ngram_size: the longest n-gram looked up. sampling: our settings by name. ignore_eos: end
        tokens are forbidden.
        """
        self._name, self._end = name, frozenset(end_tokens)
        self._sampling = sampling_of(sampling)
        self._processor = _processor(self._sampling, end_tokens if ignore_eos else ())
        options = {"n_ctx": n_ctx, "n_threads": n_threads, "n_threads_batch": n_threads}
        options |= {"flash_attn": flash_attn, "last_n_tokens_size": _last_n(self._sampling, n_ctx)}
        self._llama: Any = _load(model, options, lookup, max_ngram_size)

    @property
    def name(self) -> str:
        return self._name

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        if self._llama is None:
            raise BenchError(f"{self.name} is closed; open a new one")
        room = self._llama.n_ctx() - len(prompt)  # as llama-server counts it
        if room < 1:
            raise BenchError(f"{self.name}: a prompt of {len(prompt)} tokens leaves no room; raise n_ctx")
        seed = llama_seed(self._sampling)
        self._llama.set_seed(random.randrange(RANDOM_SEED) if seed == RANDOM_SEED else seed)
        self._llama.reset()
        try:
            return self._generate(prompt, min(max_tokens, room))
        except (RuntimeError, ValueError) as error:  # what Llama raises for a failed decode
            raise BenchError(f"{self.name} failed: {error}; drop this peer or raise n_ctx") from error

    def _generate(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        tokens: list[int] = []
        start = first = last = time.perf_counter()
        with closing(self._llama.generate(prompt, **self._options())) as generated:
            while len(tokens) < max_tokens:
                tokens.append(int(next(generated)))
                last = time.perf_counter()
                if len(tokens) == 1:
                    first = last
                if tokens[-1] in self._end:
                    break
        # the prompt's decode gives one token, so no burst lies before the clock
        n_timed = max(len(tokens) - 1, 0)
        return Answer(tuple(tokens), n_timed, last - first, first - start, last - start)

    def _options(self) -> dict[str, Any]:
        processors = self._processor and [self._processor]
        return {
            "temp": self._sampling.temperature,
            **same_words(self._sampling),
            "logits_processor": processors,
        }

    def close(self) -> None:
        """Free the model; safe to call twice."""
        llama, self._llama = self._llama, None
        if llama is not None:
            llama.close()


def _load(model: Path, options: dict[str, Any], lookup: int, max_ngram_size: int) -> Any:
    from adapters.llama_lib import library

    library()  # first, so that llama.cpp's log goes where ours does
    from llama_cpp import Llama
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    if lookup:
        draft = LlamaPromptLookupDecoding(max_ngram_size=max_ngram_size, num_pred_tokens=lookup)
        options = {**options, "draft_model": draft, "logits_all": True}
    try:
        return Llama(str(model), verbose=False, **options)
    except (MemoryError, RuntimeError, ValueError) as error:
        raise BenchError(f"llama-cpp-python cannot load {model}: {error}") from error


def _last_n(sampling: Sampling, n_ctx: int) -> int:
    return n_ctx if sampling.penalty_last_n < 0 else sampling.penalty_last_n


def _processor(sampling: Sampling, forbidden: Sequence[int]) -> Processor | None:
    bias = {**sampling.logit_bias, **dict.fromkeys(forbidden, -np.inf)}
    if not bias:
        return None
    ids, added = np.array(list(bias)), np.array(list(bias.values()), np.float32)

    def add(_ids: Any, logits: Any) -> Any:
        logits[ids] += added
        return logits

    return add

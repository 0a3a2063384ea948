"""The target's chooser for one request: parameters, penalty window, grammar and seed together.

Knows the tokens accepted so far; nothing of drafts or models. One sampler serves one request.
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from adapters.target import FloatArray, IntArray
from orchestrator.errors import ConfigError, DecodeError, GrammarError
from orchestrator.law import IdArray, Law, log_softmax
from orchestrator.noise import gumbel
from orchestrator.sampling import Sampling, law

ROUND_STRIDE = 1 << 20  # rounds start at different positions, drafts are far shorter than this


class Grammar(Protocol):
    """A constraint on the text that tokens may be checked against and advanced along."""

    def allows(self, token: int) -> bool: ...
    def mask(self, logits: FloatArray) -> FloatArray: ...
    def accept(self, token: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Guess:
    """A drafter's token, its probability under q, and q itself where the verify rule asks for it."""

    token: int
    prob: float
    q: Law | None


class PenaltyWindow:
    """Counts of the newest `size` tokens (-1 = all)."""

    def __init__(self, size: int, tokens: Sequence[int]) -> None:
        self._tokens: deque[int] = deque(tokens, maxlen=None if size < 0 else size)
        self.counts = Counter(self._tokens)

    def push(self, token: int) -> None:
        if self._tokens.maxlen is not None and len(self._tokens) == self._tokens.maxlen:
            self._forget(self._tokens[0])
        self._tokens.append(token)
        self.counts[token] += 1

    def _forget(self, token: int) -> None:
        self.counts[token] -= 1
        if not self.counts[token]:
            del self.counts[token]

    def with_ahead(self, ahead: Sequence[int]) -> Counter[int]:
        """The counts as they will be after `ahead`."""
        copy = PenaltyWindow(-1 if self._tokens.maxlen is None else self._tokens.maxlen, self._tokens)
        for token in ahead:
            copy.push(token)
        return copy.counts


class Sampler:
    """Chooses the target's tokens: y = argmax(log p + g), g a function of (seed, position, token).

    `coupled`: whether drafters should guess with the same noise (the coupled rule) or draw from q
    with noise of their own and hand q over (rejection and block verification).
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int] = (),
        grammar: Grammar | None = None,
        *,
        coupled: bool = True,
        processor: Callable[[IntArray, FloatArray], FloatArray] | None = None,
    ) -> None:
        """processor(ids, logits): changes the logits that follow all ids so far, before anything else."""
        self.sampling, self.grammar, self.coupled = sampling, grammar, coupled
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self._plain_argmax = sampling.plain_argmax
        self._free = replace(sampling, logit_bias={}, penalty_last_n=0)
        seen = prompt if sampling.penalize_prompt else ()
        self._processor, self._ids = processor, list(prompt) if processor is not None else []
        self._window = PenaltyWindow(sampling.penalty_last_n, seen) if sampling.penalizes else None

    def choose(self, logits: FloatArray, position: int) -> int:
        """The target's token at absolute `position`, from its `logits [n_vocab]` there."""
        if self._processor is not None:
            logits = self._processed(logits)
        if self._plain_argmax:
            token = int(logits.argmax())
            if logits[token] != logits[token]:  # NaN
                raise DecodeError(
                    f"the model's logits are NaN at position {position}; the GGUF may be damaged"
                )
        else:
            token = self.law(logits).draw(self.seed, "target", position)
        if self.grammar is None or self.grammar.allows(token):
            return token
        # llama.cpp's order: sample freely, and only a refused token costs a pass over the vocabulary
        masked = self.grammar.mask(logits)
        if not np.isfinite(masked).any():
            raise GrammarError("no token of this model can continue the text within the grammar")
        return self.law(masked).draw(self.seed, "grammar", position)

    def _processed(self, logits: FloatArray) -> FloatArray:
        assert self._processor is not None
        answer = self._processor(np.array(self._ids, np.int32), logits.copy())
        row: FloatArray = np.asarray(answer, np.float32)
        if row.shape != logits.shape:
            raise ConfigError(
                f"the logits processor must return {len(logits)} logits, got an array of shape {row.shape}"
            )
        return row

    def law(self, logits: FloatArray, ahead: Sequence[int] = ()) -> Law:
        """p after the accepted tokens and then `ahead`, the grammar left out."""
        return law(logits, self.sampling, self._counts(ahead))

    def _counts(self, ahead: Sequence[int]) -> Mapping[int, int]:
        if self._window is None:
            return {}
        return self._window.with_ahead(ahead) if ahead else self._window.counts

    def guess(self, logits: FloatArray, start: int, ahead: Sequence[int]) -> Guess:
        """A drafter's token from its `logits [n_vocab]` after `ahead`, in the round that starts at
        absolute position `start`."""
        q = self.law(logits, ahead)
        if self.coupled:
            token = q.draw(self.seed, "target", start + len(ahead))
            return Guess(token, q.prob(token), None)
        token = q.draw(self.seed, "draft", round_position(start, len(ahead)))
        return Guess(token, q.prob(token), q)

    def guess_among(self, ids: IdArray, logp: FloatArray, start: int, offset: int, most: int) -> list[Guess]:
        """A drafter's best guesses, at most `most`, when it offers candidates only, likeliest first: `ids
        [m]` with their log-probabilities `logp [m]`, `offset` tokens after absolute position `start`.

        Where guesses share the target's noise, `prob` says how clearly that noise decides among them.
        Bias and penalties are left out: what they change is seldom among the candidates. Where q is handed
        over there is one guess, drawn from the candidates' law.
        """
        if self.sampling.greedy:
            pairs = zip(ids[:most].tolist(), np.exp(logp[:most]).tolist(), strict=True)
            return [Guess(token, prob, None if self.coupled else Law.point(token)) for token, prob in pairs]
        among = law(logp, self._free, {})
        q = Law(ids[among.ids], among.logp)
        if not self.coupled:
            token = q.draw(self.seed, "draft", round_position(start, offset))
            return [Guess(token, q.prob(token), q)]
        noisy = q.logp + gumbel(self.seed, "target", start + offset, q.ids)
        chances = np.exp(log_softmax(noisy))
        order = np.argsort(-noisy, kind="stable")[:most]
        return [Guess(int(q.ids[place]), float(chances[place]), None) for place in order]

    def accept(self, token: int) -> None:
        """Take note of an emitted token."""
        if self._processor is not None:
            self._ids.append(token)
        if self._window is not None:
            self._window.push(token)
        if self.grammar is not None:
            self.grammar.accept(token)


def round_position(start: int, offset: int) -> int:
    """A position for noise that no later round may meet again.

    Block verification looks at the noise of tokens it then drops; using that noise a second time for
    the same position would correlate what is emitted there with what was dropped.
    """
    return start * ROUND_STRIDE + offset

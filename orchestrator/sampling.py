"""From logits to the law that tokens are drawn from: llama.cpp's sampler chain, as pure functions.

Order (common/sampling.cpp of llama.cpp): logit bias, penalties, top-k, typical, top-p, min-p,
temperature. Knows arrays and parameters; nothing of drafts, trees or randomness.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np

from adapters.target import FloatArray
from orchestrator.errors import ConfigError, DecodeError
from orchestrator.law import IdArray, Law, RealArray, log_softmax

RANDOM_SEED = 2**32 - 1  # llama.cpp's way to ask for a fresh one (LLAMA_DEFAULT_SEED)
_GROUP = 32  # ids whose maximum stands for them in the first pass of top-k


def _no_bias() -> Mapping[int, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; names, defaults and meaning are llama.cpp's.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0, typical_p 1 and repeat_penalty 1 switch their
    part off. penalty_last_n: how many of the newest tokens the penalties see, -1 = all; penalize_prompt:
    whether those of the prompt are among them, as llama.cpp's programs have it. logit_bias: token id ->
    number added to its logit, -inf forbids it. seed None: a fresh one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_last_n: int = 64
    penalize_prompt: bool = True
    logit_bias: Mapping[int, float] = field(default_factory=_no_bias)
    seed: int | None = None

    def __post_init__(self) -> None:
        self._require(self.temperature >= 0, "temperature", ">= 0 (0 = greedy)")
        self._require(self.top_k >= 0, "top_k", ">= 0 (0 = all tokens)")
        for name in ("top_p", "min_p", "typical_p"):
            self._require(0 <= getattr(self, name) <= 1, name, "between 0 and 1")
        self._require(self.repeat_penalty > 0, "repeat_penalty", "> 0 (1 = off)")
        self._require(self.penalty_last_n >= -1, "penalty_last_n", ">= -1 (-1 = all tokens)")
        self._require(self.seed is None or 0 <= self.seed < 2**64, "seed", "a 64-bit number >= 0")
        for name in ("temperature", "repeat_penalty", "frequency_penalty", "presence_penalty"):
            self._require(math.isfinite(getattr(self, name)), name, "finite")
        for token, bias in self.logit_bias.items():
            if math.isnan(bias) or bias == math.inf:
                raise ConfigError(f"logit_bias of token {token} must be finite or -inf, got {bias}")

    def _require(self, holds: bool, name: str, what: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must be {what}, got {getattr(self, name)!r}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalizes(self) -> bool:
        """Whether the tokens seen so far change the law."""
        changes = self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        return self.penalty_last_n != 0 and changes

    @property
    def plain_argmax(self) -> bool:
        """Whether the choice is the argmax of the raw logits."""
        return self.greedy and not self.penalizes and not self.logit_bias and self.typical_p >= 1

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


def adjusted(logits: FloatArray, sampling: Sampling, counts: Mapping[int, int]) -> FloatArray:
    """`logits [n_vocab]` after bias and penalties; the array itself where nothing changes it."""
    if not sampling.logit_bias and not (counts and sampling.penalizes):
        return logits
    row = logits.astype(np.float32)  # a copy: the rows belong to the target
    n_vocab = len(row)
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < n_vocab:
            raise ConfigError(f"logit_bias names token {token}, the vocabulary has {n_vocab} tokens")
        row[token] += bias
    if counts and sampling.penalizes:
        _penalize(row, sampling, counts)
    return row


def _penalize(row: FloatArray, sampling: Sampling, counts: Mapping[int, int]) -> None:
    ids = np.fromiter(counts.keys(), np.int64, len(counts))
    seen = np.fromiter(counts.values(), np.float32, len(counts))
    logits = row[ids]
    repeat = np.float32(sampling.repeat_penalty)
    logits = np.where(logits <= 0, logits * repeat, logits / repeat)
    row[ids] = logits - seen * np.float32(sampling.frequency_penalty) - np.float32(sampling.presence_penalty)


def law(logits: FloatArray, sampling: Sampling, counts: Mapping[int, int]) -> Law:
    """The law of the next token: `logits [n_vocab]` through the whole chain, `counts` for penalties.

    At temperature 0 it is the point mass on the likeliest token that survives the truncations.
    Raises DecodeError where no token is left.
    """
    ids, values = _top_k(adjusted(logits, sampling, counts), sampling.top_k)
    if len(ids) == 0:
        raise DecodeError("no token is left to choose from: all logits are NaN or -inf; check logit_bias")
    if sampling.typical_p < 1:
        ids, values = _typical(ids, values, sampling.typical_p)
    if sampling.top_p < 1:
        ids, values = _top_p(ids, values, sampling.top_p)
    if sampling.min_p > 0:
        keep = values >= values.max() + math.log(sampling.min_p)
        ids, values = ids[keep], values[keep]
    if sampling.greedy:
        return Law.point(int(ids[np.argmax(values)]))
    return Law(ids, log_softmax(values / sampling.temperature))


def _top_k(row: FloatArray, k: int) -> tuple[IdArray, RealArray]:
    """The k likeliest ids, likeliest first, ties by id; for k = 0 all possible ones, by id."""
    if not 0 < k < len(row):
        ids = np.flatnonzero(row > -math.inf)
        return ids, row[ids].astype(np.float64)
    ids = np.flatnonzero(row >= _lower_bound(row, k))
    ids, values = _likeliest_first(ids, row[ids].astype(np.float64))
    possible = values[:k] > -math.inf
    return ids[:k][possible], values[:k][possible]


def _lower_bound(row: FloatArray, k: int) -> float:
    """A number that at least k entries of `row` reach.

    The k-th largest of the maxima of groups is one, and needs a partial sort of far fewer numbers. Ids of
    a group stand apart: numpy compares whole rows ten times as fast as neighbours.
    """
    n_groups = len(row) // _GROUP
    if n_groups <= k:
        return float(np.partition(row, len(row) - k)[len(row) - k])
    maxima = row[: n_groups * _GROUP].reshape(_GROUP, n_groups).max(axis=0)
    return float(np.partition(maxima, n_groups - k)[n_groups - k])


def _top_p(ids: IdArray, values: RealArray, top_p: float) -> tuple[IdArray, RealArray]:
    """The shortest likeliest-first prefix whose probability reaches `top_p`."""
    logp = log_softmax(values)
    for size in (256, len(ids)):  # sorting a whole vocabulary costs milliseconds and is rarely needed
        order = np.argpartition(-logp, size)[:size] if size < len(ids) else np.arange(len(ids))
        order = order[np.lexsort((ids[order], -logp[order]))]
        mass = np.cumsum(np.exp(logp[order]))
        if size >= len(ids) or mass[-1] >= top_p:
            break
    n = int(np.searchsorted(mass, top_p)) + 1
    return ids[order[:n]], values[order[:n]]


def _typical(ids: IdArray, values: RealArray, typical_p: float) -> tuple[IdArray, RealArray]:
    """Locally typical sampling (Meister et al. 2022): surprise closest to the entropy first."""
    logp = log_softmax(values)
    p = np.exp(logp)
    entropy = -float((p * np.where(p > 0, logp, 0.0)).sum())
    order = np.argsort(np.abs(-logp - entropy), kind="stable")
    n = int(np.searchsorted(np.cumsum(p[order]), typical_p, side="right")) + 1
    return ids[order[:n]], values[order[:n]]


def _likeliest_first(ids: IdArray, values: RealArray) -> tuple[IdArray, RealArray]:
    order = np.argsort(-values, kind="stable")
    return ids[order], values[order]

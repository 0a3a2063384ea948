"""The claim that `law` is llama.cpp's own sampler chain, part by part and all together, on random rows
and on those of real models; and what parameters it refuses."""

import ctypes
import math
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_lib import library
from adapters.llama_model import LlamaModel
from adapters.models import resolve_model
from adapters.settings import ContextSettings
from adapters.target import FloatArray
from adapters.tokenizer import Tokenizer
from orchestrator.draft import Draft
from orchestrator.errors import ConfigError, DecodeError
from orchestrator.law import RealArray
from orchestrator.sampler import PenaltyWindow
from orchestrator.sampling import Sampling, adjusted, law

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
HISTORY = [*range(60, 100), 3, 7, 7, 11, 3, 7, 500, 20, 21, 3, 42, 7]
BIAS = {3: 2.5, 7: -1.5, 11: -math.inf, 900: 8.0}

PARTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a low temperature": {"temperature": 0.2},
    "a high temperature": {"temperature": 1.7},
    "greedy": {"temperature": 0.0},
    "top_k 1": {"top_k": 1},
    "top_k 40": {"top_k": 40},
    "top_k 700": {"top_k": 700},
    "top_k beyond the vocabulary": {"top_k": 10**6},
    "top_p 0": {"top_p": 0.0},
    "top_p 0.1": {"top_p": 0.1},
    "top_p 0.9": {"top_p": 0.9},
    "top_p 0.99": {"top_p": 0.99},
    "min_p 0.05": {"min_p": 0.05},
    "min_p 0.7": {"min_p": 0.7},
    "min_p 1": {"min_p": 1.0},
    "typical_p 0": {"typical_p": 0.0},
    "typical_p 0.2": {"typical_p": 0.2},
    "typical_p 0.9": {"typical_p": 0.9},
    "a repeat penalty": {"repeat_penalty": 1.3},
    "a repeat reward": {"repeat_penalty": 0.8},
    "a frequency penalty": {"frequency_penalty": 0.7},
    "a presence penalty": {"presence_penalty": -0.9},
    "penalties of the last four": {
        "repeat_penalty": 1.2,
        "frequency_penalty": 0.4,
        "presence_penalty": 0.3,
        "penalty_last_n": 4,
    },
    "penalties of all tokens": {"repeat_penalty": 1.2, "frequency_penalty": 0.4, "penalty_last_n": -1},
    "penalties of no token": {"repeat_penalty": 1.2, "frequency_penalty": 0.4, "penalty_last_n": 0},
    "a bias": {"logit_bias": BIAS},
    "top_k and top_p": {"top_k": 50, "top_p": 0.8},
    "top_k and greedy": {"top_k": 5, "temperature": 0.0},
    "typical_p and min_p": {"typical_p": 0.95, "min_p": 0.1},
    "llama.cpp's defaults": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "everything": {
        "temperature": 0.6,
        "top_k": 60,
        "typical_p": 0.97,
        "top_p": 0.9,
        "min_p": 0.02,
        "repeat_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.1,
        "penalty_last_n": 8,
        "logit_bias": BIAS,
    },
}
every_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


# -- llama.cpp's chain ---------------------------------------------------------------------------


def samplers(lib: Any, sampling: Sampling, n_vocab: int) -> Iterator[Any]:
    """llama.cpp's samplers in the order of its common/sampling.cpp."""
    bias = sampling.logit_bias
    biases = (lib.llama_logit_bias * max(len(bias), 1))(*bias.items())
    yield lib.llama_sampler_init_logit_bias(n_vocab, len(bias), biases)
    window = 10**6 if sampling.penalty_last_n < 0 else sampling.penalty_last_n
    penalties = sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty
    yield lib.llama_sampler_init_penalties(n_vocab, window, *penalties)
    yield lib.llama_sampler_init_top_k(min(sampling.top_k, 2**31 - 1))
    yield lib.llama_sampler_init_typical(sampling.typical_p, 0)
    yield lib.llama_sampler_init_top_p(sampling.top_p, 0)
    yield lib.llama_sampler_init_min_p(sampling.min_p, 0)
    yield lib.llama_sampler_init_temp(sampling.temperature)


def llama_cpp_law(row: FloatArray, sampling: Sampling, history: list[int]) -> RealArray:
    """Probabilities `[n_vocab]` after llama.cpp's chain."""
    lib = library()
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers(lib, sampling, len(row)):
        lib.llama_sampler_chain_add(chain, sampler)
    for token in history:
        lib.llama_sampler_accept(chain, token)
    # where a probability is 0, the entropy of its typical sampling is NaN
    ids = np.flatnonzero(row > -np.inf) if sampling.typical_p < 1 else np.arange(len(row))
    candidates = (lib.llama_token_data * len(ids))()
    kept = np.ctypeslib.as_array(candidates)
    kept["id"], kept["logit"] = ids, row[ids]
    array = lib.llama_token_data_array(data=candidates, size=len(ids), selected=-1, sorted=False)
    lib.llama_sampler_apply(chain, ctypes.byref(array))
    kept = kept[: array.size]
    lib.llama_sampler_free(chain)
    weights = np.exp(kept["logit"].astype(np.float64) - kept["logit"].max())
    probs = np.zeros(len(row))
    probs[kept["id"]] = weights / weights.sum()
    return probs


def our_law(row: FloatArray, sampling: Sampling, history: list[int]) -> RealArray:
    return law(row, sampling, window(sampling, history)).dense(len(row))


def window(sampling: Sampling, history: list[int]) -> Counter[int]:
    return PenaltyWindow(sampling.penalty_last_n, history).counts


# -- random rows ---------------------------------------------------------------------------------


def rows(n_vocab: int) -> dict[str, FloatArray]:
    rng = np.random.default_rng(n_vocab)
    plain = 3 * rng.standard_normal(n_vocab)
    holes = np.where(rng.random(n_vocab) < 0.4, -np.inf, plain)
    few = np.full(n_vocab, -np.inf)
    few[[3, 7, 42, 500, 900]] = [1.0, -2.0, 0.5, 0.25, -4.0]
    flat = 0.01 * rng.standard_normal(n_vocab)
    return {"plain": plain, "holes": holes, "few": few, "flat": flat}


ROWS = {f"{kind} of {n}": row.astype(np.float32) for n in (1000, 20000) for kind, row in rows(n).items()}
del ROWS["flat of 20000"]  # whose order by typicality is a matter of rounding


def expect_same(ours: RealArray, theirs: RealArray, sampling: Sampling) -> None:
    """The same tokens and probabilities. Only where llama.cpp adds thousands of its 32-bit probabilities
    up (over 262144 it errs by 5e-4) may the last tokens that fit be others."""
    adds_up = sampling.top_p < 1 or sampling.typical_p < 1
    many = len(ours) > 1000 and not 0 < sampling.top_k <= 1000
    slack = 2e-3 if adds_up and many else 0.0
    differ = (ours > 0) != (theirs > 0)
    assert max(ours[differ].sum(), theirs[differ].sum()) <= slack
    np.testing.assert_allclose(ours[~differ], theirs[~differ], atol=1e-5, rtol=slack)


@every_part
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_law_is_that_of_llama_cpps_chain(row: FloatArray, part: dict[str, Any]) -> None:
    sampling = Sampling(**OFF | part)
    expect_same(our_law(row, sampling, HISTORY), llama_cpp_law(row, sampling, HISTORY), sampling)


@every_part
@pytest.mark.parametrize("step", [0.5, 4.0])
def test_where_logits_are_equal_a_law_may_keep_another_of_them(step: float, part: dict[str, Any]) -> None:
    row = (np.round(ROWS["holes of 1000"] / step) * step).astype(np.float32)
    sampling = Sampling(**OFF | part)
    ours, theirs = our_law(row, sampling, HISTORY), llama_cpp_law(row, sampling, HISTORY)
    both = (ours > 0) & (theirs > 0)
    np.testing.assert_allclose(ours[both], theirs[both], atol=1e-5)
    logits = adjusted(row, sampling, window(sampling, HISTORY))
    only_ours, only_theirs = ((p > 0) & ~both for p in (ours, theirs))
    np.testing.assert_allclose(np.sort(logits[only_ours]), np.sort(logits[only_theirs]), atol=1e-5)


@pytest.mark.parametrize(("part", "n_kept"), [({"top_p": 0.5}, 1), ({"typical_p": 0.5}, 2)], ids=str)
def test_a_mass_that_is_reached_exactly_counts_as_llama_cpp_counts_it(
    part: dict[str, float], n_kept: int
) -> None:
    row, sampling = np.zeros(2, np.float32), Sampling(**OFF | part)
    assert np.count_nonzero(our_law(row, sampling, [])) == n_kept
    assert np.count_nonzero(llama_cpp_law(row, sampling, [])) == n_kept


def test_of_equal_logits_the_smallest_ids_are_kept() -> None:
    row = np.zeros(1000, np.float32)
    for part in ({"top_k": 3}, {"typical_p": 0.0025}, {"top_k": 3, "top_p": 0.9}):
        assert [*law(row, Sampling(**OFF | part), {}).ids] == [0, 1, 2]
    assert [*law(row, Sampling(temperature=0), {}).ids] == [0]


def test_parts_change_the_law() -> None:
    row = ROWS["plain of 1000"]
    plain = our_law(row, Sampling(**OFF), HISTORY)
    same = {"nothing", "top_k beyond the vocabulary", "penalties of no token"}
    for name, part in PARTS.items():
        gap = np.abs(our_law(row, Sampling(**OFF | part), HISTORY) - plain).max()
        assert (gap == 0) == (name in same), name


# -- rows of real models -------------------------------------------------------------------------

TEXT = "The pilot fish follows sharks, and in exchange for protection it eats their parasites. It"
MODELS = ["smollm2:Q4_0", "gemma3-270m"]


@cache
def real_rows(name: str) -> tuple[list[int], FloatArray]:
    """The tokens of TEXT, and the logits after its first and its last ones."""
    model = LlamaModel(resolve_model(name))
    tokens = Tokenizer(model).encode(TEXT)
    context = LlamaContext(model, ContextSettings(n_threads=1))
    found = []
    for end in (3, len(tokens)):
        context.prefill(tokens[: end - 2])
        found.append(context.score(Draft.chain(tokens[end - 2 : end])).logits.copy())
    model.close()
    return tokens, np.concatenate(found)


@pytest.mark.model
@every_part
@pytest.mark.parametrize("name", MODELS)
def test_a_law_of_a_real_model_is_that_of_llama_cpps_chain(name: str, part: dict[str, Any]) -> None:
    sampling = Sampling(**OFF | part)
    history, found = real_rows(name)
    for row in found:
        expect_same(our_law(row, sampling, history), llama_cpp_law(row, sampling, history), sampling)


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"temperature": -0.1}, r"temperature must be >= 0 \(0 = greedy\), got -0.1"),
        ({"temperature": math.nan}, "temperature must be >= 0 .*, got nan"),
        ({"temperature": math.inf}, "temperature must be finite, got inf"),
        ({"top_k": -1}, r"top_k must be >= 0 \(0 = all tokens\), got -1"),
        ({"top_p": 1.1}, "top_p must be between 0 and 1, got 1.1"),
        ({"min_p": -0.1}, "min_p must be between 0 and 1, got -0.1"),
        ({"typical_p": math.nan}, "typical_p must be between 0 and 1, got nan"),
        ({"repeat_penalty": 0}, r"repeat_penalty must be > 0 \(1 = off\), got 0"),
        ({"repeat_penalty": math.inf}, "repeat_penalty must be finite, got inf"),
        ({"frequency_penalty": math.nan}, "frequency_penalty must be finite, got nan"),
        ({"presence_penalty": -math.inf}, "presence_penalty must be finite, got -inf"),
        ({"penalty_last_n": -2}, r"penalty_last_n must be >= -1 \(-1 = all tokens\), got -2"),
        ({"seed": -1}, "seed must be a 64-bit number >= 0, got -1"),
        ({"seed": 2**64}, "seed must be a 64-bit number"),
        ({"logit_bias": {5: math.inf}}, "logit_bias of token 5 must be finite or -inf, got inf"),
        ({"logit_bias": {5: math.nan}}, "logit_bias of token 5 must be finite or -inf, got nan"),
    ],
)
def test_impossible_parameters_are_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**part)


@pytest.mark.parametrize("token", [-1, 1000])
def test_a_bias_of_an_unknown_token_is_refused(token: int) -> None:
    with pytest.raises(ConfigError, match=f"logit_bias names token {token}, the vocabulary has 1000 tokens"):
        law(ROWS["plain of 1000"], Sampling(logit_bias={token: 1.0}), {})


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("top_k", [0, 40])
def test_a_row_without_a_possible_token_is_an_error(value: float, top_k: int) -> None:
    with pytest.raises(DecodeError, match="no token is left to choose from: .* check logit_bias"):
        law(np.full(1000, value, np.float32), Sampling(top_k=top_k), {})


def test_forbidding_every_token_but_one_leaves_that_one() -> None:
    bias = {token: -math.inf for token in range(1000) if token != 17}
    found = law(ROWS["plain of 1000"], Sampling(logit_bias=bias), {})
    assert [*found.ids] == [17] and found.prob(17) == 1


def test_the_logits_of_the_target_are_left_alone() -> None:
    row = ROWS["plain of 1000"].copy()
    for part in PARTS.values():
        our_law(row, Sampling(**OFF | part), HISTORY)
    np.testing.assert_array_equal(row, ROWS["plain of 1000"])


def test_a_choice_is_a_plain_argmax_only_where_nothing_changes_it() -> None:
    assert Sampling(temperature=0, top_k=5, top_p=0.1, min_p=0.5).plain_argmax
    for part in ({"typical_p": 0.5}, {"presence_penalty": 0.1}, {"logit_bias": {1: 1.0}}, {"temperature": 1}):
        assert not Sampling(**{"temperature": 0} | part).plain_argmax
    assert Sampling(temperature=0, repeat_penalty=1.5, penalty_last_n=0).plain_argmax

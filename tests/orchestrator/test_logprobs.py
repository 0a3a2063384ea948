"""Log-probabilities of emitted tokens: the target's own, whoever guessed them."""

import math

import numpy as np
import pytest

from orchestrator import Draft, Engine
from orchestrator.errors import ConfigError
from orchestrator.logprobs import token_logprobs
from tests.fakes import RandomTreeDrafter
from tests.orchestrator.test_engine import GREEDY, PRECISE, PROMPT, SAMPLED


def load(tiny, draft=None, method="auto", **settings):
    return Engine.load(tiny("llama"), draft, method, **{**PRECISE, **GREEDY, **settings})


@pytest.fixture
def engine(tiny):
    with load(tiny) as engine:
        yield engine


def test_they_are_a_log_softmax_with_the_likeliest_first():
    logits = np.array([1.0, 3.0, 2.0, 3.0], np.float32)
    total = math.log(sum(math.exp(x) for x in logits))
    found = token_logprobs(logits, 0, 3)
    assert found.token == 0 and found.logprob == pytest.approx(1 - total)
    assert [token for token, _ in found.top] == [1, 3, 2]
    assert [value for _, value in found.top] == pytest.approx([3 - total, 3 - total, 2 - total])


@pytest.mark.parametrize("k", [0, 2, 4, 9])
def test_there_are_as_many_alternatives_as_were_asked_for_and_as_exist(k):
    assert len(token_logprobs(np.zeros(4, np.float32), 3, k).top) == min(k, 4)


def test_a_forbidden_token_is_minus_infinity_likely():
    found = token_logprobs(np.array([0.0, -np.inf], np.float32), 1, 2)
    assert found.logprob == -math.inf and found.top == ((0, 0.0), (1, -math.inf))


def test_they_are_computed_only_where_asked_for(engine):
    assert engine.generate(PROMPT, max_tokens=8).logprobs == ()
    assert all(chunk.logprobs == () for chunk in engine.stream(PROMPT, max_tokens=8))


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_speculation_changes_them_by_rounding_only(tiny, sampling):
    with load(tiny, RandomTreeDrafter(320, 1), **sampling) as engine:
        plain = engine.generate(PROMPT, max_tokens=40, logprobs=3, speculate=False)
        fast = engine.generate(PROMPT, max_tokens=40, logprobs=3)
        assert fast.stats.n_drafted > 0 and fast.tokens == plain.tokens
        assert [p.token for p in fast.logprobs] == list(fast.tokens)
        for a, b in zip(plain.logprobs, fast.logprobs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
            assert [v for _, v in a.top] == pytest.approx([v for _, v in b.top], abs=1e-4)


@pytest.mark.parametrize("rule", ["coupled", "rejection", "block"])
def test_they_are_those_of_a_fresh_decode_of_the_same_text(tiny, rule):
    with load(tiny, tiny("llama", noise=0.05), "model", rule=rule, **SAMPLED) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        result = engine.generate(prompt, max_tokens=20, logprobs=1)
        assert result.stats.n_accepted > 0
        for place, found in enumerate(result.logprobs):
            engine.target.prefill([*prompt, *result.tokens[:place]])
            row = engine.target.score(Draft()).logits[0].copy()
            engine.target.rollback()
            assert found.logprob == pytest.approx(token_logprobs(row, found.token, 0).logprob, abs=1e-4)


def test_penalties_bias_and_temperature_do_not_count(engine):
    plain = engine.generate(PROMPT, max_tokens=1, logprobs=2).logprobs[0]
    other = plain.top[1][0]
    biased = engine.generate(PROMPT, max_tokens=1, logprobs=2, logit_bias={other: 100.0}, repeat_penalty=1.3)
    assert biased.logprobs[0].token == other
    assert biased.logprobs[0].logprob == pytest.approx(plain.top[1][1], abs=1e-5)
    assert biased.logprobs[0].top == plain.top


def test_chunks_carry_those_of_their_own_tokens(engine):
    stream = engine.stream(PROMPT, max_tokens=30, logprobs=1)
    chunks = list(stream)
    for chunk in chunks:
        assert [p.token for p in chunk.logprobs] == list(chunk.tokens)
    assert tuple(p for chunk in chunks for p in chunk.logprobs) == stream.result.logprobs


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "many"])
def test_another_number_of_alternatives_is_refused(engine, wrong):
    with pytest.raises(ConfigError, match="logprobs must be the number"):
        engine.generate(PROMPT, logprobs=wrong)

"""Claims about the sampler of one request: its window, its choices, its guesses and its grammar."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from adapters.target import FloatArray
from orchestrator.errors import DecodeError, GrammarError
from orchestrator.sampler import PenaltyWindow, Sampler, round_position
from orchestrator.sampling import Sampling, law

N = 50
ROW = (2 * np.random.default_rng(0).standard_normal(N)).astype(np.float32)

tokens = st.lists(st.integers(0, 3), max_size=12)


class Only:
    """A grammar of some tokens, which notes what it is told."""

    def __init__(self, *allowed: int) -> None:
        self.allowed, self.accepted, self.n_masks = allowed, [], 0

    def allows(self, token: int) -> bool:
        return token in self.allowed

    def mask(self, logits: FloatArray) -> FloatArray:
        self.n_masks += 1
        masked = np.full_like(logits, -np.inf)
        masked[[*self.allowed]] = logits[[*self.allowed]]
        return masked

    def accept(self, token: int) -> None:
        self.accepted.append(token)


# -- the penalty window --------------------------------------------------------------------------


def newest(size: int, seen: list[int]) -> Counter[int]:
    return Counter(seen if size < 0 else seen[-size:])


@given(size=st.sampled_from([-1, 1, 2, 5, 20]), prompt=tokens, more=tokens, ahead=tokens)
def test_a_window_counts_the_newest_tokens(
    size: int, prompt: list[int], more: list[int], ahead: list[int]
) -> None:
    window = PenaltyWindow(size, prompt)
    seen = [*prompt]
    for token in more:
        assert window.counts == newest(size, seen)
        window.push(token)
        seen.append(token)
    assert dict(window.with_ahead(ahead)) == dict(newest(size, [*seen, *ahead]))
    assert dict(window.counts) == dict(newest(size, seen))  # looking ahead changes nothing; no zeros


@given(prompt=tokens, emitted=tokens, ahead=tokens)
def test_a_sampler_penalizes_prompt_emitted_and_drafted_tokens(
    prompt: list[int], emitted: list[int], ahead: list[int]
) -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25, penalty_last_n=6)
    sampler = Sampler(sampling, prompt)
    for token in emitted:
        sampler.accept(token)
    expected = law(ROW, sampling, newest(6, [*prompt, *emitted, *ahead]))
    np.testing.assert_array_equal(sampler.law(ROW, ahead).dense(N), expected.dense(N))


# -- choosing ------------------------------------------------------------------------------------


def test_a_greedy_choice_is_the_likeliest() -> None:
    assert Sampler(Sampling(temperature=0)).choose(ROW, 0) == ROW.argmax()
    nan = ROW.copy()
    nan[3] = np.nan
    with pytest.raises(DecodeError, match="logits are NaN at position 7"):
        Sampler(Sampling(temperature=0)).choose(nan, 7)


def test_choices_follow_the_seed() -> None:
    def choices(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(seed=seed, temperature=1.5))
        return [sampler.choose(ROW, position) for position in range(20)]

    assert choices(1) == choices(1) != choices(2)
    assert choices(None) != choices(None)


def test_a_fresh_seed_is_told() -> None:
    sampler = Sampler(Sampling(temperature=1.5))
    again = Sampler(Sampling(temperature=1.5, seed=sampler.seed))
    assert [sampler.choose(ROW, i) for i in range(9)] == [again.choose(ROW, i) for i in range(9)]


# -- guessing ------------------------------------------------------------------------------------


def test_a_coupled_guess_from_equal_logits_is_the_choice() -> None:
    sampler = Sampler(Sampling(seed=3, temperature=1.5))
    for position in range(20):
        guess = sampler.guess(ROW, position - 2, [1, 2])
        assert guess.token == sampler.choose(ROW, position)
        assert guess.q is None and guess.prob == sampler.law(ROW).prob(guess.token)


def test_an_uncoupled_guess_brings_its_law_and_has_noise_of_its_own() -> None:
    sampler = Sampler(Sampling(seed=3, temperature=1.5), coupled=False)
    guesses = [sampler.guess(ROW, start, []) for start in range(20)]
    assert [guess.token for guess in guesses] != [sampler.choose(ROW, start) for start in range(20)]
    for guess in guesses:
        assert guess.q is not None and guess.prob == guess.q.prob(guess.token)


def test_no_two_rounds_share_a_position() -> None:
    met = [round_position(start, offset) for start in range(30) for offset in range(30)]
    assert len(set(met)) == len(met)


# -- grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_choice_that_the_grammar_allows_costs_no_mask(temperature: float) -> None:
    free = Sampler(Sampling(seed=1, temperature=temperature)).choose(ROW, 0)
    grammar = Only(free, 5)
    assert Sampler(Sampling(seed=1, temperature=temperature), grammar=grammar).choose(ROW, 0) == free
    assert grammar.n_masks == 0


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_choice_that_the_grammar_refuses_is_made_again(temperature: float) -> None:
    sampling = Sampling(seed=1, temperature=temperature)
    free = {Sampler(sampling).choose(ROW, position) for position in range(20)}
    allowed = [token for token in range(N) if token not in free][:3]
    grammar = Only(*allowed)
    chosen = [Sampler(sampling, grammar=grammar).choose(ROW, position) for position in range(20)]
    assert {*chosen} <= {*allowed} and grammar.n_masks == 20
    assert temperature > 0 or {*chosen} == {max(allowed, key=lambda token: ROW[token])}


def test_a_grammar_without_a_way_on_is_an_error() -> None:
    with pytest.raises(GrammarError, match="no token of this model can continue the text"):
        Sampler(Sampling(seed=1), grammar=Only()).choose(ROW, 0)


def test_a_grammar_hears_what_is_accepted() -> None:
    grammar = Only(1, 2)
    sampler = Sampler(Sampling(), grammar=grammar)
    sampler.accept(2)
    sampler.accept(1)
    assert grammar.accepted == [2, 1]

"""Claims about synthetic acceptance: the rate is what was asked for, and the text is marked."""

import pytest

from orchestrator import Engine
from orchestrator.draft import Draft
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.synthetic import synthetic
from tests.fakes import MemoryTarget, random_law


def walk(rate, draft, *, position=0, ends=lambda _: False):
    target = MemoryTarget(random_law(1, 20), 20)
    target.prefill([1, 2])
    sampler = Sampler(Sampling(temperature=0, seed=3), [1, 2])
    return synthetic(rate)(draft, target.score(draft), sampler, position, ends)


def test_everything_or_nothing():
    draft = Draft.chain([5, 6, 7])
    assert walk(1.0, draft).tokens[:3] == (5, 6, 7)
    assert walk(0.0, draft).n_accepted == 0


def test_each_token_is_accepted_at_the_rate_until_the_first_miss():
    draft, n, rate = Draft.chain([5, 6, 7, 8]), 4000, 0.7
    accepted = [walk(rate, draft, position=5 * place).n_accepted for place in range(n)]
    for depth in range(1, 5):
        share = sum(a >= depth for a in accepted) / n
        assert share == pytest.approx(rate**depth, abs=0.03)


def test_only_the_first_branch_counts_and_no_end_token_is_accepted():
    tree = Draft.tree([5, 6, 7], [-1, -1, 0], 0.5)
    assert walk(1.0, tree).path == (0, 2)
    assert walk(1.0, Draft.chain([5, 6, 7]), ends=lambda token: token == 6).path == (0,)


def test_the_statistics_say_that_the_text_is_invalid(tiny):
    options = {"temperature": 0, "n_threads": 1, "ngram_min": 1, "method": "lookup"}
    with Engine.load(tiny("llama"), synthetic_accept=1.0, **options) as engine:
        stats = engine.generate("the cat the cat the", max_tokens=16).stats
        assert "text is invalid" in stats.note
        assert stats.acceptance == 1.0 and stats.n_accepted > 0

"""Claims about comparing plain and speculative decoding."""

import numpy as np
import pytest

from orchestrator import Engine
from orchestrator.measure import Spread, compare, find_divergence, top_two_gap


@pytest.fixture
def engine(tiny):
    with Engine.load(tiny("llama"), temperature=0, ngram_min=1, n_threads=1) as engine:
        yield engine


def test_a_spread_is_the_median_and_the_extremes():
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)
    assert Spread.of([2.0, 4.0]) == Spread(3.0, 2.0, 4.0)


def test_both_kinds_run_in_turn_after_the_warm_up(engine):
    order = []

    def serve(stream, speculative, run):
        order.append((speculative, run))
        return stream.finish()

    comparison = compare(engine, engine.tokenizer.encode("the cat"), n_runs=2, serve=serve, max_tokens=20)
    assert order == [(False, 0), (True, 0), (False, 1), (True, 1)]
    assert comparison.identical
    assert {r.stats.method for r in comparison.plain} == {"none"}
    assert {r.stats.method for r in comparison.speculative} == {"suffix"}
    assert all(r.stats.n_tokens == 20 and r.stats.n_reused > 0 for r in comparison.plain)


def test_numbers_are_those_of_the_runs(engine):
    comparison = compare(engine, engine.tokenizer.encode("the cat"), n_runs=1, max_tokens=20)
    stats = comparison.speculative[0].stats
    assert comparison.tok_s == Spread(stats.tok_s, stats.tok_s, stats.tok_s)
    assert comparison.speedup == stats.tok_s / comparison.plain[0].stats.tok_s


def test_nothing_decoded_is_no_speedup(engine):
    assert compare(engine, engine.tokenizer.encode("the cat"), n_runs=1, max_tokens=0).speedup == 0


def test_a_divergence_is_found_with_the_gap_that_the_target_has_there(engine):
    prompt = engine.tokenizer.encode("the cat")
    plain = engine.generate(prompt, max_tokens=6).tokens
    other = (*plain[:3], (plain[3] + 1) % engine.tokenizer.n_vocab, *plain[4:])
    parting = find_divergence(engine, prompt, plain, other)
    assert (parting.index, parting.plain, parting.speculative) == (3, plain[3], other[3])
    engine.target.prefill(prompt)
    logits = engine.target.extend([prompt[-1], *plain[:3]])
    assert parting.gap == pytest.approx(top_two_gap(logits), abs=1e-2)
    assert engine.generate(prompt, max_tokens=6).tokens == plain


def test_a_text_that_ends_earlier_parts_where_it_ends(engine):
    prompt = engine.tokenizer.encode("the cat")
    plain = engine.generate(prompt, max_tokens=6).tokens
    parting = find_divergence(engine, prompt, plain, plain[:4])
    assert (parting.index, parting.plain, parting.speculative) == (4, plain[4], None)


def test_the_gap_is_between_the_two_largest():
    assert top_two_gap(np.array([1.0, 5.0, -2.0, 4.5], np.float32)) == 0.5

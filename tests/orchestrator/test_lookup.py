import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.context import Context
from orchestrator.drafters.lookup import LookupDrafter, NgramIndex
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling


def propose(tokens, *, ngram_min=2, max_draft=3, budget=8):
    drafter = LookupDrafter(ngram_min, max_draft)
    context = Context(tokens, Sampler(Sampling()))
    drafter.begin(context)
    return drafter.propose(context, budget).tokens.tolist()


FOUR = [1, 2, 3, 4]  # a match of four is trusted for three tokens


def test_it_drafts_what_followed_the_tail_before():
    assert propose([*FOUR, 5, 6, 7, 8, *FOUR]) == [5, 6, 7]


def test_the_newest_of_equal_matches_wins():
    assert propose([*FOUR, 7, 0, 0, *FOUR, 8, 0, 9, *FOUR]) == [8, 0, 9]


def test_a_longer_match_beats_a_newer_one():
    assert propose([5, 1, 2, 7, 0, 6, 1, 2, 8, 0, 5, 1, 2]) == [7]


@pytest.mark.parametrize(
    ("match", "n_drafted"), [(2, 1), (3, 1), (4, 3), (7, 3), (8, 7), (15, 7), (16, 15), (30, 15)]
)
def test_longer_matches_are_trusted_for_longer_drafts(match, n_drafted):
    stretch = list(range(100, 100 + match))
    assert len(propose([*stretch, *range(200, 250), *stretch], max_draft=15, budget=63)) == n_drafted


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 4]])
def test_no_repetition_means_no_idea(tokens):
    assert propose(tokens or [9]) == []


def test_a_match_shorter_than_the_minimum_is_none():
    assert propose([1, 2, 3, 9, 2], ngram_min=2) == []
    assert propose([1, 2, 3, 9, 2], ngram_min=1) == [3]


def test_budget_and_draft_length_both_bound_the_draft():
    repeated = [*range(10), *range(20, 40), *range(10)]
    assert len(propose(repeated, max_draft=3, budget=8)) == 3
    assert len(propose(repeated, max_draft=8, budget=2)) == 2


def test_the_end_of_the_context_ends_the_draft():
    assert propose([7, 7, 7, 7, 7], ngram_min=2, max_draft=5) == [7]


def test_a_new_request_forgets_the_last_one():
    drafter = LookupDrafter(2, 3)
    for tokens, expected in [([1, 2, 3, 1, 2], [3]), ([1, 2], [])]:
        context = Context(tokens, Sampler(Sampling()))
        drafter.begin(context)
        assert drafter.propose(context, 8).tokens.tolist() == expected


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 4), st.integers(0, 60))
def test_an_index_grown_in_pieces_finds_the_longest_of_the_newest_matches(tokens, n, cut):
    index = NgramIndex(n)
    index.update(tokens[:cut])
    index.update(tokens)
    found = index.find()
    expected = brute_force(tokens, n)
    assert (found is None) == (expected is None)
    if found is not None:
        assert (found.end, found.length) == expected


def brute_force(tokens, n):
    """Among the eight newest places where the last n tokens stood before: the longest match."""
    tail, places = len(tokens), []
    for end in range(tail - 1, n - 1, -1):
        if tail >= n and tokens[end - n : end] == tokens[tail - n :]:
            length = n
            while length < min(end, 32) and tokens[end - length - 1] == tokens[tail - length - 1]:
                length += 1
            places.append((end, length))
    return max(places[:8], key=lambda place: (place[1], place[0]), default=None)

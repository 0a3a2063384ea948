"""Suffix drafting: what it copies, from where, how much, and how sure it says it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import SpeculationSettings
from orchestrator.context import Context
from orchestrator.drafters.none import NoDrafter
from orchestrator.drafters.setup import Setup
from orchestrator.drafters.suffix import SuffixDrafter, build
from orchestrator.limits import Limits
from orchestrator.loop import Loop
from orchestrator.planner import FixedPlanner
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.suffix.references import References
from orchestrator.suffix.source import acceptance
from orchestrator.verify import RULES
from tests.fakes import MemoryTarget, random_law

TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def begun(tokens, references=None, **options):
    drafter = SuffixDrafter(None if references is None else References.of(references), **options)
    context = Context(tokens, Sampler(Sampling()))
    drafter.begin(context)
    return drafter, context


def draft(tokens, references=None, *, budget=15, **options):
    drafter, context = begun(tokens, references, **options)
    return drafter.propose(context, budget)


def propose(tokens, references=None, **options):
    return draft(tokens, references, **options).tokens.tolist()


def next_to(origin):
    """The origins that a chain may have come from, one token before."""
    return {origin - 1} if origin >= 0 else {origin + 1}


def branches(proposed):
    """The token paths from the root to each leaf."""
    paths = []
    for token, parent in zip(proposed.tokens.tolist(), proposed.parents.tolist(), strict=True):
        paths.append([*(paths[parent] if parent >= 0 else []), token])
    inner = set(proposed.parents.tolist())
    return [path for node, path in enumerate(paths) if node not in inner]


def test_it_drafts_what_followed_the_tail_before():
    assert propose([1, 2, 3, 4, 5, 1, 2, 3], budget=5) == [4, 5, 1, 2, 3]


def test_the_newest_of_equal_matches_wins():
    assert propose([1, 2, 7, 0, 1, 2, 8, 9, 1, 2], max_draft=2) == [8, 9]


def test_a_longer_match_beats_a_newer_one():
    assert propose([5, 1, 2, 7, 0, 6, 1, 2, 8, 0, 5, 1, 2], max_draft=1) == [7]


def test_references_are_copied_from_up_to_the_end_of_their_document():
    assert propose([9, 1, 2], {"a": [1, 2, 3, 4], "b": [5, 6]}) == [3, 4]


def test_a_longer_match_in_the_references_beats_the_requests_own():
    assert propose([2, 3, 8, 1, 2, 3], {"a": [1, 2, 3, 9]}, max_draft=1) == [9]


def test_of_equally_long_matches_the_references_wins_as_it_has_a_name():
    assert propose([2, 3, 8, 1, 2, 3], {"a": [2, 3, 9]}, max_draft=1) == [9]
    assert propose([1, 2, 3, 8, 1, 2, 3], {"a": [2, 3, 9]}, max_draft=1) == [8]


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 2, 3, 4]])
def test_no_repetition_means_no_idea(tokens):
    assert propose(tokens, {"a": [7, 8, 9]}) == []


def test_a_match_shorter_than_the_minimum_is_none():
    assert propose([1, 2, 3, 9, 2], match_min=2) == []
    assert propose([1, 2, 3, 9, 2], match_min=1, budget=3) == [3, 9, 2]


def test_what_repeats_itself_keeps_repeating():
    assert propose([7, 7, 7, 7, 7], budget=4) == [7] * 4
    drafter, context = begun([5, 1, 2, 3, 1, 2, 3, 1, 2, 3])
    proposed = drafter.propose(context, 8)
    assert proposed.tokens.tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert [drafter.locate(origin)[1] for origin in proposed.origin] == [7, 8, 9, 7, 8, 9, 7, 8]


def test_the_end_of_a_document_ends_the_draft():
    assert propose([1, 2, 3], {"a": [1, 2, 3, 4, 5]}) == [4, 5]


def test_the_context_may_have_grown_by_any_number_of_tokens():
    drafter, context = begun([1, 2, 3, 4, 9], {"a": [4, 9, 5, 6, 7]})
    context.extend([1, 2])
    assert drafter.propose(context, 2).tokens.tolist() == [3, 4]
    context.extend([3, 4, 9, 5, 6])
    assert drafter.propose(context, 2).tokens.tolist() == [7]


@settings(max_examples=200)
@given(TEXTS, TEXTS, st.integers(0, 8), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
def test_a_draft_is_a_tree_within_its_limits_and_every_node_continues_a_match(
    tokens, document, budget, max_draft, leaves, match_min
):
    drafter, context = begun(tokens, {"a": document}, max_draft=max_draft, leaves=leaves, match_min=match_min)
    proposed = drafter.propose(context, budget)
    assert len(proposed) <= min(budget, max_draft)
    assert len(branches(proposed)) <= leaves
    assert ((proposed.prob >= 0) & (proposed.prob <= 1)).all()
    known = {"a": document, "prompt": tokens}
    paths, straight_on = [], []
    for node, token in enumerate(proposed.tokens.tolist()):
        parent = int(proposed.parents[node])
        paths.append([*(paths[parent] if parent >= 0 else []), token])
        name, place = drafter.locate(proposed.origin[node])
        assert known[name][place] == token
        straight = (
            parent < 0 or straight_on[parent] and proposed.origin[parent] in next_to(proposed.origin[node])
        )
        straight_on.append(straight)
        if straight:  # else the text has run out, and the guesses repeat
            length = match_min + len(paths[node])
            assert known[name][place - length + 1 : place + 1] == [*tokens, *paths[node]][-length:]


@given(TEXTS, TEXTS, st.integers(2, 4))
def test_branches_have_different_first_tokens_whose_chances_add_up_to_at_most_one(tokens, document, leaves):
    proposed = draft(tokens, {"a": document}, leaves=leaves, match_min=1)
    at_root = proposed.parents == -1
    assert len(set(proposed.tokens[at_root].tolist())) == at_root.sum()
    assert proposed.prob[at_root].sum() <= 1 + 1e-5


@given(TEXTS, TEXTS, st.integers(2, 4))
def test_nodes_come_in_the_order_of_their_chance_to_be_reached(tokens, document, leaves):
    proposed = draft(tokens, {"a": document}, leaves=leaves, match_min=1)
    if proposed.is_chain:
        return
    reached = []
    for prob, parent in zip(proposed.prob.tolist(), proposed.parents.tolist(), strict=True):
        reached.append(prob * (reached[parent] if parent >= 0 else 1.0))
    assert (np.diff(reached) < 1e-6).all()


TWO_WAYS = [1, 2, 7, 0, 1, 2, 8, 9, 1, 2]


def test_there_are_branches_only_where_more_than_one_leaf_is_allowed():
    assert branches(draft(TWO_WAYS, leaves=1, budget=4)) == [[8, 9, 1, 2]]
    seven, eight = sorted(branches(draft(TWO_WAYS, leaves=2)))
    assert seven[:4] == [7, 0, 1, 2] and eight[:4] == [8, 9, 1, 2]


def test_the_more_frequent_continuation_comes_first_in_a_tree():
    often = [1, 2, 7, 0, 1, 2, 7, 5, 1, 2, 8, 1, 2]
    proposed = draft(often, leaves=2)
    assert proposed.tokens[0] == 7
    assert proposed.prob[0] == pytest.approx(2 * proposed.prob[proposed.tokens.tolist().index(8)])


def test_a_shorter_match_gives_a_branch_that_counts_only_if_the_longer_one_misleads():
    proposed = draft([5, 1, 2, 7, 0, 6, 1, 2, 8, 0, 5, 1, 2], leaves=2, budget=20, max_draft=20)
    first, second = (node for node in range(len(proposed)) if proposed.parents[node] == -1)
    assert proposed.tokens[[first, second]].tolist() == [7, 8]
    assert proposed.prob[first] == pytest.approx(acceptance(3, 0, 1.0))
    assert proposed.prob[second] == pytest.approx((1 - acceptance(3, 0, 1.0)) * acceptance(2, 0, 0.5))


def test_the_references_give_a_branch_beside_the_requests_own():
    proposed = draft([2, 3, 8, 1, 2, 3], {"a": [2, 3, 9]}, leaves=2)
    assert sorted(path[0] for path in branches(proposed)) == [8, 9]


def test_prob_follows_match_depth_and_share():
    proposed = draft([1, 2, 7, 5, 6, 1, 2, 8, 9, 0, 1, 2], max_draft=3)
    assert proposed.tokens.tolist() == [8, 9, 0]
    assert proposed.prob == pytest.approx([acceptance(2, 0, 0.5), acceptance(2, 1, 1), acceptance(2, 2, 1)])


def test_acceptance_rises_with_match_and_depth_and_is_shared_between_continuations():
    rising = [acceptance(length, 0, 1.0) for length in range(1, 40)]
    assert rising == sorted(rising)
    assert 0 < rising[0] < rising[1] < 1
    assert acceptance(2, 3, 1.0) == acceptance(5, 0, 1.0)
    assert acceptance(4, 0, 0.25) == acceptance(4, 0, 1.0) / 4


def test_origins_are_located_in_prompt_output_and_references():
    drafter, context = begun([1, 2, 3], {"notes": [8, 9, 4, 5]})
    context.extend([6, 7, 1, 2])
    own = drafter.propose(context, 3)
    assert [drafter.locate(origin) for origin in own.origin] == [("prompt", 2), ("output", 0), ("output", 1)]
    context.extend([8, 9])
    copied = drafter.propose(context, 3)
    assert [drafter.locate(origin) for origin in copied.origin] == [("notes", 2), ("notes", 3)]
    assert drafter.locate(-1) is None


def test_a_new_request_forgets_the_last_one():
    drafter, _ = begun([1, 2, 3, 1, 2], {"a": [1, 2, 5]})
    for tokens, expected in [([1, 2], [5]), ([2], [])]:
        context = Context(tokens, Sampler(Sampling()))
        drafter.begin(context)
        assert drafter.propose(context, 8).tokens.tolist() == expected


def test_forget_leaves_nothing_of_a_request():
    drafter, context = begun([1, 2, 3, 1, 2], {"a": [1, 2, 5]})
    drafter.forget()
    assert drafter.extend_chain([1, 2], 4).tokens == []
    fresh = Context([3, 1], Sampler(Sampling()))
    assert drafter.propose(fresh, 4).tokens.tolist() == []


def test_the_references_of_a_request_take_the_place_of_the_drafters_for_that_request():
    drafter, _ = begun([1, 2], {"standing": [1, 2, 5]})
    own = Context([1, 2], Sampler(Sampling()), References.of({"own": [1, 2, 6]}))
    drafter.begin(own)
    proposed = drafter.propose(own, 4)
    assert (proposed.tokens.tolist(), drafter.locate(proposed.origin[0])) == ([6], ("own", 2))
    drafter.forget()
    assert drafter.locate(0) == ("standing", 0)
    later = Context([1, 2], Sampler(Sampling()))
    drafter.begin(later)
    assert drafter.propose(later, 4).tokens.tolist() == [5]


def test_a_chain_of_others_goes_on_with_what_followed_its_end():
    drafter, context = begun([1, 2, 3, 4, 5, 9, 9, 1], {"a": [6, 7, 8]})
    own = drafter.extend_chain([2, 3], 2)
    assert own.tokens == [4, 5]
    assert [drafter.locate(origin) for origin in own.origin] == [("prompt", 3), ("prompt", 4)]
    tokens, (prob,), (origin,) = drafter.extend_chain([6, 7], 5)
    assert (tokens, drafter.locate(origin)) == ([8], ("a", 2))
    assert prob == acceptance(2, 0, 1.0)
    assert drafter.extend_chain([3, 6], 5).tokens == []


@given(TEXTS, TEXTS, st.lists(st.integers(0, 3), max_size=6), st.integers(0, 6))
def test_looking_ahead_changes_nothing_and_sees_what_a_longer_context_would(tokens, document, ahead, n):
    drafter, context = begun(tokens, {"a": document})
    before = drafter.propose(context, 6)
    more = drafter.extend_chain(ahead, n)
    assert len(more.tokens) == len(more.prob) == len(more.origin) <= n
    after = drafter.propose(context, 6)
    for name in ("tokens", "parents", "prob"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert before.origin == after.origin
    # each guess stands where it says, after a stretch that ends the context and the chain
    known, whole = {"a": document, "prompt": tokens}, [*tokens, *ahead]
    for token, prob, origin in zip(*more, strict=True):
        whole.append(token)
        name, place = drafter.locate(origin)
        assert known[name][place - 2 : place + 1] == whole[-3:]
        assert 0 < prob <= 1


def test_a_chain_of_nobody_is_lengthened_as_the_context_is():
    drafter, context = begun([1, 2, 3, 4, 5, 1, 2])
    assert drafter.extend_chain([], 3).tokens == drafter.propose(context, 3).tokens.tolist()


def test_looking_ahead_reads_the_newest_tokens_first():
    drafter, context = begun([1, 2, 3, 4, 5])
    context.extend([1])
    assert drafter.extend_chain([2], 2).tokens == [3, 4]


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("references", [None, {"a": [0, 1, 2, 3, 0, 1, 3]}])
def test_the_text_is_that_of_plain_decoding(leaves, temperature, references):
    prompt = [0, 1, 2, 3, 0, 1]

    def decode(drafter):
        target = MemoryTarget(random_law(5, 4, order=2, scale=4.0), 4)
        target.prefill(prompt)
        context = Context(prompt, Sampler(Sampling(temperature=temperature, seed=2), prompt))
        loop = Loop(
            target,
            drafter,
            FixedPlanner(8, leaves),
            RULES["coupled"],
            context,
            Limits(60, lambda _: False, lambda _: ""),
        )
        loop.prefill()
        steps = list(loop.steps())
        return context.emitted, sum(step.n_accepted for step in steps)

    plain, _ = decode(NoDrafter())
    found = None if references is None else References.of(references)
    text, n_accepted = decode(SuffixDrafter(found, leaves=leaves))
    assert text == plain
    assert n_accepted > 0


def test_the_method_is_built_from_the_settings():
    drafter = build(Setup(SpeculationSettings(ngram_min=3, max_draft=5, max_leaves=2)))
    context = Context([*range(10), 0, 1], Sampler(Sampling()))
    drafter.begin(context)
    assert (drafter.max_draft, drafter.leaves) == (5, 2)
    assert len(drafter.propose(context, 8)) == 0
    context.extend([2])
    assert drafter.propose(context, 8).tokens.tolist() == [3, 4, 5, 6, 7]
    assert build(Setup()).max_draft == SuffixDrafter.max_draft


def test_a_chain_ends_where_little_is_to_be_hoped():
    text = list(range(10, 70))
    short, long = ([*text, 1, *text[:n]] for n in (2, 30))
    assert len(propose(long, budget=64, max_draft=64)) > 40
    drafted = draft(short, budget=64, max_draft=64)
    chances = np.cumprod(drafted.prob)
    assert len(drafted) < 60 and chances[-1] < 0.05 <= chances[-2]

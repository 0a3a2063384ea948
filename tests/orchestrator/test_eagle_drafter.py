"""Claims about what an EAGLE head gets to read: every pair once, in order, whatever was accepted before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.target import HiddenTaps
from heads.draft_state import Frontier
from orchestrator.context import Context
from orchestrator.drafters.cascade import CascadeDrafter
from orchestrator.drafters.eagle import EagleDrafter
from orchestrator.drafters.suffix import SuffixDrafter
from orchestrator.limits import Limits
from orchestrator.loop import Loop
from orchestrator.planner import FixedPlanner
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.verify import RULES
from tests.fakes import random_law
from tests.heads.hidden_target import HiddenTarget

N_VOCAB = 7
POST_NORM, LAYERS = HiddenTaps(post_norm=True), HiddenTaps(layers=(1, 3, 5))


def feature(tokens):
    """Says where a row belongs: its position, and a number that all tokens up to it make."""
    number = sum((i + 1) * (token + 1) for i, token in enumerate(tokens))
    return np.array([len(tokens) - 1, number, tokens[-1]], np.float32)


class WitnessState:
    """In place of a head's state: remembers what it was given, and guesses by chance."""

    def __init__(self, seed=0):
        self.pairs, self.rng, self.grown = [], np.random.default_rng(seed), []

    @property
    def n_pairs(self):
        return len(self.pairs)

    def truncate(self, n):
        del self.pairs[n:]

    def read(self, features, tokens):
        assert len(features) == len(tokens) > 0
        self.pairs += [(tuple(row), token) for row, token in zip(features.tolist(), tokens, strict=True)]

    def open(self, k):
        self.grown = []
        return self._frontier(1, k)

    def grow(self, parents, tokens, k):
        assert all(-1 <= parent < len(self.grown) for parent in parents)
        self.grown += tokens
        return self._frontier(len(tokens), k)

    def _frontier(self, m, k):
        tokens = np.stack([self.rng.permutation(N_VOCAB)[: min(k, N_VOCAB)] for _ in range(m)])
        logp = np.log(np.sort(self.rng.dirichlet(np.ones(N_VOCAB), m))[:, ::-1][:, : tokens.shape[1]])
        return Frontier(tokens, logp.astype(np.float32))


def right_pairs(tokens):
    """All pairs of a text whose newest token has not been decoded."""
    return [(tuple(feature(tokens[: t + 1]).tolist()), tokens[t + 1]) for t in range(len(tokens) - 1)]


def answer(target, drafter, prompt, n, *, seed=0, temperature=0.8, most=4, rule="coupled"):
    """Decode `n` tokens after the prompt, checking at each proposal what the head has read."""
    sampler = Sampler(Sampling(temperature=temperature, seed=seed), prompt, coupled=rule == "coupled")
    context = Context(prompt, sampler)
    loop = Loop(target, drafter, FixedPlanner(most, 8), RULES[rule], context, Limits(n, lambda _token: False))
    loop.prefill()
    for _ in loop.steps():
        pass
    return context.tokens


class Checked(EagleDrafter):
    """Checks before each guess that the head has read exactly the text's pairs."""

    n_checked = 0

    def propose(self, context, budget):
        draft = super().propose(context, budget)
        assert self._state.pairs == right_pairs(context.tokens)
        self.n_checked += 1
        return draft


@pytest.mark.parametrize("taps", [POST_NORM, LAYERS])
@pytest.mark.parametrize("leaves", [1, 3])
@given(st.lists(st.integers(0, N_VOCAB - 1), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_every_pair_is_read_once_with_the_feature_before_its_token(taps, leaves, prompt, seed):
    drafter = Checked(WitnessState(seed), taps, leaves=leaves, depth=3)
    target = HiddenTarget(random_law(seed, N_VOCAB), feature, N_VOCAB, taps)
    answer(target, drafter, prompt, 20, seed=seed)
    assert drafter.n_checked > 3 or len(prompt) == 0


@given(
    st.lists(st.tuples(st.integers(0, 14), st.lists(st.integers(0, 2), max_size=4)), min_size=1, max_size=4),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_prompts_that_begin_as_the_last_text_did_keep_head_and_target_in_step(turns, seed):
    drafter = Checked(WitnessState(seed), LAYERS)
    target = HiddenTarget(random_law(seed, N_VOCAB), feature, N_VOCAB, LAYERS)
    text = [1, 2, 3]
    for n_kept, more in turns:
        prompt = [*text[: max(1, n_kept)], *more]
        text = answer(target, drafter, prompt, 6, seed=seed)


def test_the_next_turn_of_a_conversation_reads_one_token_again_at_most():
    drafter = Checked(WitnessState(), LAYERS)
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, LAYERS)
    text = answer(target, drafter, [1, 2, 3, 4], 30)
    target.n_read = 0
    answer(target, drafter, [*text, 5, 6], 5)
    assert target.n_read <= 4  # the newest token, two new ones, and one whose row is needed


def test_the_same_prompt_again_is_answered_from_what_is_known():
    drafter = Checked(WitnessState(), POST_NORM)
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, POST_NORM)
    answer(target, drafter, [1, 2, 3, 4, 5], 1)
    target.n_read = 0
    answer(target, drafter, [1, 2, 3, 4, 5], 8)
    assert target.n_read == 1


def test_what_was_decoded_without_the_head_is_decoded_again_for_it():
    drafter = Checked(WitnessState(), LAYERS)
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, LAYERS)
    target.prefill([1, 2, 3, 4, 5, 6])
    target.n_read = 0
    answer(target, drafter, [1, 2, 3, 4, 5, 6, 1], 8)
    assert target.n_read == 6 and drafter.n_checked


def test_a_head_that_is_not_asked_reads_what_it_missed_when_it_is():
    stage = Checked(WitnessState(), LAYERS)
    cascade = CascadeDrafter(SuffixDrafter(), stage)
    asked = iter([0, 0, 0, 4] * 50)
    target = HiddenTarget(random_law(1, N_VOCAB), feature, N_VOCAB, LAYERS)

    class Seldom(FixedPlanner):
        def ask(self, source, rival, most):
            return next(asked)

    prompt = [1, 2, 3]
    context = Context(prompt, Sampler(Sampling(temperature=0.8, seed=1), prompt))
    loop = Loop(target, cascade, Seldom(4, 1), RULES["coupled"], context, Limits(40, lambda _token: False))
    loop.prefill()
    for _ in loop.steps():
        pass
    assert stage.n_checked >= 5


@pytest.mark.parametrize("leaves", [1, 4])
def test_a_draft_grows_as_long_as_the_planner_finds_it_worth_it(leaves):
    asked, depths = [], []

    class Planner(FixedPlanner):
        def goes_on(self, source, probs, most):
            asked.append((source, len(probs), most))
            return len(probs) < 2

        def trim(self, draft, budget):
            depths.append(draft.depth)
            return draft

    prompt = [1, 2, 3]
    context = Context(prompt, Sampler(Sampling(), prompt))
    target = HiddenTarget(random_law(1, N_VOCAB), feature, N_VOCAB, LAYERS)
    drafter = EagleDrafter(WitnessState(), LAYERS, leaves=leaves, max_draft=6)
    planner, limits = Planner(6, leaves), Limits(20, lambda _token: False)
    loop = Loop(target, drafter, planner, RULES["coupled"], context, limits)
    loop.prefill()
    for _ in loop.steps():
        pass
    assert set(depths[:-2]) == {2} and ("eagle", 2, 6) in asked


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("leaves", [1, 4])
def test_guesses_never_change_the_text(temperature, leaves):
    law, prompt = random_law(3, N_VOCAB), [1, 2, 3]
    drafter = EagleDrafter(WitnessState(), LAYERS, leaves=leaves, max_draft=6)
    target = HiddenTarget(law, feature, N_VOCAB, LAYERS)
    speculated = answer(target, drafter, prompt, 60, temperature=temperature, most=6)
    plain = answer(
        HiddenTarget(law, feature, N_VOCAB, LAYERS), drafter, prompt, 60, temperature=temperature, most=0
    )
    assert speculated == plain


def test_a_chain_stops_where_the_head_is_unsure():
    class Sure(WitnessState):
        def _frontier(self, m, k):
            return Frontier(
                np.array([[3]]), np.log(np.array([[0.9 if len(self.grown) < 2 else 0.2]], np.float32))
            )

    drafter = EagleDrafter(Sure(), LAYERS, p_min=0.5, max_draft=8)
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, LAYERS)
    context = Context([1, 2, 3], Sampler(Sampling(temperature=0), [1, 2, 3]))
    loop = Loop(target, drafter, FixedPlanner(8), RULES["coupled"], context, Limits(4, lambda _token: False))
    loop.prefill()
    draft = drafter.propose(context, 8)
    assert draft.tokens.tolist() == [3, 3] and draft.prob.tolist() == pytest.approx([0.9, 0.9])


def test_a_tree_keeps_the_likeliest_nodes_of_all_that_grew():
    class Fixed(WitnessState):
        """Tokens 0 and 1 everywhere, with 0.6 and 0.3."""

        def _frontier(self, m, k):
            return Frontier(np.tile([0, 1], (m, 1)), np.log(np.tile(np.float32([0.6, 0.3]), (m, 1))))

    drafter = EagleDrafter(Fixed(), LAYERS, leaves=2, depth=3, max_draft=5)
    context = Context([1, 2, 3], Sampler(Sampling(temperature=0), [1, 2, 3]))
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, LAYERS)
    loop = Loop(
        target, drafter, FixedPlanner(8, 8), RULES["coupled"], context, Limits(4, lambda _token: False)
    )
    loop.prefill()
    draft = drafter.propose(context, 5)
    # 0.6, 0.36, 0.3, 0.216, and of the two 0.18 the earlier one
    chances = np.exp([sum(np.log(draft.prob[i]) for i in path) for path in paths(draft)])
    assert sorted(chances, reverse=True) == pytest.approx([0.6, 0.36, 0.3, 0.216, 0.18], rel=1e-5)
    assert draft.depth == 3


def paths(draft):
    found = []
    for node, parent in enumerate(draft.parents.tolist()):
        found.append([*(found[parent] if parent >= 0 else []), node])
    return found


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_rules_that_want_q_get_the_law_that_was_drawn_from(rule):
    drafter = EagleDrafter(WitnessState(), LAYERS)
    context = Context([1, 2, 3], Sampler(Sampling(seed=4), [1, 2, 3], coupled=False))
    target = HiddenTarget(random_law(0, N_VOCAB), feature, N_VOCAB, LAYERS)
    loop = Loop(target, drafter, FixedPlanner(4), RULES[rule], context, Limits(4, lambda _token: False))
    loop.prefill()
    draft = drafter.propose(context, 4)
    assert draft.q is not None and len(draft.q) == len(draft) == 4
    for token, q, prob in zip(draft.tokens.tolist(), draft.q, draft.prob.tolist(), strict=True):
        assert q.prob(token) == pytest.approx(prob) and prob > 0

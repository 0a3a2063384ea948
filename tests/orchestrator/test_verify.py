"""Losslessness of the verification rules.

The acceptance arithmetic is enumerated; the walks built on it are sampled with seeds 0, 1, 2, ... and
compared by chi-square, each with a false-alarm probability of 1e-9.
"""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from adapters.target import Rows
from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.errors import DrafterError
from orchestrator.law import Law, residual
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.verify import RULES, block_acceptance, rejection_acceptance
from tests.fakes import MemoryTarget, RandomChainDrafter, RandomTreeDrafter, one_hot, random_law

V = 3
FREE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
P, Q = random_law(1, V), random_law(2, V)
PROMPT = [0, 1]


def never(_token: int) -> bool:
    return False


def law_of(logits, tokens) -> Law:
    return Sampler(FREE).law(logits([*PROMPT, *tokens]))


def exact_joint(n: int) -> np.ndarray:
    """The target's law of the first n tokens, `[V] * n`."""
    joint = np.zeros((V,) * n)
    for tokens in itertools.product(range(V), repeat=n):
        joint[tokens] = math.prod(law_of(P, tokens[:i]).prob(token) for i, token in enumerate(tokens))
    return joint


def outcomes_of_rejection(drafted):
    """(probability, kept tokens, law of the next) of each way a chain may end."""
    accepted = 1.0
    for i, token in enumerate(drafted):
        p, q = law_of(P, drafted[:i]), law_of(Q, drafted[:i])
        chance = rejection_acceptance(p, q, token)
        yield accepted * (1 - chance), drafted[:i], residual(p, q)
        accepted *= chance
    yield accepted, drafted, law_of(P, drafted)


def outcomes_of_block(drafted):
    n = len(drafted)
    p = [law_of(P, drafted[:i]) for i in range(n + 1)]
    q = [law_of(Q, drafted[:i]) for i in range(n)]
    ratios, coins = block_acceptance(p, q, drafted)
    for kept in range(n + 1):
        chance = (coins[kept - 1] if kept else 1.0) * math.prod(1 - coin for coin in coins[kept:])
        yield chance, drafted[:kept], p[n] if kept == n else residual(p[kept], q[kept], ratios[kept])


@pytest.mark.parametrize("outcomes", [outcomes_of_rejection, outcomes_of_block])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_joint_law_of_a_verified_chain_is_the_targets(outcomes, depth):
    n = depth + 1
    joint = np.zeros((V,) * n)
    for drafted in itertools.product(range(V), repeat=depth):
        p_draft = math.prod(law_of(Q, drafted[:i]).prob(token) for i, token in enumerate(drafted))
        for chance, kept, last in outcomes(drafted):
            for rest in itertools.product(range(V), repeat=n - len(kept)):
                text = (*kept, *rest)
                after = [law_of(P, text[:i]).prob(text[i]) for i in range(len(kept) + 1, n)]
                joint[text] += p_draft * chance * last.prob(rest[0]) * math.prod(after)
    np.testing.assert_allclose(joint, exact_joint(n), atol=1e-12)


def expected_accepted(outcomes, depth):
    return sum(
        math.prod(law_of(Q, drafted[:i]).prob(token) for i, token in enumerate(drafted)) * chance * len(kept)
        for drafted in itertools.product(range(V), repeat=depth)
        for chance, kept, _ in outcomes(drafted)
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_block_verification_never_accepts_less_than_rejection(depth):
    assert (
        expected_accepted(outcomes_of_block, depth) >= expected_accepted(outcomes_of_rejection, depth) - 1e-12
    )


def test_the_block_papers_example():
    """p = (1/3, 2/3), q = (2/3, 1/3), two tokens: 11/9 accepted against 10/9 (Sun et al. 2024)."""
    p, q = Law.of(np.arange(2), np.array([1.0, 2.0])), Law.of(np.arange(2), np.array([2.0, 1.0]))
    block = tokenwise = 0.0
    for drafted in itertools.product(range(2), repeat=2):
        chance = math.prod(q.prob(token) for token in drafted)
        coins = block_acceptance([p] * 3, [q] * 2, drafted)[1]
        block += chance * (2 * coins[1] + (1 - coins[1]) * coins[0])
        accepted = [rejection_acceptance(p, q, token) for token in drafted]
        tokenwise += chance * (accepted[0] + accepted[0] * accepted[1])
    assert block == pytest.approx(11 / 9)
    assert tokenwise == pytest.approx(10 / 9)


def first_tokens(rule: str, drafter, seed: int, n: int) -> tuple[int, ...]:
    """The first n tokens of a request, drafted and verified round by round."""
    target = MemoryTarget(P, V)
    target.prefill(PROMPT)
    sampler = Sampler(Sampling(1.0, 0, 1.0, 0.0, seed=seed), PROMPT, coupled=rule == "coupled")
    context = Context(PROMPT, sampler)
    while context.n_emitted < n:
        draft = drafter.propose(context, 4)
        walk = RULES[rule](draft, target.score(draft), sampler, len(context), never)
        target.commit(walk)
        context.extend(walk.tokens)
    return tuple(context.emitted[:n])


def chi_square_tail(x: float, df: int) -> float:
    """P(chi-square with an even number of degrees of freedom > x), in closed form."""
    return math.exp(-x / 2) * sum((x / 2) ** k / math.factorial(k) for k in range(df // 2))


@pytest.mark.parametrize(
    ("rule", "drafter"),
    [
        ("coupled", RandomTreeDrafter(V, 5, most=4)),
        ("coupled", RandomChainDrafter(Q, 3)),
        ("rejection", RandomChainDrafter(Q, 3)),
        ("block", RandomChainDrafter(Q, 3)),
    ],
    ids=["coupled-tree", "coupled-chain", "rejection", "block"],
)
def test_sampled_joint_law_of_three_tokens_is_the_targets(rule, drafter):
    """27 outcomes, 26 degrees of freedom: fails by chance with probability 1e-9."""
    n_seeds = 4000
    counts = Counter(first_tokens(rule, drafter, seed, 3) for seed in range(n_seeds))
    expected = exact_joint(3) * n_seeds
    statistic = sum((counts[key] - expected[key]) ** 2 / expected[key] for key in np.ndindex(V, V, V))
    assert chi_square_tail(statistic, 26) > 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_the_coupled_text_does_not_depend_on_the_drafter(seed):
    plain = first_tokens("coupled", RandomTreeDrafter(V, 0, most=0), seed, 40)
    assert first_tokens("coupled", RandomTreeDrafter(V, seed, most=6), seed, 40) == plain
    assert first_tokens("coupled", RandomChainDrafter(Q, 4), seed, 40) == plain


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_a_drafter_that_samples_from_p_itself_is_always_accepted(rule):
    drafter = RandomChainDrafter(P, 3)
    target = MemoryTarget(P, V)
    target.prefill(PROMPT)
    for seed in range(50):
        sampler = Sampler(Sampling(1.0, 0, 1.0, 0.0, seed=seed), coupled=False)
        draft = drafter.propose(Context(PROMPT, sampler), 3)
        walk = RULES[rule](draft, target.score(draft), sampler, 2, never)
        target.rollback()
        assert walk.path == (0, 1, 2)


@pytest.mark.parametrize("rule", list(RULES))
def test_a_greedy_walk_follows_the_argmax(rule):
    rows = Rows(np.stack([one_hot(t, 10) for t in (4, 5, 9, 7)]))
    walk = RULES[rule](Draft.chain([4, 5, 6]), rows, Sampler(Sampling(temperature=0)), 0, never)
    assert walk.tokens == (4, 5, 9) and walk.path == (0, 1)


@pytest.mark.parametrize("rule", list(RULES))
def test_nothing_follows_an_end_token_inside_a_draft(rule):
    rows = Rows(np.stack([one_hot(t, 10) for t in (4, 5, 6, 7)]))
    walk = RULES[rule](Draft.chain([4, 5, 6]), rows, Sampler(Sampling(temperature=0)), 0, lambda t: t == 5)
    assert walk.tokens == (4, 5) and walk.path == (0,)


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_rules_for_chains_refuse_trees(rule):
    tree = Draft.tree([4, 5], [-1, -1], source="bushy")
    with pytest.raises(DrafterError, match="'bushy' proposed a tree"):
        RULES[rule](tree, Rows(np.zeros((3, 10), np.float32)), Sampler(Sampling()), 0, never)


def test_the_walk_takes_the_branch_that_the_target_chose():
    draft = Draft.tree([4, 5, 6, 7], [-1, -1, 0, 1])
    rows = Rows(np.stack([one_hot(t, 10) for t in (5, 0, 7, 0, 8)]))
    walk = RULES["coupled"](draft, rows, Sampler(Sampling(temperature=0)), 0, never)
    assert walk.path == (1, 3) and walk.tokens == (5, 7, 8)

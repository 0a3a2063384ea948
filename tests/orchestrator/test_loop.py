"""The loop on targets in memory: exact patterns, every limit, every misbehaving drafter."""

import pytest

from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.function import FunctionDrafter
from orchestrator.drafters.none import NoDrafter
from orchestrator.errors import DrafterError
from orchestrator.limits import Limits
from orchestrator.loop import Loop
from orchestrator.planner import FixedPlanner
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.stats import Stats
from orchestrator.verify import RULES
from tests.fakes import ListDrafter, MemoryTarget, OracleDrafter, RandomTreeDrafter, random_law, scripted

PROMPT = [90, 91]
TEXT = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


def make_loop(
    target, drafter, *, max_tokens=10, ends=(), sampling=None, max_draft=4, watch=lambda _: "", **more
):
    target.prefill(PROMPT)
    context = Context(PROMPT, Sampler(sampling or Sampling(temperature=0), PROMPT))
    limits = Limits(max_tokens, lambda token: token in ends, watch)
    planner = FixedPlanner(max_draft, target.capabilities.max_leaves)
    return Loop(target, drafter, planner, RULES["coupled"], context, limits, **more)


def decode(drafter, target=None, **options):
    loop = make_loop(target or scripted(TEXT, len(PROMPT)), drafter, **options)
    steps = list(loop.steps())
    return loop, steps, [token for step in steps for token in step.tokens]


def assert_state(loop):
    """Between rounds the memory holds all tokens but the newest."""
    assert [*loop.target.memory, loop.target.root] == loop.context.tokens


def test_plain_decoding_makes_one_decode_per_token():
    loop, steps, tokens = decode(NoDrafter())
    assert tokens == TEXT
    assert loop.target.n_decodes == len(steps) == 10
    assert loop.finish_reason == "length"


def test_all_accepted():
    loop, steps, tokens = decode(OracleDrafter(TEXT))
    assert tokens == TEXT
    assert [step.n_emitted for step in steps] == [5, 5]
    assert_state(loop)


def test_none_accepted():
    loop, steps, tokens = decode(OracleDrafter(TEXT, lambda _: False))
    assert tokens == TEXT
    assert [step.n_accepted for step in steps] == [0] * 10
    assert_state(loop)


def test_some_accepted():
    loop, steps, tokens = decode(OracleDrafter(TEXT, lambda place: place % 3 != 2))
    assert tokens == TEXT
    assert [step.n_emitted for step in steps] == [3, 3, 3, 1]
    assert_state(loop)


def test_the_state_holds_at_every_yield():
    loop = make_loop(scripted(TEXT, len(PROMPT)), OracleDrafter(TEXT, lambda place: place % 2 == 0))
    for _step in loop.steps():
        assert_state(loop)


@pytest.mark.parametrize("seed", range(10))
def test_random_trees_do_not_change_the_text_at_any_temperature(seed):
    for temperature in (0.0, 0.8):
        sampling = Sampling(temperature=temperature, top_k=0, seed=seed)
        texts = []
        for drafter in (NoDrafter(), RandomTreeDrafter(6, seed)):
            target = MemoryTarget(random_law(seed, 100, scale=4.0), 100)
            texts.append(decode(drafter, target, sampling=sampling, max_tokens=30)[2])
        assert texts[0] == texts[1]


@pytest.mark.parametrize("max_tokens", range(1, 11))
def test_a_budget_that_ends_inside_a_draft_is_met_exactly(max_tokens):
    loop, steps, tokens = decode(OracleDrafter(TEXT), max_tokens=max_tokens)
    assert tokens == TEXT[:max_tokens]
    assert loop.finish_reason == steps[-1].finish_reason == "length"
    assert_state(loop)


@pytest.mark.parametrize("end", TEXT)
def test_an_end_token_inside_a_draft_is_the_last_one_emitted(end):
    loop, steps, tokens = decode(OracleDrafter(TEXT), ends=[end])
    assert tokens == TEXT[: TEXT.index(end) + 1]
    assert loop.finish_reason == steps[-1].finish_reason == "stop"
    assert_state(loop)


def test_a_watcher_that_objects_ends_the_text_after_its_token():
    loop, _, tokens = decode(OracleDrafter(TEXT), watch=lambda token: "cancelled" if token == 13 else "")
    assert tokens == [11, 12, 13]
    assert loop.finish_reason == "cancelled"
    assert_state(loop)


@pytest.mark.parametrize("n_ctx", range(3, 10))
@pytest.mark.parametrize("drafter", [NoDrafter(), OracleDrafter(TEXT)], ids=["plain", "drafted"])
def test_a_full_context_ends_the_text(n_ctx, drafter):
    loop, steps, tokens = decode(drafter, scripted(TEXT, len(PROMPT), n_ctx=n_ctx))
    # the newest token needs no cell
    assert tokens == TEXT[: n_ctx - len(PROMPT) + 1]
    assert loop.finish_reason == steps[-1].finish_reason == "length"


def test_no_budget_emits_nothing():
    loop, _, tokens = decode(NoDrafter(), max_tokens=0)
    assert tokens == [] and loop.finish_reason == "length" and loop.target.n_decodes == 0


def test_a_cancelled_request_ends_between_rounds():
    answers = iter([False, False, True])
    loop, steps, _ = decode(OracleDrafter(TEXT), max_draft=1, cancelled=lambda: next(answers))
    assert len(steps) == 2 and loop.finish_reason == "cancelled"
    assert_state(loop)


def test_a_draft_longer_than_the_batch_is_cut():
    target = scripted(TEXT, len(PROMPT), max_rows=3)
    _, steps, tokens = decode(ListDrafter([TEXT]), target, max_draft=99)
    assert tokens == TEXT and steps[0].n_drafted == 2


def test_a_bushy_draft_is_cut_to_the_leaves_a_target_takes():
    bush = Draft.tree([1, 2, 11, 4], [-1, -1, -1, -1])
    _, steps, _ = decode(ListDrafter([bush]), scripted(TEXT, len(PROMPT), max_leaves=2))
    assert steps[0].n_drafted == 2


def test_a_target_without_rollback_is_never_asked_to_score_a_draft():
    target = scripted(TEXT, len(PROMPT), no_rollback="its state is recurrent")
    _, steps, tokens = decode(OracleDrafter(TEXT), target)
    assert tokens == TEXT and {step.n_drafted for step in steps} == {0}


@pytest.mark.parametrize(
    ("propose", "why"),
    [
        (lambda tokens, budget: 1 / 0, "'<lambda>' failed: ZeroDivisionError"),
        (lambda tokens, budget: [100], "proposed token 100"),
        (lambda tokens, budget: [-1], "proposed token -1"),
        (lambda tokens, budget: None, "'<lambda>' failed: TypeError"),
        (lambda tokens, budget: ["a"], "'<lambda>' failed: ValueError"),
    ],
)
def test_a_misbehaving_function_is_named_and_costs_only_its_round(propose, why):
    loop = make_loop(scripted(TEXT, len(PROMPT)), FunctionDrafter(propose))
    with pytest.raises(DrafterError, match=why):
        list(loop.steps())
    assert_state(loop)
    loop.drafter = NoDrafter()
    assert [token for step in loop.steps() for token in step.tokens] == TEXT


def test_a_drafter_that_returns_no_draft_is_named():
    class Broken(Drafter):
        name = "broken"

        def propose(self, context, budget):
            return [1, 2]

    with pytest.raises(DrafterError, match="'broken' must return a Draft"):
        decode(Broken())


@pytest.mark.parametrize("where", ["score", "commit"])
def test_an_interrupt_leaves_a_target_that_can_go_on(where):
    loop = make_loop(scripted(TEXT, len(PROMPT)), OracleDrafter(TEXT))
    original = getattr(loop.target, where)

    def interrupted(*arguments):
        if where == "score":
            original(*arguments)
        setattr(loop.target, where, original)
        raise KeyboardInterrupt

    setattr(loop.target, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(loop.steps())
    assert_state(loop)
    assert loop.target.score(Draft()).logits.shape == (1, 100)


def test_drafters_see_what_became_of_their_drafts():
    drafter = ListDrafter([[11, 12, 99], [99]])
    decode(drafter, max_tokens=5)
    assert [walk.n_accepted for walk in drafter.walks][:2] == [2, 0]


def test_statistics_of_a_known_run():
    _, steps, _ = decode(OracleDrafter(TEXT, lambda place: place % 3 != 2))
    stats = Stats()
    for step in steps:
        stats.add(step)
    assert (stats.n_tokens, stats.n_decodes, stats.tau) == (10, 4, 2.5)
    assert stats.histogram == {3: 3, 1: 1}
    # drafts reached depths 4, 4, 3 and then there was room for none
    assert stats.n_drafted == 11 and stats.n_accepted == 6
    assert stats.acceptance_at == [1.0, 1.0, 0.0, 0.0]
    assert stats.by_source["oracle"].acceptance == pytest.approx(6 / 11)

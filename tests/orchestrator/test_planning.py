"""Claims about the planner's parts: acceptance, ledger, stages, and what is kept of a proposal."""

import itertools

import numpy as np
import pytest

from orchestrator.acceptance import Acceptance
from orchestrator.adaptive import AdaptivePlanner
from orchestrator.context import Context
from orchestrator.cost.curve import CostCurve
from orchestrator.draft import EMPTY, Draft, Step, Walk
from orchestrator.ledger import Ledger
from orchestrator.planner import LOST, NOTHING, PAYS, PAYS_NOT
from orchestrator.promise import Purse
from orchestrator.stages import Stage

FLAT = CostCurve(tuple(range(1, 33)), [10.0] * 32)  # rows are free
STEEP = CostCurve(tuple(range(1, 33)), [10.0 * n for n in range(1, 33)])  # rows are never worth it
STAIRS = CostCurve(tuple(range(1, 33)), [10.0 * (1 + (n - 1) // 4 * 0.8) for n in range(1, 33)])


def test_an_estimate_begins_with_the_drafters_own_and_ends_with_what_came_true():
    acceptance = Acceptance()
    assert acceptance.of("a").estimate(0.8) == pytest.approx(0.8)
    rng = np.random.default_rng(0)
    for _ in range(400):
        acceptance.of("a").observe(0.8, bool(rng.random() < 0.3))
    assert acceptance.of("a").estimate(0.8) == pytest.approx(0.35, abs=0.12)
    assert acceptance.of("b").estimate(0.8) == pytest.approx(0.8)
    assert acceptance.of("a").estimate(0.2) == pytest.approx(0.2)


def test_estimates_follow_a_change_of_topic():
    acceptance = Acceptance()
    for agreed in [True] * 300 + [False] * 60:
        acceptance.of("a").observe(0.7, agreed)
    assert acceptance.of("a").estimate(0.7) < 0.45


@pytest.mark.parametrize("prob", [0.0, 1.0, 1e-9])
def test_extreme_guesses_are_guesses(prob):
    acceptance = Acceptance()
    acceptance.of("a").observe(prob, True)
    assert 0 <= acceptance.of("a").estimate(prob) <= 1


def test_who_has_lost_must_promise_more_and_is_out_after_four_decodes():
    ledger = Ledger()
    assert (ledger.margin, ledger.is_out) == (1.05, False)
    ledger.book(1, 3.0)  # one token, three decodes' time
    assert ledger.margin == pytest.approx(1.05 + 0.1 * 1.99) and not ledger.is_out
    ledger.book(1, 4.0)
    assert ledger.is_out
    for _ in range(100):
        ledger.book(1, 1.0)
    assert not ledger.is_out


def test_one_round_may_risk_what_was_won_and_three_decodes():
    ledger = Ledger()
    assert ledger.most == 4.0
    ledger.book(6, 2.0)
    assert ledger.most == 8.0
    ledger.book(1, 9.0)
    assert ledger.most == 4.0


def test_old_gains_do_not_pay_for_ever():
    ledger = Ledger()
    for _ in range(100):
        ledger.book(8, 2.0)
    assert ledger.balance == 8.0


def told(stage, *, tokens, cost, rounds=50):
    """What the rounds promised in which it was asked, and what they took: 1 ms of asking, 10 ms a decode."""
    for _ in range(rounds + (stage.n_answers == 0)):
        stage.answered(1, 0.001)
        stage.promised(tokens, cost - 0.1, 10.0)
    return stage


def test_a_stage_is_asked_while_it_promises_more_than_plain_decoding_and_tried_rarely_then():
    stage = told(Stage(), tokens=1.3, cost=1.1)
    assert stage.ask(8, 1.0, 1.05) == 8
    told(stage, tokens=1.0, cost=1.1, rounds=300).purse.balance = 1.0
    asked = [stage.ask(8, 1.0, 1.05) for _ in range(300)]
    tries = [i for i, n in enumerate(asked) if n]
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert 2 <= len(tries) <= 8 and gaps == sorted(gaps)


def test_a_stage_that_does_not_pay_rests_until_its_next_try_or_until_something_is_learned():
    def tries(rests):
        stage = told(Stage(), tokens=1.0, cost=1.1)
        assert not stage.rests()  # not weighed yet
        return [(rests and stage.rests()) or stage.ask(8, 1.0, 1.05) for _ in range(300)], stage

    asked, stage = tries(rests=True)
    assert [n if n is not True else 0 for n in asked] == tries(rests=False)[0]
    assert asked.count(True) > 250 and stage.rests()
    stage.judged(4, 4)
    assert not stage.rests()


def test_two_dear_answers_are_enough_to_be_left_out():
    stage = Stage()
    assert stage.ask(8, 1.0, 1.05) == 2  # nobody knows what it takes
    for _ in range(2):
        stage.answered(2, 0.100)
        stage.promised(1.5, 1.0, 10.0)
    assert stage.ask(8, 1.0, 1.05) == 0


def test_what_the_first_answer_took_is_not_held_against_a_source():
    stage = Stage()
    stage.answered(1, 0.500)
    stage.promised(1.0, 1.0, 10.0)
    assert stage.promise.speed == Stage().promise.speed
    for _ in range(3):
        stage.answered(1, 0.001)
    assert stage.token_ms == pytest.approx(1.0)


def test_what_asking_takes_is_learned_from_rounds_in_a_row():
    stage = told(Stage(), tokens=1.3, cost=1.1)
    stage.ask(8, 1.0, 1.05)
    stage.answered(1, 0.500)  # it had to read what it had missed
    assert stage.token_ms == pytest.approx(1.0)
    stage.ask(8, 1.0, 1.05)
    stage.answered(1, 0.500)  # disturbed
    assert stage.token_ms == pytest.approx(1.2)
    stage.ask(8, 9.0, 1.05)  # somebody else was better
    stage.ask(8, 1.0, 1.05)
    stage.answered(1, 0.500)
    assert stage.token_ms == pytest.approx(1.2)


def test_a_new_text_is_tried_anew_and_what_it_promises_outweighs_what_others_did():
    stage = told(Stage(), tokens=1.0, cost=1.1, rounds=300)
    assert [stage.ask(8, 1.0, 1.05) for _ in range(5)] == [0] * 5
    stage.purse.balance = 1.0
    stage.begin()
    assert stage.promise.speed == pytest.approx(1.0 / 1.1, abs=0.01)
    assert [stage.ask(8, 1.0, 1.05) for _ in range(16)] == [0] * 15 + [8]
    told(stage, tokens=2.4, cost=1.5, rounds=2)
    assert [stage.ask(8, 1.0, 1.05) for _ in range(5)] == [8] * 5
    stage.begin()
    assert stage.promise.speed < 1.0  # two rounds of one text


def lost_in_tries(texts, rounds, promised, spent):
    """(decodes lost in tries, how many there were) of a stage that is tried in texts of so many rounds."""
    stage, lost, n_tries = told(Stage(), tokens=1.0, cost=1.2, rounds=20), 0.0, 0
    stage.purse = Purse()
    for _ in range(texts):
        stage.begin()
        for _ in range(rounds):
            if not stage.rests() and stage.ask(8, 1.0, 1.05):
                stage.answered(1, (spent - 1.0) / 100)
                stage.promised(promised, 1.0, 10.0)
                lost, n_tries = lost + spent - promised, n_tries + 1
    return lost, n_tries


@pytest.mark.parametrize(("texts", "rounds"), [(400, 50), (20, 1000)])
def test_tries_cost_half_a_percent_of_plain_decoding_at_most(texts, rounds):
    lost, n_tries = lost_in_tries(texts, rounds, promised=1.0, spent=1.8)
    assert n_tries >= 20 and lost <= 1.0 + 0.8 + 0.005 * texts * rounds


def test_tries_that_win_are_not_rationed():
    lost, n_tries = lost_in_tries(100, 50, promised=1.9, spent=1.8)
    assert lost < 0 and n_tries >= 100


def test_what_others_promise_more_of_is_not_asked():
    stage = told(Stage(), tokens=1.3, cost=1.1)
    assert stage.ask(8, 5.0, 1.05) == 0


def test_a_chain_goes_on_while_a_longer_one_promises_more():
    costs = [0.0, 10.0, 14.0, 16.0, 17.0, 24.0, 31.0]
    stage = told(Stage(), tokens=1.0, cost=1.0)
    assert stage.goes_on(costs, [0.95], 4, 1.05)
    assert not stage.goes_on(costs, [0.3], 4, 1.05)
    assert stage.goes_on(costs, [0.95, 0.9], 4, 1.05)  # the fourth row is next to free
    assert not stage.goes_on(costs, [0.95, 0.9, 0.8], 4, 1.05)  # the fifth is not
    stage.token_ms = 20.0
    assert not stage.goes_on(costs, [0.95], 4, 1.05)  # further guesses take longer than they save


def planner(curve, **options):
    made = AdaptivePlanner(curve, **{"max_draft": 16, **options})
    made.explained = []
    made.explain = lambda decision, step: made.explained.append(decision)
    return made


def played(made, draft, tokens, *, n_context=50):
    """One round: what was kept of `draft`; the target says `tokens`, as far as they were foreseen."""
    context = Context(list(range(n_context)), None)
    kept = made.trim(draft, made.budget(context, 60))
    n_right = 0
    while n_right < min(len(kept), len(tokens) - 1) and kept.tokens[n_right] == tokens[n_right]:
        n_right += 1
    walk = Walk(tuple(range(n_right)), tuple(tokens[: n_right + 1]))
    made.observe(kept, walk, Step(walk.tokens, len(kept), n_right, len(kept), kept.source, 0.0, 0.01, 0.0))
    return kept


def test_where_rows_are_free_all_is_kept_and_where_they_are_dear_nothing():
    draft = Draft.chain([1, 2, 3, 4], 0.5, source="s")
    free, dear = planner(FLAT), planner(STEEP)
    assert len(played(free, draft, [1, 2, 9])) == 4
    assert len(played(dear, draft, [1, 2, 9])) == 0
    assert (free.explained[0].reason, dear.explained[0].reason) == (PAYS, PAYS_NOT)
    assert len(played(free, EMPTY, [1])) == 0 and free.explained[1].reason == NOTHING


def test_kernels_that_like_multiples_of_four_get_them():
    draft = Draft.chain(list(range(1, 13)), 0.93, source="s")
    assert 1 + len(played(planner(STAIRS), draft, [0])) in (4, 8, 12)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_is_the_best_subtree_of_all(seed):
    rng = np.random.default_rng(seed)
    n = 7
    parents = [int(rng.integers(-1, i)) if i else -1 for i in range(n)]
    draft = Draft.tree(list(range(100, 100 + n)), parents, rng.uniform(0.05, 0.95, n).tolist(), source="s")
    curve = CostCurve(tuple(range(1, 33)), np.cumsum(rng.uniform(0.5, 4.0, 32)).tolist())
    made = planner(curve, max_leaves=8)
    kept = made.trim(draft, made.budget(Context([1] * 10, None), 60))

    def gain(nodes):
        chance = {-1: 1.0}
        for node in nodes:
            chance[node] = chance[parents[node]] * float(draft.prob[node])
        rows = 1 + len(nodes)
        return sum(chance.values()) / curve.table(rows, 9)[rows] * curve.table(1, 9)[1]

    closed = [
        nodes
        for size in range(n + 1)
        for nodes in itertools.combinations(range(n), size)
        if all(parents[node] == -1 or parents[node] in nodes for node in nodes)
    ]
    best = max(map(gain, closed))
    chosen = tuple(draft.tokens.tolist().index(token) for token in kept.tokens.tolist())
    assert gain(chosen) == pytest.approx(best, rel=1e-3) or (best < 1.05 and not chosen)


def test_every_proposal_is_judged_used_or_not():
    made = planner(STEEP)
    for _ in range(50):
        played(made, Draft.chain([7, 8], 0.5, source="s"), [1])
    assert made._acceptance.of("s").estimate(0.5) < 0.15


def test_texts_that_mislead_are_left_alone_after_a_small_loss():
    curve = CostCurve(tuple(range(1, 33)), [10.0 + 3.0 * n for n in range(32)])
    made = planner(curve)
    costs = 0.0
    for _ in range(300):
        kept = played(made, Draft.chain([7, 8, 9], 0.9, source="s"), [1])
        costs += curve.ms(1 + len(kept), 49) / curve.ms(1, 49)
    assert costs < 300 * 1.02
    assert {decision.reason for decision in made.explained} == {PAYS, PAYS_NOT}
    assert made.summary().startswith("drafted in ") and "would not pay in" in made.summary()


def test_who_has_lost_too_much_waits_whatever_a_plan_promises():
    made = planner(FLAT)
    made._ledger.book(1, 9.0)
    assert len(played(made, Draft.chain([7, 8, 9], 0.99, source="s"), [7, 8, 9, 1])) == 0
    assert made.explained[0].reason == LOST
    assert made.summary() == f"drafted in 0 of 1 rounds ({LOST} in 1)"


def test_rounds_without_a_guess_are_counted_and_what_looking_for_one_took_is_booked():
    made, context = AdaptivePlanner(FLAT, max_draft=8), Context([1] * 10, None)
    for _ in range(30):
        assert len(made.trim(EMPTY, made.budget(context, 8))) == 0
        made.observe(EMPTY, Walk((), (1,)), Step((1,), 0, 0, 0, "", 0.004, 0.010, 0.0))
    assert made.summary() == f"drafted in 0 of 30 rounds ({NOTHING} in 30)"
    made.begin()
    assert made.summary() == ""
    for _ in range(30):  # 4 ms of looking on top of rounds of 10
        made.budget(context, 8)
        made.observe(EMPTY, Walk((), (1,)), Step((1,), 0, 0, 0, "", 0.004, 0.010, 0.0))
    budget = made.budget(context, 8)
    assert len(made.trim(Draft.chain([7], 0.99), budget)) == 0
    assert made._ledger.is_out


def test_a_dear_source_is_asked_while_it_pays_and_judged_by_what_came_true():
    made = planner(FLAT)
    made.begin()
    made.budget(Context([1] * 10, None), 20)
    assert made.ask("model", EMPTY, 4) == 2  # nobody knows what it takes
    made.answered("model", 2, 0.001)
    assert made.ask("model", EMPTY, 4) == 4
    before = list(made.stages["model"].reach)
    draft = Draft.chain([7, 8, 9, 5], 0.7, source="model")
    played(made, draft, [7, 8, 1])
    after = made.stages["model"].reach
    assert after[0] > before[0] and after[1] > before[1] and after[2] < before[2] and after[3] < before[3]
    made.budget(Context([1] * 10, None), 20)
    made.ask("model", EMPTY, 4)
    made.stages["model"].token_ms = 1000.0
    made.answered("model", 4, 4.0)
    made.trim(draft, 4)
    assert made.ask("model", EMPTY, 4) == 0


def test_a_source_is_left_out_of_texts_in_which_it_is_unsure_and_used_where_it_is_sure():
    made = planner(CostCurve((1, 2, 3, 4, 5), [10.0, 14.0, 16.0, 17.0, 24.0]))
    context = Context([1] * 10, None)

    def asked(prob, right):
        """How often, in a text of 60 rounds."""
        made.begin()
        n_asked = 0
        for _ in range(60):
            budget, draft = made.budget(context, 20), EMPTY
            if made.ask("head", EMPTY, budget):
                n_asked += 1
                draft = Draft.chain([7, 8, 9], prob, source="head")
                made.answered("head", 3, 0.001)
            kept = made.trim(draft, budget)
            tokens = (7, 8, 9, 1)[: 1 + len(kept)] if right else (1,)
            step = Step(tokens, len(kept), len(tokens) - 1, len(kept), "head", 0.0, 0.01, 0.0)
            made.observe(kept, Walk(tuple(range(len(tokens) - 1)), tokens), step)
        return n_asked

    assert asked(0.1, False) < 20
    assert asked(0.1, False) < 8
    assert asked(0.9, True) > 40
    assert asked(0.1, False) < 30


def test_in_a_tree_each_source_is_judged_by_its_own_branch():
    made = planner(FLAT, max_leaves=4)
    context = Context([1] * 10, None)
    made.ask("model", EMPTY, 2)
    before = list(made.stages["model"].reach)
    tree = Draft.tree([7, 8, 6], [-1, 0, -1], 0.6, source="model", sources=("model", "model", "suffix"))
    kept = made.trim(tree, made.budget(context, 20))
    assert len(kept) == 3
    walk = Walk((2,), (6, 1))
    made.observe(kept, walk, Step(walk.tokens, 3, 1, 2, "model", 0.0, 0.01, 0.0))
    assert all(now < then for now, then in zip(made.stages["model"].reach[:2], before[:2], strict=True))
    assert made._acceptance.of("suffix").estimate(0.6) > 0.6 > made._acceptance.of("model").estimate(0.6)


def test_a_new_request_begins_with_a_clean_ledger_but_keeps_what_was_learned():
    made = planner(STEEP)
    for _ in range(50):
        played(made, Draft.chain([7], 0.9, source="s"), [1])
    learned = made._acceptance.of("s").estimate(0.9)
    made.begin()
    assert made._acceptance.of("s").estimate(0.9) == learned and made.summary() == ""


def test_a_draft_after_plain_rounds_pays_for_both_changes_of_rows():
    curve = CostCurve(tuple(range(1, 33)), [10.0, 20.0, 20.0, 20.0, *[60.0] * 28], switch=6.0)
    made, sure, unsure = planner(curve), Draft.chain([1, 2, 3], 0.95, source="s"), [0.8, 0.8, 0.8]
    guess = Draft.chain([1, 2, 3], unsure, source="t")
    assert len(played(made, guess, [1, 2, 3, 4])) == 0  # 2.95 tokens for 20 + 12 ms, plainly 3.2
    assert len(played(made, sure, [1, 2, 3, 4])) == 3  # 3.7 tokens
    assert len(played(made, guess, [1, 2, 3, 4])) == 3  # no change: the decode before had 4 rows, too
    assert len(played(made, EMPTY, [1])) == 0
    assert len(played(made, Draft.chain([1, 2, 3], unsure, source="u"), [1, 2, 3, 4])) == 0

"""Claims about the harness's arithmetic: on targets that take an exact time, it reports exact figures."""

import pytest

from orchestrator.bench.configuration import Configuration
from orchestrator.bench.document import document
from orchestrator.bench.runner import Runner
from orchestrator.bench.suite import Question
from orchestrator.errors import DrafterError
from tests.fakes import OracleDrafter, one_hot
from tests.orchestrator.bench.memory_engine import (
    END,
    N_VOCAB,
    Clock,
    Working,
    memory_group,
    row_ms,
)

QUESTIONS = [
    Question("a/1", "a", "", ("xy",)),
    Question("a/2", "a", "", ("zw",)),
    Question("b/1", "b", "", ("uv",)),
]
SCRIPT = [7, 3, 11, 5, 2, 13, 8, 1, 4, 9, 6, 12] * 4  # four lines of twelve: a loop, told apart below


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("run", "loop"):
        monkeypatch.setattr(f"orchestrator.{module}.perf_counter", clock)
    return clock


def scripted(script=SCRIPT):
    """Greedy text `script` after any prompt of the questions above, whose length is known."""

    def logits(tokens):
        place = len(tokens) - 4
        return one_hot(script[place] if 0 <= place < len(script) else 0, N_VOCAB)

    return logits


def measured(group, *, max_tokens=24, repeats=2, questions=QUESTIONS, **options):
    Runner([group], max_tokens=max_tokens, repeats=repeats).run(questions)
    configurations = {lane.name: Configuration(label=lane.name) for lane in group.lanes}
    return document(
        [group],
        configurations,
        max_tokens=max_tokens,
        repeats=repeats,
        ignore_eos=False,
        provenance={},
        **options,
    )


def approx(expected):
    return pytest.approx(expected, rel=1e-9)


def test_a_drafter_that_is_always_right_reaches_the_oracle(clock):
    found = measured(
        memory_group(clock, scripted(), QUESTIONS, {"right": Working(clock, OracleDrafter(SCRIPT), 0)})
    )
    overall = found["overall"]
    assert overall["plain_tok_s"] == approx(1e3 / row_ms(1))
    assert overall["tok_s"] == approx(4e3 / row_ms(4))
    assert overall["speedup"] == approx(4 * row_ms(1) / row_ms(4))
    assert overall["speedup_ci"] == approx((overall["speedup"],) * 2)
    assert (overall["tau"], overall["acceptance"], overall["histogram"]) == (4.0, 1.0, {"4": 36})
    assert overall["acceptance_at"] == [1.0, 1.0, 1.0]
    assert overall["efficiency"] == approx(1.0)
    assert overall["ceiling_tok_s"] == approx(16e3 / row_ms(16))
    assert found["identical"] == {"n": 3, "of": 3}
    assert found["suites"].keys() == {"a", "b"}
    assert [found["suites"][name]["n_prompts"] for name in "ab"] == [2, 1]


def test_a_drafter_that_is_right_twice_of_three_times_and_takes_four_ms(clock):
    oracle = OracleDrafter(SCRIPT, right=lambda place: place % 3 != 2)
    overall = measured(memory_group(clock, scripted(), QUESTIONS, {"d": Working(clock, oracle, 4.0)}))[
        "overall"
    ]
    assert overall["tau"] == 3.0
    assert overall["tok_s"] == approx(24e3 / (7 * (row_ms(4) + 4) + row_ms(3) + 4))
    assert overall["oracle_tok_s"] == approx(3e3 / row_ms(3))
    assert overall["efficiency"] == approx(overall["tok_s"] / overall["oracle_tok_s"])
    assert overall["acceptance_at"] == [1.0, 1.0, 0.0]
    assert overall["split"]["draft"] == approx(8 * 4.0 / (7 * (row_ms(4) + 4) + row_ms(3) + 4))
    assert sum(overall["split"].values()) == approx(1.0)


def test_a_drafter_that_is_never_right_is_a_loss(clock):
    oracle = OracleDrafter(SCRIPT, right=lambda _: False)
    overall = measured(memory_group(clock, scripted(), QUESTIONS, {"d": Working(clock, oracle, 0)}))[
        "overall"
    ]
    assert (overall["tau"], overall["acceptance"]) == (1.0, 0.0)
    assert overall["speedup"] < 0.7
    assert overall["speedup_ci"][1] < 1
    assert overall["oracle_tok_s"] == approx(1e3 / row_ms(1))


def test_one_prompt_gives_no_interval(clock):
    group = memory_group(clock, scripted(), QUESTIONS, {"d": OracleDrafter(SCRIPT)})
    found = measured(group, questions=QUESTIONS[:1])
    assert found["overall"]["speedup_ci"] is None
    assert found["overall"]["speedup"] > 1


def test_an_honest_baseline_passes_and_a_slow_one_is_caught(clock):
    honest = measured(memory_group(clock, scripted(), QUESTIONS, {"d": OracleDrafter(SCRIPT)}))
    (check,) = honest["baseline_check"]
    assert (check["reference"], check["ok"], check["ratio"]) == ("bare decodes", True, approx(1.0))
    group = memory_group(clock, scripted(), QUESTIONS, {"d": OracleDrafter(SCRIPT)}, n_forwards=2)
    runner = Runner([group], max_tokens=24)

    def measure_bare(target, suite, measure=group.meter.measure):
        target.n_forwards = 1  # the bare decode needs one forward; only the plain path did two
        measure(target, suite)
        target.n_forwards = 2

    object.__setattr__(group, "meter", Metered(group.meter, measure_bare))
    runner.run(QUESTIONS)
    configurations = {lane.name: Configuration(label=lane.name) for lane in group.lanes}
    slow = document([group], configurations, max_tokens=24, repeats=1, ignore_eos=False, provenance={})
    (check,) = slow["baseline_check"]
    assert (check["ok"], check["ratio"]) == (False, approx(0.5))


class Metered:
    """A cost meter that measures through a function."""

    def __init__(self, meter, measure) -> None:
        self._meter, self.measure = meter, measure

    def curve(self, suite=None):
        return self._meter.curve(suite)


def test_texts_that_end_early_are_timed_as_long_as_they_are(clock):
    script = [*SCRIPT[:5], END]
    found = measured(memory_group(clock, scripted(script), QUESTIONS, {"d": OracleDrafter(script)}))
    assert found["overall"]["n_tokens"] == 3 * 6
    assert found["overall"]["plain_tok_s"] == approx(1e3 / row_ms(1))
    assert found["overall"]["histogram"] == {"6": 6}


def test_texts_that_loop_are_split_out(clock):
    n = len(SCRIPT)
    found = measured(memory_group(clock, scripted(), QUESTIONS, {"d": OracleDrafter(SCRIPT)}), max_tokens=n)
    loops = found["configurations"][0]["loops"]
    assert (loops["n"], loops["of"], loops["others"]) == (3, 3, None)
    assert loops["looping"]["tok_s"] == found["overall"]["tok_s"]


def test_everybody_answers_every_prompt_in_turn_and_the_first_changes(clock):
    group = memory_group(
        clock, scripted(), QUESTIONS, {"x": OracleDrafter(SCRIPT), "y": OracleDrafter(SCRIPT)}
    )
    order = []
    for lane in group.lanes:
        answer, name = lane.entrant.answer, lane.name
        lane.entrant.answer = lambda p, n, answer=answer, name=name: order.append((name, n)) or answer(p, n)
    Runner([group], max_tokens=12, repeats=2).run(QUESTIONS[:2])
    warm_up, counted = order[:3], [name for name, _ in order[3:]]
    assert warm_up == [("plain", 8), ("x", 8), ("y", 8)]
    assert [counted[i : i + 3] for i in range(0, 12, 3)] == [
        ["plain", "x", "y"],
        ["x", "y", "plain"],
        ["y", "plain", "x"],
        ["plain", "x", "y"],
    ]


def test_an_entrant_that_fails_is_out_and_the_others_go_on(clock):
    class Failing(OracleDrafter):
        def propose(self, context, budget):
            if context.tokens[0] == ord("z"):
                raise DrafterError("no idea")
            return super().propose(context, budget)

    questions = [QUESTIONS[0], Question("c/1", "c", "", ("zz",)), QUESTIONS[2]]
    group = memory_group(
        clock, scripted(), questions, {"bad": Failing(SCRIPT), "good": OracleDrafter(SCRIPT)}
    )
    for lane in group.lanes:  # letters stand for themselves here
        lane.entrant.engine.tokenizer.encode = lambda text, add_special=True: [ord(x) for x in text]
    group_document = measured(group, questions=questions)
    bad, good = group_document["configurations"]
    assert "no idea" in bad["note"]
    assert (bad["identical"]["of"], good["identical"]["of"], good["note"]) == (1, 3, "")


def test_a_question_that_does_not_fit_is_named(clock):
    questions = [QUESTIONS[0], Question("long", "a", "", ("x" * 5000,))]
    group = memory_group(clock, scripted(), questions, {"d": OracleDrafter(SCRIPT)})
    found = measured(group, questions=questions)
    (skipped,) = found["skipped"]
    assert skipped["id"] == "long" and "n_ctx=4096" in skipped["reason"]
    assert found["overall"]["n_prompts"] == 1


def test_a_later_turn_continues_what_plain_decoding_said(clock):
    question = Question("m/1", "m", "", ("xy", "again"))
    group = memory_group(clock, scripted(), [question], {"d": OracleDrafter(SCRIPT)})
    Runner([group], max_tokens=4).run([question])
    first, second = group.plain.trials
    said = group.engine.engine.tokenizer.decode(SCRIPT[:4])
    assert list(second.prompt) == group.engine.engine.tokenizer.encode(f"xy\n\n{said}\n\nagain\n\n")
    assert (first.turn, second.turn) == (0, 1)
    assert second.prompt in {task.prompt for task in group.others[0].trials}

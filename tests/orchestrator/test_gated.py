"""Claims about drafters behind a gate: who is not worth it is not asked, and the text is the target's."""

import pytest

from orchestrator import Engine
from orchestrator.context import Context
from orchestrator.drafters.gated import GatedDrafter
from tests.fakes import ListDrafter
from tests.orchestrator.test_cascade import Gate


def gated(n, *drafts):
    drafter = GatedDrafter(ListDrafter(drafts))
    drafter.gate = Gate(n)
    context = Context([1, 2, 3], None)
    drafter.begin(context)
    return drafter, context


def test_a_closed_gate_asks_nobody():
    drafter, context = gated(0, [4, 5])
    assert len(drafter.propose(context, 8)) == 0
    assert drafter.gate.rivals == [[]] and drafter.gate.answers == []


def test_an_open_one_asks_for_as_much_as_it_says_and_tells_how_much_came():
    drafter, context = gated(4, [4, 5, 6])
    assert len(drafter.propose(context, 8)) == 3
    assert drafter.gate.answers == [("list", 3)] and drafter.name == "list"


def test_the_drafter_behind_it_asks_the_same_gate_whether_to_go_on():
    drafter, _ = gated(4, [4, 5, 6])
    assert drafter._stage.gate is drafter.gate


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_draft_model_under_the_planner_gives_the_text_of_plain_decoding(tiny, temperature):
    settings = {"n_threads": 1, "temperature": temperature, "seed": 3, "n_ctx": 256}
    with Engine.load(tiny("llama"), tiny("llama"), "model", planner="adaptive", **settings) as engine:
        assert isinstance(engine.drafter, GatedDrafter)
        plain = engine.generate("the cat", max_tokens=40, speculate=False)
        fast = engine.generate("the cat", max_tokens=40)
    assert fast.tokens == plain.tokens


def test_a_fixed_planner_asks_always(tiny):
    with Engine.load(tiny("llama"), tiny("llama"), "model", n_threads=1, n_ctx=256) as engine:
        assert not isinstance(engine.drafter, GatedDrafter)

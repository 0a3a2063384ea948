"""Who guessed which words: texts of tokens, split and joined by source."""

from orchestrator.draft import Step
from orchestrator.request import Chunk
from orchestrator.server.sources import Span, Spans, Told, join, sources_of


def step(tokens, source="", n_accepted=0, sources=()):
    return Step(tokens, n_accepted, n_accepted, n_accepted, source, 0.1, 0.2, 0.2, sources=sources)


def pushed(*texts):
    spans = Spans()
    for text in texts:
        spans.push(0, text)
    return spans


def test_the_last_token_of_a_round_is_the_targets():
    assert sources_of(step((1,))) == ("target",)
    assert sources_of(step((1, 2, 3), "lookup", 2)) == ("lookup", "lookup", "target")
    assert sources_of(step((1, 2, 3), "cascade", 2, ("suffix", "model"))) == ("suffix", "model", "target")
    assert sources_of(step((1, 2), n_accepted=1)) == ("unnamed", "target")


def test_neighbours_of_one_source_are_one_span():
    spans = pushed("a", "b", "c").take(Chunk("abc", step((1, 2, 3), "lookup", 2)))
    assert spans == (Span("lookup", 2, "ab"), Span("target", 1, "c"))
    assert join([Span("x", 1, "a"), Span("x", 2, "b"), Span("y", 1, ""), Span("x", 1, "c")]) == (
        Span("x", 3, "ab"),
        Span("y", 1, ""),
        Span("x", 1, "c"),
    )


def test_text_that_was_held_back_belongs_to_the_last_token():
    assert pushed("", "").take(Chunk("ab", step((1, 2), "lookup", 1))) == (
        Span("lookup", 1, ""),
        Span("target", 1, "ab"),
    )


def test_rounds_do_not_mix():
    spans = pushed("a")
    spans.take(Chunk("a", step((1,))))
    spans.push(0, "b")
    assert spans.take(Chunk("b", step((2,)))) == (Span("target", 1, "b"),)


def test_what_no_reply_carried_comes_with_the_next():
    told = Told(True)
    told.add(Chunk("", step((1,))), (Span("target", 1, ""),))
    told.add(Chunk("é", step((2, 3), "lookup", 1)), (Span("target", 1, "é"), Span("lookup", 1, "x")))
    reply = told.within({"id": 1})
    assert reply["id"] == 1
    assert reply["pilotfish"] == {
        "sources": [
            {"source": "target", "n_tokens": 2, "text": "é"},
            {"source": "lookup", "n_tokens": 1, "text": "x"},
        ],
        "tau": 1.5,
        "tokens_per_second": 3.0,
    }
    assert told.within({})["pilotfish"]["sources"] == []


def test_nothing_is_told_unasked():
    told = Told(False)
    told.add(Chunk("a", step((1,))), ())
    assert told.within({"id": 1}) == {"id": 1}

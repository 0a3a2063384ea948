import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.text import TextStream


class Pieces:
    """A decoder whose tokens are the pieces of a list."""

    def __init__(self, pieces):
        self._pieces = pieces

    def push(self, token):
        return self._pieces[token]

    def finish(self):
        return ""


def read(pieces, stops):
    """The pieces as they come out, the end included; and whether a stop string was met."""
    stream, out = TextStream(Pieces(pieces), stops), []
    for token in range(len(pieces)):
        stopped = stream.push(token)
        out.append(stream.take())
        if stopped:
            break
    met = stream.stopped
    out.append(stream.finish())
    return out, met


def test_text_without_stops_comes_out_at_once():
    assert read(["ab", "c"], []) == (["ab", "c", ""], False)


def test_what_may_become_a_stop_is_held_back():
    assert read(["x<", "end", ">y"], ["<end>"]) == (["x", "", "", ""], True)


def test_what_turns_out_to_be_no_stop_is_released():
    assert read(["x<", "enx"], ["<end>"]) == (["x", "<enx", ""], False)


def test_a_possible_stop_at_the_very_end_is_text():
    assert read(["x<e"], ["<end>"]) == (["x", "<e"], False)


def test_the_earliest_of_several_stops_counts():
    assert read(["abcdef"], ["e", "cd"])[0] == ["ab", ""]


@given(
    st.lists(st.text("ab", min_size=0, max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_the_output_is_the_text_before_the_first_stop_and_never_runs_ahead(pieces, stops):
    out, met = read(pieces, stops)
    # a stop is met as soon as it is complete, so look at the shortest text that holds one
    for n in range(len(pieces) + 1):
        text = "".join(pieces[:n])
        found = [text.find(stop) for stop in stops if stop in text]
        if found:
            assert met and "".join(out) == text[: min(found)]
            return
    assert not met and "".join(out) == "".join(pieces)


@pytest.mark.parametrize("text", ["é", "日本", "🐟"])
def test_nothing_is_lost_without_stops(text):
    assert "".join(read(list(text), ["zz"])[0]) == text

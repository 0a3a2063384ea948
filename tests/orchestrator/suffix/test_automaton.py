"""The automaton and its cursor against what one finds by looking at every stretch."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.suffix.automaton import ROOT, Continuation, Cursor, SuffixAutomaton

TEXTS = st.lists(st.integers(0, 2), max_size=40)
ALL = 10**9  # every suffix is kept up


def built(tokens, **options):
    automaton = SuffixAutomaton(**options)
    for token in tokens:
        automaton.extend(token)
    return automaton


def ends_of(stretch, tokens):
    """Where `stretch` ends in `tokens`."""
    n = len(stretch)
    return [end for end in range(n, len(tokens) + 1) if tokens[end - n : end] == stretch]


def longest_suffix(text, tokens):
    """The longest suffix of `text` that occurs in `tokens`."""
    return next(text[i:] for i in range(len(text) + 1) if ends_of(text[i:], tokens))


def state_of(automaton, stretch):
    state = ROOT
    for token in stretch:
        state = automaton.next[state][token]
    return state


def stretches(tokens):
    return {
        tuple(tokens[start:end]) for end in range(len(tokens) + 1) for start in range(max(0, end - 8), end)
    }


@given(TEXTS)
def test_the_first_match_is_the_longest_suffix_that_stood_earlier(tokens):
    longest = len(longest_suffix(tokens, tokens[:-1])) if tokens else 0
    found = next(built(tokens).matches(ALL), None)
    assert (found.length if found else 0) == longest


@given(TEXTS)
def test_matches_get_shorter_and_each_stood_where_it_says_with_a_token_after_it(tokens):
    matches = list(built(tokens).matches(ALL))
    assert [m.length for m in matches] == sorted({m.length for m in matches}, reverse=True)
    for _, length, end in matches:
        assert 0 < length <= end < len(tokens)
        assert tokens[end - length : end] == tokens[-length:]


@given(TEXTS)
def test_the_longest_match_is_the_newest_of_its_length(tokens):
    for _, length, end in built(tokens).matches(1):
        assert end == ends_of(tokens[-length:], tokens)[-2]


@given(TEXTS)
def test_no_more_states_are_looked_at_than_allowed(tokens):
    automaton = built(tokens)
    assert list(automaton.matches(2)) == list(automaton.matches(ALL))[:2]


@given(TEXTS)
def test_continuations_are_what_followed_and_where(tokens):
    automaton = built(tokens)
    for stretch in stretches(tokens):
        ends = [end for end in ends_of(list(stretch), tokens) if end < len(tokens)]
        found = automaton.continuations(state_of(automaton, stretch))
        assert {c.token for c in found} == {tokens[end] for end in ends}
        assert all(c.position in ends and tokens[c.position] == c.token for c in found)


@given(TEXTS)
def test_with_all_suffixes_kept_up_counts_and_newest_places_are_exact(tokens):
    automaton = built(tokens, reach=ALL)
    for stretch in stretches(tokens):
        places = defaultdict(list)
        for end in ends_of(list(stretch), tokens):
            if end < len(tokens):
                places[tokens[end]].append(end)
        expected = {token: len(ends) for token, ends in places.items()}
        # what the newest token ended counts for longer stretches only once a token follows it
        if tokens[-len(stretch) - 1 : -1] == list(stretch) and expected[tokens[-1]] > 1:
            expected[tokens[-1]] -= 1
            places[tokens[-1]].pop()
        found = automaton.continuations(state_of(automaton, stretch))
        assert {c.token: c.times for c in found} == expected
        assert {c.token: c.position for c in found} == {token: ends[-1] for token, ends in places.items()}


@given(st.lists(st.integers(0, 1), max_size=120))
def test_a_bounded_walk_leaves_true_places_and_counts_that_are_not_too_high(tokens):
    bounded, exact = built(tokens, reach=1), built(tokens, reach=ALL)
    for state in range(1, len(bounded)):
        assert 1 <= bounded.count[state] <= exact.count[state]
        end, length = bounded.recent[state], bounded.length[state]
        newest = exact.recent[state]
        assert length <= end <= newest
        assert tokens[end - length : end] == tokens[newest - length : newest]


@given(TEXTS)
def test_settled_counts_are_exact_and_places_have_a_token_after_them(tokens):
    automaton = built([*tokens, -1], reach=0)
    automaton.settle()
    for stretch in stretches(tokens):
        ends, state = ends_of(list(stretch), tokens), state_of(automaton, stretch)
        followed = [end for end in ends if end < len(tokens)]
        assert automaton.count[state] == len(ends)
        assert automaton.recent[state] == (followed or ends)[-1]
        assert Counter({c.token: c.times for c in automaton.continuations(state)}) == Counter(
            tokens[end] for end in followed
        )


def test_continuations_come_by_count_then_by_age():
    automaton = built([7, 1, 7, 2, 7, 2, 7, 3, 9], reach=ALL)
    state = state_of(automaton, [7])
    assert automaton.continuations(state) == [
        Continuation(2, 2, 5),
        Continuation(3, 1, 7),
        Continuation(1, 1, 1),
    ]
    assert [c.token for c in automaton.continuations(state, look=1)] == [1]


def test_separators_are_never_proposed():
    automaton = built([5, 6, -1, 5, 6, -2, 8, 5])
    assert [m.end for m in automaton.matches(ALL)] == [4]
    assert automaton.continuations(state_of(automaton, [5, 6])) == []
    assert list(automaton.suffixes(state_of(automaton, [5, 6]), 2, ALL)) == []


@given(TEXTS, TEXTS)
def test_after_a_reset_nothing_of_the_old_text_remains(old, new):
    automaton, fresh = built(old), built(new)
    automaton.reset()
    for token in new:
        automaton.extend(token)
    for name in ("tokens", "length", "link", "next", "recent", "count", "last"):
        assert getattr(automaton, name) == getattr(fresh, name)


@given(TEXTS)
def test_states_stay_below_twice_the_tokens(tokens):
    assert len(built(tokens)) <= max(2, 2 * len(tokens))


@given(TEXTS, st.lists(st.integers(0, 3), max_size=40))
def test_a_cursor_holds_the_longest_suffix_of_a_foreign_text_that_occurs(tokens, text):
    automaton = built([*tokens, -1], reach=0)
    cursor = Cursor(automaton)
    for n, token in enumerate(text, start=1):
        cursor.advance(token)
        longest = longest_suffix(text[:n], tokens)
        assert cursor.length == len(longest)
        assert (
            automaton.link[cursor.state] < 0 or automaton.length[automaton.link[cursor.state]] < cursor.length
        )
        assert cursor.state == state_of(automaton, longest)


@given(TEXTS, st.lists(st.integers(0, 2), max_size=20))
def test_a_cursors_matches_occur_with_a_token_after_them(tokens, text):
    automaton = built([*tokens, -1], reach=0)
    automaton.settle()
    cursor = Cursor(automaton)
    for token in text:
        cursor.advance(token)
    matches = list(cursor.matches(ALL))
    for _, length, end in matches:
        assert tokens[end - length : end] == text[-length:]
        assert end < len(tokens)
    longest = len(longest_suffix(text, tokens[:-1]))
    assert max((m.length for m in matches), default=0) == longest


@given(TEXTS, st.lists(st.integers(0, 2), max_size=10))
def test_a_cursor_at_the_tail_looks_ahead_of_the_automatons_own_text(tokens, ahead):
    automaton = built(tokens)
    cursor = Cursor.at_tail(automaton)
    for token in ahead:
        cursor.advance(token)
    whole = [*tokens, *ahead]
    for _, length, end in cursor.matches(ALL):
        assert end < len(tokens)
        assert tokens[end - length : end] == whole[-length:]
    longest = len(longest_suffix(whole, tokens[:-1]))
    assert next((m.length for m in cursor.matches(ALL)), 0) == longest


def test_a_copy_of_a_cursor_goes_its_own_way():
    automaton = built([1, 2, 3, 4])
    cursor = Cursor(automaton)
    cursor.advance(1)
    ahead = cursor.copy()
    ahead.advance(2)
    assert (cursor.length, ahead.length) == (1, 2)

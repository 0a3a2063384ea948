"""Texts that end in a loop: small models repeat themselves, and repetition is easy to draft.

Knows token ids only.
"""

from collections.abc import Sequence

LONGEST_PERIOD = 64
LEAST_TOKENS = 24  # a list of three short items is no loop
LEAST_ROUNDS = 3


def ends_in_a_loop(tokens: Sequence[int]) -> bool:
    """Whether the end of `tokens` repeats one stretch at least three times and over 24 tokens.

    An end token at the very end is looked past.
    """
    return any(_repeats(tokens, period) for period in range(1, LONGEST_PERIOD + 1)) or any(
        _repeats(tokens[:-1], period) for period in range(1, LONGEST_PERIOD + 1)
    )


def _repeats(tokens: Sequence[int], period: int) -> bool:
    n = max(LEAST_TOKENS, LEAST_ROUNDS * period)
    if n > len(tokens):
        return False
    tail = tokens[len(tokens) - n :]
    return list(tail[period:]) == list(tail[:-period])

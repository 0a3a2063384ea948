"""Chains that are made one guess at a time, and where they end. Knows guesses; nothing of who makes them."""

from collections.abc import Callable, Sequence

from orchestrator.draft import Draft
from orchestrator.sampler import Guess


def grown(
    source: str,
    n: int,
    guess: Callable[[Sequence[Guess]], Guess],
    goes_on: Callable[[Sequence[float]], bool],
    *,
    p_min: float = 0.0,
) -> Draft:
    """At most `n` guesses. guess(those so far): the next one. goes_on(their probabilities): whether another
    may pay. p_min: a guess of less probability ends it, and is left out.

    Where q is handed over there are always `n`: stopping on a token that was drawn would change its law.
    """
    guesses: list[Guess] = []
    while len(guesses) < n:
        found = guess(guesses)
        if found.q is None and found.prob < p_min:
            break
        guesses.append(found)
        if found.q is None and len(guesses) < n and not goes_on([one.prob for one in guesses]):
            break
    q = tuple(one.q for one in guesses if one.q is not None)
    return Draft.chain(
        [one.token for one in guesses], [one.prob for one in guesses], source=source, q=q or None
    )

"""When a request ends: budget, end tokens, stop strings, a caller's wish.

Decides how many of a round's tokens may be emitted, before they are committed; knows no models.
"""

from collections.abc import Callable, Iterable, Sequence

# Called with each token as it is emitted; a non-empty answer ends the request after that token.
Watcher = Callable[[int], str]

STOP, LENGTH, CANCELLED = "stop", "length", "cancelled"


class EndTokens(dict[int, bool]):
    """Which tokens end a text, looked up for every token and asked of the model once for each."""

    def __init__(self, is_end: Callable[[int], bool], more: Iterable[int] = ()) -> None:
        """is_end: the model's own word. more: tokens that end the text besides."""
        super().__init__((token, True) for token in more)
        self._is_end = is_end

    def __missing__(self, token: int) -> bool:
        self[token] = ends = self._is_end(token)
        return ends


class Limits:
    """The limits of one request.

    max_tokens: how many tokens may be emitted. ends: whether a token ends the text (it is still
    emitted). watch: told about every emitted token.
    """

    def __init__(self, max_tokens: int, ends: Callable[[int], bool], watch: Watcher = lambda _: "") -> None:
        self.ends, self._watch = ends, watch
        self.left = max_tokens

    def admit(self, tokens: Sequence[int]) -> tuple[int, str]:
        """How many of `tokens` may be emitted, and why the request ends there (empty: it goes on)."""
        for n, token in enumerate(tokens, start=1):
            reason = self._reason_after(token)
            if reason:
                return n, reason
        return len(tokens), ""

    def _reason_after(self, token: int) -> str:
        self.left -= 1
        reason = self._watch(token)
        if self.ends(token):
            return STOP
        return reason or (LENGTH if self.left <= 0 else "")

"""Text that arrives token by token and may end at a stop string, wherever token borders fall."""

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """Bytes of tokens to characters (adapters.tokenizer.TextDecoder)."""

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class TextStream:
    """Collects the text of emitted tokens; nothing from a stop string on ever comes out.

    Text that may still turn out to be the beginning of a stop string is held back.
    """

    def __init__(self, decoder: Decoder, stops: Sequence[str] = ()) -> None:
        self._decoder, self._stops = decoder, tuple(stops)
        self._pending = ""
        self._ready: list[str] = []
        self.stopped = False

    def push(self, token: int) -> bool:
        """Take one more token; True when a stop string is complete."""
        if not self.stopped:
            self._pending += self._decoder.push(token)
            self._release()
        return self.stopped

    def _release(self) -> None:
        if not self._stops:
            self._ready.append(self._pending)
            self._pending = ""
            return
        found = [at for stop in self._stops if (at := self._pending.find(stop)) >= 0]
        if found:
            self._ready.append(self._pending[: min(found)])
            self._pending, self.stopped = "", True
            return
        safe = len(self._pending) - max((_overlap(self._pending, stop) for stop in self._stops), default=0)
        self._ready.append(self._pending[:safe])
        self._pending = self._pending[safe:]

    def take(self) -> str:
        """The text that has become certain since the last call."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    def finish(self) -> str:
        """The rest, when no more tokens come: what was held back is text after all."""
        if not self.stopped:
            self._pending += self._decoder.finish()
            self._release()
            if not self.stopped:
                self._ready.append(self._pending)
            self._pending, self.stopped = "", True
        return self.take()


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for n in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0

"""One request's generation, between the event loop that serves its client and the thread that decodes.

The thread never waits for the client: what it makes is kept until somebody reads it, so that a slow reader
holds up nobody.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from orchestrator.limits import CANCELLED
from orchestrator.openai.answer import Answer
from orchestrator.request import Chunk, Result
from orchestrator.server.refusal import Refusal
from orchestrator.server.sources import Span, Spans

Opener = Callable[[Spans], Answer]  # begins the text; runs in the engine's thread


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of the text, and who guessed its words."""

    chunk: Chunk
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The text is complete."""

    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be nothing more."""

    error: BaseException


Event = Piece | Finished | Failed


class Job:
    """A text in the making; `event` gives what comes of it, in order.

    answer: there from the first Piece on. arrived, started, first, ended: perf_counter's seconds, 0 = not
    yet.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.answer: Answer | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._lock = threading.Lock()
        self._cancelled = False
        self._refused = False
        self.arrived = perf_counter()
        self.started = self.first = self.ended = 0.0

    # -- in the event loop's thread ----------------------------------------------------------------

    async def event(self) -> Event:
        """The next of what comes; nothing comes after Finished and Failed."""
        return await self._events.get()

    def cancel(self) -> None:
        """End after the round in progress, or never begin."""
        with self._lock:
            self._cancelled = True
            if self.answer is not None:
                self.answer.stream.cancel()

    def refuse(self, refusal: Refusal) -> None:
        """Cancel, and tell the client why."""
        self.cancel()
        if not self._refused:
            self._events.put_nowait(Failed(refusal))
        self._refused = True

    @property
    def seconds(self) -> float:
        """How long the engine was busy with it."""
        return max(0.0, self.ended - self.started)

    @property
    def result(self) -> Result | None:
        """What there is of the text; None where it was never begun."""
        return None if self.answer is None else self.answer.result

    def _deliver(self, event: Event) -> None:
        if not self._refused:
            self._events.put_nowait(event)

    # -- in the engine's thread --------------------------------------------------------------------

    def run(self) -> None:
        """Generate everything."""
        self.started = perf_counter()
        try:
            last: Event = Finished(self._generate())
        except Exception as error:  # whatever it is, a client is waiting to be told
            last = Failed(error)
        self.ended = perf_counter()
        self._post(last)

    def _generate(self) -> Result:
        if self._cancelled:
            raise Refusal(499, "the client has left")
        spans = Spans()
        answer = self._opener(spans)
        with self._lock:
            self.answer = answer
            if self._cancelled:  # between the question above and now
                answer.stream.cancel()
        for chunk in answer.stream:
            self.first = self.first or perf_counter()
            self._post(Piece(chunk, spans.take(chunk)))
        result = answer.result
        if result.finish_reason == CANCELLED:  # not by a callback: nobody but us can cancel it
            raise Refusal(499, "the request was cancelled")
        return result

    def _post(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._deliver, event)

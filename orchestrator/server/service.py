"""From a call to its response: a job in the line, waited for as long as its client does.

Knows jobs and their events, deadlines and clients that leave; nothing of routes and parameters.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.engine import Engine
from orchestrator.openai.answer import Answer
from orchestrator.openai.parameters import Call
from orchestrator.openai.replies import Replies, Reply
from orchestrator.server.events import DONE, EventStream, event
from orchestrator.server.job import Failed, Finished, Job, Piece
from orchestrator.server.line import Line
from orchestrator.server.metrics import Metrics
from orchestrator.server.refusal import Refusal, json_response, refusal_of
from orchestrator.server.settings import ServerSettings
from orchestrator.server.sources import Spans, Told

T = TypeVar("T")


class Service:
    """One engine, its line and its figures."""

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        self.engine, self.settings = engine, settings
        self.metrics = Metrics(lambda: self.line.n_waiting, lambda: self.line.n_running)
        self.line = Line(settings.max_queue, self.metrics.generated)

    async def respond(self, request: Request, call: Call, *, with_sources: bool) -> Response:
        """The response to `call`; with_sources: say who guessed which words, too. Raises what went wrong
        before the first word."""
        job = Job(lambda spans: self._open(call, spans if with_sources else None))
        waiting = _Waiting(job, self.settings.timeout)
        self.line.join(job)
        try:
            if not call.stream:
                return json_response(await unless_gone(request, self._whole(waiting, with_sources)))
            first = await unless_gone(request, waiting.event())
        except BaseException:
            self.line.leave(job)
            raise
        events = self._events(waiting, first, with_sources)
        return EventStream(events, lambda: self.line.leave(job), self.settings.read_timeout)

    def _open(self, call: Call, spans: Spans | None) -> Answer:
        if spans is not None:
            call = replace(call, options={**call.options, "on_token": spans.push})
        return Answer(self.engine, call, model=self.settings.name, details=True)

    async def _whole(self, waiting: "_Waiting", with_sources: bool) -> Reply:
        told = Told(with_sources)
        while isinstance(current := await waiting.event(), Piece):
            told.add(current.chunk, current.spans)
        return told.within(waiting.replies.whole(current.result))

    async def _events(
        self, waiting: "_Waiting", first: Piece | Finished, with_sources: bool
    ) -> AsyncIterator[bytes]:
        """The events of a stream that has begun with `first`."""
        told, current = Told(with_sources), first
        if opening := waiting.replies.first():
            yield event(told.within(opening))
        while isinstance(current, Piece):
            told.add(current.chunk, current.spans)
            if reply := waiting.replies.chunk(current.chunk):
                yield event(told.within(reply))
            try:
                current = await waiting.event()
            except Exception as error:  # the status is sent already: what went wrong comes as an event
                yield event(refusal_of(error).body)
                return
        for reply in waiting.replies.last(current.result):
            yield event(told.within(reply))
        yield DONE


class _Waiting:
    """Waits for what comes of a job, `seconds` in all."""

    def __init__(self, job: Job, seconds: float) -> None:
        self._job, self._seconds = job, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds

    async def event(self) -> Piece | Finished:
        """The next event; raises what the job failed of, or Refusal at the deadline."""
        try:
            async with asyncio.timeout_at(self._deadline):
                found = await self._job.event()
        except TimeoutError:
            self._job.cancel()
            raise self._too_late() from None
        if isinstance(found, Failed):
            raise found.error
        return found

    def _too_late(self) -> Refusal:
        if not self._job.started:
            return Refusal(
                503,
                f"the request has waited for {self._seconds:g} seconds, and its turn did not come; try later",
                code="queue_timeout",
                headers={"Retry-After": "30"},
            )
        return Refusal(
            504,
            f"the answer took longer than {self._seconds:g} seconds; ask for fewer tokens (max_tokens), or "
            "start the server with a larger --timeout",
            code="timeout",
            headers={"x-should-retry": "false"},  # OpenAI's client would ask the same again
        )

    @property
    def replies(self) -> Replies:
        assert self._job.answer is not None
        return self._job.answer.replies


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; Refusal as soon as the client has left."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refusal(499, "the client has left")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has left; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

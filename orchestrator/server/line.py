"""Requests in the order in which they came, and the one thread that serves them.

Knows jobs, not what is in them. All methods belong to the event loop's thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from orchestrator.server.job import Job
from orchestrator.server.refusal import Refusal, shutting_down

_MEMORY = 0.8  # how much of the mean duration is what it was before the newest job
_LONGEST_RETRY = 60  # seconds; clients ignore longer ones


class Line:
    """One job runs, at most `most` wait; a place is free as soon as its job is done or has left."""

    def __init__(self, most: int, done: Callable[[Job], None]) -> None:
        """done: called with each job that the thread is through with."""
        self._most, self._done = most, done
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._seconds = 0.0  # of a usual job
        self._thread = ThreadPoolExecutor(1, "pilotfish-engine")
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        return int(self._running is not None)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def require_room(self) -> None:
        """Raise Refusal where a job could not join."""
        if self._closed:
            raise shutting_down()
        if self._running is not None and len(self._waiting) >= self._most:
            raise Refusal(
                503,
                f"{len(self._waiting)} requests are waiting already, as many as this server lets wait; try "
                "again after the seconds in Retry-After",
                code="queue_full",
                headers={"Retry-After": str(self.retry_after)},
            )

    @property
    def retry_after(self) -> int:
        """Whole seconds until there may be room."""
        return max(1, min(_LONGEST_RETRY, round(self._seconds)))

    def join(self, job: Job) -> None:
        """Put `job` at the end; Refusal where the line is full or closed."""
        self.require_room()
        self._waiting.append(job)
        self._advance()

    def leave(self, job: Job) -> None:
        """`job` is wanted no more: one that waits is gone at once, one that runs ends with its round."""
        job.cancel()
        if job in self._waiting:
            self._waiting.remove(job)

    def _advance(self) -> None:
        if self._running is None and self._waiting:
            self._running = self._waiting.popleft()
            self._idle.clear()
            loop = asyncio.get_running_loop()
            future: Future[None] = self._thread.submit(self._running.run)
            future.add_done_callback(lambda _future: loop.call_soon_threadsafe(self._next))

    def _next(self) -> None:
        job, self._running = self._running, None
        assert job is not None
        self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * job.seconds
        try:
            self._done(job)
        finally:
            self._idle.set()
            self._advance()

    def close(self) -> None:
        """Let nobody join any more, and send away those who wait; the running job goes on."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().refuse(shutting_down())

    def stop(self) -> None:
        """End the running job with its round."""
        self.close()
        if self._running is not None:
            self._running.refuse(shutting_down())

    async def drain(self, grace: float) -> None:
        """Close, give the running job `grace` seconds, then stop it and wait for its thread."""
        self.close()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            self.stop()
        await self._idle.wait()
        self._thread.shutdown()

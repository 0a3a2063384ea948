"""A response that comes in pieces: server-sent events, until the last one or until the client leaves."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from orchestrator.server.refusal import encoded

logger = logging.getLogger("pilotfish.server")

DONE = b"data: [DONE]\n\n"


def event(document: Any) -> bytes:
    """One event, as the client reads it."""
    return b"data: " + encoded(document) + b"\n\n"


def leave_shutdown_to_us() -> None:
    """The library ends every stream as soon as the server is told to stop; the running one may finish."""
    AppStatus.enable_automatic_graceful_drain = False


class EventStream(EventSourceResponse):
    """Sends events; `leave` is called however it ends."""

    def __init__(self, events: AsyncIterator[bytes], leave: Callable[[], None], seconds: float) -> None:
        """seconds: how long a client may take to accept what it was sent."""
        super().__init__(events, sep="\n", send_timeout=seconds)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("a client did not read its answer in time; its connection is closed")
        finally:
            self._leave()

"""What a client is told when there is no answer: one sentence, in the shape of OpenAI's errors.

Knows our errors and which of them a client may read; paths, names of Python's types and the like stay in
the log.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from orchestrator.errors import ChatTemplateError, ConfigError, ContextFull, GrammarError, PilotfishError

logger = logging.getLogger("pilotfish.server")

_TYPES = {401: "authentication_error", 403: "permission_error", 503: "overloaded_error", 504: "timeout_error"}


class Refusal(Exception):
    """A request that gets no answer: HTTP status, a sentence that says what to do, and OpenAI's fields."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def response(self) -> Response:
        return json_response(self.body, self.status, self.headers)


def refusal_of(error: BaseException) -> Refusal:
    """What a client may know about `error`; whatever is our fault goes to the log in full."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ChatTemplateError | GrammarError) and error.__cause__ is not None:
        return Refusal(400, _without_detail(error))
    if isinstance(error, ContextFull):
        return Refusal(400, str(error), code="context_length_exceeded")
    if isinstance(error, ConfigError | GrammarError | ChatTemplateError):
        return Refusal(400, str(error), param=getattr(error, "param", None))
    logger.error("a request failed", exc_info=error)
    ours = "" if isinstance(error, PilotfishError) else " unexpectedly"
    return Refusal(500, f"the generation failed{ours}; the server's log says why", code="generation_failed")


def _without_detail(error: PilotfishError) -> str:
    """For messages that end in what a template or a converter of others said."""
    cause = error.__cause__
    if isinstance(error, ChatTemplateError):
        # raise_exception() of a template is the way in which its author speaks to users
        said = f": {cause}" if type(cause) is ValueError else ""
        return (
            f"the model's chat template rejects these messages{said}; check their roles, order and contents"
        )
    return "the JSON schema cannot be turned into a grammar; check it, and leave out rarely used keywords"


def shutting_down() -> Refusal:
    return Refusal(
        503,
        "the server is shutting down; ask again later",
        code="shutting_down",
        headers={"Retry-After": "5"},
    )


def encoded(document: Any) -> bytes:
    """JSON as UTF-8; half a character out of a client's own JSON becomes a question mark."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(document), status, dict(headers or {}), "application/json")

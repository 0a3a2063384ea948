"""A request's bytes as a JSON object, within limits of size and time."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from orchestrator.server.refusal import Refusal

_DRAINED = 8  # times the limit that is read and dropped: whoever is still sending does not see an answer
_ALL_BODIES = 8  # times the limit that unfinished bodies of all clients may take together


class BodyReader:
    """Reads bodies of up to `most` bytes that arrive within `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._held = 0  # bytes of bodies that are still arriving

    async def read(self, request: Request) -> dict[str, Any]:
        """The JSON object that `request` carries; Refusal for anything else."""
        try:
            async with asyncio.timeout(self._seconds):
                data = await self._bytes(request)
        except TimeoutError:
            raise Refusal(
                408, f"the request's body did not arrive within {self._seconds:g} seconds; send it faster"
            ) from None
        except ClientDisconnect:
            raise Refusal(499, "the client has left") from None
        return parse(data)

    async def _bytes(self, request: Request) -> bytes:
        data, size = bytearray(), 0
        try:
            async for piece in request.stream():
                size += len(piece)
                if size <= self._most:
                    self._hold(len(piece))
                    data += piece
                elif size > _DRAINED * self._most:
                    break
        finally:
            self._held -= len(data)
        if size > self._most:
            raise Refusal(
                413,
                f"the request is larger than {self._most} bytes; shorten it, or start the server with a "
                "larger --max-body",
                code="body_too_large",
                headers={"Connection": "close"},
            )
        return bytes(data)

    def _hold(self, size: int) -> None:
        if self._held + size > _ALL_BODIES * self._most:
            raise Refusal(
                503, "too many large requests are arriving at once; try again", headers={"Retry-After": "2"}
            )
        self._held += size


def parse(data: bytes) -> dict[str, Any]:
    """The object in JSON bytes; Refusal says what is wrong with them."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(
            400, f"the body is not UTF-8 (byte {error.start}); send JSON encoded as UTF-8"
        ) from None
    try:
        document = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise Refusal(
            400,
            f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}; send an object",
        ) from None
    except RecursionError:
        raise Refusal(400, "the body's JSON is nested too deeply; send it flatter") from None
    except ValueError:  # a number of thousands of digits
        raise Refusal(400, "the body's JSON holds a number that is too long; send it shorter") from None
    if not isinstance(document, dict):
        raise Refusal(400, 'the body must be a JSON object, {"model": ...}')
    return document


def _no_number(name: str) -> NoReturn:
    raise Refusal(400, f"the body holds {name}, which JSON does not know; send a number")

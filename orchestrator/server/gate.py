"""Who may ask: holders of the key, and programs and pages of this machine.

A server without a key listens on loopback only, but any web page in a browser of this machine can send
requests there: so the name it was called by must be local, and the page must be our own.
"""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from orchestrator.server.refusal import Refusal
from orchestrator.server.settings import ServerSettings, is_loopback


class Gate:
    """Checks the headers of a request."""

    def __init__(self, settings: ServerSettings) -> None:
        self._key = None if settings.api_key is None else _digest(settings.api_key)

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise Refusal for whoever may not ask."""
        if self._key is not None:
            self._check_key(headers.get("authorization", ""))
        else:
            self._check_origin(headers)

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        # digests are of one length, so the comparison takes the same time whatever was given
        if not hmac.compare_digest(_digest(key.strip()), self._key or b"") or scheme.lower() != "bearer":
            raise Refusal(
                401,
                "the API key is missing or wrong; send the server's key as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if not _is_local(host):
            raise Refusal(
                403,
                "this server answers to localhost only; call http://127.0.0.1, or start it with --api-key",
                code="foreign_host",
            )
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Refusal(
                403,
                "pages of other sites may not use this server; start it with --api-key",
                code="foreign_origin",
            )


def _is_local(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # brackets that do not close
        return False


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

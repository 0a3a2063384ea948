"""A server that a benchmark starts on loopback, and JSON over HTTP to it.

Knows processes, ports and health; nothing of models or of what is asked.
"""

import json
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from orchestrator.errors import BenchError

HOST = "127.0.0.1"
_TAIL = 2000  # characters of a log that an error message quotes
_STOP_TIMEOUT = 10.0


def tail(text: str) -> str:
    """The end of a log, for an error message."""
    text = text.strip()
    return f"its log ends:\n{text[-_TAIL:]}" if text else "it logged nothing"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A running server, whose log is kept; raises BenchError where it does not become healthy."""

    def __init__(
        self, command: Callable[[int], Sequence[str]], start_timeout: float, answer_timeout: float
    ) -> None:
        """command: the command line that serves on the port it is given. Timeouts are in seconds."""
        self._make_command = command
        self._start_timeout, self._answer_timeout = start_timeout, answer_timeout
        self._start()

    def _start(self) -> None:
        self._port = free_port()
        self._command = list(self._make_command(self._port))
        self._folder = tempfile.TemporaryDirectory(prefix="pilotfish-bench-")
        self._log = Path(self._folder.name) / "log"
        self._closed = False
        try:
            # no pipe: one that nobody reads would fill up and stop the server
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
        except OSError as error:
            self._closed = True
            self._folder.cleanup()
            reason = error.strerror or error
            raise BenchError(f"cannot start {self._command[0]} ({reason}); give its path") from error
        try:
            self._wait_until_healthy()
        except BaseException:
            self.close()
            raise

    def restart(self) -> None:
        """End it and start it again, on another port; it must not have been closed."""
        self._require_open()
        self.close()
        self._start()

    def _require_open(self) -> None:
        if self._closed:
            raise BenchError(f"{self._command[0]} has been closed; start a new one")

    @property
    def pid(self) -> int:
        return self._process.pid

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON reply; BenchError for a refusal, a timeout, or a server that is no longer there."""
        self._require_open()
        try:
            status, reply = self._request("POST", path, self._answer_timeout, json.dumps(body))
            if status != 200:
                raise self._error(f"refused the request (HTTP {status}: {_message(reply)})")
            return json.loads(reply)
        except (OSError, HTTPException, ValueError) as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """End it, by force where it does not go; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _wait_until_healthy(self) -> None:
        end = time.monotonic() + self._start_timeout
        while time.monotonic() < end:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise self._error(f"ended with code {code} before it was ready; check its flags")
            if self._healthy():
                return
            time.sleep(0.05)
        raise self._error(f"was not ready within {self._start_timeout:g} s")

    def _healthy(self) -> bool:
        try:
            return self._request("GET", "/health", 5.0)[0] == 200
        except (OSError, HTTPException):
            return False  # not listening yet, or busy loading

    def _request(self, method: str, path: str, timeout: float, body: str | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection(HOST, self._port, timeout=timeout)  # never by way of a proxy
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _broken(self, error: Exception) -> BenchError:
        if isinstance(error, TimeoutError):
            return self._error(f"gave no answer within {self._answer_timeout:g} s; allow fewer tokens")
        try:
            code = self._process.wait(1)  # a dying process closes its sockets first
        except subprocess.TimeoutExpired:
            return self._error(f"gave no usable answer ({error})")
        return self._error(f"ended with code {code} while it ran; drop this peer or change its flags")

    def _error(self, what: str) -> BenchError:
        log = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
        return BenchError(f"{shlex.join(self._command)}\n{what}; {tail(log)}")


def _message(reply: bytes) -> str:
    """The reason in an error reply, else its first words."""
    text = reply.decode("utf-8", "replace")
    found = re.search(r'"message"\s*:\s*("(?:[^"\\]|\\.)*")', text)
    return str(json.loads(found[1])) if found else text[:200]

"""Layers on other machines, through ggml's RPC servers: endpoints, their check, and the devices behind them.

Knows the beginning of the protocol (ggml/src/ggml-rpc of llama.cpp): an endpoint that does not answer as it
should ends the process once llama.cpp asks it, so Python asks first. A server that is lost later still does.
"""

import ctypes
import socket
import struct
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.devices import gpu_pointers
from adapters.errors import ConfigError, ModelLoadError
from adapters.llama_lib import bind, version

_HELLO, _CAPS = 14, 24  # the command, and bytes of what a side says of its transports
_PROTOCOLS = {
    "0.3.36": (7, 0)
}  # of llama-cpp-python: major must agree, the server's minor must not be larger
_TIMEOUT, _TRIAL = 5.0, 60.0  # seconds
_MOST = 16  # GGML_RPC_MAX_SERVERS
_BUILD = (
    "this llama-cpp-python was built without RPC, so rpc_servers cannot be used; build it with it: "
    'CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python'
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an RPC server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """`host:port`; ConfigError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or ":" in host or any(c.isspace() for c in host):
        raise ConfigError(f"rpc_servers: {text!r} is no endpoint; write host:port, e.g. 192.168.0.7:50052")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ConfigError(f"rpc_servers: {text!r} has no port between 1 and 65535; write host:port")
    return Endpoint(host, int(port))


def check_server(endpoint: Endpoint, timeout: float = _TIMEOUT) -> tuple[int, int, int]:
    """The version of the protocol that the server speaks; ModelLoadError where there is none, or another."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack("<BQ", _HELLO, _CAPS) + bytes(_CAPS))
            (n_bytes,) = struct.unpack("<Q", _received(connection, 8))
            if n_bytes != 4 + _CAPS:
                raise ModelLoadError(
                    f"{endpoint}: answers, but is no RPC server of ggml; check host and port"
                )
            major, minor, patch = _received(connection, n_bytes)[:3]
    except TimeoutError as error:
        advice = "it may be serving somebody else, or be another service"
        raise ModelLoadError(f"{endpoint}: no answer within {timeout:g} s; {advice}") from error
    except OSError as error:
        advice = "start ggml-rpc-server there, or check host, port and firewall"
        raise ModelLoadError(f"{endpoint}: cannot be reached ({error}); {advice}") from error
    _require_protocol(endpoint, (major, minor, patch))
    return major, minor, patch


def _received(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        if not piece:
            raise ConnectionError("the connection was closed before an answer came")
        data += piece
    return data


def _require_protocol(endpoint: Endpoint, found: tuple[int, int, int]) -> None:
    """Versions of llama-cpp-python that are not known here are left to the trial."""
    wanted = _PROTOCOLS.get(version())
    if wanted is not None and (found[0] != wanted[0] or found[1] > wanted[1]):
        raise ModelLoadError(
            f"{endpoint}: speaks version {'.'.join(map(str, found))} of the RPC protocol, llama-cpp-python "
            f"{version()} speaks {wanted[0]}.{wanted[1]}; run the ggml-rpc-server of the same llama.cpp"
        )


class RpcDevices:
    """What a model that uses `servers` is loaded on: their devices, then this machine's GPUs.

    Kept as long as the model is: llama.cpp holds the connections for so long, and a server that serves us
    has no ear for a second question.
    """

    def __init__(self, servers: tuple[str, ...]) -> None:
        """Raises ConfigError or ModelLoadError, before llama.cpp hears of any of them."""
        self.endpoints = _distinct(servers)
        if add_function() is None:
            raise ConfigError(_BUILD)
        connected = {endpoint for devices in _in_use for endpoint in devices.endpoints}
        new = [endpoint for endpoint in self.endpoints if endpoint not in connected]
        for endpoint in new:
            check_server(endpoint)
        for endpoint in new:
            _try_elsewhere(endpoint)
        pointers = [pointer for endpoint in self.endpoints for pointer in add(endpoint)] + gpu_pointers()
        self._array = (ctypes.c_void_p * (len(pointers) + 1))(*pointers, None)
        _in_use.add(self)

    @property
    def address(self) -> int:
        """Of an array that ends with NULL, which llama.cpp reads while the model is loaded."""
        return ctypes.addressof(self._array)


_in_use: weakref.WeakSet[RpcDevices] = weakref.WeakSet()


def _distinct(servers: tuple[str, ...]) -> list[Endpoint]:
    endpoints = [parse_endpoint(text) for text in servers]
    if len(set(endpoints)) != len(endpoints) or len(endpoints) > _MOST:
        raise ConfigError(
            f"rpc_servers must name each server once, {_MOST} at most, got {', '.join(servers)}"
        )
    return endpoints


def add_function() -> Any:
    """llama.cpp's function that connects to a server; None where it was built without."""
    return bind(("ggml_backend_rpc_add_server",), [ctypes.c_char_p], ctypes.c_void_p)


def add(endpoint: Endpoint) -> list[int]:
    """Connect llama.cpp to a server that has been checked; pointers to its devices."""
    registry = add_function()(str(endpoint).encode())
    if not registry:
        raise ModelLoadError(f"{endpoint}: the server has no device; start it with one (-d)")
    count = bind(("ggml_backend_reg_dev_count",), [ctypes.c_void_p], ctypes.c_size_t)
    get = bind(("ggml_backend_reg_dev_get",), [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p)
    return [get(registry, index) for index in range(count(registry))]


def _try_elsewhere(endpoint: Endpoint) -> None:
    """Connect in another process first: what llama.cpp still dislikes ends that one."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}]\n"
        f"from adapters.rpc import Endpoint, add\nadd(Endpoint({endpoint.host!r}, {endpoint.port}))"
    )
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise ModelLoadError(f"{endpoint}: llama.cpp got no answer within {_TRIAL:g} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"it ended with {done.returncode}"
        raise ModelLoadError(f"{endpoint}: llama.cpp cannot use this server: {reason}")

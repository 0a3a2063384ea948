"""The server's life: it listens, it serves, and when it is told to stop it lets the running answer end."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from orchestrator.engine import Engine
from orchestrator.errors import ConfigError
from orchestrator.server.api import application
from orchestrator.server.events import leave_shutdown_to_us
from orchestrator.server.service import Service
from orchestrator.server.settings import ServerSettings

_FAREWELL = 5.0  # seconds for clients to read the last of their answers
_HEADERS = 64 << 10  # bytes


class Server(uvicorn.Server):
    """uvicorn's, with our way of ending; `line` and `figures` are in `service`."""

    def __init__(self, service: Service) -> None:
        self.service, self._grace = service, service.settings.grace
        leave_shutdown_to_us()
        config = uvicorn.Config(
            application(service),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            h11_max_incomplete_event_size=_HEADERS,
            timeout_graceful_shutdown=round(self._grace + _FAREWELL),
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the server when the running answer has ended, a second one at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.create_task(self.service.line.drain(self._grace))
        await super().shutdown(sockets)
        if self.force_exit:
            self.service.line.stop()
        await draining


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; ConfigError says what is in the way."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); "
            "choose another --port or --host"
        ) from error


def serve(engine: Engine, settings: ServerSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ready(address): called when clients may come."""
    with listen(settings.host.strip("[]"), settings.port) as listening:
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        Server(Service(engine, settings)).run(sockets=[listening])

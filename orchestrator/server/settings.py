"""Where the server listens, who may use it, and how much of anything it takes."""

import ipaddress
from dataclasses import dataclass

from adapters.settings import require

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of a server.

    name: what clients call the model. max_queue: requests that may wait beside the one that is served.
    timeout: seconds from a request's arrival to its last token. max_body: bytes of a request. grace: seconds
    that the running request gets when the server is told to stop. read_timeout: seconds for a request's body
    to arrive, and for a client to take what it was sent.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    max_queue: int = 32
    timeout: float = 600.0
    max_body: int = 8 << 20
    grace: float = 10.0
    read_timeout: float = 30.0

    def __post_init__(self) -> None:
        require(
            self.api_key is not None or is_loopback(self.host),
            f"host {self.host!r} is open to other machines, and everybody there could use the model; give an "
            "API key (--api-key, or the variable PILOTFISH_API_KEY), or stay on 127.0.0.1",
        )
        require(self.api_key is None or bool(self.api_key.strip()), "the API key is empty; give one")
        require(
            0 <= self.port < 65536, f"port must be between 0 (any that is free) and 65535, got {self.port}"
        )
        require(self.max_queue >= 0, f"max_queue must be >= 0, got {self.max_queue}")
        require(self.max_body >= 1, f"max_body must be >= 1 byte, got {self.max_body}")
        require(self.grace >= 0, f"grace must be >= 0 seconds, got {self.grace}")
        for name in ("timeout", "read_timeout"):
            require(getattr(self, name) > 0, f"{name} must be > 0 seconds, got {getattr(self, name)}")

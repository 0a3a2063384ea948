"""Servers on free loopback ports, in a thread of the tests' own process."""

import socket
import threading
from contextlib import ExitStack, contextmanager
from time import sleep

import pytest
from openai import OpenAI

from orchestrator import Engine
from orchestrator.server.service import Service
from orchestrator.server.serving import Server, listen
from orchestrator.server.settings import ServerSettings
from tests.orchestrator.server.wire import Wire

PRECISE = {
    "flash_attn": False,
    "type_k": "f32",
    "type_v": "f32",
    "n_batch": 64,
    "n_ubatch": 64,
    "n_threads": 1,
}


class Running:
    """A server that runs, and ways to talk with it."""

    def __init__(self, server, port):
        self.server, self.service, self.engine = server, server.service, server.service.engine
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def client(self, key="none", **options):
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": 30, **options})

    @property
    def wire(self):
        return Wire(self.port)

    def figures(self):
        """What /metrics says, by name and labels."""
        lines = self.wire.get("/metrics").text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def is_free(self):
        line = self.service.line
        return line.n_running == 0 and line.n_waiting == 0


@contextmanager
def running(engine, **settings):
    server = Server(Service(engine, ServerSettings("tiny", port=0, **settings)))
    with listen("127.0.0.1", 0) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that slow readers show
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Running(server, listening.getsockname()[1])
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def engine(tiny):
    with Engine.load(tiny("llama"), method="lookup", temperature=0, n_ctx=4096, **PRECISE) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine):
    """A server for tests that leave it as they found it."""
    with running(engine, grace=1) as server:
        yield server


@pytest.fixture
def start(engine):
    """Starts servers with settings of their own, on the same engine; one at a time."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(engine, **{"grace": 1, **settings}))


@pytest.fixture
def slow(engine, monkeypatch):
    """Rounds take 20 ms at least: an answer of thousands of tokens takes seconds on every machine."""
    score = engine.target.score

    def slowly(draft):
        sleep(0.02)
        return score(draft)

    monkeypatch.setattr(engine.target, "score", slowly)

"""The end of a server: nobody new, the running answer ends or is ended, and the process leaves with 0."""

import json
import signal

import openai
import pytest

from orchestrator.errors import ConfigError
from orchestrator.server.serving import listen
from tests.cli_program import ENDLESS, SINGLE, run
from tests.cli_program import start as start_program
from tests.orchestrator.server.wire import Wire, read, wait_until


def begun(server, **options):
    connection = server.wire.open({"prompt": "x", "stream": True, **options})
    connection.recv(100)
    return connection


def dies(wire):
    """Whether nobody listens any more."""
    try:
        wire.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.usefixtures("slow")
def test_the_running_answer_is_finished_and_others_are_sent_away(start):
    server = start(grace=20)
    with begun(server, max_tokens=600) as running, server.wire.open({"prompt": "x"}) as waiting:
        wait_until(lambda: server.service.line.n_waiting == 1)
        server.server.should_exit = True
        refused = read(waiting)
        assert (
            refused.status == 503
            and refused.error["code"] == "shutting_down"
            and refused.headers["retry-after"]
        )
        assert b"data: [DONE]" in drained(running)
    wait_until(lambda: dies(server.wire), 5)


def drained(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


@pytest.mark.usefixtures("slow")
def test_an_answer_that_takes_longer_than_the_grace_period_is_ended(start):
    server = start(grace=0.2)
    with server.client() as client:
        stream = client.completions.create(model="tiny", prompt="x", max_tokens=4000, stream=True)
        next(iter(stream))
        server.server.should_exit = True
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
    wait_until(server.is_free)


@pytest.mark.usefixtures("slow")
def test_a_server_that_stops_says_so_to_whoever_is_connected(start):
    server = start(grace=20)
    with begun(server, max_tokens=2000), server.wire.connect() as early:
        early.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n")
        wait_until(lambda: len(server.server.server_state.connections) == 2)
        server.server.should_exit = True
        wait_until(lambda: server.service.line.is_closed)
        early.sendall(b'{"prompt": "x"}')
        assert b" 503 " in early.recv(1000)


def serve(tiny, *options):
    program = start_program("serve", tiny("llama"), "--port", 0, *options)
    line = program.stderr.readline().decode()
    assert "/v1, a page at http://127.0.0.1:" in line, line
    return program, Wire(int(line.rstrip().rstrip("/").rpartition(":")[2]))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(tiny, sent):
    program, wire = serve(tiny, *ENDLESS[:2], *SINGLE, "--grace", 0.3)
    assert json.loads(wire.get("/health").body) == {"status": "ok"}
    # clients learn the file's name, but not its folder
    assert json.loads(wire.get("/v1/models").body)["data"][0]["id"] == tiny("llama").stem
    with wire.open({"prompt": "x", "max_tokens": 50000, "stream": True}) as running:
        running.recv(100)
        program.send_signal(sent)
        assert b"shutting down" in drained(running)
    said = program.communicate(timeout=20)
    assert program.returncode == 0 and b"Traceback" not in said[1], said


@pytest.mark.usefixtures("slow")
def test_a_second_signal_does_not_wait(start):
    server = start(grace=60)
    with begun(server, max_tokens=4000) as running:
        server.server.handle_exit(signal.SIGINT, None)
        wait_until(lambda: server.service.line.is_closed)
        server.server.handle_exit(signal.SIGINT, None)
        assert b"[DONE]" not in drained(running)
    wait_until(server.is_free, 5)


def test_a_port_that_is_taken_is_named(server, tiny):
    said = run("serve", tiny("llama"), "--port", server.port, *SINGLE, code=1).stderr
    assert f"cannot listen on 127.0.0.1, port {server.port}" in said and "choose another --port" in said


def test_a_host_that_others_reach_needs_a_key(tiny):
    said = run("serve", tiny("llama"), "--host", "0.0.0.0", *SINGLE, code=1).stderr
    assert "give an API key (--api-key" in said


def test_without_its_packages_the_command_says_what_to_install(monkeypatch, tiny):
    monkeypatch.setattr("orchestrator.extras.find_spec", lambda name: None if name == "uvicorn" else name)
    said = run("serve", tiny("llama"), code=1).stderr
    assert "the server needs uvicorn, which is not installed: pip install 'pilotfish[serve]'" in said


def test_the_server_listens_on_ipv6_as_well():
    with listen("::1", 0) as listening:
        assert listening.getsockname()[0] == "::1"
    with pytest.raises(
        ConfigError, match=r"cannot listen on 192\.0\.2\.1, port 0 .*choose another --port or --host"
    ):
        listen("192.0.2.1", 0)

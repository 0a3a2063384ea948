"""Endpoints are asked in Python first, as llama.cpp ends the process over one that does not answer."""

import os
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from adapters import rpc
from adapters.errors import ConfigError, ModelLoadError
from adapters.llama_context import LlamaContext
from adapters.llama_lib import log_listener
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings

HELLO = struct.pack("<BQ", 14, 24) + bytes(24)


@contextmanager
def stand_in(answer):
    """A server on loopback that reads a greeting and gives `answer`; None = silence. Yields what it heard."""
    heard, done = [], threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve():
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    heard.append(connection.recv(64))
                    if answer is None:
                        done.wait(5)
                    else:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            done.set()
            thread.join()


def hello(major, minor, patch):
    return struct.pack("<QBBBB", 28, major, minor, patch, 0) + bytes(24)


@pytest.mark.parametrize(
    "text", ["", "host", ":50052", "host:", "host:0", "host:70000", "host:5x", "::1:5", "a b:5"]
)
def test_what_is_no_endpoint_is_refused_before_anything_is_asked(text):
    with pytest.raises(ConfigError, match="write host:port"):
        rpc.parse_endpoint(text)


def test_a_server_of_our_protocol_tells_its_version():
    with stand_in(hello(7, 0, 3)) as (text, heard):
        assert rpc.check_server(rpc.parse_endpoint(text)) == (7, 0, 3)
    assert heard == [HELLO]


@pytest.mark.parametrize("version", [(6, 0, 0), (8, 0, 0), (7, 1, 0)])
def test_a_server_of_another_protocol_is_refused_with_both_versions(version):
    with (
        stand_in(hello(*version)) as (text, _),
        pytest.raises(ModelLoadError, match=rf"version {version[0]}\.{version[1]}\.0.*speaks 7\.0"),
    ):
        rpc.check_server(rpc.parse_endpoint(text))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no RPC server"),
        (struct.pack("<Q", 2**40), "no RPC server"),
        (b"", "closed before an answer"),
        (hello(7, 0, 0)[:20], "closed before an answer"),
        (None, "no answer within 0.2 s"),
    ],
)
def test_a_service_that_is_none_of_ggmls_is_one_error(answer, words):
    with stand_in(answer) as (text, _), pytest.raises(ModelLoadError, match=words):
        rpc.check_server(rpc.parse_endpoint(text), timeout=0.2)


def test_nobody_there_is_one_error_with_the_endpoint():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ModelLoadError, match=f"127.0.0.1:{port}: cannot be reached.*ggml-rpc-server"):
        rpc.check_server(rpc.Endpoint("127.0.0.1", port))


def test_a_build_without_rpc_is_refused_with_how_to_build_one(tiny, monkeypatch):
    monkeypatch.setattr(rpc, "add_function", lambda: None)
    with pytest.raises(ConfigError, match="CMAKE_ARGS=.-DGGML_RPC=on"):
        LlamaModel(tiny("llama"), ModelSettings(rpc_servers=("127.0.0.1:50052",)))


def test_an_unreachable_server_never_reaches_llama_cpp(tiny, monkeypatch):
    monkeypatch.setattr(rpc, "add_function", lambda: pytest.fail)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ModelLoadError, match="cannot be reached"):
        LlamaModel(tiny("llama"), ModelSettings(rpc_servers=(f"127.0.0.1:{port}",)))


def test_servers_are_named_once_and_in_a_list():
    with pytest.raises(ConfigError, match="each server once"):
        rpc.RpcDevices(("a:1", "a:1"))
    with pytest.raises(ConfigError, match="16 at most"):
        rpc.RpcDevices(tuple(f"a:{port}" for port in range(1, 18)))
    with pytest.raises(ConfigError, match="put 'a:1' into a list"):
        ModelSettings(rpc_servers="a:1")


def test_what_ends_the_trial_ends_only_the_trial(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'RPC handshake failed' >&2\nkill -ABRT $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(rpc.sys, "executable", str(program))
    monkeypatch.setattr(rpc, "add_function", lambda: pytest.fail)
    with stand_in(hello(7, 0, 0)) as (text, _), pytest.raises(ModelLoadError, match="RPC handshake failed"):
        rpc.RpcDevices((text,))


def test_a_server_that_serves_us_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(rpc, "_try_elsewhere", lambda _endpoint: None)
    monkeypatch.setattr(rpc, "add_function", lambda: lambda _text: 1)
    monkeypatch.setattr(rpc, "add", lambda _endpoint: [])
    with stand_in(hello(7, 0, 0)) as (text, heard):
        first = rpc.RpcDevices((text,))
        second = rpc.RpcDevices((text,))
        assert len(heard) == 1 and first.endpoints == second.endpoints
        del first, second
        rpc.RpcDevices((text,))
        assert len(heard) == 2  # whoever was connected has gone, and the server may have, too


@pytest.fixture
def server():
    """A real ggml-rpc-server on loopback."""
    program = os.environ.get("GGML_RPC_SERVER") or shutil.which("ggml-rpc-server")
    if program is None or rpc.add_function() is None:
        pytest.skip("needs llama-cpp-python with GGML_RPC, and ggml-rpc-server (PATH or GGML_RPC_SERVER)")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [program, "-H", "127.0.0.1", "-p", str(port), "-t", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            rpc.check_server(rpc.Endpoint("127.0.0.1", port))
            break
        except ModelLoadError:
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    running.terminate()
    running.wait()


SIZE = re.compile(r"(\S+) +(model|KV|compute) buffer size = +([\d.]+) MiB")


@pytest.mark.parametrize("n_gpu_layers", [1, 4, 7])
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_what_lands_on_a_device_is_what_was_planned(tiny, server, arch, n_gpu_layers):
    from orchestrator.plan.memory import Reckoner

    path, context = tiny(arch, n_layer=6), ContextSettings(n_ctx=1024, n_threads=1)
    real = {"model": 0.0, "KV": 0.0, "compute": 0.0}
    in_ram = 0.0

    def collect(line):
        nonlocal in_ram
        match = SIZE.search(line)
        if match and match[1].startswith("RPC"):
            real[match[2]] += 2**20 * float(match[3])
        elif match and match[2] == "compute":
            in_ram += 2**20 * float(match[3])

    with log_listener(collect):
        model = LlamaModel(path, ModelSettings(n_gpu_layers=n_gpu_layers, rpc_servers=(server,)))
        LlamaContext(model, context).close()
        model.close()
    with Reckoner("target", path, ModelSettings()) as reckoner:
        placed = reckoner.memory(context).placed(n_gpu_layers)
    planned = {part.what: part.vram for part in placed}
    hundredth = 2**20 / 100  # of a MiB, as llama.cpp prints it
    assert planned["target weights"] == pytest.approx(real["model"], abs=2 * hundredth)
    assert planned["target cache"] == pytest.approx(real["KV"], abs=2 * hundredth)
    assert planned["target compute"] > 0.95 * real["compute"]
    if n_gpu_layers == 1:
        assert planned["target compute"] == pytest.approx(real["compute"], abs=2 * hundredth)
    if n_gpu_layers < 7:  # not all of them
        (left,) = (part.ram for part in placed if part.what == "target compute")
        assert left == pytest.approx(in_ram, rel=0.05)


def test_on_a_real_server_the_text_is_the_same(tiny, server):
    from orchestrator import Engine

    path, settings = tiny("llama"), {"temperature": 0, "n_threads": 1, "planner": "fixed"}
    with Engine.load(path, **settings) as engine:
        expected = engine.generate("Hello there", max_tokens=40)
    for _ in range(2):  # the second load finds the connection closed, and asks again
        with Engine.load(path, rpc_servers=[server], **settings) as engine:
            assert engine.generate("Hello there", max_tokens=40).tokens == expected.tokens

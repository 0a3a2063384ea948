"""What is no request: every wrong body gets a 4xx and a sentence, never a 500, and costs nothing."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DecodeError
from orchestrator.server.body import parse
from orchestrator.server.refusal import Refusal
from tests.orchestrator.server.wire import head, read, wait_until

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b'{"prompt": "x"} and more', "Extra data"),
        (b"[1, 2]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"prompt": "\xff\xfe"}', "not UTF-8 (byte 12)"),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
        (b'{"prompt": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"prompt": "x", "temperature": NaN}', "NaN, which JSON does not know"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "too long"),
        ({}, "prompt"),
        ({"prompt": []}, "prompt must be"),
        ({"prompt": 5}, "prompt must be"),
        ({"prompt": [5, 99999]}, "token 99999"),
        ({"prompt": ["a", "b"]}, "single one"),
        ({"prompt": "x", "max_tokens": "5"}, "max_tokens must be a whole number"),
        ({"prompt": "x", "temperature": -1}, "temperature must be >= 0"),
        ({"prompt": "x", "temperature": 1e400}, "Infinity"),
        ({"prompt": "x", "n": 2}, "n cannot be 2"),
        ({"prompt": "x", "stream": "yes"}, "stream must be true or false"),
        ({"prompt": "x", "include_sources": 1}, "include_sources must be true or false"),
        ({"prompt": "x", "temperatur": 1}, "not known here"),
        ({"prompt": "x", "model": 7}, "model must be a name"),
        ({"prompt": "x", "stop": [""]}, "stop"),
        ({"prompt": "x", "logit_bias": {"99999": 1}}, "logit_bias"),
        ({"prompt": "x", "grammar": "root ::= ["}, "grammar"),
        ({"prompt": "x", "response_format": {"type": "xml"}}, "response_format"),
        ({"prompt": "x", "references": "one text"}, "references must be"),
        ({"prompt": "x", "references": {"prompt": "x"}}, "cannot be called 'prompt'"),
    ],
)
def test_a_wrong_completion_is_refused_with_the_reason(server, body, message):
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    answer = server.wire.post(data)
    assert answer.status == 400 and message in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    wait_until(server.is_free)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "messages is missing"),
        ({"messages": []}, "messages must be"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text only"),
        ({"messages": USER, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": USER, "top_logprobs": 2}, "needs logprobs=true"),
        ({"messages": USER, "response_format": {"type": "json_object", "schema": {"$ref": 5}}},
         "schema cannot be turned into a grammar"),
    ],
)  # fmt: skip
def test_a_wrong_chat_is_refused_with_the_reason(server, body, message):
    answer = server.wire.post(body, CHAT)
    assert answer.status == 400 and message in answer.error["message"]


def test_the_refused_parameter_is_named(server):
    assert server.wire.post({"prompt": "x", "top_p": "high"}).error["param"] == "top_p"


def test_halves_of_characters_are_no_error(server):
    answer = server.wire.post(b'{"prompt": "\\ud83d and more", "max_tokens": 3, "echo": true}')
    assert answer.status == 200
    answer = server.wire.post(b'{"prompt": "x", "model": "\\ud83d"}')
    assert answer.status == 404 and "no model" in answer.error["message"]


def test_a_body_above_the_limit_is_refused_announced_or_not(start):
    server = start(max_body=1000)
    answer = server.wire.post({"prompt": "x" * 2000})
    assert answer.status == 413 and "larger than 1000 bytes" in answer.error["message"]
    with server.wire.connect() as connection:
        connection.sendall(head("POST", "/v1/completions", {"Transfer-Encoding": "chunked"}))
        connection.sendall((b"400\r\n" + b"x" * 1024 + b"\r\n") * 4 + b"0\r\n\r\n")
        assert read(connection).status == 413
    assert server.wire.post({"prompt": "x", "max_tokens": 1}).status == 200


def test_a_body_without_end_is_cut_off(start):
    server = start(max_body=1000)
    with server.wire.connect() as connection, pytest.raises(OSError):
        connection.sendall(head("POST", "/v1/completions", {"Content-Length": 10**12}))
        for _ in range(10_000):
            connection.sendall(b"x" * 65536)
    assert server.wire.post({"prompt": "x", "max_tokens": 1}).status == 200


def test_a_body_that_does_not_arrive_is_given_up(start):
    server = start(read_timeout=0.2)
    with server.wire.connect() as connection:
        connection.sendall(
            head("POST", "/v1/completions", {"Content-Length": 100, "Connection": "close"}) + b"{"
        )
        answer = read(connection)
    assert answer.status == 408 and "did not arrive within 0.2 seconds" in answer.error["message"]


def test_bodies_that_arrive_may_not_take_all_memory_together(start):
    server = start(max_body=1000, read_timeout=20)
    started = head("POST", "/v1/completions", {"Content-Length": 1000}) + b" " * 900
    connections = [server.wire.connect() for _ in range(10)]
    for connection in connections:
        connection.sendall(started)
    refused = server.wire.post(b" " * 900)
    for connection in connections:
        connection.close()
    assert refused.status == 503 and refused.headers["retry-after"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/completions", 405), ("POST", "/v1/models", 405), ("GET", "/v1/nothing", 404),
     ("GET", "/../../etc/passwd", 404), ("GET", "/page/index.html", 404), ("GET", "/docs", 404)],
)  # fmt: skip
def test_other_paths_say_what_there_is(server, method, path, status):
    answer = server.wire.get(path, method)
    assert answer.status == status and "/v1/chat/completions" in answer.error["message"]


def test_what_is_no_http_is_refused(server):
    with server.wire.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert read(connection).status == 400


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_refused(data):
    try:
        assert isinstance(parse(data), dict)
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
_NAMES = st.sampled_from(
    "model stream stream_options stop logit_bias logprobs top_logprobs grammar response_format references n "
    "prediction speculate temperature top_p seed top_k tools tool_choice user functions echo prompt messages "
    "include_sources max_completion_tokens penalty_last_n".split()
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["/v1/completions", CHAT]), st.dictionaries(_NAMES, _VALUES, max_size=2))
def test_values_of_any_type_are_never_our_fault(server, path, options):
    base = (
        {"max_tokens": 1, "prompt": "x"}
        if path.endswith("v1/completions")
        else {"messages": USER, "max_tokens": 1}
    )
    answer = server.wire.post({**base, **options}, path)
    assert answer.status < 500, (options, answer.text)
    assert answer.status == 200 or "Traceback" not in answer.error["message"]


def _broken(service, monkeypatch, error, after=0):
    """Let answers fail with `error` after so many chunks."""
    whole = service._open

    def opened(call, spans):
        answer = whole(call, spans)
        chunks = iter(answer.stream)

        class Breaking:
            cancel, result = answer.stream.cancel, answer.stream.result

            def __iter__(self):
                for _ in range(after):
                    yield next(chunks)
                raise error

        answer.stream = Breaking()
        return answer

    monkeypatch.setattr(service, "_open", opened)


@pytest.mark.parametrize(
    "error", [RuntimeError("in /home/secret.py"), DecodeError("/models/secret.gguf")], ids=repr
)
def test_what_is_our_fault_goes_to_the_log_and_not_to_the_client(server, monkeypatch, caplog, error):
    _broken(server.service, monkeypatch, error)
    answer = server.wire.post({"prompt": "x"})
    assert answer.status == 500 and "the server's log says why" in answer.error["message"]
    assert "secret" not in answer.text and "secret" in caplog.text
    monkeypatch.undo()
    assert server.wire.post({"prompt": "x", "max_tokens": 1}).status == 200


def test_an_answer_that_breaks_off_ends_in_an_error(server, monkeypatch):
    _broken(server.service, monkeypatch, DecodeError("/models/secret.gguf"), after=2)
    body = server.wire.post({"prompt": "x", "stream": True}).text
    assert body.count('"text":') == 2 and "generation_failed" in body
    assert "secret" not in body and "[DONE]" not in body

"""Who may ask: keys, names of this machine, and pages of others."""

import pytest

from orchestrator.errors import ConfigError
from orchestrator.server.settings import ServerSettings

ASK = {"prompt": "x", "max_tokens": 1}


def test_a_key_is_asked_for_wherever_there_is_something_to_learn(start):
    server = start(api_key="s3cret")
    for authorization in (
        None,
        "Bearer wrong",
        "Basic s3cret",
        "s3cret",
        "Bearer",
        "Bearer s3cret2",
        "Bearer \xe9",
    ):
        headers = {} if authorization is None else {"Authorization": authorization}
        answers = [
            server.wire.post(ASK, **headers),
            *(server.wire.get(p, **headers) for p in ("/metrics", "/v1/models")),
        ]
        assert [answer.status for answer in answers] == [401] * 3
        assert (
            answers[0].error["code"] == "invalid_api_key"
            and answers[0].headers["www-authenticate"] == "Bearer"
        )
    assert server.wire.post(ASK, Authorization="Bearer s3cret").status == 200
    assert server.wire.post(ASK, Authorization="bearer s3cret", Host="example.org").status == 200
    assert server.wire.get("/health").status == server.wire.get("/").status == 200


def test_the_key_is_checked_before_the_body_is_read(start):
    server = start(api_key="s3cret", read_timeout=20)
    with server.wire.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert b" 401 " in connection.recv(1000)


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "", "[::1", "10.0.0.1:80"])
def test_without_a_key_the_server_answers_to_local_names_only(server, host):
    answer = server.wire.post(ASK, Host=host)
    assert answer.status == 403 and "localhost only" in answer.error["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"])
def test_local_names_are_welcome(server, host):
    assert server.wire.post(ASK, Host=host).status == 200


def test_pages_of_other_sites_are_sent_away(server):
    own = f"http://127.0.0.1:{server.port}"
    host = f"127.0.0.1:{server.port}"
    assert server.wire.post(ASK, Host=host, Origin=own).status == 200
    for origin in ("https://example.org", "null", "http://127.0.0.1:1"):
        answer = server.wire.post(ASK, Host=host, Origin=origin)
        assert answer.status == 403 and "other sites" in answer.error["message"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_other_machines_need_a_key(host):
    with pytest.raises(ConfigError, match="give an API key"):
        ServerSettings("m", host)
    assert ServerSettings("m", host, api_key="k").host == host


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": " "}, "the API key is empty"),
        ({"port": 65536}, "port must be between"),
        ({"max_queue": -1}, "max_queue must be >= 0, got -1"),
        ({"timeout": 0}, "timeout must be > 0"),
        ({"max_body": 0}, "max_body must be >= 1"),
        ({"grace": -1}, "grace must be >= 0"),
    ],
)
def test_impossible_limits_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        ServerSettings("m", **settings)

"""llama-server as an entrant: what is asked of it, how its figures are read, every way it can fail."""

import json
import os
import signal

import pytest

from orchestrator.bench.peers.llama_server import LlamaServer, remembers, server_flags, speculative_types
from orchestrator.errors import BenchError, ConfigError
from tests.orchestrator.bench import standins

KEEPS_REQUEST = """lambda handler, body: handler.reply(200, {
    "tokens": [1], "timings": {"predicted_n": 1, "predicted_ms": 0.001, "prompt_ms": 1.0},
    **(open("asked.json", "w").write(json.dumps([sys.argv[1:], body])) and {}),
})"""


def start(binary, **options):
    settings = {"n_ctx": 64, "n_threads": 1, "sampling": {"temperature": 0.0}, **options}
    return LlamaServer(binary, binary.parent / "model.gguf", **settings)


@pytest.fixture
def opened():
    """Starts servers that are ended after the test."""
    servers = []

    def open_one(binary, **options):
        servers.append(start(binary, **options))
        return servers[-1]

    yield open_one
    for server in servers:
        server.close()


def asked(folder):
    return json.loads((folder / "asked.json").read_text())


def test_the_first_token_lies_before_the_clock(tmp_path, opened):
    answer = opened(standins.server(tmp_path)).answer([7, 8, 9, 10], 3)
    assert answer.tokens == (7, 8, 9)
    assert (answer.n_timed, answer.t_decode, answer.t_first) == (2, 0.04, 0.005)
    assert answer.t_total > 0


def test_the_request_has_the_very_tokens_and_every_sampling_setting(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sampling = {"temperature": 0.7, "top_k": 9, "seed": 5, "logit_bias": {3: float("-inf"), 4: 1.5}}
    opened(standins.server(tmp_path, KEEPS_REQUEST), sampling=sampling, ignore_eos=True).answer([1, 2], 6)
    body = asked(tmp_path)[1]
    assert (body["prompt"], body["n_predict"]) == ([1, 2], 6)
    assert (body["cache_prompt"], body["return_tokens"], body["ignore_eos"]) == (False, True, True)
    assert (body["temperature"], body["top_k"], body["seed"]) == (0.7, 9, 5)
    assert (body["top_p"], body["min_p"], body["repeat_last_n"]) == (0.95, 0.05, 64)
    assert body["logit_bias"] == [[3, False], [4, 1.5]]


def test_threads_context_and_flags_reach_the_command_line(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened(standins.server(tmp_path, KEEPS_REQUEST), n_threads=3, flags=["-fa", "off"]).answer([1], 1)
    line = " ".join(asked(tmp_path)[0])
    assert "-c 64 -np 1 -t 3 -tb 3 --cache-ram 0" in line
    assert line.endswith("-fa off")


def test_drafted_tokens_are_those_reported(tmp_path, opened):
    binary = standins.server(tmp_path, drafted='{"draft_n": 8, "draft_n_accepted": 5}')
    answer = opened(binary, flags=["--spec-type", "ngram-mod"]).answer([1, 2, 3], 3)
    assert (answer.n_drafted, answer.n_accepted) == (8, 5)


def test_no_drafts_are_zero_where_it_speculates_and_unknown_where_it_does_not(tmp_path, opened):
    binary = standins.server(tmp_path)
    assert opened(binary).answer([1, 2], 2).n_drafted is None
    assert opened(binary, flags=["--spec-type", "ngram-mod"]).answer([1, 2], 2).n_drafted == 0


def test_a_proxy_is_not_asked(tmp_path, opened, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert opened(standins.server(tmp_path)).answer([1], 1).tokens == (1,)


def test_pid_is_that_of_the_server_and_close_ends_it(tmp_path):
    server = start(standins.server(tmp_path))
    os.kill(server.pid, 0)
    server.close()
    server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    with pytest.raises(BenchError, match="has been closed"):
        server.answer([1], 1)


def test_a_fresh_one_answers_each_request_from_a_new_process(tmp_path, opened):
    server = opened(standins.server(tmp_path), fresh=True)
    pids = [(server.answer([1], 1).tokens, server.pid)[1] for _ in range(3)]
    assert len(set(pids)) == 3
    for ended in pids[:-1]:
        with pytest.raises(ProcessLookupError):
            os.kill(ended, 0)


def test_another_keeps_its_process(tmp_path, opened):
    server = opened(standins.server(tmp_path))
    assert len({(server.answer([1], 1).tokens, server.pid)[1] for _ in range(2)}) == 1


def test_kinds_that_learn_from_requests_are_known():
    assert [remembers(kind) for kind in ("ngram-mod", "ngram-cache", "draft-simple,ngram-map-k")] == [
        True
    ] * 3
    assert [remembers(kind) for kind in ("", "ngram-simple", "draft-simple")] == [False] * 3


def test_one_that_ignores_the_request_to_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.bench.peers.process._STOP_TIMEOUT", 0.1)
    binary = standins.server(tmp_path)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    binary.write_text(binary.read_text().replace("import json", deaf + "import json", 1))
    server = start(binary)
    server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_crash_at_the_start_shows_code_flags_and_log(tmp_path):
    binary = standins.program(tmp_path / "llama-server", "import sys; sys.exit('no such model')")
    with pytest.raises(BenchError, match=r"(?s)--bad 1.*code 1 before it was ready.*no such model"):
        start(binary, flags=["--bad", "1"])


def test_one_that_never_gets_healthy_is_given_up_and_ended(tmp_path):
    hang = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    binary = standins.program(tmp_path / "llama-server", hang.replace("'pid'", repr(str(tmp_path / "pid"))))
    with pytest.raises(BenchError, match="not ready within 1 s"):
        start(binary, start_timeout=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_binary_is_told_by_its_path(tmp_path):
    with pytest.raises(BenchError, match=r"cannot start .*absent.*give its path"):
        start(tmp_path / "absent")


def test_a_refusal_says_why(tmp_path, opened):
    refuse = 'lambda handler, body: handler.reply(500, {"error": {"message": "out of \\"slots\\""}})'
    with pytest.raises(BenchError, match=r'HTTP 500: out of "slots"'):
        opened(standins.server(tmp_path, refuse)).answer([1], 1)


def test_a_crash_while_it_answers_shows_its_code(tmp_path, opened):
    crash = "lambda handler, body: __import__('os')._exit(3)"
    with pytest.raises(BenchError, match="ended with code 3 while it ran; drop this peer"):
        opened(standins.server(tmp_path, crash)).answer([1], 1)


def test_one_killed_between_answers_shows_its_signal(tmp_path, opened):
    server = opened(standins.server(tmp_path))
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(BenchError, match="ended with code -9"):
        server.answer([1], 1)


def test_no_answer_in_time_is_an_error(tmp_path, opened):
    server = opened(standins.server(tmp_path, "lambda *_: time.sleep(20)"), answer_timeout=0.2)
    with pytest.raises(BenchError, match=r"no answer within 0.2 s"):
        server.answer([1], 1)


def test_a_reply_without_tokens_is_an_error(tmp_path, opened):
    bare = 'lambda handler, body: handler.reply(200, {"timings": {}})'
    with pytest.raises(BenchError, match=r"lacks tokens or timings \(KeyError\('tokens'\)\)"):
        opened(standins.server(tmp_path, bare)).answer([1], 1)


def test_a_count_that_contradicts_the_tokens_is_an_error(tmp_path, opened):
    binary = standins.server(tmp_path, drafted='{"predicted_n": 9}')
    with pytest.raises(BenchError, match="2 tokens, but predicted_n 9"):
        opened(binary).answer([1, 2], 2)


def test_types_come_from_the_help_without_none(tmp_path):
    known = speculative_types(standins.server(tmp_path))
    assert known == ["draft-simple", "draft-eagle3", "ngram-simple", "ngram-mod"]


def test_help_without_types_is_an_error(tmp_path):
    old = standins.program(tmp_path / "llama-server", "print('usage: old')")
    with pytest.raises(BenchError, match="no --spec-type; take a newer llama-server"):
        speculative_types(old)


def test_flags_of_a_type_that_drafts_with_a_model(tmp_path):
    draft = tmp_path / "draft.gguf"
    assert server_flags("draft-simple", draft, 4) == [
        *("--spec-type", "draft-simple"),
        *("--spec-draft-model", str(draft)),
        *("--spec-draft-n-max", "4"),
    ]
    with pytest.raises(ConfigError, match="give a draft model's GGUF"):
        server_flags("draft-simple")


def test_flags_of_ngram_types_leave_the_draft_model_out(tmp_path):
    assert server_flags("ngram-map-k", tmp_path / "draft.gguf", 8) == [
        *("--spec-type", "ngram-map-k"),
        *("--spec-ngram-map-k-size-m", "8"),
    ]
    # its shortest draft is longer than that by default
    assert server_flags("ngram-mod", None, 16)[-2:] == ["--spec-ngram-mod-n-min", "16"]
    with pytest.raises(ConfigError, match="ngram-cache has no flag"):
        server_flags("ngram-cache", None, 16)

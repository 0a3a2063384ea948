"""Claims about `generate` and `chat`: what they print where, and what Ctrl-C does."""

import json
import os
import signal
import subprocess

import pytest

from orchestrator import Engine
from orchestrator.cli.chat import Conversation
from orchestrator.cli.output import follow
from tests.cli_program import ENDLESS, GREEDY, SINGLE, run, start


@pytest.fixture
def model(tiny):
    return tiny("llama")


def test_generate_prints_the_engine_s_text_and_nothing_else(model):
    with Engine.load(model, temperature=0, n_threads=1) as engine:
        expected = engine.generate("the cat", max_tokens=24).text
    result = run("generate", model, "the cat", "--max-tokens", 24, *GREEDY)
    assert (result.stdout, result.stderr) == (expected + "\n", "")


def test_a_prompt_may_come_from_a_file_or_stdin_and_its_last_newline_is_not_part_of_it(model, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("the cat\n")
    args = ["generate", model, "--max-tokens", 8, *GREEDY]
    texts = [
        run(*args, "the cat"),
        run(*args, "--file", file),
        run(*args, input="the cat\n"),
        run(*args, "-f", "-", input="the cat"),
    ]
    assert len({result.stdout for result in texts}) == 1
    assert run(*args, input="the cat\n\n").stdout != texts[0].stdout


def test_json_is_one_object_with_the_text_its_tokens_and_the_statistics(model):
    args = ["generate", model, "the cat", "--max-tokens", 16, *GREEDY]
    document = json.loads(run(*args, "--json").stdout)
    assert document["text"] + "\n" == run(*args).stdout
    assert len(document["tokens"]) == document["stats"]["n_tokens"] == 16
    assert document["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("options", "check"),
    [
        (["--no-speculate"], lambda d: d["stats"]["method"] == "none"),
        (["--method", "none"], lambda d: d["stats"]["method"] == "none"),
        (
            ["--draft", "MODEL", "--method", "model", "--max-draft", "2"],
            lambda d: d["stats"]["by_source"]["model"]["n_drafted"] > 0,
        ),
        (["--ngram-min", "1", "--method", "lookup"], lambda d: d["stats"]["n_drafted"] > 0),
        (["--n-ctx", "256", "--max-tokens", "999"], lambda d: 240 <= len(d["tokens"]) <= 256),
        (["--stop", "e"], lambda d: "e" not in d["text"] and d["finish_reason"] == "stop"),
        (["--chat"], lambda d: d["stats"]["n_prompt"] > 20),
        (["--chat", "--system", "Be brief"], lambda d: d["stats"]["n_prompt"] > 30),
        (["--seed", "5", "--temperature", "1", "--top-k", "3"], lambda d: d["stats"]["seed"] == 5),
        (["--set", "flash_attn=false", "--set", "type_k=f32"], lambda d: d["stats"]["n_tokens"] == 40),
        (["--set", "logit_bias=105:-inf,106:-3.5"], lambda d: 105 not in d["tokens"]),
        (["--no-flash-attn", "--min-p", "0", "--top-p", "1"], lambda d: d["stats"]["n_tokens"] == 40),
        (["--set", "lora=", "--set", "n_threads_batch=none"], lambda d: d["stats"]["n_tokens"] == 40),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_reach_the_engine(model, options, check):
    options = [model if option == "MODEL" else option for option in options]
    args = ["generate", model, "the cat and the cat", "--json", "--max-tokens", 40, *GREEDY, *options]
    assert check(json.loads(run(*args).stdout))


def test_a_grammar_and_a_schema_bind_the_text(model, tmp_path):
    grammar, schema = tmp_path / "yes.gbnf", tmp_path / "schema.json"
    grammar.write_text('root ::= "yes" | "no"')
    schema.write_text('{"type": "boolean"}')
    args = ["generate", model, "Is it so?", "--max-tokens", 16, *GREEDY]
    assert run(*args, "--grammar", grammar).stdout.startswith(("yes", "no"))
    assert run(*args, "--json-schema", schema).stdout.startswith(("true", "false"))
    both = run(*args, "--grammar", grammar, "--json-schema", schema, code=1)
    assert "either grammar or json_schema" in both.stderr


def test_statistics_go_to_stderr(model):
    result = run("generate", model, "the cat", "--max-tokens", 8, "--stats", *SINGLE)
    assert result.stderr.startswith("8 tokens, ") and "tau" in result.stderr
    assert "tau" not in result.stdout


def test_the_first_ctrl_c_waits_for_the_round_and_the_second_does_not(model):
    def press(_chunk):
        signal.raise_signal(signal.SIGINT)

    def press_twice(_chunk):
        press(_chunk)
        press(_chunk)

    before = signal.getsignal(signal.SIGINT)
    with Engine.load(model, temperature=0, n_threads=1) as engine:
        result = follow(engine.stream("the cat", max_tokens=50), press)
        assert result.finish_reason == "cancelled" and 1 <= len(result.tokens) < 50
        with pytest.raises(KeyboardInterrupt):
            follow(engine.stream("the cat", max_tokens=50), press_twice)
        assert engine.generate("the cat", max_tokens=50).tokens[: len(result.tokens)] == result.tokens
    assert signal.getsignal(signal.SIGINT) is before


def test_text_is_printed_while_it_is_made_and_ctrl_c_keeps_it(model):
    process = start("generate", model, "x", *ENDLESS)
    first = process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert len(first) == 10 and rest.endswith(b"\n")
    assert (process.returncode, errors) == (130, b"")


def test_chat_answers_each_line_and_obeys_commands(model):
    lines = "/stats\nHello\n/stats\n\n/reset\n/sing\n/help\nHello\n/exit\nnever read\n"
    result = run("chat", model, "--system", "Be brief", "--max-tokens", 6, *GREEDY, input=lines)
    answers = result.stdout
    assert answers == 2 * answers[: len(answers) // 2]  # /reset: the same question, the same answer
    assert answers.endswith("\n")
    expected = ["there is no answer yet", "6 tokens, ", "/sing is no command", "/reset  forget"]
    positions = [result.stderr.index(text) for text in expected]
    assert positions == sorted(positions)
    assert "cut off: --max-tokens" in result.stderr


def test_chat_ends_at_the_end_of_input_and_at_an_error_that_nobody_can_react_to(model):
    assert run("chat", model, *SINGLE, input="").stdout == ""
    assert run("chat", model, "--max-tokens", 3, *SINGLE, input=b"caf\xe9\n").exit_code == 0
    result = run("chat", model, *SINGLE, input="word " * 600 + "\nHello\n", code=1)
    assert "do not fit the context" in result.stderr


def test_a_later_turn_reads_only_what_is_new(tiny):
    with Engine.load(tiny("llama", n_ctx_train=2048), temperature=0, n_threads=1) as engine:
        conversation = Conversation(engine, None, 16)
        conversation.ask("Tell me about fish, please. " * 10)
        n_before = conversation.last.stats.n_prompt
        conversation.ask("And now?")
        assert conversation.last.stats.n_reused >= n_before - 1


def test_ctrl_c_ends_an_answer_but_not_the_conversation(model):
    process = start("chat", model, *ENDLESS, stdin=subprocess.PIPE)
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    assert process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(b"/stats\n/reset\n/exit\n", timeout=20)
    assert rest.endswith(b"\n") and b" tokens, " in errors
    assert process.returncode == 0


def test_a_person_at_a_terminal_can_go_on_after_an_error_and_leave_with_ctrl_c(model):
    import pty

    ours, theirs = pty.openpty()
    process = start("chat", model, "--max-tokens", "4", *SINGLE, stdin=theirs)
    os.write(ours, b"".join(b"word " * 100 + b"\n" for _ in range(4)) + b"Hello\n")
    seen = b""
    while seen.count(b"> ") < 6:
        seen += os.read(process.stderr.fileno(), 1000)
    process.send_signal(signal.SIGINT)
    answers, rest = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    assert b"do not fit the context" in seen and b"/reset forgets the conversation" in seen
    assert answers.count(b"\n") >= 2 and b"> " not in answers
    assert process.returncode == 130 and b"Traceback" not in rest

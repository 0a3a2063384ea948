"""The plugin through llm's own machinery: its registry, its command line, its log of conversations."""

import json
import tomllib
from importlib import import_module
from pathlib import Path

import click
import llm
import pytest
from click.testing import CliRunner
from llm import cli, plugins

from orchestrator import Engine

GREEDY = {"temperature": 0, "max_tokens": 12}
SETTINGS = ("n_threads=1", "planner=fixed", "n_ctx=512")


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """The plugin, by the name that pyproject gives it, and a folder for what llm keeps."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module = import_module(project["project"]["entry-points"]["llm"]["pilotfish"])
    if not plugins.pm.is_registered(module):
        plugins.load_plugins()
    was_there = plugins.pm.is_registered(module)
    if not was_there:
        plugins.pm.register(module, name="pilotfish")
    yield module
    if not was_there:
        plugins.pm.unregister(module)


@pytest.fixture
def group(installed):
    """llm's commands with the plugin's, which are registered when llm is imported."""
    made = click.Group("llm", commands=dict(cli.cli.commands))
    installed.register_commands(made)
    return made


def run(group, *args, code=0, **options):
    result = CliRunner().invoke(group, [str(arg) for arg in args], **options)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


@pytest.fixture
def added(group, tiny):
    path = tiny("llama", n_ctx_train=512)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    assert run(group, "pilotfish", "add", path, "--name", "tiny", *sets) == "pilotfish/tiny\n"
    return path


def test_presets_and_added_models_are_registered(group, added):
    names = {model.model_id for model in llm.get_models()}
    assert {"pilotfish/smollm2", "pilotfish/gemma3-270m", "pilotfish/tiny"} <= names
    kept = json.loads(run(group, "pilotfish", "list"))
    assert kept == {"tiny": {"model": str(added), "n_threads": 1, "planner": "fixed", "n_ctx": 512}}
    run(group, "pilotfish", "remove", "pilotfish/tiny")
    assert "pilotfish/tiny" not in {model.model_id for model in llm.get_models()}
    assert "no model 'tiny' was added" in run(group, "pilotfish", "remove", "tiny", code=1)


def test_an_answer_streams_and_is_the_engines_own(added):
    model = llm.get_model("pilotfish/tiny")
    response = model.prompt("Hello there", system="Be brief.", **GREEDY)
    chunks = list(response)
    with Engine.load(added, n_threads=1, n_ctx=512, planner="fixed") as engine:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
        expected = engine.chat(messages, **GREEDY)
    assert "".join(chunks) == response.text() == expected.text and len(chunks) > 1
    assert (response.usage().input, response.usage().output) == (expected.stats.n_prompt, 12)
    assert response.response_json["finish_reason"] == "length"


def test_a_conversation_goes_on_and_reads_only_what_is_new(added):
    model = llm.get_model("pilotfish/tiny")
    conversation = model.conversation()
    first = conversation.prompt("One", **GREEDY).text()
    second = conversation.prompt("Two", **GREEDY)
    assert second.text()
    turns = [("user", "One"), ("assistant", first), ("user", "Two")]
    with Engine.load(added, n_threads=1, n_ctx=512, planner="fixed") as engine:
        expected = engine.chat([{"role": role, "content": text} for role, text in turns], **GREEDY)
    assert second.text() == expected.text
    assert second.response_json["n_reused"] > expected.stats.n_prompt / 2


def test_the_command_line_prompts_with_options_and_logs_the_answer(group, added):
    options = ("-o", "temperature", "0", "-o", "max_tokens", "8", "-o", "seed", "3")
    said = run(group, "prompt", "-m", "pilotfish/tiny", "Hello", *options)
    assert said.strip()
    [logged] = json.loads(run(group, "logs", "list", "--json"))
    assert logged["model"] == "pilotfish/tiny" and logged["response"].strip() == said.strip()
    again = run(group, "prompt", "-m", "pilotfish/tiny", "Hello", *options, "--no-stream")
    assert again == said


def test_a_schema_is_obeyed(added):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    response = llm.get_model("pilotfish/tiny").prompt("Hello", schema=schema, temperature=0, max_tokens=60)
    assert set(json.loads(response.text())) == {"ok"}


def test_a_model_without_a_template_goes_on_with_the_text(group, tiny):
    path = tiny("llama", n_ctx_train=512, chat_template=None)
    run(group, "pilotfish", "add", path, "--name", "base", "--set", "n_threads=1", "--set", "planner=fixed")
    model = llm.get_model("pilotfish/base")
    with Engine.load(path, n_threads=1, planner="fixed") as engine:
        assert model.prompt("Hello", **GREEDY).text() == engine.generate("Hello", **GREEDY).text
    with pytest.raises(llm.ModelError, match="chat template"):
        model.prompt("Hello", system="Be brief.").text()


def test_what_goes_wrong_is_one_line(group, added, tmp_path):
    assert "did you mean n_ctx" in run(group, "pilotfish", "add", "x", "--set", "n_ctz=1", code=1)
    assert "top_p" in run(group, "prompt", "-m", "pilotfish/tiny", "Hi", "-o", "top_p", "7", code=1)
    run(group, "pilotfish", "add", tmp_path / "absent.gguf", "--name", "gone")
    assert "absent.gguf" in run(group, "prompt", "-m", "pilotfish/gone", "Hi", code=1)
    (tmp_path / "llm" / "pilotfish.json").write_text("[]")
    assert "correct or delete it" in run(group, "pilotfish", "list", code=1)

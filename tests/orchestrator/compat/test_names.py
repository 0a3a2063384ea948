"""Grammars as objects, and files of the Hub by pattern."""

import llama_cpp
import pytest

import orchestrator.compat
from orchestrator.compat import LlamaGrammar
from orchestrator.compat.hub import gguf_on_the_hub
from orchestrator.errors import ConfigError, GrammarError


def test_a_schema_becomes_a_grammar():
    assert "root ::=" in LlamaGrammar.from_json_schema('{"type": "boolean"}')._grammar


def test_a_grammar_may_stand_in_a_file(tmp_path):
    file = tmp_path / "a.gbnf"
    file.write_text('root ::= "ä"', encoding="utf-8")
    assert LlamaGrammar.from_file(file)._grammar == 'root ::= "ä"'
    with pytest.raises(GrammarError, match="missing.gbnf: cannot be read"):
        LlamaGrammar.from_file(tmp_path / "missing.gbnf")


def test_every_public_name_exists():
    assert all(getattr(orchestrator.compat, name) for name in orchestrator.compat.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Llam'"):
        _ = orchestrator.compat.Llam


def test_constructors_and_calls_take_what_llama_cpp_pythons_take():
    from inspect import signature

    for name in ("__init__", "__call__", "create_completion", "create_chat_completion", "from_pretrained"):
        theirs = signature(getattr(llama_cpp.Llama, name)).parameters
        ours = signature(getattr(orchestrator.compat.Llama, name)).parameters
        named = [each for each in theirs if each != "kwargs"]
        assert [each for each in ours if each in named] == named, name
        for each in named:
            mine, real = ours[each].default, theirs[each].default
            assert (list(mine) if mine == () else mine) == real, f"{name}({each})"


def test_a_file_of_a_repository_is_named(monkeypatch):
    assert gguf_on_the_hub("owner/repo", "model.gguf") == "owner/repo/model.gguf"


@pytest.fixture
def repository(monkeypatch):
    class File:
        def __init__(self, name):
            self.name = name

    names = ["a-Q4_K_M.gguf", "a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf", "b-Q4_K_M.gguf"]
    monkeypatch.setattr("adapters.hub.list_ggufs", lambda _repo: [File(name) for name in names])


def test_a_pattern_finds_the_file_or_the_first_part(repository):
    assert gguf_on_the_hub("o/r", "a*Q4_K_M.gguf") == "o/r/a-Q4_K_M.gguf"
    assert gguf_on_the_hub("o/r", "*Q8_0*") == "o/r/a-Q8_0-00001-of-00002.gguf"


@pytest.mark.parametrize(
    ("pattern", "says"), [("*Q4_K_M*", "several files match"), ("*Q2*", "no file matches")]
)
def test_a_pattern_must_mean_one_model(repository, pattern, says):
    with pytest.raises(ConfigError, match=f"o/r: {says}"):
        gguf_on_the_hub("o/r", pattern)


def test_a_pattern_is_needed_and_folders_are_refused():
    with pytest.raises(ConfigError, match="filename is missing"):
        gguf_on_the_hub("o/r", None)
    for refused in ({"local_dir": "x"}, {"cache_dir": "x"}, {"additional_files": ["x"]}):
        with pytest.raises(ConfigError, match=f"{next(iter(refused))} cannot be honoured"):
            orchestrator.compat.Llama.from_pretrained("o/r", "a.gguf", **refused)

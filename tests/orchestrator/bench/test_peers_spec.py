"""What a peer's spec means, and what `llama-server:all` stands for."""

from pathlib import Path

import pytest

from orchestrator.bench import peers
from orchestrator.bench.peers import expand_peers, open_peer
from orchestrator.errors import ConfigError
from tests.orchestrator.bench import standins

MODEL, DRAFT = Path("model.gguf"), Path("draft.gguf")


@pytest.fixture
def made(monkeypatch):
    """Records the arguments with which peers are made, instead of starting them."""
    calls = []

    def record(name):
        return lambda *arguments, **options: calls.append((name, arguments, options))

    for name in ("LlamaServer", "LlamaCppPython", "Transformers"):
        monkeypatch.setattr(peers, name, record(name))
    return calls


def open_with(spec, draft=None, llama_server=None, ignore_eos=False):
    return open_peer(
        spec,
        model=MODEL,
        draft=draft,
        llama_server=llama_server,
        n_ctx=64,
        n_threads=2,
        sampling={"temperature": 0.0},
        ignore_eos=ignore_eos,
        end_tokens=[2],
    )


def test_a_plain_server_gets_flags_and_no_speculation(made, tmp_path):
    open_with("llama-server -fa off", llama_server=tmp_path / "absent")
    ((name, arguments, options),) = made
    assert (name, arguments) == ("LlamaServer", (tmp_path / "absent", MODEL))
    assert options["flags"] == ["-fa", "off"]
    assert (options["name"], options["fresh"]) == ("llama-server -fa off", False)


def test_a_type_becomes_flags_and_more_flags_follow(made, tmp_path):
    open_with("llama-server:ngram-mod --spec-ngram-mod-n-max 32", llama_server=standins.server(tmp_path))
    assert made[0][2]["flags"] == ["--spec-type", "ngram-mod", "--spec-ngram-mod-n-max", "32"]
    assert made[0][2]["fresh"]


def test_types_can_be_combined(made, tmp_path):
    open_with("llama-server:ngram-mod,draft-simple", draft=DRAFT, llama_server=standins.server(tmp_path))
    assert made[0][2]["flags"] == [
        *("--spec-type", "ngram-mod,draft-simple"),
        *("--spec-draft-model", "draft.gguf"),
    ]


def test_a_type_that_the_binary_lacks_lists_what_it_has(made, tmp_path):
    with pytest.raises(ConfigError, match="no type 'ngram-maps'; it has draft-simple, .*ngram-mod"):
        open_with("llama-server:ngram-maps", llama_server=standins.server(tmp_path))


def test_a_type_among_the_flags_is_refused(made, tmp_path):
    with pytest.raises(ConfigError, match="write llama-server:TYPE instead"):
        open_with("llama-server --spec-type ngram-mod", llama_server=tmp_path)


def test_a_server_needs_its_binary(made):
    with pytest.raises(ConfigError, match="needs the path of a llama-server binary"):
        open_with("llama-server:ngram-mod")


@pytest.mark.parametrize(
    ("spec", "name", "given"),
    [
        ("llama-cpp-python", "LlamaCppPython", {}),
        ("llama-cpp-python --flash-attn on", "LlamaCppPython", {"flash_attn": True}),
        ("llama-cpp-python:lookup", "LlamaCppPython", {"lookup": 10}),
        (
            "llama-cpp-python:lookup --num-pred-tokens 4 --max-ngram-size 3",
            "LlamaCppPython",
            {"lookup": 4, "max_ngram_size": 3},
        ),
        ("transformers", "Transformers", {}),
        ("transformers --dtype bfloat16", "Transformers", {"dtype": "bfloat16"}),
        ("transformers:lookup --prompt-lookup-num-tokens 5", "Transformers", {"lookup": 5}),
        ("transformers:assisted", "Transformers", {"assistant": DRAFT}),
    ],
)
def test_python_peers_and_their_flags(made, spec, name, given):
    open_with(spec, draft=DRAFT, ignore_eos=True)
    ((what, arguments, options),) = made
    common = {"n_threads": 2, "sampling": {"temperature": 0.0}, "name": spec}
    common |= {"ignore_eos": True, "end_tokens": [2]}
    if name == "LlamaCppPython":
        common["n_ctx"] = 64
    assert (what, arguments, options) == (name, (MODEL,), common | given)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("llama-cpp-python:lookup --num-pred-tokens", "flags come as `--name value`"),
        ("llama-cpp-python --threads 3", "knows --num-pred-tokens, --max-ngram-size, --flash-attn"),
        ("llama-cpp-python --num-pred-tokens 4", "goes with llama-cpp-python:lookup only"),
        ("llama-cpp-python:lookup --num-pred-tokens 0", "--num-pred-tokens cannot be '0'"),
        ("llama-cpp-python --flash-attn maybe", "--flash-attn cannot be 'maybe'"),
        ("transformers:assisted", "give a draft model's GGUF"),
    ],
)
def test_flags_that_mean_nothing_are_refused(made, spec, complaint):
    with pytest.raises(ConfigError, match=complaint):
        open_with(spec)


@pytest.mark.parametrize("spec", ["", "vllm", "llama-server:", "transformers:eagle", "llama-server 'x"])
def test_an_unknown_peer_lists_what_exists(spec):
    with pytest.raises(ConfigError, match="unknown peer .*llama-server:all, .*transformers:assisted"):
        expand_peers([spec], None, None)


def test_all_is_plain_decoding_and_every_type_that_can_run(tmp_path):
    binary = standins.server(tmp_path)
    assert expand_peers(["llama-server:all -fa off", "llama-cpp-python"], binary, None) == [
        "llama-server -fa off",
        "llama-server:ngram-simple -fa off",
        "llama-server:ngram-mod -fa off",
        "llama-cpp-python",
    ]


def test_all_with_a_draft_model_has_the_type_that_it_is_made_for(tmp_path, tiny):
    expanded = expand_peers(["llama-server:all"], standins.server(tmp_path), tiny("llama"))
    assert expanded == [
        "llama-server",
        "llama-server:draft-simple",
        "llama-server:ngram-simple",
        "llama-server:ngram-mod",
    ]


def test_a_spec_that_comes_twice_is_kept_once(tmp_path):
    specs = ["llama-server", "llama-server:all", "llama-server:ngram-mod"]
    expanded = expand_peers(specs, standins.server(tmp_path), None)
    assert expanded == ["llama-server", "llama-server:ngram-simple", "llama-server:ngram-mod"]


def test_all_cannot_be_opened_itself(made, tmp_path):
    with pytest.raises(ConfigError, match="stands for several peers"):
        open_with("llama-server:all", llama_server=standins.server(tmp_path))

"""Claims about `pilotfish tune` and `pilotfish quantize --for-speculation`, on tiny models."""

import json

import pytest

from adapters.gguf_file import read_gguf
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from orchestrator import Engine
from orchestrator.cost.store import curve_key, load_curve
from orchestrator.tune.choice import Change
from tests.cli_program import run

QUICK = ("--threads-list", "1", "--contexts", "16,64", "--passes", "2", "--set", "n_threads=1")


@pytest.fixture
def alone(monkeypatch):
    """As if no other program ran: what is stored depends on that."""
    monkeypatch.setattr("orchestrator.tune.neighbours.Neighbours.share", lambda _self: 0.0)


@pytest.fixture
def chosen(monkeypatch):
    """The kernels of a tiny model are noise, so the choice is made for them."""
    monkeypatch.setattr(
        "orchestrator.tune.speculative_copy.head_changes", lambda *_args: [Change("BF16", 1.5)]
    )


def test_tune_prints_tables_advice_and_a_plot(tiny, tmp_path, alone):
    plot = tmp_path / "curves.png"
    result = run("tune", tiny("llama"), *QUICK, "--acceptance", "0.5", "--plot", plot)
    for text in (
        "== 16 tokens in the cache",
        "== 64 tokens in the cache",
        "1 thread, flash attention auto (in use)",
        "1 thread, flash attention on",
        "1 thread, flash attention off",
        "accepting 0.5",
        "cheap row counts with the settings in use: ",
        "best for plain decoding: 1 thread",
        "best for speculation: 1 thread",
        "use: ",
        "stored: engines with any of these settings",
        "vocabulary projection (F32)",
        "% of the rise is the vocabulary projection",
        "IQ4_NL   4.5",
        "vocabulary projection: no type is better here than F32",
    ):
        assert text in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"drew {plot}" in result.stderr


def test_tune_gives_its_figures_as_one_json_object(tiny, alone):
    found = json.loads(run("tune", tiny("llama"), *QUICK, "--json").stdout)
    assert [setting["flash_attn"] for setting in found["settings"]] == [None, True, False]
    used = found["settings"][0]
    assert used["rows"] == [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32]
    assert [context["n_past"] for context in used["contexts"]] == [16, 64]
    first = used["contexts"][0]
    assert first["plain_tok_s"] == 1e3 / first["ms"][0] and len(first["ms"]) == 12
    assert [best["acceptance"] for best in first["speculative"]] == [0.6, 0.8]
    assert found["stored"] and found["types"] == {
        "head": "F32",
        "tied": False,
        "layers": {"F32": found["types"]["layers"]["F32"]},
    }
    assert found["kernels"]["ns_per_weight"].keys() >= {"Q4_0", "Q8_0", "BF16", "F32"}
    assert set(found["change"]) <= {"n_threads", "n_threads_batch", "flash_attn"}


def test_the_curves_found_are_those_that_engines_plan_by(tiny, alone):
    path = tiny("llama", seed=7)  # nobody else has measured this one
    found = json.loads(run("tune", path, *QUICK, "--json").stdout)
    model = LlamaModel(path)
    for setting in found["settings"]:
        settings = ContextSettings(n_ctx=256, n_threads=1, flash_attn=setting["flash_attn"])
        curve = load_curve(curve_key(LlamaContext(model, settings)))
        assert curve is not None and list(curve.rows) == setting["rows"]
    model.close()
    with Engine.load(path, n_threads=1, n_ctx=256) as engine:
        assert engine.generate("the cat", max_tokens=8).stats.n_tokens == 8


def test_what_others_disturbed_or_one_context_told_is_not_stored(tiny, monkeypatch):
    path = tiny("llama", seed=8)
    one = run("tune", path, *QUICK[:2], "--contexts", "16", "--passes", "2", "--set", "n_threads=1")
    assert "not stored: a curve needs two contexts" in one.stdout
    monkeypatch.setattr("orchestrator.tune.neighbours.Neighbours.share", lambda _self: 0.4)
    result = run("tune", path, *QUICK)
    assert result.stdout.startswith("WARNING: other programs took 40 % of the processors")
    assert "not stored: other programs disturbed the measurement" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument 'MODEL'"),
        (("{path}", "--threads-list", "two"), 2, "'two' is no list of numbers"),
        (("{path}", "--threads-list", "0"), 1, "n_threads must be between 1 and 512, got 0"),
        (("{path}", "--contexts", "0,64"), 1, "contexts must be 1 token or more, got 0"),
        (("{path}", "--contexts", "1024", "--n-ctx", "512"), 1, "do not fit n_ctx=512; 1057 would do"),
        (("{path}", "--acceptance", "0.5,1.5"), 1, "acceptance must be a rate between 0 and 1, got 1.5"),
        (("{path}", "--set", "temperature=0"), 1, "temperature does not change what a decode costs"),
        (("nowhere.gguf",), 1, "no model 'nowhere.gguf'"),
    ],
)
def test_what_cannot_be_measured_is_said(tiny, arguments, code, message):
    path = str(tiny("llama"))
    result = run("tune", *(argument.format(path=path) for argument in arguments), code=code)
    assert message in " ".join(result.stderr.split())


def test_a_model_that_cannot_speculate_is_not_tuned(tiny, tmp_path):
    path = tiny("mamba")
    assert "there is nothing to tune" in run("tune", path, *QUICK, code=1).stderr
    target = tmp_path / "out.gguf"
    args = ("quantize", path, "Q8_0", "--for-speculation", "-o", target)
    assert "there is nothing to tune" in run(*args, code=1).stderr
    assert not target.exists()


def test_a_copy_for_speculation_is_made_and_measured_beside_the_plain_one(tiny, tmp_path, alone, chosen):
    source = tmp_path / "fish-F32.gguf"
    source.write_bytes(tiny("llama").read_bytes())
    sample = tmp_path / "sample.txt"
    sample.write_text("the cat and the dog, " * 40)
    args = ("quantize", source, "Q4_0", "--for-speculation", "--sample", sample, "--threads", 1)
    made = json.loads(run(*args, "--json").stdout)
    target = tmp_path / "fish-Q4_0-speculative.gguf"
    assert (made["source"], made["target"], made["type"]) == (str(source), str(target), "Q4_0")
    assert (made["head_before"], made["head"], made["tied"]) == ("Q8_0", "BF16", False)
    assert [one["name"] for one in made["files"]] == ["source", "plain Q4_0", "for speculation"]
    before, plain, after = made["files"]
    assert after["bytes"] == target.stat().st_size and plain["bytes"] < after["bytes"] < before["bytes"]
    assert plain["perplexity"] != before["perplexity"] > 1 and plain["n_tokens"] == after["n_tokens"]
    assert after["plain_tok_s"] == 1e3 / after["ms"][0]
    facts = read_gguf(target)
    assert (facts.file_type, facts.output_tensor_type, facts.tensor_types["Q4_0"]) == ("Q4_0", "BF16", 15)
    with Engine.load(target, n_threads=1, n_ctx=256) as engine:
        assert engine.generate("the cat", max_tokens=8).stats.n_tokens == 8
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name, sample.name}


def test_without_a_type_the_layers_stay_as_they_are(tiny, tmp_path, alone, chosen):
    small, target = tmp_path / "fish-Q4_1.gguf", tmp_path / "fish-Q4_1-speculative.gguf"
    run("quantize", tiny("llama"), "Q4_1", "-o", small)
    text = run("quantize", small, "--for-speculation", "--threads", 1).stdout
    assert text.startswith(
        f"{target}\nvocabulary projection: BF16 instead of Q8_0; the kernels promised +50 %"
    )
    assert "\nsource " in text and "plain Q4_1" not in text
    before, after = read_gguf(small), read_gguf(target)
    assert (before.output_tensor_type, after.output_tensor_type) == ("Q8_0", "BF16")
    changed = {"Q8_0", "BF16"}
    assert {k: n for k, n in before.tensor_types.items() if k not in changed} == {
        k: n for k, n in after.tensor_types.items() if k not in changed
    }
    assert after.token_embedding_type == before.token_embedding_type


def test_where_the_quantizers_own_choice_is_best_the_copy_is_plain(tiny, tmp_path, alone, monkeypatch):
    monkeypatch.setattr("orchestrator.tune.speculative_copy.head_changes", lambda *_args: [])
    plain, target = tmp_path / "plain.gguf", tmp_path / "out.gguf"
    run("quantize", tiny("llama"), "Q4_0", "-o", plain)
    result = run("quantize", tiny("llama"), "Q4_0", "--for-speculation", "-o", target, "--threads", 1)
    assert "a plain Q4_0 is the best that there is on this device" in result.stdout
    assert target.read_bytes() == plain.read_bytes()
    same = run("quantize", plain, "--for-speculation", "-o", tmp_path / "no.gguf", "--threads", 1, code=1)
    assert "Q8_0 is the best type for its vocabulary projection on this device" in same.stderr
    assert not (tmp_path / "no.gguf").exists()


def test_a_source_that_does_not_fit_memory_is_left_out(tiny, tmp_path, alone, chosen, monkeypatch):
    class Memory:
        available = 1

    monkeypatch.setattr("orchestrator.tune.speculative_copy.psutil.virtual_memory", Memory)
    args = ("quantize", tiny("llama"), "Q4_0", "--for-speculation", "-o", tmp_path / "a.gguf", "--threads", 1)
    result = run(*args)
    assert "the source is not measured: 0.0 GB do not fit into free memory" in result.stdout
    assert "\nsource " not in result.stdout and "\nplain Q4_0 " in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("Q4_0", "--for-speculation", "--output-tensor-type", "F16"), "leave them out"),
        (("Q4_0", "--sample", "{path}"), "--sample goes with --for-speculation"),
        ((), "Missing argument 'TYPE'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tiny, options, message):
    path = str(tiny("llama"))
    result = run("quantize", path, *(option.format(path=path) for option in options), code=2)
    assert message in result.stderr


def test_a_file_that_is_there_is_not_overwritten_unasked(tiny, tmp_path):
    target = tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    result = run("quantize", tiny("llama"), "Q4_0", "--for-speculation", "-o", target, code=1)
    assert "exists already" in result.stderr and target.read_bytes() == b"mine"

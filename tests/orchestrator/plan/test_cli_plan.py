"""`pilotfish plan` as people call it, with heads and with models that are on the Hub only."""

import json

import pytest
from click.testing import CliRunner

from adapters.settings import ContextSettings
from orchestrator.cli import main
from tests.adapters.test_hub import hub  # noqa: F401
from tests.cli_program import run
from tests.heads.tiny_heads import talker, write_head

REPO = "owner/tiny-GGUF"


def document(*args):
    return json.loads(run("plan", *args, "--json").stdout)


def test_a_plan_names_every_part_and_its_verdict(tiny):
    text = run("plan", tiny("llama"), "--draft", tiny("llama", seed=1), "--n-ctx", "512").stdout
    for fact in (
        "target weights",
        "target cache",
        "draft logits",
        "yes, in the main memory",
        "free on this machine",
    ):
        assert fact in text


def test_json_has_the_same_in_bytes(tiny):
    made = document(tiny("llama"), "--vram", "1G", "--ram", "1G", "--set", "type_k=f32")
    assert made["fits"] == "whole" and made["n_gpu_layers"] == made["n_layers"] == 3
    assert made["vram"] == sum(part["vram"] for part in made["parts"])
    assert made["budget"] == {"vram": 2**30, "ram": 2**30, "source": "as given"}
    cache = {part["what"]: part["vram"] for part in made["parts"]}["target cache"]
    assert cache == pytest.approx(
        1.5 * 2**18, abs=2**20 / 100
    )  # keys of 32 bits, values of 16: 2 layers, 64 numbers, 512 tokens


def test_settings_of_layers_and_trees_are_heeded(tiny):
    made = document(
        tiny("llama"), "--vram", "1G", "--set", "n_gpu_layers=2", "--draft", tiny("llama", seed=1)
    )
    assert made["fits"] == "whole" and made["n_gpu_layers"] == 2
    wide = document(tiny("llama"), "--set", "max_leaves=8", "--no-flash-attn")
    assert wide["ram"] >= document(tiny("llama"), "--no-flash-attn")["ram"]


def test_a_setting_that_does_not_exist_is_one_line(tiny):
    result = CliRunner().invoke(main, ["plan", str(tiny("llama")), "--set", "n_ctz=5"])
    assert result.exit_code == 1 and "did you mean n_ctx" in result.output


def test_a_head_is_counted_with_what_it_borrows(tiny, tmp_path):
    path, head = talker(tiny), write_head("eagle3-reduced", tmp_path)
    made = document(path, "--head", head)
    sizes = {part["what"]: part["ram"] for part in made["parts"]}
    assert sizes["head weights"] > 0 and sizes["head cache"] > 0
    assert sizes["head rows"] == 3 * ContextSettings().n_batch * 64 * 4
    on_gpu = document(path, "--head", head, "--vram", "1G")
    assert {part["what"]: part["vram"] for part in on_gpu["parts"]}["head weights"] > sizes["head weights"]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def test_of_a_model_on_the_hub_only_the_header_is_fetched(hub, cache, tiny, monkeypatch):  # noqa: F811
    monkeypatch.setattr("adapters.hub_header._FIRST", 8192)
    data = tiny("llama", n_layer=8).read_bytes()
    half = tiny("llama", n_layer=8, dtype="f16").read_bytes()
    hub.add(REPO, {"m-F32.gguf": data, "m-F16.gguf": half})
    made = document(f"{REPO}:F32", "--ram", "1G")
    assert made["parts"] == document(tiny("llama", n_layer=8), "--ram", "1G")["parts"]
    [kept] = cache.rglob("*.gguf")
    assert kept.stat().st_size == len(data) and kept.read_bytes() != data
    assert hub.ranges[0] == 0 and len(hub.ranges) <= 3 and sum(hub.ranges) < len(data) / 4
    tight = document(f"{REPO}:F32", "--ram", str(made["ram"] - 500_000))
    assert f"{REPO}:F16" in [one["change"] for one in tight["advice"]]


def test_what_the_hub_does_not_have_is_one_line(hub, cache):  # noqa: F811
    hub.add(REPO, {"m-Q8_0.gguf": b"GGUF and nothing behind it", "m-Q4_0.gguf": b"no model"})
    for name, words in (("Q2_K", "has no Q2_K"), ("Q8_0", "damaged"), ("Q4_0", "not a GGUF file")):
        result = CliRunner().invoke(main, ["plan", f"{REPO}:{name}"])
        assert result.exit_code == 1 and words in result.output


def test_a_head_on_the_hub_is_judged_by_the_size_of_its_file(hub, cache, tiny):  # noqa: F811
    hub.add("owner/head", {"config.json": b"{}", "model.safetensors": bytes(100_000)})
    made = document(tiny("llama"), "--head", "owner/head")
    assert "upper bound" in made["notes"][0]
    assert not any("GET" in request and "safetensors" in request for request in hub.requests)

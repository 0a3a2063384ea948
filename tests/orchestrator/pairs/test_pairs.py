"""What can draft for a target: found, checked, ranked, and refused with reasons."""

import json
import shutil

import pytest

from orchestrator.cost.curve import CostCurve
from orchestrator.pairs.estimate import Effort, bytes_read, gain
from orchestrator.pairs.find import find
from orchestrator.pairs.judge import Judge
from tests.cli_program import run
from tests.heads.tiny_heads import talker, write_head

FLAT = CostCurve((1, 8), [10.0, 10.0])
STEEP = CostCurve((1, 2, 8), [10.0, 20.0, 80.0])


@pytest.fixture
def folder(tmp_path, tiny):
    """A target, a draft for it, and much that is none."""
    place = tmp_path / "models"
    (place / "deep").mkdir(parents=True)
    shutil.copy(tiny("llama", n_layer=8), place / "target.gguf")
    shutil.copy(tiny("llama", n_layer=1, noise=0.05), place / "deep" / "small.gguf")
    shutil.copy(tiny("llama", n_layer=8, seed=2), place / "twin.gguf")
    shutil.copy(tiny("llama", rename={300: "xyz"}), place / "foreign.gguf")
    shutil.copy(tiny("mamba"), place / "mamba.gguf")
    (place / "broken.gguf").write_bytes(b"GGUF")
    (place / "mmproj-f16.gguf").write_bytes(b"GGUF")
    return place


def pairs_of(target, *args):
    document = json.loads(run("pairs", target, *args, "--no-caches", "--json").stdout)
    return document, {one["name"].rpartition("/")[2]: one for one in document["pairs"]}


def test_the_best_comes_first_and_every_refusal_has_a_reason(folder):
    document, found = pairs_of(folder / "target.gguf", folder)
    assert document["pairs"][0]["name"].endswith("small.gguf")
    reasons = {name: one["refusal"] for name, one in found.items() if one["refusal"]}
    assert reasons["target.gguf"] == "the target itself"
    assert "token 300" in reasons["foreign.gguf"] and "'xyz'" in reasons["foreign.gguf"]
    assert "recurrent" in reasons["mamba.gguf"] and "damaged" in reasons["broken.gguf"]
    assert len(reasons) == 4 and len(found) == 6


def test_a_draft_as_large_as_its_target_is_told_that_it_hardly_pays(folder):
    _, found = pairs_of(folder / "target.gguf", folder)
    assert found["small.gguf"]["warning"] == "" and found["small.gguf"]["gain"]["likely"] > 1.3
    twin = found["twin.gguf"]
    assert "cannot win" in twin["warning"] and twin["gain"]["best"] == pytest.approx(1.0, abs=0.02)


def test_the_table_hides_what_cannot_be_used_unless_asked(folder):
    short = run("pairs", folder / "target.gguf", folder, "--no-caches").stdout
    assert "4 more cannot; --all says why" in short and "mamba" not in short
    assert "small.gguf: at best" in short and "not measured yet" in short
    assert (
        "mamba.gguf: cannot draft"
        in run("pairs", folder / "target.gguf", folder, "--no-caches", "--all").stdout
    )


def test_the_head_that_comes_with_pilotfish_is_among_them(tiny, tmp_path, monkeypatch):
    head = write_head("eagle3-reduced", tmp_path)
    monkeypatch.setattr("heads.shipped.shipped_head", lambda _facts: head)
    document, found = pairs_of(talker(tiny))
    assert list(found) == ["default"] and found["default"]["family"] == "eagle3"
    assert not found["default"]["refusal"], document


def test_heads_are_judged_beside_models(tiny, tmp_path):
    target = talker(tiny)
    for kind in ("eagle3-reduced", "medusa"):
        write_head(kind, tmp_path / "heads")
    (tmp_path / "heads" / "other").mkdir()
    (tmp_path / "heads" / "other" / "config.json").write_text("{}")
    (tmp_path / "heads" / "other" / "model.safetensors").write_bytes(b"no tensors at all")
    document, found = pairs_of(target, tmp_path / "heads")
    assert {one["family"] for one in document["pairs"] if not one["refusal"]} == {"eagle3", "medusa"}
    assert found["other"]["refusal"]
    assert found["medusa"]["gain"]["n_best"] <= 3  # it has so many heads


def test_for_a_target_that_cannot_roll_back_nothing_is_looked_for(tiny, folder):
    document, found = pairs_of(tiny("mamba"), folder)
    assert "recurrent" in document["refusal"] and not found
    assert "cannot be sped up" in run("pairs", tiny("mamba"), folder, "--no-caches").stdout


def test_the_caches_are_searched_and_hub_files_are_named_as_the_hub_names_them(tiny, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--repo" / "snapshots" / "0123" / "sub"
    snapshot.mkdir(parents=True)
    shutil.copy(tiny("llama"), snapshot / "m-Q8_0.gguf")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "ours"))
    (tmp_path / "ours" / "models").mkdir(parents=True)
    shutil.copy(tiny("llama"), tmp_path / "ours" / "models" / "made.gguf")
    for folder in (snapshot.parent, snapshot):
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
    assert {found.name for found in find([])} == {
        "owner/repo",
        "owner/repo:sub",
        "owner/repo/sub/m-Q8_0.gguf",
        str(tmp_path / "ours" / "models" / "made.gguf"),
    }
    assert find([], caches=False) == []


def test_what_was_measured_here_is_used_in_place_of_sizes(folder, monkeypatch):
    curves = iter([STEEP, CostCurve((1,), [1.0])])  # the target's, then the draft's
    monkeypatch.setattr("orchestrator.pairs.judge.load_curve", lambda _key: next(curves))
    with Judge(folder / "target.gguf") as judge:
        pairing = judge.judge(*find([folder / "deep"], caches=False))
    assert pairing.measured and "cannot win" in pairing.warning


@pytest.mark.parametrize(
    ("effort", "curve", "best", "likely"),
    [
        (Effort(0.0), None, 9.0, 3.2),  # guesses for nothing: all 8 and one more
        (Effort(0.1), FLAT, 5.0, 2.0),
        (Effort(1.0), FLAT, 1.0, 1.0),
        (Effort(0.0), STEEP, 1.0, 1.0),
        (Effort(0.0, 1.0), None, 4.5, 1.6),
        (Effort(0.0, 0.0, 3), None, 4.0, 2.533),
    ],
)
def test_gains_are_what_the_arithmetic_says(effort, curve, best, likely):
    found = gain(effort, curve)
    assert found.best == pytest.approx(best, rel=0.02) and found.likely == pytest.approx(likely, rel=0.03)


def test_an_embedding_that_is_only_looked_up_is_not_read(tiny):
    from adapters.gguf_file import read_tensors

    path = tiny("llama")
    tensors = read_tensors(path)
    assert bytes_read(path) == sum(one.bytes for one in tensors.values()) - tensors["token_embd.weight"].bytes

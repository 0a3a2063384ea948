"""`pilotfish train` on a tiny model: what it makes drafts, and what was stopped goes on."""

import json

import pytest

from heads.checkpoint import load_head
from heads.training import recipe
from orchestrator import Engine
from tests.cli_program import run

N_PROMPTS = 24


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.txt"
    path.write_text("\n".join(f"tell me of number {n} and the hat" for n in range(N_PROMPTS)))
    return path


@pytest.fixture(scope="module")
def command(tiny, prompts):
    small = (
        "--max-tokens 12 --max-length 96 --draft-vocab 64 --batch-tokens 400 --epochs 2 --lr 0.001 --steps 2"
    )
    return [
        "train",
        "eagle3",
        "--target",
        str(tiny("llama", n_layer=8)),
        "--data",
        str(prompts),
        *small.split(),
    ]


def test_it_makes_a_head_that_drafts_and_says_what_the_decoder_measured(command, tmp_path, tiny):
    out = tmp_path / "made"
    done = run(*command, "--out", out, "--json")
    result = json.loads(done.stdout)
    assert set(result["decoder"]) == {"chains of 1", "chains of 2", "chains of 4", "chains of 6"}
    assert all(tau >= 1 for tau in result["decoder"].values())
    assert len(result["history"]) == 3
    provenance = json.loads((out / "head" / "provenance.json").read_text())
    assert provenance["texts"] == N_PROMPTS and provenance["data"] == "prompts.txt"
    head = load_head(out / "head")
    assert head.spec.family == "eagle3" and head.spec.taps == (2, 4, 5)
    with Engine.load(tiny("llama", n_layer=8), head=out / "head", method="head", n_threads=1) as engine:
        assert engine.generate("the cat", max_tokens=8, temperature=0).stats.n_drafted > 0
    again = run(*command, "--out", out, "--json")  # all is done: nothing is done twice
    assert json.loads(again.stdout)["history"] == result["history"]


def test_a_dry_run_tries_every_stage_and_leaves_nothing(command, tmp_path):
    out = tmp_path / "nothing"
    done = run(*command, "--out", out, "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert found["n_answers"] == N_PROMPTS and found["total_s"] > 0 and found["disk"] > 0
    assert not out.exists()
    table = run(*command, "--out", out, "--dry-run")
    assert "in all" in table.stdout and "memory" in table.stdout


def test_wrong_data_and_targets_are_one_line(command, tmp_path, tiny):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    arguments = [str(empty) if one.endswith("prompts.txt") else one for one in command]
    done = run(*arguments, "--out", tmp_path / "o", code=1)
    assert done.stderr == f"pilotfish: {empty} holds no prompt\n"
    arguments = ["--target=" + str(tiny("mamba")) if one == "--target" else one for one in command]
    arguments.remove(str(tiny("llama", n_layer=8)))
    done = run(*arguments, "--out", tmp_path / "p", code=1)
    assert done.stderr.splitlines()[-1].startswith("pilotfish: ") and "mamba" in done.stderr


def test_without_data_the_model_asks_itself(command, tmp_path, monkeypatch):
    asked = [f"what of {n} and the cat" for n in range(20)]
    monkeypatch.setattr(recipe, "self_prompts", lambda *_args, **_options: iter(asked))
    own = [*command[: command.index("--data")], *command[command.index("--data") + 2 :]]
    run(*own, "--out", tmp_path / "own", "--prompts", "20", "--json")
    provenance = json.loads((tmp_path / "own" / "head" / "provenance.json").read_text())
    assert provenance["data"] == "prompts that the target wrote" and provenance["texts"] == 20
    monkeypatch.setattr(recipe, "self_prompts", None)  # a run that goes on asks the same
    run(*own, "--out", tmp_path / "own", "--prompts", "20")
    refused = run(*own, "--out", tmp_path / "none", code=2)
    assert "the model writes --prompts N itself" in refused.stderr


def test_too_few_answers_are_said_to_be_too_few(command, tmp_path):
    refused = run(*command, "--out", tmp_path / "few", "--prompts", "1", code=1)
    assert "too few to learn from" in refused.stderr and "give more prompts" in refused.stderr


@pytest.mark.parametrize("family", ["eagle", "medusa"])
def test_the_other_families_are_made_and_draft(family, command, tmp_path, tiny):
    out = tmp_path / family
    result = json.loads(run("train", family, *command[2:], "--out", out, "--json").stdout)
    assert result["history"][-1]["step"] > 0
    assert load_head(out / "head").spec.family == family
    with Engine.load(tiny("llama", n_layer=8), head=out / "head", method="head", n_threads=1) as engine:
        assert engine.generate("the cat", max_tokens=8, temperature=0).stats.n_drafted > 0

"""`pilotfish train` on a tiny model: what it makes drafts, and what was stopped goes on."""

import json
import re
import subprocess
import sys

import pytest

from adapters.errors import HeadError
from heads.checkpoint import load_head
from heads.training import workshop
from heads.training.trainer import Trainer
from orchestrator import Engine, extras
from tests.cli_program import run

N_PROMPTS = 24


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.txt"
    path.write_text("\n".join(f"tell me of number {n} and the hat" for n in range(N_PROMPTS)))
    return path


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A folder with one document."""
    path = tmp_path_factory.mktemp("documents") / "book.md"
    path.write_text("".join(f"The cat {n} is in the other hat of the man {n * n}.\n" for n in range(60)))
    return path.parent


@pytest.fixture(scope="module")
def command(tiny, prompts):
    small = (
        "--max-tokens 12 --max-length 96 --draft-vocab 64 --batch-tokens 400 --epochs 2 --lr 0.001 --steps 2 "
        "--threads 1"
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
    done = run(*command, "--out", out, "--plots", "--json")
    result = json.loads(done.stdout)
    drawn = {path.name for path in out.iterdir() if path.suffix in (".png", ".svg")}
    assert drawn == {"loss.png", "loss.svg", "acceptance.png", "acceptance.svg"}
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


def test_a_head_that_exists_goes_on_learning(command, tmp_path, tiny):
    run(*command, "--out", tmp_path / "first", "--epochs", "1")
    first = load_head(tmp_path / "first" / "head")
    done = run(*command, "--out", tmp_path / "second", "--begin", tmp_path / "first" / "head", "--json")
    second = load_head(tmp_path / "second" / "head")
    assert second.spec == first.spec and second.tensors["d2t"].equal(first.tensors["d2t"])
    before, *after = json.loads(done.stdout)["history"]  # on the same held-out texts
    told = json.loads((tmp_path / "first" / "head" / "provenance.json").read_text())
    assert before["tau"] == pytest.approx(max(one["tau"] for one in told["held_out"]), abs=0.05)
    assert len(after) == 2 and after[-1]["step"] > 0
    provenance = json.loads((tmp_path / "second" / "head" / "provenance.json").read_text())
    assert provenance["begun_with"] == str(tmp_path / "first" / "head")


def test_a_head_goes_on_with_other_tokens(command, tmp_path):
    run(*command, "--out", tmp_path / "first", "--epochs", "1", "--draft-vocab", "30")
    begin = ("--begin", tmp_path / "first" / "head", "--new-vocab")
    run(*command, "--out", tmp_path / "second", *begin, "--draft-vocab", "40")
    first, second = (
        load_head(tmp_path / name / "head").tensors["d2t"].tolist() for name in ("first", "second")
    )
    assert len(first) == 30 and len(second) == 40 and set(first) < set(second)
    refused = run(*command, "--out", tmp_path / "x", "--new-vocab", code=2)
    assert "--new-vocab is for a head that goes on" in refused.stderr


def test_a_head_of_another_family_does_not_go_on(command, tmp_path):
    run(*command, "--out", tmp_path / "first", "--epochs", "1")
    other = ["train", "eagle", *command[2:]]
    failed = run(*other, "--out", tmp_path / "x", "--begin", tmp_path / "first" / "head", code=1)
    assert "is an eagle3 head, not one of family eagle" in failed.stderr


def test_a_dry_run_tries_every_stage_and_leaves_nothing(command, documents, tmp_path):
    out = tmp_path / "nothing"
    done = run(*command, "--out", out, "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert found["n_answers"] == N_PROMPTS and found["disk"] > 0 and found["memory"] > 10**7
    stages = [found[f"{stage}_s"] for stage in ("answer", "feature", "train", "measure")]
    assert min(stages) > 0 and found["total_s"] == pytest.approx(sum(stages))
    assert not out.exists()
    table = run(*command, "--text", documents, "--disk", "0.0001", "--out", out, "--dry-run")
    assert "in all" in table.stdout and "memory" in table.stdout
    assert re.search(r"disk .*; no room for [\d,]+ tokens", table.stdout)


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
    monkeypatch.setattr(workshop, "self_prompts", lambda *_args, **_options: iter(asked))
    own = [*command[: command.index("--data")], *command[command.index("--data") + 2 :]]
    run(*own, "--out", tmp_path / "own", "--prompts", "20", "--json")
    provenance = json.loads((tmp_path / "own" / "head" / "provenance.json").read_text())
    assert provenance["data"] == "prompts that the target wrote" and provenance["texts"] == 20
    monkeypatch.setattr(workshop, "self_prompts", None)  # a run that goes on asks the same
    run(*own, "--out", tmp_path / "own", "--prompts", "20")
    refused = run(*own, "--out", tmp_path / "none", code=2)
    assert "the model writes --prompts N itself" in refused.stderr


def without_data(command):
    at = command.index("--data")
    return [*command[:at], *command[at + 2 :]]


def test_documents_alone_teach_and_nobody_answers(command, documents, tmp_path):
    out = tmp_path / "read"
    arguments = [*without_data(command), "--text", documents, "--out", out]
    result = json.loads(run(*arguments, "--json").stdout)
    assert result["history"][-1]["step"] > 0 and result["decoder"]["chains of 1"] >= 1
    assert json.loads((out / "head" / "provenance.json").read_text())["data"] == "book.md"
    assert (out / "answers.jsonl").read_bytes() == b""
    found = json.loads(run(*arguments, "--dry-run", "--disk", "0", "--json").stdout)
    assert found["answer_s"] == 0 and found["train_s"] > 0 and found["measure_s"] > 0
    assert found["n_tokens"] == json.loads((out / "head" / "provenance.json").read_text())["tokens"]


def test_without_a_disk_the_target_computes_the_same(command, documents, tmp_path):
    both = [*command, "--text", documents, "--prompts", "12", "--json"]
    stored = json.loads(run(*both, "--out", tmp_path / "stored").stdout)
    live = json.loads(run(*both, "--disk", "0", "--out", tmp_path / "live").stdout)
    assert live["history"] == stored["history"]
    assert not list((tmp_path / "live").rglob("rows.bin"))
    provenance = json.loads((tmp_path / "stored" / "head" / "provenance.json").read_text())
    assert provenance["texts"] > 12 and provenance["data"] == "prompts.txt, book.md"


def test_a_disk_budget_says_how_many_texts_it_left_out(command, tmp_path):
    done = run(*command, "--disk", "0.0002", "--out", tmp_path / "small")
    assert re.search(
        r"0.0002 GB \(0.00 GB used\) holds \d+ texts; \d+ are left out: give more, or 0", done.stderr
    )


def test_documents_that_teach_nothing_are_named_before_anything_is_answered(command, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("a fish")
    done = run(*command, "--text", short, "--out", tmp_path / "o", code=1)
    assert done.stderr == f"pilotfish: no text of 16 tokens or more in {short}\n"
    (tmp_path / "none").mkdir()
    done = run(*command, "--text", tmp_path / "none", "--out", tmp_path / "p", code=1)
    assert (
        done.stderr.startswith(f"pilotfish: {tmp_path / 'none'} holds no .txt")
        and not (tmp_path / "p").exists()
    )
    assert "does not exist" in run(*command, "--text", tmp_path / "x", "--out", "o", code=2).stderr


def test_without_matplotlib_nothing_starts(command, tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "matplotlib" else name)
    refused = run(*command, "--out", tmp_path / "o", "--plots", code=1)
    assert refused.stderr.endswith("not installed: pip install 'pilotfish[plots]'\n")
    assert not (tmp_path / "o").exists()


def test_a_run_that_breaks_off_is_drawn_as_far_as_it_came(command, tmp_path, monkeypatch):
    out = tmp_path / "broken"

    def broken(_trainer, _batch):
        raise HeadError("the loss of step 3 is not a number")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", broken)
        done = run(*command, "--out", out, "--plots", code=1)
    assert "not a number" in done.stderr and (out / "acceptance.svg").stat().st_size > 1000
    (out / "loss.png").unlink()
    (out / "loss.png").mkdir()  # nothing can be drawn there
    done = run(*command, "--out", out, "--plots")
    assert f"no plots: cannot write {out / 'loss.png'}" in done.stderr and (out / "head").is_dir()


def test_torchrun_starts_several_that_come_to_the_same(command, tmp_path):
    """Two processes that each compute their share's features; one answers, judges, writes and prints."""
    few = [*command, "--prompts", "12", "--disk", "0", "--device", "cpu", "--json"]
    alone = json.loads(run(*few, "--out", tmp_path / "alone").stdout)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*torchrun, "-m", "orchestrator", *map(str, few), "--out", str(tmp_path / "two")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert [line["step"] for line in together["history"]] == [line["step"] for line in alone["history"]]
    for one, other in zip(together["history"], alone["history"], strict=True):
        assert one["tau"] == pytest.approx(other["tau"], abs=0.02)
        assert one["held_out_loss"] == pytest.approx(other["held_out_loss"], abs=0.01)
    assert done.stderr.count("texts to learn from") == 1
    refused = subprocess.run([*arguments, "--dry-run"], capture_output=True, text=True, timeout=200)
    assert refused.returncode == 1 and "run it without torchrun" in refused.stderr


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

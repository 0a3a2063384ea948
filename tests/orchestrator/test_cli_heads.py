"""Claims about heads on the command line: generate, inspect and bench, on tiny models."""

import json
from functools import partial

import pytest

from orchestrator import Engine
from tests.cli_program import GREEDY, run
from tests.heads import layouts
from tests.heads.layout_files import save
from tests.heads.tiny_heads import N_LAYER, talker, write_head
from tests.tiny_gguf import N_EMBD, N_VOCAB

SINGLE = ("--threads", "1", "--n-ctx", "512")
BENCH = ("--prompt", "the rest had", "--repeats", 1, "--max-tokens", 12, *SINGLE)


@pytest.fixture
def model(tiny):
    return talker(tiny)


@pytest.fixture
def head(tmp_path):
    """Writes a head of one of KINDS."""
    return lambda kind: write_head(kind, tmp_path)


# -- generate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["medusa", "eagle-bias", "eagle3-reduced"])
def test_generate_with_a_head_prints_the_plain_text(model, head, kind):
    args = ["generate", model, "the rest had", "--max-tokens", 24, "--set", "flash_attn=false", *GREEDY]
    plain = run(*args, "--method", "none").stdout
    found = json.loads(run(*args, "--head", head(kind), "--method", "head", "--json").stdout)
    assert found["text"] + "\n" == plain
    assert found["stats"]["method"] == kind.partition("-")[0] and found["stats"]["n_drafted"] > 0
    assert run(*args, "--head", head(kind)).stdout == plain  # auto: a cascade


def test_settings_of_heads_and_statistics_are_for_generate_too(model, head):
    args = ["generate", model, "the rest had", "--max-tokens", 12, *GREEDY, "--stats"]
    options = ["--set", "head_taps=1,3,5", "--set", "head_dtype=float32", "--set", "max_leaves=3"]
    result = run(*args, "--head", head("eagle3-own-embedding"), "--method", "head", *options)
    assert "eagle3 " in result.stderr and "12 tokens" in result.stderr


# -- inspect -----------------------------------------------------------------------------------


def test_inspect_tells_what_a_head_is_and_what_it_reads(model, head):
    folder = head("eagle3-reduced")
    document = json.loads(run("inspect", folder, "--target", model, "--json").stdout)
    assert document["target"] == str(model) and document["head"] == str(folder)
    assert (document["family"], document["hidden_size"], document["width"]) == ("eagle3", N_EMBD, N_EMBD)
    assert document["taps"] == [2, 4, 5] and document["tap_way"] == "captured"
    assert document["own_projection"] and not document["own_embedding"]
    half, full = document["bytes"]["bfloat16"], document["bytes"]["float32"]
    assert 2 * half["borrowed"] == full["borrowed"] == 4 * N_VOCAB * N_EMBD
    assert document["calibration"] == []
    text = run("inspect", folder, "--target", model).stdout
    for fact in ("eagle3", "inputs of layers 2, 4, 5", "1 of width 64", "theta 10000", "memory, bfloat16"):
        assert fact in text
    assert "callback" not in text


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("medusa", ["3, of 1 block(s) each", f"{N_VOCAB} tokens, its own projection", "post-norm rows"]),
        ("medusa-tied", ["the target's projection", "post-norm rows"]),
        ("eagle-bias", ["the target's projection", "post-norm rows", "4 heads of 16, 2 for keys"]),
        ("eagle3-own-embedding", ["inputs of layers 1, 3, 6 (config.json)", "its own projection"]),
    ],
)
def test_inspect_has_a_table_for_every_family(model, head, kind, facts):
    text = " ".join(run("inspect", head(kind), "--target", model).stdout.split())
    assert f"family {kind.partition('-')[0]}" in text
    for fact in facts:
        assert fact in text


def test_inspect_says_that_taps_come_by_callback(tiny, head):
    args = ["inspect", head("eagle3-reduced"), "--target", talker(tiny, "qwen2")]
    assert "through a callback" in run(*args).stdout
    assert json.loads(run(*args, "--json").stdout)["tap_way"] == "callback"


def test_calibration_tries_the_layers_beside_and_marks_the_best(model, head, monkeypatch):
    asked = []

    def tau(engine):
        asked.append(engine.drafter.taps.layers)
        return 2.0 if 3 in engine.drafter.taps.layers else 1.0

    monkeypatch.setattr("orchestrator.cli.inspect_head._tau", tau)
    args = ["inspect", head("eagle3-reduced"), "--target", model, "--calibrate"]
    text = run(*args).stdout
    assert asked == [(1, 3, 4), (2, 4, 5), (3, 5, 6)]
    assert text.count("<- best") == 2 and "layers 2,4,5" in text
    found = json.loads(run(*args, "--json").stdout)["calibration"]
    assert found[1] == {"taps": [2, 4, 5], "tau": 1.0}


def test_calibration_measures_tau_with_the_engine(model, head, monkeypatch):
    monkeypatch.setattr("orchestrator.cli.inspect_head._PROMPTS", ("the rest had",))
    monkeypatch.setattr(Engine, "load", partial(Engine.load, n_threads=1))
    args = ["inspect", head("eagle3-own-embedding"), "--target", model, "--calibrate", "--json"]
    found = json.loads(run(*args).stdout)["calibration"]
    assert [one["taps"] for one in found] == [[0, 2, 5], [1, 3, 6], [2, 4, N_LAYER - 1]]
    assert all(1.0 <= one["tau"] <= 5.0 for one in found)


def test_calibration_of_a_callback_target_leaves_out_layer_0(tiny, head, monkeypatch):
    monkeypatch.setattr("orchestrator.cli.inspect_head._tau", lambda engine: 1.0)
    args = ["inspect", head("eagle3-own-embedding"), "--target", talker(tiny, "qwen2"), "--calibrate"]
    found = json.loads(run(*args, "--json").stdout)["calibration"]
    assert [one["taps"] for one in found] == [[1, 3, 6], [2, 4, 7]]


def test_calibration_without_a_target_is_refused(head):
    assert "--calibrate needs --target" in run("inspect", head("medusa"), "--calibrate", code=2).stderr


# -- bench -------------------------------------------------------------------------------------


def test_bench_runs_heads_beside_plain_decoding(model, head):
    heads = ["--head", head("eagle3-reduced"), "--head", head("medusa"), "--method", "head"]
    done = run("bench", "--model", model, *BENCH, *heads, "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert [entry["settings"]["head"] for entry in found["configurations"]] == ["eagle3-reduced", "medusa"]
    for entry in found["configurations"]:
        assert entry["settings"]["method"] == "head" and entry["baseline"] == "plain"
        assert entry["overall"]["tau"] >= 1.0 and entry["overall"]["n_tokens"] == 12
        assert entry["identical"]["of"] == 1


def test_a_configuration_of_bench_may_name_a_head_and_its_settings(model, head):
    config = f"method=head head={head('eagle-bias')} head_dtype=float32 max_leaves=3 tree_depth=2"
    done = run("bench", "--model", model, *BENCH, "--config", config, "--json")
    (entry,) = json.loads(done.stdout.splitlines()[-1])["configurations"]
    assert entry["settings"]["tree_depth"] == 2 and entry["settings"]["head"] == "eagle-bias"
    table = run("bench", "--model", model, *BENCH, "--config", config).stdout
    assert "eagle-bias" in table


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("generate", ["--head", "HEAD", "--method", "suffix"], "method='suffix' does not use head="),
        ("generate", ["--head", "HEAD", "--draft", "MODEL"], "a head and a draft are given"),
        ("generate", ["--head", "no/where/at/all"], "no head 'no/where/at/all'"),
        ("generate", ["--method", "head"], "needs a head"),
        ("generate", ["--head", "NARROW"], "hidden size of 16, the target (llama) has 64"),
        (
            "generate",
            ["--head", "HEAD", "--set", "head_taps=1,2"],
            "head_taps names 2 layers, this head reads 3",
        ),
        ("generate", ["--head", "HEAD", "--set", "tree=3x2"], "an EAGLE tree grows"),
        ("bench", ["--head", "HEAD", "--method", "lookup"], "add --method head"),
        ("bench", ["--head", "no/where/at/all", "--method", "head"], "no head 'no/where/at/all'"),
        ("bench", ["--config", "method=head"], "needs a head"),
        ("inspect", ["NARROW"], "hidden size of 16, the target (llama) has 64"),
        ("inspect", ["no/where/at/all"], "no head 'no/where/at/all'"),
    ],
)
def test_what_cannot_be_run_is_one_line(model, head, tmp_path, command, options, message):
    narrow = save(
        tmp_path / "narrow", layouts.eagle_plain(layouts.EAGLE, layouts.eagle_tensors(layouts.EAGLE))
    )
    names = {"HEAD": head("eagle3-reduced"), "MODEL": model, "NARROW": narrow}
    options = [names.get(option, option) for option in options]
    start = {
        "generate": ["generate", model, "the rest", *GREEDY],
        "bench": ["bench", "--model", model, *BENCH],
        "inspect": ["inspect", "--target", model],
    }[command]
    result = run(*start, *options, code=1)
    line = result.stderr.splitlines()[-1]
    assert line.startswith("pilotfish: ") and message in line and "Traceback" not in result.output

"""Claims about `pilotfish bench` and its subcommands, on tiny models."""

import json

import pytest

from tests.cli_program import run

SINGLE = ("--threads", "1", "--n-ctx", "512")


@pytest.fixture
def model(tiny):
    return str(tiny("llama"))


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.jsonl"
    rows = [
        {"id": "a/1", "suite": "a", "category": "", "turns": ["the cat the cat the"]},
        {"id": "a/2", "suite": "a", "category": "", "turns": ["one two three", "once more"]},
        {"id": "b/1", "suite": "b", "category": "", "turns": ["the dog"]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def figures(*args, code=0):
    return json.loads(run(*args, "--json", code=code).stdout.splitlines()[-1])


def test_the_document_has_what_others_build_on(model, suite):
    found = figures(
        "bench", "--suite", suite, "--model", model, "--method", "lookup", "--max-tokens", 12, *SINGLE
    )
    keys = {"plain_tok_s", "tok_s", "speedup", "speedup_ci", "tau", "efficiency"}
    assert keys <= found["overall"].keys()
    assert all(keys <= found["suites"][name].keys() for name in "ab")
    assert found["identical"] == {"n": 4, "of": 4}
    assert found["protocol"]["n_requests"] == 4 and found["protocol"]["repeats"] == 2
    origin = found["provenance"]
    assert origin["model"]["sha256"] and origin["seed"] == 0 and origin["threads"] == 1
    assert origin["suites"][0]["sha256"] and origin["versions"]["llama-cpp-python"]
    assert found["configurations"][0]["settings"]["method"] == "lookup"
    assert [check["reference"] for check in found["baseline_check"]] == ["bare decodes"]


def test_per_suite_limits_and_a_table_is_for_people(model, suite):
    args = ["bench", "--suite", suite, "--per-suite", 1, "--repeats", 1, "--model", model, "--max-tokens", 8]
    result = run(*args, *SINGLE)
    assert "prompt 2 of 2" in result.stderr
    assert "lookup" in result.stdout or "auto" in result.stdout
    assert "overall" in result.stdout


def test_every_method_draft_and_configuration_runs_beside_its_own_baseline(model, tiny, suite):
    args = ["bench", "--prompt", "the cat", "--model", model, "--repeats", 1, "--max-tokens", 8, *SINGLE]
    methods = ["--method", "lookup", "--method", "model", "--draft", model]
    found = figures(*args, *methods, "--config", "method=lookup max_draft=2 temperature=0.9")
    names = [entry["name"] for entry in found["configurations"]]
    assert names[0] == "lookup" and names[1].startswith("model draft=")
    assert [entry["baseline"] for entry in found["configurations"]] == [
        "plain temperature=0.0",
        "plain temperature=0.0",
        "plain temperature=0.9",
    ]
    assert all(entry["identical"] == {"n": 1, "of": 1} for entry in found["configurations"])
    assert found["configurations"][1]["overall"]["tau"] > 1.5


def test_a_sweep_is_one_configuration_per_value(model):
    args = ["bench", "--prompt", "the cat the cat", "--model", model, "--repeats", 1, "--max-tokens", 8]
    found = figures(*args, "--method", "lookup", "--sweep", "max_draft=1,3", "--sweep", "context=64", *SINGLE)
    assert [entry["settings"]["max_draft"] for entry in found["configurations"]] == [1, 3]
    assert found["curves"][0]["n_past"] > 60


def test_without_end_tokens_every_answer_uses_up_its_budget(model, suite):
    args = ["bench", "--suite", suite, "--model", model, "--repeats", 1, "--max-tokens", 40, *SINGLE]
    found = figures(*args, "--ignore-eos")
    assert found["overall"]["n_tokens"] == found["overall"]["n_plain_tokens"] == 4 * 40
    assert "forbidden" in found["protocol"]["end_of_text"]


def test_synthetic_acceptance_is_marked_in_the_document_and_before_the_figures(model):
    args = ["bench", "--prompt", "the cat", "--model", model, "--repeats", 1, "--max-tokens", 40, *SINGLE]
    args += ["--method", "free", "--synthetic-accept", "1.0", "--max-draft", 3, "--ignore-eos"]
    (entry,) = figures(*args)["configurations"]
    assert "text is invalid" in entry["invalid_text"]
    assert entry["overall"]["histogram"] == {"4": 10}
    text = run(*args).stdout
    assert text.index("invalid") < text.index("overall")


def test_documents_are_written_compared_and_made_into_tables(model, tmp_path):
    args = ["bench", "--prompt", "the cat", "--model", model, "--repeats", 1, "--max-tokens", 8, *SINGLE]
    a, b = tmp_path / "new" / "a.json", tmp_path / "b.json"
    run(*args, "--out", a, "--plots", tmp_path / "plots")
    b.write_text(run(*args, "--json").stdout)
    assert list((tmp_path / "plots").glob("*.png"))
    assert "auto" in run("bench", "compare", a, b).stdout
    compared = json.loads(run("bench", "compare", a, b, "--json").stdout)
    assert compared["not_comparable"] == [] and compared["changes"][-1]["suite"] == "overall"
    text = run("bench", "results", a, b, "--title", "Figures", "--plots", tmp_path / "more").stdout
    assert text.startswith("# Figures")
    assert (tmp_path / "more" / "a").is_dir()


def test_a_target_without_rollback_is_measured_plainly(tiny):
    args = ["bench", "--prompt", "the cat", "--model", tiny("mamba"), "--repeats", 1, "--max-tokens", 8]
    found = figures(*args, *SINGLE)
    assert found["overall"]["tau"] == 1.0 and found["overall"]["efficiency"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "lookup", "--draft", "MODEL"], "add --method model"),
        (["--method", "magic"], "unknown method 'magic'"),
        (["--config", "speed=9"], "unknown setting 'speed'"),
        (["--peer", "vllm"], "unknown peer 'vllm'"),
        (["--peer", "llama-server"], "needs the path of a llama-server binary"),
        (["--max-tokens", "600"], "raise --n-ctx"),
        (["--method", "free"], "goes with --synthetic-accept"),
        (["--temperature", "-1"], "temperature must be >= 0"),
    ],
)
def test_what_cannot_be_run_is_one_line(model, args, message):
    args = [model if arg == "MODEL" else arg for arg in args]
    result = run("bench", "--prompt", "x", "--model", model, *SINGLE, *args, code=1)
    assert message in result.stderr and "Traceback" not in result.stderr


def test_an_interrupted_run_reports_what_it_has(model, suite, monkeypatch):
    from orchestrator.bench.runner import Runner

    ask = Runner._ask

    def interrupted(self, group, question):
        if question.id == "b/1":
            raise KeyboardInterrupt
        ask(self, group, question)

    monkeypatch.setattr(Runner, "_ask", interrupted)
    args = ["bench", "--suite", suite, "--model", model, "--repeats", 1, "--max-tokens", 8, *SINGLE]
    found = figures(*args, code=130)
    assert found["protocol"]["n_prompts"] == 2 and found["suites"].keys() == {"a"}

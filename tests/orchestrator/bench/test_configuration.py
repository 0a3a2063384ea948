"""Claims about what is compared: configurations, sweeps and the baselines they are paired with."""

import pytest

from orchestrator.bench.configuration import Configuration, configurations, plain_label
from orchestrator.cli.bench_plan import parse_config, parse_sweeps, variants
from orchestrator.errors import ConfigError


def labels(found):
    return [configuration.label for configuration in found]


def test_a_sweep_is_every_combination_and_the_label_says_which():
    sweeps = {"max_draft": [1, 3], "temperature": [0.0, 0.8]}
    found = configurations(Configuration(), [{"method": "lookup"}], sweeps)
    assert labels(found) == [
        "lookup max_draft=1 temperature=0.0",
        "lookup max_draft=1 temperature=0.8",
        "lookup max_draft=3 temperature=0.0",
        "lookup max_draft=3 temperature=0.8",
    ]
    assert found[3].settings == {"max_draft": 3, "temperature": 0.8}


def test_what_is_named_twice_runs_once():
    assert len(configurations(Configuration(), [{"method": "lookup"}, {"method": "lookup"}], {})) == 1


def test_the_baseline_has_the_target_and_the_sampling_but_not_the_speculation():
    settings = {"max_draft": 3, "rule": "block", "temperature": 0.8, "n_threads": 1}
    plain = Configuration("m", "model", "d", 512, settings).plain
    assert plain == Configuration("m", "none", None, 512, {"temperature": 0.8, "n_threads": 1})


def test_baselines_are_told_apart_by_what_differs():
    plain = [Configuration("m", "none", settings={"n_threads": n, "seed": 0}) for n in (1, 2)]
    assert [plain_label(p, plain) for p in plain] == ["plain n_threads=1", "plain n_threads=2"]
    assert plain_label(plain[0], plain[:1]) == "plain"


def test_the_common_draft_model_is_not_for_methods_without_one():
    found = configurations(Configuration(draft="d"), [{"method": "lookup"}, {"method": "model"}], {})
    assert [configuration.draft for configuration in found] == [None, "d"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Configuration(settings={"max_drafts": 3}), "did you mean max_draft"),
        (lambda: Configuration(context=0), "context must be at least 1"),
        (lambda: Configuration(method="free"), "--synthetic-accept RATE"),
        (lambda: Configuration(settings={"synthetic_accept": 1.5}), "between 0 and 1"),
        (lambda: Configuration(settings={"synthetic_accept": 0.5, "rule": "block"}), "takes the place"),
        (lambda: parse_config("max_draft"), "needs NAME=VALUE"),
        (lambda: parse_config("max_draft=x"), "must be a whole number"),
        (lambda: parse_config("max_draft=1 max_draft=2"), "sets max_draft twice"),
        (lambda: parse_config("a='"), "No closing quotation"),
        (lambda: parse_sweeps(["context=long"]), "number of tokens"),
        (lambda: parse_sweeps(["max_draft="]), "at least one value"),
        (lambda: parse_sweeps(["max_draft=1", "max_draft=2"]), "swept twice"),
        (lambda: variants(["lookup"], ["d"], []), "add --method model"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_loaded(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_synthetic_configuration_says_that_its_text_is_invalid():
    assert "text is invalid" in Configuration(settings={"synthetic_accept": 0.5}).invalid_text
    assert not Configuration().invalid_text


def test_options_become_variants():
    assert variants([], [], []) == [{"method": "auto"}]
    assert variants([], [], ["method=lookup max_draft=2"]) == [{"method": "lookup", "max_draft": 2}]
    assert variants(["lookup", "model"], ["a", "b"], []) == [
        {"method": "lookup"},
        {"method": "model", "draft": "a"},
        {"method": "model", "draft": "b"},
    ]
    assert parse_config("draft='my model.gguf' context=512") == {"draft": "my model.gguf", "context": 512}
    assert parse_sweeps(["draft=none,a.gguf", "temperature=0,0.8"]) == {
        "draft": [None, "a.gguf"],
        "temperature": [0.0, 0.8],
    }

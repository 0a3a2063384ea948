"""Claims about two documents side by side, and about reading them back."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bench.report.comparability import differences, reasons
from orchestrator.bench.report.comparison import changes, compare_documents, only_in
from orchestrator.bench.report.document_file import load_document
from orchestrator.errors import BenchError
from tests.orchestrator.bench.report.documents import (
    CODE,
    check,
    configuration,
    document,
    peer,
    protocol,
    provenance,
    score,
)

OTHER_MODEL = provenance(model={**provenance()["model"], "name": "gemma", "sha256": "ab" * 32})


def with_code(speedup: float, ci: tuple[float, float], **others: Any) -> dict[str, Any]:
    return document([configuration(suites={"code": score(speedup, ci, **others)})])


@pytest.mark.parametrize(
    ("ci", "overlap", "expected"),
    [
        ((1.3, 1.5), True, "no difference"),
        ((1.3, 1.4), True, "no difference"),
        ((1.31, 1.5), False, "faster"),
        ((1.0, 1.09), False, "slower"),
    ],
)
def test_intervals_decide_what_became_faster(ci: tuple[float, float], overlap: bool, expected: str) -> None:
    row, _ = changes(with_code(1.2, (1.1, 1.3)), with_code(sum(ci) / 2, ci))
    assert (row["suite"], row["overlap"], row["verdict"]) == ("code", overlap, expected)


def test_an_unknown_interval_decides_nothing() -> None:
    row, _ = changes(with_code(1.2, (1.1, 1.3)), with_code(9.0, (8.0, 9.9), speedup_ci=None))
    assert row["overlap"] is None and row["verdict"] is None


def test_ratios_are_of_b_to_a() -> None:
    slow = with_code(1.5, (1.4, 1.6), plain_tok_s=40.0, tok_s=60.0)
    row, _ = changes(with_code(1.5, (1.4, 1.6)), slow)
    assert row["tok_s_ratio"] == pytest.approx(0.5) and row["plain_tok_s_ratio"] == pytest.approx(0.5)
    assert row["verdict"] == "no difference"


def test_the_overall_row_closes_and_carries_what_is_identical() -> None:
    b = document([configuration(identical={"n": 6, "of": 8}, overall=score(1.4, tau=2.5))])
    *suites, overall = changes(document(), b)
    assert [row["suite"] for row in suites] == ["code", "chat"] and overall["suite"] == "overall"
    assert overall["identical_a"] == {"n": 8, "of": 8} and overall["identical_b"] == {"n": 6, "of": 8}
    assert (overall["tau_a"], overall["tau_b"]) == (2.25, 2.5)
    assert "same text: 8 of 8 in A, 6 of 8 in B" in compare_documents(document(), b)


def test_changes_can_be_written_as_json() -> None:
    rows = changes(document(), document(peers=[peer()]))
    assert json.loads(json.dumps(rows)) == rows


def test_a_machine_that_became_slower_is_told_from_a_drafter_that_did() -> None:
    slow = configuration(overall=score(1.4, plain_tok_s=40.0, tok_s=56.0))
    text = compare_documents(document(), document([slow]))
    assert "plain decoding beside lookup runs at x0.50 of its speed in A" in text
    assert "plain decoding beside" not in compare_documents(document(), document())


def test_another_model_is_not_comparable_and_that_comes_first() -> None:
    text = compare_documents(document(), document(provenance=OTHER_MODEL))
    first, second, *_ = text.splitlines()
    assert first == "not comparable because"
    assert second == "  model: smollm2 (3d3d3d3d3d3d) in A, gemma (abababababab) in B"
    assert "== lookup" in text and "no difference" in text


@pytest.mark.parametrize(
    "change", [{"max_tokens": 64}, {"end_of_text": "End tokens are ignored."}, {"n_prompts": 3}]
)
def test_other_lengths_of_answers_or_fewer_prompts_are_not_comparable(change: dict[str, Any]) -> None:
    (reason,) = reasons(document(), document(protocol=protocol(**change)))
    (name,) = change
    assert reason.startswith(f"{name}: ") and f"{change[name]} in B" in reason


def test_other_prompts_are_not_comparable_but_another_folder_is() -> None:
    moved = document(provenance=provenance(suites=[{"path": "/new/code.jsonl", "sha256": CODE}]))
    here = document(provenance=provenance(suites=[{"path": "code.jsonl", "sha256": CODE}]))
    assert reasons(here, moved) == []
    others = document(protocol=protocol(prompts_sha256="8d" * 32), provenance=provenance(suites=[]))
    (reason,) = reasons(here, others)
    assert reason.startswith("prompts: code.jsonl 1f1f1f1f1f1f in A, typed prompts in B")


def test_equal_documents_differ_in_nothing() -> None:
    assert reasons(document(), document()) == [] and differences(document(), document()) == []
    assert "not comparable" not in compare_documents(document(), document())


def test_versions_threads_command_and_protocol_are_named_without_forbidding() -> None:
    changed = provenance(threads=4, argv=["pilotfish", "bench"], versions={"numpy": "2.4.0"})
    b = document(provenance=changed, protocol=protocol(repeats=5))
    found = differences(document(), b)
    assert reasons(document(), b) == []
    assert [text.split(":")[0] for text in found] == [
        "argv",
        "threads",
        "llama-cpp-python",
        "numpy",
        "repeats",
    ]
    assert "llama-cpp-python: 0.3.36 in A, - in B" in found
    text = compare_documents(document(), b)
    assert text.index("threads: 2 in A, 4 in B") < text.index("== lookup")


def test_settings_behind_an_equal_name_are_compared() -> None:
    b = document([configuration(settings={"method": "lookup", "max_draft": 3})])
    assert differences(document(), b) == ["lookup, max_draft: 7 in A, 3 in B"]


def test_what_only_one_has_is_listed_and_not_compared() -> None:
    a = document([configuration("old"), configuration("both")])
    fewer = configuration("both", suites={"code": score()})
    b = document([fewer], peers=[peer("server")])
    assert only_in(a, b) == {"A": ["old", "both, chat"], "B": ["server"]}
    assert {row["configuration"] for row in changes(a, b)} == {"both"}
    text = compare_documents(a, b)
    assert "only in A\n  old\n  both, chat" in text and "only in B\n  server" in text


def test_warnings_of_either_document_are_repeated() -> None:
    doubtful = document([configuration(invalid_text="synthetic")], baseline_check=[check(0.7, ok=False)])
    first, second, *_ = compare_documents(document(), doubtful).splitlines()
    assert first.startswith("WARNING: in B, baseline plain runs at 0.700")
    assert second.startswith("WARNING: in B, the text of lookup is invalid: synthetic")


@pytest.mark.parametrize("before", ["", "a table\n\n{'no': json}\n"])
def test_a_document_is_read_alone_or_from_the_last_line(tmp_path: Path, before: str) -> None:
    file = tmp_path / "out.txt"
    file.write_text(f"{before}{json.dumps(document())}\n\n")
    assert load_document(file) == document()


def test_an_indented_document_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text(json.dumps(document(), indent=1))
    assert load_document(str(file)) == document()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON and its last line is not either"),
        ("tables\n{'single': 1}", "is not JSON .*'single'"),
        ('{"format": "pilotfish-bench/9"}', "'pilotfish-bench/9', this version reads 'pilotfish-bench/1'"),
        ('{"results": []}', "its format is None"),
        ("[1, 2]", "its format is None"),
    ],
)
def test_a_file_that_is_no_document_is_named_with_what_it_holds(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "out.json"
    file.write_text(content)
    with pytest.raises(BenchError, match=message) as caught:
        load_document(file)
    assert str(file) in str(caught.value)


def test_a_missing_or_unreadable_file_is_a_bench_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no file .*missing.json"):
        load_document(tmp_path / "missing.json")
    with pytest.raises(BenchError, match="cannot read"):
        load_document(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BenchError, match="cannot read .*binary"):
        load_document(tmp_path / "binary")

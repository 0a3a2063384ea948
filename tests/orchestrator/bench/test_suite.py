"""Claims about suite files."""

import json

import pytest

from orchestrator.bench.suite import Question, own_prompts, pick, read_suites
from orchestrator.errors import BenchError


def written(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return path


def test_our_own_schema(tmp_path):
    row = {"id": "x/1", "suite": "x", "category": "c", "turns": ["one", "two"], "source": "s"}
    assert read_suites([written(tmp_path / "a.jsonl", row)]) == [Question("x/1", "x", "c", ("one", "two"))]


def test_spec_bench_and_eagle_rows_are_grouped_as_their_tables_are(tmp_path):
    path = written(
        tmp_path / "question.jsonl",
        {"question_id": 81, "category": "writing", "turns": ["a", "b"]},
        {"question_id": 241, "category": "summarization", "turns": ["c"]},
        {"question_id": 1, "turns": ["d"], "reference": ["e"]},
    )
    assert [(q.id, q.suite) for q in read_suites([path])] == [
        ("81", "mt_bench"),
        ("241", "summarization"),
        ("1", "question"),
    ]


def test_a_line_separator_within_a_string_ends_no_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "turns": ["a\u2028b"]}\n\n', "utf-8")
    assert read_suites([path])[0].turns == ("a\u2028b",)


def test_a_folder_is_all_its_files_and_ours_has_ten_suites_of_ten_or_more():
    questions = read_suites([own_prompts()])
    suites = {question.suite for question in questions}
    assert len(suites) == 10
    assert all(sum(q.suite == suite for q in questions) >= 10 for suite in suites)


def test_the_first_of_each_suite_are_picked():
    questions = [Question(f"{suite}/{n}", suite, "", ("t",)) for n in range(3) for suite in "ab"]
    assert [q.id for q in pick(questions, 2)] == ["a/0", "b/0", "a/1", "b/1"]
    assert pick(questions, None) == questions


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "a.jsonl:1: not a line of JSON"),
        (["[1]"], "a.jsonl:1: must be a JSON object"),
        ([{"id": "1", "turns": "text"}], "`turns` must be a list"),
        ([{"id": "1", "turns": [""]}], "`turns` must be a list"),
        ([{"turns": ["a"]}], "needs an `id`"),
        ([{"id": "1", "turns": ["a"]}, {"id": "1", "turns": ["b"]}], "two questions have the id '1'"),
        (["", ""], "the suite is empty"),
    ],
)
def test_a_broken_suite_is_named_with_its_line(tmp_path, rows, message):
    with pytest.raises(BenchError, match=message.replace("[", r"\[")):
        read_suites([written(tmp_path / "a.jsonl", *rows)])


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe4"}')
    with pytest.raises(BenchError, match="cannot be read as a suite"):
        read_suites([tmp_path / "latin.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match=r"no \.jsonl file"):
        read_suites([tmp_path / "empty"])

"""What is made of a training set's prompts: more kinds, each once, the same for the same seed."""

import gzip
import json
import random

from bench.head_prompts import Row, functions, made, passages, questions, read_rows

TEXT = "The river Loire is the longest one of France. " * 15
ROWS = [
    Row(f"How long is the Loire?\n{TEXT}", "chat", "a"),
    Row(f"Sum up in a line.\n\nArticle: {TEXT}", "sum_qa", "b"),
    Row("Who wrote the first novel? What does this passage say? Tell me.", "chat", "a"),
    Row("Write a python function to find the longest of given words.", "code", "c"),
    Row("Two and two?", "math", "d"),
]


def test_passages_come_without_their_orders_and_with_questions_where_there_are_any():
    found = list(passages(ROWS))
    assert [(text.strip(), question) for text, question in found] == [
        (TEXT.strip(), "How long is the Loire?"),
        (TEXT.strip(), ""),
    ]


def test_questions_stand_alone():
    assert list(questions(ROWS)) == ["How long is the Loire?", "Who wrote the first novel?"]


def test_a_function_to_be_completed_is_named_after_what_it_does():
    (found,) = functions(ROWS, random.Random(0))
    assert found.startswith("Complete the code I provided.\n\ndef longest_words(")
    assert '"""Find the longest of given words.\n' in found


def test_every_kind_has_as_many_as_were_asked_for_and_none_comes_twice():
    rows = ROWS * 2
    found = made(rows, 1, seed=3)
    kinds = [kind for kind, _ in found]
    assert sorted(kinds) == ["chat", "code", "completion", "math", "qa", "rag", "sum_qa", "summarization"]
    assert len({prompt for _, prompt in found}) == len(found)
    assert found == made(rows, 1, seed=3)


def test_rows_are_read_packed_or_not(tmp_path):
    line = json.dumps({"prompt": "p", "kind": "chat", "source": "s", "response": "r"}) + "\n"
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    rows = [read_rows(tmp_path / name) for name in ("a.jsonl", "a.jsonl.gz")]
    assert rows[0] == rows[1] == [Row("p", "chat", "s")]

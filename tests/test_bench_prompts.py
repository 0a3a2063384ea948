"""The bench's prompts have the schema and the lengths that their README promises; no model is run."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "bench" / "prompts"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
TABLE = {
    suite: tuple(map(int, numbers.split("|")))
    for suite, numbers in re.findall(r"^\| `(\w+)` \|([\d |]+)\|$", README, re.MULTILINE)
}
SUITES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
KEYS = ["id", "suite", "category", "turns", "source"]


def rows(suite: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def words(row: dict[str, Any]) -> int:
    return len(" ".join(row["turns"]).split())


def first_turns(suite: str) -> list[str]:
    return [row["turns"][0] for row in rows(suite)]


def test_the_readme_names_every_suite():
    assert sorted(TABLE) == SUITES
    assert len(SUITES) == 9


@pytest.mark.parametrize("suite", SUITES)
def test_every_row_has_the_schema_and_names_its_file(suite):
    for number, row in enumerate(rows(suite), 1):
        assert list(row) == KEYS
        assert (row["id"], row["suite"], row["source"]) == (f"{suite}/{number:02}", suite, "pilotfish")
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", row["category"])
        assert row["turns"] and all(turn and turn == turn.strip() for turn in row["turns"])


def test_ids_and_prompts_are_unique():
    all_rows = [row for suite in SUITES for row in rows(suite)]
    assert len({row["id"] for row in all_rows}) == len(all_rows)
    assert len({turn.casefold() for row in all_rows for turn in row["turns"]}) == sum(
        len(row["turns"]) for row in all_rows
    )


@pytest.mark.parametrize("suite", SUITES)
def test_counts_and_lengths_are_those_of_the_readme(suite):
    lengths = [words(row) for row in rows(suite)]
    assert len(lengths) >= 10
    assert TABLE[suite] == (len(lengths), min(lengths), int(statistics.median(lengths)), max(lengths))


def test_only_chat_has_second_turns_and_half_of_it_does():
    n_turns = {suite: sorted(len(row["turns"]) for row in rows(suite)) for suite in SUITES}
    assert n_turns.pop("chat") == [1] * 6 + [2] * 6
    assert {count for counts in n_turns.values() for count in counts} == {1}


def test_long_context_documents_are_long():
    documents = [turn.split("\n\n", 1)[1] for turn in first_turns("long_context")]
    assert min(len(document.split()) for document in documents) >= 1000


def test_rag_prompts_number_three_to_five_passages_of_sixty_words_or_more():
    for prompt in first_turns("rag"):
        passages = re.findall(r"^[\[(](\d)[\])] (.+)$", prompt, re.MULTILINE)
        assert [int(number) for number, _ in passages] == list(range(1, len(passages) + 1))
        assert 3 <= len(passages) <= 5
        assert all(60 <= len(text.split()) <= 150 for _, text in passages)


def test_code_to_be_edited_is_one_block_of_thirty_to_seventy_lines():
    for prompt in first_turns("code_editing"):
        (code,) = re.findall(r"^```\w+\n(.*?)^```$", prompt, re.MULTILINE | re.DOTALL)
        assert 30 <= len(code.splitlines()) <= 70


def test_python_to_be_edited_compiles():
    sources = re.findall(
        r"^```python\n(.*?)^```$", "\n".join(first_turns("code_editing")), re.MULTILINE | re.DOTALL
    )
    assert len(sources) >= 5
    for source in sources:
        compile(source, "prompt", "exec")

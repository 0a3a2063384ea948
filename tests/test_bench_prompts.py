"""The bench's prompts have the schema and the lengths that their READMEs promise; no model is run."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"
FOLDER = BENCH / "prompts"
ADVERSARIAL = BENCH / "prompts_adversarial"
FILES = {path.stem: path for folder in (FOLDER, ADVERSARIAL) for path in folder.glob("*.jsonl")}
SUITES = sorted(FILES)
KEYS = ["id", "suite", "category", "turns", "source"]


def rows(suite: str) -> list[dict[str, Any]]:
    lines = FILES[suite].read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def promised(folder: Path) -> dict[str, tuple[int, ...]]:
    """The README's table: rows, then the shortest, the median and the longest prompt in words, by suite."""
    table = re.findall(r"^\| `(\w+)` \|([\d |]+)\|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    return {suite: tuple(map(int, numbers.split("|"))) for suite, numbers in table}


def words(row: dict[str, Any]) -> int:
    return len(" ".join(row["turns"]).split())


def first_turns(suite: str) -> list[str]:
    return [row["turns"][0] for row in rows(suite)]


def blocks(text: str, language: str = r"\w+") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("folder", "count"), [(FOLDER, 10), (ADVERSARIAL, 2)])
def test_the_readme_names_every_suite(folder, count):
    assert sorted(promised(folder)) == sorted(path.stem for path in folder.glob("*.jsonl"))
    assert len(promised(folder)) == count


def test_the_readme_counts_the_prompts():
    total = sum(rows for rows, *_ in promised(FOLDER).values())
    assert f"{total} prompts in ten suites" in (FOLDER / "README.md").read_text("utf-8")


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
    expected = (len(lengths), min(lengths), int(statistics.median(lengths)), max(lengths))
    assert promised(FILES[suite].parent)[suite] == expected


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
        (code,) = blocks(prompt)
        assert 30 <= len(code.splitlines()) <= 70


@pytest.mark.parametrize(("suite", "count"), [("code_editing", 5), ("copy", 2)])
def test_python_to_be_edited_compiles(suite, count):
    sources = [found[0] for prompt in first_turns(suite) if (found := blocks(prompt, "python"))]
    assert len(sources) >= count
    for source in sources:
        compile(source, "prompt", "exec")


def test_what_is_to_be_copied_is_code_text_and_json_in_turn():
    copies = first_turns("copy")
    assert len(copies) == 24
    for code, *opening in map(blocks, copies[::3]):
        assert 25 <= len(code.splitlines()) <= 60
        assert all(code.startswith(lines) for lines in opening)
    assert not any("```" in text for text in copies[1::3])
    assert all("JSON" in text.split("\n\n")[0] for text in copies[2::3])


def test_json_to_be_copied_parses():
    # whole documents stand from the first bracket to the last; templates are followed by their text
    asked = [row["turns"][0] for row in rows("copy") if row["category"].startswith("json-")]
    assert len(asked) == 4
    for prompt in asked:
        assert json.loads(re.search(r"^[\[{].*^[\]}]$", prompt, re.MULTILINE | re.DOTALL)[0])


def test_lookup_finds_matches_among_the_random_words_and_most_mislead():
    for prompt in first_turns("random_words"):
        noise = re.findall(r"[^\W_]+", prompt.split("\n\n", 1)[1])
        assert 60 <= len(noise) <= 180
        newest: dict[str, str] = {}
        guesses = []
        for word, following in zip(noise, noise[1:], strict=False):
            guesses += [newest[word] == following] if word in newest else []
            newest[word] = following
        assert len(guesses) >= 60
        assert sum(guesses) <= len(guesses) / 4


def test_scrambled_phrases_return_with_something_else_behind_them():
    for prompt in first_turns("scrambled_phrases"):
        salad = prompt.split("\n\n", 1)[1].split()
        runs = list(zip(salad, salad[1:], salad[2:], strict=False))
        followers: dict[tuple[str, str], set[str]] = {}
        for first, second, third in runs:
            followers.setdefault((first, second), set()).add(third)
        returning = [pair for pair, after in followers.items() if len(after) > 1]
        assert len(returning) >= 30

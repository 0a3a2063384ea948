"""Prompts of a benchmark: JSON lines in our own schema, Spec-Bench's or EAGLE's.

ours: `id, suite, category, turns[]`. Spec-Bench and EAGLE (`question.jsonl`): `question_id, category,
turns[]`. Knows files and rows; nothing of models.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from orchestrator.errors import BenchError

# MT-Bench's categories are one suite in Spec-Bench's tables
MT_BENCH = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation: the user's turns, to be answered one after the other."""

    id: str
    suite: str
    category: str
    turns: tuple[str, ...]


def own_prompts() -> Path:
    """The folder of the prompts that come with pilotfish."""
    packaged = Path(str(files("orchestrator.bench"))) / "prompts"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "bench" / "prompts"


def read_suites(paths: Iterable[Path]) -> list[Question]:
    """The questions of several files, or folders of `.jsonl` files; an id may occur once only."""
    questions = [question for path in paths for file in _files(path) for question in _read(file)]
    seen: dict[str, Question] = {}
    for question in questions:
        if question.id in seen:
            raise BenchError(f"two questions have the id {question.id!r}; give each suite file once")
        seen[question.id] = question
    return questions


def pick(questions: Iterable[Question], per_suite: int | None) -> list[Question]:
    """The first `per_suite` questions of each suite, None = all, in their order."""
    seen: Counter[str] = Counter()
    picked = []
    for question in questions:
        seen[question.suite] += 1
        if per_suite is None or seen[question.suite] <= per_suite:
            picked.append(question)
    return picked


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise BenchError(f"{path}: no .jsonl file in this folder")
    return found


def _read(path: Path) -> list[Question]:
    try:
        lines = path.read_text("utf-8").split("\n")  # not splitlines: JSON allows U+2028 in a string
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read as a suite: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise BenchError(f"{path}: the suite is empty; write one JSON object a line")
    return [_question(line, f"{path}:{number}", path.stem) for number, line in numbered]


def _question(line: str, place: str, stem: str) -> Question:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BenchError(f"{place}: not a line of JSON: {error}") from error
    if not isinstance(row, Mapping):
        raise BenchError(f"{place}: must be a JSON object with `turns`, got {line[:60]!r}")
    turns = row.get("turns")
    texts = isinstance(turns, list) and turns and all(isinstance(turn, str) and turn for turn in turns)
    if not texts:
        raise BenchError(f"{place}: `turns` must be a list of the user's messages, got {turns!r}")
    identity = row.get("id", row.get("question_id"))
    if identity is None:
        raise BenchError(f"{place}: the row needs an `id` (or `question_id`)")
    category = str(row.get("category", ""))
    return Question(str(identity), _suite(row, category, stem), category, tuple(row["turns"]))


def _suite(row: Mapping[str, Any], category: str, stem: str) -> str:
    if "suite" in row:
        return str(row["suite"])
    return "mt_bench" if category in MT_BENCH else category or stem

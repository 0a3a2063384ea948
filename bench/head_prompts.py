"""Prompts of more kinds out of a training set of a few, for a head that shall draft for all of them.

usage: python bench/head_prompts.py DATA OUT [--per-kind N] [--seed N]

DATA: JSON lines (.gz, too) with prompt, kind (math, code, sum_qa, roleplay, chat) and source, as the training
set of the head that comes with pilotfish has them. OUT: JSON lines with kind and prompt, in a random order:
the set's own prompts, and what can be made of their texts: passages to be summarized, passages with a
question behind them, questions alone, and functions to be completed from what they shall do. Nothing of the
set's answers is used: the target writes its own.
"""

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_PASSAGE, _LONGEST = 500, 2200  # characters
_QUESTION = re.compile(r"(who|when|where|what|how|which|why)\b.{15,85}\?", re.IGNORECASE)
_POINTS_ELSEWHERE = re.compile(
    r"\b(this|above|following|given|these|passage|article|text|summary|review|sentence|keywords)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(article|text|passage|document|review|context)\s*:\s*", re.IGNORECASE)
_ORDER = re.compile(r"^write a (python )?function (to|that|which)?\s*", re.IGNORECASE)
_SMALL_WORDS = frozenset(
    "a an the to of in from for that and python find given check using by with if is whether it its or on "
    "into as each are all".split()
)
_PARAMETERS = ("l: list", "s: str", "n: int", "lst", "text", "numbers: List[int]", "a: int, b: int", "x")


class Row(NamedTuple):
    """A prompt of the training set."""

    prompt: str
    kind: str
    source: str


def read_rows(path: Path) -> list[Row]:
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        found = (json.loads(line) for line in file)
        return [Row(one["prompt"], one["kind"], one["source"]) for one in found]


class Passage(NamedTuple):
    """A text, and the question that its prompt asked about it, if that could be told."""

    text: str
    question: str


def passages(rows: Iterable[Row]) -> Iterator[Passage]:
    for row in rows:
        first, _, rest = row.prompt.partition("\n")
        if len(rest) > _PASSAGE and first.endswith("?"):
            yield Passage(rest.strip()[:_LONGEST], first.strip())
        elif row.kind == "sum_qa":
            text = _LABEL.sub("", max(row.prompt.split("\n"), key=len).strip())
            if len(text) > _PASSAGE:
                yield Passage(text[:_LONGEST], "")


def questions(rows: Iterable[Row]) -> Iterator[str]:
    """Questions that stand alone, out of prompts about texts and of chats."""
    for row in rows:
        if row.kind in ("sum_qa", "chat"):
            for sentence in re.split(r"(?<=[.?!])\s+|\n", row.prompt):
                if _QUESTION.fullmatch(sentence) and not _POINTS_ELSEWHERE.search(sentence):
                    yield sentence[0].upper() + sentence[1:]


def functions(rows: Iterable[Row], rng: random.Random) -> Iterator[str]:
    """Functions to be completed, from short orders to write one."""
    for row in rows:
        what, n = _ORDER.subn("", row.prompt)
        if n and row.kind == "code" and "\n" not in what:
            words = [word for word in re.findall(r"[a-z]+", what.lower()) if word not in _SMALL_WORDS][:3]
            signature = f"def {'_'.join(words) or 'solve'}({rng.choice(_PARAMETERS)}):"
            text = what[:1].upper() + what[1:]
            yield f'Complete the code I provided.\n\n{signature}\n    """{text}\n    """\n'


def made(rows: list[Row], per_kind: int, seed: int) -> list[tuple[str, str]]:
    """(kind, prompt), at most `per_kind` of each kind and no prompt twice."""
    rng = random.Random(seed)
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row.kind].append(row.prompt)
    for passage in passages(rows):
        found["summarization"].append(f"Summarize: {passage.text}")
        if passage.question:
            found["rag"].append(f"{passage.text}\n{passage.question}")
    found["qa"] += questions(rows)
    found["completion"] += functions(rows, rng)
    chosen: dict[str, str] = {}
    for kind, prompts in found.items():
        several = sorted(set(prompts))
        chosen |= {prompt: kind for prompt in rng.sample(several, min(per_kind, len(several)))}
    shuffled = [(kind, prompt) for prompt, kind in chosen.items()]
    rng.shuffle(shuffled)
    return shuffled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-kind", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prompts = made(read_rows(options.data), options.per_kind, options.seed)
    lines = (json.dumps({"kind": kind, "prompt": prompt}) + "\n" for kind, prompt in prompts)
    options.out.write_text("".join(lines), encoding="utf-8")
    kinds = sorted({kind for kind, _ in prompts})
    print(", ".join(f"{kind} {sum(one == kind for one, _ in prompts)}" for kind in kinds))


if __name__ == "__main__":
    main()

"""Answer a question over a folder of documents, with quotes, and see what was copied from where.

usage: python examples/rag.py [QUESTION] [FOLDER]       (pip install "pilotfish[demo,examples]")
"""

import re
import sys
from pathlib import Path

from rank_bm25 import BM25Okapi

from orchestrator import Engine

QUESTION = "When does the ferry leave Norrhamn, and what does a return ticket cost? Quote the sentences."
PROMPT = "Answer the question from these passages. Quote them word for word.\n\n{}\n\nQuestion: {}"


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def main(question: str = QUESTION, folder: str = str(Path(__file__).parent / "documents")) -> None:
    documents = {path.name: path.read_text() for path in sorted(Path(folder).glob("*.txt"))}
    scores = BM25Okapi(list(map(words, documents.values()))).get_scores(words(question))
    best = [name for _, name in sorted(zip(scores, documents, strict=True), reverse=True)[:2]]
    passages = "\n\n".join(f"[{name}]\n{documents[name]}" for name in best)

    with Engine.load("smollm2", temperature=0) as engine:
        archive = engine.prepare(documents)  # indexed once, for all questions
        messages = [{"role": "user", "content": PROMPT.format(passages, question)}]
        result = engine.chat(messages, references=archive, max_tokens=128)
        print(result.text, "\n")
        for quote in result.stats.quotes:
            copied = engine.tokenizer.decode(result.tokens[quote.at : quote.at + quote.n_tokens])
            print(f"copied from {quote.document}, token {quote.offset}: {copied!r}")
        print(result.stats.summary())


if __name__ == "__main__":
    main(*sys.argv[1:])

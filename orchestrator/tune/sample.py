"""Running text for a perplexity where the user gives none: the long prompts that come with pilotfish."""

from itertools import zip_longest

from orchestrator.bench.suite import own_prompts, read_suites

SUITES = ("summarization", "rag", "long_context")  # articles, passages, documents
MAX_TOKENS = 4096


def sample_text() -> str:
    """The prompts, one of each suite in turn."""
    suites = [
        [turn for question in read_suites([own_prompts() / f"{suite}.jsonl"]) for turn in question.turns]
        for suite in SUITES
    ]
    return "\n\n".join(text for texts in zip_longest(*suites) for text in texts if text)

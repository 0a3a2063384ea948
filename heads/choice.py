"""Which head a name means: a folder, a repository, or the best that is known for a target.

Knows the names "auto" and "default"; where heads come from is for heads.pairs and heads.shipped.
"""

import logging
from pathlib import Path

from adapters.errors import HeadError
from adapters.gguf_file import GgufFacts, read_gguf
from heads.pairs import PAIRS, published_heads
from heads.shipped import SHIPPED, shipped_head

logger = logging.getLogger("pilotfish.head")

AUTO = "auto"  # the best head of a target, wherever it is
DEFAULT = "default"  # the one that comes with pilotfish


def chosen_head(name: str | Path, target: Path) -> str | Path:
    """`name` itself, or what "auto" and "default" mean for the GGUF `target`, with a line in the log.

    Raises HeadError where no head is known.
    """
    if name not in (AUTO, DEFAULT):
        return name
    facts = read_gguf(target)
    shipped = shipped_head(facts)
    if shipped is not None:
        logger.info("head of %s: %s, which comes with pilotfish", facts.name, shipped.name)
        return shipped
    if name == DEFAULT:
        known = ", ".join(dict.fromkeys(head.original.name for head in SHIPPED))
        raise HeadError(
            f"head='default': no head for {_described(facts)} comes with pilotfish, only for {known}; "
            "name one, try head='auto', or train one: pilotfish train --help"
        )
    return _published(facts)


def _published(facts: GgufFacts) -> str:
    pairs = published_heads(facts)
    if not pairs:
        known = ", ".join(dict.fromkeys(pair.model for pair in PAIRS))
        raise HeadError(
            f"head='auto': no head is known for {_described(facts)}; name one, as a folder or owner/repo, or "
            f"train one: pilotfish train --help. Heads are known for {known}"
        )
    best = pairs[0]
    logger.info("head of %s: %s (%s)%s", best.model, best.head, best.family, best.note and f"; {best.note}")
    return best.head


def _described(facts: GgufFacts) -> str:
    return (
        f"{facts.name} ({facts.architecture}, {facts.n_layer} layers of width {facts.n_embd}, "
        f"{facts.n_vocab} tokens)"
    )

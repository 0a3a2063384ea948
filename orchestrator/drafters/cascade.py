"""Cheap guesses first: what followed in the text, then a model's or a head's chain, lengthened by the text.

Knows how to put two drafters' guesses into one tree; the planner says whether the dearer one is asked.
"""

from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.gated import GatedDrafter
from orchestrator.drafters.setup import Setup
from orchestrator.drafters.suffix import SuffixDrafter
from orchestrator.drafters.suffix import build as build_suffix
from orchestrator.errors import ConfigError


class CascadeDrafter(GatedDrafter):
    """A suffix drafter in front of one that takes time."""

    def __init__(self, suffix: SuffixDrafter, stage: Drafter, *, leaves: int = 1) -> None:
        """leaves > 1: both guesses as branches of one tree; else one or the other."""
        super().__init__(stage)
        self.name, self._suffix, self.leaves = "cascade", suffix, max(leaves, stage.leaves)
        self.max_draft = max(suffix.max_draft, stage.max_draft)

    def begin(self, context: Context) -> None:
        self._suffix.begin(context)
        super().begin(context)

    def propose(self, context: Context, budget: int) -> Draft:
        copied = self._suffix.propose(context, budget)
        guessed = self._asked(context, copied, budget)
        if len(guessed) == 0:
            return copied
        lengthened = self._lengthened(guessed, budget)
        return merged(lengthened, copied) if self.leaves > 1 and len(copied) else lengthened

    def _lengthened(self, guessed: Draft, budget: int) -> Draft:
        """A chain goes on with what followed its end in the text, where that is known."""
        missing = budget - len(guessed)
        if missing <= 0 or not guessed.is_chain:
            return guessed
        more = self._suffix.extend_chain(guessed.tokens.tolist(), missing)
        if not more.tokens:
            return guessed
        n, n_more = len(guessed), len(more.tokens)
        return Draft.tree(
            [*guessed.tokens.tolist(), *more.tokens],
            range(-1, n + n_more - 1),
            [*guessed.prob.tolist(), *more.prob],
            source=guessed.source,
            sources=(guessed.source,) * n + (self._suffix.name,) * n_more,
            origin=(-1,) * n + tuple(more.origin),
        )

    def locate(self, origin: int) -> tuple[str, int] | None:
        return self._suffix.locate(origin)

    def forget(self) -> None:
        self._suffix.forget()
        super().forget()


def merged(first: Draft, second: Draft) -> Draft:
    """One tree of both: where they agree they share nodes, which then belong to `first`."""
    tokens, parents, probs = first.tokens.tolist(), first.parents.tolist(), first.prob.tolist()
    sources = list(first.sources or (first.source,) * len(first))
    origin = list(first.origin or (-1,) * len(first))
    nodes = {(parent, token): node for node, (parent, token) in enumerate(zip(parents, tokens, strict=True))}
    place = {-1: -1}
    for node, (parent, token) in enumerate(zip(second.parents.tolist(), second.tokens.tolist(), strict=True)):
        key = (place[parent], token)
        if key not in nodes:
            nodes[key] = len(tokens)
            tokens.append(token)
            parents.append(key[0])
            probs.append(float(second.prob[node]))
            sources.append(second.sources[node] if second.sources else second.source)
            origin.append(second.origin[node] if second.origin else -1)
        place[node] = nodes[key]
    return Draft.tree(
        tokens, parents, probs, source=first.source, sources=tuple(sources), origin=tuple(origin)
    )


def build(setup: Setup) -> CascadeDrafter:
    """The `cascade` method: suffix drafting, and a head or a draft model behind it."""
    from orchestrator.drafters.head import build as build_head
    from orchestrator.drafters.model import build as build_model

    if setup.draft is None and setup.head is None:
        raise ConfigError(
            "method='cascade' needs a head (head=...) or a draft model (draft='a-smaller.gguf')"
        )
    stage = build_model(setup) if setup.head is None else build_head(setup)
    return CascadeDrafter(build_suffix(setup), stage, leaves=setup.speculation.max_leaves)

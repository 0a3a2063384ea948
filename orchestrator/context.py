"""The text of one request as token ids: what was given and what has been emitted."""

from collections.abc import Iterable, Sequence

from orchestrator.sampler import Sampler
from orchestrator.suffix.references import References


class Context:
    """Prompt and emitted tokens of one request.

    tokens: all of them, the newest (the root) last; read it, do not change it. sampler: how the target
    chooses, for drafters that want to guess with the same law and the same noise. references: documents
    that the answer may quote, in the prompt or not.
    """

    __slots__ = ("n_prompt", "references", "sampler", "tokens")

    def __init__(self, prompt: Sequence[int], sampler: Sampler, references: References | None = None) -> None:
        self.references = references
        self.tokens = list(prompt)
        self.n_prompt = len(self.tokens)
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_emitted(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def emitted(self) -> list[int]:
        """The emitted tokens; a copy."""
        return self.tokens[self.n_prompt :]

    def extend(self, tokens: Iterable[int]) -> None:
        self.tokens.extend(tokens)

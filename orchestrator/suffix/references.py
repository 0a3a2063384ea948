"""Documents whose stretches may come up again in what is generated, indexed once for many requests.

Knows token ids and names; nothing of tokenizers (it is given one) or drafts.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.suffix.automaton import Cursor, SuffixAutomaton
from orchestrator.suffix.file import read_automaton, write_automaton

RESERVED = ("prompt", "output")


class References:
    """Tokenized documents in one automaton; read only, so requests may share it.

    automaton: all documents, each followed by a negative token of its own; its counts are exact.
    names: of the documents, in their order.
    """

    def __init__(self, automaton: SuffixAutomaton, names: Sequence[str], fingerprint: str = "") -> None:
        """What `of`, `from_texts` and `load` build; automaton: settled, one separator per name.

        fingerprint: of the vocabulary that the ids belong to; empty = unknown.
        """
        self.automaton, self.names, self.fingerprint = automaton, tuple(names), fingerprint
        ends = [i for i, token in enumerate(automaton.tokens) if token < 0]
        self._starts = [0, *(end + 1 for end in ends[:-1])] if ends else []

    @classmethod
    def of(cls, documents: Mapping[str, Sequence[int]], fingerprint: str = "") -> "References":
        """Index documents that are given as token ids by name."""
        automaton = SuffixAutomaton(reach=0)  # counted once, at the end
        for number, (name, ids) in enumerate(documents.items(), start=1):
            if name in RESERVED:
                raise ConfigError(f"a reference cannot be called {name!r}: that is the request's own text")
            for token in ids:
                if token < 0:
                    raise ConfigError(
                        f"reference {name!r} holds token {token}; give token ids of 0 and above"
                    )
                automaton.extend(int(token))
            automaton.extend(-number)
        automaton.settle()
        return cls(automaton, list(documents), fingerprint)

    @classmethod
    def from_texts(
        cls,
        texts: Mapping[str, str] | Sequence[str],
        encode: Callable[[str], list[int]],
        fingerprint: str = "",
    ) -> "References":
        """Tokenize and index texts; those of a sequence are named "0", "1", ..."""
        if isinstance(texts, str):
            raise ConfigError("references must be several texts: give [text] for a single one")
        named: Iterable[tuple[str, str]] = (
            texts.items() if isinstance(texts, Mapping) else ((str(i), text) for i, text in enumerate(texts))
        )
        return cls.of({name: encode(text) for name, text in named}, fingerprint)

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return len(self.automaton.tokens) - len(self.names)

    def cursor(self) -> Cursor:
        """Where a new request's text stands in the references: nowhere yet."""
        return Cursor(self.automaton)

    def locate(self, position: int) -> tuple[str, int]:
        """The document that holds the automaton's token at `position`, and the index within it."""
        if not 0 <= position < len(self.automaton.tokens):
            raise ConfigError(
                f"the references have no token {position}; positions go from 0 to "
                f"{len(self.automaton.tokens) - 1}"
            )
        document = bisect_right(self._starts, position) - 1
        return self.names[document], position - self._starts[document]

    def save(self, path: str | Path) -> None:
        """Write the index, with the fingerprint of its vocabulary."""
        write_automaton(Path(path), self.automaton, self.names, self.fingerprint)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str) -> "References":
        """An index that was saved for the same vocabulary; ConfigError for any other file."""
        return cls(*read_automaton(Path(path), fingerprint), fingerprint)

    def require_vocabulary(self, fingerprint: str) -> None:
        """Raise ConfigError where the ids belong to another vocabulary; unknown ones are trusted."""
        if self.fingerprint not in ("", fingerprint):
            raise ConfigError(
                "the references were prepared for another vocabulary; prepare them with this model's engine"
            )

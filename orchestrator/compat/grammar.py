"""llama-cpp-python's LlamaGrammar: GBNF, or a JSON schema turned into it, as an object."""

from pathlib import Path

from adapters.errors import GrammarError
from adapters.grammar import schema_to_gbnf


class LlamaGrammar:
    """GBNF that a completion must fit; llama-cpp-python's own objects are taken as well."""

    def __init__(self, *, _grammar: str) -> None:
        self._grammar = _grammar

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> "LlamaGrammar":
        """A grammar from GBNF; it is read when it is used. verbose: there is nothing to say."""
        return cls(_grammar=grammar)

    @classmethod
    def from_file(cls, file: str | Path, verbose: bool = True) -> "LlamaGrammar":
        """A grammar from a file of GBNF; raises GrammarError where it cannot be read."""
        try:
            return cls(_grammar=Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GrammarError(f"{file}: cannot be read as a grammar: {error}") from error

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> "LlamaGrammar":
        """The grammar of all JSON texts that fit a JSON schema."""
        return cls(_grammar=schema_to_gbnf(json_schema))

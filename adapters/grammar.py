"""GBNF grammars and JSON schemas, through llama.cpp's own grammar sampler.

Every token is checked before it is accepted: accepting a token that the grammar refuses would abort
the process.
"""

import ctypes
import json
import re
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapters.errors import GrammarError
from adapters.llama_lib import complaint, last_complaint, library
from adapters.llama_model import LlamaModel
from adapters.settings import require
from adapters.target import FloatArray

# llama_token_data
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)


# llama.cpp's parser recurses without bounds, and the converter of schemas writes out what it counts: more
# than this ends the process
MOST_RULES = 20_000
MOST_NESTED = 5_000  # parentheses
MOST_REPEATED = 10_000

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')
_TIMES = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_BOUNDS = ("minLength", "maxLength", "minItems", "maxItems")


class LlamaGrammar:
    """The state of one text within a grammar."""

    def __init__(self, model: LlamaModel, gbnf: str, root: str = "root") -> None:
        """Raises GrammarError where llama.cpp cannot parse `gbnf` or it has no rule `root`."""
        if not gbnf.strip() or "\0" in gbnf:  # llama.cpp would take it for no constraint, or read a part
            raise GrammarError(
                f"the grammar is empty or holds a NUL character; give GBNF with a rule {root!r}"
            )
        _require_modest(gbnf)
        try:
            data = gbnf.encode()
        except UnicodeEncodeError as error:
            raise GrammarError(
                f"the grammar holds half a character at {error.start}; give whole ones"
            ) from error
        self._lib = library()
        with last_complaint() as lines:
            self._sampler = self._lib.llama_sampler_init_grammar(model.vocab, data, root.encode())
        if not self._sampler:
            raise GrammarError(f"llama.cpp does not accept the grammar: {complaint(lines)}")
        self._close = weakref.finalize(self, self._lib.llama_sampler_free, self._sampler)
        self._model = model  # the vocabulary must outlive the sampler
        self._one = np.zeros(1, _CANDIDATE)
        self._ids = np.arange(model.n_vocab, dtype=np.int32)

    @classmethod
    def from_schema(cls, model: LlamaModel, schema: str | Mapping[str, Any]) -> "LlamaGrammar":
        """The grammar of all JSON texts that fit a JSON schema."""
        return cls(model, schema_to_gbnf(schema))

    def allows(self, token: int) -> bool:
        """Whether the text may go on with `token`."""
        # llama.cpp throws through C for an unknown id, which ends the process
        n_vocab = len(self._ids)
        require(0 <= token < n_vocab, f"token {token} is not among the {n_vocab} of the vocabulary")
        self._one["id"], self._one["logit"] = token, 1.0
        self._apply(self._one)
        return bool(self._one["logit"][0] > -np.inf)

    def mask(self, logits: FloatArray) -> FloatArray:
        """A copy of `logits [n_vocab]` with -inf at every token that may not follow."""
        candidates = np.zeros(len(logits), _CANDIDATE)
        candidates["id"], candidates["logit"] = self._ids, logits
        self._apply(candidates)
        return candidates["logit"].copy()

    def _apply(self, candidates: Any) -> None:
        self._model.require_open()
        array = self._lib.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(self._lib.llama_token_data)),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(array))

    def accept(self, token: int) -> None:
        """Go on with `token`."""
        if not self.allows(token):
            raise GrammarError(f"token {token} does not continue the text within the grammar")
        self._lib.llama_sampler_accept(self._sampler, token)


def _require_modest(gbnf: str) -> None:
    bare = _QUOTED.sub("", gbnf)
    n_rules = bare.count("::=")
    if n_rules > MOST_RULES:
        raise GrammarError(f"the grammar has {n_rules} rules; write it with at most {MOST_RULES}")
    depth = deepest = 0
    for mark in re.findall(r"[()]", bare):
        depth += 1 if mark == "(" else -1
        deepest = max(deepest, depth)
    if deepest > MOST_NESTED:
        raise GrammarError(f"the grammar nests {deepest} parentheses; at most {MOST_NESTED} can be read")


def _require_few_times(text: str) -> None:
    for times in _TIMES.findall(text):
        for number in filter(None, times):
            if len(number) > len(str(MOST_REPEATED)) or int(number) > MOST_REPEATED:
                raise GrammarError(
                    f"{number[:20]} repetitions are too many; at most {MOST_REPEATED} can be counted"
                )


def _require_modest_schema(schema: Any) -> None:
    """Refuse numbers that the converter would write out one by one."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            for name in _BOUNDS:
                bound = part.get(name)
                if isinstance(bound, int | float) and bound > MOST_REPEATED:
                    raise GrammarError(
                        f"{name} of the JSON schema is {bound}; leave it out, "
                        f"at most {MOST_REPEATED} can be counted"
                    )
            if isinstance(part.get("pattern"), str):
                _require_few_times(part["pattern"])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def schema_to_gbnf(schema: str | Mapping[str, Any]) -> str:
    """A JSON schema (text or object) as a GBNF grammar, by llama-cpp-python's converter."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        document = json.loads(text)
    except (TypeError, ValueError) as error:
        raise GrammarError(f"the JSON schema is not JSON: {error}") from error
    _require_modest_schema(document)
    try:
        gbnf: str = json_schema_to_gbnf(text)
    except Exception as error:  # the converter asserts, and trips over what it did not expect
        raise GrammarError(f"the JSON schema cannot be turned into a grammar: {error!r}") from error
    # its strings let control characters through, which JSON does not
    return gbnf.replace(r'[^"\\]', r'[^"\\\x00-\x1F]')

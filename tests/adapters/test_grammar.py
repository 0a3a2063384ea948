"""Claims about grammars: what may follow is what llama.cpp says, and nothing that is given aborts it."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.errors import ConfigError, GrammarError
from adapters.grammar import LlamaGrammar, schema_to_gbnf
from adapters.llama_model import LlamaModel
from adapters.target import FloatArray
from adapters.tokenizer import Tokenizer
from tests.tiny_gguf import (
    BOS,
    EOS,
    FIRST_BYTE,
    FIRST_MERGE,
    IM_END,
    IM_START,
    N_VOCAB,
    PIECES,
    TinyFactory,
)

YES_OR_NO = 'root ::= "yes" | "no"'
ANYTHING = "root ::= [^\\x00]*"
ENDS = {EOS, IM_END}

Make = Callable[[str], LlamaGrammar]


@pytest.fixture(scope="module")
def model(tiny: TinyFactory) -> LlamaModel:
    return LlamaModel(tiny("llama"))


@pytest.fixture(scope="module")
def make(model: LlamaModel) -> Make:
    return lambda gbnf: LlamaGrammar(model, gbnf)


def letters(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


def allowed(grammar: LlamaGrammar) -> set[int]:
    masked = grammar.mask(np.zeros(N_VOCAB, np.float32))
    return {int(token) for token in np.flatnonzero(np.isfinite(masked))}


def accept(grammar: LlamaGrammar, text: str) -> None:
    for token in letters(text):
        grammar.accept(token)


# -- what may follow -----------------------------------------------------------------------------


def test_only_what_fits_may_follow(make: Make) -> None:
    grammar = make(YES_OR_NO)
    assert allowed(grammar) == {*letters("y"), *letters("n")}
    accept(grammar, "y")
    assert allowed(grammar) == {*letters("e"), token_of(b"es")}
    accept(grammar, "es")
    assert allowed(grammar) == ENDS


def token_of(piece: bytes) -> int:
    return FIRST_MERGE + PIECES.index(piece)


def test_a_text_may_end_or_go_on(make: Make) -> None:
    grammar = make('root ::= "a"+')
    assert not allowed(grammar) & ENDS
    accept(grammar, "a")
    assert allowed(grammar) == {*letters("a"), *ENDS}
    grammar.accept(EOS)  # and an end changes nothing
    assert allowed(grammar) == {*letters("a"), *ENDS}


def test_a_token_may_span_several_rules(make: Make) -> None:
    grammar = make('root ::= article noun\narticle ::= " th" "e "\nnoun ::= [a-z]+')
    grammar.accept(token_of(b" the"))
    assert allowed(grammar) == {t for t in allowed(make('root ::= " " [a-z]*')) if t not in ENDS}


def test_a_character_may_be_split_between_tokens(make: Make) -> None:
    grammar = make('root ::= "→" "!"')
    first, second, third = letters("→")
    assert allowed(grammar) == {first, token_of("→".encode()), token_of(b"\xe2\x86")}
    grammar.accept(first)
    assert grammar.allows(second) and not grammar.allows(third)
    accept_all(grammar, [second, third, *letters("!")])
    assert allowed(grammar) == ENDS


def accept_all(grammar: LlamaGrammar, tokens: list[int]) -> None:
    for token in tokens:
        grammar.accept(token)


def test_control_tokens_never_follow(make: Make) -> None:
    assert BOS not in allowed(make('root ::= "a"*'))
    assert IM_START not in allowed(make('root ::= "a"*'))


def test_a_mask_leaves_the_logits_that_may_follow(make: Make) -> None:
    logits = np.random.default_rng(0).normal(size=N_VOCAB).astype(np.float32)
    before, grammar = logits.copy(), make(YES_OR_NO)
    masked = grammar.mask(logits)
    np.testing.assert_array_equal(logits, before)
    for token in range(N_VOCAB):
        assert masked[token] == (logits[token] if token in allowed(grammar) else -np.inf)


def test_what_is_forbidden_already_stays_forbidden(make: Make) -> None:
    logits = np.full(N_VOCAB, -np.inf, np.float32)
    logits[letters("n")] = 1.0
    masked = make(YES_OR_NO).mask(logits)
    assert np.flatnonzero(np.isfinite(masked)).tolist() == letters("n")


GRAMMARS = {
    "words": 'root ::= [a-z]+ (" " [a-z]+)* "."',
    "anything": ANYTHING,
    "characters of several bytes": 'root ::= ("→" | [à-ÿ] | "😀")+ "é"?',
    "nested": 'root ::= "(" root* ")"',
    "counted": 'root ::= "="{3,40}',  # ambiguous repetitions take llama.cpp exponential time
    "json": schema_to_gbnf({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
}


@pytest.mark.parametrize("gbnf", GRAMMARS.values(), ids=GRAMMARS)
@pytest.mark.parametrize("seed", range(3))
def test_asking_masking_and_accepting_agree_along_random_texts(gbnf: str, seed: int, make: Make) -> None:
    grammar, rng = make(gbnf), random.Random(seed)
    for _ in range(12):
        may_follow = allowed(grammar)
        assert {token for token in range(N_VOCAB) if grammar.allows(token)} == may_follow
        for token in rng.sample([t for t in range(N_VOCAB) if t not in may_follow], 3):
            with pytest.raises(GrammarError, match=f"token {token} does not continue the text"):
                grammar.accept(token)
        assert allowed(grammar) == may_follow  # refusing changed nothing
        inner = sorted(may_follow - ENDS)
        if not inner:
            break
        grammar.accept(rng.choice(inner))


def test_two_texts_of_one_grammar_do_not_disturb_each_other(make: Make) -> None:
    one, two = make(YES_OR_NO), make(YES_OR_NO)
    accept(one, "yes")
    assert allowed(two) == {*letters("y"), *letters("n")}


@pytest.mark.parametrize("token", [-1, N_VOCAB, 2**31])
def test_unknown_ids_are_named(token: int, make: Make) -> None:
    grammar = make(ANYTHING)
    for use in (grammar.allows, grammar.accept):
        with pytest.raises(ConfigError, match=f"token {token} is not among the {N_VOCAB} of the vocabulary"):
            use(token)


# -- grammars that are none ----------------------------------------------------------------------

WRONG = {
    "empty": ("", "the grammar is empty"),
    "blank": (" \n", "the grammar is empty"),
    "a NUL character": (YES_OR_NO + "\0", "NUL"),
    "only a comment": ("# nothing", "does not accept the grammar: ."),
    "no rule": ("hello", "does not accept the grammar: ."),
    "an open string": ('root ::= "a', "does not accept the grammar: ."),
    "an open bracket": ("root ::= [a-z", "does not accept the grammar: ."),
    "an open group": ('root ::= ("a"', "does not accept the grammar: ."),
    "an undefined rule": ("root ::= word", "does not accept the grammar: ."),
    "no root": ('main ::= "a"', "does not accept the grammar: .*'root'"),
    "left recursion": ('root ::= root "a" | "b"', "does not accept the grammar: .*left recursion"),
    "indirect left recursion": ('root ::= b "a"\nb ::= root | "b"', "left recursion"),
    "a million repetitions": ('root ::= "a"{1000000}', "does not accept the grammar: ."),
}


@pytest.mark.parametrize(("gbnf", "message"), WRONG.values(), ids=WRONG)
def test_a_grammar_that_is_none_is_refused(gbnf: str, message: str, make: Make) -> None:
    with pytest.raises(GrammarError, match=message):
        make(gbnf)


def test_another_rule_may_be_the_root(model: LlamaModel) -> None:
    gbnf = 'root ::= "a"\nother ::= "b"'
    assert allowed(LlamaGrammar(model, gbnf, "other")) == {*letters("b")}
    with pytest.raises(GrammarError, match="'third'"):
        LlamaGrammar(model, gbnf, "third")


# -- JSON schemas --------------------------------------------------------------------------------

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "pet": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    },
    "required": ["name", "age", "tags", "pet"],
}


@pytest.mark.parametrize("schema", [PERSON, json.dumps(PERSON)], ids=["object", "text"])
def test_a_text_that_fits_the_schema_is_accepted(schema: str | dict[str, Any], model: LlamaModel) -> None:
    grammar, tokenizer = LlamaGrammar.from_schema(model, schema), Tokenizer(model)
    person = {"name": 'Zoë "Z"', "age": 7, "tags": ["b", "a"], "pet": None}
    accept_all(grammar, tokenizer.encode(json.dumps(person), add_special=False))
    assert grammar.allows(EOS)


@pytest.mark.parametrize(
    "person",
    [
        {"name": "Zoe", "age": "7", "tags": [], "pet": None},
        {"name": "Zoe", "age": 7, "tags": ["c"], "pet": None},
        {"name": "Zoe", "age": 7, "tags": ["a", "b", "a"], "pet": None},
        {"name": "Zoe", "age": 7, "tags": []},
        [],
    ],
    ids=json.dumps,
)
def test_a_text_that_does_not_fit_is_refused_on_the_way(person: object, model: LlamaModel) -> None:
    grammar, tokenizer = LlamaGrammar.from_schema(model, PERSON), Tokenizer(model)
    with pytest.raises(GrammarError, match="does not continue the text"):
        accept_all(grammar, tokenizer.encode(json.dumps(person), add_special=False))


def test_texts_drawn_within_a_schema_fit_it(model: LlamaModel) -> None:
    tokenizer, schema = Tokenizer(model), PERSON | {"additionalProperties": False}
    rng = np.random.default_rng(0)
    logits = rng.normal(size=N_VOCAB).astype(np.float32) - 4 * unprintable(tokenizer)
    for _ in range(3):
        grammar, tokens = LlamaGrammar.from_schema(model, schema), []
        while not (tokens and tokens[-1] in ENDS):
            noise = rng.gumbel(size=N_VOCAB)
            noise[[*ENDS, *letters('",]}0')]] += 2  # come to an end
            tokens.append(int(np.argmax(grammar.mask(logits + noise))))
            grammar.accept(tokens[-1])
            assert len(tokens) < 3000
        person = json.loads(tokenizer.decode(tokens))
        assert list(person) == ["name", "age", "tags", "pet"]
        assert person["age"] >= 0 and {*person["tags"]} <= {"a", "b"} and person["pet"] in (None, True, False)


def unprintable(tokenizer: Tokenizer) -> FloatArray:
    pieces = [tokenizer.piece(token) for token in range(N_VOCAB)]
    return np.array([not piece.isascii() for piece in pieces], np.float32)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "the JSON schema is not JSON: "),
        ("", "the JSON schema is not JSON: "),
        ({"enum": [{1, 2}]}, "the JSON schema is not JSON: "),
        ({"type": "no such type"}, "the JSON schema cannot be turned into a grammar: "),
        ({"$ref": "#/definitions/missing"}, "the JSON schema cannot be turned into a grammar: "),
        ({"type": "string", "pattern": "("}, "the JSON schema cannot be turned into a grammar: "),
        ("[]", "the JSON schema cannot be turned into a grammar: "),
        ("7", "the JSON schema cannot be turned into a grammar: "),
    ],
    ids=repr,
)
def test_a_schema_that_is_none_is_refused(schema: str | dict[str, Any], message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        schema_to_gbnf(schema)


@pytest.mark.parametrize(
    ("gbnf", "message"),
    [
        ("root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000, "nests 100000 parentheses"),
        ("root ::= " + "(" * 1_000_000, "nests 1000000 parentheses"),
        ("root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1}" for i in range(100_000)), "has 100001 rules"),
        ('root ::= "\ud83d"', "holds half a character at 10"),
    ],
    ids=["closed", "open", "rules", "surrogate"],
)
def test_a_grammar_that_would_end_the_process_is_refused(gbnf: str, message: str, make: Make) -> None:
    with pytest.raises(GrammarError, match=message):
        make(gbnf)


def test_parentheses_in_quotes_and_comments_do_not_count(make: Make) -> None:
    make('root ::= "' + "(" * 9000 + '" [(] # ' + "(" * 9000 + "\n")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 10**9},
        {
            "type": "array",
            "items": {"type": "object", "properties": {"a": {"type": "string", "minLength": 1e9}}},
        },
        {"anyOf": [{"type": "array", "items": {}, "minItems": 10**8}]},
        {"type": "string", "pattern": "^a{100000000}$"},
    ],
    ids=repr,
)
def test_a_schema_that_counts_too_far_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError, match="at most 10000 can be counted"):
        schema_to_gbnf(schema)

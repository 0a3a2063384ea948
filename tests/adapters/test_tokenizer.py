"""Claims about text and tokens: nothing is lost on the way there, back, or one token at a time."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from adapters.errors import ConfigError
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer
from tests.tiny_gguf import BOS, EOS, FIRST_BYTE, IM_END, IM_START, N_VOCAB, TinyFactory

TEXT = 'Grüße, the "naïve" 😀👩‍🚀 → {"n": 100}\n\tdef f( x ): return x ** 2  # 日本語 , '
UNKNOWN = [-1, N_VOCAB, 2**31]


@pytest.fixture(scope="module")
def tokenizer(tiny: TinyFactory) -> Tokenizer:
    return Tokenizer(LlamaModel(tiny("llama")))


def letters(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


# -- there and back ------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(text=st.text())
@example(text="a\0b")
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special=False, parse_special=False)) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(), extra=st.lists(st.integers(FIRST_BYTE, N_VOCAB - 1)))
def test_text_that_arrives_token_by_token_is_the_text_of_all(
    tokenizer: Tokenizer, text: str, extra: list[int]
) -> None:
    tokens = [*tokenizer.encode(text), *extra]  # the extra ones need not be valid UTF-8
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.push, tokens)) + decoder.finish() == tokenizer.decode(tokens)


def test_a_token_of_64_bytes_comes_back(tokenizer: Tokenizer) -> None:
    (token,) = tokenizer.encode("=" * 64, add_special=False)
    assert tokenizer.piece(token) == b"=" * 64
    assert tokenizer.name(token) == tokenizer.text_of(token) == "=" * 64


def test_a_text_of_many_tokens_comes_back(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(TEXT * 200)) == TEXT * 200


def test_an_empty_text_is_at_most_a_bos(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == [BOS]
    assert tokenizer.encode("", add_special=False) == []
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("caf\udce9!", "caf\ufffd!"),  # Latin-1 on the command line
        ("\ud83d", "\ufffd"),
        ("a\ud83db\ude00c", "a\ufffdb\ufffdc"),
        ("\ud83d\ude00", "😀"),  # both halves
        ("\ufeff\udcff", "\ufeff\ufffd"),
    ],
)
def test_what_is_no_character_is_replaced(tokenizer: Tokenizer, text: str, meant: str) -> None:
    assert tokenizer.encode(text) == tokenizer.encode(meant)


# -- special tokens ------------------------------------------------------------------------------


def test_special_tokens_are_parsed_or_taken_as_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<|im_start|>a<|im_end|>") == [BOS, IM_START, *letters("a"), IM_END]
    plain = tokenizer.encode("<|im_start|>a", parse_special=False, add_special=False)
    assert IM_START not in plain
    assert tokenizer.decode(plain) == "<|im_start|>a"


def test_special_tokens_have_a_name_but_no_text(tokenizer: Tokenizer) -> None:
    assert (tokenizer.piece(IM_START), tokenizer.name(IM_START)) == (b"", "<|im_start|>")
    assert tokenizer.decode([BOS, *letters("a"), IM_END]) == "a"


def test_the_vocabulary_names_its_ends(tokenizer: Tokenizer) -> None:
    assert (tokenizer.bos, tokenizer.eos, tokenizer.eot) == (BOS, EOS, IM_END)
    for _ in range(2):
        assert [token for token in range(N_VOCAB) if tokenizer.is_end(token)] == [EOS, IM_END]


def test_a_model_without_bos_gets_none(tiny: TinyFactory) -> None:
    tokenizer = Tokenizer(LlamaModel(tiny("llama", add_bos=False)))
    assert not tokenizer.add_bos
    assert tokenizer.encode("a") == letters("a")
    assert tokenizer.encode("") == []


# -- one token at a time -------------------------------------------------------------------------


def test_a_character_appears_with_its_last_byte(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    assert [decoder.push(token) for token in letters("é😀a")] == ["", "é", "", "", "", "😀", "a"]
    assert decoder.finish() == ""


def test_a_character_may_be_split_between_longer_tokens(tokenizer: Tokenizer) -> None:
    pieces = {tokenizer.piece(token): token for token in range(N_VOCAB)}
    decoder = tokenizer.decoder()
    halves = [pieces[b"\xf0\x9f\x98"], pieces[b"\x80"], pieces[b"\xe2\x86"], pieces[b"\x92"]]
    assert [decoder.push(token) for token in halves] == ["", "😀", "", "→"]


def test_an_unfinished_character_is_replaced_at_the_end(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    assert [decoder.push(token) for token in letters("😀")[:3]] == ["", "", ""]
    assert decoder.finish() == "\ufffd"


def test_a_broken_character_is_replaced_where_it_breaks(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    broken = [*letters("😀")[:2], *letters("a")]
    assert [decoder.push(token) for token in broken] == ["", "", "\ufffda"]


def test_control_tokens_do_not_break_a_character(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    first, second = letters("é")
    assert [decoder.push(token) for token in (first, IM_START, second)] == ["", "", "é"]


def test_bytes_are_tokenized_as_their_text_and_may_be_none(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_bytes(TEXT.encode()) == tokenizer.encode(TEXT)
    assert tokenizer.encode_bytes(b"a\xff") == tokenizer.encode("a\ufffd")


def test_tokens_are_named_as_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.name_bytes(IM_START) == b"<|im_start|>"
    assert tokenizer.name_bytes(FIRST_BYTE + 0xFF) == b"\xff"
    assert tokenizer.newline == FIRST_BYTE + ord("\n")


# -- ids that do not exist -----------------------------------------------------------------------


@pytest.mark.parametrize("token", UNKNOWN)
def test_unknown_ids_are_named(tokenizer: Tokenizer, token: int) -> None:
    uses: list[Callable[[int], object]] = [
        tokenizer.piece,
        tokenizer.name,
        tokenizer.text_of,
        tokenizer.decoder().push,
        lambda token: tokenizer.decode([token]),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match=f"token {token} is not among the {N_VOCAB} of the vocabulary"):
            use(token)


@pytest.mark.parametrize("token", UNKNOWN)
def test_unknown_ids_end_nothing(tokenizer: Tokenizer, token: int) -> None:
    assert not tokenizer.is_end(token)

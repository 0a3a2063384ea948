"""Claims about vocabularies that must agree: padding may differ, the meaning of a token may not."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as HubTokenizer
from tokenizers.models import BPE

from adapters.errors import AdapterError, VocabMismatch
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer
from adapters.vocab import require_same_vocab, tokenizer_json_differences, vocab_differences
from tests.tiny_gguf import IM_START, N_VOCAB, SPECIALS, TinyFactory


def tokenizer(tiny: TinyFactory, **options: object) -> Tokenizer:
    return Tokenizer(LlamaModel(tiny("llama", **options)))


def hub_file(folder: Path, texts: list[str]) -> Path:
    """A tokenizer.json that numbers `texts` from 0, the special ones as added tokens."""
    hub = HubTokenizer(BPE(vocab={text: i for i, text in enumerate(texts)}, merges=[]))
    hub.add_special_tokens([AddedToken(text, special=True) for text in texts if text in SPECIALS])
    path = folder / "tokenizer.json"
    hub.save(str(path))
    return path


def texts_of(tokens: Tokenizer) -> list[str]:
    return [tokens.text_of(i) for i in range(tokens.n_vocab)]


# -- two GGUFs -----------------------------------------------------------------------------------


def test_equal_vocabularies_agree(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), Tokenizer(LlamaModel(tiny("qwen2")))
    assert vocab_differences(a, b) == []
    require_same_vocab(LlamaModel(tiny("llama")), LlamaModel(tiny("qwen2")))


def test_padding_may_differ(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), tokenizer(tiny, pad_vocab=7)
    assert vocab_differences(a, b) == vocab_differences(b, a) == []


def test_a_renamed_token_is_named(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), tokenizer(tiny, rename={300: "other"})
    assert vocab_differences(a, b) == [f"token 300 is {a.text_of(300)!r} and 'other'"]
    assert vocab_differences(b, a) == [f"token 300 is 'other' and {a.text_of(300)!r}"]


def test_a_renamed_special_token_counts(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), tokenizer(tiny, rename={IM_START: "<|user|>"})
    assert vocab_differences(a, b) == [f"token {IM_START} is '<|im_start|>' and '<|user|>'"]


def test_of_many_differences_some_are_shown(tiny: TinyFactory) -> None:
    rename = {300 + i: f"other{i}" for i in range(5)}
    *shown, rest = vocab_differences(tokenizer(tiny), tokenizer(tiny, rename=rename))
    assert [line.split()[1] for line in shown] == ["300", "301", "302"]
    assert rest == "2 more differ"


def test_a_token_that_only_one_has_is_named(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), tokenizer(tiny, n_vocab=310)
    expected = [f"only one has token 310 ({a.text_of(310)!r})"]
    assert vocab_differences(a, b) == vocab_differences(b, a) == expected


def test_another_kind_of_tokenizer_is_enough(tiny: TinyFactory) -> None:
    a, b = tokenizer(tiny), tokenizer(tiny)
    b.kind = 1
    assert vocab_differences(a, b) == ["tokenizer types differ (2 and 1 in llama.cpp's numbering)"]


def test_a_draft_of_another_family_is_refused_by_name(tiny: TinyFactory) -> None:
    target, draft = LlamaModel(tiny("llama")), LlamaModel(tiny("llama", rename={300: "other"}))
    message = (
        rf"{draft.path.name} cannot draft for {target.path.name}: token 300 is .* and 'other'; "
        "choose a draft model of the same family"
    )
    with pytest.raises(VocabMismatch, match=message):
        require_same_vocab(target, draft)


# -- a GGUF and a tokenizer.json -----------------------------------------------------------------


def test_a_tokenizer_json_of_the_same_model_agrees(tiny: TinyFactory, tmp_path: Path) -> None:
    tokens = tokenizer(tiny)
    assert tokenizer_json_differences(hub_file(tmp_path, texts_of(tokens)), tokens) == []


def test_a_gguf_may_be_padded_beyond_its_tokenizer_json(tiny: TinyFactory, tmp_path: Path) -> None:
    tokens = tokenizer(tiny, pad_vocab=7)
    assert tokenizer_json_differences(hub_file(tmp_path, texts_of(tokens)[:N_VOCAB]), tokens) == []


def test_a_token_that_differs_from_the_tokenizer_json_is_named(tiny: TinyFactory, tmp_path: Path) -> None:
    texts, tokens = texts_of(tokenizer(tiny)), tokenizer(tiny, rename={300: "other"})
    expected = [f"token 300 is {texts[300]!r} and 'other'"]
    assert tokenizer_json_differences(hub_file(tmp_path, texts), tokens) == expected


def test_a_token_beyond_the_gguf_is_named(tiny: TinyFactory, tmp_path: Path) -> None:
    texts = [*texts_of(tokenizer(tiny)), "more"]
    differences = tokenizer_json_differences(hub_file(tmp_path, texts), tokenizer(tiny))
    assert differences == [f"token {N_VOCAB} ('more') is beyond the GGUF's {N_VOCAB} tokens"]


def test_of_many_differences_to_a_tokenizer_json_some_are_shown(tiny: TinyFactory, tmp_path: Path) -> None:
    texts = texts_of(tokenizer(tiny))
    shifted = hub_file(tmp_path, [*texts[:300], *reversed(texts[300:])])
    *shown, rest = tokenizer_json_differences(shifted, tokenizer(tiny))
    assert [line.split()[1] for line in shown] == ["300", "301", "302"]
    assert rest == "and more"


@pytest.mark.parametrize("content", [None, "{", json.dumps({"version": "1.0"})], ids=repr)
def test_a_tokenizer_json_that_is_none_is_named(
    content: str | None, tiny: TinyFactory, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AdapterError, match=r"tokenizer\.json: "):
        tokenizer_json_differences(path, tokenizer(tiny))

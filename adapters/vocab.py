"""Do two vocabularies agree? Padding may differ, the tokens may not.

A draft model's ids are taken for the target's, so an id must mean the same text in both.
"""

from pathlib import Path

from adapters.errors import AdapterError, VocabMismatch
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer

_SHOWN = 3


def vocab_differences(a: Tokenizer, b: Tokenizer) -> list[str]:
    """What makes `b`'s ids mean something else than `a`'s; empty where they agree."""
    if a.kind != b.kind:
        return [f"tokenizer types differ ({a.kind} and {b.kind} in llama.cpp's numbering)"]
    different = [i for i in range(min(a.n_vocab, b.n_vocab)) if a.text_of(i) != b.text_of(i)]
    shown = [f"token {i} is {a.text_of(i)!r} and {b.text_of(i)!r}" for i in different[:_SHOWN]]
    if len(different) > _SHOWN:
        shown.append(f"{len(different) - _SHOWN} more differ")
    longer = a if a.n_vocab > b.n_vocab else b
    extra = [
        i for i in range(min(a.n_vocab, b.n_vocab), longer.n_vocab) if not _is_padding(longer.text_of(i))
    ]
    if extra:
        shown.append(f"only one has token {extra[0]} ({longer.text_of(extra[0])!r})")
    return shown


def _is_padding(text: str) -> bool:
    """Whether a token stands in a vocabulary only to fill it up."""
    lowered = text.lower()
    return text == "" or any(word in lowered for word in ("pad", "unused", "reserved", "dummy", "extra"))


def require_same_vocab(target: LlamaModel, draft: LlamaModel) -> None:
    """Raise VocabMismatch unless the draft's tokens mean what the target's mean."""
    differences = vocab_differences(Tokenizer(target), Tokenizer(draft))
    if differences:
        raise VocabMismatch(
            f"{draft.path.name} cannot draft for {target.path.name}: {'; '.join(differences)}; "
            "choose a draft model of the same family"
        )


def tokenizer_json_differences(path: Path, tokenizer: Tokenizer) -> list[str]:
    """Where a Hub `tokenizer.json` (a head's, a draft's) and a GGUF vocabulary disagree."""
    from tokenizers import Tokenizer as HubTokenizer

    try:
        hub = HubTokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises nothing narrower
        raise AdapterError(f"{path}: not a tokenizer.json that can be read: {error}") from error
    shown = []
    for text, token in sorted(hub.items(), key=lambda item: item[1]):
        if token >= tokenizer.n_vocab:
            shown.append(f"token {token} ({text!r}) is beyond the GGUF's {tokenizer.n_vocab} tokens")
        elif tokenizer.text_of(token) != text:
            shown.append(f"token {token} is {text!r} and {tokenizer.text_of(token)!r}")
        if len(shown) > _SHOWN:
            return [*shown[:_SHOWN], "and more"]
    return shown

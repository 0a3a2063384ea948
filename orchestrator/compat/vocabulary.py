"""The methods of llama_cpp.Llama that are about tokens and sizes, and those that are refused."""

from collections.abc import Sequence
from typing import Any, NoReturn

from adapters.settings import require
from orchestrator.compat.errors import NotHonoured
from orchestrator.engine import Engine


class Vocabulary:
    """Tokens and sizes of a loaded model."""

    engine: Engine

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of UTF-8. add_bos: with BOS where the model wants one. special: `<|im_start|>` and the
        like become their tokens."""
        require(
            isinstance(text, bytes), f"tokenize takes bytes, got {type(text).__name__}; use text.encode()"
        )
        return self.engine.tokenizer.encode_bytes(text, add_special=add_bos, parse_special=special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of `tokens`; special: control tokens by their name. prev_tokens changes nothing, as in
        llama-cpp-python."""
        tokenizer = self.engine.tokenizer
        if special:
            text = b"".join(tokenizer.name_bytes(token) for token in tokens)
        else:
            text = b"".join(tokenizer.piece(token) for token in tokens)
        # a space that Llama's first tokenizer put before every text
        return text[1:] if len(tokens) and tokens[0] == tokenizer.bos and text[:1] == b" " else text

    def n_ctx(self) -> int:
        """Tokens that the context holds."""
        return self.engine.target.capabilities.n_ctx

    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self.engine.model.n_vocab

    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.engine.model.n_embd

    def token_bos(self) -> int:
        """The token that begins a text; -1 where there is none."""
        return self.engine.tokenizer.bos

    def token_eos(self) -> int:
        """The token that ends a text; -1 where there is none."""
        return self.engine.tokenizer.eos

    def token_nl(self) -> int:
        """The token of a line's end; -1 where there is none."""
        return self.engine.tokenizer.newline


class Refused:
    """What llama_cpp.Llama offers and a speculative engine cannot: the reason, instead of a wrong answer."""

    def embed(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused: embeddings."""
        _refuse("embed", "pilotfish generates text; use llama_cpp.Llama(embedding=True)")

    def create_embedding(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused: embeddings."""
        _refuse("create_embedding", "pilotfish generates text; use llama_cpp.Llama(embedding=True)")

    def eval(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused: single decodes."""
        _refuse("eval", "rounds decode several tokens; use generate or create_completion")

    def sample(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused: single choices."""
        _refuse("sample", "rounds choose several tokens; use generate or create_completion")

    def set_cache(self, cache: Any) -> None:
        """None is what there is: the newest text stays in the KV cache. Caches of states are refused."""
        if cache is not None:
            _refuse("set_cache", "the beginning that a prompt shares with the one before is re-used anyway")


def _refuse(name: str, reason: str) -> NoReturn:
    raise NotHonoured(f"{name}() cannot be honoured: {reason}")

"""llama.cpp's tokenizer: text to ids, ids to bytes, and text that arrives token by token.

Knows one model's vocabulary; nothing of prompts, templates or stop strings.
"""

import codecs
import ctypes
import hashlib
from collections.abc import Iterable

from adapters.errors import AdapterError
from adapters.llama_lib import library
from adapters.llama_model import LlamaModel
from adapters.settings import require

_PROBE = (
    "Hamburgefonstiv 0123456789  def f(x):\n\treturn x**2\n\n"
    "naïve Ærøskøbing Привет 東京 \U0001f41f <|im_start|>"
)


class Tokenizer:
    """The tokenizer inside a GGUF."""

    def __init__(self, model: LlamaModel) -> None:
        self._model, self._lib = model, library()
        self.n_vocab = model.n_vocab
        lib, vocab = self._lib, model.vocab
        self.bos: int = lib.llama_vocab_bos(vocab)  # -1 where the vocabulary has none
        self.eos: int = lib.llama_vocab_eos(vocab)
        self.eot: int = lib.llama_vocab_eot(vocab)
        self.newline: int = lib.llama_vocab_nl(vocab)
        self.add_bos: bool = lib.llama_vocab_get_add_bos(vocab)
        self.kind: int = lib.llama_vocab_type(vocab)  # llama_vocab_type: 1 SPM, 2 BPE, ...
        self._pieces: dict[int, bytes] = {}  # asked for every token that is emitted
        self._texts: dict[int, str | None] = {}
        self._fingerprint = ""

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of `text`. add_special: with BOS/EOS as the model wants them. parse_special:
        `<|im_start|>` and the like become their tokens instead of plain text. What is no character (a
        byte of a command line that is no UTF-8, half an emoji out of JSON) becomes U+FFFD."""
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        return self.encode_bytes(data, add_special=add_special, parse_special=parse_special)

    def encode_bytes(self, data: bytes, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of bytes that need not be UTF-8; see `encode`."""
        size = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * size)()
            n = self._lib.llama_tokenize(
                self._model.vocab, data, len(data), ids, size, add_special, parse_special
            )
            if n >= 0:
                return list(ids[:n])
            if n == -(2**31):
                raise AdapterError(f"the text is too long to tokenize ({len(data)} bytes)")
            size = -n

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of what a chat template has made, BOS added unless it wrote one itself, as most do."""
        bos = self.name(self.bos) if self.bos >= 0 else ""
        return self.encode(text, add_special=not (bos and text.startswith(bos)))

    def piece(self, token: int) -> bytes:
        """The bytes that `token` adds to a text; control tokens add none."""
        cached = self._pieces.get(token)
        if cached is None:
            cached = self._pieces[token] = self._piece(token, special=False)
        return cached

    def whole(self, token: int) -> str | None:
        """The text of `token` where its bytes are whole characters, as most tokens' are; else None."""
        if token not in self._texts:
            try:
                self._texts[token] = self.piece(token).decode()
            except UnicodeDecodeError:
                self._texts[token] = None
        return self._texts[token]

    def name(self, token: int) -> str:
        """`token` as shown to people: control tokens by their name."""
        return self.name_bytes(token).decode("utf-8", "replace")

    def name_bytes(self, token: int) -> bytes:
        """The bytes of `token`, of control tokens those of their name."""
        return self._piece(token, special=True)

    def _piece(self, token: int, special: bool) -> bytes:
        # llama.cpp throws through C for an unknown id, which ends the process
        require(0 <= token < self.n_vocab, f"token {token} is not among the {self.n_vocab} of the vocabulary")
        size = 32
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._lib.llama_token_to_piece(self._model.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def text_of(self, token: int) -> str:
        """The vocabulary's own entry for `token`, as written in the GGUF."""
        require(0 <= token < self.n_vocab, f"token {token} is not among the {self.n_vocab} of the vocabulary")
        text: bytes = self._lib.llama_vocab_get_text(self._model.vocab, token)
        return text.decode("utf-8", "replace")

    @property
    def fingerprint(self) -> str:
        """Tells vocabularies apart: their size, and how they split a text that most split differently."""
        if not self._fingerprint:
            ids = self.encode(_PROBE, add_special=False, parse_special=False)
            self._fingerprint = f"{self.n_vocab}:{hashlib.sha256(repr(ids).encode()).hexdigest()[:16]}"
        return self._fingerprint

    def is_end(self, token: int) -> bool:
        """Whether `token` ends a generation (EOS, end of turn, ...)."""
        return bool(self._lib.llama_vocab_is_eog(self._model.vocab, token))

    @property
    def end_tokens(self) -> list[int]:
        """Every token that ends a text."""
        return [token for token in range(self.n_vocab) if self.is_end(token)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def decoder(self) -> "TextDecoder":
        """A decoder for tokens that arrive one at a time."""
        return TextDecoder(self)


class TextDecoder:
    """Text of a growing token sequence; a character is held back until all its bytes are there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._incomplete = False  # bytes of a character are waiting for the rest

    def push(self, token: int) -> str:
        """The characters that `token` completes."""
        text = None if self._incomplete else self._tokenizer.whole(token)
        if text is None:
            text = self._utf8.decode(self._tokenizer.piece(token))
            self._incomplete = bool(self._utf8.getstate()[0])
        return text

    def finish(self) -> str:
        """What is left at the end: an incomplete character as U+FFFD."""
        return self._utf8.decode(b"", True)

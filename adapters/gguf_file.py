"""A GGUF file as a model: the facts it states, and how a new one comes into being.

Knows the metadata keys that describe a language model; knows nothing of llama.cpp or of weights.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import LlamaFileType

from adapters.errors import AdapterError, ModelLoadError
from adapters.gguf_header import MAGIC, Header, Tensor, merged, read_header, read_headers

_FILE_TYPES: dict[int, str] = {
    kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
    for kind in LlamaFileType
    if kind != LlamaFileType.GUESSED
}
_MAX_LAYERS, _MAX_EXPERTS = 512, 1024  # the lengths of llama.cpp's tables
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a model's file says of it, all parts of a split one together; 0 where it does not say."""

    architecture: str
    name: str
    n_params: int
    file_type: str
    tensor_types: dict[str, int]  # how many tensors are stored as each type
    token_embedding_type: str
    output_tensor_type: str  # that of the token embedding where the two are one tensor
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_head: int  # where layers differ, the largest
    n_head_kv: int
    sliding_window: int | None
    has_chat_template: bool
    bytes: int


def read_gguf(path: Path) -> GgufFacts:
    """The facts in a GGUF's header; raises ModelLoadError for what is none, or is damaged.

    Also for numbers of layers or experts, and rope scalings, on which llama.cpp ends the process.
    """
    headers = read_headers(path)
    first, tensors = headers[0], merged(headers)
    architecture = first.fields.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelLoadError(f"{path}: no general.architecture, so it holds no model")

    def number(key: str, default: int = 0) -> int:
        return first.number(f"{architecture}.{key}", default)

    _refuse_what_aborts(first, architecture)
    embedding = tensors.get("token_embd.weight")
    output = tensors.get("output.weight", embedding)
    n_head = number("attention.head_count")
    return GgufFacts(
        architecture=architecture,
        name=str(first.fields.get("general.name") or path.stem),
        n_params=sum(tensor.n_params for tensor in tensors.values()),
        file_type=_file_type(first, tensors),
        tensor_types=dict(Counter(tensor.type for tensor in tensors.values()).most_common()),
        token_embedding_type=embedding.type if embedding else "none",
        output_tensor_type=output.type if output else "none",
        n_vocab=_n_tokens(first) or number("vocab_size"),
        n_ctx_train=number("context_length"),
        n_embd=number("embedding_length"),
        n_layer=number("block_count"),
        n_head=n_head,
        n_head_kv=number("attention.head_count_kv", n_head),
        sliding_window=number("attention.sliding_window") or None,
        has_chat_template=bool(first.fields.get("tokenizer.chat_template")),
        bytes=sum(header.bytes for header in headers),
    )


def _refuse_what_aborts(header: Header, architecture: str) -> None:
    def refuse(key: str, value: object) -> None:
        raise ModelLoadError(f"{header.path}: {architecture}.{key} cannot be {value!r}")

    n_layer = header.number(f"{architecture}.block_count", 1)
    n_experts = header.number(f"{architecture}.expert_count")
    n_used = header.number(f"{architecture}.expert_used_count")
    scaling = header.fields.get(f"{architecture}.rope.scaling.type", "none")
    if not 1 <= n_layer <= _MAX_LAYERS:
        refuse("block_count", n_layer)
    if n_experts > _MAX_EXPERTS:
        refuse("expert_count", n_experts)
    # llama.cpp itself drops the experts of Hunyuan's dense models
    if not min(1, n_experts) <= n_used <= n_experts and not architecture.startswith("hunyuan"):
        refuse("expert_used_count", n_used)
    if scaling not in _ROPE_SCALINGS:
        refuse("rope.scaling.type", scaling)


def _n_tokens(header: Header) -> int:
    tokens = header.fields.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, range) else 0


def _file_type(header: Header, tensors: dict[str, Tensor]) -> str:
    """llama.cpp's name for the mixture of types, else the type that most of the weights have."""
    stated = _FILE_TYPES.get(header.number("general.file_type", -1))
    weights: Counter[str] = Counter()
    for tensor in tensors.values():
        weights[tensor.type] += tensor.n_params
    return stated or next((name for name, _ in weights.most_common(1)), "none")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensor table, all parts together; raises ModelLoadError as `read_gguf` does."""
    return merged(read_headers(path))


def is_gguf(path: Path) -> bool:
    """Whether the file begins as every GGUF does; raises ModelLoadError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def new_gguf(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to: it becomes `target`, or vanishes unless all went well."""
    partial = target.with_name(f".pilotfish-{secrets.token_hex(8)}.partial")
    try:
        yield partial
        _publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, target: Path) -> None:
    try:
        read_header(partial)  # a full disk does not always make the writer fail
    except ModelLoadError as error:
        reason = "only a part of it was written; is the disk full?"
        raise ModelLoadError(f"{target}: {reason}") from error
    try:
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the name on missing data
        os.replace(partial, target)
    except OSError as error:
        raise AdapterError(f"{target}: cannot be written ({error.strerror})") from error

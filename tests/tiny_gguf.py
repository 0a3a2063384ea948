"""Tiny random GGUF models, some hundred kilobytes each, that llama.cpp loads and decodes.

Knows the metadata keys and tensor names that llama.cpp wants for seven architectures, and one
byte-level vocabulary; knows nothing of llama_cpp. The gains of the random weights are chosen so
that the next-token laws are worth testing with: greedy text varies, sampling has a few favourites.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Tensors = dict[str, Array]
Rename = dict[int, str]
TinyFactory = Callable[..., Path]  # what the fixture `tiny` gives: (arch, **options of write_tiny)

SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<pad>")
BOS, EOS, IM_START, IM_END, PAD = range(len(SPECIALS))
FIRST_BYTE = len(SPECIALS)  # byte b is token FIRST_BYTE + b
FIRST_MERGE = FIRST_BYTE + 256

# Each piece joins two earlier tokens. Some end inside a character, as real vocabularies have it,
# and the last "=" run is longer than the 32 bytes that llama-cpp-python's detokenizer can return.
PIECES = (
    *b" t|he|in|er|an|re|on| a| s| w|at|en|or|ou|is|it|es|nd| c| b| o|ed| f| p| m|al".split(b"|"),
    *b'ar|ch|st|se| the| and| to| of|ing| in|ent|her|10|00|\n\n|  |{"|":|",|()'.split(b"|"),
    *(b"=" * n for n in (2, 4, 8, 16, 32, 64)),
    *("é".encode(), "ß".encode(), b"\xe2\x86", "→".encode(), b"\xf0\x9f", b"\xf0\x9f\x98", "😀".encode()),
)
N_VOCAB = FIRST_MERGE + len(PIECES)
PRINTABLE = frozenset(b"\n" + bytes(range(0x20, 0x7F)))

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

N_EMBD, N_HEAD, N_HEAD_KV = 64, 4, 2
WINDOW = 16  # tokens that a sliding-window layer of gemma3 sees
SSM_CONV, SSM_INNER, SSM_STATE, SSM_RANK = 4, 2 * N_EMBD, 16, 4

# With attention sharper and louder, llama.cpp's half-precision attention shows in the logits (one
# row against several); with less of it the current token decides alone and greedy text soon cycles.
SHARPNESS = 1.5  # deviation of query and key entries
LOUDNESS = 0.4  # what one half of a block adds to a residual stream that starts at 1
LOGIT_STD = 3.0
RARE_GAIN = 0.4  # on the logits of bytes that are not printable ASCII, so that text looks like text


@dataclass(frozen=True, slots=True)
class Dice:
    """Draws a tensor from the seed and its name alone, so that models agree on what both have."""

    seed: int
    noise: float = 0.0
    prefix: str = ""

    def normal(self, name: str, *shape: int, std: float = 1.0) -> Array:
        rng = np.random.default_rng([self.seed, crc32(f"{self.prefix}{name}".encode())])
        values = rng.standard_normal(shape) + self.noise * rng.standard_normal(shape)
        return (values * std).astype(np.float32)

    def matrix(self, name: str, n_out: int, n_in: int, gain: float = 1.0) -> Array:
        """Shape [n_out, n_in]; an input of unit variance gives outputs of deviation `gain`."""
        return self.normal(name, n_out, n_in, std=gain / math.sqrt(n_in))


def ones(n: int = N_EMBD, value: float = 1.0) -> Array:
    return np.full(n, value, np.float32)


def attention(dice: Dice, head_dim: int) -> Tensors:
    n_query, n_kv = N_HEAD * head_dim, N_HEAD_KV * head_dim
    return {
        "attn_norm.weight": ones(),
        "attn_q.weight": dice.matrix("q", n_query, N_EMBD, SHARPNESS),
        "attn_k.weight": dice.matrix("k", n_kv, N_EMBD, SHARPNESS),
        "attn_v.weight": dice.matrix("v", n_kv, N_EMBD),
        "attn_output.weight": dice.matrix("output", N_EMBD, n_query, LOUDNESS),
    }


def feed_forward(dice: Dice, n_ff: int, gate: float = 1.0) -> Tensors:
    return {
        "ffn_norm.weight": ones(),
        "ffn_gate.weight": dice.matrix("gate", n_ff, N_EMBD, gate),
        "ffn_up.weight": dice.matrix("up", n_ff, N_EMBD),
        "ffn_down.weight": dice.matrix("down", N_EMBD, n_ff, LOUDNESS),
    }


def llama_block(dice: Dice) -> Tensors:
    return attention(dice, 32) | feed_forward(dice, 128)


def qwen2_block(dice: Dice) -> Tensors:
    tensors = attention(dice, 16) | feed_forward(dice, 128)
    for name in ("q", "k", "v"):
        n_out = len(tensors[f"attn_{name}.weight"])
        tensors[f"attn_{name}.bias"] = dice.normal(f"{name} bias", n_out, std=0.5)
    return tensors


def gemma3_block(dice: Dice) -> Tensors:
    # llama.cpp looks GELU up in a table of half-precision floats, but only below 10: so gate 100
    tensors = attention(dice, 16) | feed_forward(dice, 64, gate=100.0)
    tensors["post_attention_norm.weight"] = ones(value=0.12)  # little, as there are many layers
    tensors["post_ffw_norm.weight"] = ones(value=0.3)
    for name in ("attn_q_norm", "attn_k_norm"):
        tensors[f"{name}.weight"] = ones(16, SHARPNESS)
    return tensors


def gemma4_block(dice: Dice) -> Tensors:
    """The tensors of gemma3; attention does not divide by the root of the head's width, so the norm does."""
    tensors = gemma3_block(dice)
    tensors["attn_q_norm.weight"] /= math.sqrt(16)
    return tensors


def glm4moe_block(dice: Dice) -> Tensors:
    """The tensors of llama, with the second norm by another name: a layer before the first of experts."""
    tensors = attention(dice, 32) | feed_forward(dice, 128)
    tensors["post_attention_norm.weight"] = tensors.pop("ffn_norm.weight")
    return tensors


def phi3_block(dice: Dice) -> Tensors:
    """The tensors of llama, with query, key, value and gate, up stacked into one each."""
    tensors = attention(dice, 16) | feed_forward(dice, 128)
    qkv = [tensors.pop(f"attn_{name}.weight") for name in ("q", "k", "v")]
    gate_up = [tensors.pop("ffn_gate.weight"), tensors["ffn_up.weight"]]
    fused = {"attn_qkv.weight": np.concatenate(qkv), "ffn_up.weight": np.concatenate(gate_up)}
    return tensors | fused


def mamba_block(dice: Dice) -> Tensors:
    steps = np.geomspace(0.05, 0.5, SSM_INNER, dtype=np.float32)
    decay = np.arange(1, SSM_STATE + 1, dtype=np.float32)
    return {
        "attn_norm.weight": ones(),
        "ssm_in.weight": dice.matrix("in", 2 * SSM_INNER, N_EMBD, 1.2),
        "ssm_conv1d.weight": dice.matrix("conv", SSM_INNER, SSM_CONV, 1.2),
        "ssm_conv1d.bias": np.zeros(SSM_INNER, np.float32),
        "ssm_x.weight": dice.matrix("x", SSM_RANK + 2 * SSM_STATE, SSM_INNER),
        "ssm_dt.weight": dice.matrix("dt", SSM_INNER, SSM_RANK),
        "ssm_dt.bias": np.log(np.expm1(steps)),  # the graph applies softplus
        "ssm_a": np.tile(-decay, (SSM_INNER, 1)),
        "ssm_d": ones(SSM_INNER),
        "ssm_out.weight": dice.matrix("out", N_EMBD, SSM_INNER, LOUDNESS),
    }


def attention_keys(writer: gguf.GGUFWriter, head_dim: int, n_ff: int) -> None:
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)


def gemma3_keys(writer: gguf.GGUFWriter) -> None:
    attention_keys(writer, 16, 64)
    writer.add_sliding_window(WINDOW)


def gemma4_keys(writer: gguf.GGUFWriter) -> None:
    gemma3_keys(writer)
    writer.add_sliding_window_pattern([True] * 8)  # of layers, where there are that many
    writer.add_key_length_swa(16)
    writer.add_value_length_swa(16)
    writer.add_rope_dimension_count_swa(16)
    writer.add_embedding_length_per_layer_input(0)


def glm4moe_keys(writer: gguf.GGUFWriter) -> None:
    attention_keys(writer, 32, 128)
    writer.add_leading_dense_block_count(99)  # no layer has experts, which only need to be counted
    writer.add_expert_count(2)
    writer.add_expert_used_count(1)
    writer.add_expert_shared_count(0)
    writer.add_expert_feed_forward_length(64)


def mamba_keys(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(SSM_CONV)
    writer.add_ssm_inner_size(SSM_INNER)
    writer.add_ssm_state_size(SSM_STATE)
    writer.add_ssm_time_step_rank(SSM_RANK)


@dataclass(frozen=True, slots=True)
class Architecture:
    keys: Callable[[gguf.GGUFWriter], None]
    block: Callable[[Dice], Tensors]
    n_layer: int = 2
    embedding_std: float = 1.0


ARCHITECTURES = {
    "llama": Architecture(lambda writer: attention_keys(writer, 32, 128), llama_block),
    "qwen2": Architecture(lambda writer: attention_keys(writer, 16, 128), qwen2_block),
    "phi3": Architecture(lambda writer: attention_keys(writer, 16, 128), phi3_block),
    # layer 5 of each six is global; the graph multiplies the embeddings by the root of the width
    "gemma3": Architecture(gemma3_keys, gemma3_block, 6, 1 / math.sqrt(N_EMBD)),
    "gemma4": Architecture(gemma4_keys, gemma4_block, 3, 1 / math.sqrt(N_EMBD)),
    "glm4moe": Architecture(glm4moe_keys, glm4moe_block),
    "mamba": Architecture(mamba_keys, mamba_block),
}


def gains(n_vocab: int, n_total: int, special_gain: float) -> Array:
    """How much the logit of each token may vary, shape [n_total, 1]; that of padding not at all."""
    gain = ones(n_total)
    gain[:FIRST_BYTE] = special_gain
    gain[FIRST_BYTE:FIRST_MERGE] = [1.0 if b in PRINTABLE else RARE_GAIN for b in range(256)]
    gain[n_vocab:] = 0.0
    return gain[:, None]


def weights(arch: Architecture, dice: Dice, n_layer: int, gain: Array) -> Tensors:
    tensors = {
        "token_embd.weight": dice.normal("embedding", len(gain), N_EMBD, std=arch.embedding_std),
        "output_norm.weight": ones(),
        "output.weight": gain * dice.matrix("output", len(gain), N_EMBD, LOGIT_STD),
    }
    for i in range(n_layer):
        block = arch.block(Dice(dice.seed, dice.noise, f"{i} "))
        tensors |= {f"blk.{i}.{name}": tensor for name, tensor in block.items()}
    return tensors


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a GPT-2 vocabulary."""
    itself = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xFF and b != 0xAD]
    moved = [b for b in range(256) if b not in itself]
    return [chr(b) if b in itself else chr(256 + moved.index(b)) for b in range(256)]


def merges(alphabet: list[str], pieces: list[str]) -> list[str]:
    known, lines = {*alphabet}, []
    for piece in pieces:
        splits = ((piece[:i], piece[i:]) for i in range(len(piece) - 1, 0, -1))
        lines.append(next(f"{a} {b}" for a, b in splits if a in known and b in known))
        known.add(piece)
    return lines


def add_vocabulary(writer: gguf.GGUFWriter, n_pieces: int, n_pad: int, rename: Rename) -> None:
    alphabet = byte_alphabet()
    pieces = ["".join(alphabet[b] for b in piece) for piece in PIECES[:n_pieces]]
    texts = [*SPECIALS, *alphabet, *pieces, *(f"[PAD{i}]" for i in range(n_pad))]
    for token, text in rename.items():
        texts[token] = text
    if len(set(texts)) < len(texts):
        raise ValueError(f"rename={rename} makes two tokens equal, which llama.cpp aborts on")
    kinds = [gguf.TokenType.CONTROL] * FIRST_BYTE
    kinds += [gguf.TokenType.NORMAL] * (256 + n_pieces)
    kinds += [gguf.TokenType.UNUSED] * n_pad
    writer.add_tokenizer_model("gpt2")
    # the pre-tokenizer "default" would make llama.cpp drop spaces before punctuation in its output
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges(alphabet, pieces))
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(IM_END)
    writer.add_pad_token_id(PAD)


def write_tiny(
    path: Path,
    arch: str,
    *,
    seed: int = 0,
    n_layer: int | None = None,
    n_vocab: int = N_VOCAB,
    n_ctx_train: int = 512,
    chat_template: str | None = CHATML,
    dtype: str = "f32",
    add_bos: bool = True,
    pad_vocab: int = 0,
    rename: Rename | None = None,
    noise: float = 0.0,
    special_gain: float = 0.0,
) -> Path:
    """Write a model to `path` and return the path; equal arguments write equal files.

    `n_vocab` counts the specials, the bytes and as many merges as are left; `pad_vocab` unused
    tokens follow. `rename` gives tokens other texts, in GPT-2's byte alphabet. `noise` is relative
    to the weights: 0.05 makes a draft that mostly agrees with the model of the same seed.
    At `special_gain` 0 the special tokens hardly ever come up, at 1 as often as any other.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"no tiny model of architecture {arch!r}; use one of {[*ARCHITECTURES]}")
    if dtype not in ("f32", "f16"):
        raise ValueError(f"dtype must be 'f32' or 'f16', got {dtype!r}")
    if not FIRST_MERGE < n_vocab <= N_VOCAB:  # llama.cpp wants one merge at least
        raise ValueError(f"n_vocab must be {FIRST_MERGE + 1} to {N_VOCAB}, got {n_vocab}")
    known = ARCHITECTURES[arch]
    n_layer = known.n_layer if n_layer is None else n_layer
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny")
    writer.add_file_type(int(dtype == "f16"))
    writer.add_context_length(n_ctx_train)
    writer.add_block_count(n_layer)
    writer.add_embedding_length(N_EMBD)
    writer.add_layer_norm_rms_eps(1e-5)
    known.keys(writer)
    add_vocabulary(writer, n_vocab - FIRST_MERGE, pad_vocab, rename or {})
    writer.add_add_bos_token(add_bos)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    gain = gains(n_vocab, n_vocab + pad_vocab, special_gain)
    for name, tensor in weights(known, Dice(seed, noise), n_layer, gain).items():
        # llama.cpp wants vectors and the small matrices of the state space in full precision
        half = dtype == "f16" and tensor.ndim == 2 and not name.endswith(("ssm_a", "conv1d.weight"))
        writer.add_tensor(name, tensor.astype(np.float16) if half else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""EAGLE heads in the layouts that are published, and what EAGLE-1, EAGLE-2 and HASS are in them.

Knows the names that different trainers give to the same tensor, and the shapes of a decoder layer;
what only EAGLE-3 has is in heads.eagle3_layouts.
"""

import re
from typing import NamedTuple

import torch

from heads.reading import Reading
from heads.rope_config import read_rope
from heads.spec import EagleSpec
from heads.vocabulary import read_target_ids

_WRAPPERS = re.compile(r"(?:module\.|model\.)+")
_PREFIXES = {
    "midlayer.": "layers.0.",  # SafeAILab, SpecForge, AngelSlim
    "fusion_fc.": "fc.",  # speculators' first format, as the next one
    "transformer.": "layers.0.",
}
_NAMES = {
    "transformer.input_layernorm.weight": "hidden_layernorm.weight",
    "embedding_layernorm.weight": "embed_layernorm.weight",
    "pre_lm_head_layernorm.weight": "lm_head_layernorm.weight",
    "enorm.weight": "embed_layernorm.weight",  # vLLM
    "hnorm.weight": "hidden_layernorm.weight",
}
# of the trainer, or of the target
_IGNORED = ("verifier_norm.weight", "verifier_lm_head.weight", "rotary_emb.inv_freq")
_LAYER = re.compile(r"layers\.(\d+)\..+")


class Sizes(NamedTuple):
    """Of a head's decoder layers, read off the first."""

    width: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate: int


def common_name(name: str) -> str:
    """The name in the layout that the readers know, which is nearly Hugging Face's."""
    wrapper = _WRAPPERS.match(name)
    name = name[wrapper.end() :] if wrapper else name
    if name in _NAMES:
        return _NAMES[name]
    for prefix, common in _PREFIXES.items():
        if name.startswith(prefix):
            return common + name.removeprefix(prefix)
    return name


def prepare(reading: Reading) -> None:
    """Bring an EAGLE head to common names, without what no head needs."""
    reading.rename(common_name)
    reading.drop(*(name for name in reading.left if name.endswith(_IGNORED)))


def read_eagle(reading: Reading) -> EagleSpec:
    """EAGLE-1/2 and HASS, after `prepare`; biases and extra norms are there if their tensors are."""
    width, n_in = reading.size("fc.weight")
    if n_in != 2 * width:
        reading.fail(
            f"fc.weight has {n_in} columns, not embedding and feature of {width} each; use another head"
        )
    sizes = layer_sizes(reading, width)
    _drop_dummies(reading, width)
    move_fc(reading, width, n_in)
    reading.move_if("embed_layernorm.weight", "layers.0.input_norm.weight", width)
    if reading.is_speculators and "hidden_layernorm.weight" in reading.left:
        reading.notes.append(
            "transformer.input_layernorm read as the norm of the feature before fc, as HASS has it"
        )
    reading.move_if("hidden_layernorm.weight", "layers.0.hidden_norm.weight", width)
    reading.move_if("lm_head_layernorm.weight", "norm.weight", width)
    n_layers = move_layers(reading, sizes, width)
    return eagle_spec(reading, sizes, n_layers)


def eagle_spec(
    reading: Reading,
    sizes: Sizes,
    n_layers: int,
    *,
    hidden_size: int | None = None,
    n_taps: int = 1,
    taps: tuple[int, ...] = (),
    is_eagle3: bool = False,
    norm_before_residual: bool = False,
    norm_output: bool = False,
) -> EagleSpec:
    """The rest that all have in common: vocabulary, RoPE, epsilon."""
    n_vocab = _move_vocabulary(reading, sizes.width)
    reading.finish()
    return EagleSpec(
        family="eagle3" if is_eagle3 else "eagle",
        hidden_size=sizes.width if hidden_size is None else hidden_size,
        width=sizes.width,
        n_layers=n_layers,
        n_heads=sizes.n_heads,
        n_kv_heads=sizes.n_kv_heads,
        head_dim=sizes.head_dim,
        intermediate_size=sizes.intermediate,
        n_vocab=n_vocab,
        rope=read_rope(reading),
        eps=reading.real("rms_norm_eps", 1e-6),
        n_taps=n_taps,
        taps=taps,
        norm_before_residual=norm_before_residual,
        norm_output=norm_output,
    )


def layer_sizes(reading: Reading, width: int) -> Sizes:
    """From the shapes; only the number of attention heads must come from the config."""
    activation = reading.config.get("hidden_act")
    if activation not in (None, "silu", "swish"):
        reading.fail(f"its MLP uses {activation!r}; only silu is known")
    first = "layers.0.self_attn."
    n_queries = reading.size(f"{first}q_proj.weight")[0]
    n_keys = reading.size(f"{first}k_proj.weight")[0]
    head_dim = _head_dim(reading, n_queries)
    n_heads, n_kv = n_queries // head_dim, n_keys // head_dim
    if n_kv * head_dim != n_keys or n_kv == 0 or n_heads % n_kv or head_dim % 2:
        reading.fail(
            f"{n_queries} rows of queries and {n_keys} of keys are not whole attention heads of {head_dim}; "
            "correct num_attention_heads in config.json"
        )
    reading.compare("attention heads", n_heads, "num_attention_heads")
    reading.compare("key heads", n_kv, "num_key_value_heads")
    reading.compare("numbers in an attention head", head_dim, "head_dim")
    return Sizes(width, n_heads, n_kv, head_dim, reading.size("layers.0.mlp.gate_proj.weight")[0])


def _head_dim(reading: Reading, n_queries: int) -> int:
    """A norm of queries shows it; else the number of heads, which is oftener right than head_dim, tells."""
    norm = reading.left.get("layers.0.self_attn.q_norm.weight")
    if norm is not None and norm.dim() == 1 and len(norm) and n_queries % len(norm) == 0:
        return len(norm)
    n_heads, said = reading.number("num_attention_heads"), reading.number("head_dim")
    if n_heads and n_queries % n_heads == 0:
        return n_queries // n_heads
    if said and n_queries % said == 0:
        return said
    if n_heads:
        reading.fail(
            f"num_attention_heads of config.json is {n_heads}, but there are {n_queries} rows of queries; "
            "correct it"
        )
    lacks = "config.json lacks num_attention_heads" if reading.config else "there is no config.json beside it"
    reading.fail(
        f"{lacks}, and no tensor tells the number of attention heads: "
        "put the config.json of the head's repository into the same folder"
    )


def _drop_dummies(reading: Reading, width: int) -> None:
    """vLLM's copies of EAGLE-1 heads hold norms of ones that it does not apply, as the head has none."""
    skipped = isinstance(reading.outer.get("model"), dict)
    entry, last = "layers.0.input_layernorm.weight", "norm.weight"
    for name, key in ((entry, "skip_prenorm"), (last, "skip_output_norm")):
        if name not in reading.left:
            continue
        weight = reading.weight(name, width)
        if (skipped and reading.flag(key, True)) or bool((weight == 1).all()):
            reading.notes.append(f"{name} is left out: EAGLE-1 heads have no such norm")
        elif name == last:
            reading.made[last] = weight
        else:
            reading.fail(f"has a norm after fc ({name}), which EAGLE-1 heads have not; use another head")


def move_fc(reading: Reading, width: int, n_in: int) -> None:
    reading.move("fc.weight", "fc.weight", width, n_in)
    reading.move_if("fc.bias", "fc.bias", width)


def move_layers(reading: Reading, sizes: Sizes, n_in: int) -> int:
    """All decoder layers; n_in: columns that the first one's attention reads. How many there are."""
    indices = {int(match[1]) for name in reading.left if (match := _LAYER.fullmatch(name))}
    n_layers = reading.count("layer", indices)
    reading.compare("layers", n_layers, "num_hidden_layers")
    for index in range(n_layers):
        _move_layer(reading, sizes, index, sizes.width if index else n_in)
    return n_layers


def _move_layer(reading: Reading, sizes: Sizes, index: int, n_in: int) -> None:
    file, made, width = f"layers.{index}.", f"layers.{index}.", sizes.width
    n_queries, n_keys = sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim
    shapes = {
        "self_attn.q_proj": (n_queries, n_in),
        "self_attn.k_proj": (n_keys, n_in),
        "self_attn.v_proj": (n_keys, n_in),
        "self_attn.o_proj": (width, n_queries),
        "mlp.gate_proj": (sizes.intermediate, width),
        "mlp.up_proj": (sizes.intermediate, width),
        "mlp.down_proj": (width, sizes.intermediate),
    }
    for name, shape in shapes.items():
        short = name.rpartition(".")[2].removesuffix("_proj")
        reading.move(f"{file}{name}.weight", f"{made}{short}.weight", *shape)
        reading.move_if(f"{file}{name}.bias", f"{made}{short}.bias", shape[0])
    reading.move(f"{file}post_attention_layernorm.weight", f"{made}post_norm.weight", width)
    if index:
        reading.move(f"{file}input_layernorm.weight", f"{made}input_norm.weight", width)
    if reading.move_if(f"{file}self_attn.q_norm.weight", f"{made}q_norm.weight", sizes.head_dim):
        reading.move(f"{file}self_attn.k_norm.weight", f"{made}k_norm.weight", sizes.head_dim)


def _move_vocabulary(reading: Reading, width: int) -> int:
    """Embedding and projection, if they are the head's own. Rows of the projection that is used."""
    n_vocab = None
    if "embed_tokens.weight" in reading.left:
        n_vocab = reading.size("embed_tokens.weight")[0]
        reading.move("embed_tokens.weight", "embedding.weight", n_vocab, width)
    if "lm_head.weight" not in reading.left:
        if "d2t" in reading.left or "token_map" in reading.left:
            reading.fail("has a vocabulary of its own but no lm_head.weight for it; fetch the file again")
        reading.drop("t2d")
        return _told_vocabulary(reading, n_vocab)
    n_rows = reading.size("lm_head.weight")[0]
    output = reading.weight("lm_head.weight", n_rows, width)
    ids = read_target_ids(reading, n_rows, n_vocab)
    if ids is not None:
        reading.made["d2t"] = ids
        # vLLM's files may hold the whole projection beside the tokens to keep
        output = output if len(ids) == n_rows else torch.index_select(output, 0, ids)
    reading.made["output.weight"] = output
    reading.compare("draft tokens", len(output), "draft_vocab_size")
    return len(output)


def _told_vocabulary(reading: Reading, n_vocab: int | None) -> int:
    told = n_vocab if n_vocab is not None else reading.number("vocab_size")
    if told is None:
        reading.fail("config.json lacks vocab_size, and no tensor tells it: add it")
    return told

"""An EAGLE-3 head as the GGUF that llama.cpp drafts with (`llama-server -md FILE --spec-type draft-eagle3`).

Knows that file's keys, names and order of rows (src/models/eagle3.cpp and conversion/llama.py of llama.cpp);
nothing of other programs. llama.cpp runs one layer, three taps and no biases, so other heads are refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize
from numpy.typing import NDArray
from torch import Tensor

from adapters.errors import AdapterError, HeadError
from adapters.gguf_fields import read_fields, write_fields
from adapters.gguf_file import GgufFacts, new_gguf, read_gguf
from adapters.quantize import check_paths
from adapters.target import FloatArray
from heads.fit import check_fit, taps_of
from heads.rope import frequencies
from heads.spec import EagleSpec, Head, Rope
from heads.target_weights import TargetWeights

_N_TAPS = 3
# how matrices are stored; vectors are float32 always
GGUF_TYPES: Mapping[str, LlamaFileType] = MappingProxyType(
    {
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "f32": LlamaFileType.ALL_F32,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
        "q4_0": LlamaFileType.MOSTLY_Q4_0,
    }
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "fc.weight": "fc.weight",
        "input_norm.weight": "enc.output_norm.weight",
        "norm.weight": "output_norm.weight",
        "output.weight": "output.weight",
        "embedding.weight": "token_embd.weight",
        "layers.0.input_norm.weight": "blk.0.attn_norm.weight",
        "layers.0.hidden_norm.weight": "blk.0.attn_norm_2.weight",
        "layers.0.q.weight": "blk.0.attn_q.weight",
        "layers.0.k.weight": "blk.0.attn_k.weight",
        "layers.0.v.weight": "blk.0.attn_v.weight",
        "layers.0.o.weight": "blk.0.attn_output.weight",
        "layers.0.post_norm.weight": "blk.0.ffn_norm.weight",
        "layers.0.gate.weight": "blk.0.ffn_gate.weight",
        "layers.0.up.weight": "blk.0.ffn_up.weight",
        "layers.0.down.weight": "blk.0.ffn_down.weight",
    }
)


def write_eagle3_gguf(
    head: Head, target: Path, out: Path, *, dtype: str = "f16", overwrite: bool = False
) -> Path:
    """Write `head` for the GGUF `target`, whose vocabulary it takes; `out` appears whole or not at all.

    dtype: one of GGUF_TYPES, of the matrices. Raises HeadError for a head that does not fit the target, or
    that llama.cpp cannot run, AdapterError where it cannot be written.
    """
    if dtype not in GGUF_TYPES:
        raise AdapterError(f"no type {dtype!r} for a head; use one of {', '.join(GGUF_TYPES)}")
    check_paths(target, out, overwrite)
    facts = read_gguf(target)
    spec = _runnable(head, facts)
    with new_gguf(out) as partial:
        writer = gguf.GGUFWriter(partial, "eagle3")
        try:
            _add_keys(writer, spec, facts, taps_of(head, facts.n_layer), dtype)
            writer.add_bool("eagle3.norm_before_fc", "input_norm.weight" in head.tensors)
            write_fields(writer, read_fields(target, "tokenizer.ggml."))
            for name, tensor in _tensors(head, spec, target, facts.n_vocab):
                _add_tensor(writer, name, tensor, dtype)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        except OSError as error:
            raise AdapterError(f"{out}: cannot be written ({error.strerror})") from error
        finally:
            writer.close()
    return out


def _runnable(head: Head, facts: GgufFacts) -> EagleSpec:
    """The head's spec, if llama.cpp can run it beside this target; raises HeadError."""
    spec = head.spec
    if not isinstance(spec, EagleSpec) or spec.family != "eagle3":
        raise HeadError(
            f"{head.source}: is a head of family {spec.family}; llama.cpp runs EAGLE-3 heads only"
        )
    # whether llama.cpp can read the target's layers, is the business of whoever runs it
    check_fit(head, facts)
    problems = {
        f"{spec.n_layers} layers": spec.n_layers != 1,
        f"{spec.n_taps} taps": spec.n_taps != _N_TAPS,
        "norm_output": spec.norm_output,
    }
    problems |= {name: name not in (*_NAMES, "d2t") for name in sorted(head.tensors)}
    found = [what for what, is_problem in problems.items() if is_problem]
    if found:
        raise HeadError(
            f"{head.source}: llama.cpp cannot run a head with {', '.join(found[:3])}; "
            "export it for another program (layout safeailab or speculators)"
        )
    return spec


def _add_keys(
    writer: gguf.GGUFWriter, spec: EagleSpec, facts: GgufFacts, taps: tuple[int, ...], dtype: str
) -> None:
    writer.add_name(f"{facts.name} EAGLE-3")
    writer.add_file_type(GGUF_TYPES[dtype])
    writer.add_context_length(facts.n_ctx_train)
    writer.add_embedding_length(spec.width)
    writer.add_block_count(spec.n_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.n_heads)
    writer.add_head_count_kv(spec.n_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.eps)
    writer.add_vocab_size(facts.n_vocab)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(spec.rope.theta)
    if _is_linear(spec.rope) and spec.rope.scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(spec.rope.scaling["factor"]))
    # by name: older versions of gguf have no constants for these
    writer.add_array("eagle3.target_layers", list(taps))
    writer.add_uint32("eagle3.target_hidden_size", spec.hidden_size)
    writer.add_bool("eagle3.norm_before_residual", spec.norm_before_residual)


def _is_linear(rope: Rope) -> bool:
    return rope.scaling is not None and rope.scaling.get("rope_type") == "linear"


def _tensors(head: Head, spec: EagleSpec, target: Path, n_vocab: int) -> Iterator[tuple[str, Tensor]]:
    """By llama.cpp's names; what the head borrows, llama.cpp takes from the target as well."""
    tensors = dict(head.tensors)
    ids = tensors.pop("d2t", None)
    output, embedding = tensors.get("output.weight"), tensors.get("embedding.weight")
    if output is not None and ids is None and len(output) != n_vocab:
        tensors["output.weight"] = output[:n_vocab]  # the rest is padding
        ids = torch.arange(len(output)) if len(output) < n_vocab else None
    if embedding is not None and len(embedding) < n_vocab:
        missing = embedding.new_zeros(n_vocab - len(embedding), embedding.shape[1])
        tensors["embedding.weight"] = torch.cat([embedding, missing])
    weights = TargetWeights(target)
    if embedding is None and weights.embedding_scale != 1.0:
        # llama.cpp would give the head the target's embedding without its factor
        tensors["embedding.weight"] = weights.embedding * weights.embedding_scale
    for name, tensor in tensors.items():
        n_heads = {"layers.0.q.weight": spec.n_heads, "layers.0.k.weight": spec.n_kv_heads}.get(name)
        yield _NAMES[name], tensor if n_heads is None else interleaved(tensor, n_heads)
    if ids is not None:
        yield "d2t", ids
    if spec.rope.scaling is not None and not _is_linear(spec.rope):
        plain = frequencies(Rope(spec.rope.theta), spec.head_dim)
        yield "rope_freqs.weight", plain / frequencies(spec.rope, spec.head_dim)


def interleaved(matrix: Tensor, n_heads: int) -> Tensor:
    """Rows of queries or keys in the order in which llama.cpp turns them: pairs are neighbours, where
    Hugging Face has them half a head apart."""
    return matrix.reshape(n_heads, 2, -1, matrix.shape[1]).transpose(1, 2).reshape(matrix.shape)


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor, dtype: str) -> None:
    if not tensor.is_floating_point():
        ids: NDArray[np.int64] = tensor.cpu().numpy().astype(np.int64)
        writer.add_tensor(name, ids, raw_dtype=GGMLQuantizationType.I64)
        return
    values: FloatArray = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    kind = _type_of(name, tensor, dtype)
    writer.add_tensor(name, np.ascontiguousarray(quantize(values, kind)), raw_dtype=kind)


def _type_of(name: str, tensor: Tensor, dtype: str) -> GGMLQuantizationType:
    if tensor.dim() == 1:
        return GGMLQuantizationType.F32
    # features hold outliers beyond what half precision can count to
    kind = GGMLQuantizationType["BF16" if (name, dtype) == ("fc.weight", "f16") else dtype.upper()]
    block, _ = GGML_QUANT_SIZES[kind]
    if tensor.shape[1] % block:
        raise HeadError(
            f"{name} cannot be {kind.name}: its rows have {tensor.shape[1]} weights, "
            f"which is no multiple of {block}; use f16, bf16 or f32"
        )
    return kind

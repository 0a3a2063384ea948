"""Random heads of every shape that checkpoints come in, as canonical tensors (float32 NumPy arrays).

Knows shapes and flags; small, and scaled so that outputs differ from token to token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.spec import EagleSpec, MedusaSpec, Rope

N_VOCAB = 40  # of the targets that the random heads belong to
DRAFTED = (0, 1, 3, 4, 6, 7, 9, 12, 13, 17, 18, 21, 22, 25, 29, 30, 33, 36, 38, 39)  # a cut vocabulary
_PLAIN = Rope()
LLAMA3: Mapping[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,  # short, so that short texts reach all three regimes
}
_QKV, _MLP = ("q", "k", "v"), ("gate", "up", "down")

# what each kind of checkpoint has that the others have not (heads_formats: options of `random_eagle`)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "eagle": {"family": "eagle"},
    "eagle-no-fc-bias": {"family": "eagle", "fc_bias": False},
    "eagle-mha": {"family": "eagle", "n_kv_heads": 4},
    "eagle-qkv-bias": {"family": "eagle", "fc_bias": False, "biases": _QKV},
    "eagle-own-output": {"family": "eagle", "own_embedding": True, "own_output": True},
    "eagle-token-map": {"family": "eagle", "cut": True},
    "eagle-layernorms": {"family": "eagle", "layernorms": True, "norm": True},
    "eagle-layernorms-fed-back": {"family": "eagle", "layernorms": True, "norm": True, "norm_output": True},
    "eagle-two-layers": {"family": "eagle", "n_layers": 2},
    "eagle-head-dim": {"family": "eagle", "hidden_size": 36, "head_dim": 6},
    "eagle3": {"family": "eagle3"},
    "eagle3-full-vocabulary": {"family": "eagle3", "cut": False, "own_output": False},
    "eagle3-own-embedding": {"family": "eagle3", "own_embedding": True},
    "eagle3-narrower": {"family": "eagle3", "hidden_size": 40, "width": 24, "own_embedding": True},
    "eagle3-two-taps": {"family": "eagle3", "n_taps": 2},
    "eagle3-one-tap": {"family": "eagle3", "n_taps": 1},
    "eagle3-head-dim": {"family": "eagle3", "width": 36, "hidden_size": 36, "head_dim": 10},
    "eagle3-mqa": {"family": "eagle3", "n_kv_heads": 1},
    "eagle3-norm-before-residual": {"family": "eagle3", "norm_before_residual": True},
    "eagle3-norm-output": {"family": "eagle3", "norm_output": True},
    "eagle3-norm-before-fc": {"family": "eagle3", "input_norm": True},
    "eagle3-fc-norms": {"family": "eagle3", "fc_norms": True},
    "eagle3-all-norms": {
        "family": "eagle3",
        "norm_before_residual": True,
        "norm_output": True,
        "input_norm": True,
        "qk_norm": True,
    },
    "eagle3-three-layers": {"family": "eagle3", "n_layers": 3},
    "eagle3-layers-qk-norm": {"family": "eagle3", "n_layers": 2, "qk_norm": True},
    "eagle3-qkv-bias": {"family": "eagle3", "biases": _QKV},
    "eagle3-all-biases": {"family": "eagle3", "biases": (*_QKV, "o", *_MLP), "fc_bias": True},
    "eagle3-only-v-bias": {"family": "eagle3", "biases": ("v", "up")},
    "eagle3-theta": {"family": "eagle3", "rope": Rope(500000.0), "eps": 1e-5},
    "eagle3-linear-rope": {"family": "eagle3", "rope": Rope(100.0, {"rope_type": "linear", "factor": 4.0})},
    "eagle3-llama3-rope": {"family": "eagle3", "rope": Rope(10000.0, LLAMA3)},
}

MEDUSA_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "medusa": {},
    "medusa-tied-to-target": {"own_output": False},
    "medusa-shared": {"shared": True},
    "medusa-bare-linear": {"n_blocks": 0},
    "medusa-two-blocks": {"n_blocks": 2, "n_heads": 5},
    "medusa-token-map": {"cut": True},
    "medusa-shared-token-map": {"cut": True, "shared": True, "n_heads": 2},
    "medusa-one-head": {"n_heads": 1},
}


def random_medusa(
    rng: np.random.Generator,
    *,
    n_heads: int = 3,
    n_blocks: int = 1,
    hidden_size: int = 24,
    own_output: bool = True,
    shared: bool = False,
    cut: bool = False,
) -> tuple[MedusaSpec, dict[str, NDArray[Any]]]:
    """Heads for a target of N_VOCAB tokens. shared: one projection (one array) for all. cut: to DRAFTED."""
    h = hidden_size
    n_vocab = len(DRAFTED) if cut else N_VOCAB
    tensors: dict[str, NDArray[Any]] = {}
    projection = _matrix(rng, n_vocab, h)
    for head in range(n_heads):
        for block in range(n_blocks):
            tensors[f"blocks.{head}.{block}.weight"] = _matrix(rng, h, h)
            tensors[f"blocks.{head}.{block}.bias"] = _bias(rng, h)
        if own_output:
            tensors[f"outputs.{head}.weight"] = projection if shared else _matrix(rng, n_vocab, h)
    if cut:
        tensors["token_map"] = np.array(DRAFTED, np.int64)
    spec = MedusaSpec(
        n_heads=n_heads, n_blocks=n_blocks, hidden_size=h, n_vocab=n_vocab if own_output else None
    )
    return spec, tensors


def random_eagle(
    rng: np.random.Generator,
    *,
    family: str = "eagle3",
    hidden_size: int = 32,
    width: int | None = None,
    n_layers: int = 1,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int | None = None,
    intermediate_size: int = 28,
    rope: Rope = _PLAIN,
    eps: float = 1e-6,
    n_taps: int = 3,
    norm_before_residual: bool = False,
    norm_output: bool = False,
    fc_bias: bool | None = None,
    biases: Sequence[str] = (),
    layernorms: bool = False,
    norm: bool | None = None,
    qk_norm: bool = False,
    input_norm: bool = False,
    fc_norms: bool = False,
    own_embedding: bool = False,
    own_output: bool | None = None,
    cut: bool | None = None,
) -> tuple[EagleSpec, dict[str, NDArray[Any]]]:
    """A head for a target of N_VOCAB tokens; what is None is as the family's first checkpoints have it.

    biases: matrices of the layers that have one. layernorms: HASS's norms of embedding and feature. norm:
    before the projection. input_norm, fc_norms: over all taps, or over each. cut: the vocabulary, to DRAFTED.
    """
    third = family == "eagle3"
    h, hd = hidden_size, width or hidden_size
    d = head_dim or hd // n_heads
    n_taps = n_taps if third else 1
    cut = third if cut is None else cut
    n_vocab = len(DRAFTED) if cut else N_VOCAB
    tensors = {"fc.weight": _matrix(rng, hd, n_taps * h if third else 2 * h)}
    if not third if fc_bias is None else fc_bias:
        tensors["fc.bias"] = _bias(rng, hd)
    for layer in range(n_layers):
        n_in = 2 * hd if third and layer == 0 else hd
        shapes = {"q": (n_heads * d, n_in), "k": (n_kv_heads * d, n_in), "v": (n_kv_heads * d, n_in)}
        shapes |= {"o": (hd, n_heads * d), "gate": (intermediate_size, hd), "up": (intermediate_size, hd)}
        shapes |= {"down": (hd, intermediate_size)}
        for name, (rows, columns) in shapes.items():
            # queries and keys larger, so that attention prefers some pairs to others
            gain = 1.5 if name in "qk" else 1.0
            tensors[f"layers.{layer}.{name}.weight"] = gain * _matrix(rng, rows, columns)
            if name in biases:
                tensors[f"layers.{layer}.{name}.bias"] = _bias(rng, rows)
        norms = ["post_norm"]
        norms += ["input_norm"] if third or layernorms or layer else []
        norms += ["hidden_norm"] if (third or layernorms) and layer == 0 else []
        for name in norms:
            tensors[f"layers.{layer}.{name}.weight"] = _norm(rng, hd)
        for name in ("q_norm", "k_norm") if qk_norm else ():
            tensors[f"layers.{layer}.{name}.weight"] = 1.5 * _norm(rng, d)
    if third if norm is None else norm:
        tensors["norm.weight"] = _norm(rng, hd)
    if input_norm:
        tensors["input_norm.weight"] = _norm(rng, n_taps * h)
    for tap in range(n_taps) if fc_norms else ():
        tensors[f"fc_norms.{tap}.weight"] = _norm(rng, h)
    if own_embedding:
        tensors["embedding.weight"] = rng.standard_normal((N_VOCAB, hd)).astype(np.float32)
    if cut or (third if own_output is None else own_output):
        tensors["output.weight"] = _matrix(rng, n_vocab, hd)
    if cut:
        tensors["d2t"] = np.array(DRAFTED, np.int64)
    spec = EagleSpec(
        family="eagle3" if third else "eagle",
        hidden_size=h,
        width=hd,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=d,
        intermediate_size=intermediate_size,
        n_vocab=n_vocab,
        rope=rope,
        eps=eps,
        n_taps=n_taps,
        norm_before_residual=norm_before_residual,
        norm_output=norm_output,
    )
    return spec, tensors


def random_target(rng: np.random.Generator, hidden_size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(embedding, projection) of the target, `[N_VOCAB, hidden_size]` each, for heads that borrow them."""
    embedding = rng.standard_normal((N_VOCAB, hidden_size)).astype(np.float32)
    return embedding, _matrix(rng, N_VOCAB, hidden_size)


def random_pairs(rng: np.random.Generator, spec: EagleSpec, n: int) -> tuple[NDArray[np.float32], list[int]]:
    """n features of the target and the tokens after them."""
    features = rng.standard_normal((n, spec.n_taps * spec.hidden_size)).astype(np.float32)
    return features, rng.integers(0, N_VOCAB, n).tolist()


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)


def _bias(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return (0.5 * rng.standard_normal(n)).astype(np.float32)


def _norm(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return (1.0 + 0.3 * rng.standard_normal(n)).astype(np.float32)

"""Medusa and EAGLE from their formulas: float64, one pair after another, no cache, no batching, no torch.

Knows canonical tensors as NumPy arrays. Slow on purpose: every guess recomputes the whole text, in loops
that can be checked against the papers line by line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.spec import EagleSpec, MedusaSpec, Rope

Array = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]


def silu(x: Array) -> Array:
    return x / (1.0 + np.exp(-x))


def rms_norm(x: Array, weight: NDArray[Any], eps: float) -> Array:
    """x over its root mean square, times the weight."""
    return x / np.sqrt(np.mean(x * x) + eps) * weight.astype(np.float64)


def inverse_frequencies(rope: Rope, head_dim: int) -> Array:
    """Radians by which each of the head_dim / 2 planes turns per position."""
    turns = np.array([rope.theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2)])
    if rope.scaling is None:
        return turns
    factor = float(rope.scaling["factor"])
    if rope.scaling["rope_type"] == "linear":
        return turns / factor
    assert rope.scaling["rope_type"] == "llama3", rope.scaling
    low, high = float(rope.scaling["low_freq_factor"]), float(rope.scaling["high_freq_factor"])
    length = float(rope.scaling["original_max_position_embeddings"])
    scaled = []
    for turn in turns:
        wavelength = 2 * np.pi / turn
        if wavelength < length / high:  # fast: left alone
            scaled.append(turn)
        elif wavelength > length / low:  # slow: the whole factor
            scaled.append(turn / factor)
        else:
            share = (length / wavelength - low) / (high - low)
            scaled.append((1 - share) * turn / factor + share * turn)
    return np.array(scaled)


def rotated(x: Array, position: float, turns: Array) -> Array:
    """Rotate-half: dimension i and dimension i + head_dim / 2 are the two axes of plane i."""
    half = len(turns)
    out = np.empty_like(x)
    for i in range(half):
        cos, sin = np.cos(position * turns[i]), np.sin(position * turns[i])
        out[i] = x[i] * cos - x[i + half] * sin
        out[i + half] = x[i + half] * cos + x[i] * sin
    return out


def linear(tensors: Tensors, name: str, x: Array) -> Array:
    """`W x`, and a bias where the tensors have one."""
    y = tensors[f"{name}.weight"].astype(np.float64) @ x
    return y + tensors[f"{name}.bias"].astype(np.float64) if f"{name}.bias" in tensors else y


def medusa(
    spec: MedusaSpec, tensors: Tensors, hidden: NDArray[Any], projection: NDArray[Any] | None = None
) -> Array:
    """Logits `[n_heads, V']` from a post-norm row `[h]`; projection: the target's, for heads without one."""
    logits = []
    for head in range(spec.n_heads):
        x = hidden.astype(np.float64)
        for block in range(spec.n_blocks):
            x = x + silu(linear(tensors, f"blocks.{head}.{block}", x))
        weight = tensors.get(f"outputs.{head}.weight", projection)
        assert weight is not None
        logits.append(weight.astype(np.float64) @ x)
    return np.array(logits)


def eagle_chain(
    spec: EagleSpec,
    tensors: Tensors,
    features: NDArray[Any],
    tokens: Sequence[int],
    follow: Sequence[int] = (),
    embedding: NDArray[Any] | None = None,
    output: NDArray[Any] | None = None,
    *,
    shift: float = 0.0,
    window: int = 0,
) -> dict[str, Array]:
    """What the head says after its last pair, and then after each token of `follow`.

    features `[n, F]` and tokens `[n]`, the token after each feature: n pairs, at positions 0 to n - 1.
    embedding, output: the target's, for heads without their own. shift: added to every position. window:
    pairs that a pair sees, itself among them, 0 = all before it. Gives `logits [1 + len(follow), Vd]` and
    `features [1 + len(follow), hd]`, the head's own, which stand in for the target's in the pairs of
    `follow`.
    """
    network = _Eagle(spec, tensors, embedding, output, shift, window)
    g = [network.fused(feature.astype(np.float64)) for feature in features]
    pairs = list(tokens)
    logits, own = [], []
    for token in [*follow, None]:
        out = network.outputs(g, pairs)[-1]
        normed = rms_norm(out, tensors["norm.weight"], spec.eps) if "norm.weight" in tensors else out
        logits.append(network.output @ normed)
        own.append(normed if spec.norm_output else out)
        if token is not None:
            g.append(own[-1])
            pairs.append(token)
    return {"logits": np.array(logits), "features": np.array(own)}


def eagle_tree(
    spec: EagleSpec,
    tensors: Tensors,
    features: NDArray[Any],
    tokens: Sequence[int],
    nodes: Sequence[tuple[int, int]],
    embedding: NDArray[Any] | None = None,
    output: NDArray[Any] | None = None,
) -> Array:
    """Logits `[len(nodes), Vd]` after every node `(parent, token)`, -1 = the root; each path is a chain."""
    logits = []
    for node in range(len(nodes)):
        path = []
        while node >= 0:
            node, token = nodes[node]
            path.insert(0, token)
        logits.append(eagle_chain(spec, tensors, features, tokens, path, embedding, output)["logits"][-1])
    return np.array(logits)


class _Eagle:
    """The formulas of one head."""

    def __init__(
        self,
        spec: EagleSpec,
        tensors: Tensors,
        embedding: NDArray[Any] | None,
        output: NDArray[Any] | None,
        shift: float,
        window: int,
    ) -> None:
        own_embedding = tensors.get("embedding.weight", embedding)
        own_output = tensors.get("output.weight", output)
        assert own_embedding is not None and own_output is not None
        self.embedding, self.output = own_embedding.astype(np.float64), own_output.astype(np.float64)
        self.spec, self.tensors, self.shift, self.window = spec, tensors, shift, window
        self.turns = inverse_frequencies(spec.rope, spec.head_dim)

    def norm(self, name: str, x: Array) -> Array:
        """x itself where the head has no such norm."""
        weight = self.tensors.get(f"{name}.weight")
        return x if weight is None else rms_norm(x, weight, self.spec.eps)

    def fused(self, feature: Array) -> Array:
        """What the head makes of a row of the target; EAGLE-1 and 2 take it as it is."""
        if self.spec.family == "eagle":
            return feature
        h = self.spec.hidden_size
        feature = self.norm("input_norm", feature)
        taps = [feature[i * h : (i + 1) * h] for i in range(self.spec.n_taps)]
        taps = [self.norm(f"fc_norms.{i}", tap) for i, tap in enumerate(taps)]
        return linear(self.tensors, "fc", np.concatenate(taps))

    def outputs(self, g: Sequence[Array], tokens: Sequence[int]) -> list[Array]:
        """Of every pair, `[hd]` each, before the last norm."""
        residuals, inputs = [], []
        for feature, token in zip(g, tokens, strict=True):
            e = self.norm("layers.0.input_norm", self.embedding[token])
            f = self.norm("layers.0.hidden_norm", feature)
            if self.spec.family == "eagle":
                z = linear(self.tensors, "fc", np.concatenate([e, f]))
                residuals.append(z)
                inputs.append(z)
            else:
                residuals.append(f if self.spec.norm_before_residual else feature)
                inputs.append(np.concatenate([e, f]))
        x = self.layer(0, residuals, inputs)
        for index in range(1, self.spec.n_layers):
            x = self.layer(index, x, [self.norm(f"layers.{index}.input_norm", row) for row in x])
        return x

    def layer(self, index: int, residuals: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
        name, out = f"layers.{index}", []
        for residual, mixed in zip(residuals, self.attention(name, inputs), strict=True):
            r = residual + mixed
            x = self.norm(f"{name}.post_norm", r)
            gated = silu(linear(self.tensors, f"{name}.gate", x)) * linear(self.tensors, f"{name}.up", x)
            out.append(r + linear(self.tensors, f"{name}.down", gated))
        return out

    def attention(self, name: str, inputs: Sequence[Array]) -> list[Array]:
        """Causal, query head i with key head i // (n_heads / n_kv_heads)."""
        spec, out = self.spec, []
        queries = [self.heads(name, "q", x, i) for i, x in enumerate(inputs)]
        keys = [self.heads(name, "k", x, i) for i, x in enumerate(inputs)]
        values = [linear(self.tensors, f"{name}.v", x).reshape(spec.n_kv_heads, -1) for x in inputs]
        for i in range(len(inputs)):
            first = max(0, i + 1 - self.window) if self.window else 0
            mixed = []
            for head in range(spec.n_heads):
                kv = head // (spec.n_heads // spec.n_kv_heads)
                seen = range(first, i + 1)
                scores = np.array([queries[i][head] @ keys[j][kv] for j in seen]) / np.sqrt(spec.head_dim)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed.append(sum(weight * values[j][kv] for weight, j in zip(weights, seen, strict=True)))
            out.append(linear(self.tensors, f"{name}.o", np.concatenate(mixed)))
        return out

    def heads(self, name: str, kind: str, x: Array, position: int) -> list[Array]:
        """Queries or keys of one row by head: normed where the head does that, then turned."""
        rows = linear(self.tensors, f"{name}.{kind}", x).reshape(-1, self.spec.head_dim)
        normed = [self.norm(f"{name}.{kind}_norm", row) for row in rows]
        return [rotated(row, position + self.shift, self.turns) for row in normed]

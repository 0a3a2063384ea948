"""Training-time test (EAGLE-3, Li et al. 2025): the head goes on from its own output, as it will when it
drafts.

Step 0 sees the target's features; step j sees its own output of step j - 1, one token further on. A row of
step j attends to the true features up to its own place, and to its own earlier steps. Knows batches of texts;
nothing of files, of optimizers, or of where features come from.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from heads.eagle import Eagle
from heads.layer import Layer
from heads.rope import RotaryTable
from heads.training.soft_loss import soft_cross_entropy


@dataclass(frozen=True, slots=True)
class Batch:
    """B texts of at most T tokens, padded at their ends.

    tokens `[B, T]`; features `[B, T, F]` of each token; last `[B, T, h]`: the target's post-norm rows, from
    which its own next-token law follows; counts `[B, T]`: whether the token is one that the target wrote,
    which is what acceptance is measured on; taught `[B, T]`: whether the target's law of it is learned from.
    """

    tokens: Tensor
    features: Tensor
    last: Tensor
    counts: Tensor
    taught: Tensor


def outputs(network: Eagle, batch: Batch, n_steps: int, rope: RotaryTable) -> Iterator[Tensor]:
    """The head's rows `[B, T - 1 - n_steps, width]` of each step: row t of step j guesses token t + 2 + j."""
    n = batch.tokens.shape[1] - 1 - n_steps
    layer = cast(Layer, network.layers[0])
    g = network.fuse(batch.features[:, :n])
    first: tuple[Tensor, Tensor] | None = None
    own: list[tuple[Tensor, Tensor]] = []
    for step in range(n_steps):
        e = network.embed(batch.tokens[:, 1 + step : 1 + step + n])
        residual, x = network.enter(e, g)
        cos, sin = rope.rows(slice(step, step + n), n + n_steps)
        queries, keys, values = _projected(layer, x, cos, sin)
        if first is None:
            first = keys, values
        else:
            own.append((keys, values))
        mixed = _attended(queries, first, own, layer.head_dim**-0.5)
        r = residual + layer.o(mixed)
        out = r + layer.mlp(r)
        yield out
        g = network.feedback(out)


def _projected(layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(queries, keys, values), `[B, heads, T, head_dim]` each; keys and values repeated for each query
    head."""
    n_texts, n = x.shape[:2]
    cos, sin = cos.repeat(n_texts, 1), sin.repeat(n_texts, 1)
    parts = layer.project(x.reshape(n_texts * n, -1), cos, sin)
    queries, keys, values = (part.view(n_texts, n, -1, layer.head_dim).transpose(1, 2) for part in parts)
    group = layer.n_heads // layer.n_kv
    return queries, keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)


def _attended(
    queries: Tensor, first: tuple[Tensor, Tensor], own: list[tuple[Tensor, Tensor]], scale: float
) -> Tensor:
    """`[B, T, n_heads * head_dim]`: causal over the first step's keys, and each row over its own later
    ones."""
    n = queries.shape[2]
    queries = queries * scale
    future = torch.ones(n, n, dtype=torch.bool, device=queries.device).triu(1)
    scores = (queries @ first[0].transpose(-1, -2)).masked_fill_(future, float("-inf"))
    if own:
        scores = torch.cat([scores, *((queries * keys).sum(-1, keepdim=True) for keys, _ in own)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(queries.dtype)
    mixed = weights[..., :n] @ first[1]
    for place, (_, values) in enumerate(own, start=n):
        mixed = mixed + weights[..., place : place + 1] * values
    return mixed.transpose(1, 2).flatten(2)


@dataclass(frozen=True, slots=True)
class Losses:
    """Sums by step `[n_steps]`. loss: cross-entropy against the target's law, over `n_learned` rows: at each
    step those that drafting reaches. right: how often this guess and all before it were what the target said,
    of the `n_rows` that count. streaks: the number of right guesses in a row from each place of each text
    where the first counts, -1 elsewhere."""

    loss: Tensor
    right: Tensor
    n_learned: Tensor
    n_rows: Tensor
    streaks: Tensor


@dataclass(frozen=True, slots=True)
class Aims:
    """What a head shall say. output `[Vd, h]`: the target's projection, of the draft vocabulary's rows.
    places `[V]`: the row of each token of the target in it, -1 outside: nothing is learned where the target
    said such a token."""

    output: Tensor
    places: Tensor


def losses(
    network: Eagle,
    batch: Batch,
    n_steps: int,
    rope: RotaryTable,
    aims: Aims,
    reached: float,
    likeness: float = 0.0,
) -> Losses:
    """How far an EAGLE head's guesses are from the target's own law on the draft vocabulary; and, `likeness`
    times, its rows from the target's next post-norm rows (EAGLE-1: then laws count a tenth). reached: see
    `judged`."""
    steps = list(outputs(network, batch, n_steps, rope))
    projection = network.output.weight
    found = judged(
        batch, n_steps, aims, reached, lambda step, rows: (network.last(steps[step][rows]), projection)
    )
    if not likeness:
        return found
    n, far = steps[0].shape[1], list[Tensor]()
    for step, out in enumerate(steps):
        rows = batch.taught[:, 2 + step : 2 + step + n]
        wanted = batch.last[:, 1 + step : 1 + step + n][rows].float()
        far.append(smooth_l1_loss(out[rows].float(), wanted, reduction="none").mean(-1).sum())
    return replace(found, loss=0.1 * found.loss + likeness * torch.stack(far))


def judged(
    batch: Batch,
    n_steps: int,
    aims: Aims,
    reached: float,
    guess: Callable[[int, Tensor], tuple[Tensor, Tensor]],
) -> Losses:
    """guess(step, rows `[B, T - 1 - n_steps]` bool) -> what the projection reads at these rows of that step,
    `[n, width]`, and the projection, `[Vd, width]`.

    A step is learned where each step before it gave what the target said the highest chance, or one of
    `reached`: neither chains nor trees of drafts go on elsewhere, so nobody asks what they would be.
    """
    n = batch.tokens.shape[1] - 1 - n_steps
    loss, rights, learned, counts = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    alive = asked = torch.ones_like(batch.taught[:, :n])
    streaks = -1 * (~batch.counts[:, 2 : 2 + n]).long()
    for step in range(n_steps):
        said = slice(2 + step, 2 + step + n)  # the token that is guessed
        wanted, counted = aims.places[batch.tokens[:, said]], batch.counts[:, said]
        rows = batch.taught[:, said] & (wanted >= 0) & asked
        before = batch.last[:, 1 + step : 1 + step + n][rows].to(aims.output.dtype)
        found = soft_cross_entropy(*guess(step, rows), before, aims.output, wanted[rows])
        loss.append(found.loss)
        right, asked = torch.zeros_like(rows), torch.zeros_like(rows)
        right[rows] = found.likeliest == wanted[rows]
        asked[rows] = right[rows] | (found.chance >= reached)
        alive = alive & right
        rights.append((alive & counted).sum())
        streaks += alive & counted & (streaks >= 0)
        learned.append(rows.sum())
        counts.append(counted.sum())
    lost, right, n_learned, n_rows = map(torch.stack, (loss, rights, learned, counts))
    return Losses(lost, right, n_learned, n_rows, streaks)


def rounds(streaks: Tensor) -> tuple[int, int]:
    """(tokens, rounds) of decoding with such guesses: a round begins where the last one's first wrong guess
    was. A mean over all places would be too high, as rounds begin where the text is hard to guess."""
    n_tokens = n_rounds = 0
    for text in streaks.tolist():
        place = 0
        while place < len(text):
            if text[place] >= 0:
                n_rounds += 1
                n_tokens += text[place] + 1
            place += max(text[place], 0) + 1
    return n_tokens, n_rounds

"""Cross-entropy of a projection against the target's own law, without a matrix of all rows and all tokens.

    loss = -sum over rows of softmax(before A^T) . log softmax(x W^T)

The gradient is made along with the loss, a few rows at a time, while they are in the cache: on CPUs several
times as fast as the steps one by one, and in memory that does not grow with the batch (as Liger-Kernel does
on GPUs: Hsu et al. 2024). Knows rows and matrices; nothing of heads or of texts.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_PART = 256  # rows that go through softmax together
_MOST = 32 * 2**20  # numbers of a gradient that is kept until it is multiplied
_GROUP = 64  # logits whose largest one is found together


class Found(NamedTuple):
    """loss: the sum over the rows; likeliest `[n]`: the column of each row's largest logit; chance `[n]`: the
    probability of the column that was asked about."""

    loss: Tensor
    likeliest: Tensor
    chance: Tensor


def soft_cross_entropy(x: Tensor, weight: Tensor, before: Tensor, aim: Tensor, asked: Tensor) -> Found:
    """x `[n, w]` and weight `[V, w]` make the logits that learn; before `[n, h]` and aim `[V, h]` those of
    the target, through which no gradient goes; asked `[n]`: a column of each row. Products are in autocast's
    dtype where that is on."""
    found = _SoftCrossEntropy.apply(x, weight, before, aim, asked)  # type: ignore[no-untyped-call]
    return Found(*found)


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, before: Tensor, aim: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = _product_dtype(x)
        matrix, aim = weight.to(kind), aim.to(kind)
        # whole parts: a product of a shape that was not met before costs as much again as the product
        n, filling = len(x), (0, 0, 0, -len(x) % _PART)
        rows, before = pad(x.to(kind), filling), pad(before.to(kind), filling)
        learns, learns_weight = any(ctx.needs_input_grad[:2]), ctx.needs_input_grad[1]
        loss = torch.zeros((), device=x.device)
        likeliest = torch.empty(n, dtype=torch.int64, device=x.device)
        chance = torch.empty(n, device=x.device)
        grad_x = torch.empty_like(rows) if learns else None
        grad_weight = torch.zeros(weight.shape, device=x.device) if learns_weight else None
        stretch = max(_PART, _MOST // len(weight) // _PART * _PART)
        for start in range(0, len(rows), stretch):
            block = slice(start, start + stretch)
            errors = torch.zeros(len(rows[block]), len(weight), dtype=kind, device=x.device)
            for first in range(0, len(errors), _PART):
                whole = slice(start + first, start + first + _PART)
                part = slice(whole.start, min(whole.stop, n))
                k = part.stop - part.start
                law = torch.softmax((before[whole] @ aim.T)[:k].float(), dim=-1)
                logits = (rows[whole] @ matrix.T)[:k].float()
                largest, likeliest[part] = _largest(logits)
                logits -= largest
                loss -= torch.dot(law.flatten(), logits.flatten())
                odds = logits.exp_()
                total = odds.sum(-1, keepdim=True)
                loss += total.log().sum()
                odds /= total
                chance[part] = odds.gather(-1, asked[part, None])[:, 0]
                if learns:
                    errors[first : first + k] = odds.sub_(law)
            if grad_x is not None:
                grad_x[block] = errors @ matrix
            if grad_weight is not None:
                grad_weight += errors.T @ rows[block]
        ctx.save_for_backward(None if grad_x is None else grad_x[:n], grad_weight)
        ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(likeliest, chance)
        return loss, likeliest, chance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale, (grad_x, grad_weight) = grads[0], ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        to_x = None if grad_x is None else grad_x.to(of_x) * scale
        to_weight = None if grad_weight is None else grad_weight.to(of_weight) * scale
        return to_x, to_weight, None, None, None


def _largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(values `[n, 1]`, columns `[n]`) of each row's first largest logit: that of groups first, as a maximum
    is several times as fast as the place of one."""
    n, n_columns = logits.shape
    if n_columns % _GROUP:
        values, columns = logits.max(-1, keepdim=True)
        return values, columns[:, 0]
    groups = logits.view(n, -1, _GROUP)
    values, group = groups.amax(-1).max(-1, keepdim=True)
    inside = groups[torch.arange(n, device=logits.device), group[:, 0]].argmax(-1)
    return values, group[:, 0] * _GROUP + inside


def _product_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

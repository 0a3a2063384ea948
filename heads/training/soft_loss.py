"""Cross-entropy of a projection against the target's own law, without a matrix of all rows and all tokens.

    loss = -sum over rows of softmax(before A^T) . log softmax(x W^T)

The gradient is made along with the loss, a few rows at a time, while they are in the cache: on CPUs several
times as fast as the steps one by one, and in memory that does not grow with the batch (as Liger-Kernel does
on GPUs: Hsu et al. 2024). Knows rows and matrices; nothing of heads or of texts.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_PART = 256  # rows that go through softmax together
_MOST = 32 * 2**20  # numbers of a gradient that is kept until it is multiplied


class Found(NamedTuple):
    """loss: the sum over the rows; likeliest `[n]`: the column of each row's largest logit."""

    loss: Tensor
    likeliest: Tensor


def soft_cross_entropy(x: Tensor, weight: Tensor, before: Tensor, aim: Tensor) -> Found:
    """x `[n, w]` and weight `[V, w]` make the logits that learn; before `[n, h]` and aim `[V, h]` those of
    the target, through which no gradient goes. Products are in autocast's dtype where that is on."""
    found = _SoftCrossEntropy.apply(x, weight, before, aim)  # type: ignore[no-untyped-call]
    return Found(*found)


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, before: Tensor, aim: Tensor) -> tuple[Tensor, Tensor]:
        kind = _product_dtype(x)
        rows, matrix, aim = x.to(kind), weight.to(kind), aim.to(kind)
        learns, learns_weight = any(ctx.needs_input_grad[:2]), ctx.needs_input_grad[1]
        loss = torch.zeros((), device=x.device)
        likeliest = torch.empty(len(x), dtype=torch.int64, device=x.device)
        grad_x = torch.empty_like(rows) if learns else None
        grad_weight = torch.zeros(weight.shape, device=x.device) if learns_weight else None
        stretch = max(_PART, _MOST // len(weight) // _PART * _PART)
        for start in range(0, len(x), stretch):
            block = slice(start, start + stretch)
            errors = torch.empty(len(rows[block]), len(weight), dtype=kind, device=x.device)
            for first in range(0, len(errors), _PART):
                part = slice(start + first, min(start + first + _PART, start + len(errors)))
                logits = (rows[part] @ matrix.T).float()
                likeliest[part] = logits.argmax(-1)
                law = torch.softmax((before[part].to(kind) @ aim.T).float(), dim=-1)
                logp = torch.log_softmax(logits, dim=-1)
                loss -= torch.dot(law.flatten(), logp.flatten())
                if learns:
                    errors[first : first + _PART] = logp.exp_().sub_(law)
            if grad_x is not None:
                grad_x[block] = errors @ matrix
            if grad_weight is not None:
                grad_weight += errors.T @ rows[block]
        ctx.save_for_backward(grad_x, grad_weight)
        ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(likeliest)
        return loss, likeliest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale, (grad_x, grad_weight) = grads[0], ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        to_x = None if grad_x is None else grad_x.to(of_x) * scale
        to_weight = None if grad_weight is None else grad_weight.to(of_weight) * scale
        return to_x, to_weight, None, None


def _product_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

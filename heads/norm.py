"""RMS norm (Zhang and Sennrich 2019), by the kernel of another one."""

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, rms_norm


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension.

    PyTorch has no fused RMS norm on CPUs, where a draft step feels each operation. Of [x, -x] the mean is
    zero and the variance that mean square, so that its layer norm, which is fused, begins with the answer.
    """
    if x.device.type != "cpu" or x.requires_grad:
        return rms_norm(x, x.shape[-1:], weight, eps)
    n = x.shape[-1]
    return layer_norm(torch.cat([x, -x], dim=-1), (2 * n,), None, None, eps)[..., :n] * weight

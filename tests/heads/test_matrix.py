"""Claims about weights of 8 bits: close to what they were, and kept where one would hide the others."""

import pytest
import torch

from heads.matrix import BlockMatrix, Int8Matrix, matrix, product_from
from heads.network import network_of
from heads.spec import Head
from tests.heads.random_heads import random_eagle


def test_products_are_those_of_the_rounded_weights():
    weight, bias = torch.randn(40, 32), torch.randn(40)
    x = torch.randn(3, 32).to(torch.bfloat16)
    exact = x.float() @ weight.T + bias
    assert (Int8Matrix(weight, bias)(x).float() - exact).abs().max() < 0.15
    assert Int8Matrix(weight, None)(x[0]).shape == (40,)


@pytest.mark.parametrize("bias", [None, torch.randn(48)], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", [matrix, Int8Matrix, BlockMatrix])
def test_part_of_a_product_is_that_part_of_it(kind, bias):
    made = kind(torch.randn(48, 64), bias)
    x = torch.randn(3, 64, dtype=torch.bfloat16 if kind is Int8Matrix else torch.float32)
    torch.testing.assert_close(product_from(16, made, x), made(x)[:, 16:])


def test_a_row_of_zeros_stays_one():
    assert torch.equal(
        Int8Matrix(torch.zeros(16, 32), None)(torch.ones(1, 32).bfloat16()), torch.zeros(1, 16).bfloat16()
    )


def test_small_weights_beside_large_ones_survive_where_features_come_in():
    import numpy as np

    spec, tensors = random_eagle(np.random.default_rng(0), own_embedding=True)
    found = {name: torch.from_numpy(value) for name, value in tensors.items()}
    found["fc.weight"] = 0.003 * torch.ones_like(found["fc.weight"])
    found["fc.weight"][:, 0] = 1.0  # a scale for 1.0 rounds 0.003 away
    network = network_of(Head(spec, found, "random"), None, torch.int8)
    features = torch.zeros(1, spec.n_taps * spec.hidden_size)
    features[:, 1:] = 100.0
    expected = 100.0 * 0.003 * (features.shape[1] - 1)
    assert network.fuse(features).float()[0, 0].item() == pytest.approx(expected, rel=0.02)

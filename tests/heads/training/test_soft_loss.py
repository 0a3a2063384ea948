"""Loss and gradient in one pass are those of the steps one by one."""

import pytest
import torch

from heads.training import soft_loss
from heads.training.soft_loss import soft_cross_entropy


def given(n=23, width=6, n_vocab=11, h=5):
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, width), (n_vocab, width), (n, h), (n_vocab, h))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [*made, torch.randint(n_vocab, (n,), generator=generator)]


def one_by_one(x, weight, before, aim):
    law = torch.softmax(before @ aim.T, dim=-1)
    return -(law * torch.log_softmax(x @ weight.T, dim=-1)).sum()


@pytest.mark.parametrize("part", [4, 256])
def test_loss_and_gradients_are_those_of_the_formula(monkeypatch, part):
    monkeypatch.setattr(soft_loss, "_PART", part)
    monkeypatch.setattr(soft_loss, "_MOST", 11 * 8)  # two parts to a block
    x, weight, before, aim, asked = given()
    x.requires_grad_(), weight.requires_grad_()
    expected = one_by_one(x, weight, before, aim)
    wanted = torch.autograd.grad(3 * expected, (x, weight))
    found = soft_cross_entropy(x, weight, before, aim, asked)
    grads = torch.autograd.grad(3 * found.loss, (x, weight))
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for got, want in zip(grads, wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-5)
    assert found.likeliest.equal((x @ weight.T).argmax(-1))
    chances = torch.softmax(x @ weight.T, dim=-1)
    assert torch.allclose(found.chance.double(), chances[range(len(x)), asked], rtol=1e-5)


@pytest.mark.parametrize("n_vocab", [200, 192])  # groups of 64, and what they do not divide
def test_of_equals_the_first_is_the_likeliest(n_vocab):
    # a projection of whole numbers has many equals, and is the same in whatever order it is added up
    x, weight, before, aim, asked = (tensor.round() for tensor in given(n_vocab=n_vocab))
    found = soft_cross_entropy(x, weight, before, aim, asked.long())
    logits = x @ weight.T
    equals = logits == logits.amax(-1, keepdim=True)
    assert equals.sum() > len(x)
    assert found.likeliest.equal(equals.int().argmax(-1))


def test_a_frozen_projection_gets_no_gradient_and_rows_do():
    x, weight, before, aim, asked = given()
    x.requires_grad_()
    soft_cross_entropy(x, weight, before, aim, asked).loss.backward()
    assert x.grad is not None and weight.grad is None


def test_without_gradients_only_the_loss_is_made():
    x, weight, before, aim, asked = given()
    with torch.no_grad():
        found = soft_cross_entropy(x, weight, before, aim, asked)
    assert found.loss.item() == pytest.approx(one_by_one(x, weight, before, aim).item(), rel=1e-5)
    assert not found.loss.requires_grad


def test_no_rows_have_no_loss():
    x, weight, before, aim, asked = given(n=0)
    x.requires_grad_()
    found = soft_cross_entropy(x, weight, before, aim, asked)
    found.loss.backward()
    assert found.loss.item() == 0.0 and len(found.likeliest) == 0


def test_in_autocast_products_are_bfloat16_and_gradients_of_the_parameters_dtype():
    x, weight, before, aim = (tensor.float() for tensor in given()[:4])
    asked = given()[4]
    x.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = soft_cross_entropy(x, weight, before, aim, asked)
    found.loss.backward()
    expected = one_by_one(x.detach(), weight.detach(), before, aim)
    assert found.loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert x.grad.dtype == weight.grad.dtype == torch.float32

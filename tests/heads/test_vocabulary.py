"""Absolute ids of the target, whatever way a head says them."""

from dataclasses import replace

import torch

from tests.heads.layouts import (
    D2T,
    EAGLE3,
    V,
    Written,
    eagle3_plain,
    eagle3_tensors,
)
from tests.heads.reading_back import error, read


def with_d2t(d2t: torch.Tensor, **more: torch.Tensor | None) -> Written:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    tensors |= {"d2t": d2t, **{name: t for name, t in more.items() if t is not None}}
    return config, {name: t for name, t in tensors.items() if more.get(name, t) is not None}


def test_absolute_d2t_is_known_by_t2d_or_by_its_range() -> None:
    for written in (with_d2t(D2T), with_d2t(D2T, t2d=None)):
        head = read(written)
        assert torch.equal(head.tensors["d2t"], D2T)
        assert head.notes == ("d2t holds the target's ids themselves, not distances",)


def test_d2t_in_any_order_and_of_any_integer_type() -> None:
    ids = D2T.flip(0)
    head = read(with_d2t((ids - torch.arange(10)).to(torch.int32)))
    assert torch.equal(head.tensors["d2t"], ids) and head.tensors["d2t"].dtype == torch.int64


def test_t2d_that_disagrees_is_noted() -> None:
    marks = torch.zeros(V, dtype=torch.bool)
    marks[:9] = True
    head = read(with_d2t(D2T - torch.arange(10), t2d=marks))
    assert torch.equal(head.tensors["d2t"], D2T)
    assert head.notes == ("t2d does not mark the tokens of d2t; d2t is used",)


def test_t2d_alone_tells_the_tokens() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    del tensors["d2t"]
    assert torch.equal(read((config, tensors)).tensors["d2t"], D2T)


def test_d2t_of_the_whole_vocabulary_is_left_out() -> None:
    spec = replace(EAGLE3, n_vocab=V)
    config, tensors = eagle3_plain(spec, eagle3_tensors(spec))
    tensors |= {"d2t": torch.zeros(V, dtype=torch.int64), "t2d": torch.ones(V, dtype=torch.bool)}
    assert "d2t" not in read((config, tensors)).tensors


def test_bad_d2t_is_refused_by_its_first_fault() -> None:
    good = D2T - torch.arange(10)
    twice, outside, below = good.clone(), good.clone(), good.clone()
    twice[4] -= 2  # 7 becomes 5
    outside[9] += 1
    below[0] -= 1
    assert "d2t names token 5 more than once" in error(with_d2t(twice))
    assert f"d2t names token {V}, outside of the target's vocabulary (0 to {V - 1})" in error(
        with_d2t(outside)
    )
    assert "d2t names token -1, outside" in error(with_d2t(below))
    assert "d2t names 9 tokens for a projection of 10 rows" in error(with_d2t(good[:9]))
    assert "not a list of whole numbers" in error(with_d2t(good.to(torch.float32)))


def test_d2t_without_a_projection_is_refused() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    del tensors["lm_head.weight"]
    assert "has a vocabulary of its own but no lm_head.weight" in error((config, tensors))

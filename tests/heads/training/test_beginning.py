"""Claims about how families begin, and that each learns from its own losses."""

import pytest
import torch

from adapters.errors import HeadError
from heads.training.beginning import begin, go_on
from heads.training.unroll import Batch
from tests.tiny_gguf import N_EMBD, N_VOCAB

TAPS, N_STEPS = (1, 2, 3), 2


def batch(n_taps, n=10, n_texts=3):
    torch.manual_seed(0)
    tokens = torch.randint(5, 200, (n_texts, n))
    features = torch.randn(n_texts, n, n_taps * N_EMBD)
    every = torch.ones(n_texts, n, dtype=torch.bool)
    return Batch(tokens, features, torch.randn(n_texts, n, N_EMBD), every, every)


@pytest.mark.parametrize("family", ["eagle3", "eagle", "medusa"])
def test_a_few_steps_lower_the_loss_and_move_only_what_is_the_heads(family, tiny):
    start = begin(family, tiny("llama"), TAPS, torch.arange(5, 200), N_STEPS)
    for module in start.objective.frozen:
        module.requires_grad_(False)
    fixed = [p.clone() for module in start.objective.frozen for p in module.parameters()]
    given = batch(3 if family == "eagle3" else 0)
    before = start.objective.losses(given, 0.1).loss.sum().item()
    optimizer = torch.optim.AdamW([p for p in start.network.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(15):
        optimizer.zero_grad()
        start.objective.losses(given, 0.1).loss.sum().backward()
        optimizer.step()
    assert start.objective.losses(given, 0.1).loss.sum().item() < 0.9 * before
    now = [p for module in start.objective.frozen for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(fixed, now, strict=True))
    assert bool(fixed) == (family != "eagle3")


@pytest.mark.parametrize("family", ["eagle3", "eagle", "medusa"])
def test_a_trained_head_has_the_tensors_it_began_with(family, tiny):
    start = begin(family, tiny("llama"), TAPS, torch.arange(5, 200), N_STEPS)
    before = {name: tensor.clone() for name, tensor in start.head.tensors.items()}
    with torch.no_grad():
        next(p for p in start.network.parameters() if p.requires_grad).add_(1.0)
    trained = start.trained()
    assert set(trained.tensors) == set(start.head.tensors) and trained.spec == start.head.spec
    assert [name for name, tensor in trained.tensors.items() if not torch.equal(tensor, before[name])]


def test_an_eagle_head_begins_by_passing_its_feature_on(tiny):
    start = begin("eagle", tiny("llama"), (), torch.arange(5, 200), N_STEPS)
    feature = torch.randn(4, N_EMBD)
    z, _ = start.network.enter(torch.randn(4, N_EMBD), feature)
    assert torch.allclose(z, feature, atol=1e-6)


def test_medusa_heads_begin_as_the_targets_own_projection(tiny):
    start = begin("medusa", tiny("llama"), (), torch.arange(5, 200), N_STEPS)
    rows = torch.randn(2, N_EMBD)
    said = start.network(rows)
    assert torch.allclose(said[0], said[1]) and torch.allclose(
        said[0], start.network.outputs[0](rows), atol=1e-4
    )


@pytest.mark.parametrize("family", ["eagle3", "eagle"])
def test_a_head_that_exists_goes_on_where_it_was(family, tiny):
    path = tiny("llama")
    ids = torch.arange(5, 200) if family == "eagle3" else torch.arange(N_VOCAB)
    start = begin(family, path, TAPS if family == "eagle3" else (), ids, N_STEPS)
    with torch.no_grad():
        next(p for p in start.network.parameters() if p.requires_grad).mul_(1.1)
    head = start.trained()
    again = go_on(head, path, N_STEPS)
    given = batch(3 if family == "eagle3" else 0)
    was, now = (one.objective.losses(given, 0.1) for one in (start, again))
    assert now.loss.tolist() == pytest.approx(was.loss.tolist(), rel=1e-4)
    assert now.n_learned.tolist() == was.n_learned.tolist()
    now.loss.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in again.network.parameters())
    assert all(not tensor.requires_grad for tensor in head.tensors.values())


def test_in_another_vocabulary_what_is_known_stays_and_what_is_new_moves_as_the_rest_has_moved(tiny):
    path = tiny("llama")
    head = begin("eagle3", path, TAPS, torch.arange(5, 200), N_STEPS).head
    rows = head.tensors["output.weight"]
    pushed = 0.5 * torch.randn(N_EMBD, generator=torch.Generator().manual_seed(0))
    rows.mul_(2.0).add_(pushed)
    rows[2] += 1.0  # token 7 alone
    ids = torch.tensor([1, 7, 90, 199, 210])
    now = go_on(head, path, N_STEPS, ids=ids).trained().tensors
    target = begin("eagle3", path, TAPS, ids, N_STEPS).head.tensors["output.weight"]
    assert now["output.weight"][1:4].equal(rows[torch.tensor([2, 85, 194])])
    new, moved = now["output.weight"][[0, 4]], 2.0 * target[[0, 4]] + pushed
    assert (new - moved).norm() < 0.2 * (target[[0, 4]] - moved).norm()
    assert now["d2t"].equal(ids)


def test_a_vocabulary_of_fewer_tokens_than_a_row_has_numbers_is_enough_to_go_on_from(tiny):
    path = tiny("llama")
    head = begin("eagle3", path, TAPS, torch.tensor([5, 9]), N_STEPS).head
    now = go_on(head, path, N_STEPS, ids=torch.tensor([5, 6])).trained().tensors
    target = begin("eagle3", path, TAPS, torch.tensor([5, 6]), N_STEPS).head.tensors
    assert torch.allclose(now["output.weight"], target["output.weight"], atol=1e-4)  # nothing has moved


def test_a_head_of_all_tokens_takes_no_other_vocabulary(tiny):
    head = begin("eagle", tiny("llama"), (), torch.arange(5, 200), N_STEPS).head
    with pytest.raises(HeadError, match="takes no other vocabulary"):
        go_on(head, tiny("llama"), N_STEPS, ids=torch.arange(9))


def test_a_head_of_another_width_takes_no_other_vocabulary(tiny):
    head = begin("eagle3", tiny("llama"), TAPS, torch.arange(5, 200), N_STEPS).head
    head.tensors["output.weight"] = head.tensors["output.weight"][:, :-2]
    with pytest.raises(HeadError, match=rf"{N_EMBD - 2} wide and the target's {N_EMBD},.*without --new"):
        go_on(head, tiny("llama"), N_STEPS, ids=torch.arange(9))


def test_medusa_heads_do_not_go_on(tiny):
    head = begin("medusa", tiny("llama"), (), torch.arange(5, 200), N_STEPS).head
    with pytest.raises(HeadError, match="goes on with EAGLE heads"):
        go_on(head, tiny("llama"), N_STEPS)

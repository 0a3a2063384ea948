"""Claims about training-time test: what is trained is what will be drafted, step by step."""

import numpy as np
import pytest
import torch

from heads.draft_state import DraftState
from heads.network import network_of
from heads.rope import RotaryTable
from heads.spec import Head
from heads.training.unroll import Aims, Batch, losses, outputs, rounds
from tests.heads.random_heads import N_VOCAB, random_eagle


def network(seed=0, **options):
    spec, tensors = random_eagle(np.random.default_rng(seed), **options)
    head = Head(spec, {name: torch.from_numpy(value) for name, value in tensors.items()}, "random")
    return network_of(head, None)


def made():
    return network(own_embedding=True)


def batch(net, n_texts=2, n=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    n_rows = len(net.embeddings)
    n_features = net.spec.n_taps * net.spec.hidden_size
    return Batch(
        torch.randint(n_rows, (n_texts, n), generator=generator),
        torch.randn(n_texts, n, n_features, generator=generator),
        torch.randn(n_texts, n, net.spec.hidden_size, generator=generator),
        torch.ones(n_texts, n, dtype=torch.bool),
        torch.ones(n_texts, n, dtype=torch.bool),
    )


def table(net):
    return RotaryTable(net.spec.rope, net.spec.head_dim, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("n_steps", [1, 3])
def test_each_step_says_what_drafting_would_say_there(n_steps):
    net = made()
    given = batch(net)
    with torch.no_grad():
        steps = [net.logits(out) for out in outputs(net, given, n_steps, table(net))]
    n = given.tokens.shape[1] - 1 - n_steps
    for text in range(2):
        for t in range(n):
            state = DraftState(net)
            state.read(given.features[text, : t + 1].numpy(), given.tokens[text, 1 : t + 2].tolist())
            said = state._said
            for step in range(n_steps):
                assert steps[step][text, t].numpy() == pytest.approx(said.logits[0].numpy(), abs=1e-4)
                if step + 1 < n_steps:
                    said = grown(state, step, int(given.tokens[text, t + 2 + step]))


def grown(state, step, token):
    """What the head says after one more token of a chain."""
    if step == 0:
        state.open(1)
    found = []
    grow = state._few.grow
    state._few.grow = lambda *args: found.append(grow(*args)) or found[-1]
    try:
        state.grow([step - 1], [token], 1)
    finally:
        del state._few.grow
    return found[0]


def test_the_loss_is_least_where_the_head_says_what_the_target_says():
    net = made()
    given = batch(net)
    n_draft = net.output.weight.shape[0]
    places = torch.arange(N_VOCAB) % n_draft
    projection = torch.randn(n_draft, net.spec.hidden_size)
    found = losses(net, given, 2, table(net), Aims(projection, places), 0.1)
    law = torch.softmax(given.last[:, 1:7] @ projection.T, dim=-1)
    entropy = -(law * law.log()).sum()
    assert found.loss[0] > entropy
    assert found.n_rows.tolist() == [12, 12] and found.n_learned[0] == 12
    assert 0 <= found.right[1] <= found.right[0] <= 12


def test_tokens_outside_the_draft_vocabulary_teach_nothing_and_are_never_right():
    net = made()
    given = batch(net)
    places = torch.full((N_VOCAB,), -1)
    projection = torch.randn(net.output.weight.shape[0], net.spec.hidden_size)
    found = losses(net, given, 2, table(net), Aims(projection, places), 0.1)
    assert found.n_learned.tolist() == [0, 0] and found.right.tolist() == [0, 0]
    assert found.loss.tolist() == [0, 0] and found.n_rows.tolist() == [12, 12]


@pytest.mark.parametrize("least", [0.0, 0.02, 1.1])
def test_a_step_is_learned_where_those_before_it_may_lead(least):
    net = made()
    given = batch(net)
    n_draft = net.output.weight.shape[0]
    aims = Aims(torch.randn(n_draft, net.spec.hidden_size), torch.arange(N_VOCAB) % n_draft)
    found = losses(net, given, 2, table(net), aims, least)
    with torch.no_grad():
        first, second = (net.logits(out).log_softmax(-1) for out in outputs(net, given, 2, table(net)))
    said = aims.places[given.tokens]
    reached = (first.argmax(-1) == said[:, 2:8]) | (
        first.gather(-1, said[:, 2:8, None])[..., 0].exp() >= least
    )
    assert found.n_learned.tolist() == [12, int(reached.sum())]
    law = torch.softmax(given.last[:, 2:8] @ aims.output.T, dim=-1)
    assert found.loss[1].item() == pytest.approx(-(law * second)[reached].sum().item(), rel=1e-4)
    right = (first.argmax(-1) == said[:, 2:8]) & (second.argmax(-1) == said[:, 3:9])
    assert found.right[1] == right.sum()


def test_padding_and_prompts_do_not_count_but_prompts_may_teach():
    net = made()
    given = batch(net)
    given.counts[0] = False
    places = torch.zeros(N_VOCAB, dtype=torch.int64)
    projection = torch.randn(net.output.weight.shape[0], net.spec.hidden_size)
    found = losses(net, given, 2, table(net), Aims(projection, places), 0.0)
    assert found.n_rows.tolist() == [6, 6] and found.n_learned.tolist() == [12, 12]
    given.taught[0] = False
    answers = losses(net, given, 2, table(net), Aims(projection, places), 0.0)
    assert answers.n_learned.tolist() == [6, 6] and answers.loss[0] < found.loss[0]


def test_rounds_begin_behind_the_first_wrong_guess():
    streaks = torch.tensor([[-1, 2, 0, 1, 0, 0, -1], [-1, -1, -1, 0, 0, 0, 0]])
    assert rounds(streaks) == (3 + 1 + 1 + 4, 3 + 4)


def test_streaks_count_what_is_right_in_a_row():
    net = made()
    given = batch(net)
    with torch.no_grad():
        said = [net.logits(out).argmax(-1) for out in outputs(net, given, 2, table(net))]
    given.tokens[0, 2:8] = said[0][0]  # so that some guesses are right
    with torch.no_grad():
        said = [net.logits(out).argmax(-1) for out in outputs(net, given, 2, table(net))]
    places = torch.arange(N_VOCAB) % net.output.weight.shape[0]
    given.counts[1, :5] = False
    found = losses(net, given, 2, table(net), Aims(net.output.weight.detach(), places), 0.1)
    wanted = [places[given.tokens[:, 2 + step : 8 + step]] for step in range(2)]
    first, second = (guess == want for guess, want in zip(said, wanted, strict=True))
    expected = first.long() + (first & second)
    expected[1, :3] = -1
    assert found.streaks.tolist() == expected.tolist()
    assert found.right[0] == (found.streaks > 0).sum()


def test_the_tau_of_rounds_is_below_that_of_all_places():
    easy_and_hard = torch.tensor([[4, 3, 2, 1, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]])
    tokens, n = rounds(easy_and_hard)
    assert tokens / n < 1 + easy_and_hard.float().mean()

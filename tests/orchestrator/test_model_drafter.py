"""The draft model's cache follows the target's text, whatever the target made of its guesses."""

import numpy as np
import pytest

from orchestrator.context import Context
from orchestrator.drafters.model import ModelDrafter
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from tests.fakes import random_law

V = 50


class MemoryModel:
    """A draft model in memory that counts what it is fed."""

    def __init__(self, logits, n_vocab=V):
        self._logits, self._n_vocab = logits, n_vocab
        self._kv: list[int] = []
        self.n_fed = 0

    @property
    def n_past(self):
        return len(self._kv)

    @property
    def tokens(self):
        return np.array(self._kv, np.int32)

    def truncate(self, n):
        del self._kv[n:]

    def extend(self, tokens):
        assert len(tokens) > 0
        self._kv += tokens
        self.n_fed += len(tokens)
        return self._logits(self._kv)[: self._n_vocab]


def greedy_chain(logits, tokens, n):
    tokens = list(tokens)
    for _ in range(n):
        tokens.append(int(logits(tokens).argmax()))
    return tokens[-n:]


def new_context(tokens, **sampling):
    return Context(tokens, Sampler(Sampling(**{"temperature": 0, **sampling}), tokens))


@pytest.mark.parametrize("n_accepted", range(5))
def test_its_chain_is_its_own_greedy_text_after_any_outcome(n_accepted):
    law = random_law(3, V)
    model = MemoryModel(law)
    drafter, context = ModelDrafter(model, V, 1000), new_context([1, 2, 3])
    drafter.begin(context)
    for _ in range(6):
        draft = drafter.propose(context, 4)
        assert draft.tokens.tolist() == greedy_chain(law, context.tokens, 4)
        assert model._kv[: len(context)] == context.tokens
        context.extend([*draft.tokens.tolist()[:n_accepted], 7])


def test_accepted_guesses_are_not_read_twice():
    model = MemoryModel(random_law(3, V))
    drafter, context = ModelDrafter(model, V, 1000), new_context(list(range(20)))
    drafter.begin(context)
    assert model.n_fed == 19
    draft = drafter.propose(context, 4)
    assert model.n_fed == 19 + 4  # the newest token and three of the four guesses
    context.extend([*draft.tokens.tolist(), 7])
    drafter.propose(context, 1)
    assert model.n_fed == 23 + 2  # the fourth guess and the target's token


def test_a_new_request_keeps_the_common_prefix():
    model = MemoryModel(random_law(3, V))
    drafter = ModelDrafter(model, V, 1000)
    drafter.begin(new_context([1, 2, 3, 4, 5, 6]))
    model.n_fed = 0
    drafter.begin(new_context([1, 2, 3, 9, 9, 9]))
    assert model._kv == [1, 2, 3, 9, 9] and model.n_fed == 2


def test_it_stops_at_a_token_it_does_not_believe_in():
    flat = MemoryModel(lambda tokens: np.zeros(V, np.float32))
    context = new_context([1, 2, 3], temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    assert len(ModelDrafter(flat, V, 1000, p_min=0.5).propose(context, 4)) == 0
    assert len(ModelDrafter(flat, V, 1000, p_min=0.01).propose(context, 4)) == 4


def test_a_full_draft_context_proposes_nothing():
    model = MemoryModel(random_law(3, V))
    drafter, context = ModelDrafter(model, V, n_ctx=8), new_context(list(range(7)))
    drafter.begin(context)
    assert len(drafter.propose(context, 4)) == 1
    context.extend([1, 2, 3])
    assert len(drafter.propose(context, 4)) == 0


@pytest.mark.parametrize("n_draft_vocab", [40, 60])
def test_padding_of_either_vocabulary_is_never_proposed(n_draft_vocab):
    model = MemoryModel(random_law(3, 60), n_draft_vocab)
    context = new_context([1, 2, 3], temperature=1.0, top_k=0, seed=1)
    draft = ModelDrafter(model, V, 1000).propose(context, 8)
    assert max(draft.tokens) < min(V, n_draft_vocab)


def test_q_is_handed_over_where_the_rule_asks_for_it():
    sampler = Sampler(Sampling(temperature=1.0, seed=1), coupled=False)
    draft = ModelDrafter(MemoryModel(random_law(3, V)), V, 1000).propose(Context([1, 2], sampler), 3)
    assert draft.q is not None
    assert [q.prob(t) for q, t in zip(draft.q, draft.tokens, strict=True)] == pytest.approx(
        draft.prob.tolist()
    )

"""An oracle: features that hold the target's next tokens, and heads that read them off.

Any slip between features, tokens, taps and draft ids makes these heads guess wrong: full acceptance shows
that there is none.
"""

import numpy as np
import pytest
import torch

from adapters.target import HiddenTaps
from heads.draft_state import DraftState
from heads.medusa_state import MedusaState
from heads.network import network_of
from heads.spec import EagleSpec, Head, MedusaSpec
from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.drafters.eagle import EagleDrafter
from orchestrator.drafters.medusa import MedusaDrafter
from orchestrator.limits import Limits
from orchestrator.loop import Loop
from orchestrator.planner import FixedPlanner
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.verify import RULES
from tests.fakes import one_hot
from tests.heads.hidden_target import HiddenTarget

N_VOCAB, N_SLOTS, WIDTH, CONSTANT = 6, 6, 48, 42
TAPS = (1, 4, 6)
SURE = 30.0  # a logit against zeros


def following(tokens):
    """The target's next token: of the two newest and the length, so that no text repeats itself for long."""
    before = tokens[-2] if len(tokens) > 1 else 3
    return (5 * tokens[-1] + 3 * before + len(tokens) // 3) % N_VOCAB


def text(n):
    tokens = [1]
    while len(tokens) < n:
        tokens.append(following(tokens))
    return tokens


def feature(tokens):
    """Slot i of a row: the i-th token that the target will say; and a constant."""
    row, ahead = np.zeros(WIDTH, np.float32), list(tokens)
    for slot in range(N_SLOTS):
        ahead.append(following(ahead))
        row[N_VOCAB * slot + ahead[-1]] = 1.0
    row[CONSTANT] = 1.0
    return row


def tapped(tokens):
    """The row in three parts, each two slots in the place of the first two; the constant in each."""
    row = feature(tokens)
    parts = np.zeros((3, WIDTH), np.float32)
    for tap in range(3):
        parts[tap, : 2 * N_VOCAB] = row[2 * N_VOCAB * tap : 2 * N_VOCAB * (tap + 1)]
        parts[tap, CONSTANT] = 1.0
    return parts.reshape(-1)


def rotation():
    """Slot i of what comes out is slot i + 1 of what goes in; the first comes last, the constant stays."""
    matrix = np.zeros((WIDTH, WIDTH), np.float32)
    for slot in range(N_SLOTS):
        source = (slot + 1) % N_SLOTS
        for token in range(N_VOCAB):
            matrix[N_VOCAB * slot + token, N_VOCAB * source + token] = 1.0
    matrix[CONSTANT, CONSTANT] = 1.0
    return matrix


def spoiler(seed=0):
    """Makes noise of what says which token does not fit its feature."""
    return (5 * np.random.default_rng(seed).standard_normal((WIDTH, N_VOCAB))).astype(np.float32)


def embeddings():
    return np.eye(N_VOCAB, WIDTH, dtype=np.float32)


def reader():
    """Reads the first slot."""
    return np.eye(N_VOCAB, WIDTH, dtype=np.float32)


def zeros(spec):
    """All tensors of a layer, silent."""
    n_query, n_kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    n_in = spec.width if spec.family == "eagle" else 2 * spec.width
    shapes = {"q": (n_query, n_in), "k": (n_kv, n_in), "v": (n_kv, n_in), "o": (spec.width, n_query)}
    shapes |= {"gate": (WIDTH, WIDTH), "up": (WIDTH, WIDTH), "down": (WIDTH, WIDTH)}
    silent = {f"layers.0.{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return silent | {"layers.0.post_norm.weight": np.ones(WIDTH, np.float32)}


def spec_of(family, **options):
    sizes = {
        "hidden_size": WIDTH,
        "width": WIDTH,
        "n_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 6,
    }
    return EagleSpec(family=family, **sizes, intermediate_size=WIDTH, n_vocab=N_VOCAB, eps=1e-12, **options)


def eagle_head():
    spec = spec_of("eagle")
    fc = np.concatenate([spoiler() @ embeddings()[:, :], rotation()], axis=1)
    fc[:, WIDTH:] -= spoiler() @ reader()  # what the first slot says is what the token must be
    tensors = {
        "fc.weight": fc,
        "embedding.weight": embeddings(),
        "output.weight": SURE * reader(),
        **zeros(spec),
    }
    return head_of(spec, tensors)


def eagle3_head():
    """`fc` puts the taps together, the MLP turns the slots, attention spoils what does not fit."""
    spec = spec_of("eagle3", n_taps=3, taps=TAPS)
    fc = np.zeros((WIDTH, 3 * WIDTH), np.float32)
    for tap in range(3):
        for i in range(2 * N_VOCAB):
            fc[2 * N_VOCAB * tap + i, WIDTH * tap + i] = 1.0
    fc[CONSTANT, CONSTANT] = 1.0
    rms_e, rms_g = np.sqrt(1 / WIDTH), np.sqrt((N_SLOTS + 1) / WIDTH)
    tensors = {"fc.weight": fc, **zeros(spec)}
    value = np.zeros((N_VOCAB, 2 * WIDTH), np.float32)
    value[:, :WIDTH] = rms_e * np.eye(N_VOCAB, WIDTH)
    value[:, WIDTH:] = -rms_g * reader()
    tensors["layers.0.v.weight"] = value
    tensors["layers.0.o.weight"] = np.concatenate([spoiler(), spoiler(1)], axis=1)
    gate = np.zeros((WIDTH, WIDTH), np.float32)
    gate[:, CONSTANT] = 20 * rms_g  # of a constant: the MLP is then linear
    tensors["layers.0.gate.weight"] = gate
    tensors["layers.0.up.weight"] = np.eye(WIDTH, dtype=np.float32)
    tensors["layers.0.down.weight"] = (rotation() - np.eye(WIDTH, dtype=np.float32)) * rms_g / 20
    order = np.array([4, 2, 0, 5, 3, 1])  # the head's own vocabulary, in an order of its own
    ones = np.ones(WIDTH, np.float32)
    tensors |= {"embedding.weight": embeddings(), "output.weight": SURE * reader()[order], "d2t": order}
    tensors |= {"norm.weight": ones, "layers.0.input_norm.weight": ones, "layers.0.hidden_norm.weight": ones}
    return head_of(spec, tensors)


def medusa_head(n_heads=4):
    """Head i reads slot i + 1."""
    tensors = {}
    for i in range(n_heads):
        output = np.zeros((N_VOCAB, WIDTH), np.float32)
        output[:, N_VOCAB * (i + 1) : N_VOCAB * (i + 2)] = SURE * np.eye(N_VOCAB)
        tensors[f"outputs.{i}.weight"] = output
    return head_of(MedusaSpec(n_heads=n_heads, n_blocks=0, hidden_size=WIDTH, n_vocab=N_VOCAB), tensors)


def head_of(spec, arrays):
    return Head(spec, {name: torch.from_numpy(array) for name, array in arrays.items()}, "oracle")


def steps(drafter, taps, row, *, n_prompt=8, n=60, max_draft=5, leaves=1, temperature=0.0):
    prompt = text(n_prompt)
    target = HiddenTarget(lambda tokens: 40 * one_hot(following(tokens), N_VOCAB), row, N_VOCAB, taps)
    context = Context(prompt, Sampler(Sampling(temperature=temperature, seed=1), prompt))
    limits = Limits(n, lambda _token: False)
    loop = Loop(target, drafter, FixedPlanner(max_draft, leaves), RULES["coupled"], context, limits)
    loop.prefill()
    found = list(loop.steps())
    assert context.tokens == text(n_prompt + n)
    return found


def eagle(head, taps, **options):
    return EagleDrafter(DraftState(network_of(head, None)), taps, max_draft=8, **options)


FAMILIES = {
    "eagle": (eagle_head, HiddenTaps(post_norm=True), feature),
    "eagle3": (eagle3_head, HiddenTaps(layers=TAPS), tapped),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_eagle_chain_is_accepted_whole(family):
    make, taps, row = FAMILIES[family]
    rounds = steps(eagle(make(), taps), taps, row)
    assert [step.n_accepted for step in rounds[:-1]] == [5] * (len(rounds) - 1)
    assert len(rounds) == 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_an_eagle_tree_holds_the_whole_path(family, temperature):
    make, taps, row = FAMILIES[family]
    drafter = eagle(make(), taps, leaves=3, depth=4)
    rounds = steps(drafter, taps, row, max_draft=8, leaves=3, temperature=temperature)
    assert {step.n_accepted for step in rounds[:-1]} == {4}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_oracle_with_taps_in_the_wrong_order_or_features_one_late_is_none(family):
    make, taps, row = FAMILIES[family]

    def late(tokens):
        return row(tokens[:-1]) if len(tokens) > 1 else row(tokens)

    rounds = steps(eagle(make(), taps), taps, late)
    assert np.mean([step.n_accepted for step in rounds]) < 1.5


@pytest.mark.parametrize("leaves", [1, 3])
def test_medusa_heads_are_accepted_whole_from_the_second_round_on(leaves):
    drafter = MedusaDrafter(MedusaState(network_of(medusa_head(), None)), leaves=leaves, max_draft=4 * leaves)
    rounds = steps(drafter, MedusaDrafter.taps, feature, max_draft=4 * leaves, leaves=leaves)
    assert rounds[0].n_drafted == 0  # the prompt gives no row
    assert {step.n_accepted for step in rounds[1:-1]} == {4}


def test_a_named_medusa_tree_is_drafted_as_it_is():
    paths = ((0,), (0, 0), (1,), (0, 1), (0, 0, 0))
    drafter = MedusaDrafter(MedusaState(network_of(medusa_head(), None)), leaves=3, max_draft=5, tree=paths)
    drafts: list[Draft] = []
    drafter.observe = watched(drafter.observe, drafts)
    steps(drafter, MedusaDrafter.taps, feature, max_draft=5, leaves=8)
    assert drafts[3].parents.tolist() in ([-1, -1, 0, 0, 2], [-1, 0, -1, 0, 1])
    assert drafts[3].depth == 3


def watched(observe, drafts):
    def watch(draft, walk, rows):
        drafts.append(draft)
        observe(draft, walk, rows)

    return watch

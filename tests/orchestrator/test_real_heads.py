"""Random heads on SmolLM2: whatever they guess, the text is the plain one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.models import resolve_model
from adapters.target import HiddenTaps
from heads.target_weights import TargetWeights
from orchestrator import Draft, Engine
from orchestrator.drafters.base import Drafter
from tests.exact import assert_same_text
from tests.heads import layouts
from tests.heads.layout_files import save
from tests.orchestrator.test_real_models import PROMPTS

pytestmark = pytest.mark.model

TARGET, WIDTH, N_VOCAB = "smollm2:Q4_0", 576, 49152
N_DRAFTED = 8000


EAGLE = layouts.EagleSpec(
    family="eagle",
    hidden_size=WIDTH,
    width=WIDTH,
    n_layers=1,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    intermediate_size=1536,
    n_vocab=N_VOCAB,
)


def eagle():
    """Drafts from all that the target knows, by its projection."""
    return layouts.eagle_plain(EAGLE, scaled(layouts.eagle_tensors(EAGLE)))


def eagle3():
    spec = replace(EAGLE, family="eagle3", n_vocab=N_DRAFTED, n_taps=3, taps=(2, 15, 27))
    config, tensors = layouts.eagle3_speculators(spec, scaled(layouts.eagle3_tensors(spec, embedding=False)))
    config["transformer_layer_config"]["vocab_size"] = N_VOCAB
    every_sixth = 5 * torch.arange(N_DRAFTED)  # as distances
    return config, tensors | {"d2t": every_sixth}


def medusa():
    """Tied to the target's projection."""
    spec = layouts.MedusaSpec(n_heads=3, n_blocks=1, hidden_size=WIDTH)
    made = layouts.medusa_tensors(spec)
    return layouts.medusa_plain(spec, {name: tensor / WIDTH for name, tensor in made.items()})


def scaled(made):
    return {name: t / t.shape[1] ** 0.5 if t.dim() == 2 else t for name, t in made.items()}


HEADS = {"eagle": eagle, "eagle3": eagle3, "medusa": medusa}


TREE = {"max_leaves": 4, "tree_depth": 3}


# sampled trees on 16 bits: cells that rejected branches left are filled out of order, which changes the order
# of sums in attention, and 4-bit kernels make more of that than the criterion of equal texts allows
@pytest.mark.parametrize(
    ("target", "shape", "temperature"),
    [(TARGET, {}, 0.0), (TARGET, {}, 0.8), (TARGET, TREE, 0.0), ("smollm2", TREE, 0.8)],
    ids=["chain", "chain-T0.8", "tree", "tree-T0.8"],
)
@pytest.mark.parametrize("family", HEADS)
def test_a_random_head_writes_the_plain_text(family, target, temperature, shape, tmp_path):
    head = save(tmp_path, HEADS[family]())
    settings = {"n_ctx": 512, "max_draft": 4, "n_threads": 1, "head_dtype": "float32", "seed": 3}
    # EAGLE-1 reads prompts in strides of max_rows, whose attention rounds differently from plain decoding's
    settings |= {"max_rows": 64, "n_batch": 64, "n_ubatch": 64}
    # at the edge of a truncation rounding decides who may be chosen at all, however clear the choice
    settings |= {"temperature": temperature, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    with Engine.load(target, head=head, method="head", **settings, **shape) as engine:
        assert engine.drafter.name == family
        for prompt in PROMPTS.values():
            tokens = engine.tokenizer.encode(prompt)
            plain = engine.generate(tokens, max_tokens=24, speculate=False)
            result = engine.generate(tokens, max_tokens=24)
            assert result.stats.n_drafted > 0
            assert_same_text(engine, tokens, plain, result)


def test_the_head_that_comes_with_pilotfish_foresees_what_its_target_says():
    settings = {"n_ctx": 512, "max_draft": 4, "n_threads": 1, "head_dtype": "float32", "temperature": 0.0}
    with Engine.load(TARGET, head="default", method="head", **settings) as engine:
        question = "Tom has 12 apples and buys 30 more. How many apples has he?"
        tokens = engine.chat_prompt([{"role": "user", "content": question}])
        plain = engine.generate(tokens, max_tokens=48, speculate=False)
        result = engine.generate(tokens, max_tokens=48)
        assert_same_text(engine, tokens, plain, result)
        assert result.stats.tau > 1.5  # of sums it knows most; random heads have 1.0


class Reader(Drafter):
    """Wants post-norm rows."""

    taps = HiddenTaps(post_norm=True)

    def propose(self, context, budget):
        return Draft()


def test_the_rows_that_heads_read_and_the_projection_they_borrow_belong_together():
    with Engine.load(TARGET, Reader(), temperature=0.0, n_ctx=512, n_threads=1) as engine:
        engine.target.prefill(engine.tokenizer.encode(PROMPTS["prose"]))
        rows = engine.target.score(Draft())
        own = TargetWeights(resolve_model(TARGET)).output.numpy() @ rows.hidden.post_norm[0]
        # llama.cpp rounds activations to 8 bits
        assert own.argmax() == rows.logits[0].argmax()
        assert np.corrcoef(own, rows.logits[0])[0, 1] > 0.999

"""Functions of the user's that change logits: every choice goes through them, guessed or not."""

import numpy as np
import pytest

from orchestrator import Engine
from orchestrator.errors import ConfigError
from tests.exact import assert_same_text
from tests.orchestrator.test_engine import GREEDY, PRECISE, PROMPT, SAMPLED

FORBIDDEN = slice(100, 200)


def load(tiny, **settings):
    return Engine.load(tiny("llama"), **{"method": "lookup", "ngram_min": 1, **PRECISE, **GREEDY, **settings})


def forbid(ids, logits):
    logits[FORBIDDEN] = -np.inf
    return logits


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_speculation_does_not_change_a_processed_text(tiny, sampling):
    with load(tiny, **sampling) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        plain = engine.generate(prompt, max_tokens=60, logits_processor=forbid, speculate=False)
        result = engine.generate(prompt, max_tokens=60, logits_processor=forbid)
        assert result.stats.n_drafted > 0
        assert not set(result.tokens) & set(range(320)[FORBIDDEN])
        assert_same_text(engine, prompt, plain, result)


def test_it_sees_all_ids_before_each_choice(tiny):
    seen = []

    def watch(ids, logits):
        seen.append(ids.tolist())
        return logits

    with load(tiny) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        tokens = engine.generate(prompt, max_tokens=20, logits_processor=watch).tokens
    assert seen[:20] == [[*prompt, *tokens[:n]] for n in range(20)]


def test_what_it_does_to_its_copy_leaves_log_probabilities_alone(tiny):
    with load(tiny) as engine:
        free = engine.generate(PROMPT, max_tokens=1, logprobs=1).logprobs[0]
        processed = engine.generate(PROMPT, max_tokens=1, logprobs=1, logits_processor=forbid).logprobs[0]
        assert processed.top == free.top


@pytest.mark.parametrize("wrong", [lambda ids, logits: logits[:5], lambda ids, logits: 0.0])
def test_another_number_of_logits_is_refused(tiny, wrong):
    with load(tiny) as engine:
        with pytest.raises(ConfigError, match="must return 3.. logits, got an array of shape"):
            engine.generate(PROMPT, logits_processor=wrong)
        assert engine.generate(PROMPT, max_tokens=3).tokens


def test_its_own_errors_come_out_and_leave_the_engine_usable(tiny):
    def broken(ids, logits):
        raise KeyError("mine")

    with load(tiny) as engine:
        with pytest.raises(KeyError, match="mine"):
            engine.generate(PROMPT, logits_processor=broken)
        assert engine.generate(PROMPT, max_tokens=3).tokens


def test_what_is_no_function_and_rules_that_know_none_are_refused(tiny):
    with load(tiny) as engine, pytest.raises(ConfigError, match="must be callable"):
        engine.generate(PROMPT, logits_processor=5)
    with load(tiny, rule="block") as engine, pytest.raises(ConfigError, match="use rule='coupled'"):
        engine.generate(PROMPT, logits_processor=forbid)

"""SmolLM2 and Gemma-3 on real prompts: every method writes the plain text, and memory stays flat."""

import resource

import pytest

from orchestrator import Engine
from tests.exact import assert_same_text

pytestmark = pytest.mark.model

NOTICE = (
    "The night bus 14 leaves Harbour Square at 00:10, 00:50 and 01:30. It stops at Mill Bridge, the Old "
    "Hospital and Quarry Road, and ends at the Botanical Garden. Bicycles travel free of charge."
)
PROMPTS = {
    "quote": f"Notice: {NOTICE}\n\nThe same notice again, word for word: The night bus 14",
    "prose": "The old lighthouse keeper climbed the stairs one last time and",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
}
TARGETS = ["smollm2", "gemma3-270m"]
DRAFTS = {"smollm2": "smollm2:Q4_0", "gemma3-270m": "gemma3-270m"}
# on CPUs a draft that is the target itself is accepted but for rounding: rejected rarely, rolled back rarely
METHODS = ["lookup", "model"]


def load(target: str, method: str, **settings: object) -> Engine:
    draft = DRAFTS[target] if method == "model" else None
    return Engine.load(target, draft, method, n_ctx=1024, ngram_min=2, **settings)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {"temperature": 0.8, "seed": 5}], ids=["greedy", "T0.8"]
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_method_writes_the_plain_text(target, method, sampling):
    with load(target, method, **sampling) as engine:
        n_drafted = 0
        for prompt in PROMPTS.values():
            tokens = engine.tokenizer.encode(prompt)
            plain = engine.generate(tokens, max_tokens=48, speculate=False)
            result = engine.generate(tokens, max_tokens=48)
            n_drafted += result.stats.n_drafted
            assert_same_text(engine, tokens, plain, result)
        assert n_drafted > 0


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_sampled_drafts_are_accepted_about_as_often_as_the_laws_overlap(rule):
    with load("smollm2", "model", rule=rule, temperature=0.8, seed=3) as engine:
        stats = engine.generate(PROMPTS["prose"], max_tokens=64).stats
        assert stats.tau > 1.5
        assert engine.generate(PROMPTS["prose"], max_tokens=64).stats.n_accepted == stats.n_accepted


def test_lookup_quotes_in_few_decodes():
    with load("smollm2", "lookup", temperature=0.0) as engine:
        result = engine.generate(PROMPTS["quote"], max_tokens=48)
        assert "Harbour Square" in result.text
        assert result.stats.tau > 2


def test_memory_of_a_long_run_stays_flat():
    with load("smollm2:Q4_0", "lookup", temperature=0.8, seed=1) as engine:
        peaks = []
        for round_ in range(4):
            for _ in range(3):
                engine.generate(PROMPTS["prose"], max_tokens=200, seed=round_)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        # ru_maxrss is in KiB on Linux, bytes on macOS: the growth must be below 4 MiB in the larger unit
        assert peaks[-1] - peaks[0] < 4096


def test_a_chat_answer_ends_by_itself():
    with load("smollm2", "lookup", temperature=0.0) as engine:
        result = engine.chat(
            [{"role": "user", "content": "What is the capital of France? One word."}], max_tokens=60
        )
        assert result.finish_reason == "stop" and "Paris" in result.text
        assert "<|im_end|>" not in result.text


def test_json_schema_on_a_real_model():
    import json

    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
        "required": ["city", "population"],
        "additionalProperties": False,
    }
    messages = [{"role": "user", "content": "Describe Paris as JSON with city and population."}]
    with load("smollm2", "model", temperature=0.0) as engine:
        plain = engine.chat(messages, json_schema=schema, max_tokens=80, speculate=False)
        result = engine.chat(messages, json_schema=schema, max_tokens=80)
        assert plain.text == result.text
        assert set(json.loads(result.text)) == {"city", "population"}

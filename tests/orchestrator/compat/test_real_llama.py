"""The drop-in beside llama_cpp.Llama on SmolLM2: the same texts, the same log-probabilities.

llama_cpp.Llama reads the last token of a new prompt together with others, and alone where it has met the
prompt before; the two round differently, and so may its own two answers. Ours always reads it alone, as
llama.cpp's server does, so that the second answers are compared.
"""

import llama_cpp
import pytest

from adapters.models import resolve_model
from orchestrator.compat import Llama

pytestmark = pytest.mark.model
SETTINGS = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1, "verbose": False, "logits_all": True}
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Repeat: one two three four five. one two three four five. one two",
]
GREEDY = {"temperature": 0.0, "max_tokens": 16}


@pytest.fixture(scope="module")
def pair():
    path = str(resolve_model("smollm2"))
    theirs = llama_cpp.Llama(path, **SETTINGS)
    with Llama(path, planner="fixed", **SETTINGS) as ours:
        yield ours, theirs
    theirs.close()


def twice(call, *arguments, **options):
    call(*arguments, **options)
    return call(*arguments, **options)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_texts_and_counts_are_llama_cpp_pythons(pair, prompt):
    a, b = (twice(llama, prompt, **GREEDY) for llama in pair)
    assert a["choices"] == b["choices"] and a["usage"] == b["usage"]


def test_log_probabilities_are_llama_cpp_pythons_within_rounding(pair):
    ours, theirs = (llama(PROMPTS[0], logprobs=3, temperature=0.0, max_tokens=3) for llama in pair)
    x, y = ours["choices"][0]["logprobs"], theirs["choices"][0]["logprobs"]
    assert x["tokens"] == y["tokens"] and x["text_offset"] == y["text_offset"]
    # one row against several, in half precision
    assert x["token_logprobs"] == pytest.approx(y["token_logprobs"], abs=0.05)
    for mine, real in zip(x["top_logprobs"], y["top_logprobs"], strict=True):
        assert mine == pytest.approx(real, abs=0.05)


def test_chats_are_llama_cpp_pythons(pair):
    messages = [{"role": "user", "content": "Name two rivers in Europe."}]
    a, b = (twice(llama.create_chat_completion, messages, **GREEDY) for llama in pair)
    assert a["choices"] == b["choices"] and a["usage"] == b["usage"]

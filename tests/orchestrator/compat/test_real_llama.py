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
SETTINGS = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Repeat: one two three four five. one two three four five. one two",
]
GREEDY = {"temperature": 0.0, "max_tokens": 24}


@pytest.fixture(scope="module")
def pair():
    path = str(resolve_model("smollm2"))
    theirs = llama_cpp.Llama(path, logits_all=True, **SETTINGS)
    with Llama(path, **SETTINGS) as ours:
        yield ours, theirs
    theirs.close()


def twice(call, *arguments, **options):
    call(*arguments, **options)
    return call(*arguments, **options)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_texts_counts_and_log_probabilities_are_llama_cpp_pythons(pair, prompt):
    a, b = (twice(llama, prompt, **GREEDY) for llama in pair)
    assert a["choices"] == b["choices"] and a["usage"] == b["usage"]
    # llama-cpp-python sorts the vocabulary in Python for each token
    x, y = (llama(prompt, logprobs=3, **{**GREEDY, "max_tokens": 4})["choices"][0] for llama in pair)
    assert x["logprobs"]["tokens"] == y["logprobs"]["tokens"]
    assert x["logprobs"]["text_offset"] == y["logprobs"]["text_offset"]
    # one row against several, in half precision
    assert x["logprobs"]["token_logprobs"] == pytest.approx(y["logprobs"]["token_logprobs"], abs=0.05)


def test_chats_are_llama_cpp_pythons(pair):
    messages = [{"role": "user", "content": "Name two rivers in Europe."}]
    a, b = (twice(llama.create_chat_completion, messages, **GREEDY) for llama in pair)
    assert a["choices"] == b["choices"] and a["usage"] == b["usage"]

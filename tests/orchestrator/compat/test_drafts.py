"""Our drafters behind llama-cpp-python's hook: for the real llama_cpp.Llama, which keeps its text."""

import llama_cpp
import numpy as np
import pytest
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from adapters.models import resolve_model
from orchestrator.compat import LookupDraft, SuffixDraft
from orchestrator.errors import ConfigError
from orchestrator.suffix.references import References

SETTINGS = {"n_threads": 1, "n_threads_batch": 1, "verbose": False}
SENTENCE = "The pilot fish swims ahead of the big one. "
QUOTING = f"Repeat this text three times: {SENTENCE * 2}The pilot fish swims"
KINDS = [LookupDraft, SuffixDraft]


def ids(*tokens):
    return np.array(tokens, np.intc)


@pytest.mark.parametrize("kind", KINDS)
def test_what_followed_the_last_time_is_drafted(kind):
    drafted = kind()(ids(1, 2, 3, 4, 9, 9, 1, 2))
    assert drafted.dtype == np.intc and drafted[0] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drafted_where_nothing_is_known(kind):
    assert kind()(ids(1, 2, 3, 4)).tolist() == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_is_drafted_than_allowed(kind):
    text = [*range(40), *range(20)]
    assert len(kind(num_pred_tokens=4)(ids(*text))) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_growing_text_drafts_as_a_fresh_drafter_would(kind):
    rng = np.random.default_rng(3)
    text = rng.integers(0, 4, 200).astype(np.intc)
    draft, n = kind(), 0
    while n < len(text):
        n += int(rng.integers(1, 9))
        assert draft(text[:n]).tolist() == kind()(text[:n]).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_another_text_in_the_same_array_is_noticed(kind):
    draft, array = kind(), ids(1, 2, 3, 1, 2)
    assert draft(array)[0] == 3
    array[2] = 7
    assert draft(array)[0] == 7
    assert draft(array[:2]).tolist() == []


def test_references_are_quoted():
    archive = References.of({"notes": [5, 6, 7, 8, 9]})
    assert SuffixDraft(references=archive)(ids(1, 5, 6)).tolist()[:2] == [7, 8]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [{"ngram_min": 0}, {"num_pred_tokens": 0}])
def test_impossible_numbers_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be >= 1, got 0"):
        kind(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hook_is_called_as_llama_cpp_pythons_own_lookup_is(kind):
    text = ids(1, 2, 3, 1, 2, 3, 1, 2)
    theirs = LlamaPromptLookupDecoding(num_pred_tokens=1)(text, extra=1)
    assert kind(num_pred_tokens=1)(text, extra=1).tolist() == theirs.tolist()


class Counting:
    """A hook that counts what it was worth: tokens drafted, and calls."""

    def __init__(self, draft):
        self.draft, self.n_calls, self.n_drafted = draft, 0, 0

    def __call__(self, input_ids, /, **kwargs):
        drafted = self.draft(input_ids, **kwargs)
        self.n_calls += 1
        self.n_drafted += len(drafted)
        return drafted


def real_text(path, draft, prompt, n):
    llama = llama_cpp.Llama(str(path), n_ctx=512, draft_model=draft, **SETTINGS)
    try:
        return llama(prompt, max_tokens=n, temperature=0.0)["choices"][0]["text"]
    finally:
        llama.close()


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_python_writes_the_same_with_them_on_a_tiny_model(tiny, kind):
    draft = Counting(kind(ngram_min=1))
    prompt = "the pilot fish swims ahead of the big one, the pilot fish"
    assert real_text(tiny("llama"), draft, prompt, 40) == real_text(tiny("llama"), None, prompt, 40)
    assert draft.n_drafted > 0


@pytest.mark.model
@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_python_writes_the_same_with_them_in_fewer_decodes(kind):
    draft, path = Counting(kind()), resolve_model("smollm2")
    assert real_text(path, draft, QUOTING, 48) == real_text(path, None, QUOTING, 48)
    assert draft.n_calls < 24  # of 48 tokens

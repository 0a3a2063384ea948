"""Claims about perplexity: it is the model's own, whatever is decoded at once."""

import math

import numpy as np
import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from orchestrator.errors import ConfigError
from orchestrator.tune.perplexity import perplexity, surprise
from orchestrator.tune.sample import sample_text
from tests.fakes import MemoryTarget, random_law

LAW = random_law(0, 20)
TOKENS = np.random.default_rng(1).integers(20, size=47).tolist()


def directly(windows):
    """Every token of a window but the first, one by one, in double precision."""
    total, n = 0.0, 0
    for window in windows:
        for place in range(1, len(window)):
            logits = np.asarray(LAW(window[:place]), np.float64)
            total -= logits[window[place]] - np.log(np.exp(logits).sum())
            n += 1
    return math.exp(total / n)


@pytest.mark.parametrize("max_rows", [1, 2, 7, 64])
def test_windows_are_predicted_token_by_token_however_many_at_once(max_rows):
    target = MemoryTarget(LAW, 20, max_rows=max_rows)
    windows = [TOKENS[start : start + 16] for start in (0, 16, 32)]
    assert perplexity(target, TOKENS, window=16) == pytest.approx(directly(windows), rel=1e-5)


def test_each_window_begins_with_the_bos_token_where_there_is_one():
    target = MemoryTarget(LAW, 20)
    windows = [[3, *TOKENS[start : start + 15]] for start in (0, 15, 30, 45)]
    assert perplexity(target, TOKENS, bos=3, window=16) == pytest.approx(directly(windows), rel=1e-5)


def test_a_window_is_no_longer_than_the_context():
    target = MemoryTarget(LAW, 20, n_ctx=16)
    windows = [TOKENS[start : start + 16] for start in (0, 16, 32)]
    assert perplexity(target, TOKENS) == pytest.approx(directly(windows), rel=1e-5)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    target = MemoryTarget(lambda _: np.zeros(20, np.float32), 20)
    assert perplexity(target, TOKENS) == pytest.approx(20)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0, 0], [0, -1e4, 0]], np.float32)
    assert surprise(logits, [1, 2]) == pytest.approx(1e4 + math.log(2))


def test_what_has_no_perplexity_is_refused():
    target = MemoryTarget(LAW, 20)
    with pytest.raises(ConfigError, match="a text of 1 tokens has no perplexity"):
        perplexity(target, [1])
    with pytest.raises(ConfigError, match="a window must hold 2 tokens or more, got 1"):
        perplexity(target, TOKENS, window=1)


@pytest.mark.parametrize("arch", ["llama", "mamba"])  # mamba cannot drop tokens, and nothing is dropped
def test_a_real_model_agrees_with_decoding_token_by_token(tiny, arch):
    model = LlamaModel(tiny(arch))
    tokens = [token + 6 for token in TOKENS]
    context = LlamaContext(model, ContextSettings(n_ctx=256, n_threads=1))
    found = perplexity(context, tokens, window=32)
    total = 0.0
    for window in (tokens[:32], tokens[32:]):
        context.truncate(0)
        for known, token in zip(window, window[1:], strict=False):
            logits = context.extend([known]).astype(np.float64)
            total -= logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    model.close()
    assert found == pytest.approx(math.exp(total / 45), rel=1e-3)


def test_our_sample_is_running_text_of_all_three_suites():
    text = sample_text()
    assert len(text) > 60_000 and text.count("\n\n") > 30

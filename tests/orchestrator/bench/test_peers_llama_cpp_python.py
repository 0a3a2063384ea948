"""llama-cpp-python as an entrant, on a tiny model: the tokens of our engine, counted as ours."""

import pytest

from orchestrator import Engine
from orchestrator.bench.peers.llama_cpp_python import LlamaCppPython
from orchestrator.errors import BenchError, ConfigError

PROMPT = "the pilot fish swims ahead of the big one, the pilot fish swims"
N = 24


def start(model, end_tokens=(), **options):
    settings = {"n_ctx": 256, "n_threads": 1, "sampling": {"temperature": 0.0}, **options}
    return LlamaCppPython(model, end_tokens=end_tokens, **settings)


@pytest.fixture(scope="module")
def model(tiny):
    return tiny("llama")


@pytest.fixture(scope="module")
def expected(model):
    """The prompt's ids and what our engine makes of them, greedily."""
    # the stock class computes attention without flash attention
    with Engine.load(model, n_ctx=256, n_threads=1, temperature=0.0, flash_attn=False) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        return prompt, tuple(engine.generate_tokens(prompt, max_tokens=N).tokens)


@pytest.fixture
def opened(model):
    """Loads peers that are closed after the test."""
    peers = []

    def open_one(**options):
        peers.append(start(model, **options))
        return peers[-1]

    yield open_one
    for peer in peers:
        peer.close()


def test_plain_greedy_tokens_are_those_of_the_engine(opened, expected):
    prompt, tokens = expected
    answer = opened().answer(prompt, N)
    assert answer.tokens == tokens
    assert answer.n_timed == N - 1
    assert 0 < answer.t_first < answer.t_total
    assert answer.t_decode == pytest.approx(answer.t_total - answer.t_first)


def test_lookup_changes_no_greedy_token(opened, expected):
    prompt, tokens = expected
    peer = opened(lookup=4)
    assert peer.answer(prompt, N).tokens == tokens
    assert peer.answer(prompt, N).tokens == tokens  # after an answer as before it


def test_lookup_reaches_past_one_batch(opened, expected):
    # where the stock class, left alone, has no room for the logits
    prompt = expected[0] * 40
    assert len(prompt) > 512
    assert len(opened(lookup=4, n_ctx=len(prompt) + 8).answer(prompt, 4).tokens) == 4


def test_an_end_token_ends_the_answer_and_is_part_of_it(opened, expected):
    prompt, tokens = expected
    end = tokens[5]
    answer = opened(end_tokens=[end]).answer(prompt, N)
    assert answer.tokens == tokens[: tokens.index(end) + 1]


@pytest.mark.parametrize("lookup", [0, 4])
def test_ignored_end_tokens_never_come(opened, expected, lookup):
    prompt, tokens = expected
    answer = opened(end_tokens=[tokens[5]], ignore_eos=True, lookup=lookup).answer(prompt, N)
    assert len(answer.tokens) == N
    assert tokens[5] not in answer.tokens


def test_a_logit_bias_is_applied(opened, expected):
    sampling = {"temperature": 0.0, "logit_bias": {70: 1000.0}}
    assert opened(sampling=sampling).answer(expected[0], 3).tokens == (70, 70, 70)


def test_a_seed_makes_each_answer_the_same(opened, expected):
    peer = opened(sampling={"temperature": 1.0, "seed": 3})
    assert peer.answer(expected[0], N).tokens == peer.answer(expected[0], N).tokens


def test_without_a_seed_answers_differ(opened, expected):
    peer = opened(sampling={"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0})
    assert peer.answer(expected[0], N).tokens != peer.answer(expected[0], N).tokens


def test_one_token_leaves_nothing_to_time(opened, expected):
    answer = opened().answer(expected[0], 1)
    assert (len(answer.tokens), answer.n_timed, answer.t_decode) == (1, 0, 0.0)


def test_a_full_context_ends_the_answer(opened, expected):
    prompt = (expected[0] * 40)[:250]
    assert len(opened(lookup=4).answer(prompt, N).tokens) == 6


def test_a_prompt_that_fills_the_context_is_refused(opened):
    with pytest.raises(BenchError, match="256 tokens leaves no room; raise n_ctx"):
        opened().answer([70] * 256, 4)


def test_a_token_that_does_not_exist_is_an_error(opened):
    with pytest.raises(BenchError, match="failed: llama_decode returned -1"):
        opened().answer([10**6], 4)


def test_a_closed_one_says_so(model):
    peer = start(model)
    peer.close()
    peer.close()
    with pytest.raises(BenchError, match="llama-cpp-python is closed"):
        peer.answer([70], 1)


def test_a_file_that_is_no_model_is_an_error(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(BenchError, match=r"cannot load .*bad.gguf"):
        start(tmp_path / "bad.gguf")


def test_an_unknown_sampling_setting_is_refused(model):
    with pytest.raises(ConfigError, match="unknown setting 'temprature'"):
        start(model, sampling={"temprature": 0.0})

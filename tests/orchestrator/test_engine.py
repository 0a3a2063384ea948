"""The engine on tiny GGUFs: the same text with every method, every limit, every way to stop."""

import asyncio
import threading

import pytest

from orchestrator import Draft, Drafter, Engine
from orchestrator.errors import (
    ConfigError,
    ContextFull,
    DrafterError,
    EngineBusy,
    GrammarError,
    ModelNotFound,
    PilotfishError,
    UnsupportedTarget,
    VocabMismatch,
)
from tests.exact import assert_same_text
from tests.fakes import RandomTreeDrafter
from tests.tiny_gguf import EOS, FIRST_BYTE

PRECISE = {
    "flash_attn": False,
    "type_k": "f32",
    "type_v": "f32",
    "n_ctx": 512,
    "n_batch": 64,
    "n_ubatch": 64,
    "n_threads": 1,
}
ATTENTION = ["llama", "gemma3", "qwen2", "phi3"]
PROMPT = "the pilot fish swims ahead of the big one, the pilot fish swims"
GREEDY = {"temperature": 0.0}
SAMPLED = {"temperature": 0.8, "seed": 11}


def load(tiny, arch="llama", draft=None, method="auto", **settings):
    return Engine.load(tiny(arch), draft, method, **{**PRECISE, **GREEDY, **settings})


@pytest.fixture
def engine(tiny):
    with load(tiny) as engine:
        yield engine


def drafting(tiny, arch, name):
    """What `Engine.load` takes for each way of drafting."""
    return {
        "lookup": {"method": "lookup", "ngram_min": 1},
        "model": {"draft": tiny(arch, noise=0.05), "method": "model"},
        "random-tree": {"draft": RandomTreeDrafter(320, 1)},
        "function": {"draft": lambda tokens, budget: tokens[-3:]},
    }[name]


# -- exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("drafter", ["lookup", "model", "random-tree", "function"])
@pytest.mark.parametrize("arch", ATTENTION)
def test_speculation_does_not_change_the_text(tiny, arch, drafter, sampling):
    with load(tiny, arch, **drafting(tiny, arch, drafter), **sampling) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        plain = engine.generate(prompt, max_tokens=60, speculate=False)
        result = engine.generate(prompt, max_tokens=60)
        assert plain.stats.n_decodes == plain.stats.n_tokens == 60
        assert result.stats.n_drafted > 0
        assert_same_text(engine, prompt, plain, result)


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_rejection_rules_are_greedy_at_temperature_zero(tiny, rule):
    with load(tiny, rule=rule, **drafting(tiny, "llama", "model")) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        plain = engine.generate(prompt, max_tokens=40, speculate=False)
        assert_same_text(engine, prompt, plain, engine.generate(prompt, max_tokens=40))


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_rejection_rules_are_reproducible_with_a_seed(tiny, rule):
    with load(tiny, rule=rule, **SAMPLED, **drafting(tiny, "llama", "model")) as engine:
        first, second = (engine.generate(PROMPT, max_tokens=40) for _ in range(2))
        assert first.tokens == second.tokens and first.stats.n_accepted > 0


@pytest.mark.parametrize(
    "chain",
    [
        {"repeat_penalty": 1.3, "penalty_last_n": 20},
        {"frequency_penalty": 0.5, "presence_penalty": 0.5, "penalty_last_n": -1},
        {"top_k": 5, "min_p": 0.0, "top_p": 0.7},
        {"typical_p": 0.5},
        {"logit_bias": {FIRST_BYTE + 97: 3.0}},
    ],
)
def test_every_part_of_the_sampler_chain_survives_speculation(tiny, chain):
    with load(tiny, **SAMPLED, **chain, **drafting(tiny, "llama", "model")) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        plain = engine.generate(prompt, max_tokens=50, speculate=False)
        assert engine.generate(prompt, max_tokens=50).tokens == plain.tokens


def test_a_perfect_draft_model_emits_full_rounds(tiny):
    with load(tiny, draft=tiny("llama"), method="model", max_draft=3) as engine:
        stats = engine.generate(PROMPT, max_tokens=40).stats
        assert stats.tau == 4.0 and stats.acceptance == 1.0


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 7])
def test_max_tokens_is_met_exactly(engine, max_tokens):
    result = engine.generate(PROMPT, max_tokens=max_tokens)
    assert len(result.tokens) == max_tokens and result.finish_reason == "length"


def test_a_stop_token_ends_the_text_and_is_not_shown(engine):
    free = engine.generate(PROMPT, max_tokens=30)
    stop = free.tokens[10]
    result = engine.generate(PROMPT, max_tokens=30, stop_tokens=[stop])
    n = free.tokens.index(stop)
    assert result.tokens == free.tokens[: n + 1] and result.finish_reason == "stop"
    assert result.text == engine.tokenizer.decode(free.tokens[:n])


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("start", [3, 8, 15])
def test_a_stop_string_ends_the_text_wherever_token_borders_fall(engine, start, length):
    free = engine.generate(PROMPT, max_tokens=40).text
    stop = free[start : start + length]
    for speculate in (True, False):
        result = engine.generate(PROMPT, max_tokens=40, stop=stop, speculate=speculate)
        assert result.text == free[: free.index(stop)] and result.finish_reason == "stop"


def test_end_tokens_end_the_text(tiny):
    with Engine.load(tiny("llama", special_gain=3.0), **PRECISE, temperature=1.0) as engine:
        ended = [engine.generate(PROMPT, max_tokens=100, seed=seed) for seed in range(12)]
        stopped = [result for result in ended if result.finish_reason == "stop"]
        assert stopped
        for result in stopped:
            assert engine.tokenizer.is_end(result.tokens[-1])
            assert not any(map(engine.tokenizer.is_end, result.tokens[:-1]))
            assert "</s>" not in result.text and "im_end" not in result.text


def test_a_full_context_ends_the_text_and_the_engine_goes_on(tiny):
    with load(tiny, n_ctx=256) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        result = engine.generate(prompt, max_tokens=1000)
        assert result.finish_reason == "length"
        assert len(prompt) + len(result.tokens) == 256 + 1  # the newest token needs no cell
        assert engine.generate(prompt, max_tokens=5).tokens == result.tokens[:5]


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(tiny):
    with load(tiny, n_ctx=256) as engine:
        with pytest.raises(ContextFull, match="300 tokens do not fit the context of 256"):
            engine.generate([FIRST_BYTE] * 300)
        assert engine.generate(PROMPT, max_tokens=3).tokens


# -- stopping ----------------------------------------------------------------------------------


def test_a_callback_sees_every_token_and_may_stop(engine):
    seen = []

    def on_token(token, text):
        seen.append((token, text))
        return len(seen) < 6

    result = engine.generate(PROMPT, max_tokens=30, on_token=on_token)
    assert [token for token, _ in seen] == list(result.tokens) and len(seen) == 6
    assert result.finish_reason == "cancelled"


def test_cancel_from_another_thread_ends_the_request(engine):
    started = threading.Event()

    def on_token(token, text):
        started.set()
        cancelled.wait(10)

    cancelled = threading.Event()

    def cancel():
        started.wait(10)
        engine.cancel()
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    result = engine.generate(PROMPT, max_tokens=200, on_token=on_token)
    thread.join()
    assert result.finish_reason == "cancelled" and 0 < len(result.tokens) < 200
    assert engine.generate(PROMPT, max_tokens=5).finish_reason == "length"


def test_a_dropped_stream_leaves_a_usable_engine(engine):
    whole = engine.generate(PROMPT, max_tokens=30)
    for n in (1, 3):
        stream = engine.stream(PROMPT, max_tokens=30)
        for _ in range(n):
            next(stream)
        del stream
        assert engine.generate(PROMPT, max_tokens=30).tokens == whole.tokens


def test_a_replaced_stream_says_so(engine):
    stream = engine.stream(PROMPT, max_tokens=30)
    next(stream)
    engine.generate(PROMPT, max_tokens=2)
    with pytest.raises(EngineBusy, match="a newer request has replaced this stream"):
        next(stream)


def test_two_threads_at_once_are_told(engine):
    def on_token(token, text):
        with pytest.raises(EngineBusy, match="another thread"):
            engine.generate(PROMPT, max_tokens=1)
        return False

    assert len(engine.generate(PROMPT, max_tokens=9, on_token=on_token).tokens) == 1


def test_closing_from_a_callback_is_refused(engine):
    def on_token(token, text):
        with pytest.raises(EngineBusy, match="from a callback"):
            engine.close()
        return False

    engine.generate(PROMPT, max_tokens=9, on_token=on_token)
    assert engine.generate(PROMPT, max_tokens=3).tokens


def test_an_interrupt_in_a_callback_leaves_a_usable_engine(engine):
    whole = engine.generate(PROMPT, max_tokens=30)

    def on_token(token, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPT, max_tokens=30, on_token=on_token)
    assert engine.generate(PROMPT, max_tokens=30).tokens == whole.tokens


def test_an_error_carries_what_there_was(tiny):
    def fails_later(tokens, budget):
        if len(tokens) > limit:
            raise RuntimeError("out of ideas")
        return tokens[-2:]

    with load(tiny, draft=fails_later) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        limit = len(prompt) + 10
        with pytest.raises(DrafterError, match="'fails_later' failed: RuntimeError") as caught:
            engine.generate(prompt, max_tokens=50)
        plain = engine.generate(prompt, max_tokens=50, speculate=False)
        partial = caught.value.result
        assert len(partial.tokens) > 10 and partial.tokens == plain.tokens[: len(partial.tokens)]
        assert engine.tokenizer.decode(partial.tokens).startswith(partial.text)


# -- calls -------------------------------------------------------------------------------------


def test_streams_and_results_agree(engine):
    stream = engine.stream(PROMPT, max_tokens=25)
    chunks = list(stream)
    whole = engine.generate(PROMPT, max_tokens=25)
    assert "".join(chunk.text for chunk in chunks) == stream.result.text == whole.text
    assert tuple(token for chunk in chunks for token in chunk.tokens) == whole.tokens


def test_a_prompt_may_be_text_or_tokens(engine):
    tokens = engine.tokenizer.encode(PROMPT)
    assert engine.generate(PROMPT, max_tokens=9).tokens == engine.generate_tokens(tokens, max_tokens=9).tokens


def test_chat_uses_the_models_template(engine):
    messages = [{"role": "user", "content": "hello"}]
    prompt = engine.chat_prompt(messages)
    text = "".join(map(engine.tokenizer.name, prompt))
    assert text.endswith("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    assert engine.chat(messages, max_tokens=5).tokens == engine.generate(prompt, max_tokens=5).tokens
    assert (
        engine.stream_chat(messages, max_tokens=5).finish().text == engine.chat(messages, max_tokens=5).text
    )


def test_the_next_turn_re_reads_only_what_is_new(engine):
    first = engine.generate(PROMPT, max_tokens=20)
    prompt = [*engine.tokenizer.encode(PROMPT), *first.tokens]
    again = engine.generate([*prompt, FIRST_BYTE, FIRST_BYTE], max_tokens=5)
    assert again.stats.n_reused == len(prompt) - 1
    with_fresh = engine.generate([EOS], max_tokens=1)
    assert with_fresh.stats.n_reused == 0


def test_sampling_can_be_changed_for_one_call(engine):
    texts = {engine.generate(PROMPT, max_tokens=20, temperature=1.0, seed=seed).text for seed in range(4)}
    assert len(texts) == 4
    assert engine.generate(PROMPT, max_tokens=20).tokens == engine.generate(PROMPT, max_tokens=20).tokens


def test_without_a_seed_a_fresh_one_is_drawn_and_reported(tiny):
    with load(tiny, temperature=1.0) as engine:
        first = engine.generate(PROMPT, max_tokens=20)
        assert engine.generate(PROMPT, max_tokens=20).tokens != first.tokens
        assert engine.generate(PROMPT, max_tokens=20, seed=first.stats.seed).tokens == first.tokens


def test_async_calls_give_the_same_text(engine):
    async def both():
        whole = await engine.agenerate(PROMPT, max_tokens=20)
        chunks = [chunk.text async for chunk in engine.astream(PROMPT, max_tokens=20)]
        return whole.text, "".join(chunks)

    whole, streamed = asyncio.run(both())
    assert whole == streamed == engine.generate(PROMPT, max_tokens=20).text


def test_cancelling_a_task_cancels_the_request(engine):
    async def cancel_soon():
        task = asyncio.create_task(engine.agenerate(PROMPT, max_tokens=400))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await engine.agenerate(PROMPT, max_tokens=3)

    assert len(asyncio.run(cancel_soon()).tokens) == 3


# -- grammar -----------------------------------------------------------------------------------

DIGITS = 'root ::= [0-9] "-" [0-9]+ "!"'


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_grammar_holds_with_speculation_and_gives_the_plain_text(tiny, sampling):
    with load(tiny, **sampling, **drafting(tiny, "llama", "model")) as engine:
        plain = engine.generate(PROMPT, max_tokens=30, grammar=DIGITS, speculate=False)
        result = engine.generate(PROMPT, max_tokens=30, grammar=DIGITS)
        assert result.tokens == plain.tokens
        head, _, rest = result.text.partition("-")
        assert head.isdigit() and rest.rstrip("!").isdigit()


def test_a_json_schema_gives_json(engine):
    import json

    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    result = engine.generate(PROMPT, max_tokens=60, json_schema=schema)
    assert json.loads(result.text)["n"] in (1, 2) and result.finish_reason == "stop"


def test_a_grammar_that_does_not_parse_is_refused_before_any_decode(engine):
    with pytest.raises(GrammarError, match="does not accept the grammar"):
        engine.generate(PROMPT, grammar="root ::= (")
    assert engine.generate(PROMPT, max_tokens=3).tokens


# -- settings and errors -----------------------------------------------------------------------


def test_a_recurrent_target_decodes_plainly_and_says_why(tiny):
    with load(tiny, "mamba") as engine:
        result = engine.generate(PROMPT, max_tokens=20)
        assert engine.drafter.name == "none" and "recurrent" in result.stats.note
        assert len(result.tokens) == 20
        again = engine.generate(PROMPT, max_tokens=20)
        assert again.tokens == result.tokens


@pytest.mark.parametrize("options", [{"method": "lookup"}, {"draft": lambda tokens, budget: []}])
def test_a_recurrent_target_refuses_speculation_with_the_reason(tiny, options):
    with pytest.raises(UnsupportedTarget, match="its state is recurrent .*use method='none'"):
        load(tiny, "mamba", **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "model"}, ConfigError, "needs a draft model"),
        (
            {"method": "telepathy"},
            ConfigError,
            "unknown method 'telepathy'; installed: auto, cascade, head, lookup, model, none, suffix",
        ),
        ({"method": "lookup", "draft": "x.gguf"}, ConfigError, "does not use draft='x.gguf'"),
        ({"method": "model", "draft": lambda tokens, budget: []}, ConfigError, "goes with method='auto'"),
        ({"draft": "nowhere.gguf"}, ModelNotFound, "nowhere.gguf"),
        ({"n_ctxx": 3}, ConfigError, "did you mean n_ctx"),
    ],
)
def test_wrong_settings_are_named(tiny, options, error, message):
    with pytest.raises(error, match=message):
        load(tiny, **options)


def test_a_draft_model_with_another_vocabulary_is_refused_by_token(tiny):
    with pytest.raises(VocabMismatch, match="token 300 is .* and 'zzz'"):
        load(tiny, draft=tiny("llama", rename={300: "zzz"}))


def test_a_draft_model_with_padding_is_welcome(tiny):
    with load(tiny, draft=tiny("llama", pad_vocab=16), method="model", max_draft=3) as engine:
        assert engine.generate(PROMPT, max_tokens=20).stats.acceptance == 1.0


def test_a_recurrent_draft_model_is_refused(tiny):
    with pytest.raises(UnsupportedTarget, match="cannot draft: its state is recurrent"):
        load(tiny, draft=tiny("mamba"))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "the prompt is empty"),
        ([5, 9999], {}, "token 9999 is not in the vocabulary of 320 tokens"),
        ([-1], {}, "token -1 is not in the vocabulary"),
        ("x", {"max_tokens": -1}, "max_tokens must be >= 0, got -1"),
        ("x", {"stop": ""}, "a stop string must not be empty"),
        ("x", {"stop": 5}, "wrong type"),
        ("x", {"max_tokens": "5"}, "wrong type"),
        (["a"], {}, "tokens must be whole numbers"),
        ([1.5], {}, "tokens must be whole numbers"),
        ([[1], [2]], {}, "tokens must be whole numbers"),
        ("x", {"temperatur": 1}, "did you mean temperature"),
        ("x", {"grammar": "root ::= [a]", "json_schema": {}}, "either grammar or json_schema"),
        ("x", {"logit_bias": {9999: 1.0}}, "logit_bias names token 9999"),
        ("x", {"logit_bias": {i: -float("inf") for i in range(320)}}, "no token is left"),
    ],
)
def test_wrong_calls_are_named_and_cost_nothing(engine, prompt, options, message):
    with pytest.raises(PilotfishError, match=message):
        engine.generate(prompt, **options)
    assert engine.generate(PROMPT, max_tokens=3).tokens


def test_a_closed_engine_says_so(tiny):
    engine = load(tiny)
    engine.close()
    engine.close()
    for call in (lambda: engine.generate(PROMPT), lambda: engine.chat([{"role": "user", "content": "x"}])):
        with pytest.raises(PilotfishError, match="the engine is closed"):
            call()


def test_a_drafter_may_read_hidden_rows(tiny):
    from adapters.target import HiddenTaps

    class Reader(Drafter):
        taps = HiddenTaps(post_norm=True, layers=(1,))
        name = "reader"

        def __init__(self):
            self.shapes, self.n_prompt = [], 0

        def read_prompt(self, start, hidden):
            assert start == self.n_prompt
            self.n_prompt += len(hidden.post_norm)

        def propose(self, context, budget):
            return Draft.chain(context.tokens[-2:], source=self.name)

        def observe(self, draft, walk, rows):
            self.shapes.append((len(rows.hidden.post_norm), len(rows.hidden.layers[1])))

    reader = Reader()
    with load(tiny, draft=reader) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        result = engine.generate(prompt, max_tokens=10)
        assert reader.n_prompt == len(prompt) - 1
        assert reader.shapes[0] == (3, 3) and len(reader.shapes) == result.stats.n_decodes

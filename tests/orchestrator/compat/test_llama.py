"""orchestrator.compat.Llama beside the real llama_cpp.Llama, on the same tiny models."""

import json
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from orchestrator.compat import Llama, LlamaGrammar, SuffixDraft
from orchestrator.errors import ConfigError, PilotfishError
from tests.tiny_gguf import CHATML, EOS, FIRST_BYTE

SETTINGS = {"n_ctx": 512, "n_batch": 64, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
PROMPT = "the pilot fish swims ahead of the big one, the pilot fish swims"
MESSAGES = [{"role": "user", "content": "the pilot fish"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]},
    },
}
PREFERRED = FIRST_BYTE + ord("m")
GREEDY = {"temperature": 0.0, "max_tokens": 24}


@pytest.fixture(scope="module")
def path(tiny):
    # llama-cpp-python leaves BOS to the template, llama.cpp and we add one where the model wants it
    return str(tiny("llama", chat_template="{{ bos_token }}" + CHATML))


@pytest.fixture(scope="module")
def ours(path):
    with Llama(path, **SETTINGS) as llama:
        yield llama


@pytest.fixture(scope="module")
def theirs(path):
    llama = llama_cpp.Llama(path, logits_all=True, **SETTINGS)
    yield llama
    llama.close()


def shape(value):
    """Keys and types, numbers of numpy as those of Python."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return float if isinstance(value, np.floating) else type(value)


# -- the same as llama-cpp-python ----------------------------------------------------------------

SAME = {
    "completion": lambda llama: llama(PROMPT, **GREEDY),
    "echo": lambda llama: llama.create_completion(PROMPT, echo=True, **GREEDY),
    "stop": lambda llama: llama.create_completion(PROMPT, stop=["he", "q"], **GREEDY),
    "stop text": lambda llama: llama.create_completion(PROMPT, stop="he", **GREEDY),
    "token ids": lambda llama: llama.create_completion(llama.tokenize(PROMPT.encode()), **GREEDY),
    "bias": lambda llama: llama.create_completion(PROMPT, logit_bias={104: 100.0}, **GREEDY),
    "penalties": lambda llama: llama.create_completion(
        PROMPT, repeat_penalty=1.3, frequency_penalty=0.2, presence_penalty=0.1, **GREEDY
    ),
    "chat": lambda llama: llama.create_chat_completion(MESSAGES, **GREEDY),
    "schema": lambda llama: llama.create_chat_completion(
        MESSAGES, response_format={"type": "json_object", "schema": {"enum": [1, 22]}}, **GREEDY
    ),
    "tool": lambda llama: llama.create_chat_completion(
        MESSAGES, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}, **GREEDY
    ),
}


def unnamed(reply):
    """A reply without what no two share: its number, its time, the number of a call, and what stands for
    bytes that are no text, which llama-cpp-python leaves out."""
    reply = json.loads(json.dumps({**reply, "id": "", "created": 0}).replace("\\ufffd", ""))
    for call in reply["choices"][0].get("message", {}).get("tool_calls", []):
        call["id"] = ""
    return reply


@pytest.mark.parametrize("call", SAME.values(), ids=SAME)
def test_a_reply_is_llama_cpp_pythons(ours, theirs, call):
    assert unnamed(call(ours)) == unnamed(call(theirs))


@pytest.mark.parametrize("chat_format", ["chatml", "llama-2", "mistral-instruct"])
def test_a_named_chat_format_is_llama_cpp_pythons(path, chat_format):
    theirs = llama_cpp.Llama(path, chat_format=chat_format, **SETTINGS)
    with Llama(path, chat_format=chat_format, **SETTINGS) as ours:
        a, b = (llama.create_chat_completion(MESSAGES, **GREEDY) for llama in (ours, theirs))
    theirs.close()
    assert unnamed(a) == unnamed(b)


def test_a_grammar_binds_as_llama_cpp_pythons_does(ours, theirs):
    text = 'root ::= "the " ("fish" | "shark")'
    replies = [
        ours.create_completion(PROMPT, grammar=LlamaGrammar.from_string(text), **GREEDY),
        ours.create_completion(PROMPT, grammar=text, **GREEDY),
        ours.create_completion(PROMPT, grammar=llama_cpp.LlamaGrammar.from_string(text), **GREEDY),
        theirs.create_completion(PROMPT, grammar=llama_cpp.LlamaGrammar.from_string(text), **GREEDY),
    ]
    assert len({reply["choices"][0]["text"] for reply in replies}) == 1


STREAMS = {
    "completion": lambda llama: llama(PROMPT, stream=True, **GREEDY),
    "chat": lambda llama: llama.create_chat_completion(MESSAGES, stream=True, **GREEDY),
    "log-probabilities": lambda llama: llama(PROMPT, stream=True, logprobs=0, **GREEDY),
}


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS)
def test_a_streams_chunks_have_llama_cpp_pythons_keys_and_types(ours, theirs, call):
    mine, real = list(call(ours)), list(call(theirs))
    for place in (0, 1, -1):
        a, b = shape(mine[place]), shape(real[place])
        for side in (a, b):  # the alternatives differ by key
            if side["choices"][0]["logprobs"] not in (None, type(None)):
                side["choices"][0]["logprobs"]["top_logprobs"] = dict
        assert a == b


def test_log_probabilities_are_llama_cpp_pythons_within_rounding(ours, theirs):
    a, b = (llama(PROMPT, logprobs=2, **GREEDY)["choices"][0]["logprobs"] for llama in (ours, theirs))
    assert a.keys() == b.keys() and a["text_offset"] == b["text_offset"]
    assert a["token_logprobs"] == pytest.approx(b["token_logprobs"], abs=1e-3)
    whole = [i for i, token in enumerate(a["tokens"]) if not token.startswith("bytes:")]
    assert len(whole) > 10 and [a["tokens"][i] for i in whole] == [b["tokens"][i] for i in whole]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("text", [b"the fish", b"<|im_start|>a</s>", "é→😀".encode(), b"\xff\xfe", b""])
def test_tokens_and_bytes_are_llama_cpp_pythons(ours, theirs, text, add_bos, special):
    ids = theirs.tokenize(text, add_bos, special)
    assert ours.tokenize(text, add_bos, special) == ids
    assert ours.detokenize(ids, special=special) == theirs.detokenize(ids, special=special)


def test_sizes_tokens_and_metadata_are_llama_cpp_pythons(ours, theirs):
    for name in ("n_ctx", "n_vocab", "n_embd", "token_bos", "token_eos", "token_nl"):
        assert getattr(ours, name)() == getattr(theirs, name)()
    assert ours.metadata == theirs.metadata


# -- seeds ---------------------------------------------------------------------------------------


def test_a_seed_repeats_a_text_and_another_does_not(ours):
    hot = {"temperature": 1.5, "max_tokens": 24}
    texts = [ours(PROMPT, seed=seed, **hot)["choices"][0]["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_constructors_seed_repeats_a_sequence_of_calls(path):
    def sequence():
        with Llama(path, seed=5, **SETTINGS) as llama:
            return [llama(PROMPT, temperature=1.5)["choices"][0]["text"] for _ in range(3)]

    first = sequence()
    assert first == sequence() and len(set(first)) == 3


def test_setting_a_seed_repeats_what_followed(ours):
    texts = []
    for _ in range(2):
        ours.set_seed(99)
        texts.append(ours(PROMPT, temperature=1.5)["choices"][0]["text"])
    assert texts[0] == texts[1]


def test_a_state_brings_back_what_followed(ours):
    state = ours.save_state()
    first = ours(PROMPT, temperature=1.5)["choices"][0]["text"]
    ours(PROMPT, temperature=1.5)
    ours.load_state(state)
    assert ours(PROMPT, temperature=1.5)["choices"][0]["text"] == first


def test_a_logits_processor_is_asked_as_llama_cpp_python_asks_it(ours, theirs):
    texts, seen = [], []
    for llama in (ours, theirs):
        ids = []

        def process(input_ids, scores, ids=ids):
            ids.append(input_ids.tolist())
            scores[PREFERRED + len(ids) % 5] += 50
            return scores

        processors = llama_cpp.LogitsProcessorList([process])
        texts.append(llama(PROMPT, logits_processor=processors, **GREEDY)["choices"][0]["text"])
        seen.append(ids[:20])
    assert texts[0] == texts[1] and seen[0] == seen[1]


# -- pilotfish's own -----------------------------------------------------------------------------


def test_the_text_drafts_for_itself_unless_told_otherwise(path):
    with Llama(path, method="lookup", ngram_min=1, **SETTINGS) as llama:
        llama(PROMPT, **GREEDY)
        assert llama.last_stats.n_drafted > 0


def test_references_are_those_of_the_call_or_the_constructor(path, ours):
    quote = ours(PROMPT, **GREEDY)["choices"][0]["text"]
    with Llama(path, references={"notes": PROMPT + quote}, planner="fixed", **SETTINGS) as llama:
        for options in ({}, {"references": {"own": PROMPT + quote}}):
            assert llama(PROMPT, **GREEDY, **options)["choices"][0]["text"] == quote
            documents = {found.document for found in llama.last_stats.quotes}
            assert documents == ({"own"} if options else {"notes"})


class Hook:
    """Anybody's object for llama-cpp-python's hook."""

    def __init__(self):
        self.calls = 0

    def __call__(self, input_ids, /, **_kwargs):
        assert isinstance(input_ids, np.ndarray)
        self.calls += 1
        return input_ids[-3:]


@pytest.mark.parametrize("make", [Hook, SuffixDraft])
def test_an_object_for_llama_cpp_pythons_hook_drafts_here_too(path, ours, make):
    with Llama(path, draft_model=make(), **SETTINGS) as llama:
        assert llama(PROMPT, **GREEDY)["choices"] == ours(PROMPT, **GREEDY)["choices"]
        assert llama.last_stats.n_drafted > 0


def test_a_smaller_model_drafts(tiny, path, ours):
    with Llama(path, draft_model=tiny("llama", noise=0.05), method="model", **SETTINGS) as llama:
        assert llama(PROMPT, **GREEDY)["choices"] == ours(PROMPT, **GREEDY)["choices"]
        assert llama.last_stats.n_accepted > 0


def test_verbose_says_how_an_answer_came_about(path, capsys):
    with Llama(path, **{**SETTINGS, "verbose": True}) as llama:
        llama(PROMPT, max_tokens=2)
    assert "tok" in capsys.readouterr().err


def test_tokens_are_generated_up_to_the_end(ours):
    ids = ours.tokenize(PROMPT.encode())
    some = [token for token, _ in zip(ours.generate(ids, temp=0.0), range(12), strict=False)]
    assert (
        ours.detokenize(some).decode() == ours(PROMPT, temperature=0.0, max_tokens=12)["choices"][0]["text"]
    )
    assert list(ours.generate(ids, logit_bias={EOS: 100.0})) == [EOS]


def test_without_a_budget_the_context_is_the_limit(path):
    with Llama(path, **{**SETTINGS, "n_ctx": 256}) as llama:
        for nothing in (None, 0, -1):
            usage = llama(PROMPT, max_tokens=nothing, temperature=0.0, logit_bias={EOS: -100.0})["usage"]
            assert usage["total_tokens"] == llama.n_ctx()


def test_a_context_of_zero_is_the_models_own(path, theirs):
    with Llama(path, **{**SETTINGS, "n_ctx": 0}) as llama:
        assert llama.n_ctx() == llama.engine.model.n_ctx_train


def test_reset_forgets_and_closing_twice_is_fine(path):
    llama = Llama(Path(path), **SETTINGS)
    before = llama(PROMPT, **GREEDY)["choices"]
    llama.reset()
    assert llama(PROMPT, **GREEDY)["choices"] == before and llama.last_stats.n_reused == 0
    llama.close()
    llama.close()
    with pytest.raises(PilotfishError, match="closed"):
        llama(PROMPT)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        {"vocab_only": True},
        {"embedding": True},
        {"kv_overrides": {"a": 1}},
        {"rope_freq_base": 1e4},
        {"rope_scaling_type": 2},
        {"yarn_ext_factor": 1.0},
        {"pooling_type": 1},
        {"numa": True},
        {"swa_full": False},
        {"spm_infill": True},
        {"tokenizer": object()},
        {"lora_base": "base.gguf"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_cannot_be_honoured_is_refused_with_a_reason(path, setting):
    name = next(iter(setting))
    with pytest.raises(ConfigError, match=f"{name}=.* cannot be honoured: .+"):
        Llama(path, **setting, **SETTINGS)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"n_thread": 1}, "unknown setting 'n_thread'"),
        ({"split_mode": 9}, "split_mode must be one of 0 .none."),
        ({"type_k": 99}, "type_k must be one of 0 .f32."),
        ({"chat_format": "morse"}, "chat_format='morse' is not known"),
        ({"chat_handler": 5}, "chat_handler=int cannot be honoured"),
        ({"draft_model": 5}, "draft_model must be callable"),
    ],
)
def test_a_wrong_setting_is_an_error(path, setting, says):
    with pytest.raises(ConfigError, match=says):
        Llama(path, **setting, **SETTINGS)


def test_numbers_of_llama_cpp_name_its_types(path):
    with Llama(
        path, split_mode=llama_cpp.LLAMA_SPLIT_MODE_NONE, type_k=llama_cpp.GGML_TYPE_Q8_0, **SETTINGS
    ) as llama:
        assert llama.engine.config.context.type_k == "q8_0" and llama.engine.config.model.split_mode == "none"


@pytest.mark.parametrize("name", ["embed", "create_embedding", "eval", "sample"])
def test_a_method_that_cannot_be_honoured_is_refused_with_a_reason(ours, name):
    with pytest.raises(RuntimeError, match=rf"{name}\(\) cannot be honoured: .+"):
        getattr(ours, name)("text")


def test_no_cache_is_set_and_others_are_refused(ours):
    ours.set_cache(None)
    with pytest.raises(ConfigError, match="re-used anyway"):
        ours.set_cache(llama_cpp.LlamaRAMCache())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"mirostat_mode": 1}, "mirostat"),
        ({"tfs_z": 0.5}, "tail-free"),
        ({"logits_processor": [5]}, "logits_processor"),
        ({"stopping_criteria": [len]}, "stopping_criteria"),
        ({"stop": [""]}, "none of them empty"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(ours, options, says):
    with pytest.raises(ValueError, match=says):
        ours.create_completion(PROMPT, **options)


def test_a_prompt_that_is_too_long_is_a_value_error_as_before(ours):
    with pytest.raises(ValueError, match="exceed context window of 512"):
        ours.create_completion("a q z" * 600)


def test_text_is_tokenized_as_bytes(ours):
    with pytest.raises(ConfigError, match="takes bytes, got str"):
        ours.tokenize("text")


def test_chat_with_a_format_streams_and_shapes_json(path):
    with Llama(path, chat_format="chatml", **SETTINGS) as llama:
        schema = {"type": "json_object", "schema": {"enum": [1, 22]}}
        chunks = llama.create_chat_completion(MESSAGES, response_format=schema, stream=True)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert json.loads(text) in (1, 22)

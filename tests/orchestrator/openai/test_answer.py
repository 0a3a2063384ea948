"""Replies on tiny models: a stream says what the whole says, and log-probabilities stand with their text."""

import json

import pytest

from orchestrator import Engine
from orchestrator.openai.answer import Answer
from orchestrator.openai.parameters import chat_call, completion_call
from tests.orchestrator.test_engine import GREEDY, PRECISE, PROMPT
from tests.tiny_gguf import CHATML, FIRST_BYTE

MESSAGES = [{"role": "user", "content": "swim"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]},
    },
}


@pytest.fixture(scope="module")
def engine(tiny):
    with Engine.load(tiny("llama", chat_template=CHATML), method="lookup", **{**PRECISE, **GREEDY}) as engine:
        yield engine


def completion(engine, details=False, **parameters):
    call = completion_call({"prompt": PROMPT, "max_tokens": 40, **parameters})
    return Answer(engine, call, model="tiny", details=details)


def chat(engine, **parameters):
    return Answer(engine, chat_call({"messages": MESSAGES, "max_tokens": 40, **parameters}), model="tiny")


def text_of(chunks):
    return "".join(choice.get("text", "") for chunk in chunks for choice in chunk["choices"])


def content_of(chunks):
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


def test_a_completion_is_what_the_engine_generates(engine):
    reply = completion(engine).whole()
    result = engine.generate(PROMPT, max_tokens=40)
    assert reply["object"] == "text_completion" and reply["id"].startswith("cmpl-")
    assert reply["model"] == "tiny" and isinstance(reply["created"], int)
    assert reply["choices"] == [
        {"text": result.text, "index": 0, "finish_reason": result.finish_reason, "logprobs": None}
    ]
    n_prompt = len(engine.tokenizer.encode(PROMPT))
    assert reply["usage"] == {
        "prompt_tokens": n_prompt,
        "completion_tokens": 40,
        "total_tokens": n_prompt + 40,
    }


def test_a_chat_is_what_the_engine_answers(engine):
    reply = chat(engine).whole()
    assert reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    assert reply["choices"][0]["message"] == {
        "role": "assistant",
        "content": engine.chat(MESSAGES, max_tokens=40).text,
    }


def test_the_model_is_named_as_the_request_names_it(engine):
    assert completion(engine, model="fish", max_tokens=1).whole()["model"] == "fish"


def test_a_prompt_is_echoed(engine):
    text = completion(engine).whole()["choices"][0]["text"]
    assert completion(engine, echo=True).whole()["choices"][0]["text"] == PROMPT + text
    assert text_of(completion(engine, echo=True, stream=True).chunks()) == PROMPT + text


def test_token_ids_continue_as_their_text_does(engine):
    ids = engine.tokenizer.encode(PROMPT)
    assert completion(engine, prompt=ids).whole()["choices"] == completion(engine).whole()["choices"]


@pytest.mark.parametrize(
    "parameters", [{}, {"logprobs": 2}, {"stop": ["he", "in"]}, {"seed": 3, "temperature": 1.0}]
)
def test_the_pieces_of_a_stream_are_the_whole_text(engine, parameters):
    whole = completion(engine, **parameters).whole()["choices"][0]
    chunks = list(completion(engine, **parameters, stream=True).chunks())
    assert text_of(chunks) == whole["text"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_chat_streams_its_role_its_text_and_its_end(engine):
    chunks = list(chat(engine, stream=True, stream_options={"include_usage": True}).chunks())
    whole = chat(engine).whole()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert content_of(chunks) == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize("stop", [[], ["he"], [" the big", "in"]])
def test_streamed_log_probabilities_are_those_of_the_whole(engine, stop):
    whole = completion(engine, logprobs=2, stop=stop).whole()["choices"][0]["logprobs"]
    parts = [
        choice["logprobs"]
        for chunk in completion(engine, logprobs=2, stop=stop, stream=True).chunks()
        for choice in chunk["choices"]
        if choice["logprobs"]
    ]
    for name in ("tokens", "text_offset", "top_logprobs"):
        assert [value for part in parts for value in part[name]] == whole[name]
    values = [value for part in parts for value in part["token_logprobs"]]
    assert values == pytest.approx(whole["token_logprobs"], abs=1e-4)


def test_offsets_point_at_the_tokens_in_prompt_and_text(engine):
    choice = completion(engine, logprobs=0).whole()["choices"][0]
    text = PROMPT + choice["text"]
    for token, offset in zip(choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert text[offset : offset + len(token)] == token


def test_tokens_of_a_stop_string_are_not_listed(engine):
    free = completion(engine, logprobs=0).whole()["choices"][0]
    stop = free["text"][12:14]
    cut = completion(engine, logprobs=0, stop=[stop]).whole()["choices"][0]
    assert cut["finish_reason"] == "stop" and stop not in cut["text"]
    offsets = cut["logprobs"]["text_offset"]
    assert offsets and max(offsets) < len(PROMPT) + len(cut["text"])


def test_the_likeliest_are_as_many_as_asked_for_and_the_token_itself(engine):
    tops = completion(engine, logprobs=2, temperature=1.5, seed=1).whole()["choices"][0]["logprobs"]
    for token, top in zip(tops["tokens"], tops["top_logprobs"], strict=True):
        assert token in top and len(top) in (2, 3)


def test_a_chats_log_probabilities_spell_the_bytes_of_its_text(engine):
    choice = chat(engine, logprobs=True, top_logprobs=2).whole()["choices"][0]
    content = choice["logprobs"]["content"]
    spelled = bytes(byte for token in content for byte in token["bytes"])
    assert spelled.decode("utf-8", "replace") == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 for token in content)


def test_an_end_token_is_neither_listed_nor_counted(engine):
    # forcing EOS after a few tokens is a matter of bias
    eos = engine.tokenizer.eos
    reply = completion(engine, logprobs=1, logit_bias={str(eos): 100}).whole()
    assert reply["choices"][0]["logprobs"]["tokens"] == [] and reply["usage"]["completion_tokens"] == 0
    assert reply["choices"][0]["finish_reason"] == "stop"


def test_parts_of_characters_are_listed_by_their_bytes(engine):
    token = FIRST_BYTE + 0xF0
    reply = completion(engine, logprobs=0, max_tokens=1, logit_bias={str(token): 100}).whole()
    assert reply["choices"][0]["logprobs"]["tokens"] == ["bytes:\\xf0"]
    assert reply["choices"][0]["text"] == "\ufffd"


def test_forbidden_tokens_leave_json_that_is_json(engine):
    reply = completion(engine, logprobs=2, max_tokens=2).whole()
    assert "Infinity" not in json.dumps(reply)


def test_details_tell_of_cached_and_guessed_tokens(engine):
    completion(engine).whole()
    usage = completion(engine, details=True).whole()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0
    guessed = usage["completion_tokens_details"]
    assert guessed["accepted_prediction_tokens"] + guessed["rejected_prediction_tokens"] > 0


def test_a_chosen_tool_is_answered_with_its_arguments(engine):
    message = chat(engine, tools=[TOOL], tool_choice="required").whole()["choices"][0]
    assert message["finish_reason"] == "tool_calls" and message["message"]["content"] is None
    call = message["message"]["tool_calls"][0]
    assert call["function"]["name"] == "weather" and "function_call" not in message["message"]
    assert isinstance(json.loads(call["function"]["arguments"])["sure"], bool)


def test_the_arguments_of_a_chosen_tool_stream(engine):
    chunks = list(chat(engine, tools=[TOOL], tool_choice="required", stream=True).chunks())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["tool_calls"][0]["function"]["name"] == "weather"
    calls = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas if "tool_calls" in delta]
    assert isinstance(json.loads("".join(calls))["sure"], bool)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_stream_that_is_dropped_leaves_the_engine_usable(engine):
    chunks = completion(engine, stream=True).chunks()
    next(chunks)
    del chunks
    assert completion(engine, max_tokens=3).whole()["usage"]["completion_tokens"] == 3

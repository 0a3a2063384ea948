"""OpenAI's parameters: what they become, and which are refused with which reason."""

import math

import pytest

from orchestrator.openai.error import ParameterError
from orchestrator.openai.parameters import chat_call, completion_call
from orchestrator.openai.values import UNLIMITED

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "title": "w"}},
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def complete(**parameters):
    return completion_call({"prompt": "Once", **parameters})


def chat(**parameters):
    return chat_call({"messages": HELLO, **parameters})


def refused(call, **parameters):
    with pytest.raises(ParameterError) as caught:
        call(**parameters)
    return caught.value


def test_a_bare_completion_has_openais_budget_and_the_engines_sampling():
    call = complete()
    assert call.prompt == "Once" and call.options == {"max_tokens": 16}
    assert not (call.stream or call.echo or call.chat)


def test_a_bare_chat_goes_on_to_the_end_of_the_context():
    call = chat()
    assert call.chat and call.messages == tuple(HELLO) and call.options == {"max_tokens": UNLIMITED}


def test_sampling_parameters_reach_the_engine():
    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "typical_p": 0.8,
        "repeat_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "penalty_last_n": 32,
    }
    for call in (complete(**sampling), chat(**sampling)):
        assert call.options.items() >= sampling.items()


@pytest.mark.parametrize(
    ("given", "name", "became"),
    [
        ({"seed": 7}, "seed", 7),
        ({"seed": -1}, "seed", None),
        ({"seed": -2}, "seed", 2**64 - 2),
        ({"stop": "x"}, "stop", ("x",)),
        ({"stop": ["x", "y"]}, "stop", ("x", "y")),
        ({"max_tokens": 0}, "max_tokens", 0),
        ({"max_tokens": -1}, "max_tokens", UNLIMITED),
        ({"max_tokens": 10**18}, "max_tokens", UNLIMITED),
        ({"logit_bias": {"5": -100}}, "logit_bias", {5: -100.0}),
        ({"logit_bias": {5: -math.inf}}, "logit_bias", {5: -math.inf}),
        ({"grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
        ({"references": {"a": "b"}}, "references", {"a": "b"}),
        ({"prediction": {"type": "content", "content": "old"}}, "references", ["old"]),
        (
            {"prediction": {"type": "content", "content": [{"type": "text", "text": "o"}]}},
            "references",
            ["o"],
        ),
        ({"speculate": False}, "speculate", False),
        ({"response_format": {"type": "json_object"}}, "json_schema", {"type": "object"}),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "array"}}},
            "json_schema",
            {"type": "array"},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "null"}},
                }
            },
            "json_schema",
            {"type": "null"},
        ),
    ],
)
def test_a_parameter_becomes_an_option(given, name, became):
    assert complete(**given).options[name] == became
    assert chat(**given).options[name] == became


def test_log_probabilities_are_counted_in_two_ways():
    assert complete(logprobs=3).options["logprobs"] == 3
    assert chat(logprobs=True, top_logprobs=3).options["logprobs"] == 3
    assert chat(logprobs=True).options["logprobs"] == 0
    assert "logprobs" not in chat(logprobs=False).options and "logprobs" not in complete().options


def test_null_and_what_happens_anyway_ask_for_nothing():
    nothing = {
        "n": 1,
        "best_of": 1,
        "suffix": None,
        "stop": None,
        "user": "me",
        "response_format": {"type": "text"},
    }
    assert complete(**nothing).options == complete().options


def test_how_the_answer_is_wanted():
    call = chat(stream=True, stream_options={"include_usage": True}, model="fish")
    assert call.stream and call.include_usage and call.model == "fish"


@pytest.mark.parametrize("prompt", ["text", ["text"]])
def test_a_prompt_is_a_text_or_a_list_of_one(prompt):
    assert completion_call({"prompt": prompt}).prompt == "text"


def test_a_prompt_may_be_token_ids():
    assert (
        completion_call({"prompt": [1, 2]}).prompt == completion_call({"prompt": [[1, 2]]}).prompt == (1, 2)
    )


def test_texts_of_several_parts_become_one():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0]["content"] == "ab"


def test_arguments_of_earlier_calls_become_objects_for_the_template():
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    message = chat(messages=[{"role": "assistant", "tool_calls": [call]}]).messages[0]
    assert message["content"] == "" and message["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}


def test_tools_reach_the_template_and_leave_the_answer_free():
    call = chat(tools=[WEATHER], tool_choice="auto")
    assert call.tools.variables == {"tools": [WEATHER], "tool_choice": "auto"}
    assert not call.tools.chosen and "json_schema" not in call.options


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_chosen_tool_makes_the_answer_its_arguments(choice):
    call = chat(tools=[WEATHER], tool_choice=choice)
    assert call.tools.chosen == "weather"
    assert call.options["json_schema"] == WEATHER["function"]["parameters"]


def test_without_tools_to_call_the_template_hears_of_none():
    assert chat(tools=[WEATHER], tool_choice="none").tools.variables == {}


def test_the_older_words_for_tools_mean_the_same():
    call = chat(functions=[WEATHER["function"]], function_call={"name": "weather"})
    assert call.tools.chosen == "weather" and call.tools.legacy


@pytest.mark.parametrize(
    ("parameters", "param", "says"),
    [
        ({"temprature": 1}, "temprature", "is not known here"),
        ({"n": 2}, "n", "one text"),
        ({"best_of": 3}, "best_of", "one text"),
        ({"suffix": "end"}, "suffix", "not filled in"),
        ({"mirostat_mode": 2}, "mirostat_mode", "mirostat"),
        ({"temperature": "hot"}, "temperature", "must be a number, got 'hot'"),
        ({"temperature": True}, "temperature", "must be a number"),
        ({"top_p": math.nan}, "top_p", "must be a number"),
        ({"top_k": 1.5}, "top_k", "must be a whole number, got 1.5"),
        ({"max_tokens": -2}, "max_tokens", "must be >= 0"),
        ({"stop": ["a", ""]}, "stop", "none of them empty"),
        ({"stop": 5}, "stop", "must be a text or several"),
        ({"logit_bias": [1]}, "logit_bias", "must map token ids"),
        ({"logit_bias": {"1": math.inf}}, "logit_bias", "must map token ids"),
        ({"grammar": 5}, "grammar", "must be GBNF"),
        ({"references": "one"}, "references", "must be a list of texts"),
        ({"references": [1]}, "references", "must be a list of texts"),
        ({"prediction": {}}, "prediction", "must be"),
        ({"prediction": {"content": "a"}, "references": ["b"]}, "prediction", "among the references"),
        ({"response_format": {"type": "xml"}}, "response_format", "must have the type"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "must carry a schema"),
        ({"response_format": {"type": "json_object"}, "grammar": "root ::= [a]"}, "grammar", "give one"),
        ({"stream": 1}, "stream", "must be true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "goes with stream"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "include_usage"),
        ({"model": 1}, "model", "must be a name"),
        ({"logits_processor": "len"}, "logits_processor", "must be callable"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(parameters, param, says):
    for call in (complete, chat):
        error = refused(call, **parameters)
        assert error.param == param and says in str(error) and str(error).startswith(param)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"prompt": ["a", "b"]}, "must be a single one"),
        ({"prompt": []}, "must be a text or a list of token ids"),
        ({"prompt": None}, "must be a text or a list of token ids"),
        ({"logprobs": 101}, "between 0 and 100"),
        ({"logprobs": True}, "whole number"),
        ({"logprobs": 1, "echo": True}, "leave echo out"),
        ({"messages": HELLO}, "is not known here"),
    ],
)
def test_a_completion_refuses(parameters, says):
    assert says in str(refused(complete, **parameters))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"messages": []}, "must be a list of messages"),
        ({"messages": "Hello"}, "must be a list of messages"),
        ({"messages": [{"content": "Hello"}]}, "must each have a role"),
        ({"messages": [{"role": "user"}]}, "must each have a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "must hold text only"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "tool calls with a function"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "give one of them"),
        ({"top_logprobs": 2}, "needs logprobs=true"),
        ({"logprobs": 2}, "must be true or false"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "required"}, "name one of weather, clock"),
        ({"tools": [WEATHER], "tool_choice": {"function": {"name": "clock"}}}, "one of weather"),
        ({"tools": [{"type": "function"}]}, "functions with a name"),
        ({"tools": "weather"}, "must be a list"),
        ({"tools": [WEATHER], "tool_choice": "required", "grammar": "root ::= [a]"}, "drop the other format"),
    ],
)
def test_a_chat_refuses(parameters, says):
    assert says in str(refused(chat, **parameters))


def test_a_chat_without_messages_says_so():
    with pytest.raises(ParameterError, match="messages is missing"):
        chat_call({})

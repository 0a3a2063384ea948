"""Whatever JSON a request holds: an answer, or one of our errors; never another exception."""

import pytest

from orchestrator import Engine
from orchestrator.errors import PilotfishError
from orchestrator.openai.answer import Answer
from orchestrator.openai.parameters import chat_call, completion_call
from tests.orchestrator.test_engine import GREEDY, PRECISE

HUGE = 10**400
NONSENSE = [
    0,
    -1,
    HUGE,
    -HUGE,
    1.5,
    float("nan"),
    float("inf"),
    True,
    "",
    "x",
    "\ud800",
    "\0",
    [],
    [None],
    [HUGE],
    [-1],
    [[]],
    ["x", 1],
    {},
    {"type": "x"},
    {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/x"}}},
    {"type": "function", "function": {}},
    {"content": [None]},
    {"1": HUGE},
    {"-1": 1},
    {"999999": 1},
    [{"type": "function", "function": {"name": "x", "parameters": []}}],
    [{"role": "user", "content": "\ud800"}],
    [{"role": 1, "content": "x"}],
    [{"role": "x", "content": "x", "tool_calls": 5}],
]
BOTH = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "repeat_penalty", "frequency_penalty"),
    *("presence_penalty", "penalty_last_n", "seed", "max_tokens", "stop", "logit_bias", "logprobs"),
    *("grammar", "response_format", "references", "prediction", "speculate", "stream", "stream_options"),
    *("model", "n", "user", "suffix", "mirostat_mode", "tfs_z", "logits_processor", "stopping_criteria"),
)
NAMES = {
    completion_call: (*BOTH, "prompt", "echo"),
    chat_call: (*BOTH, "messages", "tools", "tool_choice", "functions", "function_call", "top_logprobs"),
}


@pytest.fixture(scope="module")
def engine(tiny):
    with Engine.load(tiny("llama"), method="none", **{**PRECISE, **GREEDY}) as engine:
        yield engine


@pytest.mark.parametrize(
    ("read", "name"), [(read, name) for read, names in NAMES.items() for name in names], ids=str
)
def test_nonsense_is_answered_or_refused(engine, read, name):
    plain = {"prompt": "x", "max_tokens": 2} if read is completion_call else {"max_tokens": 2}
    if read is chat_call:
        plain["messages"] = [{"role": "user", "content": "x"}]
    for value in NONSENSE:
        if name == "max_tokens" and value == -1:
            continue  # it asks for all that fits
        try:
            reply = Answer(engine, read({**plain, name: value})).whole()
        except PilotfishError as error:
            assert str(error)
        else:
            assert reply["choices"]

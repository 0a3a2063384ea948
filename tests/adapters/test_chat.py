"""Claims about chat templates: rendered as their authors meant, in a sandbox, and never with two BOS."""

from typing import Any

import pytest

from adapters.chat import ChatTemplate
from adapters.errors import ChatTemplateError
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer
from orchestrator.engine import Engine
from tests.tiny_gguf import BOS, CHATML, IM_END, IM_START, TinyFactory

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Où? {{ 1 + 1 }}"}]


def render(source: str, messages: list[Any] | None = None, **variables: Any) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(TALK if messages is None else messages, **variables)


# -- rendering -----------------------------------------------------------------------------------


def test_messages_come_in_order_and_the_answer_is_open() -> None:
    assert render(CHATML) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nOù? {{ 1 + 1 }}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_answer_is_closed_where_that_is_asked_for() -> None:
    assert render(CHATML, add_generation_prompt=False).endswith("<|im_end|>\n")


def test_bos_and_eos_are_known_by_name() -> None:
    assert render("{{ bos_token }}-{{ eos_token }}") == "<s>-</s>"


def test_tools_and_other_variables_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "café", "parameters": {}}}]
    assert render("{{ tools | tojson }}{{ mood }}", tools=tools, mood="!") == (
        '[{"type": "function", "function": {"name": "café", "parameters": {}}}]!'
    )
    assert render("{{ tools | tojson(indent=2) }}", tools=[1]) == "[\n  1\n]"
    assert render("{% if tools is defined %}tools{% else %}none{% endif %}") == "none"


def test_messages_may_carry_more_than_role_and_content() -> None:
    calls = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    assert render("{{ messages[0].tool_calls[0].name }}{{ messages[0].content is none }}", calls) == "fTrue"


def test_lines_of_blocks_leave_no_trace() -> None:
    source = "{% for m in messages %}\n    {%- if loop.first %}\n    A\n    {% endif %}\n  {% endfor %}B"
    assert render(source) == "    A\nB"


def test_loops_may_be_left_early() -> None:
    assert render("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}") == "system"


def test_the_date_can_be_asked_for() -> None:
    assert render("{{ strftime_now('%Y') }}").isdigit()


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["{% for m in messages %}", "{{ messages | no_such_filter }}", "{{ 1 + }}"]
)
def test_invalid_jinja_is_refused(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="the chat template is not valid Jinja: ."):
        ChatTemplate(source)


def test_a_template_may_reject_the_messages() -> None:
    with pytest.raises(ChatTemplateError, match="rejects the messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[7].content }}",
        "{{ nothing.at.all }}",
        "{{ 1 + messages[0].content }}",
        "{{ 1 // 0 }}",
        "{{ '%d' | format('x') }}",
        "{{ messages | sort }}",
        "{{ range(1000000) }}",
        "{% include 'x' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ [].pop() }}",
    ],
)
def test_whatever_goes_wrong_in_a_template_is_its_error(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="the model's chat template rejects the messages: ."):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ().__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="rejects the messages: .*(unsafe|not safely callable)"):
        render(source)


@pytest.mark.parametrize("name", ["messages.__class__", "raise_exception.__globals__", "self.__init__"])
def test_what_lies_outside_the_sandbox_is_undefined(name: str) -> None:
    assert render("{{ " + name + " is defined }}") == "False"


def test_what_a_template_changes_in_vain_stays_the_callers() -> None:
    talk = [{"role": "user", "content": ["a"]}]
    with pytest.raises(ChatTemplateError):
        render("{{ messages[0].content.append('b') }}", talk)
    assert talk == [{"role": "user", "content": ["a"]}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there are no messages; give at least one"),
        ([{"role": "user"}], "needs 'role' and 'content', got {'role': 'user'}"),
        ([{"content": "x"}], "needs 'role' and 'content'"),
        (["hello"], "needs 'role' and 'content', got 'hello'"),
        ("hello", "needs 'role' and 'content', got 'h'"),
    ],
)
def test_messages_that_are_none_are_refused(messages: list[Any], message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        render(CHATML, messages)


# -- the template of a GGUF ----------------------------------------------------------------------


def test_a_gguf_brings_its_template_and_names(tiny: TinyFactory) -> None:
    model = LlamaModel(tiny("llama", chat_template="{{ bos_token }}{{ eos_token }}" + CHATML))
    text = ChatTemplate.of(model, Tokenizer(model)).render(TALK)
    assert text == "<s></s>" + render(CHATML)


def test_a_gguf_without_a_template_says_so(tiny: TinyFactory) -> None:
    model = LlamaModel(tiny("llama", chat_template=None))
    with pytest.raises(
        ChatTemplateError, match=r"\.gguf has no chat template; use generate\(\) with a prompt"
    ):
        ChatTemplate.of(model, Tokenizer(model))


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize("in_template", [True, False])
def test_there_is_one_bos_and_only_where_somebody_wants_it(
    add_bos: bool, in_template: bool, tiny: TinyFactory
) -> None:
    template = ("{{ bos_token }}" if in_template else "") + CHATML
    with Engine.load(tiny("llama", add_bos=add_bos, chat_template=template), method="none") as engine:
        tokens = engine.chat_prompt([{"role": "user", "content": "a"}])
    assert tokens.count(BOS) == (add_bos or in_template)
    assert tokens.index(IM_START) == tokens.count(BOS)
    assert tokens.count(IM_END) == 1


def test_a_prompt_for_tools_is_a_prompt_of_the_engine(tiny: TinyFactory) -> None:
    path = tiny("llama", chat_template="{{ tools[0].name }}:" + CHATML)
    with Engine.load(path, method="none") as engine:
        text = engine.tokenizer.decode(engine.chat_prompt(TALK, tools=[{"name": "search"}]))
    assert text.startswith("search:")


def test_an_engine_without_a_template_still_generates(tiny: TinyFactory) -> None:
    with Engine.load(tiny("llama", chat_template=None), method="none") as engine:
        with pytest.raises(ChatTemplateError, match="has no chat template"):
            engine.chat(TALK)
        assert engine.generate("a", max_tokens=3, temperature=0).tokens

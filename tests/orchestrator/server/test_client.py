"""OpenAI's own client against the server: the engine's text in OpenAI's shapes."""

import json

import openai
import pytest

from tests.exact import assert_same_text

PROMPT = "the pilot fish swims ahead of the big one, the pilot fish swims"
MESSAGES = [{"role": "user", "content": "Which fish swims ahead?"}]


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def test_greedy_text_is_the_engines(server, client):
    with_server = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=60)
    alone = server.engine.generate(PROMPT, max_tokens=60)
    assert with_server.choices[0].text == alone.text
    assert with_server.usage.completion_tokens == len(alone.tokens) == 60
    assert with_server.usage.prompt_tokens == alone.stats.n_prompt
    plain = server.engine.generate(PROMPT, max_tokens=60, speculate=False)
    assert_same_text(server.engine, server.engine.tokenizer.encode(PROMPT), plain, alone)


def test_a_stream_is_the_same_text_in_pieces(server, client):
    alone = server.engine.chat(MESSAGES, max_tokens=40)
    chunks = list(client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=40, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == alone.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == alone.finish_reason == "length"
    assert len(chunks) > 10 and len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_last_in_a_stream_that_asks_for_it(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=5, **options)
    assert last.choices == [] and last.usage.completion_tokens == 5


def test_sampling_follows_its_seed(server, client):
    options = {"max_tokens": 20, "temperature": 0.9, "seed": 5}
    texts = [
        client.completions.create(model="tiny", prompt=PROMPT, **options).choices[0].text for _ in range(2)
    ]
    assert texts == [server.engine.generate(PROMPT, **options).text] * 2
    other = client.completions.create(model="tiny", prompt=PROMPT, **{**options, "seed": 6})
    assert other.choices[0].text != texts[0]


def test_a_stop_string_ends_the_text(server, client):
    whole = server.engine.generate(PROMPT, max_tokens=40).text
    stop = whole[10:12]
    choice = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=40, stop=[stop]).choices[0]
    assert choice.text == whole[: whole.index(stop)] and choice.finish_reason == "stop"


def test_logprobs_belong_to_the_tokens(client):
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=6, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 6
    for token in content:
        assert len(token.top_logprobs) == 3 and token.logprob == token.top_logprobs[0].logprob <= 0


def test_a_schema_makes_the_answer_json(client):
    schema = {"type": "object", "properties": {"fish": {"enum": ["pilot", "cod"]}}, "required": ["fish"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "fish", "schema": schema}}
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=200, response_format=wanted, stop=["}"]
    )
    assert json.loads(answer.choices[0].message.content + "}")["fish"] in ("pilot", "cod")


def test_references_are_quoted_and_told_by_source(server, client):
    text = server.engine.generate(PROMPT, max_tokens=50).text
    options = {"references": {"fish": text}, "include_sources": True}
    answer = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=50, extra_body=options)
    spans = answer.pilotfish["sources"]
    assert "".join(span["text"] for span in spans) == answer.choices[0].text == text
    assert sum(span["n_tokens"] for span in spans) == 50
    assert {span["source"] for span in spans} <= {"target", "lookup"}


def test_sources_in_a_stream_add_up_to_its_text(client):
    prompt = "one two three one two three one two three one two"
    stream = client.completions.create(
        model="tiny", prompt=prompt, max_tokens=80, stream=True, extra_body={"include_sources": True}
    )
    chunks = list(stream)
    assert all(
        "".join(s["text"] for s in chunk.pilotfish["sources"]) == chunk.choices[0].text for chunk in chunks
    )
    assert sum(span["n_tokens"] for chunk in chunks for span in chunk.pilotfish["sources"]) == 80
    assert chunks[-1].pilotfish["tau"] >= 1


def test_replies_have_no_extensions_unless_asked(client):
    answer = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=3)
    assert answer.model_extra == {}


def test_a_conversations_beginning_is_read_once(client):
    first = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8)
    turns = [*MESSAGES, {"role": "assistant", "content": "The pilot."}, {"role": "user", "content": "Why?"}]
    second = client.chat.completions.create(model="tiny", messages=turns, max_tokens=8)
    reused = second.usage.prompt_tokens_details.cached_tokens
    assert reused >= first.usage.prompt_tokens - 8


def test_models_are_listed_and_others_refused(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "pilotfish"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4' here; this server has 'tiny'"):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.models.retrieve("a/b")


def test_a_prompt_that_does_not_fit_is_refused_before_the_stream(client):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="shorten the prompt") as caught:
            client.completions.create(model="tiny", prompt="x y " * 9000, stream=stream)
        assert caught.value.code == "context_length_exceeded"


def test_figures_count_what_was_generated(server, client):
    before = server.figures()
    client.completions.create(model="tiny", prompt=PROMPT, max_tokens=7)
    after = server.figures()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["pilotfish_generated_tokens_total"] == 7
    assert 0 < grown["pilotfish_decodes_total"] <= 7
    assert grown["pilotfish_request_seconds_count"] == grown["pilotfish_tau_count"] == 1
    assert grown['pilotfish_requests_total{route="/v1/completions",status="200"}'] == 1
    assert grown['pilotfish_request_seconds_bucket{le="+Inf"}'] == 1
    assert after["pilotfish_queue_length"] == after["pilotfish_generating"] == 0
    drafted = after.get('pilotfish_drafted_tokens_total{source="lookup"}', 0)
    accepted = after.get('pilotfish_accepted_tokens_total{source="lookup"}', 0)
    assert drafted and after['pilotfish_acceptance{source="lookup"}'] == accepted / drafted


def test_sources_stop_where_the_text_does(server, client):
    whole = server.engine.generate(PROMPT, max_tokens=40).text
    options = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "stop": [whole[10:12]]}
    answer = client.completions.create(**options, extra_body={"include_sources": True})
    assert "".join(span["text"] for span in answer.pilotfish["sources"]) == answer.choices[0].text

"""The official anthropic package against a running gateway. environment.py says what it needs."""

import json

import anthropic
import pytest
from environment import (
    API_KEY,
    KEYED,
    LOOSE,
    MODEL,
    ROOT_URL,
    SCHEMA,
    WEATHER,
    fits_schema,
    fits_weather,
    needs,
)

QUESTION = [{"role": "user", "content": "What is arknet?"}]
TOOL = {"name": "get_weather", "description": "The weather.", "input_schema": WEATHER}


def connect(**more):
    more.setdefault("api_key", API_KEY)
    return anthropic.Anthropic(base_url=ROOT_URL, max_retries=0, timeout=60, **more)


@pytest.fixture(scope="module")
def client():
    with connect() as client:
        yield client


def ask(**more):
    more.setdefault("messages", QUESTION)
    more.setdefault("max_tokens", 12)
    # Newer packages have no parameter for it.
    more.setdefault("extra_body", {"temperature": 0})
    return {"model": MODEL, **more}


def say(client, **more):
    return client.messages.create(**ask(**more))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_message(client):
    answer = say(client, system="Answer briefly.", metadata={"user_id": "somebody"})
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert text_of(answer)
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 0
    assert 0 < answer.usage.output_tokens <= 12


def test_the_events_of_a_stream(client):
    whole = say(client)
    events = list(say(client, stream=True))
    kinds = [event.type for event in events]
    # Pings may come anywhere after the first, and the package keeps them from us or not.
    kinds = [kind for kind in kinds if kind != "ping"]
    deltas = kinds.count("content_block_delta")
    assert deltas > 0
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events[0].message
    assert start.id.startswith("msg_") and start.content == [] and start.stop_reason is None
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(pieces) == text_of(whole)
    (end,) = [event for event in events if event.type == "message_delta"]
    assert end.delta.stop_reason == whole.stop_reason
    assert end.usage.output_tokens == whole.usage.output_tokens


def test_streaming_through_the_packages_own_accumulator(client):
    with client.messages.stream(**ask()) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == text_of(message) != ""
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.output_tokens > 0


def test_system_blocks_and_cache_marks(client):
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "Answer briefly."}, {"type": "text", "text": "Hi.", **mark}]
    content = [{"type": "text", "text": "What is arknet?", **mark}]
    assert text_of(say(client, system=system, messages=[{"role": "user", "content": content}]))


def test_a_longer_conversation(client):
    messages = [
        *QUESTION,
        {"role": "assistant", "content": [{"type": "text", "text": "A network."}]},
        {"role": "user", "content": "And why?"},
    ]
    answer = say(client, messages=messages)
    assert text_of(answer)
    # What the assistant began is gone on with.
    began = say(client, messages=[*QUESTION, {"role": "assistant", "content": "arknet is"}])
    assert began.stop_reason in ("end_turn", "max_tokens")


def test_stop_sequence(client):
    text = text_of(say(client))
    stop = text[len(text) // 2 :][:3]
    answer = say(client, stop_sequences=["never said", stop])
    if "which_stop" not in LOOSE:
        assert answer.stop_reason == "stop_sequence"
        assert answer.stop_sequence == stop
    assert text_of(answer) == text[: text.index(stop)]


def test_token_limit(client):
    answer = say(client, max_tokens=1)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 1


@needs("count_tokens")
def test_count_tokens(client):
    def count(**more):
        return client.messages.count_tokens(model=MODEL, messages=QUESTION, **more).input_tokens

    usage = say(client).usage
    assert count() == usage.input_tokens + usage.cache_read_input_tokens
    assert count(system="Answer briefly.") > count()
    assert count(tools=[TOOL]) >= count()


@needs("tools", "tool_choice")
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_that_must_be_called(client, choice):
    more = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 200}
    answer = say(client, **more)
    assert answer.stop_reason == "tool_use"
    call = next(block for block in answer.content if block.type == "tool_use")
    assert call.id and call.name == "get_weather"
    fits_weather(call.input)

    with client.messages.stream(**ask(**more)) as stream:
        kinds = {e.delta.type for e in stream if e.type == "content_block_delta"}
        message = stream.get_final_message()
    assert "input_json_delta" in kinds
    assert message.stop_reason == "tool_use"
    fits_weather(next(block for block in message.content if block.type == "tool_use").input)


@needs("tools", "tool_choice")
def test_a_call_is_answered(client):
    first = say(client, tools=[TOOL], tool_choice={"type": "any"}, max_tokens=200)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in first.content
        if block.type == "tool_use"
    ]
    messages = [
        *QUESTION,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    answer = say(client, messages=messages, tools=[TOOL], tool_choice={"type": "none"})
    assert text_of(answer) and answer.stop_reason != "tool_use"


@needs("tools")
def test_a_tool_that_may_be_called(client):
    answer = say(client, tools=[TOOL], max_tokens=40)
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")
    assert answer.content


@needs("constrained")
def test_json_schema(client):
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    fits_schema(json.loads(text_of(say(client, output_config=form, max_tokens=200))))


def test_thinking_is_asked_for_in_vain_or_done(client):
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1200}
    with client.messages.stream(**ask(**more, extra_body={})) as stream:
        answer = stream.get_final_message()
    assert answer.content
    assert {block.type for block in answer.content} <= {"thinking", "text"}
    # Thoughts come back with the next turn.
    messages = [
        *QUESTION,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": "And why?"},
    ]
    off = {"type": "disabled"}
    assert say(client, messages=messages, thinking=off).content is not None


def test_who_answered(client):
    raw = client.messages.with_raw_response.create(**ask(max_tokens=1))
    assert raw.headers["request-id"]
    assert raw.headers["x-arknet-peer"].startswith("12D3Koo")


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client, stream):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(**{**ask(stream=stream), "model": "nobody/serves-this"})
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert "nobody/serves-this" in caught.value.body["error"]["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"messages": []},
        {"max_tokens": 0},
        {"extra_body": {"temperature": 7}},
        {"messages": [{"role": "king", "content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "dance"}]}]},
        {"tools": [{"name": "no name", "input_schema": {"type": "object"}}]},
        {"tool_choice": {"type": "any"}},
    ],
)
def test_bad_parameter(client, more):
    with pytest.raises(anthropic.BadRequestError) as caught:
        say(client, **more)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.body["error"]["message"]


def test_too_long_input(client):
    messages = [{"role": "user", "content": "word " * 1_000_000}]
    with pytest.raises(anthropic.APIStatusError) as caught:
        say(client, messages=messages)
    assert caught.value.status_code in (400, 413)
    assert caught.value.body["error"]["type"] in ("invalid_request_error", "request_too_large")


def test_closing_a_stream_cancels_it(client):
    for _ in range(20):
        with say(client, stream=True, max_tokens=200) as stream:
            assert next(iter(stream)).type == "message_start"
    assert say(client, max_tokens=1).usage.output_tokens == 1


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
def test_a_wrong_key():
    with connect(api_key="sk-ark-wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            say(client)
    assert caught.value.body["error"]["type"] == "authentication_error"


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
def test_a_key_as_coding_agents_send_it():
    with connect(api_key=None, auth_token=API_KEY) as client:
        assert say(client, max_tokens=1).usage.output_tokens == 1

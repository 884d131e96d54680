"""The official openai package against a running gateway. environment.py says what it needs."""

import json
import math
import os
import re

import openai
import pydantic
import pytest
from environment import (
    API_KEY,
    BASE_URL,
    EMBED_MODEL,
    KEYED,
    LOOSE,
    MISSING,
    MODEL,
    RERANK_MODEL,
    SCHEMA,
    WEATHER,
    fits_schema,
    fits_weather,
    needs,
)

QUESTION = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": [{"type": "text", "text": "What is arknet?"}]},
]
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER},
}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "person", "strict": True, "schema": SCHEMA},
}


def connect(**more):
    more.setdefault("api_key", API_KEY)
    return openai.OpenAI(base_url=BASE_URL, max_retries=0, timeout=60, **more)


@pytest.fixture(scope="module")
def client():
    with connect() as client:
        yield client


def chat(client, **more):
    more.setdefault("messages", QUESTION)
    more.setdefault("max_tokens", 12)
    more.setdefault("temperature", 0)
    if "seed" not in MISSING:
        more.setdefault("seed", -1)
    return client.chat.completions.create(model=MODEL, **more)


def test_chat(client):
    answer = chat(client, user="somebody", metadata={"a": "b"})
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 0
    assert 0 < usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 <= usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens


def test_streaming_chat(client):
    whole = chat(client).choices[0].message.content
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    *rest, last = chunks
    assert rest[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in rest)
    assert text == whole
    reasons = [chunk.choices[0].finish_reason for chunk in rest]
    assert reasons[:-1] == [None] * (len(rest) - 1)
    assert reasons[-1] in ("stop", "length")
    assert all(chunk.usage is None for chunk in rest)
    assert last.choices == []
    assert last.usage.completion_tokens > 0


def test_streaming_chat_without_usage(client):
    chunks = list(chat(client, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_streaming_chat_through_the_packages_own_accumulator(client):
    ask = {"model": MODEL, "messages": QUESTION, "max_tokens": 4, "temperature": 0}
    try:
        with client.chat.completions.stream(**ask) as stream:
            answer = stream.get_final_completion()
    except openai.LengthFinishReasonError as cut:
        answer = cut.completion
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")


@needs("completions")
def test_completions(client):
    ask = {"model": MODEL, "prompt": "arknet is", "max_tokens": 6, "temperature": 0}
    answer = client.completions.create(**ask)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 6
    chunks = list(client.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason


@needs("completions")
def test_completions_of_several_prompts(client):
    ask = {"model": MODEL, "prompt": ["one", "two"], "max_tokens": 2, "n": 2}
    answer = client.completions.create(**ask, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    begin = [choice.text[:3] for choice in answer.choices]
    assert begin == ["one", "one", "two", "two"]


def test_models(client):
    listed = {model.id: model for model in client.models.list()}
    assert MODEL in listed
    found = client.models.retrieve(MODEL)
    assert found.id == MODEL
    assert found.object == "model"
    assert found.owned_by == "arknet"
    digest = found.arknet["digest"]
    assert digest is None or re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert found.arknet["context_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client, stream):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody/serves-this", messages=QUESTION, stream=stream)
    assert caught.value.code == "model_not_found"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/serves-this")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"top_p": 7}, "top_p"),
        ({"top_p": "high"}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1_000_000}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "poem"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_bad_parameter(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **more)
    assert caught.value.param.startswith(param)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.body["message"]


def test_a_picture_for_a_model_that_takes_none(client):
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"
        "rkJggg=="
    )
    url = {"url": f"data:image/png;base64,{pixel}"}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": content}])
    assert MODEL in caught.value.message


def test_too_long_input(client):
    context = client.models.retrieve(MODEL).arknet["context_tokens"]
    messages = [{"role": "user", "content": "word " * (2 * context)}]
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client, messages=messages)
    assert caught.value.code in ("context_length_exceeded", "too_large")


def test_who_answered(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=1
    )
    assert raw.headers["x-arknet-peer"].startswith("12D3Koo")
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.parse().id == f"chatcmpl-{raw.request_id}"


def test_stop_sequence(client):
    text = chat(client).choices[0].message.content
    stop = text[len(text) // 2 :][:3]
    answer = chat(client, stop=[stop]).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content == text[: text.index(stop)]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_token_limit(client, limit):
    ask = {"model": MODEL, "messages": QUESTION, "temperature": 0, limit: 1}
    answer = client.chat.completions.create(**ask)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 1


def test_several_answers(client):
    answer = chat(client, n=3, temperature=1, max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    # One may be over before it says anything.
    assert any(choice.message.content for choice in answer.choices)
    assert 3 <= answer.usage.completion_tokens <= 12
    chunks = list(chat(client, n=2, max_tokens=4, stream=True))
    ended = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(ended) == [0, 1]
    texts = [
        "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)
        for index in (0, 1)
    ]
    # Both took the likeliest tokens.
    assert texts[0] == texts[1] != ""


@needs("seed", "exact")
def test_the_same_seed_gives_the_same_answer(client):
    def ask(seed):
        more = {"temperature": 2, "max_tokens": 32, "extra_body": {"profile": "exact"}}
        return chat(client, seed=seed, **more).choices[0].message.content

    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(8)}) > 1


@needs("logprobs")
def test_logprobs(client):
    (choice,) = chat(client, logprobs=True, top_logprobs=3).choices
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        likely = [other.logprob for other in token.top_logprobs]
        assert likely == sorted(likely, reverse=True)
        # What was taken is the likeliest.
        assert math.isclose(likely[0], token.logprob, abs_tol=1e-4)
    chunks = list(chat(client, logprobs=True, top_logprobs=1, stream=True))
    parts = [c.logprobs.content for chunk in chunks for c in chunk.choices if c.logprobs]
    text = b"".join(bytes(token.bytes) for part in parts for token in part or []).decode()
    assert text == choice.message.content


@needs("completions", "logprobs")
def test_logprobs_of_completions(client):
    ask = {"model": MODEL, "prompt": "arknet is", "max_tokens": 4, "temperature": 0}
    (choice,) = client.completions.create(**ask, logprobs=2).choices
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs)
    assert all(len(top) in (1, 2) for top in choice.logprobs.top_logprobs)


@needs("logit_bias", "logprobs")
def test_logit_bias(client):
    (choice,) = chat(client, logit_bias={"100": 100}, logprobs=True, max_tokens=4).choices
    assert len({tuple(token.bytes) for token in choice.logprobs.content}) == 1


@needs("tools", "tool_choice")
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_tool_that_must_be_called(client, choice):
    ask = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 200}
    (answer,) = chat(client, **ask).choices
    assert answer.finish_reason == "tool_calls"
    assert not answer.message.content
    call = answer.message.tool_calls[0]
    assert call.id and call.type == "function" and call.function.name == "get_weather"
    fits_weather(json.loads(call.function.arguments))

    chunks = list(chat(client, **ask, stream=True))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    pieces = [piece for piece in pieces if piece.index == 0]
    assert pieces[0].id and pieces[0].function.name == "get_weather"
    assert all(piece.id is None and piece.function.name is None for piece in pieces[1:])
    fits_weather(json.loads("".join(piece.function.arguments or "" for piece in pieces)))


@needs("tools", "tool_choice")
def test_a_call_is_answered(client):
    first = chat(client, tools=[TOOL], tool_choice="required", max_tokens=200).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.tool_calls
    ]
    messages = [*QUESTION, first.model_dump(exclude_none=True), *results]
    (answer,) = chat(client, messages=messages, tools=[TOOL], tool_choice="none").choices
    assert answer.message.content and not answer.message.tool_calls


@needs("tools", "tool_choice")
def test_tool_calls_through_the_packages_own_accumulator(client):
    ask = {"model": MODEL, "messages": QUESTION, "max_tokens": 200, "tools": [strict(TOOL)]}
    # One call: a model without sense goes on calling until its tokens end.
    ask |= {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 0}
    with client.chat.completions.stream(**ask) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    fits_weather(answer.choices[0].message.tool_calls[0].function.parsed_arguments)


def strict(tool):
    return {**tool, "function": {**tool["function"], "strict": True}}


@needs("tools")
def test_a_tool_that_may_be_called(client):
    (answer,) = chat(client, tools=[TOOL], tool_choice="auto").choices
    assert answer.finish_reason in ("stop", "length", "tool_calls")
    assert answer.message.content or answer.message.tool_calls


@needs("constrained")
def test_json_object(client):
    more = {"response_format": {"type": "json_object"}, "max_tokens": 200}
    (answer,) = chat(client, **more).choices
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content), dict)
    assert answer.message.content.lstrip().startswith("{")


@needs("constrained")
def test_json_schema(client):
    (answer,) = chat(client, response_format=FORMAT, max_tokens=200).choices
    assert answer.finish_reason == "stop"
    fits_schema(json.loads(answer.message.content))
    heat = 0 if "drawn_forms" in LOOSE else 1
    ask = {"response_format": FORMAT, "max_tokens": 200, "temperature": heat}
    chunks = list(chat(client, **ask, stream=True))
    fits_schema(json.loads("".join(chunk.choices[0].delta.content or "" for chunk in chunks)))


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    alive: bool


@needs("constrained")
def test_json_schema_of_a_type(client):
    ask = {"model": MODEL, "messages": QUESTION, "max_tokens": 200, "temperature": 0}
    ask["response_format"] = Person
    answer = client.chat.completions.parse(**ask)
    assert isinstance(answer.choices[0].message.parsed, Person)


@needs("regex")
def test_regular_expression(client):
    (answer,) = chat(client, extra_body={"guided_regex": "[a-c]{3}-[0-9]{2}"}).choices
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", answer.message.content)


@needs("grammar")
def test_grammar(client):
    (answer,) = chat(client, extra_body={"grammar": 'root ::= "yes" | "no"'}).choices
    assert answer.message.content in ("yes", "no")


def test_a_schema_that_is_none(client):
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, response_format=bad)
    assert caught.value.body["message"]


def respond(client, **more):
    more.setdefault("input", "What is arknet?")
    more.setdefault("max_output_tokens", 16)
    return client.responses.create(model=MODEL, temperature=0, **more)


def test_responses(client):
    answer = respond(client, instructions="Answer briefly.", metadata={"a": "b"})
    assert answer.object == "response"
    assert answer.id.startswith("resp_")
    assert answer.model == MODEL
    assert answer.status in ("completed", "incomplete")
    assert answer.output_text
    assert answer.output[-1].type == "message" and answer.output[-1].role == "assistant"
    assert answer.usage.output_tokens <= 16
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.metadata == {"a": "b"}
    if answer.status == "incomplete":
        assert answer.incomplete_details.reason == "max_output_tokens"


def test_streaming_responses(client):
    whole = respond(client)
    events = list(respond(client, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    for kind in ("output_item.added", "content_part.added", "output_text.delta"):
        assert f"response.{kind}" in kinds
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    (done,) = [event for event in events if event.type == "response.output_text.done"]
    assert "".join(deltas) == done.text == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens > 0


def test_responses_go_on_where_the_last_ended(client):
    first = respond(client, store=True)
    alone = respond(client, input="And why?")
    second = respond(client, input="And why?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > alone.usage.input_tokens
    # Without the server's memory it is the same conversation.
    history = [
        {"role": "user", "content": "What is arknet?"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And why?"},
    ]
    assert respond(client, input=history).usage.input_tokens == second.usage.input_tokens


def test_responses_that_nobody_kept(client):
    forgotten = respond(client, store=False)
    for id in (forgotten.id, "resp_nobody"):
        with pytest.raises(openai.APIStatusError) as caught:
            respond(client, previous_response_id=id)
        assert caught.value.status_code in (400, 404)
        assert caught.value.code == "previous_response_not_found"


@needs("tools", "tool_choice")
def test_tools_in_responses(client):
    tool = {"type": "function", "strict": True, **strict(TOOL)["function"]}
    ask = {"tools": [tool], "max_output_tokens": 200}
    answer = respond(client, **ask, tool_choice="required")
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls[0].name == "get_weather" and calls[0].call_id
    fits_weather(json.loads(calls[0].arguments))
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        for call in calls
    ]
    after = respond(
        client, **ask, tool_choice="none", input=results, previous_response_id=answer.id
    )
    assert after.output_text
    events = list(respond(client, **ask, tool_choice="required", stream=True))
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    fits_weather(json.loads(done[0].arguments))


@needs("constrained")
def test_json_schema_in_responses(client):
    ask = {"model": MODEL, "input": "Who?", "max_output_tokens": 200, "temperature": 0}
    answer = client.responses.parse(**ask, text_format=Person)
    assert isinstance(answer.output_parsed, Person)


@needs("embeddings")
def test_embeddings(client):
    def embed(**more):
        return client.embeddings.create(model=EMBED_MODEL, **more)

    texts = ["What is arknet?", "a completely different sentence", "What is arknet?"]
    # The package asks for base64 where nothing is said, and decodes it.
    packed, plain = embed(input=texts), embed(input=texts, encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1, 2]
    assert plain.usage.prompt_tokens > 0 and plain.model == EMBED_MODEL
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-5)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-3)
    first, different, again = (item.embedding for item in plain.data)
    assert first == pytest.approx(again, abs=1e-3)
    assert first != pytest.approx(different, abs=1e-3)
    (alone,) = embed(input=texts[0]).data
    assert alone.embedding == pytest.approx(first, abs=1e-2)
    assert len(embed(input="short", dimensions=8).data[0].embedding) == 8


def test_embeddings_of_nothing(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=EMBED_MODEL, input=[])
    assert caught.value.param == "input"


@needs("rerank")
def test_rerank(client):
    documents = ["Bread is baked.", "A network of machines."]
    body = {"model": RERANK_MODEL, "query": "What is a network?", "documents": documents}
    answer = client.post("/rerank", cast_to=object, body={**body, "top_n": 1})
    (result,) = answer["results"]
    assert result["index"] in (0, 1) and isinstance(result["relevance_score"], float)


def connection(raw):
    """The server's and the client's end of the connection that carried a response."""
    stream = raw.http_response.extensions["network_stream"]
    return stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")


def test_one_connection_serves_many_requests():
    with connect() as client:
        first = client.models.with_raw_response.list()
        ends = connection(first)
        assert None not in ends
        second = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=1
        )
        assert connection(second) == ends
        assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_closing_a_stream_cancels_it(client):
    for _ in range(20):
        with chat(client, stream=True, max_tokens=200) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"
    # Were they still running, this would wait for them or be refused.
    assert chat(client, max_tokens=1).choices[0].message.content is not None


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
@pytest.mark.parametrize("key", ["sk-ark-wrong", "nonsense"])
def test_a_wrong_key(key):
    with connect(api_key=key) as client, pytest.raises(openai.AuthenticationError) as caught:
        chat(client)
    assert caught.value.code == "invalid_api_key"
    assert key not in caught.value.message


@pytest.mark.skipif("ARKNET_FAILING_MODEL" not in os.environ, reason="needs a model that fails")
def test_failure_in_the_middle(client):
    model = os.environ["ARKNET_FAILING_MODEL"]
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model=model, messages=QUESTION, stream=True):
            chunks.append(chunk)
    assert chunks, "the failure comes after the first token"
    assert caught.value.type == "api_error"
    assert caught.value.code in ("peer_lost", "provider_failed", "shutting_down")

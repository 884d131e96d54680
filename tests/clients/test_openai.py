"""The official openai package against a running gateway.

ARKNET_BASE_URL names the gateway (http://127.0.0.1:4000/v1) and ARKNET_MODEL a model it can reach.
The tests ask for behaviour, not for words, so that any model will do. ARKNET_FAILING_MODEL, where it
is set, names a model whose answers fail after the first token.
"""

import os
import re

import openai
import pytest

MODEL = os.environ["ARKNET_MODEL"]
BASE_URL = os.environ["ARKNET_BASE_URL"]
QUESTION = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": [{"type": "text", "text": "What is arknet?"}]},
]


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=BASE_URL, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def chat(client, **more):
    more.setdefault("messages", QUESTION)
    more.setdefault("max_tokens", 12)
    return client.chat.completions.create(model=MODEL, temperature=0, seed=-1, **more)


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


def test_models(client):
    listed = {model.id: model for model in client.models.list()}
    assert MODEL in listed
    found = client.models.retrieve(MODEL)
    assert found == listed[MODEL]
    assert found.object == "model"
    assert found.owned_by == "arknet"
    assert re.fullmatch("sha256:[0-9a-f]{64}", found.arknet["digest"])
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
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_bad_parameter(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **more)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.body["message"]


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
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, **{limit: 1})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 1


def connection(raw):
    """The server's and the client's end of the connection that carried a response."""
    stream = raw.http_response.extensions["network_stream"]
    return stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")


def test_one_connection_serves_many_requests():
    with openai.OpenAI(base_url=BASE_URL, api_key="unused", max_retries=0) as client:
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

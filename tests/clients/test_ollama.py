"""The official ollama package against a running gateway. environment.py says what it needs."""

import json
import math
import os

import ollama
import pytest
from environment import (
    API_KEY,
    EMBED_MODEL,
    KEYED,
    MISSING,
    MODEL,
    ROOT_URL,
    SCHEMA,
    WEATHER,
    fits_schema,
    fits_weather,
    needs,
)

QUESTION = [{"role": "user", "content": "What is arknet?"}]
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER},
}
BRIEF = {"num_predict": 12, "temperature": 0}
LONG = {**BRIEF, "num_predict": 200}


def connect(key=API_KEY):
    return ollama.Client(host=ROOT_URL, timeout=60, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def client():
    return connect()


def chat(client, **more):
    more.setdefault("messages", QUESTION)
    more.setdefault("options", BRIEF)
    return client.chat(model=MODEL, **more)


def ends_well(answer, tokens):
    assert answer.done
    assert answer.done_reason in ("stop", "length")
    assert answer.prompt_eval_count > 0
    assert 0 < answer.eval_count <= tokens
    assert answer.total_duration >= answer.eval_duration >= 0


def test_chat(client):
    answer = chat(client)
    assert answer.model == MODEL and answer.created_at
    assert answer.message.role == "assistant" and answer.message.content
    ends_well(answer, 12)


def test_streaming_chat(client):
    whole = chat(client).message.content
    parts = list(chat(client, stream=True))
    assert "".join(part.message.content for part in parts) == whole
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(part.model == MODEL for part in parts)
    ends_well(parts[-1], 12)


def test_a_longer_conversation(client):
    messages = [
        {"role": "system", "content": "Answer briefly."},
        *QUESTION,
        {"role": "assistant", "content": "A network."},
        {"role": "user", "content": "And why?"},
    ]
    assert chat(client, messages=messages).message.content


def test_generate(client):
    ask = {"model": MODEL, "prompt": "What is arknet?", "options": BRIEF}
    answer = client.generate(**ask)
    assert answer.response
    ends_well(answer, 12)
    parts = list(client.generate(**ask, system="Answer briefly.", stream=True))
    assert "".join(part.response for part in parts)
    ends_well(parts[-1], 12)


@needs("completions")
def test_generate_without_a_template(client):
    answer = client.generate(model=MODEL, prompt="arknet is", raw=True, options=BRIEF)
    assert answer.response
    ends_well(answer, 12)


def test_stop_sequence(client):
    text = chat(client).message.content
    stop = text[len(text) // 2 :][:3]
    answer = chat(client, options={**BRIEF, "stop": [stop]})
    assert answer.done_reason == "stop"
    assert answer.message.content == text[: text.index(stop)]


def test_options_of_all_kinds(client):
    options = {"top_k": 20, "top_p": 0.9, "num_ctx": 1024, "num_thread": 1}
    if not MISSING.intersection({"seed", "logit_bias"}):
        options |= {"seed": 7, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": 64}
    answer = chat(client, options={**options, "num_predict": 4}, keep_alive="5m")
    ends_well(answer, 4)


@needs("logprobs")
def test_logprobs(client):
    answer = chat(client, logprobs=True, top_logprobs=2)
    assert "".join(one.token for one in answer.logprobs) == answer.message.content
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in answer.logprobs)


@needs("constrained")
def test_json(client):
    answer = chat(client, format="json", options=LONG)
    assert answer.message.content.lstrip().startswith(("{", "["))


@needs("constrained")
def test_json_schema(client):
    fits_schema(json.loads(chat(client, format=SCHEMA, options=LONG).message.content))
    parts = list(chat(client, format=SCHEMA, options=LONG, stream=True))
    fits_schema(json.loads("".join(part.message.content for part in parts)))
    answer = client.generate(model=MODEL, prompt="Who?", format=SCHEMA, options=LONG)
    fits_schema(json.loads(answer.response))


@needs("tools")
def test_tools(client):
    # This API cannot force a call; one that comes must fit.
    parts = list(chat(client, tools=[TOOL], options=LONG, stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    for call in calls:
        assert call.function.name == "get_weather"
        fits_weather(call.function.arguments)
    assert calls or any(part.message.content for part in parts)
    call = {"function": {"name": "get_weather", "arguments": {"city": "Rome", "unit": "celsius"}}}
    messages = [
        *QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    answer = chat(client, messages=messages, tools=[TOOL])
    assert answer.message.content or answer.message.tool_calls


@needs("embeddings")
def test_embed(client):
    answer = client.embed(model=EMBED_MODEL, input=["one", "another", "one"])
    first, different, again = answer.embeddings
    assert math.hypot(*first) == pytest.approx(1, abs=1e-3)
    assert first == pytest.approx(again, abs=1e-3) and first != pytest.approx(different, abs=1e-3)
    assert answer.prompt_eval_count > 0
    (alone,) = client.embed(model=EMBED_MODEL, input="one", dimensions=8).embeddings
    assert len(alone) == 8
    assert client.embeddings(model=EMBED_MODEL, prompt="one").embedding


def test_list(client):
    listed = {model.model: model for model in client.list().models}
    assert MODEL in listed
    assert listed[MODEL].details.format == "gguf"


def test_show(client):
    shown = client.show(MODEL)
    assert shown.details.format == "gguf"
    assert "completion" in shown.capabilities
    assert any(name.endswith(".context_length") for name in shown.modelinfo)


def test_ps(client):
    for model in client.ps().models:
        assert model.model and model.expires_at
        assert model.size is not None and model.size_vram is not None


def test_an_empty_prompt_only_loads(client):
    answer = client.generate(model=MODEL)
    assert answer.done and answer.done_reason == "load" and answer.response == ""


def test_version(client):
    version = client._request_raw("GET", "/api/version").json()["version"]
    assert all(part.isdigit() for part in version.split("."))


@pytest.mark.skipif("ARKNET_PULL_MODEL" not in os.environ, reason="needs a model to pull")
@needs("pull")
def test_pull(client):
    name = os.environ["ARKNET_PULL_MODEL"]
    steps = list(client.pull(name, stream=True))
    assert steps[0].status == "pulling manifest"
    assert steps[-1].status == "success"
    for step in steps:
        if step.total is not None and step.completed is not None:
            assert step.digest and 0 <= step.completed <= step.total
    # What is there already need not come again.
    assert client.pull(name).status == "success"
    assert name in {model.model.removesuffix(":latest") for model in client.list().models}


def test_pull_of_what_nobody_has(client):
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.pull("nobody/serves-this", stream=True))
    assert caught.value.error


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client, stream):
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(model="nobody/serves-this", messages=QUESTION, stream=stream))
    assert caught.value.status_code == 404
    assert "nobody/serves-this" in caught.value.error and "not found" in caught.value.error
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("nobody/serves-this")
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    "more",
    [
        {"options": {"temperature": 7}},
        {"options": {"top_p": -1}},
        {"messages": [{"role": "king", "content": "hi"}]},
        {"format": {"type": "nonsense"}},
        {"messages": [{"role": "user", "content": "hi", "images": [b"no picture"]}]},
    ],
)
def test_bad_parameter(client, more):
    # The package would hold some of it back.
    ask = json.loads(json.dumps({"messages": QUESTION, **more}, default=lambda _: "bm8="))
    with pytest.raises(ollama.ResponseError) as caught:
        client._request_raw("POST", "/api/chat", json={"model": MODEL, "stream": False, **ask})
    assert caught.value.status_code == 400
    assert caught.value.error


def test_closing_a_stream_cancels_it(client):
    for _ in range(20):
        stream = chat(client, stream=True, options={"num_predict": 200})
        next(iter(stream))
        stream.close()
    assert chat(client, options={"num_predict": 1}).eval_count == 1


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
def test_a_wrong_key():
    with pytest.raises(ollama.ResponseError) as caught:
        chat(connect("sk-ark-wrong"))
    assert caught.value.status_code == 401

"""litellm as a client of a running gateway, through three APIs. environment.py says what it needs."""

import json
import math
import os
from pathlib import Path

# Without this it asks the network for a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest
import yaml
from environment import (
    API_KEY,
    BASE_URL,
    EMBED_MODEL,
    KEYED,
    MODEL,
    ROOT_URL,
    SCHEMA,
    WEATHER,
    fits_schema,
    fits_weather,
    needs,
)

litellm.suppress_debug_info = True
QUESTION = [{"role": "user", "content": "What is arknet?"}]
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER},
}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "person", "strict": True, "schema": SCHEMA},
}
APIS = {"openai": BASE_URL, "anthropic": ROOT_URL, "ollama_chat": ROOT_URL}
by_each_api = pytest.mark.parametrize("api", APIS)


def complete(api, model=MODEL, **more):
    more.setdefault("messages", QUESTION)
    more.setdefault("max_tokens", 12)
    more.setdefault("api_key", API_KEY)
    return litellm.completion(
        f"{api}/{model}", api_base=APIS[api], num_retries=0, timeout=60, temperature=0, **more
    )


@by_each_api
def test_completion(api):
    answer = complete(api)
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 12


@by_each_api
def test_streaming(api):
    whole = complete(api).choices[0].message.content
    chunks = list(complete(api, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@needs("tools", "tool_choice")
def test_tools(api):
    answer = complete(api, tools=[TOOL], tool_choice="required", max_tokens=200)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    fits_weather(json.loads(call.function.arguments))


@pytest.mark.parametrize("api", ["openai", "ollama_chat"])
@needs("constrained")
def test_json_schema(api):
    answer = complete(api, response_format=FORMAT, max_tokens=200)
    fits_schema(json.loads(answer.choices[0].message.content))


@pytest.mark.parametrize("prefix", ["openai", "ollama"])
@needs("embeddings")
def test_embedding(prefix):
    base = BASE_URL if prefix == "openai" else ROOT_URL
    answer = litellm.embedding(
        f"{prefix}/{EMBED_MODEL}", input=["one", "another"], api_base=base, api_key=API_KEY
    )
    vectors = [item["embedding"] for item in answer.data]
    assert len(vectors) == 2
    assert math.hypot(*vectors[0]) == pytest.approx(1, abs=1e-3)


@by_each_api
def test_unknown_model(api):
    with pytest.raises(litellm.NotFoundError):
        complete(api, model="nobody/serves-this")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_bad_parameter(api):
    with pytest.raises(litellm.BadRequestError):
        complete(api, top_p=7)


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_wrong_key(api):
    with pytest.raises(litellm.AuthenticationError):
        complete(api, api_key="sk-ark-wrong")


def test_the_packaged_configuration_of_its_proxy(monkeypatch):
    monkeypatch.setenv("ARKNET_API_KEY", API_KEY)
    packaged = Path(__file__).parents[2] / "packaging" / "litellm.yaml"
    models = yaml.safe_load(packaged.read_text())["model_list"]
    (entry,) = models
    assert entry["litellm_params"]["api_base"] == "http://127.0.0.1:4000/v1"
    entry["litellm_params"]["api_base"] = BASE_URL
    # The proxy routes with this; the server around it brings a hundred packages.
    router = litellm.Router(model_list=models, num_retries=0)
    answer = router.completion(model=MODEL, messages=QUESTION, max_tokens=12)
    assert answer.choices[0].message.content
    chunks = list(router.completion(model=MODEL, messages=QUESTION, max_tokens=12, stream=True))
    assert any(chunk.choices[0].delta.content for chunk in chunks)

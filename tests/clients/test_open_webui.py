"""What Open WebUI asks of a server, as its backend asks it: through OpenAI's API and through Ollama's.

Open WebUI itself is too large to be installed for a test. environment.py says what is needed.
"""

import json

import httpx
import pytest
from environment import API_KEY, BASE_URL, KEYED, MODEL, ROOT_URL

# With ENABLE_FORWARD_USER_INFO_HEADERS it tells every server who asks. A gateway takes that, and
# keeps it to itself.
HEADERS = {
    "Authorization": f"Bearer {API_KEY}",
    "X-OpenWebUI-User-Name": "Ada%20Lovelace",
    "X-OpenWebUI-User-Id": "7f3c2f2e-7a60-4d5e-9a3b-2d0f1c9a1b11",
    "X-OpenWebUI-User-Email": "ada@example.com",
    "X-OpenWebUI-User-Role": "user",
    "X-OpenWebUI-Chat-Id": "0a7b6c5d-1111-2222-3333-444455556666",
}
MESSAGES = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What is arknet?"},
]


@pytest.fixture
def web():
    with httpx.Client(headers=HEADERS, timeout=60, trust_env=False) as client:
        yield client


def test_its_list_of_openai_models(web):
    answer = web.get(f"{BASE_URL}/models").raise_for_status().json()
    assert answer["object"] == "list"
    (model,) = (entry for entry in answer["data"] if entry["id"] == MODEL)
    assert model["object"] == "model" and model["owned_by"]


def test_its_chat_through_openai(web):
    body = {
        "stream": True,
        "model": MODEL,
        "messages": MESSAGES,
        "stream_options": {"include_usage": True},
        "max_tokens": 12,
    }
    with web.stream("POST", f"{BASE_URL}/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert "text/event-stream" in answer.headers["content-type"]
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(choice["delta"].get("content") or "" for c in chunks for choice in c["choices"])
    assert text
    assert chunks[-1]["usage"]["total_tokens"] > 0


def test_its_title_of_a_conversation(web):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Make a title for: What is arknet?"}],
        "stream": False,
        "max_completion_tokens": 12,
    }
    answer = web.post(f"{BASE_URL}/chat/completions", json=body).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"]


def test_its_check_of_an_ollama_server(web):
    assert web.get(f"{ROOT_URL}/api/version").raise_for_status().json()["version"]


def test_its_list_of_ollama_models(web):
    models = web.get(f"{ROOT_URL}/api/tags").raise_for_status().json()["models"]
    (model,) = (entry for entry in models if entry["model"].removesuffix(":latest") == MODEL)
    # It groups by these, and fails on models without them.
    assert {"name", "model", "details", "digest", "modified_at", "size"} <= model.keys()
    loaded = web.get(f"{ROOT_URL}/api/ps").raise_for_status().json()["models"]
    assert isinstance(loaded, list)


def test_its_chat_through_ollama(web):
    body = {
        "model": MODEL,
        "messages": MESSAGES,
        "options": {"num_predict": 12},
        "stream": True,
    }
    with web.stream("POST", f"{ROOT_URL}/api/chat", json=body) as answer:
        assert answer.status_code == 200
        assert "application/x-ndjson" in answer.headers["content-type"]
        parts = [json.loads(line) for line in answer.iter_lines() if line]
    assert "".join(part["message"]["content"] for part in parts)
    assert parts[-1]["done"] is True


@pytest.mark.skipif(not KEYED, reason="needs a server that asks for keys")
@pytest.mark.parametrize("url", [f"{BASE_URL}/models", f"{ROOT_URL}/api/tags"])
def test_a_wrong_key(url):
    headers = {**HEADERS, "Authorization": "Bearer sk-ark-wrong"}
    answer = httpx.get(url, headers=headers, trust_env=False)
    assert answer.status_code == 401

"""Pictures through the official clients. environment.py says what else they need; beside that
ARKNET_PICTURE_MODEL, a model that takes them."""

import base64
import os
import struct
import zlib

import anthropic
import ollama
import openai
import pytest
from environment import API_KEY, BASE_URL, MODEL, ROOT_URL

PICTURE_MODEL = os.environ["ARKNET_PICTURE_MODEL"]
QUESTION = "What is this?"


def png(width, height, stripe):
    """A picture of stripes."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    row = b"".join(bytes([255 * (x // stripe % 2), 90, 20]) for x in range(width))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * height)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


PICTURE = png(64, 64, 8)
ENCODED = base64.b64encode(PICTURE).decode()


def openai_content(*pictures):
    urls = [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in pictures]
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*shown, {"type": "text", "text": QUESTION}]


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=60) as client:
        yield client


def chat(client, *pictures, model=PICTURE_MODEL, **more):
    messages = [{"role": "user", "content": openai_content(*pictures)}]
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=6, temperature=0, **more
    )


def test_chat(client):
    answer = chat(client, PICTURE)
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > chat(client).usage.prompt_tokens + 4
    again = chat(client, PICTURE)
    # What was looked at once is not looked at again.
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


def test_the_answer_depends_on_the_picture(client):
    def likely(picture):
        answer = chat(client, picture, logprobs=True, top_logprobs=2)
        return [top.logprob for top in answer.choices[0].logprobs.content[0].top_logprobs]

    one, other = likely(PICTURE), likely(png(64, 64, 32))
    assert max(abs(a - b) for a, b in zip(one, other)) > 0.02


def test_stream(client):
    chunks = list(chat(client, PICTURE, png(96, 32, 4), stream=True))
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)


def test_responses(client):
    url = f"data:image/png;base64,{ENCODED}"
    content = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": url}]
    answer = client.responses.create(
        model=PICTURE_MODEL,
        input=[{"role": "user", "content": content}],
        max_output_tokens=16,
        temperature=0,
    )
    assert answer.output_text


def test_what_is_no_picture(client):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, PICTURE, PICTURE[:60])
    assert "picture 2 cannot be read" in caught.value.message


def test_a_model_that_takes_none(client):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, PICTURE, model=MODEL)
    assert MODEL in caught.value.message


def test_anthropic():
    source = {"type": "base64", "media_type": "image/png", "data": ENCODED}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    with anthropic.Anthropic(base_url=ROOT_URL, api_key=API_KEY, max_retries=0) as client:
        answer = client.messages.create(model=PICTURE_MODEL, messages=messages, max_tokens=6)
        assert answer.content[0].text
        counted = client.messages.count_tokens(model=PICTURE_MODEL, messages=messages)
        read = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
        assert counted.input_tokens == read
        without = [{"role": "user", "content": QUESTION}]
        less = client.messages.count_tokens(model=PICTURE_MODEL, messages=without)
        assert counted.input_tokens > less.input_tokens + 4


def test_ollama():
    client = ollama.Client(
        host=ROOT_URL, timeout=60, headers={"Authorization": f"Bearer {API_KEY}"}
    )
    assert "vision" in client.show(PICTURE_MODEL).capabilities
    brief = {"num_predict": 6, "temperature": 0}
    messages = [{"role": "user", "content": QUESTION, "images": [PICTURE]}]
    answer = client.chat(model=PICTURE_MODEL, messages=messages, options=brief)
    assert answer.message.content
    answer = client.generate(PICTURE_MODEL, QUESTION, images=[PICTURE], options=brief)
    assert answer.response

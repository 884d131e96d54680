"""Where the server is, and what can be asked of it.

ARKNET_BASE_URL     the gateway, as OpenAI's clients are given it (http://127.0.0.1:4000/v1)
ARKNET_MODEL        a model it can reach; any will do: the tests ask for behaviour, not for words
ARKNET_EMBED_MODEL  a model for embeddings, where ARKNET_MODEL is none
ARKNET_RERANK_MODEL a model that ranks, where ARKNET_MODEL does not
ARKNET_PULL_MODEL   a model that /api/pull can get
ARKNET_API_KEY      a key; with ARKNET_KEYED=1 the server lets nobody in without one
ARKNET_FAILING_MODEL a model whose answers fail after the first token
ARKNET_SKIP         features that are not there, with commas: asking for one must then end in the
                    refusal that is documented, and the tests ask for that
ARKNET_LOOSE        features that a service behind the server takes without keeping to them, such as
                    a llama-server that lets a model talk instead of calling: not tested
"""

import functools
import os

import pytest

BASE_URL = os.environ["ARKNET_BASE_URL"].rstrip("/")
ROOT_URL = BASE_URL.removesuffix("/v1")
MODEL = os.environ["ARKNET_MODEL"]
EMBED_MODEL = os.environ.get("ARKNET_EMBED_MODEL") or MODEL
RERANK_MODEL = os.environ.get("ARKNET_RERANK_MODEL") or MODEL
API_KEY = os.environ.get("ARKNET_API_KEY") or "unused"
KEYED = os.environ.get("ARKNET_KEYED") == "1"
MISSING = frozenset(filter(None, os.environ.get("ARKNET_SKIP", "").split(",")))
LOOSE = frozenset(filter(None, os.environ.get("ARKNET_LOOSE", "").split(",")))
FEATURES = {
    "completions",  # continuing a plain text
    "constrained",  # JSON and JSON Schema
    "count_tokens",
    "drawn_forms",  # keeping to a form whatever is drawn: a llama-server may draw half a character
    "embeddings",
    "exact",  # the exact profile
    "grammar",  # GBNF
    "logit_bias",
    "logprobs",
    "pull",
    "regex",
    "rerank",
    "seed",
    "tool_choice",  # forcing a call
    "tools",
    "which_stop",  # telling which stop sequence ended an answer
}
UNKNOWN = (MISSING | LOOSE) - FEATURES
assert not UNKNOWN, f"ARKNET_SKIP, ARKNET_LOOSE: there is no {', '.join(UNKNOWN)}"

# A form with an end, so that even a model without sense gets there.
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colour": {"enum": ["red", "green", "blue"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "colour", "tags"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}


def fits_schema(value):
    assert set(value) == {"name", "age", "colour", "tags"}
    assert isinstance(value["name"], str) and len(value["name"]) <= 12
    assert type(value["age"]) is int and 0 <= value["age"] <= 120
    assert value["colour"] in ("red", "green", "blue")
    assert len(value["tags"]) <= 2 and all(type(tag) is bool for tag in value["tags"])


def fits_weather(arguments):
    assert set(arguments) == {"city", "unit"}
    assert isinstance(arguments["city"], str) and len(arguments["city"]) <= 12
    assert arguments["unit"] in ("celsius", "fahrenheit")


def needs(*features):
    """The test as it is where all features are there; elsewhere one that asks for the refusal."""
    assert set(features) <= FEATURES

    def decorate(test):
        if LOOSE.intersection(features):
            return pytest.mark.skip(reason="taken, but not kept to")(test)
        if not MISSING.intersection(features):
            return test

        @functools.wraps(test)
        def refused(*args, **kwargs):
            with pytest.raises(Exception) as caught:
                test(*args, **kwargs)
            is_refusal(caught.value)

        return refused

    return decorate


def is_refusal(error):
    """The error of any of the clients for what a model or its provider cannot do."""
    assert getattr(error, "status_code", None) == 400, repr(error)
    code = getattr(error, "code", None)
    assert code in (None, "400", "unsupported", "unsupported_parameter"), repr(error)
    assert str(error)

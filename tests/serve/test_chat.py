from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import orjson
import pytest

SHORT, LONG = "hi", "a prompt that is longer than twenty characters"


def test_routes_by_the_prompt_and_says_why(gateway: Callable[..., Any]) -> None:
    """A short prompt goes to the cheap destination, a long one to the dear; headers tell why."""
    with gateway(budget="price = 1.0") as served:
        short, long = served.chat(SHORT), served.chat(LONG)
    assert (short.status, long.status) == (200, 200)
    assert short.headers["x-turnout-destination"] == "cheap"
    assert long.headers["x-turnout-destination"] == "dear"
    assert long.headers["x-turnout-quality"] == "cheap=0.2,dear=0.8"
    assert long.headers["x-turnout-cost"] == "cheap=0.001,dear=0.02"
    assert long.headers["x-turnout-price"] == "1"
    assert long.headers["x-turnout-propensity"] == "1"
    assert short.headers["x-turnout-id"] != long.headers["x-turnout-id"]


def test_a_high_price_keeps_to_the_cheap(gateway: Callable[..., Any]) -> None:
    """0.6 of quality for 0.019 of cost is not worth a price above 0.6 / 0.019 = 31.6."""
    with gateway(budget="price = 32.0") as served:
        assert served.chat(LONG).headers["x-turnout-destination"] == "cheap"
    with gateway(budget="price = 31.0") as served:
        assert served.chat(LONG).headers["x-turnout-destination"] == "dear"


def test_the_official_client_gets_a_whole_answer(gateway: Callable[..., Any]) -> None:
    with (
        gateway() as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client,
    ):
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": SHORT}]
        )
        assert [model.id for model in client.models.list()] == ["auto", "cheap", "dear"]
    assert answer.choices[0].message.content == "Hello w\u00f6rld"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 14


@pytest.mark.parametrize("wants_usage", [False, True])
@pytest.mark.parametrize("manner", ["ok", "comments", "no-blank-line"])
def test_the_official_client_gets_a_stream(
    gateway: Callable[..., Any], manner: str, wants_usage: bool
) -> None:
    """The pieces arrive in order; the usage event reaches only who asked for it."""
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    with (
        gateway(manner) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": SHORT}], stream=True, **options
        )
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello w\u00f6rld"
    usages = [chunk.usage.total_tokens for chunk in chunks if chunk.usage]
    assert usages == ([14] if wants_usage else [])


def test_a_named_model_is_pinned(gateway: Callable[..., Any]) -> None:
    """A name of the pool is served by that destination, and by no other when it fails."""
    with gateway(cheap="status-500") as served:
        assert served.chat(SHORT, "dear").headers["x-turnout-destination"] == "dear"
        refused = served.chat(SHORT, "cheap")
    assert refused.status == 502
    assert refused.error["code"] == "status_500"


def test_only_the_model_changes_on_the_way_up(gateway: Callable[..., Any], fake: Any) -> None:
    """Order, spacing, escapes, big numbers and unknown fields reach the upstream as written."""
    body = (
        b'{ "tools":[{"type":"function","function":{"name":"f","parameters":{"model":"x"}}}],\n'
        b'  "model" : "auto", "temperature":1.0, "seed": 123456789012345678901234567890,\n'
        b'  "messages":[{"role":"user","content":"h\\u00e9 \\"model\\": \\"y\\""}],\n'
        b'  "unknown":[1e3] }'
    )
    with gateway() as served:
        assert served.post("/v1/chat/completions", body).status == 200
    assert fake.bodies == [body.replace(b'"model" : "auto"', b'"model" : "ok"')]
    assert fake.headers[0]["authorization"].startswith("Bearer sk-secret")


def test_an_answer_comes_back_byte_for_byte(gateway: Callable[..., Any]) -> None:
    with gateway("odd-json") as served:
        answer = served.chat(SHORT)
    assert answer.body == (
        b'{ "id":"odd", "choices" : [], "x": 1.0, "big": 123456789012345678901234567890 }'
    )


def test_a_stream_comes_back_byte_for_byte(gateway: Callable[..., Any], fake: Any) -> None:
    """Asked with or without usage the other events are the same bytes, line ends included."""
    with gateway() as served:
        plain = served.chat(SHORT, stream=True)
        told = served.chat(SHORT, stream=True, stream_options={"include_usage": True, "x": 1})
    assert plain.headers["content-type"] == "text/event-stream"
    events = told.body.split(b"data: ")
    usage = [event for event in events if b"total_tokens" in event]
    assert len(usage) == 1
    assert plain.body == told.body.replace(b"data: " + usage[0], b"")
    assert plain.body.endswith(b"\r\n\r\ndata: [DONE]\n\n")
    sent = [orjson.loads(body)["stream_options"] for body in fake.bodies]
    assert sent == [{"include_usage": True}, {"include_usage": True, "x": 1}]


def test_usage_that_is_switched_off_is_asked_for_and_left_out(
    gateway: Callable[..., Any], fake: Any
) -> None:
    """`include_usage: false` stays false for the client, though the ledger wants to know."""
    with gateway() as served:
        answer = served.chat(SHORT, stream=True, stream_options={"include_usage": False, "x": 1})
    assert b"total_tokens" not in answer.body
    assert orjson.loads(fake.bodies[0])["stream_options"] == {"include_usage": True, "x": 1}


def test_models_and_health(gateway: Callable[..., Any]) -> None:
    with gateway() as served:
        models, health = served.get("/v1/models").json, served.get("/healthz")
    assert [model["id"] for model in models["data"]] == ["auto", "cheap", "dear"]
    assert health.status == 200
    assert health.json["status"] == "ok"
    up = {"up": True, "error": None, "circuit": "closed"}
    assert health.json["pool"] == {"cheap": up, "dear": up}


def test_health_says_who_failed_when_last_asked(gateway: Callable[..., Any]) -> None:
    with gateway("status-500") as served:
        served.chat(SHORT)
        pool = served.get("/healthz").json["pool"]
    assert pool["cheap"] == {"up": False, "error": "status_500", "circuit": "closed"}
    assert pool["dear"] == {"up": True, "error": None, "circuit": "closed"}


def test_exploration_logs_true_propensities(
    gateway: Callable[..., Any], ledger_rows: Callable[..., Any]
) -> None:
    """With a share e explored evenly over two, the best has 1 - e / 2 and the other e / 2."""
    with gateway(router="explore = 0.5\nseed = 3", budget="price = 1.0") as served:
        answers = [served.chat(SHORT) for _ in range(24)]
    chosen = [answer.headers["x-turnout-destination"] for answer in answers]
    assert set(chosen) == {"cheap", "dear"}
    for answer, row in zip(answers, ledger_rows(served.config), strict=True):
        best = answer.headers["x-turnout-destination"] == "cheap"
        assert float(answer.headers["x-turnout-propensity"]) == (0.75 if best else 0.25)
        assert row["propensity"] == (0.75 if best else 0.25)


def test_a_router_without_figures_is_served(gateway: Callable[..., Any], router_file: Any) -> None:
    """A router that only routes is obeyed; its propensity is not known and not made up."""
    from by_length import NoFigures  # type: ignore[import-not-found]

    from turnout.core import Pool
    from turnout.parts import store

    store.save(router_file, NoFigures(("cheap", "dear")), Pool(names=("cheap", "dear")))
    with gateway() as served:
        answer = served.chat(LONG)
    assert answer.headers["x-turnout-destination"] == "cheap"
    assert "x-turnout-propensity" not in answer.headers
    assert "x-turnout-quality" not in answer.headers

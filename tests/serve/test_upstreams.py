from __future__ import annotations

import http.client
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import openai
import orjson
import pytest

DOWN: dict[str, tuple[int, str]] = {
    # manner of the upstream: status and code the client sees
    "down": (502, "connection"),
    "status-500": (502, "status_500"),
    "status-503": (503, "status_503"),
    "status-401": (502, "status_401"),
    "status-404": (502, "status_404"),
    "status-302": (502, "status_302"),
    "status-429": (429, "status_429"),
    "html": (502, "bad_reply"),
}


@pytest.mark.parametrize(
    ("manner", "stream"),
    [(manner, stream) for manner in DOWN for stream in (False, True)]
    + [("nothing", True), ("error-first", True)],
)
def test_the_next_best_answers_for_one_that_fails(
    gateway: Callable[..., Any], ledger_rows: Callable[..., Any], manner: str, stream: bool
) -> None:
    """Whatever goes wrong before anything was sent, the other destination answers, on record."""
    with gateway(cheap=manner) as served:
        answer = served.chat("hi", stream=stream)
    assert answer.status == 200
    assert answer.headers["x-turnout-destination"] == "dear"
    assert answer.headers["x-turnout-fallback-from"] == "cheap"
    *before, row = ledger_rows(served.config)
    # a stream that ended as if it were whole, and was empty, may have been charged
    assert [one["error_type"] for one in before] == ["truncated"] * (manner == "nothing")
    assert (row["destination"], row["fallback_from"], row["status"]) == ("dear", "cheap", 200)
    assert row["cost_usd"] == pytest.approx((11 * 10.0 + 3 * 40.0) / 1e6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("manner", "expected"), DOWN.items())
def test_when_all_fail_one_typed_error_says_how(
    gateway: Callable[..., Any],
    ledger_rows: Callable[..., Any],
    manner: str,
    expected: tuple[int, str],
    stream: bool,
) -> None:
    with gateway(manner, manner) as served:
        answer = served.chat("hi", stream=stream)
    error = answer.error
    assert (answer.status, error["code"]) == expected
    assert error["type"] == "upstream_error"
    assert answer.headers["content-type"] == "application/json"
    asks = manner in ("status-429", "status-503")
    assert answer.headers.get("retry-after") == ("7" if asks else None)
    (row,) = ledger_rows(served.config)
    assert (row["status"], row["error_type"]) == expected
    assert (row["destination"], row["fallback_from"]) == ("dear", "cheap")
    assert (row["cost_usd"], row["first_token_s"]) == (0.0, None)


def test_fallbacks_can_be_switched_off(gateway: Callable[..., Any]) -> None:
    with gateway(cheap="status-500", router="fallbacks = 0") as served:
        assert served.chat("hi").status == 502


def test_a_request_at_fault_is_not_tried_elsewhere(
    gateway: Callable[..., Any], fake: Any, ledger_rows: Callable[..., Any]
) -> None:
    """An upstream's 4xx about the request itself comes back as the upstream wrote it."""
    with gateway(cheap="status-422") as served:
        answer = served.chat("hi")
    assert answer.status == 422
    assert answer.error["code"] == "y"
    assert len(fake.bodies) == 1
    (row,) = ledger_rows(served.config)
    assert (row["status"], row["error_type"]) == (422, "status_422")


def test_an_upstream_that_is_silent_times_out(gateway: Callable[..., Any], fake: Any) -> None:
    with gateway("hang", "hang", entry="timeout_seconds = 0.05") as served:
        answer = served.chat("hi")
    assert (answer.status, answer.error["code"]) == (504, "timeout")


@pytest.mark.parametrize(
    ("manner", "code"),
    [("truncate", "truncated"), ("crash", "truncated"), ("error-event", "busy")],
)
def test_a_stream_that_dies_ends_in_a_typed_error(
    gateway: Callable[..., Any],
    ledger_rows: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    manner: str,
    code: str,
) -> None:
    """What arrived is passed on, then an error event; never `[DONE]`, never another answer."""
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    with gateway(cheap=manner) as served:
        answer = served.chat("hi", stream=True)
    events = [event.removeprefix(b"data: ") for event in answer.body.split(b"\n\n") if event]
    assert orjson.loads(events[0])["choices"][0]["delta"]["content"] == "Hel"
    assert orjson.loads(events[-1])["error"]["code"] == code
    assert b"[DONE]" not in answer.body
    assert answer.headers["x-turnout-destination"] == "cheap"
    (row,) = ledger_rows(served.config)
    assert (row["status"], row["fallback_from"]) == (502, None)
    assert row["error_type"] in ("truncated", "error_event")
    assert row["first_token_s"] is not None


def test_the_official_client_raises_on_a_stream_that_dies(gateway: Callable[..., Any]) -> None:
    with (
        gateway(cheap="truncate") as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="finish its answer"):
            list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_upstream(
    gateway: Callable[..., Any], fake: Any, ledger_rows: Callable[..., Any], stream: bool
) -> None:
    """Closing the connection cancels the work upstream, and the ledger says who left."""
    with gateway(cheap="endless" if stream else "hang") as served:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
        body = {
            "model": "auto",
            "stream": stream,
            "messages": [{"role": "user", "content": "hi"}],
        }
        connection.request("POST", "/v1/chat/completions", orjson.dumps(body))
        assert fake.asked.wait(20)
        if stream:
            response = connection.getresponse()
            assert response.read(5) == b"data:"
            response.close()
        connection.close()
        assert fake.gone.wait(20)
    (row,) = ledger_rows(served.config)
    assert (row["status"], row["error_type"]) == (499, "client_disconnected")
    assert (row["first_token_s"] is not None) == stream

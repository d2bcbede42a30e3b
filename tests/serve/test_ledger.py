from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_ledger_holds_what_was_served(
    gateway: Callable[..., Any], ledger_rows: Callable[..., Any]
) -> None:
    """One row a request: decision, propensity, tokens, exact cost, times, status."""
    with gateway(budget="price = 1.0") as served:
        started = time.time()
        whole = served.chat("hi")
        streamed = served.chat("a prompt that is longer than twenty characters", stream=True)
        pinned = served.chat("hi", "dear")
    rows = {row["id"]: row for row in ledger_rows(served.config)}
    assert len(rows) == 3
    row = rows[whole.headers["x-turnout-id"]]
    assert abs(row["time"] - started) < 60
    assert 0 < row["first_token_s"] <= row["latency_s"] < 60
    expected = {
        "model": "auto", "destination": "cheap", "price": 1.0, "propensity": 1.0,
        "quality": {"cheap": 0.9, "dear": 0.9}, "cost": {"cheap": 0.001, "dear": 0.02},
        "prompt_chars": 2, "stream": False, "input_tokens": 11, "output_tokens": 3,
        "cost_usd": (11 * 1.0 + 3 * 4.0) / 1e6, "status": 200, "error_type": None,
        "fallback_from": None, "completion_id": "chatcmpl-ok", "feedback": None,
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    assert float(whole.headers["x-turnout-spent-usd"]) == pytest.approx(row["cost_usd"])
    row = rows[streamed.headers["x-turnout-id"]]
    assert row["stream"] is True
    assert (row["destination"], row["input_tokens"], row["output_tokens"]) == ("dear", 11, 3)
    assert row["cost_usd"] == pytest.approx((11 * 10.0 + 3 * 40.0) / 1e6)
    assert row["completion_id"] == "chatcmpl-ok"
    row = rows[pinned.headers["x-turnout-id"]]
    assert (row["model"], row["propensity"], row["quality"]) == ("dear", 1.0, {})


def test_no_prompt_answer_or_key_is_kept_or_said(
    gateway: Callable[..., Any], fake: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Over good, failing, broken and refused requests, nothing private is written or sent."""
    caplog.set_level("DEBUG")
    answers, prompt, key = [], fake.prompt, fake.key
    for manner in ("ok", "status-401", "echo-key", "truncate", "crash", "html", "error-event"):
        with gateway(manner, manner) as served:
            answers += [served.chat(prompt), served.chat(prompt, stream=True)]
            # while the write-ahead log still exists
            files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        files.append((tmp_path / "ledger.sqlite").read_bytes())
        for private in (prompt, key, key[:6], "Hello"):
            assert not any(private.encode() in kept for kept in files), (manner, private)
    said = caplog.text
    heard = (
        b"".join(answer.body for answer in answers)
        + repr([answer.headers for answer in answers]).encode()
    )
    assert prompt not in said
    assert prompt.encode() not in heard
    assert "sk-sec" not in said
    assert b"sk-sec" not in heard


def test_feedback_is_filed_under_the_request(
    gateway: Callable[..., Any], ledger_rows: Callable[..., Any]
) -> None:
    """By the gateway's id or by the completion's; the latest word counts."""
    with gateway() as served:
        name = served.chat("hi").headers["x-turnout-id"]
        first = served.post("/v1/feedback", {"id": name, "quality": 0.25})
        again = served.post("/v1/feedback", {"id": "chatcmpl-ok", "quality": 1, "comment": "ok"})
    assert first.json == {"object": "feedback", "id": name, "quality": 0.25}
    assert again.json["id"] == name
    (row,) = ledger_rows(served.config)
    assert row["feedback"] == 1.0


def test_a_completion_id_used_twice_names_nothing(gateway: Callable[..., Any]) -> None:
    with gateway() as served:
        served.chat("hi")
        served.chat("hi")
        answer = served.post("/v1/feedback", {"id": "chatcmpl-ok", "quality": 1})
    assert answer.status == 404
    assert "x-turnout-id" in answer.error["message"]

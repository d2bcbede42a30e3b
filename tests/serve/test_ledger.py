from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve import _schema
from turnout.serve.ledger import Entry, SQLiteLedger


def entry(name: str, **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "id": name, "time": 100.0, "model": "auto", "destination": "a", "price": 2.0,
        "propensity": 0.5, "quality": {"a": 0.25}, "cost": {"a": 0.125}, "prompt_chars": 3,
        "stream": False, "latency_s": 0.5, "status": 200,
    }  # fmt: skip
    return Entry(**{**fields, **more})


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened = SQLiteLedger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


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
            (tmp_path / "copy").write_bytes(  # while the write-ahead log still exists
                b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
            )
        kept = (tmp_path / "copy").read_bytes() + (tmp_path / "ledger.sqlite").read_bytes()
        for private in (prompt, key, key[:6], "Hello"):
            assert private.encode() not in kept, (manner, private)
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


def test_nothing_recorded_is_lost_on_closing(tmp_path: Path) -> None:
    """More entries than a batch holds are all there after close, in a file opened anew."""
    path = tmp_path / "ledger.sqlite"
    ledger = SQLiteLedger(path)
    for i in range(1500):
        ledger.record(entry(f"tn-{i}", cost_usd=0.5, time=float(i)))
    ledger.close()
    again = SQLiteLedger(path)
    assert len(again.rows()) == 1500
    assert again.spend() == 750.0
    assert again.spend(since=1498.0) == 1.0
    again.close()


def test_rows_read_back_as_recorded(ledger: SQLiteLedger) -> None:
    recorded = entry("tn-1", quality={"a": 0.1, "b": 0.30000000000000004})
    ledger.record(recorded)
    (row,) = ledger.rows()
    assert row.pop("feedback") is None
    assert Entry(**row) == recorded


def test_the_ledger_only_grows(ledger: SQLiteLedger) -> None:
    """Not even another program can change or remove what is there."""
    ledger.record(entry("tn-1"))
    ledger.rate("tn-1", 0.5)
    with closing(sqlite3.connect(ledger.path)) as other:
        for table in ("requests", "feedback"):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET time = 0"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    other.execute(statement)


def test_what_cannot_be_written_now_is_written_later(ledger: SQLiteLedger) -> None:
    """While another process holds the file entries wait, and the ledger says so."""
    ledger._connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.record(entry("tn-1"))
        ledger.flush()
        assert ledger.error is not None
        other.execute("ROLLBACK")
    ledger.record(entry("tn-2"))
    assert [row["id"] for row in ledger.rows()] == ["tn-1", "tn-2"]
    assert ledger.error is None


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_feedback_out_of_range_is_refused(ledger: SQLiteLedger, quality: float) -> None:
    ledger.record(entry("tn-1"))
    with pytest.raises(InputError, match="quality must be a number in"):
        ledger.rate("tn-1", quality)


def test_a_closed_ledger_refuses(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite")
    ledger.close()
    ledger.close()
    with pytest.raises(InputError, match="ledger must be open"):
        ledger.rows()


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    """A text, a foreign database, a newer ledger, a missing folder: each its own error."""
    text, foreign, newer = (tmp_path / name for name in ("text", "foreign", "newer"))
    text.write_text("not a database, but long enough to be read as one" * 20)
    with closing(sqlite3.connect(foreign)) as made:
        made.execute("CREATE TABLE mine (x)")
    SQLiteLedger(newer).close()
    with closing(sqlite3.connect(newer)) as made:
        made.execute("PRAGMA user_version = 99")
    cases = [
        (text, "be a ledger"),
        (foreign, "be a ledger"),
        (newer, "be at most 1; got 99"),
        (tmp_path / "none" / "ledger.sqlite", "be a file that can be opened"),
    ]
    for path, rule in cases:
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(ConfigError, match=rule):
            SQLiteLedger(path)
        assert (path.read_bytes() if path.exists() else None) == before


def test_one_request_is_found_by_either_name(ledger: SQLiteLedger) -> None:
    ledger.record(entry("tn-1", completion_id="chatcmpl-7"))
    ledger.flush()
    for name in ("tn-1", "chatcmpl-7"):
        found = _schema.find(ledger.path, name)
        assert found is not None
        assert found["id"] == "tn-1"
    assert _schema.find(ledger.path, "tn-2") is None
    with pytest.raises(ConfigError, match="ledger must exist"):
        _schema.find(ledger.path.parent / "none", "tn-1")

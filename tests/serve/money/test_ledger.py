from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve.money import _schema, reading
from turnout.serve.money.entry import Entry, cut, id_of, number_of, rest_of, short
from turnout.serve.money.ledger import SQLiteLedger
from turnout.serve.money.usage import Usage

DATA = Path(__file__).parent / "data"
NOON = 1_795_867_200_000
DAY = 86_400_000


def row(ms: int = NOON, count: int = 0, worker: int = 0, **more: Any) -> Any:
    """A row of the ledger; keywords are fields of `Entry`, or of the row itself."""
    fields = {
        "key": "alice",
        "destination": "cheap",
        "cost": 23_000_000,
        "flags": 0,
        "model": "auto",
    }
    own = {name: more.pop(name, value) for name, value in fields.items()}
    entry = Entry(**{"status": 200, "latency_s": 0.5, **more})
    rest = rest_of(entry, own["model"], "v1", ["pool"], 40)
    number = (ms << 15) + count
    return (id_of(number, worker), own["key"], own["destination"], entry.status, own["cost"],
            own["flags"], rest)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteLedger]:
    opened = SQLiteLedger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def test_rows_read_back_by_their_names(ledger: SQLiteLedger) -> None:
    """Everything recorded is in the views, under the names of version 1 and the new ones."""
    made = row(
        usage=Usage(11, 3, 8), price=2.0, propensity=0.5, quality={"cheap": 0.1, "dear": 0.3},
        predicted={"cheap": 0.125}, prompt_chars=3, first_token_s=0.25, completion_id="chatcmpl-1",
        fallback_from="dear", tries=2, error_type="odd",
        flags=_schema.STREAM | _schema.ESTIMATED,
    )  # fmt: skip
    ledger.record(made)
    (read,) = ledger.rows()
    assert read == {
        "id": reading.id_text(made[0]), "number": made[0], "time": NOON / 1000, "model": "auto",
        "destination": "cheap", "price": 2.0, "propensity": 0.5,
        "quality": {"cheap": 0.1, "dear": 0.3}, "cost": {"cheap": 0.125}, "prompt_chars": 3,
        "stream": True, "input_tokens": 11, "output_tokens": 3, "cost_usd": 2.3e-05,
        "latency_s": 0.5, "first_token_s": 0.25, "status": 200, "error_type": "odd",
        "fallback_from": "dear", "completion_id": "chatcmpl-1", "key": "alice", "cached_tokens": 8,
        "price_version": "v1", "estimated": True, "tries": 2, "budgets": ["pool"], "chars": 40,
        "cost_pico": 23_000_000, "feedback": None,
    }  # fmt: skip


def test_ids_are_ordered_by_time_and_read_back() -> None:
    """Milliseconds first, then the worker, then the count; the text is the number and back."""
    ids = [id_of((ms << 15) + count, worker) for ms in (NOON, NOON + 1) for worker in (0, 5)
           for count in (0, 9)]  # fmt: skip
    assert ids == sorted(set(ids))
    assert all(0 < id_ < 2**63 for id_ in ids)
    assert [number_of(id_) >> 15 for id_ in ids] == [NOON] * 4 + [NOON + 1] * 4
    assert [reading.number(reading.id_text(id_)) for id_ in ids] == ids
    for text in ("tn-", "tn-" + "g" * 16, "TN-" + "0" * 16, "tn-" + "f" * 16, "tn-+" + "0" * 15):
        assert reading.number(text) is None


def test_nothing_recorded_is_lost_on_closing(tmp_path: Path) -> None:
    """More rows than a batch holds are all there after close, in a file opened anew."""
    path = tmp_path / "ledger.sqlite"
    kept: list[int] = []
    ledger = SQLiteLedger(path, kept.extend)
    for i in range(5000):
        ledger.record(row(NOON + i, cost=500_000_000_000), i)
    ledger.close()
    ledger.close()
    assert kept == list(range(5000))
    again = SQLiteLedger(path)
    assert len(again.rows()) == 5000
    assert again.spend() == 2500.0
    assert again.spend(since=(NOON + 4998) / 1000) == 1.0
    again.close()
    with pytest.raises(InputError, match="ledger must be open"):
        again.rows()


def test_spend_is_exact_beyond_what_sqlite_adds_up(ledger: SQLiteLedger) -> None:
    """Sums above 64 bits neither fail nor lose their small parts."""
    for i in range(3):
        ledger.record(row(NOON + i, cost=2**62 + 1))
    assert ledger.spend() == (3 * 2**62 + 3) / 10**12
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        while _schema.catch_up(other, "sums"):
            pass
        day = NOON // DAY * DAY
        assert _schema.spent(other, day, day + DAY) == {("alice", "cheap"): 2**63 - 1}
        assert _schema.spent(other, NOON, NOON + 2) == {("alice", "cheap"): 2**63 + 2}


def test_the_ledger_only_grows(ledger: SQLiteLedger) -> None:
    """Not even another program can change or remove what is there."""
    made = row(completion_id="c")
    ledger.record(made)
    ledger.rate("c", 0.5)
    with closing(sqlite3.connect(ledger.path)) as other:
        while _schema.catch_up(other, "sums"):
            pass
        tables = {"entries": "status", "feedback": "time", "names": "name", "sums": "cost"}
        for table, column in tables.items():
            assert other.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = 0"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    other.execute(statement)


def test_what_cannot_be_written_now_is_written_later(tmp_path: Path) -> None:
    """While another process holds the file rows wait and the ledger says so; it tries by itself."""
    written = threading.Event()
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite", lambda _: written.set())
    ledger._connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.record(row())
        ledger.flush()
        assert ledger.error is not None
        assert ledger.waiting == 1
        other.execute("ROLLBACK")
    assert written.wait(20)
    assert len(ledger.rows()) == 1
    assert ledger.error is None
    assert ledger.waiting == 0
    ledger.close()


def test_rows_that_are_there_already_are_not_there_twice(ledger: SQLiteLedger) -> None:
    """After a kill the same rows come again, among new ones, in one batch or in several."""
    rows = [row(NOON + i) for i in range(6)]
    for some in (rows[:3], rows[2:5], rows[5:] + rows):
        for one in some:
            ledger.record(one)
        ledger.flush()
    assert [read["number"] for read in ledger.rows()] == [one[0] for one in rows]


def test_two_requests_of_one_id_are_both_kept(ledger: SQLiteLedger) -> None:
    """A clock that was set back can repeat an id; the second row gets the next free one, once."""
    first, second, third = (row(model=name) for name in ("a", "b", "c"))
    for one in (first, second, third, second):
        ledger.record(one)
        ledger.flush()
    ledger.record(second)
    assert [(read["number"] - first[0], read["model"]) for read in ledger.rows()] == [
        (0, "a"), (1, "b"), (2, "c"),
    ]  # fmt: skip


def test_feedback_by_either_name(ledger: SQLiteLedger) -> None:
    """By the gateway's id or by the completion's; the latest word counts, all stay."""
    one, other = row(completion_id="chatcmpl-1"), row(NOON + 1)
    ledger.record(one)
    ledger.record(other)
    name = reading.id_text(one[0])
    assert ledger.rate(name, 0.25, "first") == name
    assert ledger.rate("chatcmpl-1", 1) == name
    assert [read["feedback"] for read in ledger.rows()] == [1.0, None]
    with closing(sqlite3.connect(ledger.path)) as other_connection:
        query = "SELECT request, quality, comment FROM feedback"
        assert other_connection.execute(query).fetchall() == [
            (one[0], 0.25, "first"), (one[0], 1.0, None),
        ]  # fmt: skip


def test_feedback_that_names_nothing_or_too_much_is_refused(ledger: SQLiteLedger) -> None:
    """Unknown ids, a completion id used twice, a grade out of range."""
    for i in range(2):
        ledger.record(row(NOON + i, completion_id="twice"))
    with pytest.raises(InputError, match=r"id must name one request.*x-turnout-id"):
        ledger.rate("twice", 1.0)
    for unknown in ("none", "tn-" + "0" * 16):
        with pytest.raises(InputError, match="id must name a served request"):
            ledger.rate(unknown, 1.0)
    for quality in (-0.1, 1.1, float("nan"), "good"):
        with pytest.raises(InputError, match="quality must be a number in"):
            ledger.rate("twice", quality)  # type: ignore[arg-type]


def test_feedback_waits_a_moment_for_another_workers_row(tmp_path: Path) -> None:
    """The answer of one worker can be graded at another before its row is in the file."""
    one, other = (SQLiteLedger(tmp_path / "ledger.sqlite") for _ in range(2))
    made = row(completion_id="chatcmpl-9")
    looked = threading.Event()
    look_up = other._look_up

    def spied(request: str) -> list[int]:
        found = look_up(request)
        if not looked.is_set():
            looked.set()
            one.flush()
        return found

    other._look_up = spied  # type: ignore[method-assign]

    def late() -> None:
        looked.wait(20)
        one.record(made)

    # the row is recorded only after the first look, and flushed before the second
    thread = threading.Thread(target=late)
    one.record(row(NOON + 5))
    thread.start()
    assert other.rate("chatcmpl-9", 0.5) == reading.id_text(made[0])
    thread.join()
    one.close()
    other.close()


def test_late_rows_are_found_by_name_and_counted(ledger: SQLiteLedger) -> None:
    """A long request's id is older than the marks of names and sums; it must not be overlooked."""
    ledger.record(row(NOON + DAY, completion_id="first"))
    ledger.rate("first", 1.0)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        while _schema.catch_up(other, "sums"):
            pass
        ledger.record(row(NOON, completion_id="late", destination="dear", cost=7))
        ledger.record(row(NOON + 1, cost=None))
        ledger.record(row(NOON + DAY + 1, completion_id="newer", key="bob", cost=9))
        ledger.flush()
        assert ledger.rate("late", 0.5) == reading.id_text(row(NOON)[0])
        assert ledger.rate("newer", 0.5) == reading.id_text(row(NOON + DAY + 1)[0])
        while _schema.catch_up(other, "sums"):
            pass
        day = NOON // DAY * DAY
        assert _schema.spent(other, day, day + DAY) == {
            ("alice", "dear"): 7, ("alice", "cheap"): 0,
        }  # fmt: skip
        assert _schema.spent(other, 0, 2**61) == {
            ("alice", "dear"): 7, ("alice", "cheap"): 23_000_000, ("bob", "cheap"): 9,
        }  # fmt: skip
        assert other.execute("SELECT sum(requests) FROM sums").fetchone() == (4,)


def test_sums_agree_with_the_rows_however_far_they_are_caught_up(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small steps, between appended rows, early and late: nothing twice, nothing left out."""
    monkeypatch.setattr(_schema, "_CHUNK", 7)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        for i in range(40):
            ms = NOON + (i * 37 % 40) * DAY // 8
            ledger.record(row(ms, count=i, cost=i, key=f"k{i % 3}"))
            ledger.flush()
            if i % 3 == 0:
                _schema.catch_up(other, "sums")
        while _schema.catch_up(other, "sums"):
            pass
        for start in (NOON // DAY * DAY, NOON // DAY * DAY + 2 * DAY):
            for end in (start + DAY, start + 4 * DAY):
                by_rows = _schema.spent(other, start - 1, end - 1)
                assert _schema.spent(other, start, end) == by_rows


def test_the_writing_thread_keeps_sums_up_to_date(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then, so that a start after a long run does not have to read all rows."""
    ledger._summed = -1e9
    ledger.record(row())
    ledger.flush()
    with closing(sqlite3.connect(ledger.path)) as other:
        assert other.execute("SELECT sum(cost) FROM sums").fetchone() == (23_000_000,)


def test_one_request_is_found_by_any_name(ledger: SQLiteLedger) -> None:
    """Whether or not names are caught up with; reading changes nothing."""
    made = [row(NOON + i, completion_id=f"chatcmpl-{i}") for i in range(3)]
    for one in made[:2]:
        ledger.record(one)
    ledger.rate("chatcmpl-0", 1.0)
    ledger.record(made[2])
    ledger.flush()
    for i, one in enumerate(made):
        for name in (reading.id_text(one[0]), f"chatcmpl-{i}"):
            found = reading.find(ledger.path, name)
            assert found is not None
            assert found["number"] == one[0]
    assert reading.find(ledger.path, "tn-2") is None
    with pytest.raises(ConfigError, match="ledger must exist"):
        reading.find(ledger.path.parent / "none", "tn-1")


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
        (text, "be a ledger", "be a ledger"),
        (foreign, "be a ledger", "be a ledger"),
        (newer, "be at most 2; got 99", "be at most 2; got 99"),
        (tmp_path / "none" / "l", "be a file that can be opened", "be in a folder that exists"),
    ]
    for path, rule, told in cases:
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(ConfigError, match=rule):
            SQLiteLedger(path)
        with pytest.raises(ConfigError, match=told):
            reading.inspect(path)
        assert (path.read_bytes() if path.exists() else None) == before
    reading.inspect(tmp_path / "not yet")
    with pytest.raises(ConfigError, match="ledger must be a ledger"):
        reading.rows(text)


# --- version 1 ------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger made by version 1's code, and what that code read from it, beside it."""
    path = tmp_path / "ledger.sqlite"
    shutil.copy(DATA / "version1.ledger", path)
    return path


def old_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((DATA / "version1.json").read_text())
    return rows


def same(read: dict[str, Any], before: dict[str, Any]) -> bool:
    times = abs(read["time"] - before["time"]) <= 0.001
    return times and {key: read[key] for key in before if key != "time"} == {
        key: value for key, value in before.items() if key != "time"
    }


def test_a_file_of_version_1_keeps_rows_and_feedback(old: Path) -> None:
    """Opened for writing it is brought to version 2: everything is there under its old names."""
    ledger = SQLiteLedger(old)
    rows = ledger.rows()
    assert len(rows) == 4
    assert all(same(read, before) for read, before in zip(rows, old_rows(), strict=True))
    assert [read["cost_pico"] for read in rows] == [23_000_000, 230_000_000, None, None]
    assert {read["key"] for read in rows} == {""}
    assert ledger.rate("tn-" + "0" * 31 + "2", 0.5) == "tn-" + "0" * 31 + "2"
    assert ledger.rate("chatcmpl-1", 0.75) == "tn-" + "0" * 31 + "1"
    with pytest.raises(InputError, match="must name one request"):
        ledger.rate("chatcmpl-2", 1.0)
    assert [read["feedback"] for read in ledger.rows()] == [0.75, 0.5, 0.0, None]
    ledger.record(row())
    assert ledger.spend() == pytest.approx(0.000276)
    assert ledger.spend(NOON / 1000) == 2.3e-05
    ledger.close()
    again = SQLiteLedger(old)
    assert len(again.rows()) == 5
    again.close()
    with closing(sqlite3.connect(old)) as made:
        assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in made.execute("SELECT name FROM sqlite_master")}
        assert not {name for name in tables if name.startswith("old_")}
        comments = made.execute("SELECT number, comment FROM feedback ORDER BY number").fetchall()
    assert comments == [(1, "first"), (2, None), (3, "nothing came"), (4, None), (5, None)]


def test_a_file_of_version_1_can_be_read_as_it_is(old: Path) -> None:
    """Reading migrates nothing."""
    before = old.read_bytes()
    reading.inspect(old)
    assert all(map(same, reading.rows(old), old_rows()))
    assert reading.spend(old) == pytest.approx(0.000253)
    found = reading.find(old, "chatcmpl-1")
    assert found is not None
    assert found["id"].endswith("1")
    assert reading.find(old, "none") is None
    assert old.read_bytes() == before


def test_many_requests_of_one_moment_get_ids_of_their_own(old: Path) -> None:
    """More rows of one millisecond than the counter counts move on into the next ones."""
    with closing(sqlite3.connect(old)) as made:
        made.execute(
            """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 33000)
            INSERT INTO requests SELECT 'more-' || i, 1764288000.25, 'auto', 'cheap', 0, NULL, '{}',
            '{}', 1, 0, NULL, NULL, NULL, 0.1, NULL, 200, NULL, NULL, NULL FROM n"""
        )
        made.commit()
    SQLiteLedger(old).close()
    with closing(sqlite3.connect(old)) as made:
        assert made.execute("SELECT count(*) FROM entries").fetchone() == (33_004,)


def test_a_failed_migration_leaves_the_file_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one transaction: a full disk in its middle changes nothing, and the error says so."""

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(_schema._migrate, "bring_over", full)
    with pytest.raises(ConfigError, match="disk is full"):
        SQLiteLedger(old)
    monkeypatch.undo()
    assert len(reading.rows(old)) == 4
    with closing(sqlite3.connect(old)) as made:
        assert made.execute("PRAGMA user_version").fetchone() == (1,)
        assert made.execute("SELECT count(*) FROM requests").fetchone() == (4,)


# --- rows -----------------------------------------------------------------------------------------


def test_texts_of_strangers_are_cut() -> None:
    """Ids and models that clients or destinations choose take bounded room, in whole UTF-8."""
    for text in ("a" * 1000, "é" * 1000, "\x01" * 1000, '"' * 1000, "\ud800" * 300, "😀" * 400):
        cut_ = short(text)
        assert 0 < len(json.dumps(cut_, ensure_ascii=False).encode()) - 2 <= 256
        assert short(cut_) == cut_
    assert short("chatcmpl-" + "x" * 100) == "chatcmpl-" + "x" * 100
    made = row(completion_id="\ud800" * 5000, error_type="x" * 5000, model=short("m" * 5000))
    assert len(made[6]) < 1500


def test_cutting_a_row_leaves_out_its_predictions_only() -> None:
    """And marks it."""
    long = row(quality={"a": 0.5}, predicted={"a": 1.0}, completion_id="c")
    short_row = cut(long)
    assert short_row[5] == _schema.CUT
    assert json.loads(short_row[6]) == [
        None if i in (3, 4) else value for i, value in enumerate(json.loads(long[6]))
    ]
    assert (*short_row[:5], 0) == long[:6]


def test_a_new_ledger_is_the_owners_alone(tmp_path: Path) -> None:
    """It holds comments; one that was there keeps its mode."""
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    old.touch(0o644)
    old.chmod(0o644)
    for path in (new, old):
        _schema.connect(path).close()
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o644

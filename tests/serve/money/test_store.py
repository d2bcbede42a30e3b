from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve.money import reading
from turnout.serve.money import store as store_module
from turnout.serve.money.books import Books
from turnout.serve.money.budgets import BudgetRule, OverBudgetError
from turnout.serve.money.entry import Entry
from turnout.serve.money.ledger import SQLiteLedger
from turnout.serve.money.prices import Price, Tariff
from turnout.serve.money.store import Store
from turnout.serve.money.usage import Usage

NOON = 1_795_867_200_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ASK: dict[str, Any] = {"destination": "cheap", "model": "auto", "chars": 400, "cap": 100}
Make = Callable[..., Store]

RULES = tuple(
    BudgetRule(name=f"{period} {per}", usd=1000, period=period, per=per)
    for period in ("minute", "hour", "day", "week", "month", "total")
    for per in ("pool", "key", "model")
)
SOME = BudgetRule(name="some", usd=1000, period="day", keys=("alice",), models=("dear",))


def serve(
    books: Books, ms: int, key: str = "alice", destination: str = "cheap", cost: int = 1
) -> None:
    """One request."""
    hold = books.open(**{**ASK, "destination": destination}, key=key, ms=ms)
    books.close(hold, Entry(status=200, cost=cost))


def amounts(books: Books, ms: int) -> dict[tuple[str, str], tuple[int, int]]:
    """Spent and reserved, by budget and holder."""
    return {
        (state.budget, state.holder): (state.spent, state.reserved)
        for state in books.purses.states(ms)
        if state.spent or state.reserved
    }


def kill_one(task: Callable[[], None]) -> None:
    """Run a task in a process that kills itself at the end."""
    pid = os.fork()
    if not pid:
        try:
            task()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_start_knows_what_was_spent_in_every_period(make_store: Make) -> None:
    """After a stop in good order the board is what it was, rebuilt from the ledger."""
    store = make_store(*RULES, SOME)
    books = store.join()
    moments = (NOON - 40 * DAY, NOON - 20 * DAY, NOON - 3 * DAY, NOON - 5 * HOUR,
               NOON - 30 * MINUTE, NOON - 1, NOON, NOON + 1)  # fmt: skip
    for i, ms in enumerate(moments):
        for j, key in enumerate(("alice", "bob")):
            for k, destination in enumerate(("cheap", "dear")):
                serve(books, ms, key, destination, cost=2 ** (4 * i + 2 * j + k))
    before = amounts(books, NOON + 1)
    assert before["total pool", ""][0] == 2**32 - 1
    assert before["minute pool", ""][0] == 2**32 - 2**24
    books.stop()
    store.close()
    again = make_store(*RULES, SOME, ms=NOON + 1)
    books = again.join()
    assert amounts(books, NOON + 1) == before
    serve(books, NOON + 1, cost=2**40)
    assert amounts(books, NOON + 1)["minute pool", ""][0] == 2**40 + 2**32 - 2**24
    books.stop()


def test_a_budget_that_is_new_counts_what_was_spent_before_it(make_store: Make) -> None:
    """A rule set up in the middle of the month knows the month."""
    store = make_store()
    books = store.join()
    serve(books, NOON, "alice", "dear", cost=500)
    serve(books, NOON, "bob", "dear", cost=70)
    books.stop()
    store.close()
    rule = BudgetRule(name="late", usd="600e-12", period="month")
    books = make_store(rule, SOME).join()
    assert amounts(books, NOON) == {("late", ""): (570, 0), ("some", ""): (500, 0)}
    with pytest.raises(OverBudgetError):
        serve(books, NOON)
    books.stop()


def test_a_start_after_a_kill_loses_nothing(make_store: Make) -> None:
    """Everything was killed: closed requests are kept once, those in flight are charged."""
    store = make_store(*RULES, workers=2)

    def killed(worker: int) -> None:
        books = store.join(worker)
        books.ledger._kept = None  # as if killed between the ledger's file and the journal
        serve(books, NOON, cost=3)
        books.ledger.flush()
        books.ledger.record = lambda row, slot=-1: None  # type: ignore[method-assign]
        serve(books, NOON + worker, cost=5)
        books.open(**ASK, key="bob", ms=NOON + 2)

    for worker in range(2):
        kill_one(lambda worker=worker: killed(worker))  # type: ignore[misc]
    assert len(reading.rows(store.path)) == 2
    store._claim.close()  # as if its process had died, too
    again = make_store(*RULES, workers=2)
    rows = reading.rows(again.path)
    flight = 100 * 1_000_000 + 100 * 4_000_000
    assert sorted(row["cost_pico"] for row in rows) == [3, 3, 5, 5, flight, flight]
    died = [row for row in rows if row["status"] == 499]
    assert {(row["error_type"], row["key"], row["estimated"], row["chars"], row["model"])
            for row in died} == {("gateway_died", "bob", True, 400, "auto")}  # fmt: skip
    assert died[0]["budgets"] == [rule.name for rule in RULES]
    books = again.join(1)
    assert amounts(books, NOON)["month pool", ""] == (16 + 2 * flight, 0)
    books.stop()


def test_only_the_dead_workers_part_changes(make_store: Make) -> None:
    """What the others have in flight stays reserved while one is replaced."""
    store = make_store(*RULES, workers=3)

    def killed() -> None:
        books = store.join(0)
        serve(books, NOON, cost=7)
        books.open(**ASK, key="alice", ms=NOON)

    other = store.join(1)
    hold = other.open(**ASK, key="carol", ms=NOON)
    kill_one(killed)
    assert amounts(other, NOON)["day pool", ""] == (7, 2 * hold.amount)
    next_ = store.join(0)
    assert amounts(other, NOON)["day pool", ""] == (7 + hold.amount, hold.amount)
    other.close(hold, Entry(status=200, cost=1))
    assert amounts(next_, NOON)["day pool", ""] == (8 + hold.amount, 0)
    for books in (other, next_):
        books.stop()


def test_ids_go_on_after_a_restart(make_store: Make) -> None:
    """Even if the clock stands where it stood: no id is given out twice."""
    ids = []
    for _ in range(3):
        store = make_store()
        for _ in range(2):
            books = store.join()
            hold = books.open(**ASK, key="", ms=NOON)
            ids.append(hold.id)
            books.close(hold, Entry(status=200))
            books.stop()
        store.close()
    assert ids == sorted(set(ids))


def test_one_ledger_is_served_by_one_gateway(make_store: Make, tmp_path: Path) -> None:
    """A second one is refused, also while only a worker of the first is left alive."""
    store = make_store(workers=2)
    books = store.join(0)
    with pytest.raises(ConfigError, match=r"ledger\.path must be in use by nobody else.*stop it"):
        make_store()
    with pytest.raises(ConfigError, match=r"worker-0\.journal must be in use by nobody else"):
        store.join(0)
    with pytest.raises(InputError, match="worker must"):
        store.join(2)
    books.stop()
    store.close()
    store.close()
    make_store().close()
    assert list((tmp_path / "ledger.sqlite-run").glob("*.journal")) == []


def test_a_store_can_be_read_by_others_while_it_is_used(make_store: Make) -> None:
    """Looking at the ledger needs no lock."""
    store = make_store()
    books = store.join()
    serve(books, NOON)
    books.ledger.flush()
    assert len(reading.rows(store.path)) == 1
    with closing(SQLiteLedger(store.path)) as other:
        assert len(other.rows()) == 1
    books.stop()


def test_what_cannot_start_says_so_and_changes_nothing(make_store: Make, tmp_path: Path) -> None:
    """A foreign file, a folder in the way, a journal that is none, budgets that cannot be."""
    foreign = tmp_path / "foreign"
    with closing(sqlite3.connect(foreign)) as made:
        made.execute("CREATE TABLE mine (x)")
    with pytest.raises(ConfigError, match="be a ledger"):
        make_store(path=foreign)
    assert not (tmp_path / "foreign-run").exists()
    (tmp_path / "a-run").write_text("mine")
    with pytest.raises(ConfigError, match="run folder must be a folder"):
        make_store(path=tmp_path / "a")
    (tmp_path / "b-run").mkdir()
    (tmp_path / "b-run" / "worker-0.journal").write_text("mine")
    for _ in range(2):  # the lock is given back
        with pytest.raises(ConfigError, match="journal must be a journal"):
            make_store(path=tmp_path / "b")
    with pytest.raises(InputError, match="budget 'x' models must name destinations of the pool"):
        make_store(BudgetRule(name="x", usd=1, models=("chaep",)))
    with pytest.raises(InputError, match="budgets must be unique"):
        make_store(SOME, SOME)
    with pytest.raises(InputError, match="workers must"):
        make_store(workers=61)
    assert not (tmp_path / "ledger.sqlite").exists()


def test_without_file_locks_there_is_one_worker(
    make_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several would not be exact there."""
    monkeypatch.setattr(store_module._lock, "AVAILABLE", False)
    with pytest.raises(ConfigError, match="workers must be 1 where files cannot be locked"):
        make_store(workers=2)
    books = make_store().join()
    serve(books, NOON)
    assert len(books.ledger.rows()) == 1
    books.stop()


def test_journals_stay_where_the_ledger_cannot_be_written(
    make_store: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing says so and leaves them; starting refuses; once it can be written all is there."""
    store = make_store()
    kill_one(lambda: serve(store.join(), NOON, cost=9))

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store_module._schema, "append", full)
    store.close()
    assert "left for the next start" in caplog.text
    with pytest.raises(ConfigError, match=r"ledger must be writable.*Nothing is lost"):
        make_store()
    monkeypatch.undo()
    make_store()
    assert [row["cost_pico"] for row in reading.rows(store.path)] == [9]


def test_estimates_start_from_the_ledger(make_store: Make) -> None:
    """After a restart the first prediction is already the one that was learnt."""
    store = make_store()
    books = store.join()
    before = books.predict("cheap", 400)
    for _ in range(30):
        hold = books.open(**{**ASK, "cap": None}, key="", ms=NOON)
        books.close(hold, Entry(status=200, usage=Usage(100, 2)))
    learnt = books.predict("cheap", 400)
    books.stop()
    store.close()
    assert learnt < before / 2
    books = make_store().join()
    assert books.predict("cheap", 400) == learnt
    books.stop()


# --- other prices and budgets while it runs -------------------------------------------------------


def test_renewing_keeps_what_is_the_same(make_store: Make, tariffs: dict[str, Tariff]) -> None:
    """A budget whose amount alone has changed keeps its purses, and counts for old workers too."""
    wide, narrow = (BudgetRule(name="pool", usd=usd, period="day") for usd in (1000, "0.0009"))
    store = make_store(wide, workers=2)
    old = store.join(0)
    hold = old.open(**ASK, key="", ms=NOON)
    dearer = {**tariffs, "cheap": Tariff([(0, Price(2, 8, version="v2"))])}
    new = store.renewed(tariffs=dearer, rules=[narrow], ms=NOON).join(1)
    assert amounts(new, NOON) == {("pool", ""): (0, hold.amount)}
    with pytest.raises(OverBudgetError, match="budget 'pool'"):
        new.open(**ASK, key="", ms=NOON)
    old.close(hold, Entry(status=200, cost=0))
    other = new.open(**{**ASK, "chars": 40}, key="", ms=NOON)
    assert other.price.version == "v2"
    assert other.amount == 2 * (10 * 1_000_000 + 100 * 4_000_000)
    new.close(other, Entry(status=200, cost=11))
    assert amounts(old, NOON) == {("pool", ""): (11, 0)}
    for books in (old, new):
        books.stop()


def test_renewing_starts_new_budgets_from_the_ledger(
    make_store: Make, tariffs: dict[str, Tariff]
) -> None:
    """Added, changed in what it is for, taken away and added again: each time from the ledger."""
    store = make_store(BudgetRule(name="a", usd=9, period="day"), workers=2)
    books = store.join(0)
    serve(books, NOON, "alice", "cheap", cost=100)
    serve(books, NOON, "bob", "dear", cost=20)
    books.ledger.flush()
    steps: list[tuple[list[BudgetRule], dict[tuple[str, str], tuple[int, int]]]] = [
        ([BudgetRule(name="a", usd=9, period="day", keys=("bob",))], {("a", ""): (20, 0)}),
        (
            [BudgetRule(name="b", usd=9, period="month", per="key")],
            {("b", "alice"): (100, 0), ("b", "bob"): (23, 0)},
        ),
        ([BudgetRule(name="a", usd=9, period="day", keys=("bob",))], {("a", ""): (26, 0)}),
        ([BudgetRule(name="a", usd=8, period="day", keys=("bob",))], {("a", ""): (29, 0)}),
    ]
    for rules, expected in steps:
        books.stop()
        store = store.renewed(tariffs=tariffs, rules=rules, ms=NOON)
        books = store.join(0)
        assert amounts(books, NOON) == expected
        serve(books, NOON, "bob", "cheap", cost=3)
        books.ledger.flush()
    assert amounts(books, NOON) == {("a", ""): (32, 0)}
    books.stop()
    store.close()
    books = make_store(*steps[-1][0]).join()
    assert amounts(books, NOON) == {("a", ""): (32, 0)}
    books.stop()


def test_renewing_refuses_what_a_start_would_refuse(
    make_store: Make, tariffs: dict[str, Tariff]
) -> None:
    """The store is as it was, and serves on."""
    store = make_store(SOME)
    for rules in ([SOME, SOME], [BudgetRule(name="x", usd=1, models=("none",))]):
        with pytest.raises(InputError):
            store.renewed(tariffs=tariffs, rules=rules)
    books = store.join()
    serve(books, NOON, "alice", "dear", cost=5)
    assert amounts(books, NOON) == {("some", ""): (5, 0)}
    books.stop()


def test_a_journal_that_has_become_too_small_is_made_anew(
    make_store: Make, tariffs: dict[str, Tariff]
) -> None:
    """A place whose last worker was killed, taken by one with far more budgets: nothing is lost."""
    store = make_store(SOME)
    kill_one(lambda: serve(store.join(), NOON, "alice", "dear", cost=9))
    many = [BudgetRule(name=f"budget {i} {'x' * 100}", usd=9) for i in range(50)]
    books = store.renewed(tariffs=tariffs, rules=[SOME, *many], ms=NOON).join()
    (first,) = books.ledger.rows()
    assert first["cost_pico"] == 9
    assert amounts(books, NOON)["some", ""] == (9, 0)
    hold = books.open(**ASK, key="", ms=NOON)
    assert hold.id > first["number"]
    books.drop(hold)
    serve(books, NOON, cost=4)
    (row,) = (row for row in books.ledger.rows() if row["cost_pico"] == 4)
    assert len(row["budgets"]) == 50
    books.stop()

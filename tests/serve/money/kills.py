"""Kills a worker between any two stores into shared memory, and looks at what is left.

Run as a program of its own, because it forks and must have no other threads. It prints, as JSON,
how many points a worker was killed at and what was wrong afterwards. Its argument is `once`,
`again` (the worker that puts things right is killed, too), or `mistakes`: each is made on purpose
in a process of its own, something has to be found with it, and what was found is told by its name.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from turnout.serve.money import reading, recovery
from turnout.serve.money import store as store_module
from turnout.serve.money.books import Books
from turnout.serve.money.budgets import BudgetRule
from turnout.serve.money.entry import Entry
from turnout.serve.money.journal import Journal
from turnout.serve.money.periods import bounds
from turnout.serve.money.prices import Price, Tariff
from turnout.serve.money.purses import Purses
from turnout.serve.money.store import Store
from turnout.serve.money.usage import Usage

Say = Callable[..., None]

NOON = 1_795_867_200_000
MINUTE = 60_000
TARIFFS = {"cheap": Tariff([(0, Price(1, 4))]), "dear": Tariff([(0, Price(10, 40))])}
RULES = [
    BudgetRule(name="pool", usd=1000, period="total"),
    BudgetRule(name="keys", usd=1000, period="day", per="key"),
    BudgetRule(name="models", usd=1000, period="minute", per="model"),
]
ENTRY = {"latency_s": 0.1, "quality": {"cheap": 0.5}}


class Fuse:
    """Kills this process at the n-th store once it is lit; 0 never does."""

    def __init__(self, at: int, lit: bool = True) -> None:
        self.at = at
        self.lit = lit
        self.count = 0

    def burn(self) -> None:
        self.count += self.lit
        if self.count and self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Fused:
    """A memory whose stores burn a fuse; one of bytes also in its middle."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    def __getitem__(self, at: Any) -> Any:
        return self.inner[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self.fuse.burn()
        if isinstance(at, slice):
            half = len(value) // 2
            self.inner[at.start : at.start + half] = value[:half]
            self.fuse.burn()
        self.inner[at] = value

    def release(self) -> None:
        self.inner.release()


def work(books: Books, say: Say) -> None:
    """A worker's day: requests that move, end well, badly or never, over the turn of a minute."""
    holds = {}

    def open_(name: str, key: str, destination: str, ms: int = NOON) -> None:
        say("open", name)
        hold = books.open(key=key, destination=destination, model="m", chars=400, cap=9, ms=ms)
        holds[name] = hold
        say("opened", name, hold.id, hold.amount)

    def close(name: str, **more: Any) -> None:
        say("close", name)
        cost = books.close(holds[name], Entry(**ENTRY, **more))
        say("closed", name, holds[name].id, cost)

    open_("a", "alice", "cheap")
    open_("b", "bob", "dear")
    say("move", "a")
    holds["a"].move("dear")
    say("moved", "a", holds["a"].id, holds["a"].amount)
    close("a", status=200, usage=Usage(5000, 2000))
    open_("c", "alice", "cheap")
    say("drop", "c")
    books.drop(holds["c"])
    say("dropped", "c", holds["c"].id, 0)
    open_("d", "alice", "dear", NOON + MINUTE)
    close("b", status=200, usage=Usage(1, 1))
    books.ledger.flush()
    open_("e", "alice", "cheap", NOON + MINUTE)
    close("e", status=499, charged=True)
    open_("f", "bob", "dear", NOON + MINUTE)
    close("f", status=502)
    # a try that may have been charged is followed by another: two holds for one request
    open_("g", "bob", "cheap", NOON + MINUTE)
    open_("h", "bob", "dear", NOON + MINUTE)
    close("g", status=504, charged=True, tries=1)
    close("h", status=200, usage=Usage(3, 4), tries=2)


def child(task: Callable[[Say], None]) -> tuple[list[list[Any]], bool]:
    """Run a task in a process; what it said, and whether it came to its end unkilled."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            task(lambda *words: os.write(there, json.dumps(words).encode() + b"\n") and None)
        except BaseException as error:
            os.write(there, json.dumps(["error", repr(error)]).encode() + b"\n")
            os._exit(1)
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        said = [json.loads(line) for line in pipe]
    _, status = os.waitpid(pid, 0)
    return said, not os.WIFSIGNALED(status)


def working(store: Store, at: int, after: tuple[str, ...]) -> Callable[[Say], None]:
    """A first worker, killed at a store, counted from what it says first."""

    def task(say: Say) -> None:
        books = store.join(0)
        fuse = Fuse(at, lit=not after)
        store.board.cells = Fused(store.board.cells, fuse)  # type: ignore[assignment]
        books.purses._cells = store.board.cells
        books.journal._cells = Fused(books.journal._cells, fuse)  # type: ignore[assignment]
        books.journal._bytes = Fused(books.journal._bytes, fuse)  # type: ignore[assignment]

        def saying(*words: Any) -> None:
            say(*words)
            fuse.lit = fuse.lit or words == after

        work(books, saying)
        books.stop()

    return task


def following(store: Store, at: int) -> Callable[[Say], None]:
    """The worker that takes its place, killed at a store while it puts things right."""

    def task(say: Say) -> None:
        fuse = Fuse(at)

        def journal(*args: Any, **more: Any) -> Journal:
            made = Journal(*args, **more)
            made._cells = Fused(made._cells, fuse)  # type: ignore[assignment]
            made._bytes = Fused(made._bytes, fuse)  # type: ignore[assignment]
            return made

        store_module.Journal = journal  # type: ignore[assignment, misc]
        store.board.cells = Fused(store.board.cells, fuse)  # type: ignore[assignment]
        books = store.join(0)
        books.stop()
        assert books.journal.free == books.journal.slots

    return task


def wrong(store: Store, said: list[list[Any]]) -> Iterator[str]:
    """What the ledger and the board have wrong, given what the killed worker said."""
    rows = {row["number"]: row for row in reading.rows(store.path)}
    state: dict[str, str] = {}
    ids: dict[str, tuple[int, int]] = {}
    for word, name, *rest in said:
        if word == "error":
            yield name
            return
        state[name] = word
        if rest:
            ids[name] = (rest[0], rest[1])
    told = {id_ for id_, _ in ids.values()}
    unknown = [row for number, row in rows.items() if number not in told]
    if unknown and not (
        len(unknown) == 1 and "open" in state.values() and unknown[0]["status"] == 499
    ):
        yield "a row that nobody knows"
    for name, word in state.items():
        if name not in ids:
            continue
        number, amount = ids[name]
        row = rows.get(number)
        found = None if row is None else (row["status"] == 499, row["cost_pico"])
        dead = (True, amount)
        if word == "dropped" and found is not None:
            yield f"{name} was dropped and is there"
        if word == "drop" and found not in (None, dead):
            yield f"{name} was being dropped and is {found}"
        if word == "closed" and (found is None or found[1] != amount):
            yield f"{name} was closed at {amount} and is {found}"
        if word == "close" and found is None:
            yield f"{name} was being closed and is not there"
        if word in ("opened", "moved") and found != dead:
            yield f"{name} was in flight for {amount} and is {found}"
        if word == "move" and (found is None or not found[0]):
            yield f"{name} was being moved and is {found}"
        if row is not None and row["status"] == 499 and not row["estimated"]:
            yield f"{name} is not marked as estimated"
    # a purse that has turned no longer shows the minute before
    ms = NOON + MINUTE if "d" in state else NOON
    yield from unequal(store, rows, ms, "after a restart of the worker")
    store.close()
    if any(path.name.endswith(".journal") for path in store.folder.iterdir()):
        yield "a journal is left"
    cold = Store(store.path, tariffs=TARIFFS, rules=RULES, ms=ms, **SMALL)
    yield from unequal(cold, rows, ms, "after a restart of everything")
    cold.close()
    again = {row["number"]: row for row in reading.rows(store.path)}
    if again != rows:
        yield "the ledger has changed at a restart of everything"


def unequal(store: Store, rows: dict[int, Any], ms: int, when: str) -> Iterator[str]:
    """Purses that do not hold what the ledger says was spent in the period of a moment."""
    for state in Purses(store.board, RULES, 0).states(ms):
        (rule,) = (rule for rule in RULES if rule.name == state.budget)
        start, end = bounds(rule.period, ms)
        spent = sum(
            row["cost_pico"]
            for number, row in rows.items()
            if start <= number >> 21 < end
            and rule.holder(row["key"], row["destination"]) == state.holder
        )
        if (state.spent, state.reserved) != (spent, 0):
            told = f"{state.budget}/{state.holder}: {state.spent} + {state.reserved}"
            yield f"{told} instead of {spent} + 0 {when}"


SMALL: dict[str, Any] = {"workers": 2, "slots": 8, "purses": 16, "rates": 2}


def sweep(
    folder: Path, after: tuple[str, ...] = (), step: int = 1, again: bool = False
) -> dict[str, Any]:
    """Kill at every `step`-th store, until a worker lives to its end.

    With `again` the worker that follows is killed too, at every store that puts things right. A
    sweep with a mistake, which says where to begin, ends once something is found.
    """
    found: list[str] = []
    points = 0
    lived = False
    for at in itertools.count(step, step):
        for second in itertools.count(1) if again else (0,):
            store = fresh(folder)
            said, lived = child(working(store, at, after))
            points += 1
            put_right = True
            if again:
                _, put_right = child(following(store, second))
            more, _ = child(following(store, 0))
            for what in wrong(store, said + more):
                found.append(f"killed at {at}/{second}: {what}")
            if put_right or (found and after):
                break
        if lived or (found and after):
            break
    return {"points": points, "wrong": found[:10]}


def fresh(folder: Path) -> Store:
    """A store of an empty ledger."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Store(folder / "l", tariffs=TARIFFS, rules=RULES, ms=NOON, **SMALL)


# --- mistakes -------------------------------------------------------------------------------------


def board_before_journal() -> None:
    """Settling is written on the board first, and so can no longer be repeated."""
    later: list[Any] = []
    close, settle = Journal.close, Purses.settle
    Journal.close = lambda self, *args: later.append((self, args))  # type: ignore[method-assign, assignment]

    def both(self: Purses, settlement: Any) -> None:
        settle(self, settlement)
        journal, args = later.pop()
        close(journal, *args)

    Purses.settle = both  # type: ignore[method-assign]
    recovery_close(close)


def recovery_close(close: Any) -> None:
    """Let recovery go on as before."""
    salvage = recovery.salvage

    def unchanged(journal: Journal, *args: Any) -> Any:
        broken = Journal.close
        Journal.close = close  # type: ignore[method-assign]
        try:
            return salvage(journal, *args)
        finally:
            Journal.close = broken  # type: ignore[method-assign]

    store_module.salvage = unchanged


def closed_before_written() -> None:
    """A slot is called closed before its row is in it."""

    def close(self: Journal, slot: int, row: Any, settlement: Any) -> None:
        self.mark_closed(slot)
        self.fill_closed(slot, row, settlement)

    Journal.close = close  # type: ignore[method-assign]


def open_before_written() -> None:
    """A slot is called open before it says what was reserved."""

    def open_(self: Journal, slot: int, number: int, head: Any, tail: bytes) -> None:
        self.mark_open(slot, 0)
        self.fill_open(slot, head, tail)

    Journal.open = open_  # type: ignore[method-assign]


def never_open() -> None:
    """Requests in flight are not written down."""
    Journal.open = lambda self, slot, *rest: None  # type: ignore[method-assign, assignment]


def freed_too_early() -> None:
    """A slot is freed when its row is queued, not when it is in the file."""
    close = Books.close

    def both(self: Books, hold: Any, entry: Any) -> int:
        slot = hold.slot
        cost = close(self, hold, entry)
        self.journal.clear((slot,))
        return cost

    Books.close = both  # type: ignore[method-assign]


def differences() -> None:
    """Settlements say how much more, so that repeating them counts twice."""
    settle, settlement = Purses.settle, Purses.settlement

    def more(self: Purses, purses: Any, tags: Any, amount: int, cost: int) -> Any:
        made = settlement(self, purses, tags, amount, cost)
        return [(own, tag, cost, taken) for own, tag, _, taken in made]

    def added(self: Purses, moves: Any) -> None:
        cells, to = self._cells, self._board.settled
        settle(self, [(own, tag, cells[own + to] + v, taken) for own, tag, v, taken in moves])

    Purses.settlement = more  # type: ignore[method-assign]
    Purses.settle = added  # type: ignore[method-assign]

    def again(board: Any, settlement: Any) -> None:
        for column, tag, more in settlement:
            if board.cells[column] == tag:
                board.cells[column + board.settled] += more

    recovery._settle = again


def not_repeated() -> None:
    """What was closed but not settled on the board is forgotten."""
    recovery._settle = lambda board, settlement: None


def any_period() -> None:
    """A settlement of the last period is repeated in this one."""

    def again(board: Any, settlement: Any) -> None:
        for column, _, settled in settlement:
            board.cells[column + board.settled] = settled

    recovery._settle = again


def left_before_moved() -> None:
    """A request that moves leaves its slot before it has the next one."""
    mark = Journal.mark_open

    def both(self: Journal, slot: int, version: int) -> None:
        if version:
            for one in self.opened():
                self._cells[4096 // 8 + one.slot] = 0
        mark(self, slot, version)

    Journal.mark_open = both  # type: ignore[method-assign]


def both_slots_count() -> None:
    """Of a request that was moving, recovery takes both slots for requests."""
    opened = Journal.opened

    def apart(self: Journal) -> Any:
        return [
            one._replace(id=one.id + i) if i else one
            for i, one in enumerate(sorted(opened(self), key=lambda one: one.id))
        ]

    Journal.opened = apart  # type: ignore[method-assign]


def reservations_stay() -> None:
    """What a killed worker had reserved stays reserved."""
    salvage, used = recovery.salvage, store_module.Board.used

    def partly(*args: Any) -> Any:
        store_module.Board.used = lambda self: []  # type: ignore[method-assign, assignment]
        try:
            return salvage(*args)
        finally:
            store_module.Board.used = used  # type: ignore[method-assign]

    store_module.salvage = partly


def tag_first() -> None:
    """A column is called one of the new period before the old money is out of it."""

    def begin(self: Purses, purse: Any) -> None:
        self._cells[purse.own] = purse.tag
        self._cells[purse.taken] = 0
        self._cells[purse.settled] = 0

    Purses._begin = begin  # type: ignore[method-assign]


def in_flight_forgotten() -> None:
    """Recovery takes no notice of requests in flight."""
    Journal.opened = lambda self: []  # type: ignore[method-assign]


def freed_before_kept() -> None:
    """The slots of recovered rows are freed before the rows are in the file."""
    salvage = recovery.salvage

    def early(journal: Journal, *args: Any) -> Any:
        left = salvage(journal, *args)
        journal.clear(one.slot for one in left)
        return [one._replace(slot=-1) for one in left]

    store_module.salvage = early


#: Each mistake, and what the worker says shortly before a kill shows it.
MISTAKES: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "board before journal": (board_before_journal, ("close", "a")),
    "closed before written": (closed_before_written, ("close", "a")),
    "open before written": (open_before_written, ("open", "c")),
    "never open": (never_open, ("open", "a")),
    "freed too early": (freed_too_early, ("close", "a")),
    "differences": (differences, ("open", "a")),
    "not repeated": (not_repeated, ("close", "a")),
    "any period": (any_period, ("open", "d")),
    "left before moved": (left_before_moved, ("move", "a")),
    "both slots count": (both_slots_count, ("move", "a")),
    "reservations stay": (reservations_stay, ("open", "b")),
    "tag first": (tag_first, ("open", "d")),
    "in flight forgotten": (in_flight_forgotten, ("opened", "b")),
    "freed before kept": (freed_before_kept, ("move", "a")),
}


def with_mistake(folder: Path, name: str) -> dict[str, Any]:
    """What a sweep finds in a process that makes a mistake."""
    mistake, after = MISTAKES[name]

    def task(say: Say) -> None:
        mistake()
        say(sweep(folder, after, again=mistake is freed_before_kept))

    ((found,),), _ = child(task)
    return dict(found)


def main() -> None:
    """Sweep once, again, or with every mistake."""
    name = sys.argv[1]
    gc.disable()  # it would only copy pages of each child
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(dir=shared)) / "run"
    try:
        if name == "mistakes":
            found = {one: with_mistake(folder, one) for one in MISTAKES}
        elif name == "again":
            found = sweep(folder, step=13, again=True)
        else:
            found = sweep(folder)
        print(json.dumps(found))
    finally:
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()

"""Opens everything that the workers of a gateway share, and puts it right after a kill.

::

    store = Store("turnout.sqlite", tariffs=tariffs, rules=rules, workers=2)  # before forking
    books = store.join(0)                                      # in each worker, also after a kill
    books.stop()
    store.close()                                              # when the workers are gone

Nothing of a store runs a thread or holds the ledger open, so it can be carried over a fork.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import orjson

from turnout.core import ConfigError, InputError, _check
from turnout.serve.money import _lock, _schema, reading
from turnout.serve.money.board import Board
from turnout.serve.money.books import Books
from turnout.serve.money.budgets import BudgetRule
from turnout.serve.money.entry import MAX_TEXT, number_of
from turnout.serve.money.estimate import Estimator
from turnout.serve.money.journal import Closed, Journal
from turnout.serve.money.ledger import SQLiteLedger
from turnout.serve.money.periods import bounds
from turnout.serve.money.prices import Tariff
from turnout.serve.money.purses import Purses
from turnout.serve.money.rates import Rates
from turnout.serve.money.recovery import salvage

__all__ = ["Store"]

_log = logging.getLogger("turnout.serve")

#: Latest requests that the estimates start from.
_SEED = 2_000


@final
class Store:
    """The ledger, the journals and the board of one gateway.

    Opening it brings the ledger up to date with journals that a killed gateway left, and the board
    up to date with the ledger.

    Parameters
    ----------
    path : path
        The ledger; made when missing. Locks and journals go into a folder beside it, whose name
        ends in `-run`.
    tariffs : mapping of str to Tariff
        Prices by destination: the pool.
    rules : sequence of BudgetRule
        The hard budgets.
    workers : int
        How many processes will join, at most 60.
    slots : int
        Requests in flight and not yet written, at most, per worker.
    purses, rates : int
        Room on the board: budgets times holders, and rate limits times holders.
    ms : int, optional
        Now, milliseconds since 1970; the clock's unless given.

    Raises
    ------
    ConfigError
        Another gateway uses the ledger, the ledger or a journal is something else or cannot be
        written, or the disk is full.
    InputError
        Two budgets have one name, or one is for a model that is not in the pool.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        tariffs: Mapping[str, Tariff],
        rules: Sequence[BudgetRule] = (),
        workers: int = 1,
        slots: int = 8192,
        purses: int = 4096,
        rates: int = 4096,
        ms: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.workers = _check.integer("workers", workers, low=1, high=60)
        self._tariffs = dict(tariffs)
        self._rules = tuple(rules)
        self._slots = slots
        self._estimators = {name: Estimator() for name in tariffs}
        self._generations: dict[str, int] = {}
        self._check_rules()
        if workers > 1 and not _lock.AVAILABLE:
            hint = "Use one worker on this system."
            raise ConfigError("workers", "be 1 where files cannot be locked", workers, hint)
        reading.inspect(self.path)
        self.folder = self.path.with_name(f"{self.path.name}-run")
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            hint = f"{error.strerror}. Move what is there away."
            raise ConfigError("run folder", "be a folder", str(self.folder), hint) from None
        hint = "Another gateway uses this ledger; stop it, or name another file."
        self._claim = _lock.Claim(self.folder / "lock", "ledger.path", hint)
        try:
            self.board = Board(workers=workers, purses=purses, rates=rates)
            self._rebuild(time.time_ns() // 1_000_000 if ms is None else ms)
        except BaseException:
            self._claim.close()
            raise

    def join(self, worker: int = 0) -> Books:
        """The books of one worker, in its own process; after a kill, of the one that follows it.

        What the killed worker had closed is settled and kept. What it had in flight becomes
        status 499, `gateway_died`, at the cost that was reserved: it may have been charged.

        Raises
        ------
        ConfigError
            The worker's predecessor still runs, or the ledger cannot be opened.
        """
        _check.integer("worker", worker, low=0, high=self.workers - 1)
        journal, left, floor = self._journal(worker)
        try:
            ledger = SQLiteLedger(self.path, journal.clear)
        except BaseException:
            journal.shut()
            raise
        for one in left:
            ledger.record(one.row, one.slot)
        lock = self._lock()
        return Books(
            worker,
            self._tariffs,
            Purses(self.board, self._rules, worker, lock, self._generations),
            Rates(self.board, lock),
            journal,
            ledger,
            self._estimators,
            floor,
        )

    def renewed(
        self,
        *,
        tariffs: Mapping[str, Tariff],
        rules: Sequence[BudgetRule] = (),
        ms: int | None = None,
    ) -> Store:
        """The same ledger, journals and board under other prices and budgets.

        For workers that take over from those of this store, while these still finish. A budget
        that is as it was, or of which only the amount has changed, keeps its purses. One that is
        new, or for other keys, models or periods, starts from what the ledger says was spent; what
        the leaving workers have in flight does not count in it.

        Parameters
        ----------
        tariffs, rules, ms
            As for the store.

        Raises
        ------
        ConfigError, InputError
            As for the store; nothing has changed then.
        """
        new = copy.copy(self)
        new._tariffs, new._rules = dict(tariffs), tuple(rules)
        new._estimators = {name: Estimator() for name in tariffs}
        new._check_rules()
        before = {rule.name: _identity(rule) for rule in self._rules}
        fresh = [rule for rule in rules if before.get(rule.name) != _identity(rule)]
        latest = max(self._generations.values(), default=0)
        new._generations = {**self._generations, **{rule.name: latest + 1 for rule in fresh}}
        with _writing(self.path) as connection:
            while _schema.catch_up(connection, "sums"):
                pass
            new._load(connection, fresh, time.time_ns() // 1_000_000 if ms is None else ms)
            new._seed(connection)
        return new

    def close(self) -> None:
        """Put everything into the ledger that killed workers left, and let go.

        What cannot be written stays where it is, for the next start.
        """
        if self._claim.fd < 0:
            return
        try:
            with _writing(self.path) as connection:
                self._collect(connection)
        except ConfigError as error:
            _log.error("ledger: journals are left for the next start, %s", error)
        self._claim.close()

    def _check_rules(self) -> None:
        if self._rules:
            _check.names("budgets", [rule.name for rule in self._rules], what="budget")
        for rule in self._rules:
            for model in rule.models:
                if model not in self._tariffs:
                    where = f"budget {rule.name!r} models"
                    hint = f"Known: {', '.join(self._tariffs)}."
                    raise InputError(where, "name destinations of the pool", model, hint)

    def _rebuild(self, ms: int) -> None:
        """Journals into the ledger, the ledger onto the board."""
        with _writing(self.path) as connection:
            last = self._collect(connection)
            while _schema.catch_up(connection, "sums"):
                pass
            newest = connection.execute("SELECT max(id) FROM entries").fetchone()[0]
            self._load(connection, self._rules, ms)
            self._seed(connection)
        self.board.raise_floor(max(last, 0 if newest is None else number_of(newest)) + 1)

    def _collect(self, connection: sqlite3.Connection) -> int:
        """Every journal into the ledger; returns the highest number they have given out."""
        last = 0
        for path in sorted(self.folder.glob("worker-*.journal")):
            journal = Journal(path)
            try:
                left = salvage(journal)
                last = max(last, journal.last)
                if left:
                    _log.warning("ledger: %d requests recovered from %s", len(left), path.name)
                    _keep(connection, left)
            except BaseException:
                journal.shut()
                raise
            journal.remove()
        return last

    def _load(self, connection: sqlite3.Connection, rules: Sequence[BudgetRule], ms: int) -> None:
        """What was spent in the present periods, on the board."""
        purses = Purses(self.board, rules, -1, self._lock(), self._generations)
        known: dict[tuple[int, int], dict[tuple[str, str], int]] = {}
        for rule in rules:
            span = bounds(rule.period, ms)
            if span not in known:
                known[span] = _schema.spent(connection, *span)
            spent: dict[str, int] = {}
            for (key, destination), cost in known[span].items():
                holder = rule.holder(key, destination)
                if holder is not None:
                    spent[holder] = spent.get(holder, 0) + cost
            for holder, cost in spent.items():
                purses.load(rule, holder, ms, cost)
        purses.close()

    def _seed(self, connection: sqlite3.Connection) -> None:
        """Let the estimates start from the latest requests."""
        query = "SELECT destination, rest FROM entries WHERE status = 200 ORDER BY id DESC LIMIT ?"
        places = [_schema.REST.index(name) for name in ("chars", "input_tokens", "output_tokens")]
        for destination, text in reversed(connection.execute(query, (_SEED,)).fetchall()):
            estimator = self._estimators.get(destination)
            rest = orjson.loads(text)
            told = [rest[at] for at in places if at < len(rest) and rest[at] is not None]
            if estimator is not None and len(told) == len(places):
                estimator.learn(*told)

    def _lock(self) -> _lock.Lock:
        """The lock of the board, opened by and for one process."""
        return _lock.Lock(self.folder / "board.lock" if self.workers > 1 else None)

    def _journal(self, worker: int) -> tuple[Journal, list[Closed], int]:
        """A worker's journal, what is to be kept of its predecessor's, and the first unused id."""
        path, room = self.folder / f"worker-{worker}.journal", self._room()
        journal = Journal(path, **room)
        try:
            left = salvage(journal, self.board, worker)
            floor = max(self.board.floor, journal.last)
            if journal.fits(**room):
                return journal, left, floor
            # it was made for fewer budgets or destinations
            with _writing(self.path) as connection:
                _keep(connection, left)
        except BaseException:
            journal.shut()
            raise
        journal.remove()
        return Journal(path, **room), [], floor

    def _room(self) -> dict[str, int]:
        """The shape of journals that hold every row of this pool and these budgets."""
        names = [len(orjson.dumps(name)) for name in self._tariffs]
        budgets = sum(len(orjson.dumps(rule.name)) + 64 for rule in self._rules)
        longest = max(names, default=0)
        return {
            "slots": self._slots,
            "open_bytes": 256 + 3 * MAX_TEXT + longest + budgets,
            # two predictions for each destination, of at most 24 digits
            "row_bytes": 512
            + 5 * MAX_TEXT
            + 2 * longest
            + budgets
            + 2 * (sum(names) + 26 * len(names)),
        }


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger, for a while."""
    with contextlib.closing(_schema.connect(path)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            hint = f"{error}. Nothing is lost; start again when it can be written."
            raise ConfigError("ledger", "be writable", str(path), hint) from None


def _keep(connection: sqlite3.Connection, left: Sequence[Closed]) -> None:
    """Write rows from a journal, unless they are there already."""
    with _schema.transaction(connection):
        rows = _schema.absent(connection, [one.row for one in left])
        _schema.append(connection, rows)


def _identity(rule: BudgetRule) -> tuple[object, ...]:
    """What makes a rule's purses what they are; the amount does not."""
    return (rule.period, rule.per, frozenset(rule.keys), frozenset(rule.models))

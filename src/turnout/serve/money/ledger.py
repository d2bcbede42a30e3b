"""An append-only record of decisions and outcomes, in SQLite; several processes may append.

No prompt and no answer is ever written, only their sizes; no key either, only its name. Rows are
appended by one thread, many in a transaction, so that no request waits for the disk.
"""

from __future__ import annotations

import logging
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from turnout.core import InputError
from turnout.serve.money import _schema, reading
from turnout.serve.money.journal import Row

__all__ = ["SQLiteLedger"]

_log = logging.getLogger("turnout.serve")
_BATCH = 2048
#: Seconds for which rows are gathered before they are written.
_WINDOW = 0.05
#: Seconds after which what could not be written is tried again.
_RETRY = 0.5
#: Seconds within which another worker's rows are in the file, if all is well.
_ELSEWHERE = 4 * _WINDOW
#: Seconds after which the sums a day are brought up to date.
_SUMS = 600.0

_Item = tuple[Row, int]


@final
class SQLiteLedger:
    """A ledger in one SQLite file.

    Parameters
    ----------
    path : path
        Made when missing; its folder has to exist. A file of version 1 is brought to version 2.
    kept : callable, optional
        Told, by the writing thread, the slots of rows that are in the file now, in their order.

    Raises
    ------
    ConfigError
        The file cannot be made or opened, is something else, or was written by a newer version.

    Attributes
    ----------
    error : str or None
        Why rows wait to be written; None while all is well.
    """

    def __init__(
        self, path: str | Path, kept: Callable[[Sequence[int]], None] | None = None
    ) -> None:
        self.path = Path(path)
        self.error: str | None = None
        self._kept = kept
        self._connection = _schema.connect(self.path)
        self._queue: queue.SimpleQueue[_Item | _Job | None] = queue.SimpleQueue()
        self._unwritten: list[_Item] = []
        self._hurry = threading.Event()
        self._closed = False
        self._feedback = threading.Lock()
        self._summed = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="turnout-ledger", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are not in the file yet, about."""
        return self._queue.qsize() + len(self._unwritten)

    def record(self, row: Row, slot: int = -1) -> None:
        """Append one request, soon.

        Parameters
        ----------
        row : Row
        slot : int
            What `kept` is told of it; negative = nothing.
        """
        self._queue.put((row, slot))

    def rate(self, request: str, quality: float, comment: str | None = None) -> str:
        """Append feedback on a request, named by its id here or by its completion's id.

        Blocks until it is kept. A request unknown to the file is looked for once more a moment
        later, because another worker may be about to write it.

        Returns
        -------
        str
            The request's id.

        Raises
        ------
        InputError
            No request, or more than one, goes by that name; the quality is out of range.
        """
        if not (isinstance(quality, int | float) and math.isfinite(quality) and 0 <= quality <= 1):
            raise InputError("quality", "be a number in [0, 1]", quality, "Correct the value.")
        self.flush()
        found = self._look_up(request)
        if not found:
            threading.Event().wait(_ELSEWHERE)
            found = self._look_up(request)
        if not found:
            raise InputError(
                "id", "name a served request", request, "Send the x-turnout-id header."
            )
        if len(found) > 1:
            hint = "Several completions go by this id; send the x-turnout-id header."
            raise InputError("id", "name one request", request, hint)
        with self._second() as connection, _schema.transaction(connection):
            connection.execute(
                "INSERT INTO feedback (request, time, quality, comment) VALUES (?, ?, ?, ?)",
                (found[0], time.time(), float(quality), comment),
            )
            query = "SELECT id FROM requests WHERE number = ?"
            return str(connection.execute(query, found).fetchone()[0])

    def flush(self) -> None:
        """Wait until the writing thread has dealt with everything recorded so far."""
        self._call(lambda: None)

    def rows(self) -> list[dict[str, Any]]:
        """Every request, oldest first, by the names of the view `outcomes`."""
        self.flush()
        return reading.rows(self.path)

    def spend(self, since: float = 0.0) -> float:
        """USD spent on requests that arrived at or after `since` (seconds since 1970)."""
        self.flush()
        return reading.spend(self.path, since)

    def close(self) -> None:
        """Write what is left and close the file; further records are refused."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()
        self._connection.close()
        if self._unwritten:
            _log.error("ledger: %d requests could not be written", len(self._unwritten))

    def _call(self, action: Callable[[], Any]) -> Any:
        if self._closed:
            raise InputError("ledger", "be open", "a closed one", "Open it again.")
        job = _Job(action)
        self._queue.put(job)
        self._hurry.set()
        return job.done.result()

    def _work(self) -> None:
        """Take what is there, write it in one transaction, again."""
        open_ = True
        while open_:
            items: list[_Item] = []
            job = None
            item: _Item | _Job | None
            try:
                item = self._queue.get(timeout=_RETRY if self._unwritten else None)
            except queue.Empty:
                self._write([])
                continue
            if isinstance(item, tuple):
                # waking for every row would cost more than writing it
                self._hurry.wait(_WINDOW)
            self._hurry.clear()
            while True:
                if isinstance(item, tuple):
                    items.append(item)
                elif item is None:
                    open_ = False
                else:
                    job = item
                    break  # what comes after a job is not to be written before it
                if len(items) >= _BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            self._write(items)
            if job is not None:
                job.run()

    def _write(self, items: list[_Item]) -> None:
        """One transaction; what cannot be written now is tried again with the next."""
        self._unwritten += items
        if not self._unwritten:
            return
        rows = [row for row, _ in self._unwritten]
        try:
            try:
                with _schema.transaction(self._connection):
                    _schema.append(self._connection, rows)
            except sqlite3.IntegrityError:  # after a kill: some of them are there already
                with _schema.transaction(self._connection):
                    _schema.append(self._connection, _schema.absent(self._connection, rows))
        except sqlite3.Error as error:
            self.error = f"{type(error).__name__}: {error}"
            _log.error("ledger: %d requests wait, %s", len(self._unwritten), self.error)
            return
        self.error = None
        slots = [slot for _, slot in self._unwritten if slot >= 0]
        self._unwritten.clear()
        if self._kept is not None:
            self._kept(slots)
        self._sum_up()

    def _sum_up(self) -> None:
        """Now and then, some way: so that a start after a long run does not have to."""
        if time.monotonic() < self._summed + _SUMS:
            return
        try:
            if not _schema.catch_up(self._connection, "sums"):
                self._summed = time.monotonic()
        except sqlite3.Error as error:
            _log.warning("ledger: sums wait, %s", error)
            self._summed = time.monotonic()

    @contextmanager
    def _second(self) -> Iterator[sqlite3.Connection]:
        """Another connection, for feedback, which must not hold up the rows."""
        with self._feedback:
            connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
            try:
                yield connection
            finally:
                connection.close()

    def _look_up(self, request: str) -> list[int]:
        """The requests that go by a name."""
        number = reading.number(request)
        with self._second() as connection:
            if number is not None:
                query = "SELECT id FROM entries WHERE id = ?"
                if connection.execute(query, (number,)).fetchone():
                    return [number]
            while _schema.catch_up(connection, "names"):
                pass
            query = "SELECT request FROM names WHERE name = ? LIMIT 2"
            return [row[0] for row in connection.execute(query, (request,))]


class _Job:
    """Something for the writing thread to do in its turn."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.done: Future[Any] = Future()

    def run(self) -> None:
        try:
            self.done.set_result(self.action())
        except Exception as error:
            self.done.set_exception(error)

"""The seam towards memory: an append-only ledger of decisions and outcomes, in SQLite.

No prompt and no answer is ever written, only their sizes; no key either. Rows are appended by one
thread, many in a transaction, so that no request waits for the disk; closing writes what is left.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from turnout.core import InputError
from turnout.serve import _schema

__all__ = ["Entry", "Ledger", "SQLiteLedger"]

_log = logging.getLogger("turnout.serve")
_BATCH = 512
#: Seconds for which entries are gathered before they are written.
_WINDOW = 0.05


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request: what was decided, what came of it.

    Parameters
    ----------
    id : str
        The gateway's name of the request, sent to the client as `x-turnout-id`.
    time : float
        When it arrived, seconds since 1970.
    model : str
        What the client asked for.
    destination : str
        Who answered, or failed to, last.
    price : float
        Quality given up to save one unit of cost, when it was decided.
    propensity : float, optional
        Probability with which the policy chose `fallback_from or destination`; None = not known.
    quality, cost : mapping of str to float
        Predictions for each candidate.
    prompt_chars : int
        Length of the text routed on.
    stream : bool
    input_tokens, output_tokens : int, optional
        As the destination counts them; None = not told.
    cost_usd : float, optional
        None where the tokens are not known.
    latency_s, first_token_s : float, optional
        Seconds from the request's arrival to the end, and to the first byte of the answer.
    status : int
        HTTP status of the outcome: 200, that of a failure (also one in mid-stream), or 499 where
        the client went away.
    error_type : str, optional
        Code of the failure.
    fallback_from : str, optional
        The destination decided on, where another one answered.
    completion_id : str, optional
        The destination's own name of the answer.
    """

    id: str
    time: float
    model: str
    destination: str
    price: float
    propensity: float | None
    quality: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    prompt_chars: int
    stream: bool
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float
    first_token_s: float | None = None
    status: int
    error_type: str | None = None
    fallback_from: str | None = None
    completion_id: str | None = None


class Ledger(Protocol):
    """Remembers what was decided and what came of it."""

    @property
    def error(self) -> str | None:
        """Why entries wait to be written; None while all is well."""
        ...

    def record(self, entry: Entry) -> None:
        """Take in one request; returns at once."""
        ...

    def rate(self, request: str, quality: float, comment: str | None = None) -> str:
        """Take in feedback and return the id it was filed under; blocks until it is kept."""
        ...

    def close(self) -> None:
        """Keep everything taken in, then let go."""
        ...


class SQLiteLedger:
    """A ledger in one SQLite file; several processes may append to it.

    Parameters
    ----------
    path : path
        Made when missing; its folder has to exist.

    Raises
    ------
    ConfigError
        The file cannot be made or opened, is something else, or was written by a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.error: str | None = None
        self._connection = _schema.connect(self.path)
        self._queue: queue.SimpleQueue[Entry | _Job | None] = queue.SimpleQueue()
        self._unwritten: list[Entry] = []
        self._hurry = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="turnout-ledger", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Append one request, soon."""
        self._queue.put(entry)

    def rate(self, request: str, quality: float, comment: str | None = None) -> str:
        """Append feedback on a request, named by its id here or by its completion's id.

        Raises
        ------
        InputError
            No request, or more than one, goes by that name.
        """
        name: str = self._call(lambda: _rate(self._connection, request, quality, comment))
        return name

    def flush(self) -> None:
        """Wait until everything recorded so far is in the file."""
        self._call(lambda: None)

    def rows(self) -> list[dict[str, Any]]:
        """Every request, oldest first: the columns of `Entry`, and its latest feedback or None."""
        self.flush()
        query = "SELECT * FROM outcomes ORDER BY time, id"
        with closing(sqlite3.connect(self.path)) as reader:
            reader.row_factory = sqlite3.Row
            return [_schema.unpack(row) for row in reader.execute(query)]

    def spend(self, since: float = 0.0) -> float:
        """USD spent on requests that arrived at or after `since` (seconds since 1970)."""
        self.flush()
        query = "SELECT total(cost_usd) FROM requests WHERE time >= ?"
        with closing(sqlite3.connect(self.path)) as reader:
            return float(reader.execute(query, (since,)).fetchone()[0])

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
            entries, jobs = [], []
            item: Entry | _Job | None = self._queue.get()
            if isinstance(item, Entry):
                # waking for every entry would cost more than writing it
                self._hurry.wait(_WINDOW)
            self._hurry.clear()
            while True:
                if item is None:
                    open_ = False
                elif isinstance(item, Entry):
                    entries.append(item)
                else:
                    jobs.append(item)
                    break  # what comes after a job is not to be written before it
                if len(entries) >= _BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            self._write(entries)
            for job in jobs:
                job.run()

    def _write(self, entries: list[Entry]) -> None:
        """One transaction; what cannot be written now is tried again with the next."""
        self._unwritten += entries
        if not self._unwritten:
            return
        try:
            with _schema.transaction(self._connection):
                self._connection.executemany(_INSERT, map(_values, self._unwritten))
        except sqlite3.Error as error:
            self.error = f"{type(error).__name__}: {error}"
            _log.error("ledger: %d requests wait, %s", len(self._unwritten), self.error)
        else:
            self.error = None
            self._unwritten.clear()


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


_COLUMNS = tuple(_schema.column(item.name) for item in fields(Entry))
_INSERT = f"INSERT INTO requests ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


def _values(entry: Entry) -> tuple[Any, ...]:
    return tuple(
        json.dumps(dict(value)) if isinstance(value, Mapping) else value
        for value in (getattr(entry, item.name) for item in fields(Entry))
    )


def _rate(connection: sqlite3.Connection, request: str, quality: float, comment: str | None) -> str:
    if not (isinstance(quality, int | float) and math.isfinite(quality) and 0 <= quality <= 1):
        raise InputError("quality", "be a number in [0, 1]", quality, "Correct the value.")
    query = "SELECT id FROM requests WHERE id = ?1 OR completion_id = ?1 LIMIT 2"
    found = [row[0] for row in connection.execute(query, (request,))]
    if not found:
        raise InputError("id", "name a served request", request, "Send the x-turnout-id header.")
    if len(found) > 1 and request not in found:
        hint = "Several completions go by this id; send the x-turnout-id header."
        raise InputError("id", "name one request", request, hint)
    name = request if request in found else str(found[0])
    with _schema.transaction(connection):
        connection.execute(
            "INSERT INTO feedback (request_id, time, quality, comment) VALUES (?, ?, ?, ?)",
            (name, time.time(), float(quality), comment),
        )
    return name

"""Keeps the prompts of one worker's requests, where that is switched on, and deletes them in time.

A request hands over its prompt and goes on; a thread writes many in one transaction. What waits is
bounded. Where there is no room, or the disk fails, prompts are dropped and counted; no request
waits or fails for it. A kill loses the prompts that were not written yet: those of the last moment.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import final

from turnout.core import ConfigError
from turnout.serve.prompts import file

__all__ = ["Keep", "Prompts"]

_log = logging.getLogger("turnout.serve")

#: Takes a request's id, the name of its key, and the text it was routed on.
Keep = Callable[[int, str, str], None]

_DAY_MS = 86_400_000
#: Bytes that may wait to be written, and what each prompt takes beyond its text.
_ROOM, _EACH = 16 * 2**20, 256
#: Seconds for which prompts are gathered, and bytes that are written in one transaction.
_WINDOW, _BATCH = 0.05, 2**20
#: Seconds between two looks for prompts whose time is over; after one that could not be finished.
_EVERY, _SOON = 240.0, 1.0
#: Seconds to wait for those who read, before the write-ahead log is emptied another time.
_PATIENCE = 0.1
#: Seconds in which a failure is logged once.
_QUIET = 60.0

_Item = tuple[int, str, str, int]


@final
class Prompts:
    """Keeps prompts in one file, and deletes those whose time is over.

    Parameters
    ----------
    path : path
        Made when missing, and again when it was deleted; see `turnout.serve.prompts.file`.
    keep_days : int, optional
        Days that a prompt is kept, also one that is there already. None: none is kept any more, and
        those that are there are deleted when they were to be; no file is made.
    keys : collection of str
        Names of the keys whose prompts are kept; empty = all.
    room : int
        Bytes that may wait to be written.
    every : float
        Seconds between two looks for what is to be deleted; the first is at once.
    now : callable
        Milliseconds since 1970.

    Raises
    ------
    ConfigError
        The file cannot be made or opened, is something else, or was written by a newer version.

    Attributes
    ----------
    error : str or None
        What failed last; None while all is well.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keep_days: int | None = None,
        keys: Collection[str] = (),
        room: int = _ROOM,
        every: float = _EVERY,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.path = Path(path)
        self.error: str | None = None
        self._life = None if keep_days is None else keep_days * _DAY_MS
        self._keys = frozenset(keys)
        self._room = room
        self._every = every
        self._now = now
        # each is written by one thread alone
        self._come = self._gone = self._refused = self._lost = 0
        self._quiet_until = 0.0
        self._connection: sqlite3.Connection | None = None
        self._node: tuple[int, int] | None = None
        self._opened()
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="turnout-prompts", daemon=True)
        self._thread.start()

    @property
    def hook(self) -> Keep | None:
        """What takes prompts in; None where none is kept."""
        return None if self._life is None else self.keep

    @property
    def dropped(self) -> int:
        """Prompts that were to be kept and are not: there was no room, or the disk failed."""
        return self._refused + self._lost

    def keep(self, id_: int, key: str, prompt: str) -> None:
        """Keep a prompt, soon, if its key is one of those; returns at once and never fails.

        Parameters
        ----------
        id_ : int
            Of the request, as in the ledger.
        key : str
            Name of its key.
        prompt : str
            The text it was routed on.
        """
        if self._keys and key not in self._keys:
            return
        # no more than so many bytes in memory, told at once
        size = (1 if prompt.isascii() else 4) * len(prompt) + _EACH
        if self._come - self._gone + size > self._room:
            self._refused += 1
            return
        self._come += size
        self._queue.put((id_, key, prompt, size))

    def close(self) -> None:
        """Write what is left and close the file; nothing may be handed over any more."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        self._shut()
        if self.dropped:
            _log.warning("prompts: %d could not be kept", self.dropped)

    def _work(self) -> None:
        """Write what comes, and look now and then for what is to go."""
        going, due = True, time.monotonic()
        while going:
            items, going = self._gather(max(due - time.monotonic(), 0.0))
            if items and not self._write(items) and self._closing.is_set():
                # the rest would fail the same way, each after as long a wait
                self._lost += self._queue.qsize() - going
                return
            if going and time.monotonic() >= due:
                due = time.monotonic() + self._tidy()

    def _gather(self, wait: float) -> tuple[list[_Item], bool]:
        """What is to be written in one transaction, and whether more may come."""
        items: list[_Item] = []
        size = 0
        try:
            item = self._queue.get(timeout=wait)
            if item is not None and self._come - self._gone < _BATCH:
                # waking for every prompt would cost more than writing it
                self._closing.wait(_WINDOW)
            while item is not None:
                items.append(item)
                size += item[3]
                if size >= _BATCH:
                    return items, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return items, True
        return items, False

    def _write(self, items: list[_Item]) -> bool:
        """One transaction, and whether it succeeded; what cannot be written is dropped."""
        kept, good = 0, False
        try:
            connection, life = self._opened(), self._life
            if connection is not None and life is not None:
                rows = [(id_, key, life, text) for id_, key, text, _ in items]
                kept = file.append(connection, rows)
                self.error, good = None, True
        except Exception as error:
            self._failed(error)
        self._lost += len(items) - kept
        self._gone += sum(item[3] for item in items)
        return good

    def _tidy(self) -> float:
        """Delete some of what is to go; seconds after which to look again."""
        try:
            connection = self._opened()
            if connection is None:
                return self._every
            if file.sweep(connection, self._now(), self._life):
                return 0.0  # others may write in between
            # also after a kill, or a deletion by somebody else who could not
            return self._every if file.scrub(connection, _PATIENCE) else _SOON
        except Exception as error:
            self._failed(error)
            return _SOON

    def _opened(self) -> sqlite3.Connection | None:
        """The file, opened anew if it was deleted; None where there is none and none is to be."""
        there = file.node(self.path)
        if self._connection is not None and there != self._node:
            self._shut()
        if self._connection is None and (there is not None or self._life is not None):
            self._connection = file.connect(self.path)
            self._node = file.node(self.path)
        return self._connection

    def _shut(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _failed(self, error: Exception) -> None:
        # other errors may quote what they failed on
        known = isinstance(error, sqlite3.Error | ConfigError)
        self.error = f"{type(error).__name__}: {error}" if known else type(error).__name__
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET
            _log.error("prompts: some are not kept or not deleted, %s", self.error)

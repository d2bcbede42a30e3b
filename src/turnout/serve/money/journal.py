"""What one worker must not forget when it is killed: requests in flight, and closed ones not kept.

A file beside the ledger, mapped into memory. What is stored there belongs to the kernel from that
moment on, so it outlives the process (not a power cut). Every request has a slot. Its state is one
cell, written last, after what it speaks of:

======= ==========================================================================================
free    0
open    the slot says what was reserved where; from before the request is let in
closed  the slot also holds the ledger's row, and what settling writes on the board; until the
        row is in the ledger's file
======= ==========================================================================================

The states carry a number: that of the move for open slots (a request that moves to another
destination takes a second slot before it leaves the first), and the order of closing for closed
ones. A slot is found for every request before it is let in, so closing one can never fail for want
of room.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, final

import orjson

from turnout.core import ConfigError, TurnoutError, _check
from turnout.serve.money._lock import Claim
from turnout.serve.money.units import Pico

__all__ = ["Closed", "Journal", "JournalFullError", "Opened", "Row", "RowTooLongError"]

_log = logging.getLogger("turnout.serve")

_MAGIC = 0x54524E4F4A4F5552
_VERSION = 1
_PAGE = 4096
# cells of the first page
_SLOTS, _OPEN_BYTES, _ROW_BYTES, _LAST = 2, 3, 4, 5
# kinds of state, in its lowest two bits
_OPEN, _CLOSED = 1, 2
#: Of the two texts of a slot.
_LENGTHS = Struct("<II")

#: One line of the ledger: id, key, destination, status, cost, flags, the rest as JSON.
Row = tuple[int, str, str, int, int | None, int, str]


class JournalFullError(TurnoutError):
    """All slots are taken by requests in flight or not yet in the ledger's file."""


class RowTooLongError(TurnoutError):
    """A row does not fit its slot; nothing was written."""


class Opened(NamedTuple):
    """A request in flight, as its slot tells.

    Parameters
    ----------
    slot : int
    version : int
        How often it has moved.
    id : int
    amount : int
        Pico-dollars reserved.
    purses : list of (int, int)
        Cell of the worker's column, and its tag, of each purse.
    about : list
        What else the ledger is to know of it.
    """

    slot: int
    version: int
    id: int
    amount: Pico
    purses: list[tuple[int, int]]
    about: list[Any]


class Closed(NamedTuple):
    """A closed request, as its slot tells.

    Parameters
    ----------
    slot : int
    number : int
        In the order of closing.
    row : Row
    settlement : list of (int, int, int)
        As `Purses.settlement`, without what was taken.
    """

    slot: int
    number: int
    row: Row
    settlement: list[tuple[int, int, Pico]]


@final
class Journal:
    """One worker's slots.

    Parameters
    ----------
    path : path
        Made when missing, and given its whole room on the disk.
    slots : int
        Requests in flight and not yet kept, at most. Only those used at one time take memory.
    open_bytes, row_bytes : int
        Room for what is in flight, and for a row. As in the file, where there is one already.

    Raises
    ------
    ConfigError
        Another process uses the file, it cannot be made, or it is something else.
    """

    __slots__ = (
        "_at", "_bytes", "_cells", "_claim", "_free", "_map", "_next", "_open_bytes", "_row_bytes",
        "_size", "path", "slots",
    )  # fmt: skip

    def __init__(
        self, path: Path, *, slots: int = 8192, open_bytes: int = 1024, row_bytes: int = 3072
    ) -> None:
        self.path = path
        hint = "Stop the other gateway first."
        self._claim = Claim(path, f"journal {path.name}", hint)
        try:
            self._map = self._open(slots, open_bytes + 7 & ~7, row_bytes + 7 & ~7)
        except BaseException:
            self._claim.close()
            raise
        self._cells: memoryview[int] = memoryview(self._map).cast("q")
        self._bytes = memoryview(self._map)
        self.slots = self._cells[_SLOTS]
        self._open_bytes, self._row_bytes = self._cells[_OPEN_BYTES], self._cells[_ROW_BYTES]
        self._size = self._open_bytes + self._row_bytes
        self._at = _PAGE + 8 * self.slots
        states = self._states()
        # the slot freed last is used next, so that few pages are ever touched
        self._free = deque(i for i in reversed(range(self.slots)) if not states[i])
        self._next = max((state >> 2 for state in states if state & 3 == _CLOSED), default=0) + 1

    def fits(self, slots: int, open_bytes: int, row_bytes: int) -> bool:
        """Whether it has so many slots, and room for so much in each."""
        return (
            self.slots >= slots and self._open_bytes >= open_bytes and self._row_bytes >= row_bytes
        )

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots that are not free."""
        return (self.slots - len(self._free)) * self._size

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    @property
    def last(self) -> int:
        """The highest number given to a request, by which ids go on after a kill."""
        return self._cells[_LAST]

    def open(self, slot: int, number: int, head: Any, tail: bytes) -> None:
        """Write down, in a slot that was claimed, a request that is about to be let in.

        Parameters
        ----------
        slot : int
        number : int
            As `last`.
        head : list
            Id, pico-dollars reserved, tags of the purses, then anything JSON.
        tail : bytes
            JSON of a list that is the same for many requests: cells of the worker's columns of the
            purses, then anything.

        Raises
        ------
        RowTooLongError
            It does not fit; nothing was written.
        """
        self.fill_open(slot, head, tail)
        cells = self._cells
        cells[_LAST] = number
        cells[_PAGE // 8 + slot] = _OPEN

    def close(self, slot: int, row: Row, settlement: Any) -> None:
        """Write down that a request is closed; from now on it cannot be lost.

        Raises
        ------
        RowTooLongError
            The row does not fit; nothing was written.
        """
        self.fill_closed(slot, row, settlement)
        self.mark_closed(slot)

    def claim(self) -> int:
        """A free slot, for the caller.

        Raises
        ------
        JournalFullError
            There is none.
        """
        try:
            return self._free.pop()
        except IndexError:
            rule = "have a free slot"
            hint = "The ledger's disk may be slow or full; ask again later."
            value = f"{self.slots} requests in flight or not yet written"
            raise JournalFullError("journal", rule, value, hint) from None

    def give_back(self, slot: int) -> None:
        """A slot that was claimed and not used."""
        self._free.append(slot)

    def fill_open(self, slot: int, head: Any, tail: bytes) -> None:
        """Write what a request in flight is; nobody reads it before `mark_open`.

        Raises
        ------
        RowTooLongError
            As `open`.
        """
        self._put(self._at + slot * self._size, self._open_bytes, orjson.dumps(head), tail)

    def mark_open(self, slot: int, version: int) -> None:
        """Make it count."""
        self._cells[_PAGE // 8 + slot] = version << 2 | _OPEN

    def fill_closed(self, slot: int, row: Row, settlement: Any) -> None:
        """Write the row of a closed request; nobody reads it before `mark_closed`.

        Raises
        ------
        RowTooLongError
            As `close`.
        """
        id_, key, destination, status, cost, flags, rest = row
        head = orjson.dumps([id_, key, destination, status, cost, flags, settlement])
        at = self._at + slot * self._size + self._open_bytes
        self._put(at, self._row_bytes, head, rest.encode())

    def mark_closed(self, slot: int) -> None:
        """Make it count."""
        self._cells[_PAGE // 8 + slot] = self._next << 2 | _CLOSED
        self._next += 1

    def clear(self, slots: Iterable[int]) -> None:
        """Free slots whose rows are kept elsewhere, in this order; any thread may."""
        for slot in slots:
            self._cells[_PAGE // 8 + slot] = 0
            self._free.append(slot)

    def closed(self) -> list[Closed]:
        """The closed requests, in the order of closing."""
        found = []
        for slot, state in enumerate(self._states()):
            if state & 3 == _CLOSED:
                try:
                    head, tail = self._get(self._at + slot * self._size + self._open_bytes)
                    id_, key, destination, status, cost, flags, settlement = orjson.loads(head)
                    row = (id_, key, destination, status, cost, flags, tail.decode())
                    moves = [(cell, tag, settled) for cell, tag, settled, _ in settlement]
                except (TypeError, ValueError):
                    self._damaged(slot)
                    continue
                found.append(Closed(slot, state >> 2, row, moves))
        return sorted(found, key=lambda one: one.number)

    def opened(self) -> list[Opened]:
        """The requests in flight; of one that was just moving, both slots, the newer one last."""
        found = []
        for slot, state in enumerate(self._states()):
            if state & 3 == _OPEN:
                try:
                    head, tail = self._get(self._at + slot * self._size)
                    id_, amount, tags, *about = orjson.loads(head)
                    cells, *more = orjson.loads(tail)
                    pairs = list(zip(cells, tags, strict=True))
                except (TypeError, ValueError):
                    self._damaged(slot)
                    continue
                found.append(Opened(slot, state >> 2, id_, amount, pairs, [*about, *more]))
        return sorted(found, key=lambda one: one.version)

    def shut(self) -> None:
        """Let go of the file."""
        if self._claim.fd >= 0:
            self._bytes.release()
            self._cells.release()
            self._map.close()
            self._claim.close()

    def remove(self) -> None:
        """Let go of the file and delete it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.shut()

    def _put(self, at: int, room: int, head: bytes, tail: bytes) -> None:
        """Two texts with their lengths before them."""
        end = 8 + len(head) + len(tail)
        if end > room:
            hint = "Leave something out, or make the journal with larger slots."
            raise RowTooLongError("row", f"take at most {room} bytes", end, hint)
        self._bytes[at : at + end] = _LENGTHS.pack(len(head), len(tail)) + head + tail

    def _get(self, at: int) -> tuple[bytes, bytes]:
        head, tail = _LENGTHS.unpack(self._bytes[at : at + 8])
        both = bytes(self._bytes[at + 8 : at + 8 + head + tail])
        return both[:head], both[head:]

    def _states(self) -> list[int]:
        start = _PAGE // 8
        return self._cells[start : start + self.slots].tolist()

    def _damaged(self, slot: int) -> None:
        """A power cut may have kept the state and not what it speaks of."""
        _log.error("journal %s: what slot %d held is damaged and was dropped", self.path.name, slot)
        self.clear((slot,))

    def _open(self, slots: int, open_bytes: int, row_bytes: int) -> mmap.mmap:
        _check.integer("slots", slots, low=1, high=2**20)
        _check.integer("open_bytes", open_bytes, low=256, high=2**20)
        _check.integer("row_bytes", row_bytes, low=256, high=2**20)
        old = self._old()
        if old is not None:
            return old
        total = _PAGE + slots * (8 + open_bytes + row_bytes)
        try:
            os.ftruncate(self._claim.fd, 0)
            if hasattr(os, "posix_fallocate"):
                # a full disk is found now, not as a fault in the middle of a request
                os.posix_fallocate(self._claim.fd, 0, total)
            else:
                os.pwrite(self._claim.fd, bytes(total), 0)
        except OSError as error:
            os.ftruncate(self._claim.fd, 0)
            hint = f"{error.strerror}. Free some space, or lower the number of slots."
            raise ConfigError("journal", f"have {total} bytes of disk", None, hint) from None
        made = mmap.mmap(self._claim.fd, total)
        with memoryview(made) as whole, whole.cast("q") as cells:
            cells[1] = _VERSION
            cells[_SLOTS], cells[_OPEN_BYTES], cells[_ROW_BYTES] = slots, open_bytes, row_bytes
            cells[0] = _MAGIC  # last: from now on it is a journal
        return made

    def _old(self) -> mmap.mmap | None:
        """The journal that is there already; None where there is none, or an unfinished one."""
        there = os.fstat(self._claim.fd).st_size
        if not there:
            return None
        if there >= _PAGE:
            made = mmap.mmap(self._claim.fd, there)
            with memoryview(made) as whole, whole[:_PAGE].cast("q") as cells:
                magic, version, slots, open_bytes, row_bytes = cells[:5].tolist()
            right = there == _PAGE + slots * (8 + open_bytes + row_bytes)
            if right and magic == _MAGIC and version == _VERSION:
                return made
            made.close()
            if not magic:
                return None
        hint = "It is damaged or something else; move it away."
        raise ConfigError("journal", "be a journal", str(self.path), hint)

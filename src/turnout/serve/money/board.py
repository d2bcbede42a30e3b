"""What all workers of a gateway share: cells of 64 bits in one piece of memory.

A cell is written by one aligned store of eight bytes, so nobody ever reads half a number. Every
purse has a column of three cells for each worker, which that worker alone writes, and one for what
was spent before the start:

======== ==========================================================================================
tag      start of the period the other two belong to, seconds since 1970
taken    pico-dollars settled, and reserved for requests in flight: one cell, so that one store
         turns a reservation into what was really spent
settled  pico-dollars of requests that are closed
======== ==========================================================================================

Admission reads `taken` only. A column whose tag is another period's counts as nothing, and its
worker starts it anew when it next reserves there, so a new period needs no sweep. Purses are found
by a hash of their name; they are added, never removed, so there are as many as budgets times
holders, however many periods pass.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import final

from turnout.core import ConfigError, TurnoutError, _check

__all__ = ["Board", "BoardFullError"]

_MAGIC = 0x54524E4F424F4152
#: magic, workers, purses, rates, floor of the ids, three spare
_HEADER = 8
_FLOOR = 4
# of a purse: hash (2), length of the name, spare, the name, all tags, all taken, all settled
_LENGTH, _NAME, _NAME_CELLS = 2, 4, 24
_TAGS = _NAME + _NAME_CELLS
# of a rate: hash (2), time, spare
_RATE = 4
_TIME = 2


class BoardFullError(TurnoutError):
    """The shared memory has no room for another purse or rate limit."""


@final
class Board:
    """The shared cells.

    Parameters
    ----------
    workers : int
        How many processes take part.
    purses : int
        How many budgets times holders there may be.
    rates : int
        How many rate limits times holders there may be.
    buffer : writable buffer, optional
        All zeros, or another board's; fresh memory that forked processes share unless given.

    Attributes
    ----------
    cells : memoryview of int
    taken, settled : int
        Where these cells of a column are, counted from its tag.
    """

    __slots__ = (
        "_bytes", "_purses", "_rates", "_rates_at", "_tags_and_taken", "_width", "cells", "settled",
        "taken", "workers",
    )  # fmt: skip

    def __init__(
        self,
        *,
        workers: int = 1,
        purses: int = 4096,
        rates: int = 4096,
        buffer: bytearray | mmap.mmap | None = None,
    ) -> None:
        self.workers = _check.integer("workers", workers, low=1, high=60)
        self._purses = _check.integer("purses", purses, low=1)
        self._rates = _check.integer("rates", rates, low=1)
        columns = workers + 1
        self.taken, self.settled = columns, 2 * columns
        # in native order each cell is read by one load, in standard order byte by byte
        self._tags_and_taken = Struct(f"@{2 * columns}q")
        self._width = _TAGS + 3 * columns
        self._rates_at = _HEADER + purses * self._width
        size = self._rates_at + rates * _RATE
        if buffer is None:
            buffer = mmap.mmap(-1, 8 * size)
        self._bytes = memoryview(buffer)
        self.cells: memoryview[int] = self._bytes[: len(buffer) & ~7].cast("q")
        if len(self.cells) < size:
            raise ConfigError("board", f"have {size} cells", len(self.cells), "Make it larger.")
        shape = [workers, purses, rates]
        if self.cells[0] == 0:
            for i, value in enumerate(shape):
                self.cells[1 + i] = value
            self.cells[0] = _MAGIC
        elif self.cells[0] != _MAGIC or self.cells[1:4].tolist() != shape:
            hint = "Give all workers the same numbers."
            raise ConfigError("board", "be one of the same shape", None, hint)

    @property
    def floor(self) -> int:
        """Number from which on the ids of new requests are unused."""
        return self.cells[_FLOOR]

    def raise_floor(self, value: int) -> None:
        """Let the ids of new requests begin at a number."""
        self.cells[_FLOOR] = value

    def purse(self, name: str) -> int:
        """Place of a purse; negative where there is none yet."""
        return self._find(name, _HEADER, self._width, self._purses)

    def add_purse(self, name: str) -> int:
        """Place of a purse, made when missing; the caller holds the lock.

        Raises
        ------
        BoardFullError
            There is no room for another one.
        """
        return self._add(name, _HEADER, self._width, self._purses, "purses")

    def rate(self, name: str) -> int:
        """Cell of a rate limit, made when missing; the caller holds the lock.

        Raises
        ------
        BoardFullError
            There is no room for another one.
        """
        return self._add(name, self._rates_at, _RATE, self._rates, "rates") + _TIME

    def column(self, purse: int, worker: int) -> int:
        """The tag's cell in a worker's column; worker -1 is what was spent before the start."""
        return purse + _TAGS + worker + 1

    def reader(self) -> tuple[Callable[[memoryview, int], tuple[int, ...]], memoryview]:
        """What reads all tags and then all taken of a purse, given the memory and `place`."""
        return self._tags_and_taken.unpack_from, self._bytes

    def place(self, purse: int) -> int:
        """Where the tags of a purse are, in bytes."""
        return 8 * (purse + _TAGS)

    def used(self) -> list[int]:
        """The place of every purse there is."""
        marks = self.cells[_HEADER : self._rates_at : self._width].tolist()
        return [_HEADER + i * self._width for i, mark in enumerate(marks) if mark]

    def name(self, purse: int) -> str:
        """Name of the purse at a place, cut where it is long."""
        start = 8 * (purse + _NAME)
        raw = bytes(self._bytes[start : start + self.cells[purse + _LENGTH]])
        return raw.decode(errors="replace")

    def _find(self, name: str, start: int, width: int, count: int) -> int:
        """Where it is; else -1 - where it could be; else, with no room, -1 - the end."""
        cells = self.cells
        high, low = _hash(name)
        end = start + count * width
        at = first = start + high % count * width
        while True:
            found = cells[at]
            if found == 0:
                return -1 - at
            if found == high and cells[at + 1] == low:
                return at
            at += width
            if at == end:
                at = start
            if at == first:
                return -1 - end

    def _add(self, name: str, start: int, width: int, count: int, kind: str) -> int:
        at = self._find(name, start, width, count)
        if at >= 0:
            return at
        at = -1 - at
        if at == start + count * width:
            hint = "Make the board larger, or use fewer budgets and limits per key."
            raise BoardFullError("board", f"have room for more than {count} {kind}", name, hint)
        if width > _RATE:
            text = name.encode()[: 8 * _NAME_CELLS]
            self._bytes[8 * (at + _NAME) : 8 * (at + _NAME) + len(text)] = text
            self.cells[at + _LENGTH] = len(text)
        high, low = _hash(name)
        self.cells[at + 1] = low
        self.cells[at] = high  # last: from now on it is found
        return at


def _hash(name: str) -> tuple[int, int]:
    """Two cells that stand for a name; the first is above 0."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    high = int.from_bytes(digest[:8], "little") >> 1
    return high or 1, int.from_bytes(digest[8:], "little", signed=True)

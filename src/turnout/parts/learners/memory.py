"""A fast memory of recent values: written in place, read by likeness, the old forgotten first.

Keys are vectors of unit length. Random hyperplanes put each in one bucket a table, so that a read
looks at a bounded number of candidates however much is kept (Charikar, "Similarity estimation
techniques from rounding algorithms", STOC 2002, section 3):

    code_l(key) = sum_b 2^b [key . plane_lb > 0]                bucket in table l
    candidates  = what lies in the buckets code_1 ... code_L, once each
    a_i = softmax over the k most similar candidates of (key . key_i) / tau, ties included
    value = sum_i a_i value_i                                   0 where there is none
    near = sum_i max(key . key_i, 0)                            over the same

Values belong to columns (destinations, users, sensors), each with a memory of its own: a ring of
`size` entries, and buckets that are rings of `slots` references. What is overwritten in the first
is not found through the second. Entries older than `age` are not read.

Writing changes the arrays in place: one writer at a time, and no reader beside it. With no bits
there is one bucket, and reading is exact among its newest `slots`.

Examples
--------
>>> import numpy as np
>>> memory = empty_memory(1, 2, bits=0, rng=np.random.default_rng(0))
>>> memory.write(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]), np.array([0.5, -0.5]))
>>> value, near = memory.read(np.array([[1.0, 0.0]]))
>>> round(float(value[0, 0]), 3), float(near[0, 0])
(0.5, 1.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, _check
from turnout.core._check import Float, Int

__all__ = ["RecentMemory", "empty_memory"]

_ARRAYS = ("keys", "values", "when", "written", "slots", "heads", "clock")


@dataclass(frozen=True, eq=False, kw_only=True)
class RecentMemory:
    """What was written lately, by column. Made by `empty_memory`; saved and loaded whole.

    The hash bits are drawn once and kept with the rest, so that a loaded memory finds what was
    written before it was saved.

    Parameters
    ----------
    planes : array of float32 (tables, bits, d)
    keys : array of float32 (m, size, d)
    values, when : array (m, size)
    written : array of int (m,)
        Entries ever written to each column.
    slots : array of int (m, tables, 2^bits, slots)
        Serial numbers of entries; -1 = free.
    heads : array of int (m, tables, 2^bits)
        Entries ever put into each bucket.
    clock : array (1,)
        The latest time written.
    k : int
        Most neighbours, >= 1.
    tau : float
        Temperature of their weights, > 0.
    age : float
        Entries older than this are not read; infinity = all are.
    """

    planes: NDArray[np.float32]
    keys: NDArray[np.float32]
    values: Float
    when: Float
    written: Int
    slots: Int
    heads: Int
    clock: Float
    k: int
    tau: float
    age: float

    def __post_init__(self) -> None:
        tables, bits, d = self.planes.shape
        m, size, _ = self.keys.shape
        _check.expect_shape("memory.keys", self.keys, (m, size, d))
        _check.expect_shape("memory.slots", self.slots, (m, tables, 1 << bits, None))
        for name in _ARRAYS:  # of its own, and open to writing, wherever they came from
            object.__setattr__(self, name, np.array(getattr(self, name)))

    @property
    def m(self) -> int:
        """Number of columns."""
        return len(self.keys)

    @property
    def now(self) -> float:
        """The latest time written; 0 before."""
        return float(self.clock[0])

    def write(
        self, keys: NDArray[Any], column: Int, values: Float, when: Float | None = None
    ) -> None:
        """Take in values, each of one column; the oldest make room.

        Parameters
        ----------
        keys : array (n, d)
        column : array of int (n,)
        values : array (n,)
            Finite.
        when : array (n,), optional
            Time of each, in any one unit; by default entries are counted. What comes in later
            than `age` is dropped.

        Raises
        ------
        InputError
            A shape is wrong, a value is not finite, or there is no such column.
        """
        n, d = len(keys), self.planes.shape[2]
        vectors = _check.floats("keys", keys, (n, d)).astype(np.float32)
        values = _check.floats("values", values, (n,))
        columns = np.asarray(column)
        _check.expect_shape("column", columns, (n,))
        for row in np.flatnonzero((columns < 0) | (columns >= self.m))[:1]:
            rule = f"be a column, 0 to {self.m - 1}"
            raise InputError(f"column[{row}]", rule, int(columns[row]), "Correct it.")
        if when is None:
            when = self.now + np.arange(1.0, n + 1.0)
        when = _check.floats("when", when, (n,))
        size, room = self.keys.shape[1], self.slots.shape[3]
        tables = np.arange(len(self.planes))
        for i, code in enumerate(self._codes(vectors)):
            self.clock[0] = max(self.now, float(when[i]))
            if self.now - float(when[i]) > self.age:
                continue
            j = int(columns[i])
            serial = int(self.written[j])
            at = serial % size
            self.keys[j, at], self.values[j, at], self.when[j, at] = vectors[i], values[i], when[i]
            self.written[j] = serial + 1
            head = self.heads[j, tables, code]
            self.slots[j, tables, code, head % room] = serial
            self.heads[j, tables, code] = head + 1

    def read(self, keys: NDArray[Any], now: float | None = None) -> tuple[Float, Float]:
        """Weighted mean of what lies near, (n, m), and how much lies near, (n, m).

        The second is the sum of the neighbours' similarities, those below zero left out: as many
        as there are where all are alike, next to nothing where they only shared a bucket.

        Parameters
        ----------
        keys : array (n, d)
        now : float, optional
            Time of reading; by default the latest written.

        Raises
        ------
        InputError
            The shape is wrong or a key is not finite.
        """
        d = self.planes.shape[2]
        vectors = _check.floats("keys", keys, (None, d)).astype(np.float32)
        value = np.zeros((len(vectors), self.m))
        near = np.zeros((len(vectors), self.m))
        if self.written.any():
            now = self.now if now is None else _check.number("now", now)
            for i, code in enumerate(self._codes(vectors)):
                self._near(vectors[i], code, now, value[i], near[i])
        return value, near

    def forget(self) -> None:
        """Empty it, as when what the values were errors of has changed."""
        self.written[:] = 0
        self.slots[:] = -1
        self.heads[:] = 0

    def _codes(self, vectors: NDArray[np.float32]) -> Int:
        """Bucket of each key in each table, (n, tables)."""
        # key by key, so that a bit never hangs on the size of the batch
        side = np.einsum("lbd,nd->nlb", self.planes, vectors) > 0
        return np.asarray(side @ (1 << np.arange(self.planes.shape[1])), dtype=np.int64)

    def _near(
        self, vector: NDArray[np.float32], code: Int, now: float, value: Float, mass: Float
    ) -> None:
        """One key's row of `read`, filled in."""
        size = self.keys.shape[1]
        found = self.slots[:, np.arange(len(code)), code].reshape(self.m, -1)
        found.sort(axis=1)
        new = found >= np.maximum(self.written - size, 0)[:, None]
        new[:, 1:] &= found[:, 1:] != found[:, :-1]
        at = found % size
        if self.age < math.inf:
            new &= now - np.take_along_axis(self.when, at, axis=1) <= self.age
        column, place = np.nonzero(new)
        near = np.full(found.shape, -np.inf)
        near[column, place] = self.keys[column, at[column, place]] @ vector
        most = found.shape[1] - self.k
        if most > 0:
            near[near < np.partition(near, most, axis=1)[:, most, None]] = -np.inf
        best = near.max(axis=1, keepdims=True)
        weight = np.exp((near - np.where(np.isfinite(best), best, 0.0)) / self.tau)
        mean = (weight * np.take_along_axis(self.values, at, axis=1)).sum(axis=1)
        total = weight.sum(axis=1)
        value[:] = mean / np.where(total > 0, total, 1.0)
        mass[:] = np.maximum(near, 0.0).sum(axis=1)


def empty_memory(
    m: int,
    d: int,
    *,
    k: int = 50,
    tau: float = 0.1,
    tables: int = 4,
    bits: int = 8,
    slots: int = 50,
    size: int = 2000,
    age: float = math.inf,
    rng: Generator,
) -> RecentMemory:
    """A memory with nothing in it.

    Parameters
    ----------
    m, d : int
        Columns, and length of a key; >= 1.
    k : int
        Most neighbours read, >= 1.
    tau : float
        Temperature of their weights, > 0.
    tables, bits : int
        Hash tables, >= 1, of 2^bits buckets each; bits in [0, 16].
    slots : int
        Entries a bucket holds, >= 1.
    size : int
        Entries a column holds, >= 1.
    age : float
        Entries older than this are not read; > 0, may be infinite.
    rng : Generator
        Draws the hyperplanes.

    Raises
    ------
    InputError
        A value is out of range.
    """
    m, d = _check.integer("m", m, low=1), _check.integer("d", d, low=1)
    tables = _check.integer("memory.tables", tables, low=1)
    bits = _check.integer("memory.bits", bits, low=0, high=16)
    slots = _check.integer("memory.slots", slots, low=1)
    size = _check.integer("memory.size", size, low=1)
    if not age > 0:
        raise InputError("memory.age", "be a number > 0", age, "math.inf keeps everything.")
    return RecentMemory(
        planes=rng.standard_normal((tables, bits, d)).astype(np.float32),
        keys=np.zeros((m, size, d), dtype=np.float32),
        values=np.zeros((m, size)),
        when=np.zeros((m, size)),
        written=np.zeros(m, dtype=np.int64),
        slots=np.full((m, tables, 1 << bits, slots), -1, dtype=np.int64),
        heads=np.zeros((m, tables, 1 << bits), dtype=np.int64),
        clock=np.zeros(1),
        k=_check.integer("memory.k", k, low=1),
        tau=_check.number("memory.tau", tau, low=1e-9),
        age=float(age),
    )

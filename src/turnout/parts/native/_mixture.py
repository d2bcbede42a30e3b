"""The compiled form of a text and mixture of words and form, as Python sees them.

See `turnout.parts.native._text` for how calls share memory: they do not.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError
from turnout.core._check import Float
from turnout.parts.native import _text

__all__ = ["FormReader", "MixtureKernel"]


class _Room(ctypes.Structure):
    """Mirrors `Room` of form.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("kind", "words", "lines", "table", "lengths")),
        ("slots", ctypes.c_int64),
    ]


class _Mix(ctypes.Structure):
    """Mirrors `Mix` of text.cpp, field by field."""

    _fields_ = [
        ("room", _Room),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("roots", "nodes", "value"),
                *("line", "picked"),
            )
        ),
        *((name, ctypes.c_int64) for name in ("m", "k")),
        *((name, ctypes.c_double) for name in ("unknown", "trust", "spread")),
        ("trees", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("form", "sums")),
    ]


def _room(kind: NDArray[np.uint8], most: int) -> tuple[_Room, tuple[NDArray[Any], ...]]:
    """Memory to read a text of at most `most` words, and what keeps it."""
    slots = 1 << (2 * most).bit_length()
    words, lines = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint64)
    table, lengths = np.empty(slots, dtype=np.uint64), np.empty(most, dtype=np.int32)
    kept = (kind, words, lines, table, lengths)
    return _Room(*(values.ctypes.data for values in kept), slots), kept


@final
class FormReader:
    """Reads the form of one text after another; for one thread.

    Parameters
    ----------
    library : ctypes.CDLL
    kind : array of uint8 (256,)
        What each byte is.
    columns : int
    most : int
        Words that a text can have.
    """

    def __init__(
        self, library: ctypes.CDLL, kind: NDArray[np.uint8], columns: int, most: int
    ) -> None:
        self._call = _text.keeping(library).turnout_text_form
        room, self._kept = _room(kind, most)
        self._room = room
        self._out = np.empty(columns, dtype=np.float32)
        self._pointer = ctypes.c_void_p(self._out.ctypes.data)

    def read(self, raw: bytes) -> NDArray[np.float32]:
        """The numbers of a text in UTF-8; the array is used again by the next call."""
        self._call(ctypes.byref(self._room), raw, len(raw), self._pointer)
        return self._out


@final
class MixtureKernel:
    """Decides by words and form, in compiled code.

    The arrays are read where they are, and must not change. Pickled or copied, it is None.

    Parameters
    ----------
    words : TextKernel
        Reads the words: the scores of m destinations, then the topics. Expects the cost.
    library : ctypes.CDLL
    plain : callable
        What is read of a text as it came, as UTF-8.
    kind : array of uint8 (256,)
    most : int
        Words that a text can have.
    columns : int
        Numbers that the forest reads: the form, then the topics.
    forest : tuple of array
        Roots, nodes and values of a `Forest`.
    line : array (2, m)
        Base and level of a `Mixture`.
    picked : array of int64 (k,)
        The destinations to choose from.
    unknown, trust, spread : float
        Of a `Mixture`.

    Raises
    ------
    InputError
        An array has another size, type or order.
    """

    __slots__ = (
        "_arrays",
        "_call",
        "_columns",
        "_free",
        "_kind",
        "_most",
        "_numbers",
        "_plain",
        "_words",
    )

    def __init__(
        self,
        words: _text.TextKernel,
        library: ctypes.CDLL,
        *,
        plain: Callable[[str], bytes],
        kind: NDArray[np.uint8],
        most: int,
        columns: int,
        forest: tuple[NDArray[Any], ...],
        line: Float,
        picked: NDArray[np.int64],
        unknown: float,
        trust: float,
        spread: float,
    ) -> None:
        roots, nodes, value = forest
        m = value.shape[1]
        types = ("i4", "i4", "f4", "f8", "i8")
        k = len(picked)
        sizes = (len(roots), 4 * len(nodes), len(value) * m, 2 * m, k)
        arrays = (*forest, line, picked)
        for values, type_, size in zip(arrays, types, sizes, strict=True):
            # the kernel cannot tell, and would read whatever lies there
            if values.dtype != type_ or values.size != size or not values.flags.c_contiguous:
                raise InputError("mixture", f"hold {size} of {type_}", values.dtype.name)
        self._words = words
        self._arrays, self._numbers = arrays, (m, k, unknown, trust, spread, len(roots))
        self._plain = plain
        self._kind, self._most, self._columns = kind, most, columns
        self._call: Any = _text.keeping(library).turnout_text_mix
        self._free: list[tuple[_text.Scratch, Any, tuple[Any, ...]]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def decide(self, text: str, price: float) -> tuple[int, list[float], list[float]]:
        """Which destination is best at a price, -1 if not one alone; quality and cost of each."""
        lower = self._words.read(text)
        raw = lower if text.isascii() else self._plain(text)
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = self._scratch()
        (job, given, made, cost, _), mix, _ = scratch
        given[0] = price
        given[1] = len(text)
        best = self._call(job, mix, lower, len(lower), raw, len(raw))
        k = self._numbers[1]
        found = best, made[:k].tolist(), cost[:k].tolist()
        self._free.append(scratch)
        return found

    def _scratch(self) -> tuple[_text.Scratch, Any, tuple[Any, ...]]:
        room, kept = _room(self._kind, self._most)
        form = np.empty(self._columns, dtype=np.float32)
        sums = array("d", bytes(8 * self._numbers[0]))
        mix = _Mix(
            room,
            *(values.ctypes.data for values in self._arrays),
            *self._numbers,
            *(form.ctypes.data, sums.buffer_info()[0]),
        )
        return self._words.scratch(), ctypes.byref(mix), (kept, form, sums, mix)

"""The compiled reader of texts, as Python sees it.

A call keeps the interpreter's lock: it takes microseconds, and who gives the lock away may wait
milliseconds to have it back. What a call writes is its own: each takes a scratch from a list, or
makes one, and puts it back when it has read the answer. So a list holds as many as ever ran at
once, threads never meet, and nothing is allocated while one thread decides.
"""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError
from turnout.core._check import Float
from turnout.parts.native import Source, compiler, once, wanted

#: The interface that is spoken here; see `turnout_text_version` in text.cpp.
VERSION = 2
#: Characters below this are known to be changed by lower case or not; CASED of text.cpp.
_CASED = 0x20000
_FOLDER = Path(__file__).parent
# Products and sums are rounded one by one, as numpy and Python do.
_COMMON = ("-std=c++17", "-O3", "-ffp-contract=off", "-fPIC", "-shared")
_STATE: dict[str, ctypes.CDLL | None] = {}

_POINTERS = ("kind", "code", "power", "ids", "keys", "table", "intercept", "lines")
_NUMBERS = ("shift", "d", "m")
_SCRATCH = ("words", "seen", "sums", "given", "made", "cost")
#: Job, given, made, cost, and the memory that only the kernel looks at.
Scratch = tuple[Any, "array[float]", "array[float]", "array[float]", tuple[Any, ...]]


class _Job(ctypes.Structure):
    """Mirrors `Job` of text.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("pair", ctypes.c_uint64),
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _SCRATCH),
    ]


def library() -> ctypes.CDLL | None:
    """The kernel if this process has it already."""
    return _STATE.get("text")


def load(*, build: bool = False, seconds: float | None = None) -> str:
    """Have the kernel in this process from now on.

    Parameters
    ----------
    build : bool
        Compile it if it is not in the cache; else only look there.
    seconds : float, optional
        Wait no longer for the compiler, which goes on in a thread; by default wait for its end.

    Returns
    -------
    str
        Why there is no kernel, or the empty word if there is.
    """
    if not wanted():
        return "TURNOUT_NATIVE forbids it"
    if "text" not in _STATE:
        found = source().find()
        if found is not None:
            _STATE["text"] = found
        elif not build:
            return "it was not built"
        else:
            thread = threading.Thread(target=_obtain, name="compiler")
            thread.start()
            thread.join(seconds)
            if thread.is_alive():
                return "it is being built"
    if _STATE.get("text") is not None:
        _cased()  # now, and not in the first decision
        return ""
    return "there is no C++ compiler" if compiler() is None else "it could not be built"


def source() -> Source:
    """Where it is built from."""
    return Source(
        name="text",
        title="the text kernel",
        main=_FOLDER / "text.cpp",
        version=VERSION,
        symbol="turnout_text_version",
        common=_COMMON,
        flags=((),),
        typed=_typed,
        portable=True,
    )


def plain(library: ctypes.CDLL) -> Callable[[bytes], bool]:
    """What tells whether lower case changes only ASCII in a text in UTF-8.

    Most texts that are not ASCII are in scripts without capitals or have but a dash or an accent,
    and need not be put through `str.lower`, which is slow.
    """
    pointer = ctypes.c_void_p(_cased().ctypes.data)
    call = keeping(library).turnout_text_plain

    def check(raw: bytes) -> bool:
        return bool(call(pointer, raw, len(raw)))

    return check


@cache
def _cased() -> NDArray[np.uint64]:
    """A bit for each of the first 2^17 characters that `str.lower` changes, found by asking it."""
    changed = np.zeros(_CASED, dtype=np.uint8)
    for start in range(0, _CASED, 256):
        codes = np.arange(start, start + 256, dtype="<u4")
        page = codes.tobytes().decode("utf-32-le", "surrogatepass")
        if page.lower() != page:
            changed[start : start + 256] = [one.lower() != one for one in page]
    return np.packbits(changed, bitorder="little").view("<u8").astype(np.uint64)


def _obtain() -> None:
    """Have the library built, and what is needed to use it ready before that shows."""
    _cased()
    once("text", source, _STATE)


def keeping(library: ctypes.CDLL) -> ctypes.PyDLL:
    """The same library, called without giving the interpreter's lock away."""
    return ctypes.PyDLL(library._name, handle=library._handle)


def _typed(found: ctypes.CDLL) -> ctypes.CDLL:
    for name in ("plain", "score", "decide", "form", "mix"):
        getattr(found, f"turnout_text_{name}")
    return found


@final
class TextKernel:
    """Reads texts by compiled code, for the arrays of one scorer.

    The arrays are read where they are, and must not change. Compiled code belongs to a process:
    pickled or copied, a kernel is None.

    Parameters
    ----------
    library : ctypes.CDLL
    read : callable
        What is read of a text: lower-case UTF-8 of no more bytes than there are powers. Capitals
        of ASCII may stay.
    kind, code : array of uint8 (256,)
        Class of each byte, and what it adds to a hash.
    power : array of uint64 (limit,)
        Powers of the hash.
    pair : int
        Factor of a pair's first word.
    ids : array of int32 (2^bits,)
        Feature of each slot, d where it is empty.
    keys : array of uint64 (d + 1,)
        Hash of each feature, and one that no text asks for in an empty slot.
    bits : int
    table : array of float32 (d, m + 1)
        Weights, then the square of the length.
    intercept : array (m,)
    lines : array (3, m)
        Of each cost: at length zero, per character, at least.

    Raises
    ------
    InputError
        An array has another size, type or order.
    """

    __slots__ = ("_arrays", "_decide", "_free", "_numbers", "_read", "_score")

    def __init__(
        self,
        library: ctypes.CDLL,
        read: Callable[[str], bytes],
        *,
        kind: NDArray[np.uint8],
        code: NDArray[np.uint8],
        power: NDArray[np.uint64],
        pair: int,
        ids: NDArray[np.int32],
        keys: NDArray[np.uint64],
        bits: int,
        table: NDArray[np.float32],
        intercept: Float,
        lines: Float,
    ) -> None:
        d, m = table.shape[0], table.shape[1] - 1
        arrays: tuple[NDArray[Any], ...] = (
            *(kind, code, power, ids, keys),
            *(table, intercept, lines),
        )
        types = ("u1", "u1", "u8", "i4", "u8", "f4", "f8", "f8")
        sizes = (256, 256, len(power), 1 << bits, d + 1, d * (m + 1), m, 3 * m)
        for name, values, type_, size in zip(_POINTERS, arrays, types, sizes, strict=True):
            # the kernel cannot tell, and would read whatever lies there
            if values.dtype != type_ or values.size != size or not values.flags.c_contiguous:
                raise InputError(f"kernel.{name}", f"be {size} of {type_}", values.dtype.name)
        self._arrays = arrays
        self._numbers = (pair, 64 - bits, d, m)
        self._read = read
        self._score: Callable[[Any, bytes, int], int] = keeping(library).turnout_text_score
        self._decide: Callable[[Any, bytes, int], int] = keeping(library).turnout_text_decide
        self._free: list[Scratch] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def score(self, text: str) -> list[float]:
        """Scores of a text, m numbers."""
        raw = self._read(text)
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = self.scratch()
        self._score(scratch[0], raw, len(raw))
        made = scratch[2].tolist()
        self._free.append(scratch)
        return made

    def decide(self, text: str, price: float) -> tuple[int, list[float], list[float]]:
        """Which destination is best at a price, -1 if not one alone; quality and cost of each.

        Quality is the logistic function of the scores.
        """
        raw = self._read(text)
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = self.scratch()
        job, given, made, cost, _ = scratch
        given[0] = price
        given[1] = len(text)
        found = self._decide(job, raw, len(raw)), made.tolist(), cost.tolist()
        self._free.append(scratch)
        return found

    @property
    def m(self) -> int:
        """Number of destinations."""
        return int(self._numbers[3])

    def read(self, text: str) -> bytes:
        """What is read of a text, in lower case but for capitals of ASCII that may stay."""
        return self._read(text)

    def scratch(self) -> Scratch:
        """A job and the memory it writes to, for one call at a time."""
        pair, shift, d, m = self._numbers
        words = np.empty(len(self._arrays[2]) + 1, dtype=np.uint64)
        seen = np.empty(d // 64 + 1, dtype=np.uint64)
        sums = np.empty(m + 1)
        given, made, cost = (array("d", bytes(8 * size)) for size in (2, m, m))
        job = _Job(
            *(values.ctypes.data for values in self._arrays),
            *(pair, shift, d, m),
            *(values.ctypes.data for values in (words, seen, sums)),
            *(values.buffer_info()[0] for values in (given, made, cost)),
        )
        return ctypes.byref(job), given, made, cost, (words, seen, sums)

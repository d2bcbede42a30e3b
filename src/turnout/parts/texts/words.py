"""Words and word pairs of a text, as 64-bit hashes, and how much of a text is read.

A text is read as bytes of lower-case UTF-8. A *word* is a run of letters; every digit, every
punctuation mark and every character from U+0800 up (so each Chinese or Japanese character) is a
word of its own. One text costs some twenty array operations and no loop over its words:

    hash of a word      h = sum_i byte_i * B^(i + 1)                      mod 2^64
    hash of a pair      h = K * h(first) + h(second)                      mod 2^64

Any two of d words or pairs share a hash with probability about d^2 / 2^65, one in ten billion for
60,000. Only the first and last `READ / 2` characters of a longer text are read, so the time of a
decision has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError, Inputs
from turnout.core._check import Int

__all__ = [
    "CLASS",
    "CODE",
    "LIMIT",
    "PAIR",
    "READ",
    "Grams",
    "clipped",
    "grams",
    "grams_of",
    "powers",
    "read",
    "surfaces",
    "texts_of",
]

#: Characters read of one text, half from its start and half from its end.
READ = 8192

Keys = NDArray[np.uint64]
LIMIT = 4 * READ + 8  # bytes: a character takes at most four
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse mod 2^64
PAIR = 0xD6E8FEB86659FD93
# Arrays of no dimension: numpy meets them sooner than its own scalars.
_PAIR = np.array(PAIR, dtype=np.uint64)
_ONE = np.array(1, dtype=np.uint8)
# A byte opens a word if its class is above the lowest bit of the class before it: a letter goes on
# a word that a letter or a leading byte opened, a mark stands alone, a space opens nothing.
_SPACE, _LETTER, _MARK, _LEAD = 0, 1, 2, 3


def _classes() -> bytes:
    kinds = bytearray(256)
    for byte in range(256):
        if byte >= 0xE0:
            kinds[byte] = _LEAD
        elif byte >= 0x80 or chr(byte).isalpha():
            kinds[byte] = _LETTER
        elif byte > 32 and byte != 127:
            kinds[byte] = _MARK
    return bytes(kinds)


CLASS = _classes()
#: Spaces as 0, so that they add nothing to a hash; capitals as small letters, the rest as it is.
CODE = bytes(
    0 if kind == _SPACE else byte
    for byte, kind in zip(bytes(range(256)).lower(), CLASS, strict=True)
)


@cache
def powers() -> tuple[Keys, Keys]:
    """B^(i + 1) and B^-i mod 2^64: a word that starts at byte i is hashed as if it started at 0."""
    steps = np.full(LIMIT, _BASE, dtype=np.uint64)
    back = np.full(LIMIT, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    back[0] = 1
    return np.cumprod(steps, dtype=np.uint64), np.cumprod(back, dtype=np.uint64)


def clipped(text: str) -> str:
    """What is read of a text: all of it, or its start and its end."""
    if len(text) <= READ:
        return text
    return f"{text[: READ // 2]} {text[-READ // 2 :]}"


def read(text: str, plain: Callable[[bytes], bool] | None = None) -> bytes:
    """What is read of a text, in lower case save for capitals of ASCII.

    `plain` may tell of a text that there are no others in it.
    """
    text = clipped(text)
    if text.isascii():
        return text.encode()
    if plain is not None:
        raw = text.encode("utf-8", "surrogatepass")
        if plain(raw):
            return raw
    return text.lower().encode("utf-8", "surrogatepass")[:LIMIT]


def grams(text: str) -> Keys:
    """Hashes of the words and word pairs of a text, repeated where they are: n, then n - 1."""
    raw = read(text)
    kinds = np.frombuffer(b"\0" + raw.translate(CLASS), dtype=np.uint8)
    start = (kinds[1:] > (kinds[:-1] & _ONE)).nonzero()[0]
    n = len(start)
    if not n:
        return np.empty(0, dtype=np.uint64)
    power, inverse = powers()
    value = np.frombuffer(raw.translate(CODE), dtype=np.uint8) * power[: len(raw)]
    hashes = np.empty(2 * n - 1, dtype=np.uint64)
    word, pair = hashes[:n], hashes[n:]
    # Spaces have code 0, so the sum up to the next word is the sum over this one.
    np.add.reduceat(value, start, out=word)
    word *= inverse.take(start)
    np.multiply(word[:-1], _PAIR, out=pair)
    pair += word[1:]
    return hashes


def surfaces(text: str) -> list[str]:
    """The words and word pairs of a text as they are read, in the order of `grams`.

    In lower case; runs of spaces are one, and what cannot be printed is U+FFFD.
    """
    raw = read(text).lower()
    kinds = np.frombuffer(b"\0" + raw.translate(CLASS), dtype=np.uint8)
    start = (kinds[1:] > (kinds[:-1] & _ONE)).nonzero()[0].tolist()

    def shown(first: int, end: int) -> str:
        piece = "".join(
            mark if mark.isprintable() else " " if mark.isspace() else "\ufffd"
            for mark in raw[first:end].decode("utf-8", "replace")
        )
        return " ".join(piece.split())

    ends = [*start, len(raw)][1:]
    words = [shown(*span) for span in zip(start, ends, strict=True)]
    return words + [shown(*span) for span in zip(start, ends[1:], strict=False)]


def texts_of(inputs: Inputs) -> Sequence[str]:
    """The inputs themselves if they are texts.

    Raises
    ------
    InputError
        They are numbers, or one of them is no string.
    """
    if isinstance(inputs, str) or (isinstance(inputs, np.ndarray) and inputs.ndim != 1):
        got = "one string" if isinstance(inputs, str) else f"an array {inputs.shape}"
        hint = "This method reads text; pass a list of strings."
        raise InputError("inputs", "be a sequence of strings", got, hint)
    for row, text in enumerate(inputs):
        if not isinstance(text, str):
            hint = "This method reads text; convert it."
            raise InputError(f"inputs[{row}]", "be a string", text, hint)
    return cast("Sequence[str]", inputs)


@dataclass(frozen=True, eq=False)
class Grams:
    """The hashes of many texts, each text's repeated where they are.

    Parameters
    ----------
    keys : array of uint64 (g,)
        Those of the first text, then those of the second, and so on.
    ends : array of int (n,)
        Where each text's end in `keys`.
    """

    keys: Keys
    ends: Int
    row: Int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = np.diff(self.ends, prepend=0)
        object.__setattr__(self, "row", np.repeat(np.arange(len(sizes)), sizes))

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, rows: Int) -> Grams:
        """Those of some texts, which are numbered anew."""
        starts = np.append(0, self.ends[:-1])[rows]
        sizes = self.ends[rows] - starts
        ends = np.cumsum(sizes)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        return Grams(self.keys[np.repeat(starts, sizes) + inside], ends)


def grams_of(inputs: Inputs) -> Grams:
    """Hashes of texts.

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    found = [grams(text) for text in texts_of(inputs)]
    ends = np.cumsum([len(keys) for keys in found], dtype=np.int64)
    return Grams(np.concatenate([np.empty(0, dtype=np.uint64), *found]), ends)

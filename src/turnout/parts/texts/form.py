"""The form of a text in 44 numbers: its size, its lines, its words' lengths, its signs.

None needs a vocabulary or knows a language, so what is learnt from them about one kind of prompt
holds for kinds never seen: whether there are options below a question, whether they are numbers,
names or sentences, how long and how rare the words look, how much is computed or quoted.

A text is read as bytes of UTF-8, as much of it as `turnout.parts.texts.words` reads. A *word* is a
run of letters (every byte of a character beyond ASCII counts as one), two are the same whatever the
case of ASCII; a *number* is a run of digits; a *line* is what stands between two ends of line, less
the space around it, if anything is left. Lengths of words and lines are in bytes. The *rest* is all
lines but the first. A share of nothing is 0.

Everything is counted in whole numbers and then put through sums, products, quotients and roots,
which every machine rounds alike: compiled code (`turnout.parts.native`) gives the same bits.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from turnout.core import Inputs
from turnout.parts.native import _text
from turnout.parts.native._mixture import FormReader
from turnout.parts.texts.words import READ, clipped, texts_of

__all__ = ["COLUMNS", "KIND", "MOST_WORDS", "encoded", "form_of", "forms_of"]

#: What each column says, in order.
COLUMNS = (
    "characters",
    "words",
    "lines",
    "length of the first line",
    "mean length of a line",
    "spread of line lengths, in means",
    "mean length of the rest's lines",
    "spread of the rest's line lengths, in means",
    "longest line of the rest, in means",
    "mean length of a word",
    "spread of word lengths",
    "longest word",
    "upper quartile of word lengths",
    "share of words of nine letters or more",
    "share of words of three letters or fewer",
    "share of words that are new",
    "share of digits",
    "share of capitals",
    "share of signs",
    "share of characters beyond ASCII",
    "numbers",
    "numbers a word",
    "longest number",
    "share of signs of arithmetic",
    "share of brackets",
    "share of dollar signs",
    "share of per cent signs",
    "share of quotation marks",
    "commas a word",
    "share of underscores",
    "question marks",
    "share of apostrophes",
    "share of semicolons",
    "share of hyphens",
    "sentences",
    "characters a sentence",
    "first line ends in a question mark",
    "first line ends in a full stop",
    "first line ends in a colon",
    "words that neighbouring lines of the rest share, mean",
    "words that neighbouring lines of the rest share, most",
    "share of the rest's lines with a digit",
    "share of the rest's lines with a capital after a space",
    "different words of the last line, a word",
)

_Bytes = NDArray[np.uint8]
_LONG, _SHORT = 9, 3  # letters of a long word at least, of a short one at most
_LETTER, _DIGIT, _CAPITAL, _SPACE = 1, 2, 4, 8
_SIGNS = b"($%\",_?';-"
_STOPS = np.frombuffer(b".!?", dtype=np.uint8)


def _kinds() -> _Bytes:
    """What each byte is, as bits."""
    kinds = np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        one = chr(byte)
        kinds[byte] = (
            _LETTER * (byte >= 0x80 or one.isalpha())
            + _DIGIT * (byte < 0x80 and one.isdigit())
            + _CAPITAL * (byte < 0x80 and one.isupper())
            + _SPACE * (byte <= 32 or byte == 127)
        )
    return kinds


#: What each byte is: letter 1, digit 2, capital 4, space 8, added up.
KIND = _kinds()
#: Words that what is read of a text can have at most, each with something that parts it.
MOST_WORDS = READ // 2 + 2


def _tallied() -> NDArray[np.int64]:
    """Which bytes each count counts, (15, 256)."""
    byte = np.arange(256)
    rows = [
        (byte < 0x80) | (byte >= 0xC0),
        byte >= 0xC0,
        KIND & _DIGIT,
        KIND & _CAPITAL,
        (byte > 32) & (byte < 127) & ((KIND & (_LETTER | _DIGIT)) == 0),
        np.isin(byte, np.frombuffer(b"=+*/^<>\\", dtype=np.uint8)),
        *(byte == sign for sign in _SIGNS),
    ]
    return np.array([np.asarray(row) != 0 for row in rows], dtype=np.int64)


_TALLIED = _tallied()


def encoded(text: str) -> bytes:
    """What is read of a text: UTF-8, in which half a surrogate pair is a character of its own."""
    return clipped(text).encode("utf-8", "surrogatepass")


def form_of(text: str) -> list[float]:
    r"""The 44 numbers of one text, in the order of `COLUMNS`.

    Examples
    --------
    >>> form = dict(zip(COLUMNS, form_of("How many?\n12\n144"), strict=True))
    >>> form["lines"], form["share of the rest's lines with a digit"]
    (3.0, 1.0)
    """
    raw = encoded(text)
    found = np.frombuffer(raw, dtype=np.uint8)
    kind = KIND.take(found)
    counts = (_TALLIED @ np.bincount(found, minlength=256)).tolist()
    characters, beyond, digits, capitals, signs, maths, *single = counts
    opens, dollars, percents, quotes, commas, blanks, asks, apostrophes, semicolons, dashes = single
    starts, lengths = _runs(kind, _LETTER)
    words = len(starts)
    size, each = max(characters, 1), max(words, 1)
    number, digit_runs = _runs(kind, _DIGIT)
    ends = np.isin(found[:-1], _STOPS) & ((kind[1:] & _SPACE) != 0)
    sentences = 1 + int(np.count_nonzero(ends))
    first, last = _lines(found, kind)
    keys = [word.lower() for word in _cut(raw, starts, lengths)]
    close = raw[last[0] : last[0] + 1] if len(last) else b""
    return [
        float(characters),
        float(words),
        float(len(first)),
        *_of_lines(first, last),
        *_of_words(lengths),
        len(set(keys)) / each,
        digits / size,
        capitals / size,
        signs / size,
        beyond / size,
        float(len(number)),
        len(number) / each,
        float(digit_runs.max(initial=0)),
        maths / size,
        opens / size,
        dollars / size,
        percents / size,
        quotes / size,
        commas / each,
        blanks / size,
        float(asks),
        apostrophes / size,
        semicolons / size,
        dashes / size,
        float(sentences),
        characters / sentences,
        float(close == b"?"),
        float(close == b"."),
        float(close == b":"),
        *_of_rest(kind, first, last, starts, keys),
    ]


def forms_of(inputs: Inputs) -> NDArray[np.float32]:
    """The 44 numbers of texts, (n, 44), in single precision.

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    texts = texts_of(inputs)
    result = np.empty((len(texts), len(COLUMNS)), dtype=np.float32)
    library = _text.library()
    if library is None:
        for row, text in enumerate(texts):
            result[row] = form_of(text)
        return result
    reader = FormReader(library, KIND, len(COLUMNS), MOST_WORDS)
    for row, text in enumerate(texts):
        result[row] = reader.read(encoded(text))
    return result


def _runs(kind: _Bytes, what: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and length of each run of bytes of a kind."""
    inside = np.zeros(len(kind) + 2, dtype=np.int8)
    inside[1:-1] = (kind & what) != 0
    turns = np.flatnonzero(inside[1:] != inside[:-1])
    return turns[::2], turns[1::2] - turns[::2]


def _lines(found: _Bytes, kind: _Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last byte of each line that is not all space."""
    at = np.flatnonzero((kind & _SPACE) == 0)
    number = np.cumsum(found == ord("\n"))[at]
    opens = np.flatnonzero(np.diff(number, prepend=-1))
    return at[opens], at[np.append(opens[1:], len(at)) - 1] if len(at) else at


def _of_lines(first: NDArray[np.int64], last: NDArray[np.int64]) -> list[float]:
    """Six columns on the lengths of lines."""
    lengths: list[int] = (last - first + 1).tolist()
    mean, spread = _mean_spread(lengths)
    rest, wide = _mean_spread(lengths[1:])
    longest = max(lengths[1:], default=0)
    return [
        float(lengths[0]) if lengths else 0.0,
        mean,
        spread / max(mean, 1.0),
        rest,
        wide / max(rest, 1.0),
        longest / max(rest, 1.0),
    ]


def _of_words(lengths: NDArray[np.int64]) -> list[float]:
    """Six columns on the lengths of words."""
    ordered: list[int] = np.sort(lengths).tolist()
    n = len(ordered)
    if n == 0:
        return [0.0] * 6
    long = sum(one >= _LONG for one in ordered) / n
    short = sum(one <= _SHORT for one in ordered) / n
    return [*_mean_spread(ordered), float(ordered[-1]), float(ordered[3 * n // 4]), long, short]


def _of_rest(
    kind: _Bytes,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    starts: NDArray[np.int64],
    keys: list[bytes],
) -> list[float]:
    """Five columns on what stands in the lines after the first."""
    n = len(first) - 1
    if n < 1:
        return [0.0] * 5
    after = np.searchsorted(starts, first).tolist()
    sets = [set(keys[a:b]) for a, b in zip(after[1:], [*after[2:], len(keys)], strict=True)]
    shared = []
    for one, other in pairwise(sets):
        both = len(one & other)
        shared.append(both / max(len(one) + len(other) - both, 1))
    total = 0.0
    for share in shared:
        total += share
    digit = _lines_with((kind & _DIGIT) != 0, first[1:], last[1:])
    opening = np.zeros(len(kind), dtype=np.bool_)
    opening[1:] = ((kind[1:] & _CAPITAL) != 0) & ((kind[:-1] & _SPACE) != 0)
    # the first byte of a line has a space before it that is not the line's
    capital = _lines_with(opening, first[1:] + 1, last[1:])
    return [
        total / max(len(shared), 1),
        max(shared, default=0.0),
        digit / n,
        capital / n,
        len(sets[-1]) / max(len(keys), 1),
    ]


def _lines_with(
    wanted: NDArray[np.bool_], first: NDArray[np.int64], last: NDArray[np.int64]
) -> int:
    """In how many lines a wanted byte stands."""
    before = np.append(0, np.cumsum(wanted))
    return int(np.count_nonzero(before[last + 1] > before[first]))


def _cut(raw: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[bytes]:
    """The words themselves."""
    ends = (starts + lengths).tolist()
    return [raw[start:end] for start, end in zip(starts.tolist(), ends, strict=True)]


def _mean_spread(values: list[int]) -> tuple[float, float]:
    """Mean and standard deviation of whole numbers, by way of their exact sums."""
    n = len(values)
    if n == 0:
        return 0.0, 0.0
    total, squares = sum(values), sum(value * value for value in values)
    return total / n, sqrt(n * squares - total * total) / n

"""Words and word pairs of a text as sparse features, quick enough for one text at a time.

A text is read as bytes of lower-case UTF-8. A *word* is a run of letters; every digit, every
punctuation mark and every character from U+0800 up (so each Chinese or Japanese character) is a
word of its own. Features are the distinct words and distinct pairs of neighbouring words, found by
64-bit hashes, so that one text costs some twenty array operations and no loop over its words:

    hash of a word      h = sum_i byte_i * B^(i + 1)                      mod 2^64
    hash of a pair      h = K * h(first) + h(second)                      mod 2^64
    value of feature f  x_f = idf_f / sqrt(sum of idf_g^2 over the known features g present)
    weight of rarity    idf_f = 1 + log((1 + n) / (1 + texts with f))

Any two features share a hash with probability about d^2 / 2^65, one in ten billion for 60,000.
A feature counts once however often it stands in the text: on prompts that ranks better than counts.

Only the first and last `READ / 2` characters of a longer text are read, so the time of a decision
has a bound.

Compiled code makes the same scores some ten times as fast (`TextScorer.use_kernel`), to the bit:
the table is rounded so that its sums are exact in whatever order they are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import frexp, ldexp, sqrt
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError, Inputs, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel
from turnout.parts.native import _text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["READ", "TextFeatures", "TextScorer", "learn_features", "texts_of"]

#: Characters read of one text, half from its start and half from its end.
READ = 8192

_Keys = NDArray[np.uint64]
_LIMIT = 4 * READ + 8  # bytes: a character takes at most four
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse mod 2^64
_FIRST = 0xD6E8FEB86659FD93
# Arrays of no dimension: numpy meets them sooner than its own scalars.
_PAIR = np.array(_FIRST, dtype=np.uint64)
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


_CLASS = _classes()
#: Spaces as 0, so that they add nothing to a hash; capitals as small letters, the rest as it is.
_CODE = bytes(
    0 if kind == _SPACE else byte
    for byte, kind in zip(bytes(range(256)).lower(), _CLASS, strict=True)
)
#: Bits of the number of features that a text can have.
_MOST = (2 * _LIMIT).bit_length()


@cache
def _powers() -> tuple[_Keys, _Keys]:
    """B^(i + 1) and B^-i mod 2^64: a word that starts at byte i is hashed as if it started at 0."""
    steps = np.full(_LIMIT, _BASE, dtype=np.uint64)
    back = np.full(_LIMIT, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    back[0] = 1
    return np.cumprod(steps, dtype=np.uint64), np.cumprod(back, dtype=np.uint64)


def _raw(text: str, plain: Callable[[bytes], bool] | None = None) -> bytes:
    """What is read of a text, in lower case save for capitals of ASCII.

    `plain` may tell of a text that there are no others in it.
    """
    if len(text) > READ:
        text = f"{text[: READ // 2]} {text[-READ // 2 :]}"
    if text.isascii():
        return text.encode()
    if plain is not None:
        raw = text.encode("utf-8", "surrogatepass")
        if plain(raw):
            return raw
    return text.lower().encode("utf-8", "surrogatepass")[:_LIMIT]


def _grams(text: str) -> _Keys:
    """Hashes of the words and word pairs of a text, repeated where they are: n, then n - 1."""
    raw = _raw(text)
    kinds = np.frombuffer(b"\0" + raw.translate(_CLASS), dtype=np.uint8)
    start = (kinds[1:] > (kinds[:-1] & _ONE)).nonzero()[0]
    n = len(start)
    if not n:
        return np.empty(0, dtype=np.uint64)
    power, inverse = _powers()
    value = np.frombuffer(raw.translate(_CODE), dtype=np.uint8) * power[: len(raw)]
    hashes = np.empty(2 * n - 1, dtype=np.uint64)
    word, pair = hashes[:n], hashes[n:]
    # Spaces have code 0, so the sum up to the next word is the sum over this one.
    np.add.reduceat(value, start, out=word)
    word *= inverse.take(start)
    np.multiply(word[:-1], _PAIR, out=pair)
    pair += word[1:]
    return hashes


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The distinct values of a sorted array; `numpy.unique` without its overhead."""
    if len(values) < 2:
        return values
    new = np.empty(len(values), dtype=np.bool_)
    new[0] = True
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return values[new]


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """A vocabulary of d words and word pairs.

    Their order is free; with the commonest first, what is gathered most lies together in memory.

    Parameters
    ----------
    keys : array of uint64 (d,)
        Hash of each feature. The first `bits` bits of each are its own.
    idf : array of float32 (d,)
        Weight of its rarity, > 0.
    bits : int
        The vocabulary is looked up in a table of 2^bits slots, 1 to 30.

    Raises
    ------
    InputError
        Two keys want one slot, or a weight is not positive.
    """

    keys: _Keys
    idf: NDArray[np.float32]
    bits: int
    _known: _Keys = field(init=False, repr=False)
    _ids: NDArray[np.int32] = field(init=False, repr=False)
    _shift: NDArray[np.uint64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        bits = _check.integer("features.bits", self.bits, low=1, high=30)
        keys = np.asarray(self.keys)
        shift = np.array(64 - bits, dtype=np.uint64)
        wrong = keys.dtype != np.uint64 or keys.ndim != 1
        if wrong or len(np.unique(keys >> shift)) < len(keys):
            rule = f"be uint64 (d,), no two alike in their first {bits} bits"
            hint = "Take them from learn_features."
            raise InputError("features.keys", rule, keys.dtype.name, hint)
        idf = _check.floats("features.idf", self.idf, (len(keys),), low=1e-6)
        object.__setattr__(self, "bits", bits)
        # One more, for empty slots: the first key has a slot, so nothing equal looks elsewhere.
        known = np.append(keys, keys[:1] if len(keys) else np.uint64(0))
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "keys", _check.frozen(known[:-1]))
        object.__setattr__(self, "idf", _check.frozen(idf.astype(np.float32)))
        ids = np.full(1 << bits, len(keys), dtype=np.int32)
        ids[(keys >> shift).view(np.int64)] = np.arange(len(keys), dtype=np.int32)
        object.__setattr__(self, "_ids", ids)
        object.__setattr__(self, "_shift", shift)

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.keys)

    def occurrences(self, text: str) -> NDArray[np.int32]:
        """Known features of one text, repeated where they are, in increasing order."""
        if not len(self.keys):
            return np.empty(0, dtype=np.int32)
        key = _grams(text)
        # the view is free, and what `take` indexes by
        asked = self._ids.take((key >> self._shift).view(np.int64))
        found: NDArray[np.int32] = asked[self._known.take(asked) == key]
        found.sort()
        return found

    def find(self, text: str) -> NDArray[np.int32]:
        """Known features of one text, distinct and increasing, (f,)."""
        return _distinct(self.occurrences(text))

    def transform(self, inputs: Inputs) -> csr_matrix:
        """Features of texts, (n, d) float32 with rows of length 1 (0 where nothing is known).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        from scipy.sparse import csr_matrix

        found = [self.find(text) for text in texts_of(inputs)]
        ends = np.cumsum([0, *(len(ids) for ids in found)])
        index = np.concatenate([np.empty(0, dtype=np.int32), *found])
        value = self.idf.take(index)
        row = np.repeat(np.arange(len(found)), np.diff(ends))
        norm = np.sqrt(np.bincount(row, value.astype(np.float64) ** 2, minlength=len(found)))
        value = (value / norm[row]).astype(np.float32)
        return csr_matrix((value, index, ends), shape=(len(found), self.d))


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


def learn_features(inputs: Inputs, *, min_df: int = 2, max_features: int = 60_000) -> TextFeatures:
    """The vocabulary of some texts.

    Parameters
    ----------
    inputs : sequence of str (n,)
    min_df : int
        A feature must stand in this many texts.
    max_features : int
        Keep at most these many: those in most texts, ties by hash.

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    grams = [_distinct(np.sort(_grams(text))) for text in texts_of(inputs)]
    keys, df = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *grams]), return_counts=True)
    often = df >= min_df
    keys, df = keys[often], df[often]
    kept = np.argsort(-df, kind="stable")[:max_features]
    keys, df = keys[kept], df[kept]
    # One slot a feature, so that one look finds it or rules it out: in a table seven eighths empty
    # few want the same one, and of those the commonest stays.
    bits = max(16, int(np.ceil(np.log2(8 * max(len(keys), 1)))))
    _, first = np.unique(keys >> np.uint64(64 - bits), return_index=True)
    first.sort()
    keys, df = keys[first], df[first]
    idf = 1.0 + np.log((1 + len(grams)) / (1 + df))
    return TextFeatures(keys, idf.astype(np.float32), bits)


def _round(table: NDArray[np.float32]) -> None:
    """Put columns in steps so large that sums of any features of a text are exact in float64.

    A step is 2^-36 of the greatest value or less, far below what float32 tells apart there. The
    last column is positive, and stays so.
    """
    for column in table.T:  # one by one, so that no large array is made on the way
        most = float(np.abs(column).max(initial=0.0))
        step = ldexp(1.0, frexp(most)[1] + _MOST - 53)
        column[:] = np.rint(column / np.float64(step)) * step
    np.maximum(column, np.float32(step), out=column)


@dataclass(frozen=True, eq=False)
class TextScorer:
    """Linear scores of texts, `x . weights + intercept`, compiled to one table.

    Parameters
    ----------
    features : TextFeatures
    weights : array of float32 (d, m)
    intercept : array (m,)
    """

    features: TextFeatures
    weights: NDArray[np.float32]
    intercept: Float
    _table: NDArray[np.float32] = field(init=False, repr=False)
    _shift: tuple[float, ...] = field(init=False, repr=False)
    _kernel: _text.TextKernel | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        intercept = _check.floats("scorer.intercept", self.intercept, (None,))
        shape = (self.features.d, len(intercept))
        weights = _check.floats("scorer.weights", self.weights, shape).astype(np.float32)
        idf = self.features.idf[:, None]
        object.__setattr__(self, "intercept", intercept)
        object.__setattr__(self, "weights", _check.frozen(weights))
        # One gather and one sum give the scores and, in the last column, the squared length.
        table = np.ascontiguousarray(np.hstack((weights * idf, idf * idf)))
        _round(table)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_shift", tuple(intercept.tolist()))

    def score(self, text: str) -> list[float]:
        """Scores of one text, m numbers: by compiled code if it is there, else by arrays."""
        kernel = self._kernel or self._bound()
        return self._sum(text) if kernel is None else kernel.score(text)

    def kernel(
        self, costs: CostModel | None = None, columns: Sequence[int] | None = None
    ) -> _text.TextKernel | None:
        """Compiled code for these weights, if this process has it; nothing is built.

        Parameters
        ----------
        costs : CostModel, optional
            What the kernel expects answers to cost, when it decides; by default nothing.
        columns : sequence of int, optional
            Which destinations, in which order; by default all m.
        """
        library = _text.library()
        if library is None:
            return None
        table, intercept = self._table, self.intercept
        lines = np.zeros((3, len(intercept)))
        if costs is not None:
            lines = np.stack((costs.base, costs.slope, costs.floor))
        if columns is not None:
            table = table[:, [*columns, -1]]
            intercept, lines = intercept[list(columns)], lines[:, list(columns)]
        return _text.TextKernel(
            library,
            partial(_raw, plain=_text.plain(library)),
            kind=np.frombuffer(_CLASS, dtype=np.uint8),
            code=np.frombuffer(_CODE, dtype=np.uint8),
            power=_powers()[0],
            pair=_FIRST,
            ids=self.features._ids,
            keys=self.features._known,
            bits=self.features.bits,
            table=np.ascontiguousarray(table),
            intercept=np.ascontiguousarray(intercept),
            lines=np.ascontiguousarray(lines),
        )

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Score by compiled code from now on, in this process, for the same bits sooner.

        Whatever comes of it, `score` goes on working; it takes to the kernel when that is there.

        Parameters
        ----------
        build : bool
            Compile it, once a machine, where the cache does not hold it. A second's work.
        seconds : float, optional
            Wait no longer than that for the compiler; it goes on in a thread. None: to its end.

        Returns
        -------
        str
            Why there is no kernel, or the empty word if there is.
        """
        return _text.load(build=build, seconds=seconds)

    def _sum(self, text: str) -> list[float]:
        """The scores by arrays: a gather and a sum."""
        found = self.features.occurrences(text)
        if not len(found):
            return list(self._shift)
        # Each feature counts once: weight 1 where it differs from the one before it, else 0.
        new = np.empty(len(found), dtype=np.bool_)
        new[0] = True
        np.not_equal(found[1:], found[:-1], out=new[1:])
        rows = self._table.take(found, axis=0).astype(np.float64)
        *raw, square = new.astype(np.float64).dot(rows).tolist()
        shrink = 1.0 / sqrt(square)
        return [value * shrink + shift for value, shift in zip(raw, self._shift, strict=True)]

    def _bound(self) -> _text.TextKernel | None:
        """The kernel of `score`, once this process has the library."""
        if _text.library() is not None:
            object.__setattr__(self, "_kernel", self.kernel())
        return self._kernel

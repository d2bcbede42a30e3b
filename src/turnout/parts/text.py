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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from turnout.core import InputError, Inputs, _check
from turnout.core._check import Float

__all__ = ["READ", "TextFeatures", "TextScorer", "learn_features", "texts_of"]

#: Characters read of one text, half from its start and half from its end.
READ = 8192

_Keys = NDArray[np.uint64]
_LIMIT = 4 * READ + 8  # bytes: a character takes at most four
_WORD = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse mod 2^64
# Arrays of no dimension: numpy meets them sooner than its own scalars.
_PAIR = np.array(0xD6E8FEB86659FD93, dtype=np.uint64)
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


#: Spaces as 0, so that they add nothing to a hash; every other byte as itself.
_CODE = bytes(0 if kind == _SPACE else byte for byte, kind in enumerate(_CLASS))


@cache
def _powers() -> tuple[_Keys, _Keys]:
    """B^(i + 1) and B^-i mod 2^64: a word that starts at byte i is hashed as if it started at 0."""
    steps = np.full(_LIMIT, _BASE, dtype=np.uint64)
    back = np.full(_LIMIT, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    back[0] = 1
    return np.cumprod(steps, dtype=np.uint64), np.cumprod(back, dtype=np.uint64)


def _words(text: str) -> _Keys:
    """Hash of each word of a text, in order."""
    if len(text) > READ:
        text = f"{text[: READ // 2]} {text[-READ // 2 :]}"
    raw = text.lower().encode("utf-8", "surrogatepass")[:_LIMIT]
    kinds = np.frombuffer(b"\0" + raw.translate(_CLASS), dtype=np.uint8)
    start = (kinds[1:] > (kinds[:-1] & _ONE)).nonzero()[0]
    if not len(start):
        return np.empty(0, dtype=np.uint64)
    power, inverse = _powers()
    value = np.frombuffer(raw.translate(_CODE), dtype=np.uint8) * power[: len(raw)]
    # Spaces have code 0, so the sum up to the next word is the sum over this one.
    hashes: _Keys = np.add.reduceat(value, start)
    hashes *= inverse.take(start)
    return hashes


def _grams(text: str) -> _Keys:
    """Hashes of the words and word pairs of a text, repeated where they are."""
    word = _words(text)
    if len(word) < 2:
        return word
    pair = word[:-1] * _PAIR
    pair += word[1:]
    return np.concatenate((word, pair))


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
    _slots: _Keys = field(init=False, repr=False)
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
        object.__setattr__(self, "keys", _check.frozen(keys))
        object.__setattr__(self, "idf", _check.frozen(idf.astype(np.float32)))
        # An empty slot holds a key that never looks there: 0 looks in slot 0 only.
        slots, ids = np.zeros(1 << bits, dtype=np.uint64), np.zeros(1 << bits, dtype=np.int32)
        slots[0] = np.uint64(_WORD)
        where = (keys >> shift).view(np.int64)
        slots[where], ids[where] = keys, np.arange(len(keys), dtype=np.int32)
        object.__setattr__(self, "_slots", slots)
        object.__setattr__(self, "_ids", ids)
        object.__setattr__(self, "_shift", shift)

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.keys)

    def occurrences(self, text: str) -> NDArray[np.int32]:
        """Known features of one text, repeated where they are, in increasing order."""
        key = _grams(text)
        slot = (key >> self._shift).view(np.int64)  # the view is free, and what `take` indexes by
        found: NDArray[np.int32] = self._ids.take(slot.compress(self._slots.take(slot) == key))
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

    def __post_init__(self) -> None:
        intercept = _check.floats("scorer.intercept", self.intercept, (None,))
        shape = (self.features.d, len(intercept))
        weights = _check.floats("scorer.weights", self.weights, shape).astype(np.float32)
        idf = self.features.idf[:, None]
        object.__setattr__(self, "intercept", intercept)
        object.__setattr__(self, "weights", _check.frozen(weights))
        # One gather and one sum give the scores and, in the last column, the squared length.
        object.__setattr__(self, "_table", np.hstack((weights * idf, idf * idf)))
        object.__setattr__(self, "_shift", tuple(intercept.tolist()))

    def score(self, text: str) -> list[float]:
        """Scores of one text, m numbers: a gather and a sum."""
        found = self.features.occurrences(text)
        if not len(found):
            return list(self._shift)
        # Each feature counts once: weight 1 where it differs from the one before it, else 0.
        new = np.empty(len(found), dtype=np.bool_)
        new[0] = True
        np.not_equal(found[1:], found[:-1], out=new[1:])
        *raw, square = new.astype(np.float32).dot(self._table.take(found, axis=0)).tolist()
        shrink = square**-0.5
        return [value * shrink + shift for value, shift in zip(raw, self._shift, strict=True)]

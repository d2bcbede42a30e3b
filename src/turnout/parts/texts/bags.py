"""Words and word pairs of a text as sparse features, quick enough for one text at a time.

Features are the distinct words and distinct pairs of neighbouring words
(`turnout.parts.texts.words`) that stand in enough texts:

    value of feature f  x_f = idf_f / sqrt(sum of idf_g^2 over the known features g present)
    weight of rarity    idf_f = 1 + log((1 + n) / (1 + texts with f))

A feature counts once however often it stands in the text: on prompts that ranks better than counts.

Compiled code makes the same scores some ten times as fast (`TextScorer.use_kernel`), to the bit:
the table is rounded so that its sums are exact in whatever order they are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import frexp, ldexp, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError, Inputs, _check
from turnout.core._check import Float
from turnout.parts.native import _text
from turnout.parts.texts.words import (
    CLASS,
    CODE,
    LIMIT,
    PAIR,
    Grams,
    Keys,
    grams,
    grams_of,
    powers,
    read,
    surfaces,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["TextFeatures", "TextScorer", "learn_features"]

#: Bits of the number of features that a text can have.
_MOST = (2 * LIMIT).bit_length()


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

    keys: Keys
    idf: NDArray[np.float32]
    bits: int
    _known: Keys = field(init=False, repr=False)
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
        key = grams(text)
        # the view is free, and what `take` indexes by
        asked = self._ids.take((key >> self._shift).view(np.int64))
        found: NDArray[np.int32] = asked[self._known.take(asked) == key]
        found.sort()
        return found

    def find(self, text: str) -> NDArray[np.int32]:
        """Known features of one text, distinct and increasing, (f,)."""
        return np.unique(self.occurrences(text))

    def transform(self, inputs: Inputs | Grams) -> csr_matrix:
        """Features of texts, (n, d) float32 with rows of length 1 (0 where nothing is known).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        from scipy.sparse import csr_matrix

        asked = inputs if isinstance(inputs, Grams) else grams_of(inputs)
        row, index, _ = self._found(asked)
        value = self.idf.take(index)
        norm = np.sqrt(np.bincount(row, value.astype(np.float64) ** 2, minlength=len(asked)))
        value = (value / norm[row]).astype(np.float32)
        ends = np.append(0, np.cumsum(np.bincount(row, minlength=len(asked))))
        return csr_matrix((value, index, ends), shape=(len(asked), self.d))

    def known(self, asked: Grams, unknown: float) -> Float:
        """How much of each text is known, as `TextScorer.weigh` tells it, (n,)."""
        row, index, known = self._found(asked)
        n = len(asked)
        square = np.bincount(row, self.idf.take(index).astype(np.float64) ** 2, minlength=n)
        strange = np.bincount(asked.row, minlength=n) - np.bincount(asked.row[known], minlength=n)
        return square / np.maximum(square + unknown * strange, 1e-300)

    def _found(self, asked: Grams) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.bool_]]:
        """Row and feature of what is known, distinct and in order; which of `asked` are known."""
        if not self.d:
            none = np.zeros(len(asked.keys), dtype=np.bool_)
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32), none
        ids = self._ids.take((asked.keys >> self._shift).view(np.int64))
        known: NDArray[np.bool_] = self._known.take(ids) == asked.keys
        pairs = asked.row[known] * self.d + ids[known]
        pairs.sort()  # not `unique`, whose tables of hashes are slow on this many
        new = np.ones(len(pairs), dtype=np.bool_)
        np.not_equal(pairs[1:], pairs[:-1], out=new[1:])
        pairs = pairs[new]
        return pairs // self.d, (pairs % self.d).astype(np.int32), known


def learn_features(
    inputs: Inputs | Grams, *, min_df: int = 2, max_features: int = 60_000
) -> TextFeatures:
    """The vocabulary of some texts.

    Parameters
    ----------
    inputs : sequence of str (n,), or their hashes
    min_df : int
        A feature must stand in this many texts.
    max_features : int
        Keep at most these many: those in most texts, ties by hash.

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    asked = inputs if isinstance(inputs, Grams) else grams_of(inputs)
    order = np.lexsort((asked.row, asked.keys))
    key, row = asked.keys[order], asked.row[order]
    new = np.ones(len(key), dtype=np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (row[1:] != row[:-1])
    key = key[new]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else key.view(int)
    keys, df = key[starts], np.diff(np.append(starts, len(key)))
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
    idf = 1.0 + np.log((1 + len(asked)) / (1 + df))
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
        if kernel is not None:
            return kernel.score(text)
        return self._sum(self.features.occurrences(text))[0]

    def kernel(
        self, lines: Float | None = None, columns: Sequence[int] | None = None
    ) -> _text.TextKernel | None:
        """Compiled code for these weights, if this process has it; nothing is built.

        Parameters
        ----------
        lines : array (3, k), optional
            What the kernel expects answers to cost, when it decides (`CostModel.lines`, of the
            same k destinations); by default nothing.
        columns : sequence of int, optional
            Which destinations, in which order; by default all m.
        """
        library = _text.library()
        if library is None:
            return None
        table, intercept = self._table, self.intercept
        if columns is not None:
            table, intercept = table[:, [*columns, -1]], intercept[list(columns)]
        if lines is None:
            lines = np.zeros((3, len(intercept)))
        return _text.TextKernel(
            library,
            partial(read, plain=_text.plain(library)),
            kind=np.frombuffer(CLASS, dtype=np.uint8),
            code=np.frombuffer(CODE, dtype=np.uint8),
            power=powers()[0],
            pair=PAIR,
            ids=self.features._ids,
            keys=self.features._known,
            bits=self.features.bits,
            table=np.ascontiguousarray(table),
            intercept=np.ascontiguousarray(intercept),
            lines=np.ascontiguousarray(lines),
        )

    def weigh(self, text: str, unknown: float) -> tuple[list[float], float]:
        """Scores of one text, by arrays, and how much of it is known.

        Parameters
        ----------
        text : str
        unknown : float
            What a word or pair never seen counts for, wherever it stands, as `idf^2`.

        Returns
        -------
        scores : list of float (m,)
        share : float
            Sum of the squares of what is known by that of everything, in [0, 1].
        """
        found = self.features.occurrences(text)
        strange = len(grams(text)) - len(found)
        scores, square = self._sum(found)
        return scores, square / (square + strange * unknown) if square else 0.0

    def contributions(self, text: str) -> tuple[list[str], Float]:
        """What each known word and word pair of one text adds to its scores.

        For telling a person why: a thousand times slower than `score`.

        Returns
        -------
        words : list of str (f,)
            As they stand in the text, in lower case; each once, in order of appearance, the words
            before the pairs.
        parts : array (f, m)
            They and the intercept add up to the scores.
        """
        features = self.features
        number = {int(key): place for place, key in enumerate(features.keys)}
        found: dict[int, str] = {}
        for key, words in zip(grams(text).tolist(), surfaces(text), strict=True):
            if key in number:
                found.setdefault(number[key], words)
        if not found:
            return [], np.empty((0, len(self.intercept)))
        rows = self._table.take(list(found), axis=0).astype(np.float64)
        return list(found.values()), rows[:, :-1] / sqrt(rows[:, -1].sum())

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

    def _sum(self, found: NDArray[np.int32]) -> tuple[list[float], float]:
        """The scores by arrays, a gather and a sum, and the squared length."""
        if not len(found):
            return list(self._shift), 0.0
        # Each feature counts once: weight 1 where it differs from the one before it, else 0.
        new = np.empty(len(found), dtype=np.bool_)
        new[0] = True
        np.not_equal(found[1:], found[:-1], out=new[1:])
        rows = self._table.take(found, axis=0).astype(np.float64)
        *raw, square = new.astype(np.float64).dot(rows).tolist()
        shrink = 1.0 / sqrt(square)
        scores = [value * shrink + shift for value, shift in zip(raw, self._shift, strict=True)]
        return scores, square

    def _bound(self) -> _text.TextKernel | None:
        """The kernel of `score`, once this process has the library."""
        if _text.library() is not None:
            object.__setattr__(self, "_kernel", self.kernel())
        return self._kernel

"""Texts as sets of hashed runs of words, and how far two sets overlap.

A run of w words is a *shingle* (Broder, "On the resemblance and containment of documents", 1997);
texts that share most of their shingles are near-duplicates. With h(word) of
`turnout.parts.texts.words`::

    key  = (...(h_1 K + h_2) K + ...) + h_w             mod 2^64, then folded to 31 bits
    J    = |A and B| / |A or B|                         Jaccard similarity, 0 where both are empty

Two of d different runs get one number with probability about d^2 / 2^32 in all: of a million runs,
some hundreds do, and J is off by less than a thousandth.

Examples
--------
>>> import numpy as np
>>> sets = shingles(["the cat sat on the mat", "The cat sat on the mat!", "a dog ran"], size=2)
>>> float(jaccard(sets, np.array([[0, 1], [0, 2]]))[0].round(3))
0.833
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int
from turnout.parts.texts.words import PAIR, READ, grams, texts_of

__all__ = ["PRIME", "Sets", "Words", "jaccard", "shingles"]

Words = NDArray[np.uint64]

#: 2^31 - 1, a Mersenne prime; members of sets lie below it.
PRIME = (1 << 31) - 1

_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class Sets:
    """n sets of whole numbers, one after the other.

    Parameters
    ----------
    members : array of uint64 (s,)
        Below 2^31 - 1; rising and different inside each set.
    offsets : array of int (n + 1,)
        Where each set starts and the last one ends.
    """

    members: Words
    offsets: Int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Int:
        """Members of each set, (n,)."""
        sizes: Int = np.diff(self.offsets)
        return sizes

    def common(self, most: float, among: Int | None = None) -> Words:
        """The members that more than `most` sets have, rising.

        Parameters
        ----------
        most : float
        among : array of int, optional
            Sets to count in, such as one of each; all by default.
        """
        counted = self.members if among is None else self.members[_spans(self, among)]
        ordered = np.sort(counted)
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
        count = np.diff(np.append(starts, len(ordered)))
        return ordered[starts[count > most]]

    def without(self, members: Words) -> Sets:
        """Less some members; a set that has no others keeps all its own."""
        kept = ~np.isin(self.members, members)
        left = np.bincount(
            np.repeat(np.arange(len(self)), self.sizes), weights=kept, minlength=len(self)
        )
        kept |= np.repeat(left == 0, self.sizes)
        before = np.append(0, np.cumsum(kept))
        return Sets(self.members[kept], before[self.offsets])

    @classmethod
    def of(cls, sets: Iterable[Iterable[int]]) -> Sets:
        """Sets of whole numbers in [0, 2^31 - 1); a number named twice counts once.

        Raises
        ------
        InputError
            A member is no whole number in that range.
        """
        rows = [list(one) for one in sets]
        for row, one in enumerate(rows):
            for member in one:
                _check.integer(f"sets[{row}]", member, low=0, high=PRIME - 1)
        flat = np.array([member for one in rows for member in one], dtype=np.uint64)
        return _distinct(flat, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def shingles(texts: Sequence[str], *, size: int = 3) -> Sets:
    """The runs of `size` words of each text, hashed to 31 bits.

    Words are those of `turnout.parts.texts.words`: lower case, each digit, mark and Chinese or
    Japanese character a word of its own. Each text is read whole. A text of fewer words is one run;
    one without words is the empty set.

    Parameters
    ----------
    texts : sequence of str
    size : int
        Words in a run, >= 1.

    Raises
    ------
    InputError
        The texts are no strings, or the size is no count.
    """
    _check.integer("size", size, low=1)
    parts = [_runs(_words(text), size) for text in texts_of(texts)]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    flat = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
    return _distinct(_folded(flat), offsets)


def jaccard(sets: Sets, pairs: Int, other: Sets | None = None) -> Float:
    """Exact Jaccard similarity of pairs, (p,); 0 where both are empty.

    Parameters
    ----------
    sets : Sets
    pairs : array of int (p, 2)
        A set of `sets` and one of `other`.
    other : Sets, optional
        `sets` by default.
    """
    other = sets if other is None else other
    found = np.zeros(len(pairs))
    sizes = sets.sizes[pairs[:, 0]], other.sizes[pairs[:, 1]]
    total = np.cumsum(sizes[0] + sizes[1])
    first = 0
    while first < len(pairs):
        done = 0 if first == 0 else total[first - 1]
        last = max(int(np.searchsorted(total, done + 4_000_000, side="right")), first + 1)
        part = pairs[first:last]
        keys = [
            (np.repeat(np.arange(len(part), dtype=np.uint64), side.sizes[rows]) << np.uint64(31))
            | side.members[_spans(side, rows)]
            for side, rows in ((sets, part[:, 0]), (other, part[:, 1]))
        ]
        both = np.sort(np.concatenate(keys))
        shared = both[1:][both[1:] == both[:-1]] >> np.uint64(31)
        common = np.bincount(shared.astype(np.int64), minlength=len(part))
        union = sizes[0][first:last] + sizes[1][first:last] - common
        found[first:last] = common / np.maximum(union, 1)
        first = last
    return found


def _words(text: str) -> Words:
    """Hashes of the words of a whole text, in order."""
    if len(text) <= READ:
        found = grams(text)
        return found[: (len(found) + 1) // 2]
    pieces = []
    while text:
        cut = len(text)
        if cut > READ:
            cut = text.rfind(" ", 1, READ) + 1 or READ
        piece = grams(text[:cut])
        pieces.append(piece[: (len(piece) + 1) // 2])
        text = text[cut:]
    return np.concatenate(pieces)


def _runs(words: Words, size: int) -> Words:
    """Hash of each run of `size` words; of all of them where there are fewer."""
    size = min(size, len(words))
    if not size:
        return words
    count = len(words) - size + 1
    found = words[:count].copy()
    for step in range(1, size):
        found *= np.uint64(PAIR)
        found += words[step : step + count]
    return found


def _folded(keys: Words) -> Words:
    """64-bit hashes as numbers below 2^31 - 1."""
    keys = keys ^ (keys >> np.uint64(32))
    keys *= np.uint64(_MIX)
    keys >>= np.uint64(33)
    # 2^31 - 1 is no member; a hash that meets it by chance is moved.
    return np.minimum(keys, np.uint64(PRIME - 1))


def _distinct(flat: Words, offsets: Int) -> Sets:
    """Each row sorted, each member once."""
    rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
    keys = np.sort((rows << np.uint64(31)) | flat)
    if len(keys):
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
    sizes = np.bincount((keys >> np.uint64(31)).astype(np.int64), minlength=len(offsets) - 1)
    return Sets(keys & np.uint64(PRIME), np.append(0, np.cumsum(sizes)))


def _spans(sets: Sets, rows: Int) -> Int:
    """Places of the members of some sets, one set after the other."""
    sizes = sets.sizes[rows]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    places: Int = np.arange(total) + np.repeat(sets.offsets[rows] - (ends - sizes), sizes)
    return places

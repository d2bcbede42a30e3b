r"""Sets that overlap, found by short signatures: MinHash, banded buckets, growth from seeds.

A set is a row of whole numbers below 2^31 (`turnout.parts.texts.shingles`). Its signature holds,
for each of k random hash functions, the least hash of its members; two sets agree in a place with
probability J, the size of what they share over the size of what they have in all (Broder, "On the
resemblance and containment of documents", 1997). Signatures are cut into bands; sets that agree in
a whole band meet in a bucket. As in Chamberlain, Levy-Kramer, Humby and Deisenroth, "Real-Time
Community Detection in Large Social Networks on a Laptop" (2016, arXiv:1601.03958)::

    h_k(x)     = (a_k x + b_k) mod p                        p = 2^31 - 1, 0 < a_k < p, 0 <= b_k < p
    S[i, k]    = min over x in set i of h_k(x)              signatures (n, k)
    J[i, j]    ~ share of k where S[i, k] = S[j, k]         standard error sqrt(J (1 - J) / k)
    P(meet)    = 1 - (1 - J^r)^bands                        r = k / bands rows a band
    mu[c]      = mean over members x of J[c, x]             similarity of c to a community

With x, a and b below 2^31 the product stays below 2^62: nothing wraps, and the family is universal
(Carter and Wegman, 1979).

Shapes: n sets, k hashes, p pairs. Cost: O(k) a member, about 3 ns a hash on one core; 4 k bytes a
set; buckets O(bands n log n).

Examples
--------
>>> import numpy as np
>>> from turnout.parts.texts.shingles import Sets
>>> sets = Sets.of([range(0, 60), range(20, 80), range(1000, 1060)])  # J = 40 / 80, and 0
>>> signatures = MinHash.draw(1000, rng=np.random.default_rng(0)).signatures(sets)
>>> estimate(signatures, np.array([[0, 1], [0, 2]])).round(1).tolist()
[0.5, 0.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.texts.shingles import PRIME, Sets, Words

__all__ = [
    "EMPTY",
    "Buckets",
    "MinHash",
    "Signatures",
    "bands_for",
    "estimate",
    "expand",
    "groups_of",
    "meeting",
]

Signatures = NDArray[np.uint32]

#: Every place of the signature of an empty set; no hash reaches it.
EMPTY = (1 << 32) - 1

#: Members hashed at a time: small enough for the cache.
_CHUNK = 1 << 14
#: Pairs, many of them repeats, that wait before the repeats are dropped (32 MB).
_WAITING = 4_000_000
#: Bits of a key that hold the band; the others hold its fingerprint.
_BAND_BITS = 14
_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class MinHash:
    """k random hash functions.

    Parameters
    ----------
    a, b : arrays of uint64 (k,)
        Factors in [1, PRIME) and shifts in [0, PRIME).
    """

    a: Words
    b: Words

    @classmethod
    def draw(cls, k: int, *, rng: Generator) -> MinHash:
        """As many functions, at random.

        Raises
        ------
        InputError
            k is no count.
        """
        _check.integer("k", k, low=1)
        a = rng.integers(1, PRIME, k, dtype=np.uint64)
        return cls(a, rng.integers(0, PRIME, k, dtype=np.uint64))

    def signatures(self, sets: Sets) -> Signatures:
        """Least hash of each set by each function, (n, k); `EMPTY` of an empty set."""
        found = np.full((len(sets), len(self.a)), EMPTY, dtype=np.uint32)
        filled = np.flatnonzero(sets.sizes)
        ends = sets.offsets[filled + 1]
        starts = sets.offsets[filled]
        first = 0
        while first < len(filled):
            last = int(np.searchsorted(ends, starts[first] + _CHUNK, side="right"))
            last = max(last, first + 1)
            part = sets.members[starts[first] : ends[last - 1]]
            # Between filled sets lie only empty ones, so the starts alone cut the members.
            cuts = starts[first:last] - starts[first]
            least = np.empty((last - first, len(self.a)), dtype=np.uint32)
            value, high = np.empty_like(part), np.empty_like(part)
            for place, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
                np.multiply(part, a, out=value)
                value += b
                np.right_shift(value, np.uint64(31), out=high)
                value &= np.uint64(PRIME)
                value += high
                # The rest is below 2 p: where less p wraps round, the minimum keeps it as it is.
                np.subtract(value, np.uint64(PRIME), out=high)
                np.minimum(value, high, out=value)
                least[:, place] = np.minimum.reduceat(value, cuts)
            found[filled[first:last]] = least
            first = last
        return found


def estimate(signatures: Signatures, pairs: Int) -> Float:
    """Jaccard similarity of pairs (p, 2) as the signatures tell it, (p,); 0 beside an empty set."""
    found = np.empty(len(pairs))
    step = max(1, 8_000_000 // max(signatures.shape[1], 1))
    for first in range(0, len(pairs), step):
        part = pairs[first : first + step]
        one, other = signatures[part[:, 0]], signatures[part[:, 1]]
        found[first : first + step] = ((one == other) & (one != EMPTY)).mean(axis=1)
    return found


def meeting(similarity: Float, k: int, bands: int) -> Float:
    """Probability that two sets of some similarity meet in a bucket."""
    return np.asarray(1.0 - (1.0 - np.asarray(similarity) ** (k // bands)) ** bands)


def bands_for(k: int, similarity: float, *, sure: float = 0.99) -> int:
    """The fewest bands of k hashes in which sets of a similarity meet with probability `sure`.

    Fewer bands make fewer pairs meet in vain. Where no number of bands is enough it is k.

    Raises
    ------
    InputError
    """
    _check.integer("k", k, low=1)
    _check.number("similarity", similarity, low=0.0, high=1.0)
    _check.number("sure", sure, low=0.0, high=1.0)
    whole = [bands for bands in range(1, k + 1) if k % bands == 0]
    chance = [float(meeting(np.array(similarity), k, bands)) for bands in whole]
    return next((b for b, p in zip(whole, chance, strict=True) if p >= sure), k)


@dataclass(frozen=True, eq=False)
class Buckets:
    """Sets by the bands of their signatures.

    Parameters
    ----------
    keys : array of uint64 (bands, s)
        Hash of the band of each set that is not empty, rising in each band.
    rows : array of int (bands, s)
        Which set it is.
    k : int
        Hashes of a signature.
    """

    keys: Words
    rows: Int
    k: int

    @classmethod
    def build(cls, signatures: Signatures, *, bands: int) -> Buckets:
        """Sort all sets by each band.

        Raises
        ------
        InputError
            The bands do not divide the signature evenly.
        """
        k = signatures.shape[1]
        _check_bands(bands, k)
        filled = np.flatnonzero(signatures[:, 0] != EMPTY)
        keys = _band_keys(signatures[filled], bands)
        order = np.argsort(keys, axis=1, kind="stable")
        return cls(np.take_along_axis(keys, order, axis=1), filled[order], k)

    @property
    def bands(self) -> int:
        """How many bands."""
        return len(self.keys)

    def query(self, signatures: Signatures) -> list[Int]:
        """The sets that share a bucket with each signature, rising; a set itself included."""
        keys = _band_keys(signatures, self.bands).T.ravel()
        flat, rows = self.keys.ravel(), self.rows.ravel()
        low = np.searchsorted(flat, keys)
        sizes = np.searchsorted(flat, keys, side="right") - low
        sizes[np.repeat(signatures[:, 0] == EMPTY, self.bands)] = 0
        ends = np.cumsum(sizes)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - (ends - sizes), sizes)
        each = np.split(rows[at], ends[self.bands - 1 : -1 : self.bands]) if len(ends) else []
        return [np.unique(one) for one in each]

    def pairs(self, *, most: int = 64) -> tuple[Int, int]:
        """Pairs of sets that share a bucket, (p, 2) with i < j, and how many buckets were cut.

        Parameters
        ----------
        most : int
            In a larger bucket a set is paired with the next `most` alone, so that a phrase that
            thousands share makes no million pairs; chains of pairs still join them.
        """
        _check.integer("most", most, low=1)
        found = np.empty(0, dtype=np.uint64)
        gathered: list[Words] = []
        waiting = cut = 0
        for keys, rows in zip(self.keys, self.rows, strict=True):
            for step in range(1, most + 1):
                same = np.flatnonzero(keys[step:] == keys[:-step])
                if not len(same):
                    break
                one, other = rows[same], rows[same + step]
                low, high = np.minimum(one, other), np.maximum(one, other)
                gathered.append((low.astype(np.uint64) << np.uint64(32)) | high.astype(np.uint64))
                waiting += len(same)
                if waiting > max(_WAITING, len(found)):
                    found = _different(np.concatenate([found, *gathered]))
                    gathered, waiting = [], 0
            else:
                beyond = keys[most + 1 :][keys[most + 1 :] == keys[: -most - 1]]
                cut += len(np.unique(beyond))
        found = _different(np.concatenate([found, *gathered]))
        shift, low_half = np.uint64(32), np.uint64(0xFFFFFFFF)
        return np.stack([found >> shift, found & low_half], axis=1).astype(np.int64), cut


def groups_of(n: int, pairs: Int) -> list[Int]:
    """Sets joined by chains of pairs: groups of two or more, the largest first, rising inside."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    found = [group for group in np.split(order, cuts) if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), int(group[0])))


def expand(
    signatures: Signatures,
    candidates: Int,
    seeds: Int,
    *,
    most: int | None = None,
    least: float = 0.0,
    update: bool = True,
) -> tuple[Int, Float]:
    """Grow a community from seeds: add the candidate most like it, again and again.

    Section 5 of the paper. mu is the mean similarity of a candidate to the members; after each
    addition it is mu <- (n mu + J) / (n + 1). With `update` off the candidates are ranked by their
    mean similarity to the seeds alone.

    Parameters
    ----------
    signatures : array (n, k)
    candidates : array of int (c,)
        Sets that may be added, such as what `Buckets.query` gives for the seeds.
    seeds : array of int (s,)
        At least one. They are no candidates.
    most : int, optional
        Sets to add at most.
    least : float
        Stop where no candidate has this mean similarity.

    Returns
    -------
    added : array of int (a,)
        In the order they were added; ties go to the lower number.
    similarity : array (a,)
        Mean similarity when added.
    """
    if not len(seeds):
        raise InputError("seeds", "hold at least one set", [], "Name one.")
    pool = np.setdiff1d(candidates, seeds)
    table = signatures[pool]
    alike = np.zeros(len(pool))
    for seed in seeds:
        alike += ((table == signatures[seed]) & (table != EMPTY)).mean(axis=1)
    mean = alike / len(seeds)
    members = len(seeds)
    added: list[int] = []
    scores: list[float] = []
    open_ = np.ones(len(pool), dtype=bool)
    for _ in range(len(pool) if most is None else min(most, len(pool))):
        at = int(np.argmax(np.where(open_, mean, -1.0)))
        if mean[at] < least:
            break
        added.append(int(pool[at]))
        scores.append(float(mean[at]))
        open_[at] = False
        if update:
            new = ((table == table[at]) & (table != EMPTY)).mean(axis=1)
            mean = (members * mean + new) / (members + 1)
            members += 1
    return np.array(added, dtype=np.int64), np.array(scores)


def _different(values: Words) -> Words:
    """Each value once, rising; by sorting, which is faster here than a table of hashes."""
    values.sort()
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _check_bands(bands: int, k: int) -> None:
    _check.integer("bands", bands, low=1, high=min(k, 1 << _BAND_BITS))
    if k % bands:
        near = [b for b in range(1, k + 1) if k % b == 0]
        raise InputError("bands", f"divide the {k} hashes", bands, f"Choose one of {near}.")


def _band_keys(signatures: Signatures, bands: int) -> Words:
    """One key a band and set, (bands, n): the band, then a fingerprint of its places.

    Keys of a later band are greater, so that one search finds a set in all of them.
    """
    n, k = signatures.shape
    places = signatures.reshape(n, bands, k // bands)
    keys = np.zeros((bands, n), dtype=np.uint64)
    for place in range(k // bands):
        keys ^= places[:, :, place].T
        keys *= np.uint64(_MIX)
        keys ^= keys >> np.uint64(29)
    low = np.uint64(64 - _BAND_BITS)
    return (keys >> np.uint64(_BAND_BITS)) | (np.arange(bands, dtype=np.uint64) << low)[:, None]

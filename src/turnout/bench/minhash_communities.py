r"""Finds prompts that are nearly the same, and communities of alike prompts, in large logs.

Routes: nothing. Says what a log of prompts holds: groups of near-duplicates, which flatter every
figure where one of them is learnt from and another judged on; test prompts that a training prompt
nearly says already; and communities, grown from seeds as the paper grows them from accounts.

A prompt is the set of its runs of words, a follower is a run, and two prompts are alike by the
Jaccard similarity of their sets. Each set is compressed to k least hashes; prompts that agree in a
whole band of them are compared, others never are. Equations are in `turnout.parts.texts.minhash`;
here::

    near-duplicates  joined by chains of pairs with exact J >= similarity      `near_duplicates`
    repeats          argmax over training prompts of exact J                   `repeats`
    community of S   add argmax_c mean over members x of J^(c, x), again       `grow`
    rank by walk     v <- beta T' v + (1 - beta) s, T the candidates' J^       `page_rank`

J^ is the estimate from signatures, S the seeds, s even over them, T with rows that sum to 1.

Shapes: n prompts, k hashes, signatures (n, k). Units: similarities in [0, 1].

Differs from the paper: see `CARD.differs`. Cost: about 15 s and 100 MB for 100,000 prompts of 40
words on one core, most of it in splitting words and sorting buckets.

Examples
--------
>>> import numpy as np
>>> prompts = ["Translate this sentence to French: the sky is blue.",
...            "translate this sentence to french: The sky is blue", "Write a poem about rain."]
>>> found = near_duplicates(index(prompts, rng=np.random.default_rng(0)))
>>> [group.tolist() for group in found.groups], float(found.share)
([[0, 1]], 0.3333333333333333)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.texts.minhash import (
    Buckets,
    MinHash,
    Signatures,
    bands_for,
    estimate,
    expand,
    groups_of,
)
from turnout.parts.texts.shingles import Sets, Words, jaccard, shingles

__all__ = [
    "CARD",
    "Communities",
    "Duplicates",
    "Index",
    "communities",
    "grow",
    "index",
    "near_duplicates",
    "page_rank",
    "repeats",
    "typical_words",
]

CARD = Card(
    name="bench.minhash_communities",
    system="MinHash communities",
    title="Real-Time Community Detection in Large Social Networks on a Laptop",
    authors="Chamberlain, Levy-Kramer, Humby, Deisenroth",
    year=2016,
    id="arXiv:1601.03958",
    routes="nothing: groups prompts that are alike",
    kind="score",
    recipe="",
    signal=("nothing",),
    covers=(
        "Signatures of least hashes and their error",
        "Locality-sensitive hashing by bands, and queries of several seeds",
        "Seed expansion by average Jaccard similarity; ranking by the seeds alone and personalised "
        "PageRank as baselines",
    ),
    differs=(
        "Prompts and their runs of words take the place of accounts and their followers.",
        "The hash functions do not wrap: members, factors and shifts are below 2^31 and the "
        "modulus is the prime 2^31 - 1. The published arithmetic overflows 64 bits before its "
        "modulus, which makes the family other than universal.",
        "Buckets of one set are kept, so that a new prompt finds its only like.",
        "A pair is a near-duplicate by its exact similarity; the estimate only chooses what is "
        "checked.",
        "Of a bucket larger than 64 each set is paired with its next 64 alone.",
        "Runs of words that more than a twentieth of the prompts have are left out: prompts that "
        "share a template and nothing else are not alike.",
        "Communities of a whole log are found by taking seeds greedily; the paper is given seeds. "
        "The communities inside one by random walks (WALKTRAP) are not built.",
    ),
    aliases=("minhash", "lsh", "near duplicates", "prompt communities"),
    cost="fit: O(k) a run of words; query: O(bands log n + candidates k)",
)

#: Hashes of a signature.
_HASHES = 128
#: Sets of a bucket that are paired with each, where communities are sought.
_NEXT = 32
#: Standard errors that an estimate may lie below the similarity asked for and still be checked.
_MARGIN = 4.0
#: Share of the different prompts from which a run is common: part of a template, or a plain word.
#: Up to `_FEW` prompts it never is.
_COMMON, _FEW = 0.05, 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Index:
    """Prompts ready to be compared.

    Parameters
    ----------
    sets : Sets
        Runs of words of each prompt.
    minhash : MinHash
    signatures : array of uint32 (n, k)
    buckets : Buckets
    size : int
        Words in a run.
    dropped : array of uint64
        Runs left out because too many prompts have them.
    """

    sets: Sets
    minhash: MinHash
    signatures: Signatures
    buckets: Buckets
    size: int
    dropped: Words

    def __len__(self) -> int:
        return len(self.sets)

    def sets_of(self, texts: Sequence[str]) -> Sets:
        """Other texts read as the prompts were."""
        return shingles(texts, size=self.size).without(self.dropped)

    def like(self, texts: Sequence[str]) -> list[Int]:
        """The prompts that meet each text in a bucket, rising."""
        return self.buckets.query(self.minhash.signatures(self.sets_of(texts)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Duplicates:
    """Prompts that nearly repeat each other.

    Parameters
    ----------
    groups : tuple of arrays
        Rows of each group, rising; the largest group first.
    pairs : array of int (p, 2)
    similarity : array (p,)
        Exact, of each pair.
    n : int
        Prompts in all.
    cut : int
        Buckets in which not every pair was compared.
    """

    groups: tuple[Int, ...]
    pairs: Int
    similarity: Float
    n: int
    cut: int

    @property
    def share(self) -> float:
        """Share of the prompts that could go: all of each group but one."""
        return sum(len(group) - 1 for group in self.groups) / max(self.n, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Communities:
    """Alike prompts.

    Parameters
    ----------
    label : array of int (n,)
        Community of each prompt, the largest first; -1 = none.
    members : tuple of arrays
        Rows of each community in the order they were added; the first is the seed.
    similarity : array (c,)
        Mean over the added of their mean similarity to the members before them.
    """

    label: Int
    members: tuple[Int, ...]
    similarity: Float


def index(
    texts: Sequence[str],
    *,
    rng: Generator,
    similarity: float = 0.8,
    size: int = 3,
    k: int = _HASHES,
    bands: int | None = None,
    common: float | None = _COMMON,
) -> Index:
    """Sign the prompts and sort them into buckets.

    Parameters
    ----------
    texts : sequence of str
    rng : Generator
        Of the hash functions.
    similarity : float
        Pairs at least this alike shall meet; in (0, 1].
    size : int
        Words in a run, >= 1. Three tell near-duplicates, one or two tell topics.
    k : int
        Hashes, >= 1: the standard error of a similarity J is sqrt(J (1 - J) / k).
    bands : int, optional
        Must divide k. By default the fewest in which pairs that alike meet with probability 0.99.
    common : float, optional
        Leave out runs that more than this share of the different prompts have, such as those of a
        template; in (0, 1]. A prompt that has no others keeps them. None = keep all.

    Raises
    ------
    InputError
        A setting is out of range, or the texts are no strings.
    """
    _check.number("similarity", similarity, low=1e-6, high=1.0)
    _check.integer("k", k, low=1)
    sets = shingles(texts, size=size)
    dropped = sets.members[:0]
    if common is not None:
        _check.number("common", common, low=1e-6, high=1.0)
        dropped = sets.common(*_limit(texts, common))
        sets = sets.without(dropped)
    minhash = MinHash.draw(k, rng=rng)
    signatures = minhash.signatures(sets)
    buckets = Buckets.build(signatures, bands=bands_for(k, similarity) if bands is None else bands)
    return Index(
        sets=sets,
        minhash=minhash,
        signatures=signatures,
        buckets=buckets,
        size=size,
        dropped=dropped,
    )


def near_duplicates(found: Index, *, similarity: float = 0.8) -> Duplicates:
    """Groups of prompts joined by pairs at least this alike.

    Parameters
    ----------
    found : Index
        Made for a similarity no higher than this one.
    similarity : float
        In (0, 1].

    Raises
    ------
    InputError
    """
    _check.number("similarity", similarity, low=1e-6, high=1.0)
    pairs, cut = found.buckets.pairs()
    pairs = pairs[estimate(found.signatures, pairs) >= _floor(similarity, found.buckets.k)]
    exact = jaccard(found.sets, pairs)
    kept = exact >= similarity
    return Duplicates(
        groups=tuple(groups_of(len(found), pairs[kept])),
        pairs=pairs[kept],
        similarity=exact[kept],
        n=len(found),
        cut=cut,
    )


def repeats(train: Index, texts: Sequence[str], *, similarity: float = 0.8) -> tuple[Int, Float]:
    """The training prompt that each text nearly repeats.

    Returns
    -------
    row : array of int (n,)
        Row in the index, -1 = none is that alike.
    similarity : array (n,)
        Exact; 0 where there is none.

    Raises
    ------
    InputError
    """
    _check.number("similarity", similarity, low=1e-6, high=1.0)
    sets = train.sets_of(texts)
    hits = train.buckets.query(train.minhash.signatures(sets))
    counts = np.array([len(one) for one in hits], dtype=np.int64)
    pairs = np.stack(
        [np.repeat(np.arange(len(texts)), counts), np.concatenate([np.empty(0, int), *hits])],
        axis=1,
    ).astype(np.int64)
    exact = jaccard(sets, pairs, train.sets)
    row = np.full(len(texts), -1, dtype=np.int64)
    best = np.zeros(len(texts))
    order = np.lexsort((-pairs[:, 1], exact))
    order = order[exact[order] >= similarity]
    # The last write wins: the greatest similarity, and of equal ones the lowest row.
    row[pairs[order, 0]] = pairs[order, 1]
    best[pairs[order, 0]] = exact[order]
    return row, best


def grow(
    found: Index,
    seeds: Sequence[int],
    *,
    most: int | None = None,
    least: float = 0.0,
    update: bool = True,
) -> tuple[Int, Float]:
    """The community of some seeds: see `turnout.parts.texts.minhash.expand`.

    Candidates are the prompts that share a bucket with a seed.

    Raises
    ------
    InputError
        A seed is no row.
    """
    start, candidates = _start(found, seeds)
    return expand(found.signatures, candidates, start, most=most, least=least, update=update)


def page_rank(
    found: Index, seeds: Sequence[int], *, beta: float = 0.85, rounds: int = 20
) -> tuple[Int, Float]:
    """Candidates of some seeds by personalised PageRank on their similarities, the best first.

    A baseline of the paper. Walkers start from the seeds, go on to a like prompt with probability
    `beta` in proportion to the estimated similarity, else back to a seed.

    Raises
    ------
    InputError
    """
    _check.number("beta", beta, low=0.0, high=1.0)
    _check.integer("rounds", rounds, low=1)
    start, candidates = _start(found, seeds)
    nodes = np.union1d(candidates, start)
    table = found.signatures[nodes]
    alike = np.stack([(table == row).mean(axis=1) for row in table])
    np.fill_diagonal(alike, 0.0)
    total = alike.sum(axis=1, keepdims=True)
    home = np.isin(nodes, start) / len(start)
    # Who is like nobody goes home.
    step = np.where(total > 0, alike / np.maximum(total, 1e-300), home)
    value = home
    for _ in range(rounds):
        value = beta * (value @ step) + (1 - beta) * home
    others = np.flatnonzero(~np.isin(nodes, start))
    order = others[np.argsort(-value[others], kind="stable")]
    return nodes[order], value[order]


def communities(
    texts: Sequence[str],
    *,
    rng: Generator,
    least: float = 0.15,
    smallest: int = 3,
    size: int = 1,
    k: int = _HASHES,
) -> Communities:
    """Communities of a whole log, grown from the prompts that have the most like them.

    The prompt with the most unassigned neighbours is the next seed; what grows from it is a
    community if it has `smallest` members. Prompts with no words, and those that only have common
    ones, are in none.

    Parameters
    ----------
    texts : sequence of str
    rng : Generator
    least : float
        Mean similarity to the members at which growth stops; in (0, 1].
    smallest : int
        Members of a community, >= 2.
    size : int
        Words in a run.
    k : int
        Hashes; even, in bands of two.

    Raises
    ------
    InputError
    """
    _check.number("least", least, low=1e-6, high=1.0)
    _check.integer("smallest", smallest, low=2)
    if k % 2:
        raise InputError("k", "be even", k, "Bands are two hashes wide.")
    found = index(texts, rng=rng, size=size, k=k, bands=k // 2)
    pairs, _ = found.buckets.pairs(most=_NEXT)
    alike = estimate(found.signatures, pairs)
    pairs = pairs[alike >= least]
    n = len(found)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    offsets = np.append(0, np.cumsum(np.bincount(both[:, 0], minlength=n)))
    free = np.ones(n, dtype=bool)
    grown: list[tuple[Int, float]] = []
    for seed in np.argsort(-np.diff(offsets), kind="stable"):
        near = both[offsets[seed] : offsets[seed + 1], 1]
        near = near[free[near]]
        if not free[seed] or len(near) + 1 < smallest:
            continue
        # Neighbours of neighbours may join: the community is wider than its seed's bucket.
        wider = [both[offsets[row] : offsets[row + 1], 1] for row in near[:64]]
        pool = np.unique(np.concatenate([near, *wider]))
        start = np.array([seed], dtype=np.int64)
        added, scores = expand(found.signatures, pool[free[pool]], start, least=least)
        if len(added) + 1 >= smallest:
            members = np.concatenate([start, added])
            free[members] = False
            grown.append((members, float(scores.mean())))
    grown.sort(key=lambda one: (-len(one[0]), int(one[0][0])))
    label = np.full(n, -1, dtype=np.int64)
    for number, (members, _) in enumerate(grown):
        label[members] = number
    return Communities(
        label=label,
        members=tuple(members for members, _ in grown),
        similarity=np.array([score for _, score in grown]),
    )


def typical_words(
    texts: Sequence[str], members: Sequence[Int], *, most: int = 4
) -> list[tuple[str, ...]]:
    """Words of each community that the rest of the prompts have least, the most telling first.

    A word is worth the share of the members that have it less the share of all prompts that do.
    """
    everywhere = Counter(word for text in texts for word in _plain(text))
    found = []
    for rows in members:
        inside = Counter(word for row in rows for word in _plain(texts[int(row)]))
        worth = {
            word: count / len(rows) - everywhere[word] / len(texts)
            for word, count in inside.items()
        }
        best = sorted(worth, key=lambda word: (-worth[word], word))[:most]
        found.append(tuple(word for word in best if worth[word] > 0.1))
    return found


def _plain(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", text.lower()))


def _limit(texts: Sequence[str], common: float) -> tuple[float, Int]:
    """How many different prompts may have a run, and which rows those prompts are."""
    rows = np.array(list({text: row for row, text in enumerate(texts)}.values()), dtype=np.int64)
    return max(common * len(rows), _FEW), rows


def _floor(similarity: float, k: int) -> float:
    return similarity - _MARGIN * float(np.sqrt(similarity * (1 - similarity) / k))


def _start(found: Index, seeds: Sequence[int]) -> tuple[Int, Int]:
    """The seeds as rows, and what shares a bucket with one."""
    for seed in seeds:
        _check.integer("seeds", seed, low=0, high=len(found) - 1)
    start = np.unique(np.array(list(seeds), dtype=np.int64))
    if not len(start):
        raise InputError("seeds", "hold at least one row", [], "Name one.")
    hits = found.buckets.query(found.signatures[start])
    return start, np.unique(np.concatenate(hits))

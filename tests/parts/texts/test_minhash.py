"""Signatures of least hashes, buckets, and growth from seeds."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.texts.minhash import (
    EMPTY,
    Buckets,
    MinHash,
    bands_for,
    estimate,
    expand,
    groups_of,
    meeting,
)
from turnout.parts.texts.shingles import PRIME, Sets


def overlapping(similarity: float, n: int, seed: int, size: int = 120) -> Sets:
    """N pairs of sets of one similarity, members drawn at random."""
    rng = np.random.default_rng(seed)
    shared = round(2 * size * similarity / (1 + similarity))
    sets = []
    for _ in range(n):
        drawn = np.unique(rng.integers(0, PRIME, 3 * size))[rng.permutation(2 * size - shared)]
        sets += [drawn[:size].tolist(), drawn[size - shared :].tolist()]
    return Sets.of(sets)


PAIRS = np.arange(400).reshape(200, 2)


def test_signatures_are_least_hashes_by_hand() -> None:
    """Whole-number arithmetic without a bound gives the same, at both ends of the range."""
    lists = [[0, 1, PRIME - 1], [5], [], [PRIME - 1, 12345, 2**30]]
    minhash = MinHash(
        np.array([1, PRIME - 1, 48271], dtype=np.uint64),
        np.array([0, PRIME - 1, 7], dtype=np.uint64),
    )
    wanted = [
        [
            min(((int(a) * x + int(b)) % PRIME for x in one), default=EMPTY)
            for a, b in zip(minhash.a, minhash.b, strict=True)
        ]
        for one in lists
    ]
    assert minhash.signatures(Sets.of(lists)).tolist() == wanted


def test_pieces_make_no_difference() -> None:
    """Sets larger than what is hashed at a time, among empty ones, are signed as they are alone."""
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, PRIME, size).tolist() for size in (0, 40_000, 0, 3, 20_000, 0)]
    minhash = MinHash.draw(5, rng=rng)
    alone = [minhash.signatures(Sets.of([one]))[0].tolist() for one in lists]
    assert minhash.signatures(Sets.of(lists)).tolist() == alone


@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.9])
def test_the_error_is_the_one_of_the_paper(similarity: float) -> None:
    """Estimates have no bias, and spread as sqrt(J (1 - J) / k) within a fifth."""
    sets = overlapping(similarity, 200, seed=1)
    k = 400
    found = estimate(MinHash.draw(k, rng=np.random.default_rng(2)).signatures(sets), PAIRS)
    expected = np.sqrt(similarity * (1 - similarity) / k)
    # members of a pair are drawn alike, so that J is the same for all
    assert found.mean() == pytest.approx(similarity, abs=0.01)
    assert found.std() == pytest.approx(expected, rel=0.2)


def test_meeting_follows_its_formula() -> None:
    """Pairs meet in a bucket as often as 1 - (1 - J^r)^bands says, within three deviations."""
    k, bands, similarity = 32, 8, 0.5
    sets = overlapping(similarity, 200, seed=3)
    met = 0
    for seed in range(5):
        signatures = MinHash.draw(k, rng=np.random.default_rng(seed)).signatures(sets)
        pairs, cut = Buckets.build(signatures, bands=bands).pairs()
        own = pairs[(pairs[:, 0] % 2 == 0) & (pairs[:, 1] == pairs[:, 0] + 1)]
        met += len(own)
        assert cut == 0
    p = float(meeting(np.array(similarity), k, bands))
    assert p == pytest.approx(1 - (1 - 0.5**4) ** 8)
    assert met == pytest.approx(1000 * p, abs=3 * np.sqrt(1000 * p * (1 - p)))


def test_empty_sets_meet_nobody() -> None:
    """Not even each other: no pair, no hit, no similarity."""
    signatures = MinHash.draw(4, rng=np.random.default_rng(0)).signatures(Sets.of([[], [], [1]]))
    assert (signatures[:2] == EMPTY).all()
    buckets = Buckets.build(signatures, bands=2)
    assert buckets.pairs()[0].tolist() == []
    assert [hits.tolist() for hits in buckets.query(signatures)] == [[], [], [2]]
    assert estimate(signatures, np.array([[0, 1], [2, 2]])).tolist() == [0.0, 1.0]


def test_a_query_finds_what_pairs_find() -> None:
    """The hits of a set, itself left out, are its partners; a new set finds a lone like."""
    sets = overlapping(0.6, 60, seed=4)
    minhash = MinHash.draw(24, rng=np.random.default_rng(0))
    signatures = minhash.signatures(sets)
    buckets = Buckets.build(signatures, bands=12)
    pairs = {tuple(pair) for pair in buckets.pairs()[0].tolist()}
    hits = buckets.query(signatures)
    assert pairs == {(i, int(j)) for i in range(len(hits)) for j in hits[i] if i < j}
    assert all(i in row for i, row in enumerate(hits))


def test_large_buckets_stay_joined() -> None:
    """A hundred equal sets make few pairs, are counted as cut, and still are one group."""
    signatures = MinHash.draw(4, rng=np.random.default_rng(0)).signatures(Sets.of([[7]] * 100))
    pairs, cut = Buckets.build(signatures, bands=2).pairs(most=3)
    assert len(pairs) == 99 + 98 + 97
    assert cut == 2
    assert [group.tolist() for group in groups_of(100, pairs)] == [list(range(100))]


def test_groups_by_hand() -> None:
    """Chains join; the largest comes first; who has no pair is in none."""
    pairs = np.array([[1, 4], [2, 3], [3, 6]])
    assert [group.tolist() for group in groups_of(7, pairs)] == [[2, 3, 6], [1, 4]]
    assert groups_of(3, pairs[:0]) == []


def test_bands_are_the_fewest_that_are_enough() -> None:
    """Of the divisors of 128, 32 bands are sure of 0.8 and 16 are not."""
    assert bands_for(128, 0.8) == 32
    assert float(meeting(np.array(0.8), 128, 32)) > 0.99 > float(meeting(np.array(0.8), 128, 16))
    assert bands_for(8, 0.01) == 8


def test_growth_by_hand() -> None:
    """Means over the members decide, and are updated with each that joins."""
    signatures = np.array(
        [
            [1, 1, 1, 1],  # the seed
            [1, 1, 1, 9],  # 3/4 like the seed
            [1, 1, 8, 9],  # 2/4 like the seed, 3/4 like row 1
            [1, 1, 7, 6],  # 2/4 like the seed, 2/4 like row 1
            [5, 5, 5, 5],  # like nobody
        ],
        dtype=np.uint32,
    )
    candidates = np.array([0, 1, 3, 2, 4])
    added, scores = expand(signatures, candidates, np.array([0]))
    assert added.tolist() == [1, 2, 3, 4]
    assert scores.tolist() == pytest.approx([3 / 4, (2 / 4 + 3 / 4) / 2, 2 / 4, 0.0])
    fixed, ranks = expand(signatures, candidates, np.array([0]), update=False)
    assert fixed.tolist() == [1, 2, 3, 4]
    assert ranks.tolist() == [0.75, 0.5, 0.5, 0.0]
    few, _ = expand(signatures, candidates, np.array([0]), most=1)
    assert few.tolist() == [1]
    alike, _ = expand(signatures, candidates, np.array([0]), least=0.55)
    assert alike.tolist() == [1, 2]


def test_wrong_settings_are_refused() -> None:
    """Hashes, bands and seeds are named."""
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="k must be a whole number >= 1"):
        MinHash.draw(0, rng=rng)
    signatures = MinHash.draw(6, rng=rng).signatures(Sets.of([[1], [2]]))
    with pytest.raises(InputError, match=r"bands must divide the 6 hashes; got 4.*\[1, 2, 3, 6\]"):
        Buckets.build(signatures, bands=4)
    with pytest.raises(InputError, match="seeds must hold at least one set"):
        expand(signatures, np.array([0]), np.array([], dtype=int))
    with pytest.raises(InputError, match="similarity must be"):
        bands_for(6, 1.5)

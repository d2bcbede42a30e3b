"""Texts as sets of runs of words, and how far sets overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.texts.shingles import PRIME, Sets, jaccard, shingles
from turnout.parts.texts.words import READ

rows = st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=2, max_size=6)


@given(rows)
def test_jaccard_is_what_python_sets_say(lists: list[list[int]]) -> None:
    """Shared members over all members, 0 for two empty sets; repeats count once."""
    sets = Sets.of(lists)
    pairs = np.array([(i, j) for i in range(len(lists)) for j in range(len(lists))])
    wanted = [
        len(set(lists[i]) & set(lists[j])) / max(len(set(lists[i]) | set(lists[j])), 1)
        for i, j in pairs
    ]
    assert jaccard(sets, pairs) == pytest.approx(wanted)
    assert jaccard(sets, pairs[:0]).shape == (0,)


def test_two_collections_are_compared() -> None:
    """The second column counts in the other collection."""
    one, other = Sets.of([[1, 2, 3]]), Sets.of([[9], [2, 3, 4]])
    assert jaccard(one, np.array([[0, 0], [0, 1]]), other).tolist() == [0.0, 0.5]


def test_runs_of_words_by_hand() -> None:
    """Four words make two runs of three; they share one with three of the four."""
    sets = shingles(["red green blue gold", "Green blue GOLD", "green  blue gold red"])
    assert sets.sizes.tolist() == [2, 1, 2]
    found = jaccard(sets, np.array([[0, 1], [0, 2], [1, 2]]))
    assert found == pytest.approx([1 / 2, 1 / 3, 1 / 2])


def test_short_and_empty_texts() -> None:
    """Fewer words than a run are one run; no words are no run, and like nothing."""
    sets = shingles(["yes", "yes", "no", "", "  \n"], size=3)
    assert sets.sizes.tolist() == [1, 1, 1, 0, 0]
    assert jaccard(sets, np.array([[0, 1], [0, 2], [3, 4]])).tolist() == [1.0, 0.0, 0.0]


def test_long_texts_are_read_whole() -> None:
    """A change in the middle of a long text is seen, and no run is lost between its pieces."""
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(5000)]
    text = " ".join(words)
    assert len(text) > 2 * READ
    changed = " ".join([*words[:2500], "other", *words[2501:]])
    sets = shingles([text, changed], size=3)
    assert sets.sizes.tolist() == [4998, 4998]
    assert jaccard(sets, np.array([[0, 1]]))[0] == pytest.approx(4995 / 5001)


def test_members_lie_below_the_prime() -> None:
    """Every hashed run can be a member."""
    members = shingles([" ".join(map(str, range(3000)))], size=2).members
    assert members.max() < PRIME


def test_common_members_can_go() -> None:
    """What more than two sets have is common; a set that has nothing else keeps it."""
    sets = Sets.of([[1, 2], [1, 3], [1], [], [1, 3]])
    common = sets.common(2)
    assert common.tolist() == [1]
    left = sets.without(common)
    assert [
        left.members[a:b].tolist() for a, b in zip(left.offsets, left.offsets[1:], strict=False)
    ] == [[2], [3], [1], [], [3]]
    assert sets.common(1, np.array([0, 3, 4])).tolist() == [1]
    assert sets.common(1, np.array([], dtype=int)).tolist() == []


@pytest.mark.parametrize("member", [-1, PRIME, 1.5, "a"])
def test_members_are_whole_numbers(member: object) -> None:
    """Anything else is refused, with the set it stands in."""
    with pytest.raises(InputError, match=r"sets\[1\] must be a whole number"):
        Sets.of([[1], [member]])  # type: ignore[list-item]


def test_texts_must_be_texts() -> None:
    """Numbers are refused, and so is a run of no words."""
    with pytest.raises(InputError, match=r"inputs\[0\] must be a string"):
        shingles([1])  # type: ignore[list-item]
    with pytest.raises(InputError, match="size must be a whole number >= 1"):
        shingles(["a"], size=0)

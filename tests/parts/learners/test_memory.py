"""A memory of recent values: what is near is read, what is old is gone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from turnout.core import InputError
from turnout.core._check import Float, Int
from turnout.parts.learners.memory import RecentMemory, empty_memory


def _empty(m: int = 1, d: int = 2, seed: int = 0, **settings: Any) -> RecentMemory:
    return empty_memory(m, d, **{"bits": 0, **settings}, rng=np.random.default_rng(seed))


def _at(*degrees: float) -> Float:
    angle = np.deg2rad(degrees)
    return np.stack((np.cos(angle), np.sin(angle)), axis=1)


def _write(memory: RecentMemory, keys: Float, values: list[float], column: int = 0) -> None:
    memory.write(keys, np.full(len(keys), column), np.array(values))


def test_a_read_by_hand() -> None:
    """Of three the two nearest, weighted by exp(similarity / tau)."""
    memory = _empty(k=2, tau=0.5)
    _write(memory, _at(0, 60, 180), [0.2, -0.4, 9.0])
    value, near = memory.read(_at(0))
    first, second = math.exp(1 / 0.5), math.exp(0.5 / 0.5)
    expected = (0.2 * first - 0.4 * second) / (first + second)
    assert value[0, 0] == pytest.approx(expected, rel=1e-6)
    assert near[0, 0] == pytest.approx(1.5, rel=1e-6)  # cosines 1 and 0.5


def test_an_empty_memory_or_bucket_says_nothing() -> None:
    """Zero, and nothing near."""
    memory = _empty(m=2, bits=6)
    for keys in (_at(10, 20), np.empty((0, 2))):
        value, near = memory.read(keys)
        assert value.shape == near.shape == (len(keys), 2)
        assert not value.any()
        assert not near.any()
    _write(memory, _at(10), [1.0])
    value, near = memory.read(_at(190))  # the other side of every plane
    assert not value.any()
    assert not near.any()


def test_columns_are_apart() -> None:
    """What is written to one is read from that one alone."""
    memory = _empty(m=3)
    _write(memory, _at(0, 1), [0.5, 0.5], column=1)
    value, near = memory.read(_at(0))
    assert value[0] == pytest.approx([0, 0.5, 0])
    assert near[0] == pytest.approx([0, 2, 0], abs=1e-3)


def test_the_oldest_make_room() -> None:
    """A column keeps its last `size`, and a bucket its last `slots`."""
    for limits in ({"size": 3, "slots": 50}, {"size": 50, "slots": 3}):
        memory = _empty(**limits)
        _write(memory, _at(*[0.0] * 10), [9.0] * 7 + [1.0, 2.0, 3.0])
        value, near = memory.read(_at(0))
        assert near[0, 0] == 3
        assert value[0, 0] == pytest.approx(2.0)


def test_an_entry_overwritten_is_not_found_through_its_old_bucket() -> None:
    """Its place holds another key by then."""
    memory = _empty(size=2, bits=8, tables=2)
    _write(memory, _at(0), [1.0])
    _write(memory, _at(180, 181), [5.0, 5.0])
    assert memory.read(_at(0))[1][0, 0] == 0


def test_what_is_older_than_its_age_is_not_read_and_not_taken_in() -> None:
    """Time is counted in entries, or given; a late entry within the age counts from its own."""
    counted = _empty(age=2.0)
    _write(counted, _at(0, 0, 0, 0), [9.0, 1.0, 2.0, 3.0])
    assert counted.read(_at(0))[0][0, 0] == pytest.approx(2.0)
    given = _empty(age=10.0)
    column = np.array([0, 0, 0])
    given.write(_at(0, 0, 0), column, np.array([1.0, 2.0, 7.0]), np.array([100.0, 95.0, 80.0]))
    assert given.now == 100.0
    assert given.read(_at(0))[0][0, 0] == pytest.approx(1.5)
    assert given.read(_at(0), now=108.0)[0][0, 0] == pytest.approx(1.0)
    assert given.read(_at(0), now=120.0)[1][0, 0] == 0


def _cloud(n: int, rng: np.random.Generator) -> tuple[Float, Int]:
    """Twelve bunches in sixteen dimensions."""
    centres = np.random.default_rng(7).standard_normal((12, 16))
    label = rng.integers(12, size=n)
    keys = centres[label] + 0.5 * rng.standard_normal((n, 16))
    return keys / np.linalg.norm(keys, axis=1, keepdims=True), label


def test_hashing_reads_nearly_what_an_exact_search_does() -> None:
    """The values of bunches are told apart as well, from a part of the entries."""
    rng = np.random.default_rng(0)
    keys, label = _cloud(2000, rng)
    truth = np.random.default_rng(8).uniform(-0.5, 0.5, 12)
    values = truth[label] + 0.3 * rng.standard_normal(2000)
    asked, right = _cloud(300, rng)
    error = []
    for settings in ({"bits": 0, "slots": 2000}, {"bits": 6, "slots": 50}):
        memory = _empty(1, 16, k=30, size=2000, **settings)
        memory.write(keys, np.zeros(2000, dtype=int), values)
        value, near = memory.read(asked)
        assert near.mean() > 12
        error.append(float(((value[:, 0] - truth[right]) ** 2).mean()))
    assert error[0] < 0.01
    assert error[1] < error[0] + 0.01


def test_a_batch_is_read_as_its_rows_are() -> None:
    """To the bit, whatever else is asked for."""
    rng = np.random.default_rng(1)
    memory = _empty(2, 16, bits=5)
    keys, _ = _cloud(300, rng)
    memory.write(keys, rng.integers(2, size=300), rng.standard_normal(300))
    asked, _ = _cloud(40, rng)
    whole = memory.read(asked)[0]
    rows = np.vstack([memory.read(asked[i : i + 1])[0] for i in range(40)])
    assert (whole == rows).all()


def test_candidates_of_several_tables_count_once() -> None:
    """An entry found in all of them weighs no more than one found in one."""
    memory = _empty(tables=5)
    _write(memory, _at(0, 0), [1.0, 3.0])
    value, near = memory.read(_at(0))
    assert near[0, 0] == 2
    assert value[0, 0] == pytest.approx(2.0)


def test_forgetting_empties_it_and_a_copy_is_its_own() -> None:
    """`replace` copies the arrays, so that a copy forgets alone."""
    memory = _empty()
    _write(memory, _at(0), [1.0])
    copy = replace(memory)
    copy.forget()
    assert copy.read(_at(0))[1][0, 0] == 0
    assert memory.read(_at(0))[1][0, 0] == 1
    _write(copy, _at(0), [2.0])
    assert copy.read(_at(0))[0][0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 0},
        {"tau": 0.0},
        {"tables": 0},
        {"bits": 17},
        {"slots": 0},
        {"size": 0},
        {"age": 0.0},
        {"age": math.nan},
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(InputError, match=f"memory.{next(iter(settings))}"):
        _empty(**settings)


@pytest.mark.parametrize(
    ("keys", "column", "values", "field"),
    [
        (np.ones((1, 3)), [0], [1.0], "keys"),
        (np.full((1, 2), np.nan), [0], [1.0], "keys"),
        (np.ones((1, 2)), [1], [1.0], "column"),
        (np.ones((1, 2)), [-1], [1.0], "column"),
        (np.ones((1, 2)), [0, 0], [1.0], "column"),
        (np.ones((1, 2)), [0], [np.nan], "values"),
    ],
)
def test_what_cannot_be_written_is_refused(
    keys: Float, column: list[int], values: list[float], field: str
) -> None:
    """And nothing of it is kept."""
    memory = _empty()
    with pytest.raises(InputError, match=field):
        memory.write(keys, np.array(column), np.array(values))
    assert memory.written.tolist() == [0]

"""Optimal stopping along a line: hand-worked, against brute force, and monotone in the price."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from turnout.core import InputError, Outcomes, Pool
from turnout.parts.stopping import by_price, edge, line_up, solve, walk


def test_two_columns_by_hand() -> None:
    """Keep 0.8, go on from 0.2: 0.85 of quality for 1 + 3/2 of cost, worth 0.6 at price 0.1."""
    plan = solve(np.array([[[0.2, 0.8], [0.9, 0.9]]]), np.array([[1.0, 3.0]]), 0.1)
    assert plan.value[0] == pytest.approx([0.6, 0.6])
    assert plan.first.tolist() == [0]  # the tie goes to the earlier
    assert (plan.leave[0, 0], plan.cost[0, 0]) == pytest.approx((0.5, 2.5))
    assert plan.quality[0, 0] == pytest.approx(0.85)
    index, weight = walk(plan)
    assert index.tolist() == [[0, 1]]
    assert weight.tolist() == [[0.5, 0.5]]


def test_what_is_below_the_bar_is_not_kept_by_hand() -> None:
    """Keep 0.8 but never 0.2, though going on costs 9 and the price says to stop."""
    cases, cost = np.array([[[0.2, 0.8], [0.9, 0.9]]]), np.array([[1.0, 9.0]])
    free = solve(cases, cost, 0.5)
    assert (free.leave[0, 0], free.value[0, 0]) == pytest.approx((0.0, 0.0))
    plan = solve(cases, cost, 0.5, np.array([0.5, 0.95]))
    # 0.4 kept, and half the time 0.9 less half of 9; the last column is kept below its bar
    assert plan.value[0] == pytest.approx([0.4 + 0.5 * (0.9 - 4.5) - 0.5, 0.9 - 4.5])
    assert (plan.leave[0, 0], plan.cost[0, 0], plan.leave[0, 1]) == pytest.approx((0.5, 5.5, 0.0))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.0, 3.0), st.booleans())
def test_no_rule_does_better(seed: int, price: float, barred: bool) -> None:
    """Against every sub-line of three columns with every set of cases that it may accept.

    With a bar it may accept none below it, but in the last column.
    """
    rng = default_rng(seed)
    cases, cost = rng.integers(0, 5, (3, 3)) / 4, rng.integers(0, 4, 3) / 4
    bar = rng.integers(0, 6, 3) / 4 if barred else np.full(3, -np.inf)
    may = (cases >= bar[:, None]) | (np.arange(3) == 2)[:, None]
    best = -np.inf
    for size in (1, 2, 3):
        for line in combinations(range(3), size):
            for accepts in product(product((False, True), repeat=3), repeat=size - 1):
                sets = [np.array(accept) for accept in (*accepts, (True,) * 3)]
                if any((kept & ~may[j]).any() for j, kept in zip(line, sets, strict=True)):
                    continue
                worth, reach = 0.0, 1.0
                for j, kept in zip(line, sets, strict=True):
                    worth += reach * ((cases[j] * kept).mean() - price * cost[j])
                    reach *= 1.0 - kept.mean()
                best = max(best, worth)
    plan = solve(cases[None], cost[None], price, bar)
    assert plan.value.max() == pytest.approx(best)
    assert plan.at_start(plan.quality) - price * plan.at_start(plan.cost) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_the_spend_never_rises_with_the_price(seed: int, one: float, two: float) -> None:
    """Item by item, and its quality does not rise either."""
    rng = default_rng(seed)
    cases, cost = rng.random((8, 4, 5)), rng.random((8, 4))
    low, high = (solve(cases, cost, p) for p in sorted((one, two)))
    rows = np.arange(8)
    assert (high.cost[rows, high.first] <= low.cost[rows, low.first] + 1e-12).all()
    assert (high.quality[rows, high.first] <= low.quality[rows, low.first] + 1e-12).all()


def test_a_walk_ends_where_nothing_more_is_reached() -> None:
    """A sure first answer is a plan of one step, its weight 1."""
    plan = solve(np.array([[[0.9, 0.9], [0.9, 0.9]]]), np.array([[1.0, 2.0]]), 0.1)
    index, weight = walk(plan)
    assert index.tolist() == [[0]]
    assert weight.tolist() == [[1.0]]


def test_a_line_leaves_out_what_is_down_and_counts_in_the_pool() -> None:
    """Columns a, b, c asked as c, a, b; the pool lists b first and has a down."""
    pool = Pool(names=("b", "a", "c")).with_down(["a"])
    line = line_up(("a", "b", "c"), np.array([2, 0, 1]), pool)
    assert line.column.tolist() == [2, 1]
    assert line.place.tolist() == [2, 0]
    said = [["x"], ["x"]]
    assert line.passed(np.array([[2], [0]]), said, 2).tolist() == [1, 2]
    assert line.passed(np.empty((2, 0), dtype=np.int64), said, 2).tolist() == [0, 0]


@pytest.mark.parametrize("asked", [np.zeros(2, dtype=int), np.zeros((3, 1), dtype=int)])
def test_steps_that_are_not_aligned_are_refused(asked: Any) -> None:
    """One axis too few, or one row too many."""
    line = line_up(("a", "b"), np.array([0, 1]), Pool(names=("a", "b")))
    with pytest.raises(InputError, match="asked and answers"):
        line.passed(asked, [["x"], ["x"]], 2)


def test_by_price_puts_the_weaker_of_equals_first() -> None:
    """Equal costs: the better comes later, where it is asked only if the weaker failed."""
    table = Outcomes(
        inputs=["a", "b"],
        names=("dear", "good", "poor"),
        quality=np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]),
        cost=np.array([[5.0, 1.0, 1.0]] * 2),
    )
    assert by_price(table).tolist() == [2, 1, 0]


def test_edge_closes_on_where_it_turns() -> None:
    """Both sides of 37.5, also from a scale far below; no edge gives the far end twice."""
    low, high = edge(lambda x: x < 37.5, 1e-3)
    assert low == pytest.approx(37.5)
    assert low < 37.5 <= high
    far, same = edge(lambda x: True, 1.0)
    assert far == same

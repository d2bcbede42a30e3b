"""Which answers to buy next."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError, Inputs, Outcomes, Pool
from turnout.llms.clusters import Clusters
from turnout.llms.knn import Knn
from turnout.llms.linear import Linear
from turnout.parts.feedback.buying import (
    Cells,
    Contest,
    Market,
    Order,
    Rows,
    Strategy,
    _gains,
    plan,
)
from turnout.testing import planted

STRATEGIES: tuple[Strategy, ...] = (
    Cells(),
    Cells(0.5),
    Cells(1.0),
    Rows(),
    Contest(members=2, warm=2),
)
IDS = ("cells", "cells-root", "cells-even", "rows", "contest")


@dataclass(frozen=True)
class Means:
    """A recipe that predicts the mean of each destination."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> FittedMeans:
        return FittedMeans(outcomes.names, outcomes.mean_quality(), outcomes.mean_cost())


@dataclass(frozen=True, eq=False)
class FittedMeans:
    names: tuple[str, ...]
    quality: np.ndarray
    cost: np.ndarray

    def predict(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(self.quality, (len(inputs), 1)), np.tile(self.cost, (len(inputs), 1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def prompts(n: int) -> list[str]:
    return [f"question {i}" for i in range(n)]


def pairs(order: Order) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in order.cells}


def some_seen(n: int, m: int, seed: int = 0) -> Outcomes:
    """The first rows of `prompts`, with about half of their cells, each destination at least once.

    The last destination is the best by far, so that the committee has something to prefer.
    """
    source = rng(seed)
    quality = (source.random((n, m)) < np.linspace(0.2, 0.9, m)).astype(float)
    mask = source.random((n, m)) < 0.5
    mask[0] = True
    return Outcomes(
        inputs=prompts(n),
        names=[f"model {j}" for j in range(m)],
        quality=np.where(mask, quality, np.nan),
        cost=np.where(mask, 1.0, np.nan),
    )


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 4),
    which=st.integers(0, len(STRATEGIES) - 1),
    history=st.booleans(),
    share=st.floats(0.0, 1.2),
    seed=st.integers(0, 2**16),
)
def test_never_too_much_and_never_twice(
    n: int, m: int, which: int, history: bool, share: float, seed: int
) -> None:
    """The spend is kept to exactly, no cell is bought twice, and none that was seen."""
    cost = rng(seed).choice([0.0, 0.1, 0.3, 1.0, 7.0], size=(n, m))
    seen = some_seen(max(n // 2, 1), m, seed) if history else None
    spend = share * float(cost.sum())
    order = plan(prompts(n), cost, seen, spend, Means(), rng(seed), strategy=STRATEGIES[which])
    assert math.fsum(order.cost) <= spend
    assert order.spend == math.fsum(order.cost)
    assert len(pairs(order)) == len(order) == len(order.cost)
    for (row, column), price in zip(order.cells, order.cost, strict=True):
        assert price == cost[row, column]
        assert seen is None or row >= seen.n or not seen.seen[row, column]
    for_sale = n * m - (0 if seen is None else int(seen.seen.sum()))
    if share > 1.0:
        assert len(order) == for_sale
    # nothing that came next in the order was left although it fitted
    more = plan(prompts(n), cost, seen, 1e9, Means(), rng(seed), strategy=STRATEGIES[which])
    assert more.cells[: len(order)].tolist() == order.cells.tolist()
    if len(order) < len(more):
        assert math.fsum(more.cost[: len(order) + 1]) > spend


def test_a_sum_that_rounds_down_is_no_excuse() -> None:
    """A running sum of 1 and tiny costs stays 1; their true sum is above it, and is not spent."""
    cost = np.array([[1.0], [2.0**-53], [2.0**-53], [2.0**-53]])
    lengths = set()
    for seed in range(20):
        order = plan(prompts(4), cost, None, 1.0, Means(), rng(seed), strategy=Rows())
        assert math.fsum(order.cost) <= 1.0
        lengths.add(len(order))
    assert len(lengths) > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30))
def test_the_price_of_everything_buys_everything(costs: list[float]) -> None:
    """No rounding on the way stands in between."""
    cost = np.array(costs)[:, None]
    spend = math.fsum(costs)
    assert len(plan(prompts(len(costs)), cost, None, spend, Means(), rng())) == len(costs)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
def test_plans_are_nested(strategy: Strategy) -> None:
    """With one generator's seed, a smaller spend buys the first cells of a larger one."""
    cost = np.tile([0.1, 0.3, 0.9], (30, 1))
    seen = some_seen(10, 3)
    orders = [
        plan(prompts(30), cost, seen, spend, Means(), rng(4), strategy=strategy)
        for spend in (0.0, 0.5, 2.0, 7.7, 100.0)
    ]
    for fewer, more in itertools.pairwise(orders):
        assert more.cells[: len(fewer)].tolist() == fewer.cells.tolist()
        assert len(more) > len(fewer)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
def test_the_same_generator_the_same_plan(strategy: Strategy) -> None:
    """Ties included: every cell costs the same here. Another seed orders them otherwise."""
    seen, cost = some_seen(10, 3), np.ones((30, 3))
    first, again, other = (
        plan(prompts(30), cost, seen, 20.0, Means(), rng(seed), strategy=strategy)
        for seed in (1, 1, 2)
    )
    assert first.cells.tolist() == again.cells.tolist()
    assert first.cells.tolist() != other.cells.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
def test_every_destination_is_tried_first(strategy: Strategy) -> None:
    """With nothing seen the first m cells are one of each destination: a method can be fitted."""
    cost = np.tile([1.0, 5.0, 25.0], (20, 1))
    order = plan(prompts(20), cost, None, 40.0, Means(), rng(3), strategy=strategy)
    assert sorted(order.cells[:3, 1].tolist()) == [0, 1, 2]


def test_a_budget_below_any_cell_buys_nothing() -> None:
    """And so does one of nothing, where cells cost something."""
    cost = np.full((4, 2), 3.0)
    for spend in (0.0, 2.999999):
        order = plan(prompts(4), cost, None, spend, Means(), rng())
        assert len(order) == 0
        assert order.cells.shape == (0, 2)
        assert order.spend == 0.0


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
def test_free_cells_are_bought_first(strategy: Strategy) -> None:
    """A destination that costs nothing is bought whole, with nothing to spend, by most rules."""
    cost = np.tile([0.0, 5.0], (20, 1))
    seen = some_seen(8, 2)
    order = plan(prompts(20), cost, seen, 0.0, Means(), rng(), strategy=strategy)
    assert (order.cost == 0.0).all()
    if strategy in STRATEGIES[1:3] or isinstance(strategy, Contest):
        assert len(order) == 20 - int(seen.seen[:, 0].sum())


def test_all_cells_free() -> None:
    """Then everything is bought for nothing."""
    for strategy in STRATEGIES:
        order = plan(prompts(5), np.zeros((5, 3)), None, 0.0, Means(), rng(), strategy=strategy)
        assert len(order) == 15


def test_nothing_to_buy() -> None:
    """No prompts, or all of them seen: an empty plan."""
    assert len(plan([], np.empty((0, 2)), None, 9.0, Means(), rng())) == 0
    seen = some_seen(4, 2)
    full = replace(seen, quality=np.ones((4, 2)), cost=np.ones((4, 2)))
    assert len(plan(prompts(4), np.ones((4, 2)), full, 9.0, Means(), rng())) == 0


def test_a_prompt_that_stands_twice_is_bought_once() -> None:
    """Texts and vectors alike; what was seen of one copy is known of the other."""
    texts = ["a", "b", "a"]
    order = plan(texts, np.ones((3, 2)), None, 99.0, Means(), rng())
    assert pairs(order) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    order = plan(vectors, np.ones((3, 2)), None, 99.0, Means(), rng())
    assert pairs(order) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    seen = Outcomes(
        inputs=["elsewhere", "a"],
        names=("x", "y"),
        quality=np.array([[1.0, 1.0], [np.nan, 1.0]]),
        cost=np.ones((2, 2)),
    )
    order = plan(texts, np.ones((3, 2)), seen, 99.0, Means(), rng(), strategy=Rows())
    assert pairs(order) == {(0, 0), (1, 0), (1, 1)}


def test_seen_vectors_are_known() -> None:
    """Equal rows of an array are one prompt."""
    vectors = np.arange(12.0).reshape(6, 2)
    seen = Outcomes(
        inputs=vectors[:3], names=("x", "y"), quality=np.ones((3, 2)), cost=np.ones((3, 2))
    )
    order = plan(vectors, np.ones((6, 2)), seen, 99.0, Means(), rng())
    assert pairs(order) == {(row, column) for row in (3, 4, 5) for column in (0, 1)}


def counts(order: Order, m: int) -> np.ndarray:
    return np.bincount(order.cells[:, 1], minlength=m)


def test_begun_rows_are_finished_first() -> None:
    """A second round of whole rows starts with the one that the first broke off."""
    cost = np.ones((20, 3))
    first = plan(prompts(20), cost, None, 10.0, Means(), rng(), strategy=Rows())
    rows = sorted({row for row, _ in pairs(first)})
    quality = np.full((len(rows), 3), np.nan)
    for row, column in pairs(first):
        quality[rows.index(row), column] = 1.0
    seen = Outcomes(
        inputs=[prompts(20)[row] for row in rows],
        names=("a", "b", "c"),
        quality=quality,
        cost=np.where(np.isnan(quality), np.nan, 1.0),
    )
    second = plan(prompts(20), cost, seen, 2.0, Means(), rng(9), strategy=Rows())
    broken = [row for row in rows if sum(r == row for r, _ in pairs(first)) < 3]
    assert len(broken) == 1
    assert {row for row, _ in pairs(second)} == set(broken)


def test_rows_are_bought_whole() -> None:
    """But for the last one, every row has all its destinations."""
    cost = np.tile([1.0, 2.0, 3.0], (50, 1))
    order = plan(prompts(50), cost, None, 62.0, Means(), rng(), strategy=Rows())
    per_row = np.bincount(order.cells[:, 0], minlength=50)
    assert sorted(set(per_row.tolist())) in ([0, 3], [0, 1, 3], [0, 2, 3])
    assert (per_row == 3).sum() == 10


@pytest.mark.parametrize(("power", "share"), [(0.0, 1.0), (0.5, 3.0), (1.0, 9.0)])
def test_cells_are_drawn_by_their_cost(power: float, share: float) -> None:
    """Of costs 1 and 9, the first draws fall on the cheap 1, 3 or 9 times as often."""
    cost = np.tile([1.0, 9.0], (4000, 1))
    order = plan(prompts(4000), cost, None, 900.0, Means(), rng(), strategy=Cells(power))
    cheap, dear = counts(order, 2)
    assert cheap / dear == pytest.approx(share, rel=0.25)


def market(seen: Outcomes | None, n: int, cost: np.ndarray) -> Market:
    closed = np.zeros(cost.shape, dtype=bool)
    return Market(
        prompts=prompts(n), cost=cost, known=closed, open=~closed, seen=seen, recipe=Means()
    )


def test_a_sure_loser_is_bought_least() -> None:
    """Dear and bad: no member would choose it at any price, so only the floor is left."""
    source = rng(5)
    quality = (source.random((200, 3)) < np.array([0.5, 0.55, 0.05])).astype(float)
    seen = Outcomes(
        inputs=prompts(200), names=("a", "b", "bad"), quality=quality, cost=np.ones((200, 3))
    )
    cost = np.tile([1.0, 1.1, 9.0], (300, 1))
    weights = Contest(members=8, floor=0.02).weights(market(seen, 300, cost), rng=rng())
    assert (weights[:, 2] == 0.02).all()
    # all that is worth anything is shared by the others, and the mean worth is one
    assert weights.mean() == pytest.approx(1.02)
    assert weights[:, :2].min() > 0.3
    offered = [f"new {i}" for i in range(300)]
    order = plan(offered, cost, seen, 100.0, Means(), rng(), strategy=Contest(members=8))
    bought = counts(order, 3)
    assert bought[2] * 9.0 < 0.5 * (bought[0] + 1.1 * bought[1])


@dataclass(frozen=True)
class Split:
    """A recipe that is sure of half of the prompts, and of the others says what it last saw."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> FittedSplit:
        return FittedSplit(outcomes.names, float(rng.random()))


@dataclass(frozen=True, eq=False)
class FittedSplit:
    names: tuple[str, ...]
    mood: float

    def predict(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        sure = np.array([int(text.split()[1]) % 2 == 0 for text in inputs])
        large = np.where(sure, 0.9, self.mood)
        return np.column_stack([np.full(len(sure), 0.5), large]), np.ones((len(sure), 2))


def test_where_the_members_agree_little_is_bought() -> None:
    """On even prompts all members know the better; nearly all money goes to the odd ones."""
    seen = some_seen(60, 2)
    cost = np.ones((1000, 2))
    offered = [f"other {i}" for i in range(1000)]
    rule = Contest(members=8, even=0.0, floor=0.01, prices=(0.0,))
    order = plan(offered, cost, seen, 200.0, Split(), rng(), strategy=rule)
    odd = order.cells[:, 0] % 2 == 1
    assert odd.mean() > 0.95
    spread = replace(rule, even=1.0)
    order = plan(offered, cost, seen, 200.0, Split(), rng(), strategy=spread)
    assert (order.cells[:, 0] % 2 == 1).mean() == pytest.approx(0.5, abs=0.1)


def test_gains_by_hand() -> None:
    """Two members at prices 0 and 1/10: the choice is worth what the best of the others is."""
    quality = np.array([[[0.5, 0.9, 0.1]], [[0.5, 0.3, 0.1]]])
    cost = np.array([[1.0, 3.0, 1.0]])
    # free: mean 0.5, 0.6 and 0.1, so the second is chosen; the first is 0.2 better in one member
    free = _gains(quality, cost, (0.0,))
    assert free == pytest.approx(np.array([[0.1, 0.1, 0.0]]))
    # at 1/10 the first is chosen, at 0.4; the second has 0.6 in one member
    dear = _gains(quality, cost, (0.1,))
    assert dear == pytest.approx(np.array([[0.1, 0.1, 0.0]]))
    assert _gains(quality, cost, (0.0, 0.1)) == pytest.approx((free + dear) / 2)
    # at 2 nobody would choose the second
    assert _gains(quality, cost, (2.0,)) == pytest.approx(np.zeros((1, 3)))


def test_contest_waits_until_there_is_something_to_learn_from() -> None:
    """With fewer labels than `warm` a destination, cells are drawn at cost^-1/2."""
    cost = np.tile([1.0, 4.0], (60, 1))
    seen = some_seen(10, 2)
    for before in (None, seen):
        ours = plan(prompts(60), cost, before, 50.0, Means(), rng(), strategy=Contest(warm=20))
        plain = plan(prompts(60), cost, before, 50.0, Means(), rng(), strategy=Cells(0.5))
        assert ours.cells.tolist() == plain.cells.tolist()


def test_the_prices_of_interest_are_kept_to() -> None:
    """At a price at which only the cheap can win there is no contest: all weights are alike."""
    cost = np.tile([1.0, 4.0], (60, 1))
    seen = some_seen(60, 2)
    dear = Contest(members=4, warm=2, prices=(50.0,)).weights(market(seen, 60, cost), rng=rng())
    assert (dear == 1.0).all()
    near = Contest(members=4, warm=2, prices=(0.15,)).weights(market(seen, 60, cost), rng=rng())
    assert near.shape == (60, 2)
    assert near.mean() == pytest.approx(1.02)


def test_cells_with_nothing_graded_yet_teach_nothing() -> None:
    """Rows of `seen` that hold no grade are prompts on offer, and are left out of the fits."""
    seen = some_seen(60, 2)
    blank = replace(seen, quality=np.where(np.arange(60)[:, None] < 30, seen.quality, np.nan))
    order = plan(blank.inputs, np.ones((60, 2)), blank, 30.0, Means(), rng())
    assert len(order) == 30
    assert (order.cells[:, 0] >= 30).any()


@pytest.mark.parametrize(
    "recipe", [Linear(), Knn(k=20), Clusters()], ids=["linear", "knn", "clusters"]
)
def test_any_method_that_predicts(recipe) -> None:
    """The rule asks nothing of a method but its predictions."""
    table = planted.hard(150, rng(1)).outcomes
    start = table.take(np.arange(60))
    seen = replace(start, quality=start.quality, answers=None)
    order = plan(table.inputs, table.cost, seen, 0.05, recipe, rng())
    assert 0.0 < order.spend <= 0.05
    assert order.cells[:, 0].min() >= 60


def test_a_plan_cannot_be_changed() -> None:
    """Its arrays are read-only, and what was handed in is as it was."""
    cost = np.ones((4, 2))
    order = plan(prompts(4), cost, None, 5.0, Means(), rng())
    with pytest.raises(ValueError, match="read-only"):
        order.cells[0, 0] = 7
    with pytest.raises(ValueError, match="read-only"):
        order.cost[0] = 7
    assert cost.flags.writeable
    assert (cost == 1.0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": np.array([[1.0, np.nan]] * 3)}, r"cost\[0, 1\] must not be NaN"),
        ({"cost": np.array([[1.0, -1.0]] * 3)}, r"cost\[0, 1\] must be a finite number >= 0"),
        ({"cost": np.array([[1.0, np.inf]] * 3)}, r"cost\[0, 1\] must be a finite number"),
        ({"cost": np.ones((2, 2))}, r"cost must have shape \(3, any\)"),
        ({"spend": -1.0}, "spend must be a finite number >= 0"),
        ({"spend": float("inf")}, "spend must be a finite number"),
        ({"seen": some_seen(3, 3)}, "seen must hold the 2 destinations"),
        ({"prompts": np.zeros((3, 2)), "seen": some_seen(3, 2)}, "prompts must be of the kind"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes: dict, message: str) -> None:
    """Each argument is named."""
    fields = {"prompts": prompts(3), "cost": np.ones((3, 2)), "seen": None, "spend": 2.0, **changes}
    with pytest.raises(InputError, match=message):
        plan(**fields, recipe=Means(), rng=rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cells(-1.0), r"cells\.power"),
        (lambda: Contest(members=1), r"contest\.members"),
        (lambda: Contest(floor=0.0), r"contest\.floor"),
        (lambda: Contest(even=1.5), r"contest\.even"),
        (lambda: Contest(warm=1), r"contest\.warm"),
        (lambda: Contest(prices=()), r"contest\.prices must hold a price"),
        (lambda: Contest(prices=(-1.0,)), r"contest\.prices"),
    ],
)
def test_wrong_strategies_are_refused(make, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        make()

"""Promises: they hold on new rows, they are the cheapest that do, and they are refused in time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from turnout.core import Budget, InputError
from turnout.parts import prices
from turnout.parts.guarantees import bounds
from turnout.parts.guarantees.conformal import Guarantee, keep_quality, keep_up, limit_wrong
from turnout.parts.guarantees.heldout import HeldOut

Promise = Callable[[HeldOut], Guarantee]


def world(n: int, seed: int, *, m: int = 2, skill: float = 1.0, binary: bool = True) -> HeldOut:
    """Rows of a world in which dearer destinations are better, by how much varies.

    With skill 1 the router predicts the true chances, with 0 numbers that mean nothing.
    """
    rng = np.random.default_rng(seed)
    step = np.linspace(0, 1, m)
    chance = np.clip(0.9 - rng.random((n, 1)) * (1 - step) + rng.normal(0, 0.05, (n, m)), 0, 1)
    truth = (rng.random((n, m)) < chance).astype(float) if binary else rng.beta(9 * chance + 1, 2)
    noise = rng.random((n, m))
    cost = (1 + 8 * step) * rng.uniform(0.8, 1.2, (n, 1))
    return HeldOut(skill * chance + (1 - skill) * noise, cost, truth, cost)


def rows_of(held: HeldOut, rows: Any) -> HeldOut:
    tables = (held.quality, held.cost, held.true_quality, held.true_cost)
    return HeldOut(*(table[rows] for table in tables))


def at(held: HeldOut, price: float, table: np.ndarray) -> float:
    """Mean of a table at the choices of one price."""
    choice = prices.choose(held.quality, held.cost, price)
    return float(table[np.arange(held.n), choice].mean())


def loss_of(held: HeldOut, kind: str, strong: int) -> np.ndarray:
    loss = 1.0 - held.true_quality
    if kind == "wrong":
        loss[:, strong] = 0.0
    if kind == "margin":
        loss = held.true_quality[:, [strong]] - held.true_quality
    return loss


PROMISES: dict[str, tuple[Promise, str, float]] = {
    "expected": (lambda held: limit_wrong(held, strong=1, alpha=0.1), "wrong", 0.1),
    "wrong": (lambda held: limit_wrong(held, strong=1, alpha=0.1, confidence=0.9), "wrong", 0.1),
    "quality": (lambda held: keep_quality(held, floor=0.75, confidence=0.9), "quality", 0.25),
    "margin": (lambda held: keep_up(held, strong=1, margin=0.1, confidence=0.9), "margin", 0.1),
}


class Risks:
    """The true risk of every price, where the world is a large table and rows are drawn from it."""

    def __init__(self, held: HeldOut, kind: str, strong: int = 1) -> None:
        self.held = held
        self._risk = held.totals(loss_of(held, kind, strong)) / held.n
        self._edges = -held.edges

    def of(self, price: float | None) -> float:
        """At a price; zero without one, where everything goes to the strong one."""
        if price is None:
            return 0.0
        return float(self._risk[np.searchsorted(self._edges, -price, side="left") - 1])


def test_the_risk_of_a_price_is_looked_up_rightly() -> None:
    """The helper of these tests says what deciding every row says."""
    held = world(300, 0, m=3)
    risks = Risks(held, "quality")
    for price in (0.0, 0.01, 0.05, 0.2, 3.0):
        assert risks.of(price) == pytest.approx(at(held, price, 1 - held.true_quality))


def test_conformal_risk_control_by_hand() -> None:
    """Nine rows leave the strong one at prices 1 to 9, every third of them wrong; alpha 0.3.

    (wrong + 1) / 10 <= 0.3 allows two wrong ones: up to where the third leaves, at price 9.
    """
    gain = np.arange(1.0, 10.0)
    quality = np.column_stack([np.zeros(9), gain / 10])
    cost = np.tile([0.0, 0.1], (9, 1))
    truth = np.column_stack([np.arange(1, 10) % 3 > 0, np.ones(9)]).astype(float)
    found = limit_wrong(HeldOut(quality, cost, truth, cost), strong=1, alpha=0.3)
    assert found.price == pytest.approx(8.5)
    assert (found.risk, found.bound) == pytest.approx((2 / 9, 0.3))
    assert found.cost == pytest.approx(0.1 / 9)
    assert found.grows is True


def test_learn_then_test_by_hand() -> None:
    """Of 40 rows the weak one errs in the last 10: at most 3 may be wrong for 0.2 at 90 %.

    P(Bin(40, 0.2) <= 4) is 0.076 and P(Bin <= 5) is 0.161, so that 4 pass and 5 do not.
    """
    gain = np.arange(1.0, 41.0) / 40
    quality = np.column_stack([np.zeros(40), gain])
    cost = np.tile([0.0, 1.0], (40, 1))
    truth = np.column_stack([np.arange(40) < 30, np.ones(40)]).astype(float)
    found = keep_quality(HeldOut(quality, cost, truth, cost), floor=0.8, confidence=0.9)
    assert found.risk == pytest.approx(4 / 40)
    assert found.price == pytest.approx((34 + 35) / 2 / 40)
    assert binom.cdf(4, 40, found.bound) == pytest.approx(0.1)


def tables() -> st.SearchStrategy[tuple[HeldOut, int]]:
    """Rows on coarse grids, so that ties, equal costs, zeros and non-growing losses abound."""

    @st.composite
    def draw_tables(draw: st.DrawFn) -> tuple[HeldOut, int]:
        n, m = draw(st.integers(1, 8)), draw(st.integers(1, 4))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        grid = draw(st.sampled_from([1, 4]))
        quality = rng.integers(0, 9, (n, m)) / 8
        cost = rng.integers(0, draw(st.sampled_from([1, 2, 5])), (n, m)) / 4
        truth = rng.integers(0, grid + 1, (n, m)) / grid
        return HeldOut(quality, cost, truth, rng.random((n, m))), int(rng.integers(m))

    return draw_tables()


def every_price(held: HeldOut) -> list[float]:
    """One price inside each interval in which no row of the table can change, from zero up."""
    q, c = held.quality, held.cost
    gain, extra = q[:, :, None] - q[:, None, :], c[:, :, None] - c[:, None, :]
    edges = np.unique(gain[(gain > 0) & (extra > 0)] / extra[(gain > 0) & (extra > 0)])
    if len(edges) == 0:
        return [1.0]
    return [*((np.append(0.0, edges[:-1]) + edges) / 2), 2 * float(edges[-1]) + 1]


def passes(held: HeldOut, kind: str, loss: np.ndarray, alpha: float, confidence: float | None):
    """For each of `every_price`, whether it passes: the plainest loops."""
    worst = np.full(held.n, -np.inf)
    for price in every_price(held):
        now = loss[np.arange(held.n), prices.choose(held.quality, held.cost, price)]
        worst = np.maximum(worst, now)
        n, total = held.n, now.sum()
        if confidence is None:
            yield price, (worst.sum() + 1) / (n + 1) <= alpha + 1e-12
        elif kind == "margin":
            bets = [
                np.prod(1 + s * (alpha - now)) for s in bounds.stakes(n, 1 - confidence, width=2.0)
            ]
            yield price, np.mean(bets) >= 1 / (1 - confidence)
        else:
            binary = bool(np.isin(loss, (0, 1)).all())
            p = bounds.p_value(total, n, alpha, binary=binary)
            yield price, p <= 1 - confidence


@settings(deadline=None, max_examples=100)
@given(
    tables(),
    st.sampled_from(["wrong", "wrong", "quality", "margin"]),
    st.sampled_from([0.3, 0.55, 0.8, 0.95]),
    st.sampled_from([None, None, 0.2, 0.6]),
)
def test_the_price_is_the_last_of_all_before_one_fails(
    table: tuple[HeldOut, int], kind: str, alpha: float, confidence: float | None
) -> None:
    """Walking every interval of prices in plain loops ends at the same choices."""
    held, strong = table
    if kind == "wrong":
        found = limit_wrong(held, strong=strong, alpha=alpha, confidence=confidence)
    elif kind == "quality":
        confidence = confidence or 0.4
        found = keep_quality(held, floor=1 - alpha, confidence=confidence)
        alpha = 1 - (1 - alpha)
    else:
        confidence = confidence or 0.4
        found = keep_up(held, strong=strong, margin=alpha, confidence=confidence)
    loss = loss_of(held, kind, strong)
    want = None
    for price, fine in passes(held, kind, loss, alpha, confidence):
        if not fine:
            break
        want = price
    if want is None:
        assert found.price is None
        return_to = 0.0
    else:
        assert found.price is not None
        return_to = want
        choices = [prices.choose(held.quality, held.cost, p) for p in (found.price, want)]
        assert choices[0].tolist() == choices[1].tolist()
    assert found.risk == pytest.approx(at(held, return_to, loss))
    assert found.cost == pytest.approx(at(held, return_to, held.true_cost))


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_the_expected_promise_holds_and_is_not_wasteful(m: int, skill: float) -> None:
    """Over 800 draws of 60 rows the mean true risk is at most alpha, useful router or not.

    With two destinations it is also at least alpha - 2 / (n + 1), less what chance allows: the
    method is tight there (theorem 2 of the paper).
    """
    whole = world(20_000, 5, m=m, skill=skill)
    risks = Risks(whole, "wrong", m - 1)
    rng, n, alpha = np.random.default_rng(1), 60, 0.2
    got = np.array(
        [
            risks.of(
                limit_wrong(
                    rows_of(whole, rng.integers(0, whole.n, n)), strong=m - 1, alpha=alpha
                ).price
            )
            for _ in range(800)
        ]
    )
    error = got.std() / math.sqrt(len(got))
    assert got.mean() <= alpha + 3 * error
    if m == 2 and skill == 1.0:
        assert got.mean() >= alpha - 2 / (n + 1) - 3 * error


@pytest.mark.parametrize("name", ["wrong", "quality", "margin"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_a_sure_promise_is_broken_no_more_often_than_it_says(
    name: str, binary: bool, skill: float
) -> None:
    """Over 200 draws of 300 rows the true risk is too high in a tenth at most, but for chance."""
    promise, kind, alpha = PROMISES[name]
    whole = world(20_000, 7, skill=skill, binary=binary)
    risks = Risks(whole, kind)
    rng = np.random.default_rng(2)
    prices_found = [
        promise(rows_of(whole, rng.integers(0, whole.n, 300))).price for _ in range(200)
    ]
    broken = sum(price is not None and risks.of(price) > alpha for price in prices_found)
    assert broken <= binom.ppf(0.999, 200, 0.1)
    if skill == 1.0 and binary:
        assert sum(price is not None for price in prices_found) > 175
    if (name, skill, binary) == ("quality", 1.0, True):
        assert broken >= 4, "an exact test that never errs is not exact"


def test_a_loss_that_comes_and_goes_is_bounded_by_its_greatest_so_far() -> None:
    """Ten rows are wrong at the middle one and right at the cheapest, ten the other way round.

    The mean loss is a half at every price below the strong one's; up to the cheapest every row was
    wrong at some price, so that a level of 0.6 holds where the middle one is taken and no further.
    """
    quality = np.tile([0.1, 0.6, 0.5], (20, 1))
    cost = np.tile([0.0, 2.0, 9.0], (20, 1))
    first = np.arange(20) < 10
    truth = np.column_stack([first, ~first, np.ones(20)]).astype(float)
    held = HeldOut(quality, cost, truth, cost)
    found = limit_wrong(held, strong=2, alpha=0.6)
    assert found.grows is False
    assert found.price is not None
    assert found.price < 0.25
    assert (found.risk, found.bound) == pytest.approx((0.5, 11 / 21))
    assert limit_wrong(held, strong=2, alpha=0.5).price is None


@pytest.mark.parametrize("name", list(PROMISES))
def test_a_useless_router_falls_back_to_the_strong_one(name: str) -> None:
    """Where the same is predicted for every row, all go to the strong one or all to the weak."""
    base = world(2000, 3)
    same = HeldOut(
        np.tile([0.4, 0.9], (base.n, 1)), np.tile([1.0, 9.0], (base.n, 1)), *truth_of(base)
    )
    found = PROMISES[name][0](same)
    assert found.price is not None
    assert found.price < 0.5 / 8
    assert found.cost == pytest.approx(same.true_cost[:, 1].mean())


def truth_of(held: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    return held.true_quality, held.true_cost


@pytest.mark.parametrize("name", ["expected", "quality"])
def test_a_router_that_takes_the_wrong_for_the_right_is_refused(name: str) -> None:
    """Where the router believes in the weak one, no price helps, and the refusal says so."""
    base = world(2000, 3)
    backwards = HeldOut(1 - base.quality, base.cost, *truth_of(base))
    found = PROMISES[name][0](backwards)
    assert found.price is None
    assert found.needed is None
    assert "more rows would not help" in found.sentence


@pytest.mark.parametrize("binary", [True, False])
def test_asking_less_never_costs_more(binary: bool) -> None:
    """The price rises with alpha and margin, and falls with floor and confidence."""
    held = world(1500, 4, m=3, binary=binary)
    steps = np.linspace(0.0, 1.0, 21)

    def rising(found: list[Guarantee]) -> None:
        got = [-1.0 if one.price is None else one.price for one in found]
        assert got == sorted(got)
        assert got[0] < got[-1], "a walk that never moves proves nothing"

    rising([limit_wrong(held, strong=2, alpha=step) for step in steps])
    rising([limit_wrong(held, strong=2, alpha=step, confidence=0.9) for step in steps])
    rising([keep_quality(held, floor=1 - step) for step in steps])
    rising([keep_up(held, strong=2, margin=step) for step in steps])
    sure = [0.999, 0.9, 0.5, 0.1]
    rising([keep_quality(held, floor=0.8, confidence=step) for step in sure])
    rising([keep_up(held, strong=2, margin=0.05, confidence=step) for step in sure])
    rising([limit_wrong(held, strong=2, alpha=0.1, confidence=step) for step in sure])


@pytest.mark.parametrize("name", list(PROMISES))
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    """Half of the rows are repeats, so that many switch at one price: they switch together."""
    held = rows_of(world(400, 6), np.arange(800) % 400)
    found = PROMISES[name][0](held)
    other = PROMISES[name][0](rows_of(held, np.random.default_rng(0).permutation(800)))
    assert found.price is not None
    assert found.record() == pytest.approx(other.record())
    assert at(held, found.price, held.true_cost) == pytest.approx(found.cost)


@pytest.mark.parametrize("name", list(PROMISES))
def test_one_row_proves_nothing(name: str) -> None:
    """It is refused, and the number of rows that would do is told."""
    right = HeldOut(
        np.array([[0.1, 0.9]]), np.array([[1.0, 9.0]]), np.ones((1, 2)), np.ones((1, 2))
    )
    found = PROMISES[name][0](right)
    assert found.price is None
    assert found.needed is not None
    assert found.needed > 1
    assert f"some {found.needed:,} rows like these" in found.sentence
    assert found.bound <= 1


@pytest.mark.parametrize("name", list(PROMISES))
@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_as_many_rows_as_were_called_for_are_enough(name: str, wrong: float) -> None:
    """The same dozen over and over, up to the number told, is promised; a tenth less is not.

    The weak one is taken once, and wrongly; the strong one is wrong once where it is taken.
    """
    quality = np.tile([0.1, 0.9], (12, 1))
    quality[0] = 0.9, 0.1
    truth = np.ones((12, 2))
    truth[0, 0] = truth[1, 1] = wrong
    few = HeldOut(quality, np.tile([1.0, 9.0], (12, 1)), truth, truth)
    promise = PROMISES[name][0]
    found = promise(few)
    assert found.price is None
    assert found.needed is not None

    def repeated(rows: int) -> Guarantee:
        return promise(rows_of(few, np.arange(rows) % few.n))

    assert repeated(few.n * math.ceil(found.needed / few.n)).price is not None
    assert repeated(few.n * math.floor(0.9 * found.needed / few.n)).price is None


def test_what_always_holds_is_promised_at_a_finite_price() -> None:
    """Where even the cheapest everywhere is good enough, the price is above every breakpoint.

    It is finite, so that a budget can name it and JSON can hold it.
    """
    held = world(500, 8)
    for found in (
        keep_quality(held, floor=0.0),
        limit_wrong(held, strong=1, alpha=1.0),
        keep_up(held, strong=1, margin=1.0),
    ):
        assert found.price is not None
        assert found.price > held.edges[1]
        assert Budget(price=found.price).price == found.price
        assert found.cost == pytest.approx(held.true_cost.min(axis=1).mean())
        assert json.loads(json.dumps(found.record(), allow_nan=False)) == found.record()


@pytest.mark.parametrize("name", list(PROMISES))
def test_where_there_is_nothing_to_trade_one_policy_is_judged(name: str) -> None:
    """Equal predictions, or no costs at all: no price changes anything."""
    base = world(3000, 9)
    good = HeldOut(np.full((3000, 2), 0.5), base.cost, np.ones((3000, 2)), base.true_cost)
    free = HeldOut(base.quality, np.zeros((3000, 2)), np.ones((3000, 2)), np.zeros((3000, 2)))
    for held, cost in ((good, base.true_cost[:, 0].mean()), (free, 0.0)):
        found = PROMISES[name][0](held)
        assert found.price == 1.0
        assert found.cost == pytest.approx(cost)
        assert len(held.edges) == 1


@given(st.floats(1e-9, 1e9))
def test_a_price_is_shown_rounded_down(price: float) -> None:
    """Six digits are enough to type, and never promise more than was proven."""
    found = keep_quality(world(10, 0), floor=0.0)
    shown = replace(found, price=price).shown
    assert price * (1 - 2e-5) <= float(shown) <= price
    assert f"up to {shown}:" in replace(found, price=price).sentence
    assert replace(found, price=None).shown == "none"


def test_one_destination_is_its_own_strong_one() -> None:
    """Then nothing is wrong from another, and no margin is lost."""
    held = world(200, 1, m=2)
    alone = HeldOut(*(table[:, :1] for table in (held.quality, held.cost, *truth_of(held))))
    assert limit_wrong(alone, strong=0, alpha=0.1).risk == 0
    assert keep_up(alone, strong=0, margin=0.2).risk == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true_quality": [[0.0, np.nan]]}, r"true_quality\[0, 1\] must be seen; got nan. Leave"),
        ({"true_cost": [[np.nan, 1.0]]}, r"true_cost\[0, 0\] must be seen"),
        ({"quality": [[0.5, np.nan]]}, r"quality\[0, 1\] must not be NaN"),
        ({"cost": [[0.5, np.inf]]}, r"cost\[0, 1\] must be a finite number"),
        ({"cost": [[0.5, -1.0]]}, r"cost\[0, 1\] must be a finite number >= 0"),
        (
            {"true_quality": [[0.5, 1.5]]},
            r"true_quality\[0, 1\] must be a finite number in \[0, 1\]",
        ),
        ({"true_quality": [[0.5]]}, r"true_quality must have shape \(1, 2\)"),
        ({"quality": np.empty((0, 2))}, "quality must hold at least one row"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, Any], message: str) -> None:
    """The table and the cell are named."""
    fine = {name: [[0.5, 1.0]] for name in ("quality", "cost", "true_quality", "true_cost")}
    with pytest.raises(InputError, match=message):
        HeldOut(**(fine | change))


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        (lambda held: limit_wrong(held, strong=2, alpha=0.1), r"strong must be .* in \[0, 1\]"),
        (lambda held: limit_wrong(held, strong=0, alpha=1.1), r"alpha must be .* in \[0, 1\]"),
        (
            lambda held: limit_wrong(held, strong=0, alpha=0.1, confidence=1.0),
            "confidence must lie",
        ),
        (lambda held: keep_quality(held, floor=-0.1), r"floor must be .* in \[0, 1\]"),
        (lambda held: keep_quality(held, floor=0.5, confidence=0.0), "confidence must lie between"),
        (lambda held: keep_up(held, strong=-1, margin=0.1), "strong must be a whole number"),
        (lambda held: keep_up(held, strong=0, margin=2.0), r"margin must be .* in \[-1, 1\]"),
        (lambda held: keep_up(held, strong=0, margin=0.0, confidence=math.nan), "confidence must"),
    ],
)
def test_wrong_questions_are_refused(promise: Promise, message: str) -> None:
    """Each by the name of its argument."""
    with pytest.raises(InputError, match=message):
        promise(world(10, 0))

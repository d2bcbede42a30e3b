"""The learned cascade: what its plan promises, what it does with an answer, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from turnout.core import Budget, InputError, Outcomes
from turnout.llms.cascade import Cascade, FittedCascade
from turnout.parts import store
from turnout.testing import Case, planted

CASE = Case(recipe=Cascade())
PRICES = (0.0, 5.0, 20.0, 40.0, 80.0, 160.0, 640.0, 1e5)


@pytest.fixture(scope="module")
def train() -> Outcomes:
    return planted.hard(240, default_rng(1)).outcomes


@pytest.fixture(scope="module")
def test() -> Outcomes:
    return planted.hard(150, default_rng(2)).outcomes


@pytest.fixture(scope="module")
def router(train: Outcomes) -> FittedCascade:
    return Cascade().fit(train, train.pool(), rng=default_rng(0))


def steps(router: FittedCascade, table: Outcomes, budget: Budget) -> tuple[Any, Any]:
    """Destinations asked (n, s), -1 after the last, and the quality of the last answer (n,)."""
    assert table.answers is not None
    pool, asked = table.pool(), np.empty((table.n, 0), dtype=np.int64)
    for _ in range(table.m + 1):
        said = [
            [str(table.answers[i, j]) if j >= 0 else "" for j in row] or [""]
            for i, row in enumerate(asked)
        ]
        following = router.proceed(
            table.inputs, asked, said, pool, budget=budget, rng=default_rng(0)
        )
        if (following < 0).all():
            break
        asked = np.column_stack([asked, following])
    last = (asked >= 0).sum(axis=1) - 1
    rows = np.arange(table.n)
    return asked, table.quality[rows, asked[rows, last]]


def planned(router: FittedCascade, table: Outcomes, price: float) -> float:
    """Mean spend of the plan by the router's own expected costs."""
    plan = router.route(table.inputs, table.pool(), budget=Budget(price=price), rng=default_rng(0))
    cost = router.costs.predict(table.inputs)
    rows = np.arange(table.n)[:, None]
    paid = np.where(plan.index >= 0, cost[rows, plan.index], 0.0)
    reach = 1.0 - np.cumsum(plan.weight, axis=1) + plan.weight
    return float((paid * reach).sum(axis=1).mean())


def test_a_good_answer_ends_it_and_a_bad_one_goes_on() -> None:
    """Hand-worked: "perhaps" was never right, "4" always; only the first pays for a second ask."""
    table = Outcomes(
        inputs=["2 + 2", "3 + 5", "7 * 8", "9 * 6"] * 5,
        names=("small", "large"),
        quality=np.array([[1, 1], [1, 1], [0, 1], [0, 1]] * 5, dtype=float),
        cost=np.array([[1.0, 10.0]] * 20),
        answers=np.array([["4", "4"], ["8", "8"], ["perhaps", "56"], ["perhaps", "54"]] * 5),
    )
    router = Cascade().fit(table, table.pool(), rng=default_rng(0))
    asked, budget = np.zeros((2, 1), dtype=np.int64), Budget(price=0.01)
    following = router.proceed(
        ["2 + 2", "7 * 8"], asked, [["4"], ["perhaps"]], table.pool(), budget=budget,
        rng=default_rng(0),
    )  # fmt: skip
    assert following.tolist() == [-1, 1]


def test_the_planned_spend_never_rises_with_the_price(
    router: FittedCascade, test: Outcomes
) -> None:
    """Exact, not by luck: the plan is optimal under its own figures."""
    spend = [planned(router, test, price) for price in PRICES]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(spend))
    assert spend[0] > 1.5 * spend[-1]


def test_the_spend_adds_up_over_the_steps(router: FittedCascade, test: Outcomes) -> None:
    """Somebody is asked twice, then pays for both; nobody asks a destination twice."""
    asked, _ = steps(router, test, Budget(price=20.0))
    assert asked.shape[1] >= 2
    for row in asked:
        going = row[row >= 0]
        assert len(set(going.tolist())) == len(going)
    assert (asked[:, 0] >= 0).all()


def test_reading_answers_beats_reading_inputs_at_the_same_cost(
    train: Outcomes, test: Outcomes, router: FittedCascade
) -> None:
    """The same recipe fitted without answers spends more for less."""
    blind = Cascade().fit(replace(train, answers=None), train.pool(), rng=default_rng(0))
    rows = np.arange(test.n)[:, None]
    asked, reached = steps(router, test, Budget(price=40.0))
    spent = np.where(asked >= 0, test.cost[rows, asked], 0.0).sum(axis=1).mean()
    once, single = steps(blind, test, Budget(price=40.0))
    assert once.shape[1] == 1
    assert reached.mean() > single.mean()
    assert spent < 1.5 * test.cost[rows, once].mean()


def test_without_answers_it_plans_one_step(train: Outcomes, test: Outcomes) -> None:
    """The judge can only repeat its prior, so the plan is the best of `prior - price * cost`."""
    blind = Cascade().fit(replace(train, answers=None), train.pool(), rng=default_rng(0))
    plan = blind.route(test.inputs, test.pool(), budget=Budget(price=40.0), rng=default_rng(0))
    assert plan.k == 1
    quality = 1.0 / (1.0 + np.exp(-blind.judge.prior(test.inputs)))
    worth = quality - 40.0 * blind.costs.predict(test.inputs)
    assert np.array_equal(plan.index[:, 0], worth.argmax(axis=1))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_a_budget_is_met_by_what_is_really_spent(
    router: FittedCascade, test: Outcomes, share: float
) -> None:
    """Within 15 % on inputs it has not seen, and without knowing the batch."""
    limit = float(test.cost.min() + share * (test.mean_cost().max() - test.cost.min()))
    asked, _ = steps(router, test, Budget(mean_cost=limit))
    rows = np.arange(test.n)[:, None]
    spent = np.where(asked >= 0, test.cost[rows, asked], 0.0).sum(axis=1).mean()
    assert spent <= 1.15 * limit


def test_a_part_of_the_batch_meets_the_price_of_the_whole(
    router: FittedCascade, test: Outcomes
) -> None:
    """A target becomes a price on the training sample, so live rows alone go on as with all."""
    budget, pool = Budget(mean_cost=0.003), test.pool()
    first = router.proceed(
        test.inputs, np.empty((test.n, 0), dtype=np.int64), [[]] * test.n, pool, budget=budget,
        rng=default_rng(0),
    )  # fmt: skip
    part = router.proceed(
        test.inputs[:7], np.empty((7, 0), dtype=np.int64), [[]] * 7, pool, budget=budget,
        rng=default_rng(0),
    )  # fmt: skip
    assert np.array_equal(first[:7], part)


def test_quality_bought_is_quality_asked_for(router: FittedCascade, test: Outcomes) -> None:
    """A higher floor stands for a lower price."""
    prices = [router.price(test.pool(), Budget(mean_quality=q)) for q in (0.6, 0.75, 0.85)]
    assert prices[0] > prices[1] > prices[2] > 0


@pytest.mark.parametrize(
    ("budget", "field"),
    [(Budget(mean_cost=1e-9), "budget.mean_cost"), (Budget(mean_quality=1.0), "mean_quality")],
)
def test_a_budget_that_cannot_be_met_is_refused(
    router: FittedCascade, test: Outcomes, budget: Budget, field: str
) -> None:
    """By name, with what would be possible."""
    with pytest.raises(InputError, match=field):
        router.price(test.pool(), budget)


def test_asked_out_of_order_it_goes_on_to_what_is_dearer(
    router: FittedCascade, test: Outcomes
) -> None:
    """After the dearest nothing is left; after the second, neither it nor the first comes."""
    pool, budget = test.pool(), Budget()
    order = [int(c) for c in router.order]
    said = [["Perhaps 12, but I am not certain of that."]]
    one = test.inputs[:1]

    def after(*columns: int) -> int:
        asked = np.array([columns], dtype=np.int64)
        found = router.proceed(
            one, asked, [said[0] * len(columns)], pool, budget=budget, rng=default_rng(0)
        )
        return int(found[0])

    assert after(order[-1]) == -1
    assert after(order[-1], order[0]) == -1
    assert after(order[1]) in (-1, *order[2:])


def test_a_row_that_has_accepted_stays_so(router: FittedCascade, test: Outcomes) -> None:
    """-1 as the last step asks nothing more."""
    asked = np.array([[0, -1]])
    following = router.proceed(
        test.inputs[:1], asked, [["?", ""]], test.pool(), budget=Budget(), rng=default_rng(0)
    )
    assert following.tolist() == [-1]


def test_steps_and_answers_must_be_aligned(router: FittedCascade, test: Outcomes) -> None:
    """Two rows of steps for three inputs are refused."""
    with pytest.raises(InputError, match="asked and answers"):
        router.proceed(
            test.inputs[:3], np.zeros((2, 1), dtype=np.int64), [["a"], ["b"]], test.pool(),
            budget=Budget(), rng=default_rng(0),
        )  # fmt: skip


def test_a_saved_cascade_goes_on_where_the_first_would(
    router: FittedCascade, test: Outcomes, tmp_path: Any
) -> None:
    """The judge survives the router file: same verdicts in both."""
    path = tmp_path / "cascade.turnout"
    store.save(path, router, test.pool())
    loaded: Any = store.load(path).router
    one, _ = steps(router, test, Budget(price=20.0))
    two, _ = steps(loaded, test, Budget(price=20.0))
    assert np.array_equal(one, two)


@pytest.fixture(scope="module")
def gated(train: Outcomes) -> FittedCascade:
    return Cascade(most_wrong=0.1).fit(train, train.pool(), rng=default_rng(0))


def kept_wrong(router: FittedCascade, table: Outcomes, price: float) -> tuple[float, float]:
    """Share of all rows that end before the dearest model, and how wrong those are."""
    asked, reached = steps(router, table, Budget(price=price))
    early = asked[np.arange(table.n), (asked >= 0).sum(axis=1) - 1] != router.order[-1]
    return float(early.mean()), float(1.0 - reached[early].mean())


def test_a_gate_limits_how_often_a_kept_answer_is_wrong(
    router: FittedCascade, gated: FittedCascade, test: Outcomes
) -> None:
    """At a price that keeps nearly all: one in ten is wrong with gates, many without."""
    share, wrong = kept_wrong(gated, test, 1e4)
    assert share > 0.2
    assert wrong < 0.2
    assert kept_wrong(router, test, 1e4)[1] > 2 * wrong


def test_a_gate_that_must_be_sure_keeps_less(train: Outcomes, gated: FittedCascade) -> None:
    """With a confidence every gate is as strict or stricter."""
    sure = Cascade(most_wrong=0.1, confidence=0.9).fit(train, train.pool(), rng=default_rng(0))
    pairs = [(one.accept, two.accept) for one, two in zip(gated.gates, sure.gates, strict=True)]
    assert all(plain <= strict for plain, strict in pairs)
    assert any(plain < strict for plain, strict in pairs)


def test_budgets_know_what_gates_make_one_pay(
    router: FittedCascade, gated: FittedCascade, test: Outcomes
) -> None:
    """What is enough without gates is refused with them, for going on is no choice of theirs."""
    budget = Budget(mean_cost=1.05 * float(router.sample_cost.min(axis=1).mean()))
    assert router.price(test.pool(), budget) > 0
    with pytest.raises(InputError, match="gate less with most_wrong"):
        gated.price(test.pool(), budget)


def test_a_gated_cascade_survives_its_file(
    gated: FittedCascade, test: Outcomes, tmp_path: Any
) -> None:
    """Gates are part of the router file."""
    path = tmp_path / "gated.turnout"
    store.save(path, gated, test.pool())
    loaded: Any = store.load(path).router
    assert loaded.gates == gated.gates


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"most_wrong": 1.5}, "most_wrong"),
        ({"most_wrong": float("nan")}, "most_wrong"),
        ({"confidence": 0.9}, "confidence must come with most_wrong"),
        ({"most_wrong": 0.1, "confidence": 1.0}, "confidence must lie between"),
    ],
)
def test_a_bad_gate_is_refused(changes: Any, field: str, train: Outcomes) -> None:
    """By name, at the latest when it is fitted."""
    with pytest.raises(InputError, match=field):
        Cascade(**changes).fit(train, train.pool(), rng=default_rng(0))


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan"), "1"])
def test_a_bad_penalty_is_refused(penalty: Any) -> None:
    """Zero would leave the regression without an answer."""
    with pytest.raises(InputError, match="penalty"):
        Cascade(penalty=penalty)

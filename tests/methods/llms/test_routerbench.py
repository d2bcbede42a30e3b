"""RouterBench's capped cascade: the rule of the cap, the noise of the judge, the router of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from turnout.core import Budget, Frontier, InputError, Outcomes
from turnout.llms.routerbench import FittedNoisyCascade, NoisyCascade, replay
from turnout.parts.stopping import by_price
from turnout.testing import Case, planted

CASE = Case(recipe=NoisyCascade())
INF = float("inf")


def play(
    quality: Any, cost: Any, *, max_cost: float, error: float = 0.0, bar: float = 1.0
) -> list[tuple[float, float, int]]:
    """(cost, quality, steps) of each row, asked from left to right."""
    q, c = np.array(quality, dtype=float), np.array(cost, dtype=float)
    done = replay(
        q, c, order=range(q.shape[1]), bar=bar, error=error, max_cost=max_cost,
        rng=default_rng(0),
    )  # fmt: skip
    return list(zip(done.cost.tolist(), done.quality.tolist(), done.steps.tolist(), strict=True))


def test_replay_by_hand() -> None:
    """Right at once; right at the second; never right and paid for all three."""
    quality = [[1, 1, 1], [0, 1, 1], [0, 0, 0]]
    cost = [[1, 4, 10]] * 3
    assert play(quality, cost, max_cost=INF) == [(1, 1, 1), (5, 1, 2), (15, 0, 3)]


@pytest.mark.parametrize(
    ("max_cost", "expected"),
    [
        (0.0, (5, 0, 1)),  # nothing was spent yet: the first is asked whatever it costs
        (5.0, (5, 0, 1)),
        (7.0, (5, 0, 1)),  # the second costs exactly what is left: it is not asked
        (7.1, (7, 0, 2)),
        (8.1, (8, 1, 3)),
    ],
)
def test_the_cap_stops_before_what_it_cannot_pay(
    max_cost: float, expected: tuple[float, float, int]
) -> None:
    """One row, costs 5, 2, 1: stop before a model that costs what is left or more."""
    assert play([[0, 0, 1]], [[5, 2, 1]], max_cost=max_cost) == [expected]


def test_once_stopped_a_cheaper_one_is_not_tried() -> None:
    """The rule stops the cascade; it does not skip."""
    assert play([[0, 1, 1]], [[1, 9, 1]], max_cost=5.0) == [(1, 0, 1)]


def test_a_free_first_model_leaves_nothing_spent() -> None:
    """After a free answer the next is asked even above the cap, as the rule says."""
    assert play([[0, 1]], [[0, 9]], max_cost=1.0) == [(9, 1, 2)]


def test_an_error_of_one_accepts_what_is_wrong() -> None:
    """Every verdict inverted: the wrong first answer is kept, the right one goes on to the end."""
    assert play([[0, 1], [1, 0]], [[1, 2]] * 2, max_cost=INF, error=1.0) == [(1, 0, 1), (3, 0, 2)]


def test_a_cell_never_seen_is_passed_over() -> None:
    """It is neither asked nor paid; a row without any stays NaN at no cost."""
    nan = float("nan")
    assert play([[nan, 1.0]], [[nan, 4.0]], max_cost=INF) == [(4, 1, 1)]
    paid, reached, steps = play([[nan, nan]], [[nan, nan]], max_cost=INF)[0]
    assert (paid, steps) == (0, 0)
    assert np.isnan(reached)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_larger_cap_never_asks_less(seed: int, error: float, one: float, two: float) -> None:
    """From one seed, every row asks at least as many models under the larger cap."""
    rng = default_rng(seed)
    quality, cost = (rng.random((20, 4)) < 0.5).astype(float), rng.uniform(0.1, 2.0, (20, 4))
    small, large = sorted((one, two))

    def run(cap: float) -> Any:
        return replay(
            quality, cost, order=range(4), bar=1.0, error=error, max_cost=cap,
            rng=default_rng(seed),
        )  # fmt: skip

    assert (run(small).steps <= run(large).steps).all()
    assert (run(small).cost <= run(large).cost + 1e-12).all()


def test_a_worse_judge_buys_less() -> None:
    """On the planted table the area under the curve falls with the rate of error."""
    table = planted.hard(600, default_rng(5)).outcomes
    ends = (float(table.mean_cost().min()), float(table.mean_cost().max()))
    areas = []
    for error in (0.0, 0.1, 0.2, 0.4):
        points = [
            replay(
                table.quality, table.cost, order=by_price(table), bar=1.0, error=error,
                max_cost=cap, rng=default_rng(0),
            )
            for cap in (*np.geomspace(5e-4, 5e-2, 12), INF)
        ]  # fmt: skip
        curve = Frontier(
            np.array([p.cost.mean() for p in points]), np.array([p.quality.mean() for p in points])
        )
        areas.append(curve.aiq(ends))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] + 0.1


@pytest.fixture(scope="module")
def train() -> Outcomes:
    return planted.hard(240, default_rng(1)).outcomes


@pytest.fixture(scope="module")
def router(train: Outcomes) -> FittedNoisyCascade:
    return NoisyCascade(error=0.1).fit(train, train.pool(), rng=default_rng(0))


def test_models_stand_in_order_of_price(router: FittedNoisyCascade, train: Outcomes) -> None:
    """By mean cost, and the plan starts with the cheapest for everybody."""
    assert [train.names[int(j)] for j in router.order] == ["small", "engineer", "scholar", "large"]
    plan = router.route(train.inputs, train.pool(), budget=Budget(), rng=default_rng(0))
    assert (plan.index[:, 0] == 0).all()


def test_the_cap_falls_as_the_price_rises(router: FittedNoisyCascade, train: Outcomes) -> None:
    """From all four models down to the first alone."""
    pool = train.pool()
    caps = [router.cap(pool, Budget(price=p)) for p in (0.0, 10.0, 40.0, 160.0, 1e5)]
    assert caps == sorted(caps, reverse=True)
    assert caps[-1] == 0.0


def test_a_cap_of_nothing_still_asks_once(router: FittedNoisyCascade, train: Outcomes) -> None:
    """At a forbidding price the first is asked, and its answer kept however bad."""
    pool, budget = train.pool(), Budget(price=1e5)
    bad = [["Perhaps 7, but I am not certain of that."]]
    one = train.inputs[:1]
    nobody = np.empty((1, 0), dtype=np.int64)
    rng = default_rng(0)
    assert router.proceed(one, nobody, [[]], pool, budget=budget, rng=rng).tolist() == [0]
    asked = np.array([[0]])
    assert router.proceed(one, asked, bad, pool, budget=budget, rng=rng).tolist() == [-1]


def test_an_error_of_one_inverts_the_fitted_judge(train: Outcomes) -> None:
    """Whatever a sure judge accepts, one that always errs rejects."""
    pool, n = train.pool(), train.n
    asked = np.zeros((n, 1), dtype=np.int64)
    assert train.answers is not None
    said = [[str(text)] for text in train.answers[:, 0]]

    def verdicts(error: float) -> Any:
        fitted = NoisyCascade(error=error).fit(train, pool, rng=default_rng(0))
        cap = Budget(price=0.0)
        # a cap that never binds leaves the verdict alone
        assert fitted.cap(pool, cap) >= 0
        return fitted, fitted.proceed(
            train.inputs, asked, said, pool, budget=cap, rng=default_rng(0)
        )

    sure, never = verdicts(0.0)[1], verdicts(1.0)[1]
    rejected = sure >= 0
    assert 0.2 < rejected.mean() < 0.8
    assert (never[rejected] == -1).all()


@pytest.mark.parametrize(
    ("budget", "field"),
    [(Budget(mean_cost=1e-9), "budget.mean_cost"), (Budget(mean_quality=1.0), "mean_quality")],
)
def test_a_budget_that_cannot_be_met_is_refused(
    router: FittedNoisyCascade, train: Outcomes, budget: Budget, field: str
) -> None:
    """By name, with what would be possible."""
    with pytest.raises(InputError, match=field):
        router.cap(train.pool(), budget)


@pytest.mark.parametrize(
    ("field", "value"),
    [("error", -0.1), ("error", 1.5), ("quantile", 2.0), ("penalty", 0.0), ("error", float("nan"))],
)
def test_bad_settings_are_refused(field: str, value: float) -> None:
    """By the name of the field."""
    with pytest.raises(InputError, match=field):
        NoisyCascade(**{field: value})

"""Estimates of a policy's value from a log of single choices."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import Assignment, InputError, Outcomes
from turnout.parts import prices
from turnout.parts.feedback.logged import Log
from turnout.parts.feedback.offpolicy import (
    Estimate,
    credit,
    curve,
    dr,
    ips,
    path_area,
    snips,
    spread_prices,
)

NAMES = ("small", "large")
JUDGES = (ips, snips, partial(dr, predicted=(np.full((4, 2), 0.5), np.full((4, 2), 2.0))))


def by_hand(**changes: object) -> Log:
    """Four rows: small, small, large, large, with chances 1/2, 1/4, 1/2, 1/4."""
    fields: dict[str, object] = {
        "names": NAMES,
        "chosen": np.array([0, 0, 1, 1]),
        "quality": np.array([1.0, 0.0, 1.0, 0.5]),
        "cost": np.array([1.0, 1.0, 9.0, 9.0]),
        "propensity": np.array([0.5, 0.25, 0.5, 0.25]),
    }
    return Log(**{**fields, **changes})  # type: ignore[arg-type]


def always(column: int, n: int = 4, m: int = 2) -> np.ndarray:
    policy = np.zeros((n, m))
    policy[:, column] = 1.0
    return policy


def test_ips_by_hand() -> None:
    """Always large: weights 0, 0, 2, 4, so quality (2 * 1 + 4 * 0.5) / 4 and cost 54 / 4."""
    found = ips(by_hand(), always(1))
    assert found.quality.value == pytest.approx(1.0)
    assert found.cost.value == pytest.approx(13.5)
    assert (found.matched, found.clipped) == (2, 0)
    # terms 0, 0, 2, 2: variance 4/3 (n - 1), so the error is sqrt(1/3)
    assert found.quality.error == pytest.approx(np.sqrt(1 / 3))


def test_snips_by_hand() -> None:
    """The same weights, normalised: quality 4 / 6 and cost 9; error by the ratio's formula."""
    found = snips(by_hand(), always(1))
    assert found.quality.value == pytest.approx(2 / 3)
    assert found.cost == Estimate(9.0, 0.0)
    # sqrt(4 * (1/3)^2 + 16 * (1/6)^2) / 6
    assert found.quality.error == pytest.approx(np.sqrt(4 / 9 + 16 / 36) / 6)


def test_dr_by_hand() -> None:
    """Predicted 0.5 everywhere: 0.5 plus the mean of weight times what was missed."""
    predicted = (np.full((4, 2), 0.5), np.full((4, 2), 8.0))
    found = dr(by_hand(), always(1), predicted)
    assert found.quality.value == pytest.approx(0.5 + (2 * 0.5 + 4 * 0.0) / 4)
    assert found.cost.value == pytest.approx(8.0 + (2 * 1.0 + 4 * 1.0) / 4)


def test_effective_sample_size_by_hand() -> None:
    """Weights 2 and 4 are worth (2 + 4)^2 / (4 + 16) rows; equal weights their number."""
    for judge in JUDGES:
        assert judge(by_hand(), always(1)).effective == pytest.approx(36 / 20)
        same = by_hand(propensity=np.full(4, 0.5))
        assert judge(same, always(1)).effective == pytest.approx(2.0)


def test_a_clip_by_hand() -> None:
    """At most 3 a cell: weights 2 and 3, one of them clipped."""
    found = ips(by_hand(), always(1), clip=3.0)
    assert found.quality.value == pytest.approx((2 * 1 + 3 * 0.5) / 4)
    assert (found.matched, found.clipped) == (2, 1)
    assert snips(by_hand(), always(1), clip=3.0).quality.value == pytest.approx(3.5 / 5)


def test_a_clip_of_one_leaves_predictions_nearly_alone() -> None:
    """Each seen cell then replaces its own prediction and weighs no more than that."""
    predicted = (np.full((4, 2), 0.5), np.full((4, 2), 8.0))
    found = dr(by_hand(), always(1), predicted, clip=1.0)
    assert found.quality.value == pytest.approx((0.5 + 0.5 + 1.0 + 0.5) / 4)
    assert found.cost.value == pytest.approx((8 + 8 + 9 + 9) / 4)


def test_a_random_policy_by_hand() -> None:
    """Half and half: every row counts, with half the weight."""
    found = ips(by_hand(), np.full((4, 2), 0.5))
    assert found.quality.value == pytest.approx((1 * 1 + 2 * 0 + 1 * 1 + 2 * 0.5) / 4)
    assert found.matched == 4


def test_an_assignment_is_a_policy() -> None:
    """A router's answer is read as it is."""
    log = by_hand()
    chosen = Assignment(np.ones((4, 1), dtype=np.int64), np.ones((4, 1)), 2)
    for judge in JUDGES:
        assert judge(log, chosen) == judge(log, always(1))


def enumerated(policy: np.ndarray) -> tuple[np.ndarray, list[tuple[float, Log]], np.ndarray]:
    """All logs that a chancy logger can leave of three rows, each with its probability."""
    quality = np.array([[0.2, 0.9], [1.0, 0.0], [0.4, 0.7]])
    cost = np.array([[1.0, 5.0], [2.0, 6.0], [1.0, 7.0]])
    chance = np.array([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    rows = np.arange(3)
    logs = []
    for choice in itertools.product(range(2), repeat=3):
        chosen = np.array(choice)
        share = chance[rows, chosen]
        log = Log(
            names=NAMES,
            chosen=chosen,
            quality=quality[rows, chosen],
            cost=cost[rows, chosen],
            propensity=share,
        )
        logs.append((float(share.prod()), log))
    truth = np.array([(policy * quality).sum() / 3, (policy * cost).sum() / 3])
    return truth, logs, quality


POLICY = np.array([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])


def test_ips_is_unbiased() -> None:
    """Over all logs that could have been, the mean estimate is the truth, for both figures."""
    truth, logs, _ = enumerated(POLICY)
    # ips needs every destination in the log; credit is the same estimate without that refusal
    means = np.zeros(2)
    for share, log in logs:
        means += share * np.array([(POLICY * table).sum() / 3 for table in credit(log)])
    assert means == pytest.approx(truth)
    both = [log for _, log in logs if len(set(log.chosen.tolist())) == 2]
    for log in both:
        quality, cost = credit(log)
        found = ips(log, POLICY)
        assert found.quality.value == pytest.approx((POLICY * quality).sum() / 3)
        assert found.cost.value == pytest.approx((POLICY * cost).sum() / 3)


def test_dr_is_unbiased_whatever_is_predicted() -> None:
    """With right propensities, wrong predictions cost variance and no bias."""
    truth, logs, _ = enumerated(POLICY)
    wrong = (np.array([[0.9, 0.1], [0.3, 0.3], [0.0, 1.0]]), np.full((3, 2), 4.0))
    means = np.zeros(2)
    for share, log in logs:
        tables = credit(log, predicted=wrong)
        means += share * np.array([(POLICY * table).sum() / 3 for table in tables])
    assert means == pytest.approx(truth)


def test_a_clipped_estimate_is_biased() -> None:
    """The same sum with a clip is below the truth: the test above can fail."""
    truth, logs, _ = enumerated(POLICY)
    mean = sum(share * (POLICY * credit(log, clip=1.5)[0]).sum() / 3 for share, log in logs)
    assert mean < truth[0] - 0.05


def test_dr_is_exact_where_the_predictions_are() -> None:
    """Whatever was logged, and with whatever propensities, true or not."""
    truth, logs, quality = enumerated(POLICY)
    cost = np.array([[1.0, 5.0], [2.0, 6.0], [1.0, 7.0]])
    for _, log in logs:
        if len(set(log.chosen.tolist())) < 2:
            continue
        lied = Log(
            names=NAMES,
            chosen=log.chosen,
            quality=log.quality,
            cost=log.cost,
            propensity=np.full(3, 0.123),
        )
        found = dr(lied, POLICY, (quality, cost))
        assert (found.quality.value, found.cost.value) == pytest.approx(tuple(truth))


def drawn(n: int, rng: np.random.Generator) -> tuple[Log, np.ndarray, np.ndarray, np.ndarray]:
    """A log of three destinations over a full table, the table, and what decides."""
    truth = (rng.random((n, 3)) < np.array([0.4, 0.6, 0.8])).astype(float)
    cost = np.tile([1.0, 3.0, 9.0], (n, 1)) * rng.uniform(0.8, 1.2, (n, 1))
    chance = rng.dirichlet([2.0, 2.0, 2.0], n) * 0.7 + 0.1
    chosen = (rng.random((n, 1)) >= np.cumsum(chance, axis=1)[:, :-1]).sum(axis=1)
    rows = np.arange(n)
    log = Log(
        names=("a", "b", "c"),
        chosen=chosen,
        quality=truth[rows, chosen],
        cost=cost[rows, chosen],
        propensity=chance[rows, chosen],
    )
    return log, truth, cost, rng.random((n, 3))


def test_intervals_cover_the_truth() -> None:
    """Of 300 logs of 400 rows, the 95 % interval holds the expected value in 91 to 99 %."""
    rng = np.random.default_rng(0)
    policy = np.array([[0.1, 0.2, 0.7]] * 400)
    truth = float(np.array([0.4, 0.6, 0.8]) @ policy[0])
    held = np.zeros(3)
    for _ in range(300):
        log, _, cost, _ = drawn(400, rng)
        predicted = (np.tile([0.4, 0.6, 0.8], (400, 1)), cost)
        judges = (ips, snips, partial(dr, predicted=predicted))
        for at, judge in enumerate(judges):
            found = judge(log, policy).quality
            held[at] += found.low <= truth <= found.high
    assert (held / 300 >= 0.91).all()
    assert (held / 300 <= 0.99).all()


def test_dr_with_good_predictions_is_surer_than_ips() -> None:
    """That is what the predictions are for."""
    log, _, cost, _ = drawn(500, np.random.default_rng(1))
    policy = always(2, 500, 3)
    predicted = (np.tile([0.4, 0.6, 0.8], (500, 1)), cost)
    better = dr(log, policy, predicted)
    assert better.quality.error < 0.7 * ips(log, policy).quality.error
    assert better.cost.error < 0.1 * ips(log, policy).cost.error


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_logging_policy_is_worth_what_was_logged(seed: int) -> None:
    """Judged by its own log a policy gets the plain mean, from IPS and SNIPS."""
    rng = np.random.default_rng(seed)
    log, _, _, _ = drawn(60, rng)
    if len(set(log.chosen.tolist())) < 3:
        log, _, _, _ = drawn(60, np.random.default_rng(0))
    chance = np.zeros((60, 3))
    rest = (1 - log.propensity) / 2
    chance[:] = rest[:, None]
    chance[np.arange(60), log.chosen] = log.propensity
    for judge in (ips, snips):
        assert judge(log, chance).quality.value == pytest.approx(log.quality.mean())
        assert judge(log, chance).cost.value == pytest.approx(log.cost.mean())


def test_snips_never_leaves_what_was_seen() -> None:
    """A weighted mean lies between the least and the greatest; IPS need not."""
    log = by_hand(quality=np.ones(4), propensity=np.array([0.5, 0.1, 0.5, 0.1]))
    assert snips(log, always(1)).quality.value == pytest.approx(1.0)
    assert ips(log, always(1)).quality.value > 1.0


def test_a_curve_is_its_policies_one_by_one() -> None:
    """Each price is judged as the policy of that price would be; the cheapest comes first."""
    log, _, cost, guess = drawn(200, np.random.default_rng(2))
    predicted = (guess, cost)
    for judge in (ips, snips, partial(dr, predicted=predicted)):
        found = curve(log, guess, cost, judge=judge, at=[np.inf, 0.05, 0.0])
        for price, value in zip(found.price, found.values, strict=True):
            policy = np.eye(3)[prices.choose(guess, cost, price)]
            assert value == judge(log, policy)
    line = found.frontier()
    assert len(line) == 3
    assert line.knob is not None
    assert line.knob.tolist() == [np.inf, 0.05, 0.0]


def test_a_curve_of_a_fully_known_table_is_the_true_frontier() -> None:
    """With exact predictions, DR's points are the mean cost and quality of the choices."""
    log, truth, cost, guess = drawn(200, np.random.default_rng(3))
    found = curve(log, guess, cost, judge=partial(dr, predicted=(truth, cost)))
    rows = np.arange(200)
    for price, value in zip(found.price, found.values, strict=True):
        choice = prices.choose(guess, cost, price)
        assert value.quality.value == pytest.approx(truth[rows, choice].mean())
        assert value.cost.value == pytest.approx(cost[rows, choice].mean())


def test_a_cost_estimated_below_zero_counts_as_zero() -> None:
    """A frontier has no negative costs, an estimate may."""
    log = by_hand(cost=np.zeros(4))
    predicted = (np.full((4, 2), 0.5), np.full((4, 2), 1.0))
    found = curve(
        log, np.eye(2)[[0, 1, 0, 1]], np.ones((4, 2)), judge=partial(dr, predicted=predicted)
    )
    assert min(value.cost.value for value in found.values) < 0
    assert found.frontier().cost.min() == 0.0


def test_path_area_by_hand() -> None:
    """Points (1, 0.2), (2, 0.6) over costs 0 to 4: 0.2 for 1, 0.4 for 1, 0.6 for 2."""
    cost, quality = np.array([1.0, 2.0]), np.array([0.2, 0.6])
    area = path_area(cost, quality, np.array(0.0), np.array(4.0))
    assert area == pytest.approx((0.2 + 0.4 + 1.2) / 4)
    both = path_area(np.stack([cost, cost]), np.stack([quality, quality]), np.zeros(2), np.ones(2))
    # a range that ends before the last point takes back what lies beyond
    assert both == pytest.approx(np.full(2, 0.2 + 0.4 - 0.6))
    assert path_area(cost, quality, np.array(1.0), np.array(1.0)) == pytest.approx(0.2)


def test_the_area_of_a_curve_is_that_of_its_points() -> None:
    """And with exact predictions that of the true path, which its hull is never below."""
    log, truth, cost, guess = drawn(200, np.random.default_rng(3))
    found = curve(log, guess, cost, judge=partial(dr, predicted=(truth, cost)))
    rows = np.arange(200)
    choices = [prices.choose(guess, cost, price) for price in found.price]
    x = np.array([cost[rows, choice].mean() for choice in choices])
    y = np.array([truth[rows, choice].mean() for choice in choices])
    whole = (float(x[0]), float(x[-1]))
    assert found.area(whole) == pytest.approx(np.trapezoid(y, x) / (x[-1] - x[0]))
    assert found.area(whole) <= found.frontier().aiq(whole) + 1e-12
    with pytest.raises(InputError, match="cost_range"):
        found.area((2.0, 1.0))


def test_spread_prices_spread_the_cost() -> None:
    """The gaps in predicted mean cost are even to within an item's switch; both ends are there."""
    rng = np.random.default_rng(4)
    quality, cost = rng.random((2000, 3)), np.tile([1.0, 3.0, 9.0], (2000, 1))
    knobs = spread_prices(quality, cost, 11)
    assert knobs[0] == np.inf
    assert knobs[-1] == 0.0
    assert (np.diff(knobs) < 0).all()
    rows = np.arange(2000)
    spent = [cost[rows, prices.choose(quality, cost, price)].mean() for price in knobs]
    assert np.diff(spent) == pytest.approx(np.full(10, (spent[-1] - spent[0]) / 10), rel=0.05)


def test_spread_prices_of_one_decision() -> None:
    """Where no price moves a decision only the ends are left."""
    assert spread_prices(np.ones((3, 2)), np.array([[1.0, 2.0]] * 3)).tolist() == [np.inf, 0.0]


def test_one_row_has_no_error() -> None:
    """A value, and NaN for how sure it is."""
    log = Log(
        names=("only",),
        chosen=np.array([0]),
        quality=np.array([0.5]),
        cost=np.array([1.0]),
        propensity=np.array([1.0]),
    )
    found = ips(log, np.ones((1, 1)))
    assert found.quality.value == 0.5
    assert np.isnan(found.quality.error)


def table(**changes: object) -> Outcomes:
    fields: dict[str, object] = {
        "inputs": ["a", "b"],
        "names": NAMES,
        "quality": np.array([[1.0, np.nan], [np.nan, 0.0]]),
        "cost": np.array([[1.0, np.nan], [np.nan, 9.0]]),
        "propensity": np.array([[0.5, 0.5], [0.25, 0.75]]),
    }
    return Outcomes(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_table_is_read_as_a_log() -> None:
    """The seen cell of each row, with its cost and its propensity."""
    log = Log.of(table())
    assert log.chosen.tolist() == [0, 1]
    assert log.quality.tolist() == [1.0, 0.0]
    assert log.cost.tolist() == [1.0, 9.0]
    assert log.propensity.tolist() == [0.5, 0.75]
    assert len(log) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": None}, "outcomes.propensity must be given"),
        (
            {"quality": np.array([[1.0, 1.0], [np.nan, 0.0]])},
            "row 0 must have one seen cell; got 2",
        ),
        (
            {"propensity": np.array([[0.5, np.nan], [0.5, np.nan]])},
            "propensity of row 1 must be known",
        ),
        ({"cost": np.array([[np.nan, 1.0], [1.0, 1.0]])}, "cost of row 0 must be known"),
    ],
)
def test_tables_that_are_no_logs_are_refused(changes: dict, message: str) -> None:
    """What is missing is named."""
    with pytest.raises(InputError, match=message):
        Log.of(table(**changes))


def test_a_row_without_feedback_is_refused() -> None:
    """It is for the caller to say whether leaving it out is fair."""
    blank = table(
        inputs=["a", "b", "c"],
        quality=np.array([[1.0, np.nan], [np.nan, 0.0], [np.nan, np.nan]]),
        cost=np.ones((3, 2)),
        propensity=np.full((3, 2), 0.5),
    )
    with pytest.raises(InputError, match="row 2 must have one seen cell; got 0"):
        Log.of(blank)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": np.array([0.5, 0.0, 0.5, 0.5])}, r"log.propensity\[1\] must be a prob"),
        ({"propensity": np.array([0.5, 1.5, 0.5, 0.5])}, "log.propensity"),
        ({"quality": np.array([0.5, 1.5, 0.5, 0.5])}, "log.quality"),
        ({"cost": np.array([0.5, -1.0, 0.5, 0.5])}, "log.cost"),
        ({"chosen": np.array([0, 0, 1, 2])}, r"log.chosen must lie in \[0, 1\]; got 2"),
        ({"chosen": np.array([0, 0, 1, -1])}, r"log.chosen must lie in \[0, 1\]; got -1"),
        ({"chosen": np.array([], dtype=int)}, "log.chosen must be a vector of at least one"),
        ({"chosen": np.array([0.0, 0.0, 1.0, 1.0])}, "log.chosen must be a vector"),
        ({"names": ("a", "a")}, "log.names must be unique"),
    ],
)
def test_wrong_logs_are_refused(changes: dict, message: str) -> None:
    """Each field is named; a propensity of 0 among them."""
    with pytest.raises(InputError, match=message):
        by_hand(**changes)


@pytest.mark.parametrize("judge", JUDGES, ids=["ips", "snips", "dr"])
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((4, 2), 0.4), r"policy\[0\] must sum to 1 in every row; got 0.8"),
        (np.full((4, 3), 1 / 3), r"policy must have shape \(4, 2\)"),
        (np.array([[-0.5, 1.5]] * 4), "policy"),
    ],
)
def test_what_is_no_policy_is_refused(judge, policy: np.ndarray, message: str) -> None:
    """A row of a policy is a distribution over the log's destinations."""
    with pytest.raises(InputError, match=message):
        judge(by_hand(), policy)


@pytest.mark.parametrize("judge", JUDGES, ids=["ips", "snips", "dr"])
def test_what_was_never_logged_cannot_be_judged(judge) -> None:
    """A destination without a row, or a policy that agrees with the log nowhere, is refused."""
    blind = by_hand(chosen=np.zeros(4, dtype=int))
    with pytest.raises(InputError, match="choose only destinations that the log has seen chosen"):
        judge(blind, np.full((4, 2), 0.5))
    against = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(InputError, match="choose in at least one row what the log chose there"):
        judge(by_hand(), against)


def test_other_arguments_are_checked() -> None:
    """Clip, predictions and prices are named."""
    log = by_hand()
    for wrong in (0.5, float("nan"), -1.0):
        with pytest.raises(InputError, match="clip must be at least 1"):
            ips(log, always(1), clip=wrong)
    with pytest.raises(InputError, match="predicted cost"):
        dr(log, always(1), (np.zeros((4, 2)), np.zeros((3, 2))))
    with pytest.raises(InputError, match="predicted quality"):
        dr(log, always(1), (np.full((4, 2), np.nan), np.zeros((4, 2))))
    with pytest.raises(InputError, match="at"):
        curve(log, np.zeros((4, 2)), np.zeros((4, 2)), at=[-1.0])
    with pytest.raises(InputError, match="quality"):
        curve(log, np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(InputError, match="count"):
        spread_prices(np.zeros((4, 2)), np.zeros((4, 2)), 1)


def test_a_log_is_not_changed() -> None:
    """Estimates leave the log and the predictions as they were; its arrays are read-only."""
    log = by_hand()
    predicted = (np.full((4, 2), 0.5), np.full((4, 2), 8.0))
    dr(log, always(1), predicted)
    assert (predicted[0] == 0.5).all()
    assert (predicted[1] == 8.0).all()
    assert not log.quality.flags.writeable

"""Methods judged by a log of single choices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from turnout.bench import evaluate
from turnout.bench.logs import evaluate_log, is_log
from turnout.core import DataError, InputError, Outcomes, Pool
from turnout.llms.knn import Knn
from turnout.llms.linear import Linear
from turnout.testing import planted


def full(n: int = 900, seed: int = 0) -> Outcomes:
    return replace(
        planted.hard(n, np.random.default_rng(seed)).outcomes, answers=None, latency=None
    )


def logged(table: Outcomes, seed: int = 1) -> Outcomes:
    """One cell a row, drawn evenly."""
    rng = np.random.default_rng(seed)
    mask = np.arange(table.m) == rng.integers(table.m, size=table.n)[:, None]
    return replace(
        table,
        quality=np.where(mask, table.quality, np.nan),
        cost=np.where(mask, table.cost, np.nan),
        propensity=np.full(mask.shape, 1.0 / table.m),
    )


@dataclass(frozen=True)
class Refusing:
    """A recipe that refuses every table."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> object:
        raise InputError("the table", "be another", None, "Try again.")


def test_a_log_tells_nearly_what_the_full_table_tells() -> None:
    """Landmarks within three standard errors, and the method's interval holds its true AIQ."""
    table = full(1200)
    log = evaluate_log(logged(table), {"linear": Linear()}, folds=3, resamples=200)
    assert log.single_quality == pytest.approx(table.mean_quality(), abs=0.1)
    assert log.single_cost == pytest.approx(table.mean_cost(), rel=0.1)
    # what was fitted on one answer a row, judged by every answer: the same fits, the same folds
    row = log.row("linear")
    assert row.frontier is not None
    assert row.aiq_low < row.aiq < row.aiq_high
    zero = log.row("zero_router")
    truth = evaluate(table, {}, folds=3, resamples=10).row("zero_router")
    assert zero.aiq_low - 0.02 < truth.aiq < zero.aiq_high + 0.02
    assert row.aiq > zero.aiq + 0.02


def test_rows_and_notes() -> None:
    """All landmarks have a row; what a log cannot tell has none of its figures."""
    found = evaluate_log(logged(full()), {"linear": Linear()}, folds=3, resamples=20)
    assert [row.method for row in found.rows] == [
        *("random_mixture", "cheapest", "best_single", "zero_router", "prompt_length"),
        *("group_mean", "oracle", "linear"),
    ]
    assert np.isnan(found.row("oracle").aiq)
    assert np.isnan(found.row("group_mean").quality)
    assert found.row("best_single").quality == found.single_quality.max()
    assert found.row("best_single").cost_to_match == found.row("best_single").cost
    assert found.row("cheapest").cost == found.single_cost.min()
    assert "doubly robust" in found.notes[0]
    assert (found.n, found.total) == (900, 900)
    best = found.best_method()
    assert best is not None
    assert found.difference("linear", "prompt_length") is not None
    assert found.difference("linear", "group_mean") is None


def test_two_destinations_have_a_gap_to_recover() -> None:
    """APGR of the mixture is one half; a method's is an estimate of its own."""
    table = full().select(["small", "large"])
    found = evaluate_log(logged(table), {"linear": Linear()}, folds=3, resamples=20)
    assert found.row("random_mixture").apgr == 0.5
    assert found.row("linear").apgr > 0.5


def test_methods_share_their_folds() -> None:
    """The same method under two names has the same figures."""
    found = evaluate_log(
        logged(full()), {"one": Knn(k=20), "two": Knn(k=20)}, folds=3, resamples=20
    )
    one, two = found.row("one"), found.row("two")
    assert one.aiq == two.aiq
    assert one.samples is not None
    assert two.samples is not None
    assert (one.samples == two.samples).all()


def test_what_is_a_log() -> None:
    """Propensities, and at most one seen cell a row."""
    table = full(50)
    log = logged(table)
    assert is_log(log)
    assert not is_log(table)
    assert not is_log(replace(log, propensity=None))
    assert not is_log(replace(table, propensity=log.propensity))


def test_refusals() -> None:
    """No log, one destination, a method that refuses; it may be passed over."""
    table = full(60)
    with pytest.raises(InputError, match=r"outcomes\.propensity must be given"):
        evaluate_log(table, {})
    one = Outcomes(inputs=["a", "b"], names=("x",), quality=np.ones((2, 1)), cost=np.ones((2, 1)))
    with pytest.raises(DataError, match="hold at least two destinations"):
        evaluate_log(one, {})
    with pytest.raises(InputError, match="the table must be another"):
        evaluate_log(logged(table), {"no": Refusing()}, folds=2, resamples=5)
    found = evaluate_log(logged(table), {"no": Refusing()}, folds=2, resamples=5, may_fail=("no",))
    assert found.skipped == (("no", "the table must be another; got None. Try again."),)
    assert found.best_method() is None
    for option in ({"resamples": 0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(option))):
            evaluate_log(logged(table), {}, **option)


def test_progress_is_told() -> None:
    """From the landmarks to the last interval."""
    told: list[tuple[str, int, int]] = []
    evaluate_log(
        logged(full(60)), {"k": Knn(k=5)}, folds=2, resamples=5, tick=lambda *a: told.append(a)
    )
    assert told == [("landmarks", 1, 3), ("k", 1, 3), ("intervals", 2, 3), ("intervals", 3, 3)]

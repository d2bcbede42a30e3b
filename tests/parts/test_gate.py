"""Score, threshold, accept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.gate import Gate, accept_share, limit_error, sweep
from turnout.parts.learners.judge import fit_judge

NAN = math.nan


def test_three_ways_by_hand() -> None:
    """At or above `accept` is in, below `reject` is out, both ends belong to the kinder side."""
    gate = Gate(accept=0.7, reject=0.2)
    scores = np.array([0.9, 0.7, 0.69, 0.2, 0.19, -math.inf, math.inf])
    assert gate.decide(scores).tolist() == [1, 1, 0, 0, -1, -1, 1]


def test_a_score_that_is_no_number_is_never_accepted() -> None:
    """It is rejected where anything is, and escalated where nothing is."""
    assert Gate(accept=-math.inf).decide(np.array([NAN, 0.0])).tolist() == [0, 1]
    assert Gate(accept=1.0, reject=0.5).decide(np.array([NAN])).tolist() == [-1]


def test_no_rows_get_no_decisions() -> None:
    """An empty batch goes through; nothing can be calibrated on one."""
    assert Gate(accept=0.5).decide(np.empty(0)).shape == (0,)
    for calibrate in (
        lambda: accept_share(np.empty(0), 0.5),
        lambda: sweep(np.empty(0), np.empty(0)),
        lambda: limit_error(np.empty(0), np.empty(0), 0.1),
    ):
        with pytest.raises(InputError, match="scores must hold at least one row"):
            calibrate()


@pytest.mark.parametrize(
    ("share", "accept"),
    [(0.0, math.inf), (0.2, 5.0), (0.21, 3.0), (0.6, 3.0), (0.8, 2.0), (1, 1.0)],
)
def test_shares_by_hand(share: float, accept: float) -> None:
    """Of 5, 3, 3, 2, 1: the strictest threshold that lets enough through, ties together."""
    assert accept_share(np.array([3.0, 1.0, 5.0, 2.0, 3.0]), share).accept == accept


def test_rows_without_a_score_count_but_do_not_pass() -> None:
    """Of four rows two have a score: half can be accepted, and more cannot."""
    scores = np.array([NAN, 0.3, NAN, 0.8])
    assert accept_share(scores, 0.25).accept == 0.8
    assert accept_share(scores, 0.9).accept == 0.3
    assert accept_share(np.array([NAN]), 1.0).accept == math.inf
    assert sweep(scores, np.zeros(4)).share.tolist() == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("n", [7, 29, 100])
def test_a_share_is_met_to_a_row(n: int) -> None:
    """Without ties the share is reached, and by less than one row too many."""
    scores = np.random.default_rng(n).permutation(n).astype(float)
    for share in np.arange(n + 1) / n:
        taken = (accept_share(scores, float(share)).decide(scores) == 1).sum()
        assert taken == round(share * n)


def test_the_curve_by_hand() -> None:
    """Thresholds at each distinct score; the two at 0.5 pass together."""
    curve = sweep(np.array([0.5, 0.9, 0.5, 0.1]), np.array([1.0, 0.0, 0.0, 0.5]))
    assert curve.accept.tolist() == [math.inf, 0.9, 0.5, 0.1]
    assert curve.share.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert curve.error == pytest.approx(np.array([0.0, 0.0, 1 / 3, 0.375]))


def test_the_curve_is_what_gates_do() -> None:
    """Every point of a curve is the share and the error of the gate at its threshold."""
    rng = np.random.default_rng(0)
    scores, wrong = np.round(rng.random(200), 1), (rng.random(200) < 0.3).astype(float)
    scores[:5] = NAN
    curve = sweep(scores, wrong)
    for accept, share, error in zip(curve.accept, curve.share, curve.error, strict=True):
        taken = Gate(accept=float(accept)).decide(scores) == 1
        assert taken.mean() == pytest.approx(share)
        assert (wrong[taken].mean() if taken.any() else 0.0) == pytest.approx(error)


def test_errors_by_hand() -> None:
    """The farthest threshold counts, though a nearer one errs more."""
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    wrong = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    assert limit_error(scores, wrong, 0.25).accept == 2.0
    assert limit_error(scores, wrong, 0.2).accept == 5.0
    assert limit_error(scores, wrong, 0.4).accept == 1.0
    assert limit_error(-scores, wrong, 0.2).accept == math.inf


def test_a_sure_gate_keeps_its_promise() -> None:
    """Over many samples the true error of the accepted is above the target in few of them."""
    rng = np.random.default_rng(3)
    broken, accepted = 0, 0.0
    for _ in range(200):
        scores = rng.random(3000)
        wrong = (rng.random(3000) < 1 - scores).astype(float)
        accept = limit_error(scores, wrong, 0.2, confidence=0.9).accept
        accepted += max(1 - accept, 0.0) / 200
        broken += (1 - accept) / 2 > 0.2  # the mean of 1 - s over s >= accept
    assert broken <= 200 * 0.1
    assert accepted > 0.25  # of the 0.4 that the truth allows


def test_a_promise_wants_rows() -> None:
    """Ten right answers prove an error below a half, but not below a hundredth."""
    scores, wrong = np.arange(10.0), np.zeros(10)
    assert limit_error(scores, wrong, 0.01).accept == 0.0
    assert limit_error(scores, wrong, 0.01, confidence=0.9).accept == math.inf
    assert limit_error(scores, wrong, 0.5, confidence=0.9).accept == 0.0
    nothing = np.full(10, NAN)
    assert limit_error(nothing, wrong, 0.5, confidence=0.9).accept == math.inf


def test_it_serves_a_judge_of_answers() -> None:
    """A learned judge's scores and shortfalls in quality calibrate one threshold of a cascade."""
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.6
    said = np.array([["yes indeed" if ok else "perhaps not"] for ok in good], dtype=object)
    asked = ["what is it"] * 400
    quality = np.where(good, 0.9, 0.2)[:, None]
    judge = fit_judge(asked[:200], said[:200], quality[:200], penalty=1.0)
    column = np.zeros(200, dtype=np.int64)
    scores = judge.score(asked[200:], [str(cell) for cell in said[200:, 0]], column)
    gate = limit_error(scores, 1.0 - quality[200:, 0], 0.15)
    assert ((gate.decide(scores) == 1) == good[200:]).mean() == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accept": NAN}, "gate.accept must not be NaN"),
        ({"accept": "high"}, "gate.accept must be a number"),
        ({"accept": 0.2, "reject": 0.5}, "gate.reject must be at most 0.2; got 0.5"),
    ],
)
def test_wrong_gates_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Gate(**fields)


def test_wrong_calibrations_are_refused() -> None:
    """Shapes and ranges are checked before anything is counted."""
    one = np.ones(1)
    with pytest.raises(InputError, match="share must be a finite number in"):
        accept_share(one, 1.1)
    with pytest.raises(InputError, match="wrong must have shape"):
        sweep(one, np.ones(2))
    with pytest.raises(InputError, match=r"wrong\[0\] must be"):
        sweep(one, 2 * one)
    with pytest.raises(InputError, match="confidence must lie between"):
        limit_error(one, one, 0.5, confidence=1.0)
    with pytest.raises(InputError, match="scores must have shape"):
        Gate(accept=0.0).decide(np.ones((2, 2)))

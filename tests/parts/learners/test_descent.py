"""Adam, and the loop around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.learners.descent import Adam, Schedule, cross_entropy, descend, sigmoid


def test_the_first_step_is_the_rate_against_the_sign() -> None:
    """With fresh moments both corrections cancel: the step is rate * sign(gradient)."""
    x = np.array([1.0, 1.0])
    Adam([x], rate=0.1).step([np.array([5.0, -0.01])])
    assert x == pytest.approx([0.9, 1.1], abs=1e-6)


def test_two_steps_by_hand() -> None:
    """Gradients 1 then 0: m = 0.09, v = 0.000999; the second step is worked out below."""
    x = np.array([0.0])
    adam = Adam([x], rate=1.0)
    adam.step([np.array([1.0])])
    adam.step([np.array([0.0])])
    second = (0.09 / (1 - 0.9**2)) / np.sqrt(0.000999 / (1 - 0.999**2))
    assert x[0] == pytest.approx(-1.0 - second, abs=1e-6)


def test_rows_left_out_stay_as_they_are() -> None:
    """A step on rows 2 and 0 touches those alone, as a step on the whole would have."""
    whole, part = np.ones((3, 2)), np.ones((3, 2))
    gradient = np.arange(6.0).reshape(3, 2) + 1
    Adam([whole], rate=0.1, decay=0.5).step([gradient])
    Adam([part], rate=0.1, decay=0.5).step([gradient[[2, 0]]], [np.array([2, 0])])
    assert part[[0, 2]] == pytest.approx(whole[[0, 2]])
    assert part[1].tolist() == [1.0, 1.0]


def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updating in pieces is updating at once."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((7, 3))
    two, gradient = one.copy(), rng.standard_normal((7, 3))
    Adam([one], rate=0.1).step([gradient])
    monkeypatch.setattr("turnout.parts.learners.descent._BLOCK", 6)
    Adam([two], rate=0.1).step([gradient])
    assert (one == two).all()


def test_agrees_with_the_reference_library() -> None:
    """Twenty steps with decay equal torch's AdamW."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3))
    y = torch.tensor(x.copy(), requires_grad=True)
    mine = Adam([x], rate=0.01, decay=0.1)
    theirs = torch.optim.AdamW([y], lr=0.01, weight_decay=0.1)
    for _ in range(20):
        gradient = rng.standard_normal((4, 3))
        mine.step([gradient])
        y.grad = torch.tensor(gradient)
        theirs.step()
    assert x == pytest.approx(y.detach().numpy(), abs=1e-6)


def test_cross_entropy_by_hand() -> None:
    """At logit 0: loss log 2 a seen cell, slope (1/2 - q) / cells; blanks weigh nothing."""
    quality = np.array([[1.0, np.nan], [0.25, 0.5]])
    loss, slope = cross_entropy(np.zeros((2, 2)), quality)
    assert loss == pytest.approx(np.log(2))
    assert slope == pytest.approx(np.array([[-0.5, 0.0], [0.25, 0.0]]) / 3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_cross_entropy_slope_is_its_derivative(seed: int) -> None:
    """Finite differences agree."""
    rng = np.random.default_rng(seed)
    logits, quality = rng.standard_normal((3, 2)), rng.random((3, 2))
    quality[0, 1] = np.nan
    slope = cross_entropy(logits, quality)[1]
    for cell in np.ndindex(3, 2):
        nudge = np.zeros((3, 2))
        nudge[cell] = 1e-5
        rise = cross_entropy(logits + nudge, quality)[0] - cross_entropy(logits - nudge, quality)[0]
        assert rise / 2e-5 == pytest.approx(slope[cell], abs=1e-8)


def test_sigmoid_never_overflows() -> None:
    """Logits of any size stay in [0, 1]; warnings are errors here."""
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_keeps_the_best_held_out_pass() -> None:
    """A loss that only grows leaves the parameters as they were, and stops early."""
    x, calls = np.array([3.0]), []

    def gradients(rows: np.ndarray) -> tuple[list[np.ndarray], None]:
        calls.append(len(rows))
        return [np.array([-1.0])], None

    schedule = Schedule(rate=0.1, decay=0.0, batch=100, epochs=50, patience=2)
    kept = descend(
        [x], gradients, lambda rows: float(x[0]), 100, schedule, rng=np.random.default_rng(0)
    )
    assert (kept, x[0], calls) == (0, 3.0, [90, 90])


def test_small_tables_run_every_pass_on_every_row() -> None:
    """Below forty rows nothing is held out."""
    x, rows_seen = np.array([0.0]), []

    def gradients(rows: np.ndarray) -> tuple[list[np.ndarray], None]:
        rows_seen.extend(rows.tolist())
        return [np.array([1.0])], None

    schedule = Schedule(rate=0.1, decay=0.0, batch=4, epochs=3)
    descend([x], gradients, lambda rows: 0.0, 10, schedule, rng=np.random.default_rng(0))
    assert sorted(rows_seen) == sorted(list(range(10)) * 3)


def test_a_wrong_schedule_is_refused() -> None:
    """The field is named."""
    with pytest.raises(InputError, match="rate must be a finite number >= 1e-09; got 0"):
        Schedule(rate=0, decay=0, batch=1, epochs=1)

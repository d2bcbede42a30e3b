"""The wide network that methods share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from turnout.parts.learners import wide as module
from turnout.parts.learners.descent import Schedule, cross_entropy
from turnout.parts.learners.wide import Loss, Wide, fit_wide, softmax_entropy

SCHEDULE = Schedule(rate=1e-2, decay=0.0, batch=16, epochs=20)


def _single(rows: list[list[float]] | list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_logits_by_hand() -> None:
    """With x = (0.6, 0.8): hidden = relu(0.6 - 0.8, 0.8 + 0.2) = (0, 1); logits (0, 2)."""
    net = Wide(
        embed=_single([[1.0, 0.0], [-1.0, 1.0]]),
        shift=_single([0.0, 0.2]),
        read=_single([[9.0, 9.0], [-1.0, 2.0]]),
        bias=_single([1.0, 0.0]),
    )
    rows = sparse.csr_array(_single([[0.6, 0.8]]))
    assert net.logits(rows) == pytest.approx(np.array([[0.0, 2.0]]), abs=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, softmax_entropy])
def test_gradients_are_derivatives(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    """Without dropout, what training follows is the slope of the loss it reports."""
    rng = np.random.default_rng(0)
    rows = sparse.csr_array((rng.random((5, 4)) < 0.6) * rng.random((5, 4)), dtype=np.float32)
    target = rng.random((5, 2))
    target[0, 1] = np.nan
    taken = {}

    def watch(parameters, gradients, loss, n, schedule, *, rng) -> int:
        taken.update(parameters=parameters, gradients=gradients, loss=loss)
        return 0

    monkeypatch.setattr(module, "descend", watch)
    fit_wide(
        rows, target, SCHEDULE, width=3, dropout=0.0, bias=np.array([0.4, -0.2]), loss=loss,
        rng=np.random.default_rng(3),
    )  # fmt: skip
    parameters, chosen = taken["parameters"], np.array([3, 0, 2])
    parameters[2][...] = rng.standard_normal((3, 2))
    slopes, touched = taken["gradients"](chosen)
    full = np.zeros_like(parameters[0])
    full[touched[0]] = slopes[0]
    for parameter, slope in zip(parameters, [full, *slopes[1:]], strict=True):
        assert slope.shape == parameter.shape
        for cell in np.ndindex(parameter.shape):
            before = parameter[cell]
            parameter[cell] = before + np.float32(1e-3)
            high = taken["loss"](chosen)
            parameter[cell] = before - np.float32(1e-3)
            low = taken["loss"](chosen)
            parameter[cell] = before
            assert (high - low) / 2e-3 == pytest.approx(float(slope[cell]), abs=1e-3)


def test_softmax_by_hand() -> None:
    """Logits (0, log 3) are 1/4 and 3/4; a target of the second costs log(4/3)."""
    loss, slope = softmax_entropy(np.array([[0.0, np.log(3)]]), np.array([[0.0, 1.0]]))
    assert loss == pytest.approx(np.log(4 / 3))
    assert slope == pytest.approx(np.array([[0.25, -0.25]]))


def test_rows_that_say_nothing_teach_nothing() -> None:
    """A row of zeros or of blanks adds nothing to the softmax loss, whatever its logits."""
    told, nothing = np.array([[0.0, 1.0]]), np.array([[0.0, 0.0], [np.nan, np.nan]])
    logits = np.array([[0.3, 0.1], [5.0, -5.0], [1.0, 2.0]])
    loss, slope = softmax_entropy(logits, np.vstack([told, nothing]))
    alone, one = softmax_entropy(logits[:1], told)
    assert loss == alone
    assert slope.tolist() == [*one.tolist(), [0.0, 0.0], [0.0, 0.0]]
    assert softmax_entropy(logits[1:], nothing)[0] == 0.0


def test_it_learns_what_one_layer_cannot() -> None:
    """Two words together say the opposite of either: a hidden layer tells."""
    seen = np.random.default_rng(0).integers(0, 2, (400, 2))
    target = (seen[:, :1] ^ seen[:, 1:]).astype(float)
    rows = sparse.csr_array(np.column_stack([seen, 1 - seen]).astype(np.float32))
    rng = np.random.default_rng(1)
    net = fit_wide(rows, target, SCHEDULE, width=32, dropout=0.2, bias=np.zeros(1), rng=rng)
    assert ((net.logits(rows) > 0) == (target > 0.5)).all()

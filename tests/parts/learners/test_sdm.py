"""Similarity, distance, magnitude."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.learners import sdm
from turnout.parts.learners.sdm import (
    Adaptor,
    Estimator,
    Settings,
    activation,
    fit_estimator,
    nearby,
)

QUICK = Settings(k=8, runs=2, epochs=8, rate=1e-2)


def _blobs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of vectors (n, 4), well apart."""
    labels = np.arange(n) % 2
    return np.eye(2, 4)[labels] * 3 + 0.3 * rng.standard_normal((n, 4)), labels


@pytest.fixture(scope="module")
def fitted() -> Estimator:
    rng = np.random.default_rng(0)
    return fit_estimator(*_blobs(600, rng), 2, QUICK, rng=rng)


def test_activation_is_a_softmax_at_e() -> None:
    """With q = e - 2 and d = 1 it is the softmax; with d = 0 all classes are alike."""
    logits = np.array([[1.0, -0.5, 2.0], [900.0, 0.0, -900.0]])
    q, one = np.full(2, math.e - 2), np.ones(2)
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert activation(logits, q, one) == pytest.approx(power / power.sum(axis=1, keepdims=True))
    assert activation(logits, q, 0 * one) == pytest.approx(np.full((2, 3), 1 / 3))


def test_activation_grows_with_similarity_and_falls_with_distance() -> None:
    """The first choice is the surer the greater q, and the less sure the smaller d."""
    logits = np.array([[0.3, 0.1]])
    by_q = [activation(logits, np.array([q]), np.ones(1))[0, 0] for q in (0.0, 1.0, 10.0)]
    by_d = [activation(logits, np.ones(1), np.array([d]))[0, 0] for d in (0.1, 0.5, 1.0)]
    assert by_q == sorted(by_q)
    assert by_d == sorted(by_d)
    assert len({*by_q, *by_d}) > 4


def test_similarity_by_hand() -> None:
    """At 0 the points 1 and 2 agree, 3 does not, so 4 no longer counts; the nearest is at 1."""
    support, agrees = np.array([[1.0], [-2.0], [3.0], [4.0]]), np.array([1, 1, -1, 1])
    q, near = nearby(np.array([[0.0], [0.0], [3.9]]), np.array([1, 0, 1]), support, agrees)
    assert q.tolist() == [2.0, 0.0, 1.0]
    assert near == pytest.approx([1.0, 1.0, 0.1])


def test_a_point_is_not_its_own_neighbour() -> None:
    """Of training points among themselves the self match is left out, a double is not."""
    support, agrees = np.array([[0.0], [0.0], [5.0]]), np.array([1, 1, 0])
    q, near = nearby(support, np.array([1, 1, 0]), support, agrees, own=True)
    assert q.tolist() == [1.0, 1.0, 0.0]
    assert near.tolist() == [0.0, 0.0, 5.0]


def test_distances_by_hand() -> None:
    """Of 1, 2, 3 and 4: at 2 one is nearer; beyond 4 nothing is farther; the least counts."""
    one = np.array([1.0, 2.0, 3.0, 4.0])
    near = np.array([0.5, 2.0, 9.0])
    assert sdm._distance(near, (one,)).tolist() == [1.0, 0.75, 0.0]
    assert sdm._distance(near, (one, one - 1)).tolist() == [0.75, 0.5, 0.0]
    assert sdm._distance(near, (one, np.empty(0))).tolist() == [0.0, 0.0, 0.0]


def test_the_region_by_hand() -> None:
    """The least qt from which on the lowest output of each class is high enough."""
    output = np.array([0.5, 0.96, 0.97, 0.2, 0.99, 0.98])
    qt = np.array([1.0, 1.5, 2.0, 1.2, 1.5, 3.0])
    truth = np.array([0, 0, 0, 1, 1, 1])
    least, psi = sdm._region(output, qt, truth, 2, 0.95)
    assert least == 1.5
    assert psi.tolist() == [0.96, 0.98]
    assert sdm._region(output, qt, np.zeros(6, dtype=int), 2, 0.95)[0] == math.inf


def test_bounds_by_hand() -> None:
    """Five points have less qt, so e = sqrt(ln 40 / 10); none at all gives 1."""
    known = np.arange(10.0)
    errors = sdm._errors(np.array([5.0, 0.0, 99.0]), (known, np.empty(0)), 0.95)
    five, nine = (math.sqrt(math.log(40) / (2 * n)) for n in (5, 9))
    assert errors[:, 0] == pytest.approx([five, 1.0, nine])
    assert errors[:, 1].tolist() == [1.0, 1.0, 1.0]


def test_an_estimate_by_hand() -> None:
    """One point: q = 3, d = 3/4, s = 1 / (1 + 5^-3), v = (3/4, 0), qt = 3/4 ln 5, o by R = 1."""
    estimator = Estimator(
        alpha=0.95,
        adaptor=Adaptor(0.0, 1.0, np.eye(1), np.zeros(1), np.array([[-1.0, 1.0]]), np.zeros(2)),
        support=np.array([[-1.0], [-1.2], [-1.5], [4.0]]),
        agrees=np.array([0, 0, 0, 1]),
        distances=(np.array([0.2, 2.0, 3.0, 4.0]),) * 2,
        outputs=(np.array([0.1, 0.2, 0.3, 0.999]), np.array([0.2, 0.3])),
        sizes=(np.zeros(2000), np.zeros(2000)),
        rescale=np.eye(2),
        psi=np.array([0.6, 0.6]),
        least=1.0,
        robust=1.1,
        offset=np.array([[0.0, 0.05], [0.0, 0.0]]),
    )
    found = estimator.estimate(np.array([[-2.0]]))
    assert (found.predicted[0], found.similarity[0], found.distance[0]) == (0, 3.0, 0.75)
    assert found.qt[0] == pytest.approx(0.75 * math.log(5))
    base = 2 + 0.75 * math.log(5)
    assert found.centre[0] == pytest.approx(base**0.75 / (base**0.75 + 1))
    error = math.sqrt(math.log(40) / (2 * 1999))
    low = 0.75 - error
    base = 2 + low * math.log(5)
    assert found.lower[0] == pytest.approx(base**low / (base**low + base**error) - 0.05)
    assert found.lower[0] == pytest.approx(0.638, abs=0.001)
    assert found.admitted[0]
    for field, value in (("robust", 1.2), ("psi", np.array([0.7, 0.6])), ("psi", np.full(2, 0.2))):
        assert not replace(estimator, **{field: value}).estimate(np.array([[-2.0]])).admitted[0]


def test_what_is_alike_is_admitted_and_what_is_not_is_not(fitted: Estimator) -> None:
    """Fresh points of both classes are admitted and right; points far from both are not."""
    rng = np.random.default_rng(1)
    vectors, labels = _blobs(400, rng)
    found = fitted.estimate(vectors)
    assert found.admitted.mean() > 0.3
    assert (found.predicted == labels)[found.admitted].all()
    strange = fitted.estimate(rng.standard_normal((200, 4)) * 8)
    assert strange.admitted.mean() < 0.05
    assert not fitted.estimate(vectors + 30.0).admitted.any()


def test_nothing_to_tell_admits_nothing() -> None:
    """Labels dealt at random have no region, and no figure is NaN."""
    rng = np.random.default_rng(0)
    vectors, _ = _blobs(200, rng)
    found = fit_estimator(vectors, rng.integers(0, 2, 200), 2, QUICK, rng=rng).estimate(vectors)
    assert found.admitted.mean() < 0.02
    assert all(np.isfinite(value).all() for value in vars(found).values())


def test_calibration_is_not_on_the_training_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit splits the rows in two, each class in halves, and calibrates on the other one."""
    seen = []
    real = sdm._calibrate

    def watch(adaptor, vectors, labels, train, held, *rest):
        seen.append((set(train), set(held)))
        return real(adaptor, vectors, labels, train, held, *rest)

    monkeypatch.setattr(sdm, "_calibrate", watch)
    rng = np.random.default_rng(0)
    fit_estimator(*_blobs(40, rng), 2, QUICK, rng=rng)
    assert len(seen) == QUICK.runs
    for train, held in seen:
        assert not train & held
        assert train | held == set(range(40))
        assert len(train) == 20


def test_other_fits_make_it_careful() -> None:
    """What varies over the fits is taken off: the robust threshold is at or above the plain one."""
    rng = np.random.default_rng(3)
    vectors, labels = _blobs(120, rng)
    noisy = np.where(rng.random(120) < 0.1, 1 - labels, labels)
    many = fit_estimator(vectors, noisy, 2, Settings(k=8, runs=5, epochs=4), rng=rng)
    assert many.robust >= many.least
    assert (many.offset >= 0).all()
    assert many.offset.max() > 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 1], "labels must hold each of the classes 0 to 1 twice or more"),
        ([0, 0, 1, 2], "labels must hold each"),
        ([0, 1], "labels must have shape"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(labels: list[int], message: str) -> None:
    """A class that cannot be split in two is named."""
    vectors = np.ones((max(len(labels), 3), 2))
    with pytest.raises(InputError, match=message):
        fit_estimator(vectors, np.array(labels), 2, QUICK, rng=np.random.default_rng(0))

"""Similarity, distance, magnitude: a confidence that knows how near the training data are.

A softmax is as sure of a vector far from everything as of one among its like. Here the base of its
powers grows with how many nearest training points agree, and its logits shrink with how far the
nearest is; then calibration finds the region in which predictions of every class are right at a
rate alpha. From Schmaltz, "Similarity-Distance-Magnitude Universal Verification", 2025,
arXiv:2502.20167. Equations, with the variable of each symbol, for C classes::

    h' = W h + b,  z = W' h' + b',  y = argmax z      exemplar (n, k), logits (n, C)
    q   = nearest training points, counted outwards, that are predicted right and as y
    d   = min_c (1 - F_c(distance to the nearest))    F_c: calibration points of class c, q > 0
    s   = softmax(d ln(2 + q) z)                      `activation`
    v_c = G_c(s_c)                                    G_c: s_c of calibration points of class c
    qt  = v_y ln(2 + q)                               rescaled similarity
    o   = softmax(ln(2 + qt) R v)                     R is `rescale`; qt = 0 if it overturns y
    n_c = calibration points of class c with less qt
    e_c = sqrt(ln(2 / (1 - alpha)) / (2 n_c))         1 where there is none
    lower: v_y - e_y and v_c + e_c elsewhere, within [0, 1], then qt and o again
    region: the least qt_min with, for every c, the (1 - alpha) quantile psi_c of o_c >= alpha
            over calibration points of class c with qt >= qt_min
    t      = tan(pi (alpha - 1/2)),  offset(y, floor(qt)) = t MAD(median of o_y)
    admit y if floor(qt) > 0, qt >= qt_min + t MAD(qt_min), and o, less its offset, is >= psi
            for y and for no other

What is admitted is told by the lower figures; MAD is the median distance from the median,
over J fits with other halves for training and calibration and other weights. F and G count what is
strictly below, so ties make d greater and v smaller; a class without points has d = 0 and v = 0.
Training follows -log of s to the base 2 + q, whose slope in z is d (s - 1_y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.learners.descent import Adam

__all__ = ["Adaptor", "Estimate", "Estimator", "Settings", "activation", "fit_estimator", "nearby"]

#: Most neighbours that count, and so most whole numbers that qt can reach.
_DEPTH, _BINS = 1000, 8
#: Steps and step size of the rescaler.
_STEPS, _RATE = 500, 0.02


def activation(logits: Float, q: Float, d: Float) -> Float:
    """Probabilities (n, C) of logits (n, C), similarity (n,) and distance quantile (n,).

    q = e - 2 and d = 1 make the softmax; d = 0 makes all classes alike.

    Examples
    --------
    >>> activation(np.array([[0.0, 1.0]]), np.array([2.0]), np.array([1.0])).tolist()
    [[0.2, 0.8]]
    """
    power = (d * np.log(2.0 + q))[:, None] * (logits - logits.max(axis=1, keepdims=True))
    weight = np.exp(power)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def nearby(
    exemplar: Float, predicted: Int, support: Float, agrees: Int, *, own: bool = False
) -> tuple[Float, Float]:
    """Similarity q (n,) and distance to the nearest (n,).

    Parameters
    ----------
    exemplar : array (n, k)
    predicted : array of int (n,)
    support : array (m, k)
        Training points.
    agrees : array of int (m,)
        The class of each that is predicted right, -1 of the others.
    own : bool
        Row i is support i, and is not its own neighbour.

    Notes
    -----
    A neighbour as far as the first that disagrees does not count.
    """
    square = (exemplar**2).sum(axis=1)[:, None] + (support**2).sum(axis=1)
    far = np.maximum(square - 2.0 * exemplar @ support.T, 0.0)
    if own:
        np.fill_diagonal(far, np.inf)
    same = agrees == predicted[:, None]
    first = np.where(same, np.inf, far).min(axis=1, initial=np.inf)
    # a point that is its own only neighbour would be infinitely far and agree
    count = (far < first[:, None]).sum(axis=1)
    return np.minimum(count, _DEPTH).astype(np.float64), np.sqrt(far.min(axis=1, initial=np.inf))


@dataclass(frozen=True, eq=False)
class Adaptor:
    """Two linear layers over vectors, standardised by two numbers of the training half.

    Parameters
    ----------
    mean, scale : float
    weight : array (d, k)
    shift : array (k,)
    read : array (k, C)
    bias : array (C,)
    """

    mean: float
    scale: float
    weight: Float
    shift: Float
    read: Float
    bias: Float

    def exemplar(self, vectors: Float) -> Float:
        """What distances are taken between, (n, k)."""
        return np.asarray((vectors - self.mean) / self.scale @ self.weight + self.shift)

    def logits(self, exemplar: Float) -> Float:
        """Logits (n, C)."""
        return np.asarray(exemplar @ self.read + self.bias)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator says of n vectors; arrays (n,).

    Parameters
    ----------
    predicted : array of int
    similarity, distance : array
        q and d.
    qt : array
        Rescaled similarity; below 1 nothing like it has been seen.
    centre, lower : array
        Probability of the predicted class, without bounds, and with all of them.
    admitted : array of bool
    """

    predicted: Int
    similarity: Float
    distance: Float
    qt: Float
    centre: Float
    lower: Float
    admitted: Bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimator:
    """A fitted estimator: see the module for the rules.

    Parameters
    ----------
    alpha : float
    adaptor : Adaptor
    support : array (m, k)
        Exemplars of the training half.
    agrees : array of int (m,)
        Their classes where predicted right, else -1.
    distances, outputs, sizes : tuple of C arrays
        Sorted, of the calibration points of each class: distance to the nearest where q > 0, s_c,
        and qt.
    rescale : array (C, C)
    psi : array (C,)
    least : float
        qt_min; infinite where there is no region.
    robust : float
        qt_min with what it varies by over the fits.
    offset : array (C, bins)
        Taken off the lower bound, by predicted class and whole qt.
    """

    alpha: float
    adaptor: Adaptor
    support: Float
    agrees: Int
    distances: tuple[Float, ...]
    outputs: tuple[Float, ...]
    sizes: tuple[Float, ...]
    rescale: Float
    psi: Float
    least: float
    robust: float
    offset: Float

    def estimate(self, vectors: Float) -> Estimate:
        """Predict, and say how sure that is.

        Parameters
        ----------
        vectors : array (n, d)
        """
        rows = np.arange(len(vectors))
        exemplar = self.adaptor.exemplar(vectors)
        logits = self.adaptor.logits(exemplar)
        y = logits.argmax(axis=1)
        q, near = nearby(exemplar, y, self.support, self.agrees)
        d = _distance(near, self.distances)
        v = _quantiles(activation(logits, q, d), self.outputs)
        qt, centre, _ = _rescaled(v, q, y, self.rescale)
        errors = _errors(qt, self.sizes, self.alpha)
        low = v + errors
        low[rows, y] = (v - errors)[rows, y]
        low_qt, output, held = _rescaled(np.clip(low, 0.0, 1.0), q, y, self.rescale)
        whole = low_qt.astype(np.int64)
        output[rows, y] = np.clip(output[rows, y] - self.offset[y, whole], 0.0, 1.0)
        alone = (output >= self.psi).sum(axis=1) == 1
        sure = output[rows, y] >= self.psi[y]
        enough = low_qt >= max(self.least, self.robust)
        return Estimate(
            predicted=y,
            similarity=q,
            distance=d,
            qt=qt,
            centre=centre[rows, y],
            lower=output[rows, y],
            admitted=held & (whole > 0) & alone & sure & enough,
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an estimator is fitted.

    Parameters
    ----------
    alpha : float
        Rate at which the admitted are to be right, in (0.5, 1).
    k : int
        Length of an exemplar, >= 1.
    runs : int
        Fits over other halves, >= 1.
    epochs : int
        Passes of each, >= 1.
    batch : int
        Rows a step, >= 1.
    rate : float
        Step size of Adam, > 0.
    """

    alpha: float = 0.95
    k: int = 100
    runs: int = 10
    epochs: int = 20
    batch: int = 50
    rate: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.5 < _check.number("sdm.alpha", self.alpha) < 1.0:
            raise InputError("sdm.alpha", "lie between 0.5 and 1", self.alpha, "Such as 0.95.")
        for field in ("k", "runs", "epochs", "batch"):
            _check.integer(f"sdm.{field}", getattr(self, field), low=1)
        _check.number("sdm.rate", self.rate, low=1e-9)


def fit_estimator(
    vectors: Float, labels: Int, classes: int, settings: Settings, *, rng: Generator
) -> Estimator:
    """Fit `runs` times and keep the fit whose calibration points are most like its training points.

    Parameters
    ----------
    vectors : array (n, d)
    labels : array of int (n,)
        In 0 ... C - 1; every class twice or more.
    classes : int
        C, >= 2.
    settings : Settings
    rng : Generator

    Raises
    ------
    InputError
        Shapes or labels are not as said.
    """
    vectors = _check.floats("vectors", vectors, (None, None))
    labels = np.asarray(labels, dtype=np.int64)
    _check.expect_shape("labels", labels, (len(vectors),))
    _check.integer("classes", classes, low=2)
    count = np.bincount(labels, minlength=classes) if len(labels) else np.zeros(classes)
    if len(count) > classes or count.min() < 2:
        rule = f"hold each of the classes 0 to {classes - 1} twice or more"
        raise InputError("labels", rule, count.tolist(), "Drop the class or add rows.")
    best, most = None, -1.0
    leasts, medians = [], []
    for _ in range(settings.runs):
        train, held = _halves(labels, rng)
        adaptor, alike = _train(vectors, labels, train, held, classes, settings, rng)
        fitted, median = _calibrate(adaptor, vectors, labels, train, held, classes, settings.alpha)
        leasts.append(fitted.least)
        medians.append(median)
        if best is None or alike > most:
            best, most = fitted, alike
    assert best is not None
    tail = math.tan(math.pi * (settings.alpha - 0.5))
    varies = _mad(np.array(leasts)) if np.isfinite(leasts).all() else math.inf
    robust = best.least + varies * tail if math.isfinite(varies) else best.least
    stack = np.array(medians)
    offset = np.zeros(stack.shape[1:])
    for cell in np.ndindex(offset.shape):
        seen = stack[(slice(None), *cell)]
        seen = seen[~np.isnan(seen)]
        offset[cell] = _mad(seen) * tail if len(seen) else 0.0
    return replace(best, robust=robust, offset=offset)


def _mad(values: Float) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _halves(labels: Int, rng: Generator) -> tuple[Int, Int]:
    """Half of each class to train on, half to calibrate on."""
    order = rng.permutation(len(labels))
    parts = [order[labels[order] == c] for c in np.unique(labels)]
    train = np.concatenate([part[: (len(part) + 1) // 2] for part in parts])
    held = np.concatenate([part[(len(part) + 1) // 2 :] for part in parts])
    return np.sort(train), np.sort(held)


def _train(
    vectors: Float,
    labels: Int,
    train: Int,
    held: Int,
    classes: int,
    settings: Settings,
    rng: Generator,
) -> tuple[Adaptor, float]:
    """The adaptor of the epoch whose calibration points have the greatest q, and that q."""
    x, y = vectors[train], labels[train]
    scale = float(x.std())
    spread = 1.0 / math.sqrt(x.shape[1])
    adaptor = Adaptor(
        float(x.mean()),
        scale if scale > 1e-12 else 1.0,
        rng.uniform(-spread, spread, (x.shape[1], settings.k)),
        np.zeros(settings.k),
        rng.uniform(-1.0, 1.0, (settings.k, classes)) / math.sqrt(settings.k),
        np.zeros(classes),
    )
    x = (x - adaptor.mean) / adaptor.scale
    weights = [adaptor.weight, adaptor.shift, adaptor.read, adaptor.bias]
    adam = Adam(weights, rate=settings.rate)
    q, d = np.full(len(x), math.e - 2.0), np.ones(len(x))
    kept, most = [item.copy() for item in weights], -1.0
    for _ in range(settings.epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), settings.batch):
            rows = order[start : start + settings.batch]
            exemplar = x[rows] @ adaptor.weight + adaptor.shift
            slope = activation(adaptor.logits(exemplar), q[rows], d[rows])
            slope[np.arange(len(rows)), y[rows]] -= 1.0
            slope *= d[rows][:, None] / len(rows)
            back = slope @ adaptor.read.T
            adam.step([x[rows].T @ back, back.sum(axis=0), exemplar.T @ slope, slope.sum(axis=0)])
        support, agrees = _support(adaptor, vectors[train], y)
        predicted = adaptor.logits(support).argmax(axis=1)
        q, near = nearby(support, predicted, support, agrees, own=True)
        d = _distance(near, _by_class(near[q > 0], y[q > 0], classes))
        alike = _median_q(adaptor, vectors[held], labels[held], support, agrees, classes)
        if alike > most:
            most, kept = alike, [item.copy() for item in weights]
    for item, copy in zip(weights, kept, strict=True):
        item[...] = copy
    return adaptor, most


def _support(adaptor: Adaptor, vectors: Float, labels: Int) -> tuple[Float, Int]:
    exemplar = adaptor.exemplar(vectors)
    right = adaptor.logits(exemplar).argmax(axis=1) == labels
    return exemplar, np.where(right, labels, -1)


def _median_q(
    adaptor: Adaptor, vectors: Float, labels: Int, support: Float, agrees: Int, classes: int
) -> float:
    """Mean over the classes of the median similarity."""
    exemplar = adaptor.exemplar(vectors)
    predicted = adaptor.logits(exemplar).argmax(axis=1)
    q, _ = nearby(exemplar, predicted, support, agrees)
    return float(np.mean([np.median(q[labels == c]) for c in range(classes)]))


def _calibrate(
    adaptor: Adaptor,
    vectors: Float,
    labels: Int,
    train: Int,
    held: Int,
    classes: int,
    alpha: float,
) -> tuple[Estimator, Float]:
    """The estimator of one fit without offsets, and medians of o_y by class and whole qt."""
    support, agrees = _support(adaptor, vectors[train], labels[train])
    truth, rows = labels[held], np.arange(len(held))
    exemplar = adaptor.exemplar(vectors[held])
    logits = adaptor.logits(exemplar)
    y = logits.argmax(axis=1)
    q, near = nearby(exemplar, y, support, agrees)
    distances = _by_class(near[q > 0], truth[q > 0], classes)
    s = activation(logits, q, _distance(near, distances))
    outputs = _by_class(s[rows, truth], truth, classes)
    v = _quantiles(s, outputs)
    raw = v[rows, y] * np.log(2.0 + q)
    rescale = _fit_rescale(v, raw, truth)
    qt, o, held_up = _rescaled(v, q, y, rescale)
    valid = held_up & (qt >= 1.0)
    least, psi = _region(o[rows, truth][valid], qt[valid], truth[valid], classes, alpha)
    median = np.full((classes, _BINS), np.nan)
    whole = np.where(valid, qt, 0.0).astype(np.int64)
    for c in range(classes):
        for level in np.unique(whole[y == c]):
            median[c, level] = np.median(o[(y == c) & (whole == level), c])
    fitted = Estimator(
        alpha=alpha,
        adaptor=adaptor,
        support=support,
        agrees=agrees,
        distances=distances,
        outputs=outputs,
        sizes=_by_class(raw, truth, classes),
        rescale=rescale,
        psi=psi,
        least=least,
        robust=least,
        offset=np.zeros((classes, _BINS)),
    )
    return fitted, median


def _by_class(values: Float, labels: Int, classes: int) -> tuple[Float, ...]:
    return tuple(np.sort(values[labels == c]) for c in range(classes))


def _distance(near: Float, distances: tuple[Float, ...]) -> Float:
    """Quantile d (n,): 0 beyond the farthest, and for all where a class has no point."""
    d = np.ones(len(near))
    for known in distances:
        if not len(known):
            return np.zeros(len(near))
        d = np.minimum(d, 1.0 - np.searchsorted(known, near, side="left") / len(known))
    return d


def _quantiles(s: Float, outputs: tuple[Float, ...]) -> Float:
    """Quantiles v (n, C): share of calibration outputs below; 1 from the greatest upwards."""
    v = np.zeros(s.shape)
    for c, known in enumerate(outputs):
        if len(known):
            below = np.searchsorted(known, s[:, c], side="left") / len(known)
            v[:, c] = np.where(s[:, c] >= known[-1], 1.0, below)
    return v


def _rescaled(v: Float, q: Float, y: Int, rescale: Float) -> tuple[Float, Float, Bool]:
    """Rescaled qt (n,), 0 where the prediction turns over; o (n, C); where it did not."""
    qt = v[np.arange(len(y)), y] * np.log(2.0 + q)
    o = activation(v @ rescale.T, qt, np.ones(len(y)))
    held = o.argmax(axis=1) == y
    return np.where(held, qt, 0.0), o, held


def _errors(qt: Float, sizes: tuple[Float, ...], alpha: float) -> Float:
    """DKW errors e_c (n, C) by how many calibration points have less qt."""
    errors = np.ones((len(qt), len(sizes)))
    for c, known in enumerate(sizes):
        count = np.minimum(np.searchsorted(known, qt, side="left"), max(len(known) - 1, 0))
        some = count > 0
        errors[some, c] = np.sqrt(math.log(2.0 / (1.0 - alpha)) / (2.0 * count[some]))
    return errors


def _fit_rescale(v: Float, qt: Float, truth: Int) -> Float:
    """R (C, C): descends the mean of -log o to the base 2 + qt until it rises."""
    rescale = np.eye(v.shape[1])
    rows = np.arange(len(v))
    adam = Adam([rescale], rate=_RATE)
    before = math.inf
    for _ in range(_STEPS):
        o = activation(v @ rescale.T, qt, np.ones(len(v)))
        loss = float(np.mean(-np.log(np.maximum(o[rows, truth], 1e-300)) / np.log(2.0 + qt)))
        if loss > before:
            break
        before = loss
        o[rows, truth] -= 1.0
        adam.step([o.T @ v / len(v)])
    return rescale


def _region(
    output: Float, qt: Float, truth: Int, classes: int, alpha: float
) -> tuple[float, Float]:
    """qt_min and psi (C,); infinite and 0 where no qt keeps every class right."""
    for least in np.unique(qt):
        inside = qt >= least
        psi = np.zeros(classes)
        for c in range(classes):
            known = np.sort(output[inside & (truth == c)])
            if len(known):
                psi[c] = known[min(int((1.0 - alpha) * len(known)), len(known) - 1)]
        if (psi >= alpha).all():
            return float(least), psi
    return math.inf, np.zeros(classes)

"""What is believed of a model before it was asked anything, from the models already known.

See `turnout.parts.newcomer` for the equations. Every strength here is the evidence's: a small grid
of variances is weighed by how well each explains the known models, one by one, from the others
(MacKay, "The evidence framework applied to classification networks", 1992, Neural Computation 4:
the evidence ranks priors; here the ranks are averaged over, because known models are few).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log

import numpy as np

from turnout.core._check import Float
from turnout.parts.learners.logistic import sigmoid

__all__ = ["Belief", "Noise", "alike", "believe", "measure_noise", "update"]

#: Standard deviation of the mean level of all models, in log-odds: nearly anything.
_ANY = 1.5
#: Of levels: by traits, by description, by neither.
_LEVELS = ((0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 1.0, 2.0), (0.125, 0.25, 0.5, 1.0))
#: Of loadings: pull of the description, spread of each loading, spread of their common slope.
_LOADINGS = ((0.0, 3.0, 10.0), (0.03, 0.1, 0.2, 0.4, 0.8), (0.1, 0.2, 0.4, 0.8))
#: Mean and standard deviation of the common slope of loadings.
_SLOPE, _SLOPE_SPREAD = 1.0, 0.5
#: Precision of the weak prior under which a known model is told from the others.
_WEAK = 0.05
#: Precision below which data say nothing.
_NOTHING = 1e-3
_LEAST_DISPERSION = 0.05
_ADDED = 10


@dataclass(frozen=True, eq=False)
class Belief:
    """A Gaussian over the level and the m loadings of one model.

    Parameters
    ----------
    mean : array (1 + m,)
        Level first, in log-odds.
    covariance : array (1 + m, 1 + m)
    """

    mean: Float
    covariance: Float


@dataclass(frozen=True, eq=False)
class Noise:
    """How far answers fall from what is predicted of them, and how far together.

    Parameters
    ----------
    variance : float
        Of a residual, averaged over models.
    shared : float
        Covariance of two models' residuals on one prompt, averaged over pairs, >= 0.
    dispersion : float
        The variance as a multiple of p (1 - p): 1 for right or wrong, less for finer grades.
    """

    variance: float
    shared: float
    dispersion: float

    def control(self, count: Float) -> Float:
        """Slope of one model's residual on the mean residual of `count` others; 0 at none."""
        own = self.variance - self.shared
        slope = self.shared / (self.shared + own / np.maximum(count, 1.0))
        return np.asarray(np.where(count > 0, slope, 0.0))

    def left(self, count: Float) -> Float:
        """Dispersion that is left once the mean residual of `count` others is known."""
        return self.dispersion * (1.0 - self.control(count) * self.shared / self.variance)


def measure_noise(quality: Float, predicted: Float) -> Noise:
    """The noise of the known models.

    Parameters
    ----------
    quality : array (n, m)
        Seen; NaN = never seen.
    predicted : array (n, m)
        By what has not learned from these rows.
    """
    residual = quality - predicted
    seen = ~np.isnan(residual)
    count = np.maximum(seen.sum(axis=0), 1)
    residual = np.where(seen, residual, 0.0)
    residual = np.where(seen, residual - residual.sum(axis=0) / count, 0.0)
    chance = max(float((predicted * (1.0 - predicted))[seen].mean()), 1e-3)
    # a few rows say little: ten answers that are right or wrong are added to them
    variance = float(((residual**2).sum() + _ADDED * chance) / (seen.sum() + _ADDED))
    both = seen.astype(np.float64).T @ seen
    together = residual.T @ residual
    pairs = np.triu(both > 0, 1)
    shared = float((together[pairs] / both[pairs]).mean()) if pairs.any() else 0.0
    return Noise(
        variance=variance,
        shared=min(max(shared, 0.0), 0.95 * variance),
        dispersion=max(variance / chance, _LEAST_DISPERSION),
    )


def alike(texts: Sequence[str]) -> Float:
    """Cosine similarity (t, t) of short texts by their words, the rare ones weighing more.

    Words are runs of letters and digits; idf = 1 + log((1 + t) / (1 + texts with it)), and counts
    enter as 1 + log(count).
    """
    bags = [Counter(re.findall(r"[^\W_]+", text.lower())) for text in texts]
    spread = Counter(word for bag in bags for word in bag)
    place = {word: column for column, word in enumerate(sorted(spread))}
    table = np.zeros((len(texts), max(len(place), 1)))
    for row, bag in enumerate(bags):
        for word, count in bag.items():
            rarity = 1.0 + log((1 + len(texts)) / (1 + spread[word]))
            table[row, place[word]] = (1.0 + log(count)) * rarity
    size = np.linalg.norm(table, axis=1, keepdims=True)
    table /= np.maximum(size, 1e-300)
    return np.asarray(np.clip(table @ table.T, 0.0, 1.0))


def update(belief: Belief, x: Float, y: Float, weight: Float) -> Belief:
    """The belief once labels are seen: its mode, and the Gaussian of its curvature there.

    Parameters
    ----------
    belief : Belief
    x : array (l, 1 + m)
        1 and the centred log-odds of the known models on each labelled prompt.
    y : array (l,)
        Labels, or labels less a control (may lie outside [0, 1]).
    weight : array (l,)
        1 / dispersion of each.
    """
    if len(y) == 0:
        return belief
    precision = _inverse(belief.covariance)
    mode, bend = _newton(x, y, weight, belief.mean, precision)
    return Belief(mode, _inverse(bend))


def believe(
    logits: Float, quality: Float, noise: Noise, traits: Float, similarity: Float
) -> Belief:
    """The belief about a model of which only traits and a description are known.

    Parameters
    ----------
    logits : array (n, m)
        Centred log-odds predicted of the known models.
    quality : array (n, m)
        What they earned; NaN = never seen.
    noise : Noise
    traits : array (m + 1, f)
        Of each model, such as the logarithm of its price; the new one last.
    similarity : array (m + 1, m + 1)
        Of descriptions, in [0, 1]; the new one last.
    """
    m = logits.shape[1]
    fits = [_told_from_others(logits, quality[:, k], noise, k) for k in range(m)]
    level, spread = _level(
        np.array([mode[0] for mode, _ in fits]),
        np.array([variance[0, 0] for _, variance in fits]),
        traits,
        similarity,
    )
    loadings, scatter = _loadings(fits, similarity)
    covariance = np.zeros((m + 1, m + 1))
    covariance[0, 0], covariance[1:, 1:] = spread, scatter
    return Belief(np.append(level, loadings), covariance)


def _told_from_others(logits: Float, quality: Float, noise: Noise, k: int) -> tuple[Float, Float]:
    """Most likely level and loadings (m,) of a known model, and their sampling variance (m, m)."""
    n, m = logits.shape
    seen = ~np.isnan(quality)
    x = np.column_stack((np.ones(n), np.delete(logits, k, axis=1)))[seen]
    mean = np.append(0.0, np.full(m - 1, _SLOPE / max(m - 1, 1)))
    prior = np.eye(m) * _WEAK
    weight = np.full(len(x), 1.0 / noise.dispersion)
    mode, bend = _newton(x, quality[seen], weight, mean, prior)
    # the quadratic of the labels alone: the weak prior is taken out again
    variance = _inverse(bend - prior + _NOTHING * np.eye(m))
    return variance @ (bend @ mode - prior @ mean), variance


def _level(levels: Float, noise: Float, traits: Float, similarity: Float) -> tuple[float, float]:
    """Mean and variance of the new model's level: a Gaussian process over the known ones."""
    m = len(levels)
    spread = traits[:m].std(axis=0)
    z = (traits - traits[:m].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    found, evidence = [], []
    by_traits, by_texts, by_nones = _LEVELS
    some = len(by_texts) if _says_anything(similarity) else 1
    for by_trait, by_text, by_none in product(by_traits, by_texts[:some], by_nones):
        kernel = _ANY**2 + by_trait**2 * (z @ z.T) + by_text**2 * similarity
        known = kernel[:m, :m] + np.diag(noise + by_none**2)
        root = np.linalg.cholesky(known)
        part = np.linalg.solve(root, np.column_stack((levels, kernel[:m, m])))
        mean = float(part[:, 0] @ part[:, 1])
        found.append((mean, float(kernel[m, m] + by_none**2 - part[:, 1] @ part[:, 1])))
        evidence.append(-0.5 * float(part[:, 0] @ part[:, 0]) - float(np.log(np.diag(root)).sum()))
    share = _shares(evidence)
    mean = sum(w * one for w, (one, _) in zip(share, found, strict=True))
    variance = sum(w * (v + (one - mean) ** 2) for w, (one, v) in zip(share, found, strict=True))
    return float(mean), float(variance)


def _loadings(fits: Sequence[tuple[Float, Float]], similarity: Float) -> tuple[Float, Float]:
    """Mean (m,) and covariance (m, m) of the new model's loadings."""
    m = len(fits)
    modes = np.array([mode[1:] for mode, _ in fits])
    variances = np.array([variance[1:, 1:] for _, variance in fits])
    others = np.array([np.delete(similarity[k, :m], k) for k in range(m)])
    found, evidence = [], []
    pulls, eachs, commons = _LOADINGS
    some = len(pulls) if _says_anything(similarity) else 1
    for pull, each, common in product(pulls[:some], eachs, commons):
        weights = _weights(others, pull)
        outer = weights[:, :, None] * weights[:, None, :]
        root = np.linalg.cholesky(variances + each**2 * _contrasts(m - 1) + common**2 * outer)
        part = np.linalg.solve(root, np.stack((weights, modes), axis=2))
        # precision and mean of the common slope, which all known models inform
        sharp = 1 / _SLOPE_SPREAD**2 + float((part[..., 0] ** 2).sum())
        slope = (_SLOPE / _SLOPE_SPREAD**2 + float((part[..., 0] * part[..., 1]).sum())) / sharp
        lost = 0.5 * float((part[..., 1] ** 2).sum())
        lost += float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        evidence.append(0.5 * sharp * slope**2 - 0.5 * log(sharp) - lost)
        mine = _weights(similarity[m, :m], pull)
        spread = (common**2 + 1 / sharp) * np.outer(mine, mine) + each**2 * _contrasts(m)
        found.append((slope * mine, spread))
    share = _shares(evidence)
    mean = sum((w * one for w, (one, _) in zip(share, found, strict=True)), np.zeros(m))
    covariance = np.zeros((m, m))
    for w, (one, spread) in zip(share, found, strict=True):
        covariance += w * (spread + np.outer(one - mean, one - mean))
    return mean, covariance


def _says_anything(similarity: Float) -> bool:
    """Whether any two descriptions have a word in common."""
    return bool((similarity - np.diag(np.diag(similarity)) > 0).any())


def _contrasts(m: int) -> Float:
    """The projection (m, m) onto loadings that add up to nothing."""
    return np.asarray(np.eye(m) - 1.0 / max(m, 1))


def _weights(similarity: Float, pull: float) -> Float:
    """Shares of the known models by likeness, adding up to 1 along the last axis."""
    strength = np.exp(pull * similarity)
    return np.asarray(strength / strength.sum(axis=-1, keepdims=True))


def _shares(evidence: Sequence[float]) -> list[float]:
    share = np.exp(np.array(evidence) - max(evidence))
    return list(map(float, share / share.sum()))


def _newton(
    x: Float, y: Float, weight: Float, mean: Float, precision: Float
) -> tuple[Float, Float]:
    """Mode of a Gaussian prior times a logistic likelihood, and the curvature there."""

    def loss(at: Float) -> float:
        z, off = x @ at, at - mean
        return float((weight * (np.logaddexp(0.0, z) - y * z)).sum() + 0.5 * off @ precision @ off)

    theta, here = mean.copy(), loss(mean)
    bend = precision
    for _ in range(100):
        p = sigmoid(x @ theta)
        gradient = x.T @ (weight * (p - y)) + precision @ (theta - mean)
        bend = (x * (weight * p * (1.0 - p))[:, None]).T @ x + precision
        move = np.linalg.solve(bend, gradient)
        slope = float(gradient @ move)
        if slope < 1e-10 * max(len(y), 1):
            break
        step = 1.0
        while loss(theta - step * move) > here - 1e-4 * step * slope and step > 1e-6:
            step /= 2
        theta = theta - step * move
        here = loss(theta)
    return theta, bend


def _inverse(matrix: Float) -> Float:
    """The inverse of a symmetric matrix, symmetric to the bit."""
    made = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    return (made + made.T) / 2

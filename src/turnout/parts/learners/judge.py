"""A learned judge: how likely an answer is good, before it is asked for and once it is read.

Two scores a destination. The *prior* reads the input alone. The *judge* reads the answer too: its
words, its surface (length, cut off or not, hedges, what it repeats of the input, whether the sums
it states hold) and the prior. Both are ridge regressions whose exact leave-one-out predictions
are turned into logits (Platt scaling), so that a score that carries nothing on rows it has not
seen falls back to the mean.

The distance between the two on rows neither has seen, `shock = logit(judge) - logit(prior)`, says
how much reading an answer tells; its quantiles are what a planner needs to value a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from turnout.core import Inputs, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.texts.bags import TextFeatures, learn_features
from turnout.parts.texts.surface import answer_surface, prompt_surface
from turnout.parts.texts.words import texts_of

__all__ = ["Head", "Judge", "fit_judge", "fit_judge_held_out"]

#: Most words and word pairs kept of each vocabulary.
_WORDS = 4096
_SHOCKS = 16
#: Standardised surface columns stand beside word vectors of length one; this evens the penalty.
_SURFACE = 0.3
_LIMIT = 8.0


@dataclass(frozen=True, eq=False)
class Head:
    """A score over words and surface: `logit = features @ weight + bias`.

    Parameters
    ----------
    words : TextFeatures
        A vocabulary of b words and word pairs.
    mean, scale : array (s,)
        Standardise the surface columns.
    weight : array (b + s, m)
    bias : array (m,)
    """

    words: TextFeatures
    mean: Float
    scale: Float
    weight: Float
    bias: Float

    def __post_init__(self) -> None:
        for field in ("mean", "scale", "bias"):
            value = _check.floats(f"head.{field}", getattr(self, field), (None,))
            object.__setattr__(self, field, value)
        shape = (self.words.d + len(self.mean), len(self.bias))
        object.__setattr__(self, "weight", _check.floats("head.weight", self.weight, shape))

    def features(self, texts: Sequence[str], surface: Float) -> Any:
        """Sparse features (n, b + s) of texts and their surface (n, s)."""
        columns = (surface - self.mean) / self.scale * _SURFACE
        parts = [self.words.transform(texts), sparse.csr_matrix(columns)]
        return sparse.hstack(parts, format="csr", dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores destinations before, and answers after they are read.

    Parameters
    ----------
    before : Head
        Reads the input, m columns.
    after : Head or None
        Reads the answer, m columns; its last surface column is the prior's logit. None where no
        answer was seen: then reading changes nothing.
    shock : array (m, q)
        Quantiles of `logit(judge) - logit(prior)` on left-out rows; one 0 where `after` is None.
    """

    before: Head
    after: Head | None
    shock: Float

    def __post_init__(self) -> None:
        m = len(self.before.bias)
        object.__setattr__(self, "shock", _check.floats("judge.shock", self.shock, (m, None)))

    def prior(self, inputs: Inputs) -> Float:
        """Logit (n, m) that each destination would answer well, from the input alone."""
        texts = texts_of(inputs)
        if not texts:
            return np.zeros((0, len(self.before.bias)))
        features = self.before.features(texts, prompt_surface(texts))
        return _clip(features @ self.before.weight + self.before.bias)

    def score(
        self, inputs: Inputs, answers: Sequence[str], column: Int, known: Float | None = None
    ) -> Float:
        """Judged quality (n,) of one answer a row, given by destination `column` (n,).

        `known` is `prior(inputs)`, where it is at hand.
        """
        texts = texts_of(inputs)
        prior = (self.prior(texts) if known is None else known)[np.arange(len(texts)), column]
        if self.after is None or not texts:
            return sigmoid(prior)
        features = self.after.features(answers, _beside(prior, texts, answers))
        own = np.asarray((features @ self.after.weight)[np.arange(len(texts)), column])
        return sigmoid(_clip(own + self.after.bias[column]))


def fit_judge(inputs: Inputs, answers: Any, quality: Float, *, penalty: float) -> Judge:
    """Learn from a table.

    Parameters
    ----------
    inputs : sequence of str (n,)
    answers : array of object (n, m), or None
        Texts; None in a cell = never seen.
    quality : array (n, m)
        In [0, 1]; NaN = never seen.
    penalty : float
        Weight of the squared coefficients against the squared errors, > 0.
    """
    return fit_judge_held_out(inputs, answers, quality, penalty=penalty)[0]


def fit_judge_held_out(
    inputs: Inputs, answers: Any, quality: Float, *, penalty: float
) -> tuple[Judge, Float]:
    """The same, and the score (n, m) of every answer by a judge that has not seen its row.

    NaN where nothing was seen. Without answers a score is the prior's.
    """
    texts = texts_of(inputs)
    m = quality.shape[1]
    seen = ~np.isnan(quality)
    # half a good and half a bad answer more than were seen: no logit runs away
    count = np.maximum(seen.sum(axis=0), 1)
    target = np.where(seen, quality, 0.0) * (1 - 1 / count) + 0.5 / count
    surface = prompt_surface(texts)
    blank = _blank(texts, surface, m)
    everyone = [(blank.features(texts, surface), np.arange(m))]
    before, prior = _fit_head(blank, everyone, target, seen, penalty)
    read = seen & _texts(answers, quality.shape)
    if not read.any():
        return Judge(before, None, np.zeros((m, 1))), np.where(seen, sigmoid(prior), np.nan)
    said = [
        [str(cell) if ok else "" for cell, ok in zip(*pair, strict=True)]
        for pair in zip(answers.T, read.T, strict=True)
    ]
    beside = [_beside(prior[:, j], texts, said[j]) for j in range(m)]
    rows = [np.flatnonzero(column) for column in read.T]
    blank = _blank(
        [said[j][i] for j in range(m) for i in rows[j]],
        np.concatenate([beside[j][rows[j]] for j in range(m)]),
        m,
    )
    each = [(blank.features(said[j], beside[j]), np.array([j])) for j in range(m)]
    after, judged = _fit_head(blank, each, target, read, penalty)
    scores = np.where(read, sigmoid(judged), np.nan)
    return Judge(before, after, _shocks(prior, judged, read)), scores


def _texts(answers: Any, shape: tuple[int, ...]) -> Bool:
    """Which cells hold an answer, (n, m)."""
    if answers is None:
        return np.zeros(shape, dtype=np.bool_)
    return np.array([[isinstance(cell, str) for cell in row] for row in answers], dtype=np.bool_)


def _clip(logit: Any) -> Float:
    return np.clip(np.asarray(logit, dtype=np.float64), -_LIMIT, _LIMIT)


def _beside(prior: Float, texts: Sequence[str], answers: Sequence[str]) -> Float:
    """Surface of the answers with the prior's logit as the last column."""
    return np.column_stack([answer_surface(texts, answers), prior])


def _blank(texts: Sequence[str], surface: Float, m: int) -> Head:
    """A head that scores nothing yet, with the vocabulary and the scale of these texts."""
    words = learn_features(texts, max_features=_WORDS)
    scale = surface.std(axis=0)
    scale[scale < 1e-9] = 1.0
    size = words.d + surface.shape[1]
    return Head(words, surface.mean(axis=0), scale, np.zeros((size, m)), np.zeros(m))


def _fit_head(
    blank: Head, parts: Sequence[tuple[Any, Int]], target: Float, seen: Bool, penalty: float
) -> tuple[Head, Float]:
    """The head fitted on all rows, rescaled by, and with, its leave-one-out logits (n, m).

    `parts` pairs features (n, b + s) with the destinations that are scored from them.
    """
    weight, bias = blank.weight.copy(), blank.bias.copy()
    held_out = np.zeros(target.shape)
    for features, columns in parts:
        for j in columns:
            rows = np.flatnonzero(seen[:, j])
            alike = [i for i in columns if (seen[:, i] == seen[:, j]).all()]
            if j != alike[0] or not len(rows):
                continue  # solved with an earlier destination, or never seen
            centre = target[rows][:, alike].mean(axis=0)
            w, left_out = _ridge(features[rows], target[rows][:, alike] - centre, penalty)
            score = features @ w
            score[rows] = left_out
            for slot, i in enumerate(alike):
                slope, shift = _rescale(left_out[:, slot], target[rows, i])
                weight[:, i], bias[i] = slope * w[:, slot], shift
                held_out[:, i] = slope * score[:, slot] + shift
    return Head(blank.words, blank.mean, blank.scale, weight, bias), _clip(held_out)


def _ridge(features: Any, target: Float, penalty: float) -> tuple[Float, Float]:
    """Ridge regression: coefficients (d, m) and leave-one-out predictions (n, m), both exact.

    With leverage h, the prediction without row i is `y - (y - fit) / (1 - h)` at i. Solved in the
    smaller of the two Gram matrices.
    """
    n, d = features.shape
    if n <= d:
        gram = (features @ features.T).toarray() + penalty * np.eye(n)
        inverse = np.linalg.inv(gram)
        weight = features.T @ (inverse @ target)
        free = penalty * np.diag(inverse)
    else:
        inverse = np.linalg.inv((features.T @ features).toarray() + penalty * np.eye(d))
        weight = inverse @ (features.T @ target)
        free = 1.0 - np.asarray(features.multiply(features @ inverse).sum(axis=1)).ravel()
    residual = (target - features @ weight) / np.maximum(free, 1e-12)[:, None]
    return np.asarray(weight), np.asarray(target - residual)


def _rescale(score: Float, target: Float) -> tuple[float, float]:
    """Slope and shift of the logit that fit `target` best (Platt scaling), by Newton's method.

    A slope that is not positive says that the score was worse than nothing on rows it had not
    seen: then the slope is 0 and the shift is the logit of the mean.
    """
    columns = np.column_stack([score, np.ones(len(score))])
    share = float(target.mean())
    level = float(np.log(share / (1 - share)))
    found = np.array([0.0, level])
    ridge = np.array([1e-3, 0.0])  # keeps a perfect score finite
    for _ in range(30):
        chance = sigmoid(np.clip(columns @ found, -30, 30))
        gradient = columns.T @ (chance - target) + ridge * found
        curve = (columns * (chance * (1 - chance))[:, None]).T @ columns + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curve, gradient)
        found -= step * min(1.0, 10.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    if found[0] <= 0 or not np.isfinite(found).all():
        return 0.0, level
    return float(found[0]), float(found[1])


def _shocks(prior: Float, judged: Float, read: Bool) -> Float:
    """Quantiles (m, q) of what reading changed, centred so that the mean judgement stays."""
    levels = (np.arange(_SHOCKS) + 0.5) / _SHOCKS
    shock = np.zeros((prior.shape[1], _SHOCKS))
    for j in range(prior.shape[1]):
        rows = read[:, j]
        if not rows.any():
            continue
        spread = np.quantile(judged[rows, j] - prior[rows, j], levels)
        wanted, base = sigmoid(prior[rows, j]).mean(), prior[rows, j][:, None]
        low, high = -4 * _LIMIT, 4 * _LIMIT
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = sigmoid(base + spread + middle).mean() > wanted
            low, high = (low, middle) if above else (middle, high)
        shock[j] = spread + 0.5 * (low + high)
    return shock

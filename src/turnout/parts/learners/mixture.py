"""Quality told by words and by form together, the words trusted as far as they are known.

For destination j and a text x, with W_j the quality told by its words (`parts.texts.bags`,
calibrated) and F_j that told by a forest (`parts.learners.trees`) over its form
(`parts.texts.form`) and its topic, a vector of length one that is linear in its words, or zero::

    k   = sum_{f in x, known} idf_f^2 / (the same + unknown * number of words never seen)
    w   = min(1, trust * k)
    p_j = w * W_j + (1 - w) * F_j
    q_j = sigmoid(base_j + level_j * mean_l p_l + spread * (p_j - mean_l p_l))

w is one number for all destinations of a text, so that a thin vocabulary moves them together. k,
the share of the text that the training prompts have words for, is the evidence there is: on a
subject never seen it falls, and what was learnt from the words of other subjects with it.

How hard a text is for all destinations is told better than how they differ, so level and
differences are calibrated apart (`fit_line`): with one slope for both, what is right for the level
would stretch the differences that a choice is made by.

Compiled code makes the same figures some thirty times as fast, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, sqrt

import numpy as np

from turnout.core import _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.learners.trees import Forest
from turnout.parts.native import _text
from turnout.parts.native._mixture import MixtureKernel
from turnout.parts.texts.bags import TextScorer
from turnout.parts.texts.form import COLUMNS, KIND, MOST_WORDS, encoded, form_of, forms_of

__all__ = ["Line", "Mixture", "fit_line", "logistic", "topic"]


_RIDGE = 1e-3


def topic(values: Sequence[float]) -> list[float]:
    """A vector scaled to length one; nothing stays nothing."""
    square = 0.0
    for value in values:  # one after another: the order of adding shows in the last bit
        square += value * value
    reach = sqrt(square) if square > 0.0 else 1.0
    return [value / reach for value in values]


def logistic(z: float) -> float:
    """`1 / (1 + e^-z)`; e^700 is about the greatest that a float holds."""
    return 1.0 / (1.0 + exp(-z)) if z > -700.0 else 0.0


@dataclass(frozen=True, eq=False)
class Line:
    """From mixed qualities to calibrated ones: the last equation of the module.

    Parameters
    ----------
    base, level : array (m,)
    spread : float
        >= 0.
    """

    base: Float
    level: Float
    spread: float
    _lines: tuple[tuple[float, float], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        base = _check.floats("line.base", self.base, (None,))
        level = _check.floats("line.level", self.level, (len(base),))
        _check.number("line.spread", self.spread, low=0.0)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "level", level)
        lines = tuple(zip(base.tolist(), level.tolist(), strict=True))
        object.__setattr__(self, "_lines", lines)

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.base)

    def apply_one(self, mixed: list[float]) -> list[float]:
        """Calibrated qualities of one text, m numbers."""
        mean = 0.0
        for p in mixed:  # one after another: the order of adding shows in the last bit
            mean += p
        mean /= len(mixed)
        return [
            logistic((base + level * mean) + self.spread * (p - mean))
            for p, (base, level) in zip(mixed, self._lines, strict=True)
        ]


def fit_line(mixed: Float, quality: Float) -> Line:
    """The line of least log loss over the seen cells, by Newton steps.

    A trace of ridge keeps it finite, and half a right and half a wrong answer a destination are
    added at the mean of all, as Platt does.

    Parameters
    ----------
    mixed : array (n, m)
        Out-of-fold, in [0, 1].
    quality : array (n, m)
        In [0, 1]; NaN = never seen.
    """
    m = mixed.shape[1]
    row, column = np.nonzero(~np.isnan(quality))
    every = np.arange(m)
    mean = mixed.mean(axis=1)
    centre = float(mean.mean())
    x = np.zeros((len(row) + m, 2 * m + 1))
    place = np.arange(len(x))
    x[place, np.append(column, every)] = 1.0
    x[place[: len(row)], m + column] = mean[row] - centre
    x[place[: len(row)], 2 * m] = mixed[row, column] - mean[row]
    y = np.append(quality[row, column], np.full(m, 0.5))
    theta = np.zeros(2 * m + 1)
    for _ in range(50):
        p = sigmoid(x @ theta)
        gradient = x.T @ (p - y) + _RIDGE * theta
        if np.abs(gradient).max() < 1e-8 * len(y):
            break
        bend = (x * (p * (1.0 - p))[:, None]).T @ x + _RIDGE * np.eye(len(theta))
        step = np.linalg.solve(bend, gradient)
        theta = theta - step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
    level = theta[m : 2 * m]
    return Line(theta[:m] - level * centre, level, max(0.0, float(theta[-1])))


@dataclass(frozen=True, eq=False)
class Mixture:
    """Words and form of a text, mixed by what is known of it.

    Parameters
    ----------
    words : TextScorer
        Calibrated log-odds of a good answer, m of them, then the topic's h numbers.
    forest : Forest
        Over the columns of `turnout.parts.texts.form`, then the topic's.
    unknown : float
        What a word never seen counts for, as `idf^2`. >= 0.
    trust : float
        Weight of the words where all of them are known, >= 0.
    line : Line
        Calibration of the mixture, for m destinations.

    Raises
    ------
    InputError
        Words and form know different numbers of destinations, or a value is out of range.
    """

    words: TextScorer
    forest: Forest
    unknown: float
    trust: float
    line: Line
    _kernel: MixtureKernel | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        m = self.line.m
        _check.expect_shape("mixture.forest.value", self.forest.value, (None, m))
        topics = self.forest.d - len(COLUMNS)
        _check.expect_shape("mixture.words.intercept", self.words.intercept, (m + topics,))
        _check.number("mixture.unknown", self.unknown, low=0.0)
        _check.number("mixture.trust", self.trust, low=0.0)

    def weight(self, known: float) -> float:
        """Weight of the words where this share of a text is known."""
        return min(1.0, self.trust * known)

    def predict(self, texts: Sequence[str]) -> Float:
        """Expected quality of texts, (n, m)."""
        result = np.empty((len(texts), self.line.m))
        kernel = self._kernel or self._bound()
        if kernel is not None:
            for row, text in enumerate(texts):
                result[row] = kernel.decide(text, 0.0)[1]
            return result
        m = self.line.m
        told = [self.words.weigh(text, self.unknown) for text in texts]
        topics = np.array([topic(scores[m:]) for scores, _ in told], dtype=np.float32)
        forms = np.hstack(
            (forms_of(texts), topics.reshape(len(texts), self.forest.d - len(COLUMNS)))
        )
        by_form = self.forest.predict(forms).tolist()
        for row, (scores, known) in enumerate(told):
            result[row] = self._mixed(scores[:m], by_form[row], self.weight(known))
        return result

    def quality(self, text: str) -> list[float]:
        """Expected quality of one text, m numbers: by compiled code if it is there."""
        kernel = self._kernel or self._bound()
        return self.by_arrays(text) if kernel is None else kernel.decide(text, 0.0)[1]

    def by_arrays(self, text: str) -> list[float]:
        """The same by arrays."""
        scores, by_form, weight = self._told(text)
        return self._mixed(scores, by_form, weight)

    def parts(self, text: str) -> tuple[list[float], list[float], float]:
        """What the quality of one text is made of.

        Returns
        -------
        by_words, by_form : list of float (m,)
        weight : float
            Of the words.
        """
        scores, by_form, weight = self._told(text)
        return [logistic(score) for score in scores], by_form, weight

    def _told(self, text: str) -> tuple[list[float], list[float], float]:
        """Log-odds by words and quality by form, m numbers each, and the weight of the words."""
        scores, known = self.words.weigh(text, self.unknown)
        m = self.line.m
        by_form = self.forest.predict_one([*form_of(text), *topic(scores[m:])])
        return scores[:m], by_form, self.weight(known)

    def _mixed(self, scores: list[float], by_form: list[float], weight: float) -> list[float]:
        return self.line.apply_one(
            [
                (1.0 - weight) * other + weight * logistic(score)
                for score, other in zip(scores, by_form, strict=True)
            ]
        )

    def _bound(self) -> MixtureKernel | None:
        """The kernel of all destinations, once this process has the library."""
        if _text.library() is not None:
            object.__setattr__(self, "_kernel", self.kernel())
        return self._kernel

    def form_parts(self, text: str) -> tuple[list[str], Float]:
        """What the form and the topic of one text add to the quality told by them.

        Returns
        -------
        columns : list of str
            The form's, with their values, and the topic.
        parts : array (44 + 1, m)
            They and the mean of all leaves add up to the quality told by form.
        """
        scores, _ = self.words.weigh(text, self.unknown)
        form = form_of(text)
        parts = self.forest.contributions([*form, *topic(scores[self.line.m :])])
        known = len(COLUMNS)
        columns = [f"{name} = {value:.3g}" for name, value in zip(COLUMNS, form, strict=True)]
        return [*columns, "its topic"], np.vstack((parts[:known], parts[known:].sum(axis=0)))

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Have compiled code in this process: see `TextScorer.use_kernel`."""
        return self.words.use_kernel(build=build, seconds=seconds)

    def kernel(
        self, costs: CostModel | None = None, columns: Sequence[int] | None = None
    ) -> MixtureKernel | None:
        """Compiled code that decides among some destinations, if this process has it.

        Parameters
        ----------
        costs : CostModel, optional
            What answers are expected to cost; by default nothing.
        columns : sequence of int, optional
            Which destinations, in which order; by default all m.
        """
        library, m, forest = _text.library(), self.line.m, self.forest
        kept = list(range(m) if columns is None else columns)
        topics = range(m, len(self.words.intercept))
        # the costs of the destinations, and room for as many of the topics, which have none
        lines = np.zeros(3 * (m + len(topics)))
        if costs is not None:
            lines[: 3 * len(kept)] = costs.lines(kept).ravel()
        words = self.words.kernel(lines, list(range(m + len(topics))))
        if library is None or words is None:
            return None
        return MixtureKernel(
            words,
            library,
            plain=encoded,
            kind=KIND,
            most=MOST_WORDS,
            columns=forest.d,
            forest=(forest.roots, forest.nodes(), forest.value),
            line=np.stack((self.line.base, self.line.level)),
            picked=np.array(kept, dtype=np.int64),
            unknown=self.unknown,
            trust=self.trust,
            spread=self.line.spread,
        )

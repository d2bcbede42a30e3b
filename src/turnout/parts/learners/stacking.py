"""Fits a mixture of words and form: what is held out says how far the words are trusted.

Two ways of holding out count alike: a random part of the prompts at a time, as when traffic stays
what it was; and a part of the *kinds* of prompts, clusters of their words, as when it does not.
With W, F and k of each held-out prompt, from fits without it (`turnout.parts.learners.mixture`)::

    trust = max(0, sum k u r / sum k^2 u^2)      u = W' - F',   r = q' - F'

over all seen cells, ' standing for "less the mean over the destinations seen in the row" where
they are two or more: the least squares of differences between destinations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Inputs
from turnout.core._check import Bool, Float, Int
from turnout.parts.learners.calibration import (
    Calibration,
    contrast_loss,
    fit_calibration,
    log_loss,
)
from turnout.parts.learners.clusters import kmeans
from turnout.parts.learners.logistic import fit_logistic
from turnout.parts.learners.mixture import Line, Mixture, fit_line
from turnout.parts.learners.trees import Forest, fit_forest
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.encoder import directions, unit
from turnout.parts.texts.form import forms_of
from turnout.parts.texts.words import Grams, grams_of, texts_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Settings", "fit_mixture"]

#: Cells of the table that are held out in turn, at most, and rows, whatever the destinations.
_CELLS, _LEAST = 200_000, 4000
#: Numbers of a topic, and directions that kinds of prompts are told apart by.
_TOPICS = 32
#: Forests that are only to weigh by have this part of the trees.
_FEWER = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a mixture is fitted with: see `turnout.llms.stacked.Stacked`."""

    trees: int
    share: float
    l2: tuple[float, ...]
    folds: int
    kinds: int
    min_df: int
    max_features: int


@dataclass(frozen=True, eq=False)
class _Table:
    """A table read once: its words, its forms and what was seen."""

    asked: Grams
    forms: NDArray[np.float32]
    quality: Float

    def take(self, rows: Int) -> _Table:
        return _Table(self.asked.take(rows), self.forms[rows], self.quality[rows])


@dataclass(frozen=True, eq=False)
class _Held:
    """What was told of held-out rows: log-odds by words for each penalty, quality by form."""

    scores: Float
    form: Float
    known: Float


def fit_mixture(inputs: Inputs, quality: Float, settings: Settings, *, rng: Generator) -> Mixture:
    """Weigh, calibrate, and fit on everything.

    Parameters
    ----------
    inputs : sequence of str (n,)
    quality : array (n, m)
        In [0, 1]; NaN = never seen.
    settings : Settings
    rng : Generator

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    texts = texts_of(inputs)
    table = _Table(grams_of(texts), forms_of(texts), quality)
    first: dict[str, int] = {}
    prompt = np.array([first.setdefault(text, len(first)) for text in texts], dtype=np.int64)
    rows = _sample(prompt, quality.shape[1], rng)
    l2, line, trust, blend = _weigh(table.take(rows), prompt[rows], settings, rng)
    features = learn_features(
        table.asked, min_df=settings.min_df, max_features=settings.max_features
    )
    x = features.transform(table.asked)
    weights, intercept = fit_logistic(x, quality, l2)
    topics = directions(x, _TOPICS, rng)
    return Mixture(
        words=TextScorer(
            features,
            np.hstack(((weights * line.slope).astype(np.float32), topics)),
            np.append(intercept * line.slope + line.shift, np.zeros(topics.shape[1])),
        ),
        forest=_forest(table, unit(x @ topics), settings, rng),
        unknown=_unknown(len(texts)),
        trust=trust,
        line=blend,
    )


def _unknown(n: int) -> float:
    """What a word that none of n texts has counts for: its idf^2."""
    return float((1.0 + np.log(1.0 + n)) ** 2)


def _sample(prompt: Int, m: int, rng: Generator) -> Int:
    """Rows to weigh by: all of them, or so many prompts that the time stays bounded."""
    most = max(_LEAST, _CELLS // m)
    if len(prompt) <= most:
        return np.arange(len(prompt))
    order = rng.permutation(int(prompt.max()) + 1)
    return np.sort(np.argsort(order[prompt], kind="stable")[:most])


def _weigh(
    table: _Table, prompt: Int, settings: Settings, rng: Generator
) -> tuple[float, Calibration, float, Line]:
    """The penalty, the line of the words, their trust, and the line of the mixture."""
    n, m = table.quality.shape
    _, prompt = np.unique(prompt, return_inverse=True)
    different = int(prompt.max()) + 1
    folds = min(settings.folds, different)
    if folds < 2:
        flat = Calibration(np.ones(m), np.zeros(m))
        nothing = np.empty((n, 0), dtype=np.float32)
        form = _forest(table, nothing, settings, rng).predict(table.forms)
        return settings.l2[0], flat, 0.0, fit_line(form, table.quality)
    by_row = (rng.permutation(different) % folds)[prompt]
    few = replace(settings, trees=max(settings.trees // _FEWER, 1))
    held = _hold_out(table, by_row, settings.l2, few, rng)
    lines = [fit_calibration(level, table.quality) for level in held.scores]
    # In a log of single choices there are hardly any differences to judge by.
    paired = 2 * ((~np.isnan(table.quality)).sum(axis=1) >= 2).sum() >= n
    losses = [
        contrast_loss(line.apply(level), table.quality)
        if paired
        else log_loss(level * line.slope + line.shift, table.quality)
        for level, line in zip(held.scores, lines, strict=True)
    ]
    best = int(np.argmin(losses))
    line = lines[best]
    held = _Held(held.scores[[best]], held.form, held.known)
    ways = [held]
    by_kind = _kinds(table, settings, folds, rng)
    if by_kind is not None:
        ways.append(_hold_out(table, by_kind, (settings.l2[best],), few, rng))
    above = below = 0.0
    for way in ways:
        u, r = _differences(line.apply(way.scores[0]), way.form, table.quality)
        above += float((way.known[:, None] * u * r).sum())
        below += float(((way.known[:, None] * u) ** 2).sum())
    trust = max(0.0, above / below) if below > 0 else 0.0
    weight = np.minimum(1.0, trust * held.known)[:, None]
    mixed = weight * line.apply(held.scores[0]) + (1.0 - weight) * held.form
    return settings.l2[best], line, trust, fit_line(mixed, table.quality)


def _hold_out(
    table: _Table, part: Int, l2: tuple[float, ...], settings: Settings, rng: Generator
) -> _Held:
    """What fits without a part tell of it, for each part."""
    n, m = table.quality.shape
    scores, form, known = np.zeros((len(l2), n, m)), np.zeros((n, m)), np.zeros(n)
    for held in range(int(part.max()) + 1):
        inside, outside = np.flatnonzero(part == held), np.flatnonzero(part != held)
        train, test = table.take(outside), table.take(inside)
        features = learn_features(
            train.asked, min_df=settings.min_df, max_features=settings.max_features
        )
        known[inside] = features.known(test.asked, _unknown(len(outside)))
        x, at = features.transform(train.asked), features.transform(test.asked)
        for level, values in enumerate(_by_words(x, train.quality, at, l2)):
            scores[level, inside] = values
        topics = directions(x, _TOPICS, rng)
        forest = _forest(train, unit(x @ topics), settings, rng)
        form[inside] = forest.predict(np.hstack((test.forms, unit(at @ topics))))
    return _Held(scores, form, known)


def _by_words(x: csr_matrix, quality: Float, at: csr_matrix, l2: tuple[float, ...]) -> list[Float]:
    """Log-odds of some rows by the words of others, for each penalty."""
    start: tuple[Any, Any] | None = None
    result = []
    for strength in l2:
        start = fit_logistic(x, quality, strength, start=start, tolerance=0.02)
        result.append(np.asarray(at @ start[0] + start[1]))
    return result


def _forest(
    table: _Table, topics: NDArray[np.float32], settings: Settings, rng: Generator
) -> Forest:
    x = np.hstack((table.forms, topics))
    return fit_forest(x, table.quality, trees=settings.trees, share=settings.share, rng=rng)


def _kinds(table: _Table, settings: Settings, folds: int, rng: Generator) -> Int | None:
    """A part for each row, whole clusters of words together; None where all are alike.

    The largest cluster first, each to the part that has least so far.
    """
    features = learn_features(table.asked, max_features=settings.max_features)
    x = features.transform(table.asked)
    label = kmeans(unit(x @ directions(x, _TOPICS, rng)), settings.kinds, rng=rng).label
    sizes = np.bincount(label)
    if len(sizes) < 2:
        return None
    load, part_of = np.zeros(min(folds, len(sizes)), dtype=np.int64), np.zeros(len(sizes), int)
    for one in np.argsort(-sizes, kind="stable"):
        lightest = int(load.argmin())
        part_of[one] = lightest
        load[lightest] += sizes[one]
    return np.asarray(part_of[label])


def _differences(words: Float, form: Float, quality: Float) -> tuple[Float, Float]:
    """The u and r of the module, 0 in cells never seen, (n, m) each."""
    seen: Bool = ~np.isnan(quality)
    count = seen.sum(axis=1, keepdims=True)

    def less_mean(values: Float) -> Float:
        values = np.where(seen, values, 0.0)
        mean = values.sum(axis=1, keepdims=True) / np.maximum(count, 1)
        return np.where(seen, values - np.where(count >= 2, mean, 0.0), 0.0)

    return less_mean(words - form), less_mean(quality - form)

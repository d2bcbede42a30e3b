"""Keeps a cheap answer where it is verified to be right, and escalates the rest.

Routes: a prompt to a language model. Each destination has a verifier, which predicts whether its
answer will be right and says how far that prediction is to be trusted: by how many of the nearest
training prompts agree (similarity), how far they are (distance), and the output itself (magnitude).
Only what lies in a region where the predictions of both classes were right at a rate alpha on
held-out rows is *admitted*.

Equations: see `turnout.parts.learners.sdm`. With, for destination j, y in {wrong, right} the
prediction, o its probability, `lower` the same less all its bounds, and qt the rescaled
similarity::

    P_j = P(right) by lower    where y is admitted
        = P(right) by o        where it is not, and qt >= 1
        = mean_j               where nothing like it was seen: qt < 1
    Q_j = P_j good_j + (1 - P_j) bad_j                                quality (n, m)

mean_j is the share of right answers, good_j and bad_j the mean quality of those right and wrong
(right is a quality above 1/2). The decision, quality - price * cost, is shared
(`turnout.parts.priced`) and gives the whole curve; costs are in the table's currency.

The paper's own rule, a knob alpha in place of a price, is `FittedSdm.escalate`: the first
destination in order of price whose answer is admitted as right, else the last. `FittedSdm.gate`
goes the three ways of `turnout.parts.gate`: it accepts what is admitted, rejects what is like
nothing seen, and leaves the rest to whoever can ask somebody stronger.

Differs from the paper: see `CARD.differs`. Cost: fit O(m runs epochs n d k + m runs epochs n^2 k);
a prompt O(m (d k + n k)).

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> rng = np.random.default_rng(0)
>>> inputs = np.repeat(np.eye(2, 4), 300, axis=0) + 0.1 * rng.standard_normal((600, 4))
>>> good = np.column_stack([np.repeat([1.0, 0.0], 300), np.ones(600)])
>>> cost = np.tile([1.0, 9.0], (600, 1))
>>> table = Outcomes(inputs=inputs, names=("small", "large"), quality=good, cost=cost)
>>> fitted = Sdm(runs=2, epochs=5, k=8).fit(table, table.pool(), rng=rng)
>>> fitted.escalate(np.eye(3, 4)).tolist()
[0, 1, 1]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.gate import Gate
from turnout.parts.learners.sdm import Estimate, Estimator, Settings, fit_estimator
from turnout.parts.stopping import by_price
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "FittedSdm", "Sdm", "Verifier"]

CARD = Card(
    name="llms.sdm",
    system="SDM estimator",
    title="Similarity-Distance-Magnitude Universal Verification",
    authors="Schmaltz",
    year=2025,
    id="arXiv:2502.20167",
    routes="a prompt to a language model",
    kind="threshold",
    recipe="Sdm",
    signal=("outcomes",),
    covers=(
        "SDM activation and its training loss; similarity, distance, magnitude",
        "rescaling, DKW bounds, the high-probability region and robust offsets over J fits",
    ),
    differs=(
        "The network is an encoder of the house, or vectors as they are; the exemplar adaptor is "
        "linear, as the paper's convolution is on vectors, and 100 long instead of 1000.",
        "One verifier a destination, of whether its answer is right; the paper verifies one "
        "model's classes.",
        "What is not admitted is still told, by the estimate without bounds or by the mean, so "
        "that there is a curve; the paper rejects it.",
        "Exact neighbours; one as far as the first that disagrees does not count.",
        "Step size 1e-3 and 20 epochs instead of 1e-5 and 200; the rescaler starts at the identity "
        "and takes full batches by Adam until the loss rises.",
        "Of the epochs and the fits, the one with the greatest mean over the classes of the median "
        "similarity is kept.",
        "Verification inside a language model's decoding is left out.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(
        ("price", "quality per unit of cost"),
        ("alpha", "rate at which what is admitted is right, in (0.5, 1)"),
    ),
    aliases=("similarity-distance-magnitude", "reexpress", "verification", "abstain", "escalate"),
    cost="fit: O(m runs epochs n k (n + d)); route: O(m k (n + d)) an item; memory 8 m n k bytes",
)


@dataclass(frozen=True)
class Sdm:
    """Recipe of verified routing.

    Parameters
    ----------
    alpha : float
        Rate at which admitted predictions are to be right, in (0.5, 1): the method's own knob.
    k : int
        Length of an exemplar, >= 1. The paper has 1000.
    runs : int
        Fits over other halves of the rows, >= 1.
    epochs, batch, rate
        Passes, rows a step and step size of each fit.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Arrays (n, d) are taken as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range, or there is no such encoder.
    """

    alpha: float = 0.95
    k: int = 100
    runs: int = 10
    epochs: int = 20
    batch: int = 50
    rate: float = 1e-3
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        self._settings()
        check_name(self.encoder)
        _check.integer("sdm.d", self.d, low=1)

    def _settings(self) -> Settings:
        return Settings(
            alpha=self.alpha,
            k=self.k,
            runs=self.runs,
            epochs=self.epochs,
            batch=self.batch,
            rate=self.rate,
        )

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedSdm:
        """Fit one verifier a destination, on the rows in which it was seen."""
        inputs = outcomes.inputs
        encoder = None
        if not isinstance(inputs, np.ndarray):
            encoder = fit_encoder(self.encoder, inputs, d=self.d, rng=rng)
        vectors = _vectors(encoder, inputs)
        seed = int(rng.integers(2**63))  # halves and weights alike for all, whatever their order
        verifiers = tuple(
            _verifier(vectors, quality, self._settings(), np.random.default_rng(seed))
            for quality in outcomes.quality.T
        )
        return FittedSdm(
            names=outcomes.names,
            encoder=encoder,
            d=vectors.shape[1],
            verifiers=verifiers,
            order=by_price(outcomes),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False)
class Verifier:
    """What is known of one destination.

    Parameters
    ----------
    estimator : Estimator or None
        Classes wrong and right; None where fewer than two rows of one were seen.
    mean : float
        Share of right answers.
    bad, good : float
        Mean quality of wrong and of right answers.
    """

    estimator: Estimator | None
    mean: float
    bad: float
    good: float

    def quality(self, vectors: Float) -> Float:
        """Expected quality (n,)."""
        chance = np.full(len(vectors), self.mean)
        if self.estimator is not None and len(vectors):
            found = self.estimator.estimate(vectors)
            told = np.where(found.admitted, found.lower, found.centre)
            right = np.where(found.predicted == 1, told, 1.0 - told)
            chance = np.where(found.admitted | (found.qt >= 1.0), right, chance)
        return np.asarray(self.bad + chance * (self.good - self.bad))


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedSdm:
    """A verifier a destination.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    encoder : Encoder or None
        None where inputs are vectors.
    d : int
        Length of a vector.
    verifiers : tuple of Verifier
    order : array of int (m,)
        Destinations by mean cost.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder | None
    d: int
    verifiers: tuple[Verifier, ...]
    order: Int
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Raises
        ------
        InputError
            The inputs are not what was fitted on, texts or arrays (n, d).
        """
        vectors = self._read(inputs)
        quality = np.column_stack([one.quality(vectors) for one in self.verifiers])
        return np.clip(quality, 0.0, 1.0), self.costs.predict(inputs)

    def estimates(self, inputs: Inputs) -> tuple[Estimate | None, ...]:
        """What each destination's verifier says; None where it has none."""
        vectors = self._read(inputs)
        return tuple(
            None if one.estimator is None else one.estimator.estimate(vectors)
            for one in self.verifiers
        )

    def gate(self, inputs: Inputs) -> Int:
        """1 where an answer is admitted as right, -1 where it is like nothing seen, else 0: (n, m).

        What is admitted as wrong is 0 too: somebody else should be asked.
        """
        decided = np.full((len(inputs), len(self.names)), -1, dtype=np.int64)
        for j, found in enumerate(self.estimates(inputs)):
            if found is not None:
                # as a score: 2 what is admitted, 1 what is like something seen
                score = np.where(_admitted(found), 2.0, np.where(found.qt >= 1.0, 1.0, 0.0))
                decided[:, j] = Gate(accept=2.0, reject=1.0).decide(score)
        return decided

    def escalate(self, inputs: Inputs) -> Int:
        """The paper's rule, (n,): the cheapest that is admitted as right, else the dearest."""
        admitted = self.gate(inputs)[:, self.order] == 1
        first = np.where(admitted.any(axis=1), admitted.argmax(axis=1), len(self.names) - 1)
        return np.asarray(self.order[first])

    def _read(self, inputs: Inputs) -> Float:
        vectors = _vectors(self.encoder, inputs)
        _check.expect_shape("inputs", vectors, (None, self.d))
        return vectors


def _admitted(found: Estimate) -> Bool:
    return np.asarray(found.admitted & (found.predicted == 1))


def _vectors(encoder: Encoder | None, inputs: Inputs) -> Float:
    if encoder is None:
        if not isinstance(inputs, np.ndarray) and len(inputs):
            return _check.floats("inputs", inputs, (None, None))
        return np.asarray(inputs, dtype=np.float64) if len(inputs) else np.empty((0, 1))
    return encoder.encode(inputs).astype(np.float64)


def _verifier(vectors: Float, quality: Float, settings: Settings, rng: Generator) -> Verifier:
    seen = ~np.isnan(quality)
    right = quality[seen] > 0.5
    mean = float(right.mean())
    bad = float(quality[seen][~right].mean()) if not right.all() else 0.0
    good = float(quality[seen][right].mean()) if right.any() else 1.0
    if min(right.sum(), (~right).sum()) < 2:
        return Verifier(None, mean, bad, good)
    labels = right.astype(np.int64)
    return Verifier(fit_estimator(vectors[seen], labels, 2, settings, rng=rng), mean, bad, good)

"""A new model joins a fitted router: from its price and description, and from labels as they come.

Nothing that exists is fitted again. The new model is told from the known ones: how hard a prompt is
for them says how hard it is for it. With s_j(x) the log-odds of the quality predicted of known
model j, and c_j their mean::

    z(x) = a + sum_j b_j (s_j(x) - c_j)                       level a, loadings b (m,)
    Q(x) = E sigmoid(z(x)) ~ sigmoid(E z / sqrt(1 + pi/8 var z))     quality, the posterior mean

The form is stacked generalisation (Wolpert, "Stacked Generalization", 1992, Neural Networks 5:
a second model is fitted on the guesses of the first ones about what these had not learned from).
The moderation of the sigmoid is that of MacKay ("The evidence framework applied to classification
networks", 1992, Neural Computation 4). a and b are Gaussian beforehand, and labels move them::

    a_k, b_k     each known model k told from the m - 1 others, on its own answers
    a ~ process over models: spread_t^2 t.t' + spread_d^2 d(k, k') + spread^2 [k = k']
    b ~ slope w + N(0, each^2 (I - 11'/m) + common^2 w w'),  w_j = exp(pull d_j) / sum exp(pull d)
    theta = argmin  sum_i (log(1 + e^z_i) - y_i z_i) / phi_i + |theta - prior|^2 / 2

t are traits (the logarithm of the mean price of an answer, and the features of the pools), d the
likeness of descriptions (TF-IDF cosine, with the names). All spreads, `slope` and `pull` are
weighed by how well they explain the a_k and b_k of the known models (parametric empirical Bayes:
Morris, "Parametric Empirical Bayes Inference: Theory and Applications", 1983, JASA 78). phi is
the dispersion of the known models' answers. Where these were asked the labelled prompt too, their
mean residual there serves as a control variate (Lavenberg and Welch, "A Perspective on the Use of
Control Variables to Increase the Efficiency of Monte Carlo Simulations", 1981, Management Science
27): y_i is the label less its expected share in that residual, and phi_i is smaller by it. With no
label the prior is the answer; with ever more of them it is the stacked fit.

What it is not: EmbedLLM (Zhuang et al. 2024, arXiv:2410.02223) factorises the table and needs a
model's answers for its vector; IRT-Router (Song et al. 2025, arXiv:2506.01048) reads abilities off
a language model's embedding of the description; UniRoute (Jitkrittum et al. 2025,
arXiv:2502.08773) describes a model by its errors on clusters of prompts. Here known models number
ten rather than a hundred, so that the prior is a few variances and not a network.

Cost: to join O(m (n m^2 + g m^3)) for a grid of g = 60; to decide O(m^2) above the base predictor.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes, Pool
>>> from turnout.llms.linear import Linear
>>> rng = np.random.default_rng(0)
>>> hard = rng.random(200) < 0.5
>>> table = Outcomes(
...     inputs=["a poem" if h else "a sum" for h in hard],
...     names=("small", "large"),
...     quality=rng.random((200, 2)) < np.where(hard[:, None], [0.1, 0.5], [0.6, 0.9]),
...     cost=np.array([[1.0, 9.0]] * 200),
... )
>>> base = Linear().fit(table, table.pool(), rng=rng)
>>> joined = join(base, table, Pool(names=("new",), usd_per_item=np.array([4.0])))
>>> quality, cost = joined.predict_one("a sum")
>>> bool(joined.predict_one("a poem")[0][2] < quality[2]), cost[2]
(True, 4.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log, pi, sqrt
from operator import mul
from typing import Any

import numpy as np

from turnout.core import InputError, Inputs, Outcomes, Pool, Predictor, _check
from turnout.core._check import Float
from turnout.parts._newcomer_prior import Belief, alike, believe, measure_noise, update
from turnout.parts._newcomer_traits import answer_length, price, texts, traits
from turnout.parts.costs import CostModel
from turnout.parts.decide import Explains, HasKernel, Quick
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.priced import Priced

__all__ = ["Joined", "join"]

#: Predictions count as at least this far from 0 and from 1.
_EDGE = 0.01
#: Rows from which the known models are told from one another, at most.
_MOST = 20_000
_DRAWS = 500


@dataclass(frozen=True, eq=False)
class Joined:
    """A predictor with one more destination than the one it stands on.

    Parameters
    ----------
    base : Predictor
        Of the m known destinations; unchanged.
    name : str
        The new destination, the last of all.
    centre : array (m,)
        Mean log-odds of the known destinations.
    mean : array (1 + m,)
        Level and loadings.
    root : array (1 + m, 1 + m)
        Lower triangle; times its transpose it is the covariance of level and loadings.
    costs : CostModel
        Of the new destination alone.
    labels : int
        Labels they were learned from, >= 0.

    Raises
    ------
    InputError
        Shapes disagree, or the base knows the name.
    """

    base: Predictor
    name: str
    centre: Float
    mean: Float
    root: Float
    costs: CostModel
    labels: int
    _rows: tuple[tuple[float, ...], ...] = field(init=False, repr=False)
    _mean: tuple[float, ...] = field(init=False, repr=False)
    _centre: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        m = len(self.base.names)
        _check.names("joined.names", self.names)
        _check.expect_shape("joined.costs.base", self.costs.base, (1,))
        _check.integer("joined.labels", self.labels, low=0)
        set_ = object.__setattr__
        set_(self, "centre", _check.floats("joined.centre", self.centre, (m,)))
        set_(self, "mean", _check.floats("joined.mean", self.mean, (m + 1,)))
        set_(self, "root", _check.floats("joined.root", self.root, (m + 1, m + 1)))
        # row r of the transpose begins at column r
        rows = tuple(tuple(self.root[r:, r].tolist()) for r in range(m + 1))
        set_(self, "_rows", rows)
        set_(self, "_mean", tuple(self.mean.tolist()))
        set_(self, "_centre", tuple(self.centre.tolist()))

    @property
    def names(self) -> tuple[str, ...]:
        """The m + 1 destinations."""
        return (*self.base.names, self.name)

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m + 1) and cost (n, m + 1)."""
        quality, cost = self.base.predict(inputs)
        new = self.expected(quality)[:, None]
        return np.hstack((quality, new)), np.hstack((cost, self.costs.predict(inputs)))

    def predict_one(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m + 1 numbers each, equal to `predict`."""
        if not isinstance(self.base, Quick):
            many_quality, many_cost = self.predict((text,))
            return many_quality[0].tolist(), many_cost[0].tolist()
        quality, cost = self.base.predict_one(text)
        return [*quality, self._expect(quality)], [*cost, *self.costs.predict_one(len(text))]

    def expected(self, quality: Float) -> Float:
        """Expected quality (n,) of the new destination, from that of the known ones (n, m)."""
        return np.array([self._expect(row) for row in quality.tolist()], dtype=np.float64)

    def outlook(self, quality: Float, *, rng: np.random.Generator) -> tuple[float, float, float]:
        """Mean quality of the new destination over some prompts, and its 95 % credible interval.

        Parameters
        ----------
        quality : array (n, m)
            Predicted of the known destinations on each prompt.
        rng : Generator
        """
        x = _design(quality, self.centre)
        theta = self.mean + rng.standard_normal((_DRAWS, len(self.mean))) @ self.root.T
        draws = np.array([float(sigmoid(x @ one).mean()) for one in theta])
        low, high = np.quantile(draws, [0.025, 0.975])
        return float(self.expected(quality).mean()), float(low), float(high)

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """What the base says of the known destinations, and what they say of the new one.

        Parameters
        ----------
        text : str
        names : sequence of str
            One or two destinations to compare; by default the two predicted to be best.
        """
        quality = dict(zip(self.names, self.predict_one(text)[0], strict=True))
        asked = tuple(names) or tuple(sorted(quality, key=lambda name: -quality[name])[:2])
        known = tuple(name for name in asked if name != self.name)
        said: tuple[str, ...] = ()
        if known and isinstance(self.base, Explains):
            said = self.base.because(text, known)
        if self.name not in asked:
            return said
        usual = self.expected(np.asarray(sigmoid(self.centre))[None])[0]
        told = f"{self.labels:,} of its answers" if self.labels else "its price and description"
        return (
            *said,
            f"{self.name} is told from the others and {told}: {quality[self.name]:.2f} here, "
            f"{usual:.2f} on a usual prompt.",
        )

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Have the base predict by compiled code from now on, where it can."""
        if isinstance(self.base, HasKernel):
            return self.base.use_kernel(build=build, seconds=seconds)
        return "this kind of predictor has none"

    def kernel(self, columns: Sequence[int] | None = None) -> None:
        """No compiled code decides with the new destination; the base's still makes its figures."""
        return

    def _expect(self, quality: list[float]) -> float:
        x = [1.0]
        for q, centre in zip(quality, self._centre, strict=True):
            q = min(max(q, _EDGE), 1.0 - _EDGE)
            x.append(log(q / (1.0 - q)) - centre)
        z = sum(map(mul, self._mean, x))
        spread = 0.0
        for start, row in enumerate(self._rows):
            spread += sum(map(mul, row, x[start:])) ** 2
        z /= sqrt(1.0 + pi / 8.0 * spread)
        return 1.0 / (1.0 + exp(-z)) if z > -700.0 else 0.0


def join(
    base: Predictor,
    outcomes: Outcomes,
    newcomer: Pool,
    *,
    pool: Pool | None = None,
    predicted: Float | None = None,
    answer_tokens: float | None = None,
) -> Joined:
    """Add one destination to a fitted predictor, without fitting that again.

    Parameters
    ----------
    base : Predictor
        Fitted on m known destinations.
    outcomes : Outcomes
        What the known destinations earned, from which is learned how models differ; rows that no
        known one answered may be among them. A column of the newcomer's name holds its labels,
        NaN where it has none; without one there are no labels. Other columns are left aside.
    newcomer : Pool
        The new destination alone: its name, its prices, its description and features if known.
    pool : Pool, optional
        Descriptions, features and prices per token of the known destinations.
    predicted : array (n, m), optional
        Quality of the known destinations in each row by what has not learned from that row; by
        default what `base` says, which is only right for rows it has not learned from.
    answer_tokens : float, optional
        Tokens of an answer, where the newcomer is paid by them. By default as the known
        destinations' costs tell, if `pool` holds their prices, else 200.

    Raises
    ------
    InputError
        The base is no predictor, the newcomer is known already or is not one destination, it has
        neither a price nor labels with costs, a known destination is not in the table, features
        differ in length, or predictions have another shape or lie outside [0, 1].
    """
    if isinstance(base, Priced):
        base = base.predictor
    name = _checked(base, outcomes, newcomer)
    m = len(base.names)
    known = outcomes.select(base.names)
    if predicted is None:
        predicted = np.clip(base.predict(outcomes.inputs)[0], 0.0, 1.0)
    predicted = _check.floats("predicted", predicted, (outcomes.n, m), low=0.0, high=1.0)
    label = np.full(outcomes.n, np.nan)
    if name in outcomes.names:
        label = outcomes.quality[:, outcomes.names.index(name)]
    labelled = np.flatnonzero(~np.isnan(label))
    pool = pool.select(base.names) if pool is not None else None
    costs = price(outcomes, newcomer, answer_length(known, pool, answer_tokens))

    rows = np.flatnonzero(known.seen.any(axis=1))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(np.int64)]
    centre = _logit(predicted[rows]).mean(axis=0)
    x = _design(predicted, centre)
    noise = measure_noise(known.quality[rows], predicted[rows])
    belief = believe(
        x[rows, 1:],
        known.quality[rows],
        noise,
        traits(known, newcomer, pool, costs),
        alike(texts(base.names, pool) + texts(newcomer.names, newcomer)),
    )
    residual = known.quality - predicted
    count = (~np.isnan(residual)).sum(axis=1)
    control = noise.control(count) * np.nansum(residual, axis=1) / np.maximum(count, 1)
    # what the known log-odds could tell of the control belongs to them, also where few were asked
    asked = count > 0
    control[asked] -= x[asked] @ np.linalg.lstsq(x[asked], control[asked], rcond=None)[0]
    belief = update(
        belief,
        x[labelled],
        label[labelled] - control[labelled],
        1.0 / noise.left(count[labelled]),
    )
    return Joined(
        base=base,
        name=name,
        centre=centre,
        mean=belief.mean,
        root=_root(belief),
        costs=costs,
        labels=len(labelled),
    )


def _checked(base: Any, outcomes: Outcomes, newcomer: Pool) -> str:
    """The newcomer's name, once what can be asked for is."""
    if not isinstance(base, Predictor):
        hint = "A router that tells no quality cannot tell a new one's."
        raise InputError("base", "predict quality and cost", type(base).__name__, hint)
    if newcomer.m != 1:
        hint = "Join them one after another."
        raise InputError("newcomer", "be one destination", newcomer.names, hint)
    (name,) = newcomer.names
    if name in base.names:
        hint = "Give it another name, or fit again to change what is known of it."
        raise InputError("newcomer", "be none of the known destinations", name, hint)
    missing = [known for known in base.names if known not in outcomes.names]
    if missing:
        hint = f"The table holds {', '.join(outcomes.names)}; add the column."
        raise InputError("outcomes", "hold every known destination", missing[0], hint)
    prices = (newcomer.usd_per_item, newcomer.usd_per_input_token, newcomer.usd_per_output_token)
    if all(price is None for price in prices):
        paid = np.empty(0)
        if name in outcomes.names:
            paid = outcomes.cost[:, outcomes.names.index(name)]
        if np.isnan(paid).all():
            hint = "Give a price an item or a token; 0 where it is free."
            raise InputError("newcomer", "have a price, or labels with costs", name, hint)
    return name


def _logit(quality: Float) -> Float:
    clipped = np.clip(quality, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(clipped / (1.0 - clipped)))


def _design(quality: Float, centre: Float) -> Float:
    """1 and the centred log-odds of each known destination, (n, 1 + m)."""
    return np.column_stack((np.ones(len(quality)), _logit(quality) - centre))


def _root(belief: Belief) -> Float:
    """A lower triangle whose square is the covariance; a trace is added where it is singular."""
    trace = 1e-12 * float(np.diag(belief.covariance).max())
    return np.asarray(np.linalg.cholesky(belief.covariance + trace * np.eye(len(belief.mean))))

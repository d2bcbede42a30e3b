r"""Cascades under a cap on each answer's cost, with a judge that errs by a known rate.

Routes: requests to language models, one after another.

Idea. RouterBench (2024, arXiv:2403.12031) asks how good the judge of a cascade has to be. Models
stand in order of unit price. Model 1 answers; a judge accepts the answer if its quality Q reaches
a bar t; with probability eps the verdict is inverted; on a rejection the next model is asked. Cost
adds up, and the last answer counts. Before a model whose cost is at least what is left of the cap
B on one request it stops, unless nothing was spent yet:

    stop before step s   if   spent[i] > 0  and  cost[i, s] >= B - spent[i]
    accept step s        if   (Q[i, s] >= t)  xor  (flip, with probability eps)

`replay` plays this on a table, where the judge can read the true Q. That is the paper's own
experiment: a simulation, not a router. The recipe makes a router of it: Q is not known to a
server, so the verdict is that of a judge fitted to `Q >= t` (`parts.learners.judge`: accept where
its probability is at least one half), and eps is noise on top.

The cap is the knob. A budget is turned into a cap on a sample of the training inputs: the one of
best `quality - price * spend` at a price, the largest within a mean cost, the cheapest that
reaches a mean quality. A larger cap never stops a request earlier, so spend falls with price.

The rest of the paper is elsewhere in this package. Its predictive routers choose
`argmax_m lambda * Qhat[i, m] - price[m]` with lambda the willingness to pay in quality per unit of
price: the house's rule with `Budget(price=1 / lambda)`; they are `llms.knn` and `llms.wide_mlp`.
Its geometry (non-decreasing convex hull, AIQ, zero router, oracle) is `core.Frontier` and
`turnout.bench`.

Shapes: n items, m destinations, q = 16 cases of what an answer will look like. Costs in the
table's currency, per answer.

Differs from the paper and its code. (1) The cap is compared with expected costs when routing (no
server knows a cost beforehand) and with true ones in `replay`. (2) A cell that was never seen
is passed over; the code counts it as a wrong answer. (3) The bar is one quantile over the
whole table; the code takes one per evaluation. (4) Prices are mean costs per answer; the code's
are per token, which leaves lambda without a unit. (5) AIQ divides by the range of costs, as the
paper defines it; the code divides by the largest cost. (6) Ties of the order go to the weaker
model and those of the oracle to the cheaper; the code's go by column. (7) Where reading answers
tells the fitted judge nothing it accepts whoever is right more often than not, so that the cascade
ends at its first model whatever the cap.

Cost: fit O(m n^2 min(n, b)) for b <= 4096 words and word pairs; a step O(n m q).

>>> import numpy as np
>>> quality = np.array([[1.0, 1.0], [0.0, 1.0]])
>>> cost = np.array([[1.0, 5.0], [1.0, 5.0]])
>>> rng = np.random.default_rng(0)
>>> played = replay(quality, cost, order=[0, 1], bar=1.0, error=0.0, max_cost=10.0, rng=rng)
>>> float(played.cost.mean())
3.5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Assignment, Budget, Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.gate import Gate
from turnout.parts.learners.judge import Judge, fit_judge
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.stopping import Stopping, by_price, line_up, walk
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "FittedNoisyCascade", "NoisyCascade", "Replay", "replay"]

CARD = Card(
    name="llms.routerbench",
    system="RouterBench",
    title="RouterBench: A Benchmark for Multi-LLM Routing System",
    authors=(
        "Qitian Jason Hu, Jacob Bieker, Xiuyu Li, Nan Jiang, Benjamin Keigwin, "
        "Gaurav Ranganath, Kurt Keutzer, Shriyash Kaustubh Upadhyay"
    ),
    year=2024,
    id="arXiv:2403.12031",
    routes="requests to language models, one after another",
    kind="threshold",
    recipe="NoisyCascade",
    signal=("outcomes", "answers"),
    covers=(
        "the cascading router with error-prone judge and cap on cost",
        "elsewhere: predictive routers in llms.knn and llms.wide_mlp, hull and AIQ in "
        "core.Frontier, zero router and oracle in bench",
    ),
    differs=(
        "the judge of the router is fitted; the paper's reads the true quality, as replay does",
        "expected costs meet the cap when routing; true ones in replay",
        "a cell never seen is passed over; the code counts it as wrong",
        "one bar for the whole table; the code has one per evaluation",
        "AIQ divides by the range of costs, as in the paper; the code by the largest cost",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "sequential", "quick"),
    knobs=(
        ("price", "quality per unit of cost, turned into a cap"),
        ("cap", "cost of one request"),
    ),
    aliases=("noisy cascade", "cascading router"),
    cost="fit O(m n^2 min(n, b)), b <= 4096 words; a step O(n m q), q = 16",
)

_SAMPLE, _CAPS = 256, 64
#: The verdict of a judge: as likely as not is good enough.
_VERDICT = Gate(accept=0.5)


@dataclass(frozen=True)
class NoisyCascade:
    """Recipe of a capped cascade with an error-prone judge.

    Parameters
    ----------
    error : float
        Probability that a verdict is inverted, in [0, 1]. 0 = as good as the judge is.
    quantile : float
        The bar is this quantile of all qualities in the table, in [0, 1].
    penalty : float
        Ridge penalty of the judge, > 0.
    """

    error: float = 0.0
    quantile: float = 0.95
    penalty: float = 1.0

    def __post_init__(self) -> None:
        _check.number("error", self.error, low=0.0, high=1.0)
        _check.number("quantile", self.quantile, low=0.0, high=1.0)
        _check.number("penalty", self.penalty, low=1e-9)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedNoisyCascade:
        """Fit the bar, the judge and the costs; `rng` draws the sample that prices budgets.

        Raises
        ------
        InputError
            The table's inputs are not texts.
        """
        seen, quality = outcomes.seen, outcomes.quality
        bar = float(np.quantile(quality[seen], self.quantile))
        passes = np.where(seen, (quality >= bar).astype(np.float64), np.nan)
        judge = fit_judge(outcomes.inputs, outcomes.answers, passes, penalty=self.penalty)
        costs = fit_costs(outcomes)
        rows = np.sort(rng.permutation(outcomes.n)[:_SAMPLE])
        sample = [outcomes.inputs[int(i)] for i in rows]
        return FittedNoisyCascade(
            names=outcomes.names,
            order=by_price(outcomes),
            bar=bar,
            error=self.error,
            judge=judge,
            costs=costs,
            sample_prior=judge.prior(sample),
            sample_cost=costs.predict(sample),
        )


@dataclass(frozen=True, eq=False)
class FittedNoisyCascade:
    """A sequential router: see the module for the rule.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    order : array of int (m,)
        Columns in the order they are asked: by mean cost.
    bar : float
        Quality that an answer must reach.
    error : float
        Probability that a verdict is inverted.
    judge : Judge
        Of reaching the bar.
    costs : CostModel
    sample_prior, sample_cost : array (r, m)
        Prior logits and expected costs of a sample of training inputs, to turn a budget into a
        cap.
    """

    names: tuple[str, ...]
    order: Int
    bar: float
    error: float
    judge: Judge
    costs: CostModel
    sample_prior: Float
    sample_cost: Float

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """The plan: whom to ask in which order, and the chance that each step is the last."""
        line = line_up(self.names, self.order, pool)
        if len(texts_of(inputs)) == 0:
            return Assignment(np.empty((0, 1), dtype=np.int64), np.empty((0, 1)), pool.m)
        cost = self.costs.predict(inputs)[:, line.column]
        prior = self.judge.prior(inputs)[:, line.column]
        index, weight = walk(self._chain(prior, cost, line.column, self.cap(pool, budget)))
        return Assignment(np.where(index >= 0, line.place[index], -1), weight, pool.m)

    def proceed(
        self,
        inputs: Inputs,
        asked: Int,
        answers: Sequence[Sequence[str]],
        pool: Pool,
        *,
        budget: Budget,
        rng: Generator,
    ) -> Int:
        """Next destination of each input, (n,); -1 = accept the last answer.

        `asked` (n, s) counts in the order of `pool.names`; a row that ends in -1 has accepted.
        `rng` inverts verdicts.
        """
        line = line_up(self.names, self.order, pool)
        texts, asked = texts_of(inputs), np.asarray(asked, dtype=np.int64)
        n, u = len(texts), len(line.column)
        step = line.passed(asked, answers, n)
        if n == 0 or asked.shape[1] == 0:
            return np.full(n, line.place[0])
        last, following = asked[:, -1], np.minimum(step, u - 1)
        judged = self.judge.score(texts, [row[-1] for row in answers], line.known[last])
        rejected = (_VERDICT.decide(judged) != 1) ^ (rng.random(n) < self.error)
        cost, rows = self.costs.predict(texts), np.arange(n)
        spent = np.where(asked >= 0, cost[rows[:, None], line.known[asked]], 0.0).sum(axis=1)
        left = self.cap(pool, budget) - spent
        affordable = (spent == 0) | (cost[rows, line.column[following]] < left)
        going = rejected & affordable & (step < u) & (last >= 0)
        return np.where(going, line.place[following], -1)

    def cap(self, pool: Pool, budget: Budget) -> float:
        """The cap on the cost of one request that a budget stands for.

        Raises
        ------
        InputError
            The budget cannot be met by the figures foreseen.
        """
        line = line_up(self.names, self.order, pool).column
        cost, prior = self.sample_cost[:, line], self.sample_prior[:, line]
        levels = np.linspace(0.0, 1.0, _CAPS)
        caps = np.unique(np.quantile(cost.cumsum(axis=1), levels))
        caps = np.concatenate(([0.0], caps * (1 + 1e-9), [2.0 * caps[-1] + 1.0]))
        chains = [self._chain(prior, cost, line, cap) for cap in caps]
        spend = np.array([chain.cost[:, 0].mean() for chain in chains])
        quality = np.array([chain.quality[:, 0].mean() for chain in chains])
        if budget.mean_cost is not None:
            within = spend <= budget.mean_cost * (1 + 1e-12)
            if not within.any():
                rule = f"be at least {spend[0]:.6g}, the mean cost of the first model"
                hint = "Raise the budget or add a cheaper destination."
                raise InputError("budget.mean_cost", rule, budget.mean_cost, hint)
            return float(caps[np.flatnonzero(within)[-1]])
        if budget.mean_quality is not None:
            enough = quality >= budget.mean_quality * (1 - 1e-12)
            if not enough.any():
                rule = f"be at most {quality.max():.6g}, the best mean quality foreseen"
                hint = "Lower the floor or add a better destination."
                raise InputError("budget.mean_quality", rule, budget.mean_quality, hint)
            return float(caps[np.flatnonzero(enough)[0]])
        worth = quality - (budget.price or 0.0) * spend
        return float(caps[np.flatnonzero(worth >= worth.max() - 1e-12)[0]])

    def _chain(self, prior: Float, cost: Float, line: Int, cap: float) -> Stopping:
        """What the fixed order leads to under a cap, by the figures foreseen."""
        n, u = cost.shape
        cases = sigmoid(prior[:, :, None] + self.judge.shock[line])
        good = cases >= _VERDICT.accept
        accepted = np.where(good, 1.0 - self.error, self.error)
        before = np.cumsum(cost, axis=1)
        may = np.ones((n, u), dtype=np.bool_)  # may go on from this step
        may[:, :-1] = (before[:, :-1] == 0) | (cost[:, 1:] < cap - before[:, :-1])
        may[:, -1] = False
        leave = np.where(may, 1.0 - accepted.mean(axis=2), 0.0)
        kept = np.where(may, (cases * accepted).mean(axis=2), cases.mean(axis=2))
        spend, quality = cost.copy(), kept
        for j in reversed(range(u - 1)):
            spend[:, j] += leave[:, j] * spend[:, j + 1]
            quality[:, j] += leave[:, j] * quality[:, j + 1]
        value = np.tile(-np.arange(u, dtype=np.float64), (n, 1))  # always start at the first
        to = np.where(may, np.arange(1, u + 1), -1)
        return Stopping(value, to, leave, spend, quality)


@dataclass(frozen=True, eq=False)
class Replay:
    """What a simulated cascade did: cost paid, quality of the last answer, models asked; (n,)."""

    cost: Float
    quality: Float
    steps: Int


def replay(
    quality: Float,
    cost: Float,
    *,
    order: Sequence[int] | Int,
    bar: float,
    error: float,
    max_cost: float,
    rng: Generator,
) -> Replay:
    """The paper's experiment: a judge that reads the true quality, wrong at a known rate.

    Parameters
    ----------
    quality, cost : array (n, m)
        The truth; a destination with NaN in either is passed over for that row.
    order : sequence of int (m,)
        Columns from first to last asked.
    bar : float
        Quality that an answer must reach.
    error : float
        Probability that a verdict is inverted, in [0, 1].
    max_cost : float
        Cap on the cost of one request, >= 0; may be infinite.
    rng : Generator
        Draws the inversions: one number a cell, whatever is asked, so that two replays from one
        seed share their luck.

    Returns
    -------
    Replay
        Quality is NaN, and cost 0, for a row in which nothing was seen.
    """
    _check.number("error", error, low=0.0, high=1.0)
    n = len(quality)
    luck = rng.random(quality.shape)
    spent, steps = np.zeros(n), np.zeros(n, dtype=np.int64)
    reached, going = np.full(n, np.nan), np.ones(n, dtype=np.bool_)
    for j in order:
        seen = ~(np.isnan(quality[:, j]) | np.isnan(cost[:, j]))
        going &= ~seen | (spent == 0) | (cost[:, j] < max_cost - spent)
        asks = going & seen
        spent[asks] += cost[asks, j]
        reached[asks] = quality[asks, j]
        steps[asks] += 1
        accepts = (quality[:, j] >= bar) ^ (luck[:, j] < error)
        going &= ~(asks & accepts)
    return Replay(spent, reached, steps)

r"""Asks cheap models first and goes on only while a learned judge says that it pays.

Routes: requests to language models, one after another.

Idea. A cheap answer that is good ends the matter; a bad one can often be told by reading it. So
ask in order of price, let a judge `g(q, a)` score every answer, and stop at the first that is
good enough (FrugalGPT, 2023, arXiv:2305.05176, section 3). The paper fixes one list of models and
one threshold for each, chosen by search so that the training table earns the most within a mean
budget b:

    max_{L, tau}  E[ r(a, f_{L_z}(q)) ]   subject to   E[ sum_{i <= z} c_{L_i}(q) ] <= b,
    z = the first i with g(q, f_{L_i}(q)) >= tau_i.

Here the same problem is solved at a price p on spending (the multiplier of b) as optimal
stopping (`parts.stopping`). With `R[i, j, s]` = judged quality of j's answer to item i in the s-th
of q equally likely cases (prior plus shock, `parts.learners.judge`), `cost[i, j]` the expected
price of asking, and k over the destinations after j in order of mean cost,

    after[i, j] = max_k value[i, k]                                (minus infinity for the last)
    value[i, j] = mean_s max(R[i, j, s], after[i, j]) - p * cost[i, j]

so the list is the path of best `value` and the threshold of j is `after[i, j]`: an answer judged
at least that good is accepted. Ties accept, and prefer the cheaper. The spend foreseen for an
item never rises with p, because p weighs nothing but it.

Shapes: n items, m destinations, q = 16 cases. Costs in the table's currency; what is asked adds
up. `Budget(mean_cost=...)` and `Budget(mean_quality=...)` are turned into a price on a sample of
the training inputs, so that a single request, or the part of a batch that is still going, meets
the same price as the whole.

Differs from the paper. (1) Thresholds and list depend on the item, through the prior, instead of
being one constant each; where the prior tells nothing they are those constants. (2) Backward
induction instead of enumerating lists of three and a grid of thresholds: exact under the model
above, for any m. It takes the surprise of one answer to say nothing about the next one. (3) The
judge is a calibrated ridge regression on words and surface, fitted and checked by leave-one-out,
instead of a fine-tuned DistilBERT: no weights to download. (4) Fitted on a table without answers
the judge can only repeat its prior, so asking twice never pays and the cascade is a plain router.

Cost: fit O(m n^2 min(n, b)) for b <= 4096 words and word pairs; a step O(n m q).

>>> import numpy as np
>>> from turnout.core import Budget, Outcomes
>>> table = Outcomes(
...     inputs=["2 + 2", "3 + 5", "7 * 8", "9 * 6"] * 5,
...     names=("small", "large"),
...     quality=np.array([[1, 1], [1, 1], [0, 1], [0, 1]] * 5),
...     cost=np.array([[1.0, 10.0]] * 20),
...     answers=np.array([["4", "4"], ["8", "8"], ["perhaps", "56"], ["perhaps", "54"]] * 5),
... )
>>> rng = np.random.default_rng(0)
>>> router = Cascade().fit(table, table.pool(), rng=rng)
>>> said = [["4"], ["perhaps"]]
>>> asked = np.array([[0], [0]])
>>> budget = Budget(price=0.01)
>>> router.proceed(["2 + 2", "7 * 8"], asked, said, table.pool(), budget=budget, rng=rng).tolist()
[-1, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Assignment, Budget, Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.judge import Judge, fit_judge
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.stopping import Stopping, by_price, edge, line_up, solve, walk
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "Cascade", "FittedCascade"]

CARD = Card(
    name="llms.cascade",
    system="FrugalGPT",
    title=(
        "FrugalGPT: How to Use Large Language Models While Reducing Cost and Improving Performance"
    ),
    authors="Lingjiao Chen, Matei Zaharia, James Zou",
    year=2023,
    id="arXiv:2305.05176",
    routes="requests to language models, one after another",
    kind="threshold",
    recipe="Cascade",
    signal=("outcomes", "answers"),
    covers=(
        "section 3: LLM cascade with a generation scoring function and a router",
        "the constrained choice of list and thresholds, at every budget",
    ),
    differs=(
        "thresholds and list depend on the item through a prior; the paper has one constant each",
        "optimal stopping by backward induction; the paper searches lists of three and a grid",
        "the judge is a calibrated ridge regression; the paper fine-tunes DistilBERT",
        "without answers in the table it is a one-shot router: the judge repeats its prior",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "sequential", "quick"),
    aliases=("frugalgpt", "llm cascade"),
    cost="fit O(m n^2 min(n, b)), b <= 4096 words; a step O(n m q), q = 16",
)

_SAMPLE = 256


@dataclass(frozen=True)
class Cascade:
    """Recipe of a learned cascade.

    Parameters
    ----------
    penalty : float
        Ridge penalty of the judge, > 0. Rows of words have length one.
    """

    penalty: float = 1.0

    def __post_init__(self) -> None:
        _check.number("penalty", self.penalty, low=1e-9)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedCascade:
        """Fit the judge and the costs; `rng` draws the sample that prices budgets.

        Raises
        ------
        InputError
            The table's inputs are not texts.
        """
        judge = fit_judge(outcomes.inputs, outcomes.answers, outcomes.quality, penalty=self.penalty)
        costs = fit_costs(outcomes)
        rows = np.sort(rng.permutation(outcomes.n)[:_SAMPLE])
        sample = [outcomes.inputs[int(i)] for i in rows]
        return FittedCascade(
            names=outcomes.names,
            order=by_price(outcomes),
            judge=judge,
            costs=costs,
            sample_prior=judge.prior(sample),
            sample_cost=costs.predict(sample),
        )


@dataclass(frozen=True, eq=False)
class FittedCascade:
    """A sequential router: see the module for the rule.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    order : array of int (m,)
        Columns in the order they may be asked: by mean cost.
    judge : Judge
    costs : CostModel
    sample_prior, sample_cost : array (r, m)
        Prior logits and expected costs of a sample of training inputs, to turn a target into a
        price.
    """

    names: tuple[str, ...]
    order: Int
    judge: Judge
    costs: CostModel
    sample_prior: Float
    sample_cost: Float

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """The plan: whom to ask in which order, and the chance that each step is the last."""
        line = line_up(self.names, self.order, pool)
        if len(texts_of(inputs)) == 0:
            return Assignment(np.empty((0, 1), dtype=np.int64), np.empty((0, 1)), pool.m)
        plan = self._plan(inputs, line.column, self.price(pool, budget))
        index, weight = walk(plan)
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
        """
        line = line_up(self.names, self.order, pool)
        texts, asked = texts_of(inputs), np.asarray(asked, dtype=np.int64)
        passed = line.passed(asked, answers, len(texts))
        if not texts:
            return np.empty(0, dtype=np.int64)
        plan = self._plan(texts, line.column, self.price(pool, budget))
        if asked.shape[1] == 0:
            return np.asarray(line.place[plan.first])
        last = asked[:, -1]
        judged = self.judge.score(texts, [row[-1] for row in answers], line.known[last])
        later = np.arange(len(line.column)) >= passed[:, None]
        value = np.where(later, plan.value, -np.inf)
        going = (value.max(axis=1) > judged) & (last >= 0)
        return np.where(going, line.place[value.argmax(axis=1)], -1)

    def price(self, pool: Pool, budget: Budget) -> float:
        """The price that a budget stands for, found on the sample of training inputs.

        Raises
        ------
        InputError
            The budget cannot be met by the figures foreseen.
        """
        if budget.price is not None:
            return budget.price
        if budget.mean_cost is None and budget.mean_quality is None:
            return 0.0
        line = line_up(self.names, self.order, pool).column
        cost = self.sample_cost[:, line]
        cases = sigmoid(self.sample_prior[:, line, None] + self.judge.shock[line])
        scale = 1.0 / max(float(cost.mean()), 1e-12)
        if budget.mean_quality is not None:
            target = budget.mean_quality
            best = solve(cases, cost, 0.0)
            if best.at_start(best.quality) < target * (1 - 1e-12):
                raise InputError(
                    "budget.mean_quality",
                    f"be at most {best.at_start(best.quality):.6g}, the best mean quality foreseen",
                    target,
                    "Lower the floor or add a better destination.",
                )

            def good(price: float) -> bool:
                solved = solve(cases, cost, price)
                return solved.at_start(solved.quality) >= target * (1 - 1e-12)

            return edge(good, scale)[0]
        assert budget.mean_cost is not None
        floor, limit = float(cost.min(axis=1).mean()), budget.mean_cost * (1 + 1e-12)
        if floor > limit:
            raise InputError(
                "budget.mean_cost",
                f"be at least {floor:.6g}, the mean cost of the cheapest destinations",
                budget.mean_cost,
                "Raise the budget or add a cheaper destination.",
            )

        def over(price: float) -> bool:
            solved = solve(cases, cost, price)
            return solved.at_start(solved.cost) > limit

        return edge(over, scale)[1] if over(0.0) else 0.0

    def _plan(self, inputs: Inputs, line: Int, price: float) -> Stopping:
        cases = sigmoid(self.judge.prior(inputs)[:, line, None] + self.judge.shock[line])
        return solve(cases, self.costs.predict(inputs)[:, line], price)

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

With `most_wrong` every destination gets a gate as well (`parts.gate`): the least score above which
held-out answers of it are wrong no more often than that, surely so with `confidence`. What its
gate rejects goes on while there is somebody left to ask, whatever the price. The promise is for
each destination on requests like those of the table; which of them a plan begins with is another
mix.

Shapes: n items, m destinations, q = 16 cases. Costs in the table's currency; what is asked adds
up. `Budget(mean_cost=...)` and `Budget(mean_quality=...)` are turned into a price on a sample of
the training inputs, so that a single request, or the part of a batch that is still going, meets
the same price as the whole.

Differs from the paper. (1) Thresholds and list depend on the item, through the prior, instead of
being one constant each; where the prior tells nothing they are those constants. (2) Backward
induction instead of enumerating lists of three and a grid of thresholds: exact under the model
above, for any m. It takes the surprise of one answer to say nothing about the next one. (3) The
judge is a calibrated ridge regression on words and surface, fitted and checked by leave-one-out,
instead of a fine-tuned DistilBERT: no weights to download. (4) Gates on how often a kept answer is
wrong are an extension, off by default. (5) Fitted on a table without answers
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
from turnout.parts.gate import Gate, limit_error
from turnout.parts.learners.judge import Judge, fit_judge_held_out
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
        "gates that limit how often a kept answer is wrong are an extension, off by default",
        "without answers in the table it is a one-shot router: the judge repeats its prior",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "sequential", "quick"),
    knobs=(
        ("price", "quality per unit of cost"),
        ("most_wrong", "share of kept answers that may be wrong, in [0, 1]"),
    ),
    aliases=("frugalgpt", "llm cascade"),
    cost="fit O(m n^2 min(n, b)), b <= 4096 words; a step O(n m q), q = 16",
)

_SAMPLE = 256
#: Times the scale of prices: nothing is worth more than the least cost.
_DEAREST = 1e9


@dataclass(frozen=True)
class Cascade:
    """Recipe of a learned cascade.

    Parameters
    ----------
    penalty : float
        Ridge penalty of the judge, > 0. Rows of words have length one.
    most_wrong : float, optional
        Share of the answers kept from a destination that may be wrong while there is another to
        ask, in [0, 1]; by default the price alone decides.
    confidence : float, optional
        Keep to `most_wrong` on new requests with this probability, in (0, 1); by default on the
        held-out answers themselves.

    Raises
    ------
    InputError
        A value is out of range, or there is a confidence and nothing to be confident of.
    """

    penalty: float = 1.0
    most_wrong: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        _check.number("penalty", self.penalty, low=1e-9)
        if self.most_wrong is not None:
            _check.number("most_wrong", self.most_wrong, low=0.0, high=1.0)
        elif self.confidence is not None:
            hint = "Set most_wrong, such as 0.1."
            raise InputError("confidence", "come with most_wrong", self.confidence, hint)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedCascade:
        """Fit the judge and the costs; `rng` draws the sample that prices budgets.

        Raises
        ------
        InputError
            The table's inputs are not texts, or the confidence is out of range.
        """
        judge, held_out = fit_judge_held_out(
            outcomes.inputs, outcomes.answers, outcomes.quality, penalty=self.penalty
        )
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
            gates=self._gates(held_out, outcomes.quality),
        )

    def _gates(self, scores: Float, quality: Float) -> tuple[Gate, ...]:
        """One a destination; a destination of which no answer was read is let through."""
        if self.most_wrong is None:
            return ()
        found = []
        for score, good in zip(scores.T, quality.T, strict=True):
            read = ~np.isnan(score)
            limit, sure = self.most_wrong, self.confidence
            gate = Gate(accept=-np.inf)
            if read.any():
                gate = limit_error(score[read], 1.0 - good[read], limit, confidence=sure)
            found.append(gate)
        return tuple(found)


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
    gates : tuple of Gate
        One a destination, on the score of its answer; () = the price alone decides.
    """

    names: tuple[str, ...]
    order: Int
    judge: Judge
    costs: CostModel
    sample_prior: Float
    sample_cost: Float
    gates: tuple[Gate, ...] = ()

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
        best = value.max(axis=1)
        rejected = (judged < self._bar()[line.known[last]]) & np.isfinite(best)
        going = ((best > judged) | rejected) & (last >= 0)
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
        bar = self._bar()[line]
        scale = 1.0 / max(float(cost.mean()), 1e-12)
        if budget.mean_quality is not None:
            target = budget.mean_quality
            best = solve(cases, cost, 0.0, bar)
            if best.at_start(best.quality) < target * (1 - 1e-12):
                raise InputError(
                    "budget.mean_quality",
                    f"be at most {best.at_start(best.quality):.6g}, the best mean quality foreseen",
                    target,
                    "Lower the floor or add a better destination.",
                )

            def good(price: float) -> bool:
                solved = solve(cases, cost, price, bar)
                return solved.at_start(solved.quality) >= target * (1 - 1e-12)

            return edge(good, scale)[0]
        assert budget.mean_cost is not None
        least = solve(cases, cost, _DEAREST * scale, bar)
        floor, limit = least.at_start(least.cost), budget.mean_cost * (1 + 1e-12)
        if floor > limit * (1 + 1e-9):
            raise InputError(
                "budget.mean_cost",
                f"be at least {floor:.6g}, the least mean cost of going down the cascade",
                budget.mean_cost,
                "Raise the budget, add a cheaper destination, or gate less with most_wrong.",
            )

        def over(price: float) -> bool:
            solved = solve(cases, cost, price, bar)
            return solved.at_start(solved.cost) > limit

        return edge(over, scale)[1] if over(0.0) else 0.0

    def _plan(self, inputs: Inputs, line: Int, price: float) -> Stopping:
        cases = sigmoid(self.judge.prior(inputs)[:, line, None] + self.judge.shock[line])
        return solve(cases, self.costs.predict(inputs)[:, line], price, self._bar()[line])

    def _bar(self) -> Float:
        """Least score of each destination's answers that may be kept, (m,)."""
        if not self.gates:
            return np.full(len(self.names), -np.inf)
        return np.array([gate.accept for gate in self.gates])

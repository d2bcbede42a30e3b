"""Reuses a log of many models' answers at three depths: to route, to prompt, and to train.

Routes whole requests to language models, each of which may stand in the pool twice: answering
directly and step by step.

Idea (Fusing LLM Capabilities with Routing Data, 2025, arXiv:2507.10540). One log of queries x
models with quality, cost and a judge's score is worth more than one use:

* query level: choose a candidate for a query by what candidates earned on the queries like it;
* thought level: put the procedure behind good answers to similar queries before the prompt
  (`write_thoughts`, `ThoughtPlay`: a strategy of one call);
* model level: choose the best answers of all models as rows to tune one model on
  (`distillation`).

Query level. With q_ij, c_ij quality and cost of candidate j on query i of task t, minima and maxima
over the seen cells of t in the training table, and a scenario (alpha, beta)::

    p_ij = (q_ij - min_t q) / (max_t q - min_t q)       0 where all are equal
    k_ij = (c_ij - min_t c) / (max_t c - min_t c)       likewise
    s_ij = alpha p_ij - beta k_ij                       score; "balance" is (0.5, 0.5)
    S[x, j] = mean of s_ij over the 50 queries nearest to x                      scores (n, m)

`scores` and `rank` are this. `predict` gives the mean of q_ij over the same queries, in [0, 1],
and a cost in the table's currency, so that the shared decision quality - price * cost gives the
whole curve; scenarios are three points near it, with the price set task by task.

Shapes: n queries, m candidates. `group` of the table names the tasks; without it there is one.

Differs from the paper: see `CARD.differs`. Cost: O(n d) a query for `Nearest`, O(d m) for `Ridge`.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]),
...     names=("small", "small_think"),
...     quality=np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
...     cost=np.array([[1.0, 3.0]] * 4),
... )
>>> recipe = FusionFactory(learner=Nearest(k=2))
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.scores(np.array([[1.0, 0.05]]), BALANCE).tolist()
[[0.5, 0.0]]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.answer_log import LogRow, distillation, log_of, questions, ranked, write_sets
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.neighbours import Memory
from turnout.parts.ranking import order
from turnout.parts.rounds.thoughts import (
    ThoughtPlay,
    Thoughts,
    enriched,
    summary_call,
    write_thoughts,
)
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = [
    "BALANCE",
    "CARD",
    "COST_FIRST",
    "PERFORMANCE_FIRST",
    "FittedFusionFactory",
    "FusionFactory",
    "Linear",
    "LogRow",
    "Nearest",
    "Ranges",
    "Ridge",
    "Scenario",
    "ThoughtPlay",
    "Thoughts",
    "distillation",
    "enriched",
    "fit_ranges",
    "log_of",
    "questions",
    "ranked",
    "routing_rows",
    "summary_call",
    "write_sets",
    "write_thoughts",
]

CARD = Card(
    name="llms.fusion_factory",
    system="FusionFactory",
    title="Fusing LLM Capabilities with Routing Data",
    authors=(
        "Tao Feng, Haozhen Zhang, Zijie Lei, Pengrui Han, Mostofa Patwary, Mohammad Shoeybi, "
        "Bryan Catanzaro, Jiaxuan You"
    ),
    year=2025,
    id="arXiv:2507.10540",
    routes="a prompt to a language model in one of two modes",
    kind="score",
    recipe="FusionFactory",
    signal=("outcomes", "answers"),
    covers=(
        "Query level: scenario scores of cost and performance per task, nearest neighbours, "
        "rankings of candidates",
        "Thought level: templates from the three best answers, retrieved within the task",
        "Model level: the choice of training answers by performance, judge, both, or small models",
    ),
    differs=(
        "Minima and maxima are of the training table; the published code takes them over whatever "
        "it is given, test rows included. A task in which all cost the same has 0, not a division "
        "by it.",
        "Rows are brought together by question, not in blocks of forty; answers that were never "
        "graded stay unseen instead of counting as 0.",
        "Encoders are those of the house; nearest neighbours and a ridge regression stand for its "
        "five routers. Its graph router is not repeated here.",
        "The template of the very question that is asked is never shown, and queries of a test can "
        "be named, so that none is written from them.",
        "Tuning a model of eight billion parameters on the chosen rows is out of reach of a "
        "laptop: the rows are written in the common JSON form, and nothing is claimed of the "
        "model that comes of them.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("fusionbench", "thought templates", "distillation sets", "routing data"),
    cost="fit: one encoding of n rows; route: O(n d + n m) an item; memory 4 n d bytes",
)


@dataclass(frozen=True)
class Scenario:
    """What performance and cost weigh in a score.

    Parameters
    ----------
    alpha, beta : float
        Weights of normalised performance and cost, each >= 0.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        _check.number("scenario.alpha", self.alpha, low=0.0)
        _check.number("scenario.beta", self.beta, low=0.0)

    def score(self, performance: Float, cost: Float) -> Float:
        """`alpha * performance - beta * cost` of normalised figures."""
        return np.asarray(self.alpha * performance - self.beta * cost)


PERFORMANCE_FIRST = Scenario(1.0, 0.0)
BALANCE = Scenario(0.5, 0.5)
COST_FIRST = Scenario(0.2, 0.8)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Least and greatest quality and cost of each task.

    Parameters
    ----------
    tasks : tuple of str
        The first is "", for tasks that are not known: the whole table.
    low, high : array (t, 2)
        Of quality and of cost.
    """

    tasks: tuple[str, ...]
    low: Float
    high: Float

    def normalised(self, outcomes: Outcomes) -> tuple[Float, Float]:
        """Performance and cost (n, m) by these ranges; of other rows they may leave [0, 1]."""
        place = {task: t for t, task in enumerate(self.tasks)}
        group = outcomes.group or ("",) * outcomes.n
        row = [place.get(task, 0) for task in group]
        low, span = self.low[row], (self.high - self.low)[row]
        flat = span <= 0
        span = np.where(flat, 1.0, span)
        return tuple(  # type: ignore[return-value]
            np.where(
                flat[:, which, None] & ~np.isnan(values),
                0.0,
                (values - low[:, which, None]) / span[:, which, None],
            )
            for which, values in enumerate((outcomes.quality, outcomes.cost))
        )


def fit_ranges(outcomes: Outcomes) -> Ranges:
    """Ranges over the seen cells of each task of a table to learn from."""
    group = np.array(outcomes.group or ("",) * outcomes.n, dtype=object)
    tasks = ("", *sorted(set(group) - {""}))
    low, high = np.zeros((len(tasks), 2)), np.zeros((len(tasks), 2))
    for t, task in enumerate(tasks):
        rows = np.ones(outcomes.n, dtype=np.bool_) if t == 0 else group == task
        for which, values in enumerate((outcomes.quality[rows], outcomes.cost[rows])):
            seen = values[~np.isnan(values)]
            if len(seen):
                low[t, which], high[t, which] = seen.min(), seen.max()
    return Ranges(tasks, low, high)


@dataclass(frozen=True)
class Nearest:
    """Means over the k nearest queries by cosine.

    Parameters
    ----------
    k : int
        >= 1; the paper has 50.
    """

    k: int = 50

    def __post_init__(self) -> None:
        _check.integer("nearest.k", self.k, low=1)

    def learn(self, keys: NDArray[np.float32], values: Float) -> Memory:
        """Keep keys (n, d) and values (n, c); NaN = never seen."""
        return Memory(keys=keys, values=values, k=self.k, shrink=0.0)


@dataclass(frozen=True)
class Ridge:
    """A line in the query's vector for each candidate.

    Parameters
    ----------
    l2 : float
        Penalty, > 0; vectors have length one.
    """

    l2: float = 1.0

    def __post_init__(self) -> None:
        _check.number("ridge.l2", self.l2, low=1e-9)

    def learn(self, keys: NDArray[np.float32], values: Float) -> Linear:
        """Fit to keys (n, d) and values (n, c); NaN = never seen, and left out."""
        keys = np.asarray(keys, dtype=np.float64)
        weights = np.zeros((keys.shape[1], values.shape[1]))
        level = np.zeros(values.shape[1])
        for column in range(values.shape[1]):
            seen = ~np.isnan(values[:, column])
            if not seen.any():
                continue
            x, y = keys[seen], values[seen, column]
            middle = x.mean(axis=0)
            x = x - middle
            gram = x.T @ x + self.l2 * np.eye(x.shape[1])
            weights[:, column] = np.linalg.solve(gram, x.T @ (y - y.mean()))
            level[column] = y.mean() - middle @ weights[:, column]
        return Linear(weights, level)


@dataclass(frozen=True, eq=False)
class Linear:
    """What `Ridge` fits: weights (d, c) and level (c,)."""

    weights: Float
    level: Float

    def means(self, queries: NDArray[np.float32]) -> Float:
        """Expected values (b, c)."""
        return np.asarray(queries @ self.weights + self.level)


@dataclass(frozen=True)
class FusionFactory:
    """Recipe of the query level.

    Parameters
    ----------
    learner : Nearest or Ridge
    encoder : str
        "svd" or "minilm"; inputs that are arrays (n, d) are taken for embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.
    """

    learner: Nearest | Ridge = field(default_factory=Nearest)
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.learner, Nearest | Ridge):
            hint = "Pass Nearest(k=50) or Ridge()."
            raise InputError("fusion_factory.learner", "be a learner", self.learner, hint)
        check_name(self.encoder)
        _check.integer("fusion_factory.d", self.d, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedFusionFactory:
        """Encode the table, normalise it task by task, and learn both."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        keys = encoder.encode(outcomes.inputs)
        ranges = fit_ranges(outcomes)
        performance, cost = ranges.normalised(outcomes)
        cost = np.where(np.isnan(cost).all(axis=0), 0.0, cost)
        return FittedFusionFactory(
            names=outcomes.names,
            encoder=encoder,
            ranges=ranges,
            learned=self.learner.learn(keys, np.hstack([outcomes.quality, performance, cost])),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedFusionFactory:
    """A router by what candidates earned on similar queries.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    ranges : Ranges
        Of the training table.
    learned : Memory or Linear
        Quality, normalised performance and normalised cost, 3 m columns.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    ranges: Ranges
    learned: Memory | Linear
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m)."""
        quality = self._means(inputs)[:, : len(self.names)]
        return np.clip(quality, 0.0, 1.0), self.costs.predict(inputs)

    def scores(self, inputs: Inputs, scenario: Scenario) -> Float:
        """Expected score (n, m) of each candidate in a scenario."""
        m = len(self.names)
        found = self._means(inputs)
        return scenario.score(found[:, m : 2 * m], found[:, 2 * m :])

    def rank(self, inputs: Inputs, scenario: Scenario) -> Int:
        """Candidates of each query, the best first, (n, m); equals in the table's order."""
        return order(self.scores(inputs, scenario))

    def _means(self, inputs: Inputs) -> Float:
        return self.learned.means(self.encoder.encode(inputs))


def routing_rows(outcomes: Outcomes, scenario: Scenario, ranges: Ranges) -> list[dict[str, Any]]:
    """The published JSON form of the query level: candidates of each query, and the best.

    Parameters
    ----------
    outcomes : Outcomes
        With texts; cells never seen are no candidates.
    scenario : Scenario
    ranges : Ranges
        Of the table to learn from, for test rows too.

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    if isinstance(outcomes.inputs, np.ndarray):
        raise InputError("outcomes.inputs", "hold texts", "an array", "Keep what was asked.")
    performance, cost = ranges.normalised(outcomes)
    score = scenario.score(performance, cost)
    rows = []
    for i, query in enumerate(outcomes.inputs):
        seen = [j for j in range(outcomes.m) if not np.isnan(score[i, j])]
        found = [
            {
                "candidate_name": outcomes.names[j],
                "cost": float(cost[i, j]),
                "performance": float(performance[i, j]),
                "score": float(score[i, j]),
            }
            for j in seen
        ]
        best = outcomes.names[max(seen, key=lambda j: score[i, j])] if seen else ""
        rows.append({"query": query, "candidates": found, "ground_truth": best})
    return rows

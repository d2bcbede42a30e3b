"""Sends a prompt to the model to which, in a graph of prompts and models, the best edge leads.

Routes whole requests to language models. Prompts (with their tasks) and models are nodes, what was
seen of a model on a prompt is an edge; a graph network learns to tell, for edges that are hidden
from it, whether the model is the best for the prompt. A new model joins by its description and a
few edges, with no training. "GraphRouter: A Graph-based Router for LLM Selections" (2025),
arXiv:2410.03834.

Equations, with the variable of each symbol::

    s_ij = alpha q_ij - beta c'_ij             score     c' = cost, min-max scaled in its task
    y_ij = 1 if s_ij = max over l of s_il      label     every tied best, over the models seen
    e_ij = (s_ij, c'_ij, q_ij)                 edge      (n, m, 3), q_ij in [0, 1]
    x, z                                       nodes     `turnout.nn.graph.Bipartite`, (n|m, 2 h)
    p_ij = sigmoid(mean over k of x_ik z_jk)   best?     (n, m)
    loss = mean over hidden edges of the cross-entropy of p_ij and y_ij
    Q_ij = sigmoid(base_j + level_j P_i + spread (p_ij - P_i))         P_i = mean over j of p_ij

In each pass every edge is shown with the chance `visible` and else hidden; an edge is predicted
only where it is hidden. With every tied best labelled, and answers right or wrong, two models' p
differ by as much as their chances of being right: so Q, the quality
(`parts.learners.mixture.fit_line` on rows held out), carries the whole curve under the shared
decision, quality - price * cost. `best` is p itself, whose argmax is the published rule. Costs are
in the currency of the table.

What the edges tell: a message is W x_i + U e_ij and a model hears their mean, so *which* prompt
came with which score is lost on the way. What a model is good at has to stand in its description;
its edges tell how good and how dear it is on the whole. `message="relu"` bends each message before
the mean, and the edges then tell the rest, too.

Differs from the paper: see `CARD.differs`. Cost: see `CARD.cost`.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=[text for i in range(50) for text in (f"add {i} numbers", f"write poem {i}")],
...     names=("counter", "poet"),
...     quality=np.array([[1.0, 0.0], [0.0, 1.0]] * 50),
...     cost=np.array([[1.0, 9.0]] * 100),
... )
>>> fitted = GraphRouter(epochs=40).fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.best(["add six numbers", "a poem"]).argmax(axis=1).tolist()
[0, 1]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.edges import Scale, Tasks, described, fit_scale, tasks_of
from turnout.parts.learners.crossfit import identities
from turnout.parts.learners.descent import sigmoid
from turnout.parts.learners.mixture import Line, fit_line
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "FittedGraphRouter", "GraphRouter"]

CARD = Card(
    name="llms.graph_router",
    system="GraphRouter",
    title="GraphRouter: A Graph-based Router for LLM Selections",
    authors="Feng, Shen, You",
    year=2025,
    id="arXiv:2410.03834",
    routes="a prompt to a language model",
    kind="score",
    recipe="GraphRouter",
    signal=("outcomes",),
    covers=(
        "Section 3: task, query and model nodes, edges with effect and cost, two rounds of "
        "messages, edge prediction under random masks",
        "The three scenarios, as weights of effect and cost",
        "New models by description and few-shot edges, without training",
    ),
    differs=(
        "Every model that ties for the best is labelled, where the published code labels the "
        "first of them; the differences of p are then differences of quality.",
        "p is calibrated to a quality on held-out rows, and the price decides; the published rule "
        "is the argmax of p (`best`), with a weight of cost fixed before training.",
        "The kept epoch has the best mean score of its choices on rows held out, in place of the "
        "best macro-F1: with ties there is no one class to count.",
        "A task's node is the mean of its prompts, because a table has a label for it and no "
        "description; a new prompt belongs to the task nearest to it.",
        "Without descriptions every model has a vector of its own, and no model can join.",
        "Messages are averaged; the published layer adds them up, and its size then grows with "
        "the table.",
        "The norms see training nodes alone, never the prompts to be routed.",
        "Vectors of texts are a truncated SVD of TF-IDF unless encoder='minilm'; steps are "
        "larger (3e-2, not 1e-4) and passes fewer (1 a step, not 640): a fit takes seconds.",
    ),
    needs=("torch",),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("graphrouter", "graph router", "gnn"),
    cost="fit: O(epochs passes (n m h + n h^2)); route: O(d h + h m) an item; memory 8 m h bytes",
)

Single = NDArray[np.float32]


@dataclass(frozen=True)
class GraphRouter:
    """Recipe of a graph router.

    Parameters
    ----------
    h : int
        Half the width of a node, >= 1. Published: 8, later 64.
    alpha, beta : float
        Weights of effect and of scaled cost in the score, >= 0, not both 0. The published
        scenarios are (1, 0), (0.5, 0.5) and (0.2, 0.8).
    visible : float
        Chance that an edge is shown in a pass, in (0, 1).
    message : str
        "linear", as published, or "relu".
    epochs, passes : int
        Steps, and passes a step; >= 1.
    rate, decay : float
        Step size and weight decay of AdamW.
    held_out : float
        Share of the prompts kept to choose the epoch by and to calibrate on, in (0, 0.5].
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range.
    """

    h: int = 32
    alpha: float = 1.0
    beta: float = 0.0
    visible: float = 0.3
    message: str = "linear"
    epochs: int = 100
    passes: int = 1
    rate: float = 3e-2
    decay: float = 1e-4
    held_out: float = 0.2
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        for name in ("h", "epochs", "passes", "d"):
            _check.integer(f"graph_router.{name}", getattr(self, name), low=1)
        for name in ("alpha", "beta", "decay"):
            _check.number(f"graph_router.{name}", getattr(self, name), low=0.0)
        if not self.alpha + self.beta > 0:
            hint = "Give one of alpha and beta a weight."
            raise InputError("graph_router.alpha", "be above 0 where beta is 0", self.alpha, hint)
        _check.number("graph_router.visible", self.visible, low=0.01, high=0.99)
        _check.number("graph_router.rate", self.rate, low=1e-9)
        _check.number("graph_router.held_out", self.held_out, low=0.01, high=0.5)
        if self.message not in ("linear", "relu"):
            rule = "be one of linear, relu"
            raise InputError("graph_router.message", rule, self.message, "Choose one.")
        check_name(self.encoder)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedGraphRouter:
        """Train on hidden edges, then show all of them and keep what the models became."""
        from turnout.nn.graph import EdgeTable, Training, log_odds, numpy_of, shown, train

        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        query = encoder.encode(outcomes.inputs)
        tasks = tasks_of(outcomes, query)
        task = tasks.of(query, outcomes.group)
        about, describer = described(pool, self.encoder, rng=rng)
        scale = fit_scale(outcomes, task, alpha=self.alpha, beta=self.beta)
        table = EdgeTable(query, tasks.centres[task], about, *scale.edges(outcomes, task))
        rows, judged = _held_out(outcomes.inputs, self.held_out, rng)
        network = train(
            table,
            rows,
            judged,
            Training(
                h=self.h,
                inside=self.message,
                visible=self.visible,
                epochs=self.epochs,
                passes=self.passes,
                rate=self.rate,
                decay=self.decay,
            ),
            rng=rng,
        )
        p = sigmoid(log_odds(network, table, rows, judged).astype(np.float64))
        return FittedGraphRouter(
            names=outcomes.names,
            encoder=encoder,
            describer=describer,
            tasks=tasks,
            scale=scale,
            weights=numpy_of(network),
            message=self.message,
            keys=shown(network, table, np.arange(outcomes.n)),
            line=fit_line(p, outcomes.quality[judged]),
            trained=outcomes.m,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedGraphRouter:
    """What the models of the graph became, and how to read a prompt.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
        Of prompts.
    describer : Encoder or None
        Of descriptions; None where the models had none.
    tasks, scale
        The tasks known, and what becomes of quality and cost on an edge.
    weights : mapping of str to array
        Of the network, for models that join.
    message : str
        Its kind of message.
    keys : array of float32 (m, 2 h)
        The models after both rounds.
    line : Line
        Calibration, of m models.
    trained : int
        How many of the models it was trained with, the first; they make the mean p.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    describer: Encoder | None
    tasks: Tasks
    scale: Scale
    weights: Mapping[str, NDArray[Any]]
    message: str
    keys: Single
    line: Line
    trained: int
    costs: CostModel

    def best(self, inputs: Inputs) -> Float:
        """Probability (n, m) that each model has the best score: the published figure."""
        query = self.encoder.encode(inputs)
        task = self.tasks.centres[self.tasks.of(query)]
        weights = self.weights
        x = np.hstack(
            [
                what @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
                for name, what in (("task", task), ("query", query))
            ]
        )
        return sigmoid((x @ self.keys.T).astype(np.float64) / self.keys.shape[1])

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m)."""
        return _calibrated(self.line, self.best(inputs), self.trained), self.costs.predict(inputs)

    def join(
        self,
        name: str,
        outcomes: Outcomes,
        *,
        description: str = "",
        features: Float | None = None,
    ) -> FittedGraphRouter:
        """The same router with one more model, from what was seen of it; nothing is trained.

        Parameters
        ----------
        name : str
        outcomes : Outcomes
            Holds a column of that name; its seen cells are the model's edges.
        description : str
            Where the models it was trained with had descriptions.
        features : array (d,), optional
            Where they had features.

        Raises
        ------
        InputError
            The name is known already or is no column of the table, or the model is described in
            another way than those before it.
        """
        from turnout.nn.graph import EdgeTable, network_of, shown, to_torch

        if name in self.names:
            raise InputError("name", "be a new destination", name, "It is known already.")
        about = self._about(description, features)
        table = outcomes.select([name])
        table = table.take(table.seen[:, 0])
        query = self.encoder.encode(table.inputs)
        task = self.tasks.of(query, table.group)
        graph = EdgeTable(query, self.tasks.centres[task], about, *self.scale.edges(table, task))
        network = network_of(graph, self.keys.shape[1] // 2, self.message)
        to_torch(network, self.weights)
        keys = np.vstack((self.keys, shown(network, graph, np.arange(table.n))))
        grown = replace(self, names=(*self.names, name), keys=keys, costs=_both(self.costs, table))
        level = float(self.line.level[: self.trained].mean())
        line = Line(
            np.append(self.line.base, 0.0), np.append(self.line.level, level), self.line.spread
        )
        base = _level(line, grown.best(table.inputs), self.trained, table.quality[:, 0])
        return replace(grown, line=replace(line, base=np.append(self.line.base, base)))

    def _about(self, description: str, features: Float | None) -> Single:
        d = self.weights["destination.weight"].shape[1]
        if self.describer is not None:
            if not isinstance(description, str) or not description.strip():
                hint = "Say what it is and what it is good at."
                raise InputError("description", "describe the model", description, hint)
            return self.describer.encode([description])
        if features is None:
            hint = "Fit on a pool with descriptions or features."
            raise InputError("features", "tell what the model is", None, hint)
        return _check.floats("features", features, (d,))[None].astype(np.float32)


def _held_out(inputs: Inputs, share: float, rng: Generator) -> tuple[Int, Int]:
    """Rows to learn from and rows to judge by; the same prompt is never in both."""
    prompt = identities(inputs)
    different = int(prompt.max()) + 1
    kept_out = rng.permutation(different)[: round(share * different)]
    held = np.isin(prompt, kept_out)
    if not held.any():  # too few prompts to hold one out
        return np.flatnonzero(~held), np.flatnonzero(~held)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _calibrated(line: Line, p: Float, trained: int) -> Float:
    mean = p[:, :trained].mean(axis=1, keepdims=True)
    return sigmoid(line.base + line.level * mean + line.spread * (p - mean))


def _level(line: Line, p: Float, trained: int, quality: Float) -> float:
    """The last model's base, so that it is predicted to be as good as it was seen to be."""
    wanted = (quality.sum() + 0.5) / (len(quality) + 1.0)
    low, high = -40.0, 40.0
    for _ in range(60):
        base = 0.5 * (low + high)
        tried = replace(line, base=np.append(line.base[:-1], base))
        above = _calibrated(tried, p, trained)[:, -1].mean() > wanted
        low, high = (low, base) if above else (base, high)
    return 0.5 * (low + high)


def _both(costs: CostModel, table: Outcomes) -> CostModel:
    other = fit_costs(table)
    return CostModel(
        *(
            np.append(getattr(costs, field), getattr(other, field))
            for field in ("base", "slope", "floor")
        )
    )

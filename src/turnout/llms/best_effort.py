"""Sends a prompt to the model that will still answer it in time, and best, as busy as all are now.

Routes whole requests to language models, by the prompt and by the load. Under a burst a single
good model misses its deadlines. Here a small policy, learned by playing with simulated queues,
sends more to the light models the fuller the heavy ones are, so that quality gives way and not
the requests.

Equations, with the variable of each symbol::

    q_j(x) = sigmoid(x . w_j + b_j)                        quality told by the words, `scorer`
    s      = (q_1 .. q_m, f_1 .. f_m, log(1 + rate * work)) the state, (2 m + 1,)
    f_j    = min(in flight at j / slots_j, 4)              how full j is
    r      = q_j(x)                      if the answer takes at most D seconds, `deadline`
           = q_j(x) exp(-(late) / soft)  if it is late, 0 where `soft` is 0
    Q(s)   = q + network(s)                                worth of each choice, now and later
    y      = r + gamma * Q_target(s')[argmax Q(s')]        double Q-learning, `parts.qlearning`

s' is the state at the next arrival, and a transition is learned once its request has ended and not
before. `rate` counts the arrivals of the last `window` seconds, `work` is the mean seconds of an
answer at rest. What is handed to the shared decision, quality - price * cost, is the advantage::

    quality_j = max_k q_k + Q_j - max_k Q_k                (n, m), bent to stay above 0

the quality delivered by choosing j, less what that costs the requests after it. `predict` is for
destinations at rest; `under(Load(in_flight, rate))` is the same for any load and what a gateway
calls. So each load has a whole curve over the price.

Shapes: n prompts, m destinations. Seconds are those of the table's latency at rest. A table
without latencies is read as if an answer took time in proportion to its cost: then the unit of
time is the mean answer of the dearest destination. Fallback: a destination whose latency is blank
in a row takes its own mean.

Differs from the paper: see `CARD.differs`. Cost: fit: `requests` decisions of some microseconds
and a quarter as many steps on 64 transitions; route: O(words m + h^2).

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["add two numbers", "write a poem", "add ten numbers", "recite a poem"] * 25,
...     names=("small", "large"),
...     quality=np.array([[0.6, 0.9]] * 100),
...     cost=np.array([[1.0, 9.0]] * 100),
...     latency=np.array([[0.1, 1.0]] * 100),
... )
>>> recipe = BestEffort(deadline=2.0, slope=1.0, requests=4000, width=16)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> busy = fitted.under(Load(in_flight=np.array([0.0, 6.0]), rate=3.0))
>>> for now in (fitted, busy):
...     print(fitted.names[int(now.predict(["add numbers"])[0].argmax())])
large
small
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.qlearning import QNetwork
from turnout.parts.queue_learning import Play, at_rest, train
from turnout.parts.queues import Load, Servers
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "BestEffort", "FittedBestEffort", "Load", "Loaded"]

CARD = Card(
    name="llms.best_effort",
    system="Learned Best-Effort Serving",
    title="Learned Best-Effort LLM Serving",
    authors="Jha, Hooper, Liu, Kim, Keutzer",
    year=2024,
    id="arXiv:2401.07886",
    routes="a prompt to a language model, by how busy each is",
    kind="policy",
    recipe="BestEffort",
    signal=("outcomes", "load"),
    covers=(
        "Double DQN over the kind of request, the batch sizes and the rate of arrivals",
        "hard and soft deadlines; rewards that are known only when a request has ended",
    ),
    differs=(
        "The one-hot task is replaced by the quality predicted of each model for the prompt: all "
        "of the task that the reward depends on. In training it is predicted out of fold.",
        "The reward is that quality, not its ratio to the best model's, so that it may be held "
        "against a price.",
        "The network adds to the predicted quality instead of starting from nothing: untrained "
        "it is the router that knows no load.",
        "The state counts requests in flight, waiting ones among them, over the slots of each.",
        "Widths, step size, buffer and exploration are not in what could be read of the paper "
        "and are common values; gamma is 0.9.",
        "The queues are our own exact simulation of continuous batching, with one slowdown a "
        "request, in place of profiled step times; the network runs in numpy.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("best effort", "load-aware", "deadline", "dqn"),
    cost="fit: O(requests (d h + h^2) batch / 4); route: O(words m + h^2) an item",
)

_FLOOR = 0.02  # quality below which predictions are bent instead of cut, to keep their order


@dataclass(frozen=True)
class BestEffort:
    """Recipe of the load-aware policy.

    Parameters
    ----------
    deadline : float, optional
        Seconds within which an answer is worth something, > 0. By default twice the mean answer
        of the slowest destination at rest.
    soft : float
        Seconds after which a late answer is worth 1 / e of one in time; 0 = nothing at once.
    slope : float or tuple of float
        How much slower each further request makes all at a destination; one for all or one each,
        >= 0. Measure it: `turnout.lab.serving.measure`.
    slots : int or tuple of int
        Most requests at the same time, >= 1; likewise.
    gamma : float
        Worth of the next decision, in [0, 1); 0 = a bandit that forgets what it does to others.
    requests : int
        Simulated requests to learn from, >= 1.
    width : int
        Units of each hidden layer, >= 1.
    rate : float
        Step size, > 0.
    explore : float
        Share of the requests over which random choices fall from all to one in twenty; in (0, 1].
    loads : tuple of float
        Lowest and highest rate of arrivals in training, as shares of what all destinations can
        carry together; 0 < low <= high.
    arrivals : tuple of float
        Recorded arrival times to train on instead of drawn ones, not decreasing; they are replayed
        at random speeds between the two loads. () = drawn.
    l2 : float
        Penalty of the words, > 0.

    Raises
    ------
    InputError
        A value is out of range.
    """

    deadline: float | None = None
    soft: float = 0.0
    slope: float | tuple[float, ...] = 0.05
    slots: int | tuple[int, ...] = 32
    gamma: float = 0.9
    requests: int = 60_000
    width: int = 64
    rate: float = 1e-3
    explore: float = 0.3
    loads: tuple[float, float] = (0.02, 1.5)
    arrivals: tuple[float, ...] = ()
    l2: float = 1.0

    def __post_init__(self) -> None:
        if self.deadline is not None:
            _check.number("best_effort.deadline", self.deadline, low=1e-12)
        _check.number("best_effort.soft", self.soft, low=0.0)
        for j, slope in enumerate(np.atleast_1d(np.asarray(self.slope, dtype=float)).tolist()):
            _check.number(f"best_effort.slope[{j}]", slope, low=0.0)
        for j, slots in enumerate(np.atleast_1d(np.asarray(self.slots)).tolist()):
            _check.integer(f"best_effort.slots[{j}]", slots, low=1)
        _check.number("best_effort.gamma", self.gamma, low=0.0, high=1.0 - 1e-9)
        _check.integer("best_effort.requests", self.requests, low=1)
        _check.integer("best_effort.width", self.width, low=1)
        _check.number("best_effort.rate", self.rate, low=1e-9)
        _check.number("best_effort.explore", self.explore, low=1e-9, high=1.0)
        if len(self.loads) != 2:
            hint = "Such as (0.02, 1.5)."
            raise InputError("best_effort.loads", "hold a low and a high", self.loads, hint)
        low = _check.number("best_effort.loads[0]", self.loads[0], low=1e-9)
        _check.number("best_effort.loads[1]", self.loads[1], low=low)
        times = np.asarray(self.arrivals, dtype=float)
        if times.size and (len(times) < 2 or bool((np.diff(times) < 0).any()) or times.std() == 0):
            hint = "Sort them, and give two or more."
            raise InputError("best_effort.arrivals", "rise", f"{len(times)} times", hint)
        _check.number("best_effort.l2", self.l2, low=1e-9)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedBestEffort:
        """Learn quality from words, then a policy by playing with queues.

        Raises
        ------
        InputError
            The inputs are no texts, or `slope` or `slots` are not one a destination.
        """
        texts = texts_of(outcomes.inputs)
        features = learn_features(texts, min_df=2, max_features=20_000)
        x = features.transform(texts)
        weights, intercept = fit_logistic(x, outcomes.quality, self.l2)
        scorer = TextScorer(features, weights.astype(np.float32), intercept)
        honest = np.array(sigmoid(x @ weights + intercept))
        fold = rng.permutation(np.arange(outcomes.n) % 4)
        for part in range(4):
            held = fold == part
            if held.any() and not np.isnan(outcomes.quality[~held]).all(axis=0).any():
                w, b = fit_logistic(x[~held], outcomes.quality[~held], self.l2, tolerance=0.02)
                honest[held] = sigmoid(x[held] @ w + b)
        work = at_rest(outcomes)
        servers = self._servers(outcomes.m)
        mean = work.mean(axis=0)
        deadline = 2.0 * float(mean.max()) if self.deadline is None else self.deadline
        settings = Play(
            deadline=deadline,
            soft=self.soft,
            gamma=self.gamma,
            requests=self.requests,
            width=self.width,
            rate=self.rate,
            explore=self.explore,
            loads=self.loads,
            arrivals=self.arrivals,
        )
        return FittedBestEffort(
            names=outcomes.names,
            scorer=scorer,
            network=train(honest, work, servers, settings, rng=rng),
            slots=servers.slots.astype(np.float64),
            work=float(mean.mean()),
            deadline=deadline,
            window=deadline,
            costs=fit_costs(outcomes),
        )

    def _servers(self, m: int) -> Servers:
        columns = []
        for field in ("slope", "slots"):
            value = np.atleast_1d(np.asarray(getattr(self, field), dtype=np.float64))
            if len(value) not in (1, m):
                hint = "Give one number for all."
                raise InputError(f"best_effort.{field}", f"hold 1 or {m} numbers", value, hint)
            columns.append(np.broadcast_to(value, (m,)))
        return Servers(columns[0].copy(), columns[1].astype(np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedBestEffort:
    """A policy of the prompt and the load; by itself it routes for destinations at rest.

    Parameters
    ----------
    names : tuple of str
    scorer : TextScorer
        Log-odds of a good answer, by words.
    network : QNetwork
    slots : array (m,)
        Requests at the same time by which loads are scaled.
    work : float
        Mean seconds of an answer at rest.
    deadline, window : float
        Seconds: when an answer is late, and over how long arrivals are to be counted.
    costs : CostModel
    """

    names: tuple[str, ...]
    scorer: TextScorer
    network: QNetwork
    slots: Float
    work: float
    deadline: float
    window: float
    costs: CostModel

    def under(self, load: Load) -> Loaded:
        """The same policy as a predictor at one load.

        Parameters
        ----------
        load : Load
            In flight (m,) in the order of `names`, and arrivals a second over `window`.

        Raises
        ------
        InputError
            The load counts other destinations than these.
        """
        return Loaded(self, load)

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Quality delivered (n, m) and cost (n, m), with nothing in flight.

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        return self.under(Load(np.zeros(len(self.names)))).predict(inputs)

    def quality(self, inputs: Inputs) -> Float:
        """Quality (n, m) told by the words alone, whatever the load."""
        known = self.scorer.features.transform(texts_of(inputs))
        return np.asarray(sigmoid(known @ self.scorer.weights + self.scorer.intercept), dtype=float)

    def delivered(self, quality: Float, load: Load) -> Float:
        """Quality delivered (n, m) of prompts with this predicted quality (n, m) at a load."""
        full = np.minimum(load.in_flight / self.slots, 4.0)
        tail = np.append(full, np.log1p(load.rate * self.work))
        worth = self.network.values(
            np.hstack([quality, np.broadcast_to(tail, (len(quality), len(tail)))])
        )
        top = quality.max(axis=1, keepdims=True)
        value = top + worth - worth.max(axis=1, keepdims=True)
        bent = _FLOOR * np.exp(np.minimum(value / _FLOOR, 1.0) - 1.0)
        return np.asarray(np.where(value >= _FLOOR, value, bent))


@dataclass(frozen=True, eq=False)
class Loaded:
    """A policy at one load: a predictor, so that it has a price and a curve like any other.

    Parameters
    ----------
    policy : FittedBestEffort
    load : Load
    """

    policy: FittedBestEffort
    load: Load

    def __post_init__(self) -> None:
        m = len(self.policy.names)
        _check.expect_shape("load.in_flight", self.load.in_flight, (m,))

    @property
    def names(self) -> tuple[str, ...]:
        """The m destinations."""
        return self.policy.names

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Quality delivered (n, m) and cost (n, m) at this load."""
        texts: Sequence[str] = texts_of(inputs)
        quality = self.policy.delivered(self.policy.quality(texts), self.load)
        return quality, self.policy.costs.predict(texts)

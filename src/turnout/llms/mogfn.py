"""Sends a prompt down a cascade of models picked from a varied set of Pareto-optimal ones.

Routes: requests to language models, one after another. A cascade says which models to ask, in
which order, and how good an answer must be judged to be kept. There are too many to try, they
trade quality against cost and latency, and several good ones that differ are worth more than one.

Idea. A generative flow network builds objects step by step and samples them in proportion to a
reward; given a preference among the objectives it samples the whole family of trade-offs
(Multi-Objective GFlowNets, 2022, arXiv:2210.12765). Here the objects are cascades::

    x          = ((j_1, tau_1), ..., (j_s, -inf))        a word of `parts.chains.Alphabet`
    R_1(x)     = (quality - worst single) / (oracle - worst single)        clipped to [0, 1]
    R_2(x)     = 1 - cost / mean cost of the dearest single                clipped to [0, 1]
    R_3(x)     = 1 - latency / that of the slowest single                  clipped to [0, 1]
    R(x | w)   = sum_i w_i R_i(x)                        w on the simplex
    P(x | w)   = R(x | w)^beta / Z(w)                    by trajectory balance, `nn.gflownet`

quality, cost and latency are those of playing x on the table (`parts.chains.Played`), where the
judge of an answer has not seen its row (four folds, each judged by the others). The thresholds of
a model are `levels` values spaced evenly between the 5th and the 95th percentile of its scores.
After training, `samples` cascades are drawn for each preference of a grid, and those that none of
the drawn ones beats are kept, one of those that do the same with the same models.

Decision: `argmax_x quality(x) - price * cost(x)` over the kept cascades and the m single models,
ties to the cheaper: the knob is the price, in quality per unit of cost, and the curve is exact
in the figures of the table. `Budget(mean_cost)` takes the best cascade within it,
`Budget(mean_quality)` the cheapest that reaches it. All items of a batch take the same cascade;
where each stops is read from its answers.

Shapes: n items, m models, p kept cascades of at most s steps. Costs in the table's currency,
latency in seconds. Fallback: cascades that name a model which is down or not in the pool are
passed over; the single models that are up always remain. A cell that was never seen counts as its
model's mean. Without latencies only the first two objectives are there.

Differs from the paper: see `CARD.differs`. Cost: fit: `steps` updates on `batch` cascades, each
new cascade played once in O(n s); route: O(p); a step: one judgement of an answer.

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
>>> fitted = Mogfn(steps=60, batch=16, width=16).fit(table, table.pool(), rng=rng)
>>> best = fitted.cascades()[-1]
>>> best.names, best.quality, best.cost
(('small', 'large'), 1.0, 6.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import (
    Assignment,
    Budget,
    Card,
    Frontier,
    InputError,
    Inputs,
    MissingExtraError,
    Outcomes,
    Pool,
    _check,
)
from turnout.core._check import Float, Int
from turnout.parts.chains import Alphabet, Played, Rewards, alphabet_of, judged_table
from turnout.parts.learners.judge import Judge
from turnout.parts.pareto import non_dominated, simplex
from turnout.parts.priced import columns
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "Cascade", "FittedMogfn", "Mogfn"]

CARD = Card(
    name="llms.mogfn",
    system="MOGFN-PC",
    title="Multi-Objective GFlowNets",
    authors="Jain, Raparthy, Hernandez-Garcia, Rector-Brooks, Bengio, Miret, Bengio",
    year=2022,
    id="arXiv:2210.12765",
    routes="requests to language models, down one of several Pareto-optimal cascades",
    kind="policy",
    recipe="Mogfn",
    signal=("outcomes", "answers"),
    covers=(
        "Preference-conditional GFlowNets: trajectory balance under Dirichlet preferences, "
        "thermometer codes, weighted-sum, weighted-log and Tchebycheff rewards",
        "hypervolume, R2 and diversity of what a fixed number of samples finds",
    ),
    differs=(
        "The objects are cascades of language models; the paper makes molecules and sequences.",
        "The policy is a network of two hidden layers over all letters; the paper has a "
        "transformer of three layers.",
        "Fewer and larger steps: thousands of training steps at 1e-4 are for larger spaces.",
        "The inverse temperature is fixed and so is not told to the network.",
        "No weight decay; step sizes fall over the second half of the training.",
        "The Tchebycheff reward is turned so that more is better; released code leaves it be.",
        "The active-learning variant (MOGFN-AL) and focus regions are not built: every cascade "
        "can be played on the table at once, so that no surrogate is needed.",
    ),
    needs=("torch",),
    properties=("learns", "price_monotone", "per_item", "sequential"),
    aliases=("gflownet", "multi-objective", "pareto", "mogfn-pc"),
    cost="fit: steps * batch * s network rows and O(n s) a new cascade; route O(p)",
)


@dataclass(frozen=True)
class Mogfn:
    """Recipe of a set of Pareto cascades.

    Parameters
    ----------
    objectives : int
        2 = quality and cost, 3 = latency too, where the table has it.
    length : int
        Most models a cascade asks, >= 1.
    levels : int
        Thresholds a model has, >= 0; 0 leaves single models.
    beta : float
        Inverse temperature, > 0: the greater, the closer to the best alone.
    steps, batch, width : int
        Updates, cascades an update, hidden units; each >= 1.
    samples : int
        Cascades drawn for each preference after training, >= 1.
    bins : int
        Preferences are multiples of 1 / bins, >= 1.
    penalty : float
        Of the judge, > 0.

    Raises
    ------
    InputError
        A value is out of range.
    """

    objectives: int = 2
    length: int = 3
    levels: int = 5
    beta: float = 32.0
    steps: int = 600
    batch: int = 64
    width: int = 64
    samples: int = 64
    bins: int = 10
    penalty: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("mogfn.objectives", self.objectives, low=2, high=3)
        _check.integer("mogfn.levels", self.levels, low=0)
        _check.number("mogfn.beta", self.beta, low=1e-9)
        _check.number("mogfn.penalty", self.penalty, low=1e-9)
        for name in ("length", "steps", "batch", "width", "samples", "bins"):
            _check.integer(f"mogfn.{name}", getattr(self, name), low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedMogfn:
        """Judge the answers, train the network, draw cascades and keep the unbeaten.

        Raises
        ------
        InputError
            The inputs are not texts.
        MissingExtraError
            torch is not installed.
        """
        table, judge = judged_table(outcomes, penalty=self.penalty, rng=rng)
        alphabet = alphabet_of(table, self.levels, self.length)
        d = self.objectives if outcomes.latency is not None else 2
        drawn = self._draw(alphabet, table, d, rng)
        singles = [(j * alphabet.each + alphabet.each - 1,) for j in range(alphabet.m)]
        words = sorted({*drawn, *((*one, *[-1] * (alphabet.length - 1)) for one in singles)})
        chains = [alphabet.read(word) for word in words]
        figures = np.array([table.play(chain) for chain in chains])
        kept = non_dominated(_signed(figures)[:, :d])
        kept |= np.array([len(chain.columns) == 1 for chain in chains])
        met: set[object] = set()
        for row in np.flatnonzero(kept).tolist():
            same = (chains[row].columns, *figures[row].tolist())
            kept[row] = same not in met
            met.add(same)
        some = [chain for chain, keep in zip(chains, kept, strict=True) if keep]
        shape = (len(some), alphabet.length)
        asked, cut = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf)
        ends = np.zeros(shape)
        for row, chain in enumerate(some):
            s = len(chain.columns)
            asked[row, :s], cut[row, :s] = chain.columns, chain.thresholds
            ends[row, :s] = table.ends(chain)
        return FittedMogfn(
            names=outcomes.names,
            judge=judge,
            asked=asked,
            thresholds=cut,
            ends=ends,
            figures=figures[kept],
        )

    def _draw(
        self, alphabet: Alphabet, table: Played, d: int, rng: Generator
    ) -> set[tuple[int, ...]]:
        """The different cascades among those drawn after training."""
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "torch") from error
        from turnout.nn.gflownet import GFlowNet, Training, balance

        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        network = GFlowNet(
            alphabet.letters, alphabet.length, d, width=self.width, generator=generator
        )
        training = Training(steps=self.steps, batch=self.batch, beta=self.beta)
        balance(network, alphabet, Rewards(alphabet, table, d), training, rng=rng)
        drawn: set[tuple[int, ...]] = set()
        for preference in simplex(d, self.bins):
            w = torch.as_tensor(preference, dtype=torch.float32)
            tokens = network.sample(self.samples, w, alphabet, generator=generator)
            drawn.update(tuple(word) for word in tokens.tolist())
        return drawn


def _signed(figures: Float) -> Float:
    """Figures (p, 3) with every objective to be made large."""
    return np.asarray(figures * np.array([1.0, -1.0, -1.0]))


@dataclass(frozen=True)
class Cascade:
    """One kept cascade in words.

    Parameters
    ----------
    names : tuple of str
        Models in the order they are asked.
    thresholds : tuple of float
        Judged quality at which each one's answer is kept; minus infinity for the last.
    quality, cost, latency : float
        Means over the table it was found on.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    quality: float
    cost: float
    latency: float


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedMogfn:
    """The kept cascades and the judge of answers: a sequential router.

    Parameters
    ----------
    names : tuple of str
    judge : Judge
    asked : array of int (p, s)
        Columns in the order they are asked; -1 after the last.
    thresholds : array (p, s)
    ends : array (p, s)
        Share of the items that end at each step.
    figures : array (p, 3)
        Mean quality, cost and latency on the table.
    """

    names: tuple[str, ...]
    judge: Judge
    asked: Int
    thresholds: Float
    ends: Float
    figures: Float

    def cascades(self) -> tuple[Cascade, ...]:
        """The kept cascades by rising cost, the beaten single models left out."""
        good = np.flatnonzero(non_dominated(_signed(self.figures)))
        order = good[np.lexsort((self.figures[good, 0], self.figures[good, 1]))]
        return tuple(
            Cascade(
                tuple(self.names[j] for j in self.asked[i] if j >= 0),
                tuple(self.thresholds[i][self.asked[i] >= 0].tolist()),
                *self.figures[i].tolist(),
            )
            for i in order
        )

    def curve(self) -> Frontier:
        """What each budget buys, by the figures of the table."""
        return Frontier(self.figures[:, 1], self.figures[:, 0])

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """The plan: whom to ask in which order, and the share of items that ends at each step.

        Raises
        ------
        InputError
            The pool holds an unknown model, or the budget cannot be met by the figures.
        """
        n = len(texts_of(inputs))
        pick, place = self._pick(pool, budget)
        asked = self.asked[pick][self.asked[pick] >= 0]
        index = np.tile(place[asked], (n, 1))
        weight = np.tile(self.ends[pick][: len(asked)], (n, 1))
        return Assignment(index, weight, pool.m)

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
        """Next model of each input, (n,); -1 = keep the last answer.

        A row that left the cascade of this budget keeps what it has.
        """
        texts, steps = texts_of(inputs), np.asarray(asked, dtype=np.int64)
        n = len(texts)
        if steps.ndim != 2 or len(steps) != n or len(answers) != n:
            rule = f"hold one row of steps for each of the {n} inputs"
            raise InputError("asked and answers", rule, steps.shape, "Pass them aligned.")
        pick, place = self._pick(pool, budget)
        chain = place[self.asked[pick][self.asked[pick] >= 0]]
        following = np.full(n, -1, dtype=np.int64)
        s = steps.shape[1]
        if s == 0:
            following[:] = chain[0]
            return following
        if s >= len(chain) or n == 0:
            return following
        on = (steps == chain[:s]).all(axis=1)
        rows = np.flatnonzero(on)
        if len(rows):
            column = np.full(len(rows), self.asked[pick, s - 1])
            judged = self.judge.score(
                [texts[int(i)] for i in rows], [answers[int(i)][-1] for i in rows], column
            )
            following[rows[judged < self.thresholds[pick, s - 1]]] = chain[s]
        return following

    def _pick(self, pool: Pool, budget: Budget) -> tuple[int, Int]:
        """The row of the cascade that a budget takes, and the place of each column in the pool."""
        known = columns(self.names, pool)
        place = np.full(len(self.names) + 1, -1, dtype=np.int64)  # the last for what is not asked
        up = np.flatnonzero(pool.available)
        place[known[up]] = up
        usable = ((self.asked < 0) | (place[self.asked] >= 0)).all(axis=1)
        rows = np.flatnonzero(usable)
        quality, cost = self.figures[rows, 0], self.figures[rows, 1]
        if budget.mean_cost is not None:
            within = cost <= budget.mean_cost * (1 + 1e-12)
            if not within.any():
                raise InputError(
                    "budget.mean_cost",
                    f"be at least {cost.min():.6g}, the mean cost of the cheapest cascade",
                    budget.mean_cost,
                    "Raise the budget or add a cheaper model.",
                )
            worth = np.where(within, quality, -np.inf)
        elif budget.mean_quality is not None:
            reached = quality >= budget.mean_quality - 1e-12
            if not reached.any():
                raise InputError(
                    "budget.mean_quality",
                    f"be at most {quality.max():.6g}, the best mean quality of a cascade",
                    budget.mean_quality,
                    "Lower the floor or add a better model.",
                )
            worth = np.where(reached, -cost, -np.inf)
        else:
            worth = quality - (budget.price or 0.0) * cost
        best = np.flatnonzero(worth == worth.max())
        return int(rows[best[np.argmin(cost[best])]]), place[:-1]

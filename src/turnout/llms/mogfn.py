"""Sends a prompt down a cascade, or within a pool, that none of many varied others beats.

Routes: requests to language models. `Mogfn`: one after another, down a cascade that says whom to
ask, in which order, and how good an answer must be judged to be kept. `MogfnPools`: to one of the
few models worth keeping at all. There are too many cascades and pools to try, they trade quality
against cost, latency and number, and several good ones that differ are worth more than one.

Idea. A generative flow network builds objects step by step and samples them in proportion to a
reward; given a preference among the objectives it samples the whole family of trade-offs
(Multi-Objective GFlowNets, 2022, arXiv:2210.12765)::

    x        = ((j_1, tau_1), ..., (j_s, -inf))          a cascade, `parts.chains`
    x        = ({j_1 < ... < j_s}, price)                a pool and its price, `parts.pools`
    R_i(x)   in [0, 1]: quality, and savings of cost, latency, size        `parts.tradeoffs`
    R(x | w) = sum_i w_i R_i(x)                          w on the simplex, or another `scalar`
    P(x | w) = R(x | w)^beta / Z(w)                      by trajectory balance, `nn.gflownet`

What x is worth is what playing it on the table shows, each row judged (cascades: the answers) or
routed (pools: quality and cost of every model) by what was fitted without it. Thresholds are
`levels` values spaced evenly between the 5th and the 95th percentile of a model's scores; prices
are 0 and those that part the changes of choice evenly. After training, `samples` objects are drawn
for each preference of a grid, and those that none of the drawn ones beats are kept. Of pools all
that were ever played count, and those whose whole curve none as small beats are kept too.

Decision, cascades: `argmax_x quality(x) - price * cost(x)` over the kept ones and the m single
models, ties to the cheaper: the knob is the price, in quality per unit of cost, and the curve is
exact in the figures of the table. `Budget(mean_cost)` takes the best cascade within it,
`Budget(mean_quality)` the cheapest that reaches it. All items of a batch take the same cascade;
where each stops is read from its answers. Cascades that name a model which is down or not there
are passed over; the single models that are up always remain.

Decision, pools: `argmax_j quality - price * cost` over the models of one pool: for a price that of
the best whole curve, so that no contract follows the price of the hour, for a target the one that
fits it; `fitted.pools()` lists what is kept, `fitted.within(budget, most=3)` settles for one.
Fallbacks: see `parts.pools.KeptPools`.

Shapes: n items, m models, p kept objects of at most s steps. Costs in the table's currency,
latency in seconds. A cell that was never seen counts as its model's mean. On a table without
latencies cascades have the first two objectives only, and pools refuse the third.

Differs from the paper: see `CARD.differs`. Cost: fit: `steps` updates on `batch` objects, each
new one played once in O(n s); route: O(p), or one prediction; a step: one judgement of an answer.

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
>>> prompts = ["add two numbers", "write a poem", "add ten numbers", "recite a poem"] * 10
>>> table = Outcomes(
...     inputs=prompts,
...     names=("counter", "large", "poet"),
...     quality=np.array([[1, 1, 0], [0, 1, 1]] * 20),
...     cost=np.array([[1.0, 9.0, 2.0]] * 40),
... )
>>> recipe = MogfnPools(steps=20, batch=8, width=8, bins=3)
>>> fitted = recipe.fit(table, table.pool(), rng=rng)
>>> fitted.kept, fitted.pools()[-1].quality, fitted.pools()[-1].cost
(('counter', 'poet'), 1.0, 1.5)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, MissingExtraError, Outcomes, Pool, Recipe, _check
from turnout.core._check import Float, Int
from turnout.parts.chains import Alphabet, KeptChains, alphabet_of, judged_table, keep_chains
from turnout.parts.learners.committee import fit_predictor
from turnout.parts.learners.plain import Plain
from turnout.parts.pools import KeptPools, Sets, best_curves, keep_pools, prices_of, told
from turnout.parts.tradeoffs import OBJECTIVES, SCALARS, Rewards, unbeaten

__all__ = ["CARD", "Mogfn", "MogfnPools"]

CARD = Card(
    name="llms.mogfn",
    system="MOGFN-PC",
    title="Multi-Objective GFlowNets",
    authors="Jain, Raparthy, Hernandez-Garcia, Rector-Brooks, Bengio, Miret, Bengio",
    year=2022,
    id="arXiv:2210.12765",
    routes="requests to language models, down a Pareto-optimal cascade or within such a pool",
    kind="policy",
    recipe="Mogfn",
    signal=("outcomes", "answers"),
    covers=(
        "Preference-conditional GFlowNets: trajectory balance under Dirichlet preferences, "
        "thermometer codes; weighted-sum, weighted-log and Tchebycheff rewards to choose from",
        "cascades (Mogfn) and pools of models to keep (MogfnPools) as objects",
        "hypervolume, R2 and diversity of what a fixed number of samples finds",
    ),
    differs=(
        "The objects are cascades and pools of language models; the paper makes molecules and "
        "sequences.",
        "The policy is a network of two hidden layers over all letters; the paper has a "
        "transformer of three layers.",
        "Fewer and larger steps: thousands of training steps at 1e-4 are for larger spaces.",
        "The inverse temperature is fixed and so is not told to the network.",
        "No weight decay; step sizes fall over the second half of the training.",
        "The Tchebycheff reward is turned so that more is better; released code leaves it be.",
        "Pools are kept from all that was played, training included, and by their whole curve too; "
        "the paper keeps samples.",
        "The active-learning variant (MOGFN-AL) and focus regions are not built: every cascade "
        "and pool can be played on the table at once, so that no surrogate is needed.",
    ),
    needs=("torch",),
    properties=("learns", "price_monotone", "per_item", "sequential"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("gflownet", "multi-objective", "pareto", "mogfn-pc"),
    cost="fit: steps * batch * s network rows and O(n s) a new object; route O(p) or a prediction",
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
    scalar : str
        "sum", "log" (a product) or "tchebycheff": how several rewards become one.
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
    scalar: str = "sum"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("mogfn.objectives", self.objectives, low=2, high=3)
        _check.integer("mogfn.levels", self.levels, low=0)
        _check.integer("mogfn.length", self.length, low=1)
        _check.number("mogfn.penalty", self.penalty, low=1e-9)
        _check_search("mogfn", self)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> KeptChains:
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
        wanted = OBJECTIVES[: self.objectives if outcomes.latency is not None else 2]
        rewards = Rewards(alphabet, table, wanted)
        drawn = _draw(self, alphabet, rewards, len(wanted), rng)
        ends = range(alphabet.each - 1, alphabet.letters, alphabet.each)
        singles = {(end, *[-1] * (alphabet.length - 1)) for end in ends}
        words = sorted(drawn | singles)
        chains = [alphabet.read(word) for word in words]
        figures = np.array([rewards.play(word) for word in words])
        first = set(unbeaten(chains, figures, wanted).tolist())
        chosen = [c for i, c in enumerate(chains) if i in first or words[i] in singles]
        return keep_chains(outcomes.names, judge, table, chosen)


@dataclass(frozen=True)
class MogfnPools:
    """Recipe of a set of Pareto pools: which models to keep, before any is chosen for a prompt.

    Parameters
    ----------
    size : int, optional
        Most models to keep, 1 to m; by default m.
    upkeep : float
        Mean quality over all budgets that one more model must add to be worth keeping, in [0, 1].
    objectives : tuple of str
        "quality" first, then of "cost", "latency" and "size" one or more.
    inside : Recipe, optional
        Chooses among the models of a pool, and must predict; by default a logistic regression
        over words (`parts.learners.plain`). Fitted `folds` + 1 times.
    levels : int
        Prices at which pools are played, >= 1.
    folds : int
        Parts that are held out in turn, >= 2.
    beta, steps, batch, width, samples, bins, scalar
        As in `Mogfn`.

    Raises
    ------
    InputError
        A value is out of range.
    """

    size: int | None = None
    upkeep: float = 0.005
    objectives: tuple[str, ...] = ("quality", "cost", "size")
    inside: Recipe | None = None
    levels: int = 4
    folds: int = 4
    beta: float = 32.0
    steps: int = 600
    batch: int = 64
    width: int = 64
    samples: int = 64
    bins: int = 10
    scalar: str = "sum"

    def __post_init__(self) -> None:
        if self.size is not None:
            _check.integer("mogfn_pools.size", self.size, low=1)
        _check.number("mogfn_pools.upkeep", self.upkeep, low=0.0, high=1.0)
        wanted = tuple(self.objectives)
        others = set(wanted[1:])
        if wanted[:1] != OBJECTIVES[:1] or not others or len(others) < len(wanted) - 1:
            rule = "be 'quality' and one or more others, none twice"
            hint = "Such as ('quality', 'cost', 'size')."
            raise InputError("mogfn_pools.objectives", rule, self.objectives, hint)
        if not others <= set(OBJECTIVES[1:]):
            rule = f"be among {', '.join(OBJECTIVES)}"
            raise InputError("mogfn_pools.objectives", rule, self.objectives, "Correct it.")
        if self.inside is not None and not callable(getattr(self.inside, "fit", None)):
            hint = "Pass a recipe, such as Stacked()."
            raise InputError("mogfn_pools.inside", "have a method fit", self.inside, hint)
        _check.integer("mogfn_pools.levels", self.levels, low=1)
        _check.integer("mogfn_pools.folds", self.folds, low=2)
        _check_search("mogfn_pools", self)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> KeptPools:
        """Predict out of fold, train the network, draw pools and keep the unbeaten.

        Raises
        ------
        InputError
            `size` is more than there are models, latency is wanted and was not recorded, all
            inputs are the same, or `inside` does not fit the table.
        MissingExtraError
            torch is not installed.
        """
        most = outcomes.m if self.size is None else self.size
        _check.integer("mogfn_pools.size", most, low=1, high=outcomes.m)
        if "latency" in self.objectives and outcomes.latency is None:
            hint = "Leave 'latency' out, or record it."
            raise InputError("outcomes.latency", "be there, as it is wanted", None, hint)
        inside: Recipe = self.inside or Plain()
        table = told(inside, outcomes, folds=self.folds, rng=rng)
        sets = Sets(outcomes.names, prices_of(table, self.levels), most)
        rewards = Rewards(sets, table, self.objectives)
        drawn = _draw(self, sets, rewards, len(self.objectives), rng)
        singles = {(j, outcomes.m, *[-1] * (most - 1)) for j in range(outcomes.m)}
        # what was met in training is as well known as what was drawn after it
        words = sorted({*drawn, *singles, *rewards.figures})
        found = [sets.read(word) for word in words]
        figures = np.array([rewards.play(word) for word in words])
        chosen = [found[i] for i in unbeaten(found, figures, self.objectives)]
        chosen += best_curves(table, (pool.columns for pool in found))
        predictor = fit_predictor(inside, outcomes, pool, rng)
        return keep_pools(
            outcomes.names, predictor, table, tuple(dict.fromkeys(chosen)), upkeep=self.upkeep
        )


def _check_search(name: str, recipe: Mogfn | MogfnPools) -> None:
    """The fields that both recipes have."""
    _check.number(f"{name}.beta", recipe.beta, low=1e-9)
    for field in ("steps", "batch", "width", "samples", "bins"):
        _check.integer(f"{name}.{field}", getattr(recipe, field), low=1)
    if recipe.scalar not in SCALARS:
        rule = f"be one of {', '.join(SCALARS)}"
        raise InputError(f"{name}.scalar", rule, recipe.scalar, "Choose one.")


def _draw(
    recipe: Mogfn | MogfnPools,
    space: Alphabet | Sets,
    rewards: Callable[[Int], Float],
    d: int,
    rng: Generator,
) -> set[tuple[int, ...]]:
    """The different objects among those drawn after training."""
    try:
        from turnout.nn.gflownet import Training, drawn
    except ImportError as error:
        raise MissingExtraError("torch", "torch") from error
    return drawn(
        space,
        rewards,
        d,
        Training(steps=recipe.steps, batch=recipe.batch, beta=recipe.beta),
        width=recipe.width,
        samples=recipe.samples,
        bins=recipe.bins,
        scalarise=SCALARS[recipe.scalar],
        rng=rng,
    )

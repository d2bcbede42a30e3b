"""Sends a prompt to the expert that its category is given, from a set of experts that fits.

Routes whole requests to language models. Which of several close models does best on one prompt is
nearly noise, so that it is not learnt. Two steps are: the category of a prompt, which can be
learnt well, and a table that gives each category an expert, which is solved for, together with
the choice of the experts to keep under a limit on their total size.

Equations, with the variable of each symbol::

    v_c(x) = share of the k nearest prompts that are of category c      votes (b, c)
    u(x) = -sum_c v_c log v_c                                           uncertainty (b,)
    F(x) = argmax_c v_c(x),  or `general` where u(x) > threshold        category (b,)
    s_ck = (sum_{i in c} q_ik + kappa mean_k) / (n_c + kappa)           score (c + 1, m)
    s_general,k = mean_k, the mean of expert k over all prompts
    maximise over sets S   sum_c share_c max_{k in S} s_ck
        subject to         sum_{k in S} size_k <= B                     B `size_budget`
    G(c) = argmax_{k in S} s_ck                                         ties to the smaller

q in [0, 1] is the quality seen. The threshold is that above which a share `uncertain` of rows lies
that a quarter of the table, held out, was asked about. Sizes are in any one unit (billions of
parameters, say), and B is in it too; experts without a size count 1, so that B is then their
number. Every set is looked at for 14 experts or fewer, which is exact; beyond, sets are grown
greedily. `FittedComposition.frontier` gives the whole curve of value against size.

Without B, every expert stays and the fitted thing is a predictor of s_F(x),k: the shared decision,
quality - price * cost, gives its curve against the cost of answers. With B it is `Deployed`, the
same decision over the experts kept. Size is memory, cost is money: two limits, both kept.

Differs from the paper: see `CARD.differs`. Cost: O(n d) a prompt; fit O(2^m c m).

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [0.0, 1.0]] * 20),
...     names=("coder", "writer", "both"),
...     quality=np.array([[0.9, 0.1, 0.7], [0.2, 0.8, 0.7]] * 20),
...     cost=np.ones((40, 3)),
...     group=("code", "prose") * 20,
... )
>>> recipe = CompositionOfExperts(sizes={"coder": 7.0, "writer": 7.0, "both": 9.0}, kappa=0.0)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.frontier().cost.tolist(), fitted.frontier().quality.round(2).tolist()
([7.0, 9.0, 14.0], [0.55, 0.7, 0.85])
>>> fitted.deploy(10.0).names
('both',)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import (
    Assignment,
    Budget,
    Card,
    Frontier,
    InputError,
    Inputs,
    Outcomes,
    Pool,
    _check,
)
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.clusters import group_means, kmeans
from turnout.parts.learners.crossfit import identities
from turnout.parts.learners.neighbours import Memory
from turnout.parts.portfolio import best_set, possible_sets
from turnout.parts.priced import columns, one_choice
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "CompositionOfExperts", "Deployed", "FittedComposition"]

CARD = Card(
    name="llms.composition_of_experts",
    system="Composition of Experts (CoE)",
    title="Composition of Experts: A Modular Compound AI System Leveraging Large Language Models",
    authors="Jain, Raju, Li, Csaki, Li, Liang, Feng, Thakkar, Sampat, Prabhakar, Jairath",
    year=2024,
    id="arXiv:2412.01868",
    routes="a prompt to a language model",
    kind="score",
    recipe="CompositionOfExperts",
    signal=("outcomes",),
    covers=(
        "The two-step router: a category router, and a mapping from category to expert",
        "The choice of experts under a limit on the sum of their parameters",
        "Uncertainty of the category router: doubtful prompts go to a general category",
    ),
    differs=(
        "The choice of experts is solved by looking at every set (14 experts or fewer) instead "
        "of by a mixed-integer program; the optimum is the same.",
        "The statistic of uncertainty and its threshold are not published: the entropy of the "
        "neighbours' votes, and a target share of doubtful prompts, on rows held out.",
        "Scores of a category are drawn towards the expert's overall mean by a few rows' weight; "
        "kappa=0 is the plain mean. Grades of the table stand in for win rates by a judge.",
        "The default encoder is a truncated SVD of TF-IDF; the published router embeds with seven "
        "billion parameters.",
        "Where the table has no labels, categories are k-means clusters of the prompts.",
        "The paper's other limit, on the mean number of active parameters, is the shared budget "
        "of mean cost over a table whose costs are sizes.",
        "Copying experts between slow and fast memory is not built here; it is a placement.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"), ("size_budget", "sum of the sizes kept")),
    aliases=("coe", "samba-coe", "two-step router", "expert selection"),
    cost="fit: O(n d + 2^m c m); route: O(n d + n c) an item; memory 4 n d bytes",
)

_STATISTICS = ("entropy", "votes")
_CATEGORIES = ("auto", "group", "kmeans")


@dataclass(frozen=True)
class CompositionOfExperts:
    """Recipe of a two-step router.

    Parameters
    ----------
    k : int
        Neighbours that vote for a category, >= 1.
    uncertain : float
        Share of prompts meant to be doubtful, in [0, 0.9]; 0 = none is ever sent to `general`.
    statistic : str
        Of doubt: "entropy" of the votes, or "votes", one minus the largest share.
    kappa : float
        Weight of an expert's overall mean in each category, in rows; >= 0.
    categories : str
        "group": the table's labels. "kmeans": clusters of the prompts. "auto": labels where the
        table has them, clusters where not.
    c : int
        Clusters, >= 1, where there are no labels.
    sizes : mapping of str to float
        Size of each expert, > 0, in one unit; 1 where none is given.
    size_budget : float, optional
        Most that the experts kept may add up to, > 0, in the unit of `sizes`.
    general : str
        Expert of the general category, which is then always kept; "" = the best kept.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range, or there is no such statistic, kind of category or encoder.
    """

    k: int = 20
    uncertain: float = 0.1
    statistic: str = "entropy"
    kappa: float = 5.0
    categories: str = "auto"
    c: int = 16
    sizes: Mapping[str, float] = field(default_factory=dict, hash=False)
    size_budget: float | None = None
    general: str = ""
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        where = "composition_of_experts"
        _check.integer(f"{where}.k", self.k, low=1)
        _check.number(f"{where}.uncertain", self.uncertain, low=0.0, high=0.9)
        _one_of(f"{where}.statistic", self.statistic, _STATISTICS)
        _check.number(f"{where}.kappa", self.kappa, low=0.0)
        _one_of(f"{where}.categories", self.categories, _CATEGORIES)
        _check.integer(f"{where}.c", self.c, low=1)
        for name, size in self.sizes.items():
            _check.number(f"{where}.sizes[{name!r}]", size, low=1e-12)
        if self.size_budget is not None:
            _check.number(f"{where}.size_budget", self.size_budget, low=1e-12)
        check_name(self.encoder)
        _check.integer(f"{where}.d", self.d, low=1)

    def fit(
        self, outcomes: Outcomes, pool: Pool, *, rng: Generator
    ) -> FittedComposition | Deployed:
        """Learn categories and scores; with a limit on size, choose the experts to keep.

        Raises
        ------
        InputError
            The table has no labels and `categories` is "group", `general` is no expert, or
            nothing fits the limit.
        """
        if self.general and self.general not in outcomes.names:
            rule = f"be a destination ({', '.join(outcomes.names)}) or ''"
            raise InputError("composition_of_experts.general", rule, self.general, "Name one.")
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        keys = encoder.encode(outcomes.inputs)
        label, names = self._labels(outcomes, keys, rng)
        votes = np.eye(len(names))[label]
        threshold, general = self._threshold(outcomes, keys, votes, rng)
        mean = outcomes.mean_quality()
        score = group_means(outcomes.quality, label, len(names), shrink=self.kappa)
        fitted = FittedComposition(
            names=outcomes.names,
            encoder=encoder,
            categories=(*names, "general"),
            memory=Memory(keys=keys, values=votes, k=self.k),
            statistic=self.statistic,
            threshold=threshold,
            score=np.vstack((score, mean)),
            share=np.append((1.0 - general) * votes.mean(axis=0), general),
            size=np.array([float(self.sizes.get(name, 1.0)) for name in outcomes.names]),
            forced=outcomes.names.index(self.general) if self.general else -1,
            costs=fit_costs(outcomes),
        )
        return fitted if self.size_budget is None else fitted.deploy(self.size_budget)

    def _labels(
        self, outcomes: Outcomes, keys: NDArray[np.float32], rng: Generator
    ) -> tuple[Int, tuple[str, ...]]:
        """Category of each row, (n,), and the names of the categories."""
        if outcomes.group is not None and self.categories != "kmeans":
            names, label = np.unique(np.array(outcomes.group), return_inverse=True)
            return label.astype(np.int64), tuple(names.tolist())
        if self.categories == "group":
            hint = "Give labels, or set categories='kmeans'."
            raise InputError("outcomes.group", "label every row with its category", None, hint)
        partition = kmeans(keys, self.c, rng=rng)
        return partition.label, tuple(f"cluster {i}" for i in range(len(partition.centres)))

    def _threshold(
        self, outcomes: Outcomes, keys: NDArray[np.float32], votes: Float, rng: Generator
    ) -> tuple[float, float]:
        """Doubt above which a prompt is general, and the share of held-out rows above it."""
        which = identities(outcomes.inputs)
        held = rng.permutation(int(which.max()) + 1)[which] % 4 == 0
        if self.uncertain == 0.0 or held.all() or not held.any():
            return float("inf"), 0.0
        memory = Memory(keys=keys[~held], values=votes[~held], k=self.k)
        doubt = _doubt(memory.means(keys[held]), self.statistic)
        threshold = float(np.quantile(doubt, 1.0 - self.uncertain))
        return threshold, float((doubt > threshold).mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedComposition:
    """Categories, what every expert is worth in each, and how large it is.

    Parameters
    ----------
    names : tuple of str
        The m experts.
    encoder : Encoder
    categories : tuple of str
        c of them, and "general" last.
    memory : Memory
        Prompts (n, d) and their categories (n, c), one in each row.
    statistic : str
    threshold : float
        A prompt of more doubt is general.
    score : array (c + 1, m)
    share : array (c + 1,)
        Of prompts; sums to one.
    size : array (m,)
    forced : int
        Expert of the general category, -1 = the best.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    categories: tuple[str, ...]
    memory: Memory
    statistic: str
    threshold: float
    score: Float
    share: Float
    size: Float
    forced: int
    costs: CostModel

    def category(self, inputs: Inputs) -> Int:
        """Category of each input, (b,); the last is `general`. Equal votes go to the first."""
        votes = self.memory.means(self.encoder.encode(inputs))
        doubtful = _doubt(votes, self.statistic) > self.threshold
        found = (votes >= votes.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1)
        return np.where(doubtful, len(self.categories) - 1, found)

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Score of every expert in the input's category (b, m), and cost (b, m)."""
        return self._worth()[self.category(inputs)], self.costs.predict(inputs)

    def deploy(self, size_budget: float) -> Deployed:
        """Keep the best set of experts whose sizes add up to no more.

        Raises
        ------
        InputError
            Nothing fits; the least that does is named.
        """
        size_budget = _check.number("size_budget", size_budget, low=0.0)
        kept = best_set(self._worth(), self.share, self.size, size_budget, self.forced)
        return Deployed(self, kept)

    def frontier(self) -> Frontier:
        """What each total size buys: `cost` is size, `quality` the mean score on the table."""
        _, size, value = possible_sets(self._worth(), self.share, self.size, self.forced)
        return Frontier(size, value, size)

    def _worth(self) -> Float:
        """Scores, with the general category bound to its expert where one is named."""
        if self.forced < 0:
            return self.score
        worth = self.score.copy()
        worth[-1] = np.where(np.arange(len(self.names)) == self.forced, worth[-1], 0.0)
        return worth


@dataclass(frozen=True, eq=False)
class Deployed:
    """A composition of which only some experts are kept.

    Parameters
    ----------
    composition : FittedComposition
    kept : array of bool (m,)
    """

    composition: FittedComposition
    kept: Bool

    def __post_init__(self) -> None:
        _check.expect_shape("deployed.kept", self.kept, (len(self.composition.names),))

    @property
    def names(self) -> tuple[str, ...]:
        """The experts kept."""
        return tuple(
            name for name, kept in zip(self.composition.names, self.kept, strict=True) if kept
        )

    @property
    def table(self) -> dict[str, str]:
        """Expert of each category at no price; equal scores go to the smaller."""
        score = np.where(self.kept, self.composition._worth(), -np.inf)
        size = self.composition.size
        best = score >= score.max(axis=1, keepdims=True)
        chosen = np.where(best, size, np.inf).argmin(axis=1)
        names = self.composition.names
        return {
            category: names[k]
            for category, k in zip(self.composition.categories, chosen.tolist(), strict=True)
        }

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Score of the experts kept (b, s), in the order of `names`, and cost (b, s)."""
        quality, cost = self.composition.predict(inputs)
        return quality[:, self.kept], cost[:, self.kept]

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """One kept expert an input, within the budget by the predicted figures.

        A pool may hold experts that are not kept: nothing goes there.

        Raises
        ------
        InputError
            The pool holds an unknown destination or no kept one that is up, or the budget cannot
            be met.
        """
        where = columns(self.composition.names, pool)
        up = pool.available & self.kept[where]
        if not up.any():
            hint = "Bring one back up, or deploy others."
            rule = f"leave a deployed expert up ({', '.join(self.names)})"
            raise InputError("pool", rule, list(pool.names), hint)
        if len(inputs) == 0:
            return one_choice(np.empty(0, dtype=np.int64), pool.m)
        quality, cost = self.composition.predict(inputs)
        return one_choice(
            prices.spend(quality[:, where], cost[:, where], budget, up, rng=rng), pool.m
        )


def _doubt(votes: Float, statistic: str) -> Float:
    """How doubtful each vote is, (b,) >= 0; rounded, so that equal votes are equally doubtful."""
    if statistic == "votes":
        return np.asarray(np.round(1.0 - votes.max(axis=1), 9))
    part = np.where(votes > 0, votes, 1.0)
    return np.asarray(np.round(np.abs((part * np.log(part)).sum(axis=1)), 9))


def _one_of(field_name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(field_name, f"be one of {', '.join(known)}", value, "Choose one.")

r"""Chooses a whole team for one request: how agents work together, how many, who, on which model.

Routes: one request to a team of agents on language models.

Idea. A cascade of small controllers samples, in order, the task's library of roles, the way of
working together, the number of agents, a role for each and a model for each, and is trained by
policy gradient on what the team earned ("MasRouter: Learning to Route LLMs for Multi-Agent
Systems", 2025, arXiv:2502.11133)::

    U = solved - rate * cost                                        cost in the pool's currency
    minimise  mean[-L (U - b)] + cross-entropy of the task + 0.001 * latent loss

L is the joint score of the choices (`nn.cascade`, with every equation), b the mean U of the batch
(`baseline="mean"`), or 0 as published. Ways of working and how they are played:
`parts.rounds.teams`. Texts become vectors by hashed words (d = 384), or by the sentence encoder of
the paper (`encoder="minilm"`, extra `text`). New models, roles and ways join by description alone.

A play draws nothing by default: mean latents, likeliest way and roles, and models shared out in
proportion to their probabilities; `draw=True` samples as in training, as the published code does
at inference too. A model that is down is never drawn. A team that says nothing answers "".

Knob: `rate`, quality given up per unit of cost. One cascade is trained for each of `cost_rates`;
`Budget(price=p)` takes the greatest rate that is at most p, or the least.

Wordings: with `Chat` roles are prompts. Models that read bare requests only cannot be told who they
are: with `Plain` a way of working is how the steps of a request are shared out and voted on, and
roles change nothing; with `Asking` a role is how its agent asks a step, once, in several wordings
or with a check. Such roles do matter, but here the cascade does not learn them surely (its claim).
What a laptop cannot show: whether roles that are prompts help.

Differs from the paper: see `CARD.differs`. Cost: a play one pass of the cascade, some
milliseconds; training O(updates * batch * agents) plays.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["add 2 and 3", "add 4 and 4"], names=("small", "large"),
...     quality=np.array([[0.0, 1.0], [0.0, 1.0]]), cost=np.array([[1.0, 9.0], [1.0, 9.0]]),
...     answers=np.array([["6", "5"], ["7", "8"]], dtype=object),
... )
>>> router = MasRouter(updates=2, batch=2, d=16, h=8).fit(table, table.pool(), rng=rng)
>>> len(router.rates)
1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import (
    Budget,
    Card,
    InputError,
    Outcomes,
    Play,
    Pool,
    _check,
)
from turnout.parts.rounds.asking import Asking
from turnout.parts.rounds.playing import Ask, Limits, drive
from turnout.parts.rounds.recorded import Recorded, admitted, price_of
from turnout.parts.rounds.teams import MODES, ROLES, Chat, Member, Plain, TaskRoles, Team
from turnout.parts.texts.encoder import check_name

__all__ = ["CARD", "ROLES", "FittedMasRouter", "MasRouter", "TaskRoles"]

CARD = Card(
    name="llms.mas_router",
    system="MasRouter",
    title="MasRouter: Learning to Route LLMs for Multi-Agent Systems",
    authors="Yue, Zhang, Liu, Wan, Wang, Cheng, Qi",
    year=2025,
    id="arXiv:2502.11133",
    routes="one request to a team of agents on language models",
    kind="policy",
    recipe="MasRouter",
    signal=("outcomes", "answers"),
    covers=(
        "the cascade: task, collaboration mode, agent count, roles, models",
        "latents by variational autoencoders, temperatures and the multinomial score as published",
        "the objective: policy gradient on solved minus cost, task and latent losses",
        "the six modes of collaboration, played over any destinations",
    ),
    differs=(
        "The mean utility of the batch is taken off by default; the published code has no "
        "baseline (`baseline='none'`), which pushes every choice down while utility is negative.",
        "The cross-entropy of the task is on log-probabilities; the published code applies it to "
        "probabilities, a softmax taken twice.",
        "A play is deterministic by default; the published code samples at inference.",
        "Drawing is categorical; the published inverse of the cumulative sum may miss the last.",
        "Latent noise of 0.1 exp(v / 2) against a loss that reads e^v as the variance is kept; "
        "`consistent=True` makes them agree.",
        "Fusion layers that the published code builds and never uses are left out.",
        "Texts are hashed words by default, and the roles a small library of its own.",
        "With `Plain` and `Asking` wording the last node is a vote without a call.",
        "With `Asking` wording a role is no prompt but how often and how a step is asked.",
    ),
    needs=("torch",),
    properties=("multi_step", "reads_inputs"),
    knobs=(("price", "quality per unit of cost, at the trained rates"),),
    aliases=("masrouter", "multi-agent system routing"),
    cost="a play a few milliseconds; training updates * batch plays",
)


@dataclass(frozen=True, eq=False)
class FittedMasRouter:
    """Cascades, one a cost rate; see the module for the rules.

    Parameters
    ----------
    names : tuple of str
        The destinations it was trained with. Others join with a description.
    rates : tuple of float
        Quality per unit of cost, rising, one a cascade.
    weights : tuple of dict
        Arrays by name, one dict a cascade.
    tasks : tuple of TaskRoles
    wording : Plain, Asking or Chat
    shape : tuple of int
        Length of a vector, hidden units, most agents.
    encoder : str
        "hashed" or the name of an encoder.
    consistent, draw : bool
        See `MasRouter`.
    """

    names: tuple[str, ...]
    rates: tuple[float, ...]
    weights: tuple[dict[str, NDArray[Any]], ...]
    tasks: tuple[TaskRoles, ...]
    wording: Plain | Asking | Chat
    shape: tuple[int, int, int]
    encoder: str = "hashed"
    consistent: bool = False
    draw: bool = False
    _cascades: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from turnout.nn.cascade import build

        built = []
        for arrays in self.weights:
            built.append(build(self.shape, consistent=self.consistent, seed=0))
            built[-1].load(arrays)
        object.__setattr__(self, "_cascades", tuple(built))

    def team(
        self, item: str, pool: Pool, *, budget: Budget | None = None, rng: Generator | None = None
    ) -> Team:
        """The team for one request; drawn where `rng` is given.

        Raises
        ------
        InputError
            The pool holds a destination that it neither knows nor finds described, or the budget
            is no price.
        """
        from turnout.nn.cascade import catalog, encoded

        price = price_of(budget or Budget())
        admitted(pool, self.names)
        place = max((i for i, rate in enumerate(self.rates) if rate <= price), default=0)
        among = pool.select(sorted(pool.names))  # one order, whatever the pool's
        known = catalog(self.tasks, among, encoder=self.encoder, d=self.shape[0])
        query = encoded([item], self.encoder, self.shape[0])
        (choice,) = self._cascades[place].draw(query, known, rng=rng).choices
        return _team(choice, self.tasks, among)

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        """The steps for one request; out of calls, what was said last is the answer."""
        team = self.team(item, pool, budget=budget, rng=rng if self.draw else None)
        return (yield from self.wording.perform(item, team))


@dataclass(frozen=True)
class MasRouter:
    """Recipe of a router of teams.

    Parameters
    ----------
    cost_rates : tuple of float
        Quality per unit of cost, one cascade each, >= 0. The paper has 100 to 500 per US$.
    tasks : tuple of TaskRoles
        Kinds of request; () makes one of each group of the table, with the same roles.
    wording : Plain, Asking or Chat
        How a team is spoken to.
    most : int
        Most agents, >= 1.
    updates, batch : int
        Steps of training and requests in each, >= 1. The paper trains for ten epochs of sixteen.
    rate : float
        Step size, > 0.
    d, h : int
        Length of a text's vector (384 for "minilm"); hidden units.
    latent : float
        Weight of the latent loss, >= 0.
    baseline, encoder : str
        "mean" or "none"; "hashed" or "minilm".
    consistent, draw : bool
        Latent noise with the variance its loss reads; sample at inference too.

    Raises
    ------
    InputError
        A value is out of range.
    """

    cost_rates: tuple[float, ...] = (100.0,)
    tasks: tuple[TaskRoles, ...] = ()
    wording: Plain | Asking | Chat = field(default_factory=Plain)
    most: int = 6
    updates: int = 200
    batch: int = 16
    rate: float = 0.01
    d: int = 384
    h: int = 64
    latent: float = 0.001
    baseline: str = "mean"
    encoder: str = "hashed"
    consistent: bool = False
    draw: bool = False

    def __post_init__(self) -> None:
        for rate in self.cost_rates:
            _check.number("mas_router.cost_rates", rate, low=0.0)
        if not self.cost_rates or len(set(self.cost_rates)) < len(self.cost_rates):
            rule = "hold different rates, at least one"
            raise InputError("mas_router.cost_rates", rule, self.cost_rates, "Such as (100.0,).")
        for name in ("most", "updates", "batch", "d", "h"):
            _check.integer(f"mas_router.{name}", getattr(self, name), low=1)
        _check.number("mas_router.rate", self.rate, low=1e-9)
        _check.number("mas_router.latent", self.latent, low=0.0)
        if self.baseline not in ("mean", "none"):
            rule = "be 'mean' or 'none'"
            raise InputError("mas_router.baseline", rule, self.baseline, "Choose one.")
        if self.encoder != "hashed":
            check_name(self.encoder)
            if self.encoder == "svd" or self.d != 384:
                rule = "be 'hashed', or 'minilm' with d = 384"
                got = (self.encoder, self.d)
                raise InputError("mas_router.encoder", rule, got, "An encoder must need no fit.")

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedMasRouter:
        """Train on recorded answers: each model's answer to the whole request.

        Raises
        ------
        InputError
            The table holds no texts, or no answers.
        """
        table = Recorded(outcomes)
        return self.train(table.texts, outcomes.group, table.mark, table.ask, pool, rng=rng)

    def train(
        self,
        requests: Sequence[str],
        kinds: Sequence[str] | None,
        solved: Callable[[int, str], float],
        ask: Ask,
        pool: Pool,
        *,
        rng: Generator,
        progress: Callable[[int, float], None] | None = None,
    ) -> FittedMasRouter:
        """Train on destinations that really answer.

        Parameters
        ----------
        requests : sequence of str (n,)
        kinds : sequence of str (n,), optional
            The task of each request, by name.
        solved : callable
            Place of a request and an answer to how good it is, in [0, 1].
        ask : callable
            Makes a call.
        pool : Pool
        rng : Generator
        progress : callable, optional
            Told after every update how many were made and the mean utility.

        Raises
        ------
        InputError
            There is no request, or a kind is no task of the recipe.
        """
        from turnout.nn.cascade import catalog, encoded

        if not requests:
            raise InputError("requests", "hold a request", 0, "Add some.")
        labels = tuple(kinds) if kinds else ("any",) * len(requests)
        if len(labels) != len(requests):
            got = (len(labels), len(requests))
            raise InputError("kinds", "be one a request", got, "Leave it out for one kind.")
        if not kinds and self.tasks:
            labels = (self.tasks[0].name,) * len(requests)
        tasks = self.tasks or tuple(TaskRoles(name) for name in sorted(set(labels)))
        number = {task.name: i for i, task in enumerate(tasks)}
        for label in labels:
            if label not in number:
                rule = f"be a task ({', '.join(number)})"
                raise InputError("kinds", rule, label, "Add it to the recipe's tasks.")
        truth = [number[label] for label in labels]
        among = pool.select(sorted(pool.names))
        known = catalog(tasks, among, encoder=self.encoder, d=self.d)
        vectors = encoded(list(requests), self.encoder, self.d)
        rates, weights = tuple(sorted(self.cost_rates)), []
        for rate in rates:

            def earned(place: int, choice: Any, rate: float = rate) -> float:
                play = self.wording.perform(requests[place], _team(choice, tasks, among))
                played = drive(play, ask, pool, Limits(calls=512))
                return solved(place, played.answer) - rate * played.cost

            weights.append(self._learned(vectors, truth, known, earned, rng, progress))
        return FittedMasRouter(
            pool.names,
            rates,
            tuple(weights),
            tasks,
            self.wording,
            (self.d, self.h, self.most),
            self.encoder,
            self.consistent,
            self.draw,
        )

    def _learned(
        self,
        vectors: Any,
        truth: Sequence[int],
        catalog: Any,
        earned: Callable[[int, Any], float],
        rng: Generator,
        progress: Callable[[int, float], None] | None,
    ) -> dict[str, NDArray[Any]]:
        """Weights of a cascade trained on what its teams earned."""
        import torch

        from turnout.nn.cascade import build
        from turnout.nn.policy_gradient import Batch, Reinforce, train

        shape = (self.d, self.h, self.most)
        cascade = build(shape, consistent=self.consistent, seed=int(rng.integers(2**31)))

        def collect(update: int) -> Batch:
            rows = rng.integers(len(vectors), size=self.batch)
            known = tuple(truth[int(row)] for row in rows)
            drawn = cascade.draw(
                torch.as_tensor(vectors, dtype=torch.float32)[rows], catalog, rng=rng, truth=known
            )
            pairs = zip(rows, drawn.choices, strict=True)
            utility = torch.tensor([[earned(int(row), choice)] for row, choice in pairs])
            taken = torch.ones_like(utility, dtype=torch.bool)
            return Batch(drawn, utility, taken, torch.zeros(len(rows), dtype=torch.int64))

        train(
            cascade,
            collect,
            Reinforce(self.baseline),
            updates=self.updates,
            rate=self.rate,
            extra=lambda _: cascade.task_loss + self.latent * cascade.latent_loss,
            progress=None if progress is None else lambda at: progress(at.update, at.reward),
        )
        arrays: dict[str, NDArray[Any]] = cascade.arrays()
        return arrays


def _team(choice: Any, tasks: tuple[TaskRoles, ...], pool: Pool) -> Team:
    roles = tasks[choice.task].roles
    members = tuple(
        Member(roles[role], pool.names[model])
        for role, model in zip(choice.roles, choice.models, strict=True)
    )
    return Team(tuple(MODES)[choice.mode], members)

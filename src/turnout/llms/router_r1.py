r"""Thinks, asks a model, reads the answer, thinks again, and ends with an answer of its own.

Routes: sub-questions of one request to language models, over several rounds.

Idea. The router is itself a policy that alternates reasoning with calls: each turn names a model
and a sub-question, or ends with the answer. It is trained by its rewards alone ("Router-R1:
Teaching LLMs Multi-Round Routing and Aggregation via Reinforcement Learning", 2025,
arXiv:2506.09033). A turn is written with tags::

    <think>why</think><search>model: sub-question</search>   then <information>reply</information>
    <think>why</think><answer>final answer</answer>

Reward, in order of rank, with f the format (0, or -1 where the transcript breaks a rule), a the
exact match (or token F1), c the thrift in [0, 1] and alpha (`alphas`) the weight of cost::

    r = sqrt(cost of all calls);  lo, hi = 5th and 95th percentile of the last 1000 r
    c = 1 - clip((r - lo) / (hi - lo), 0, 1),   0.5 where hi - lo < 1e-8       `Thrift`
    total = -1                                 if f = -1
          = 0                                  if a = 0: a cheap wrong answer earns nothing
          = (a + f) (1 - alpha) + alpha c      else                            `total`

Two policies drive the same loop. `NetworkPolicy` is a small network (`parts.learners.actor`) over
what it has read: the step of the question at hand, the last reply, who was asked; its actions are
"ask model j the whole question, the step at hand again, or the next step with the last reply in the
place of 'it'", and "answer with the last reply". `ChatPolicy` is a chat destination that is told
the rules and writes the tags. A turn without a readable action is asked for once more; then the
play falls back to the last reply, or, if there is none, to the cheapest destination's answer to the
whole question. A model nobody knows, or one that is down, informs "None". At most `rounds` calls to
the pool; the one after must answer.

Knob: alpha, the share of thrift in the reward, in [0, 1]. The network reads it, and is trained at
all `alphas`; `Budget(price=p)` is turned into the alpha whose reward falls as fast with cost as
quality does at p: alpha = p s / (1 + p s), s = 2 sqrt(median cost) (hi - lo), up to the greatest
trained. New models join a pool by their `description`.

What a laptop cannot show: that a language model learns to reason and to word sub-questions by
these rewards. The small network words nothing: it takes a question apart where the question says
"then", and its answer is some model's reply, so it never aggregates. What is real is the loop,
the rewards, whom it asks when, and what that costs.

Differs from the paper: see `CARD.differs`. Cost: a decision O(m h (p + q)), p = 14, q = 173.

>>> from turnout.parts.rounds.turns import Thrift, total
>>> lean = Thrift()
>>> [lean.rate(cost) for cost in (4.0, 1.0)]  # the first alone in its window
[0.5, 1.0]
>>> total(0.0, 1.0, 1.0, alpha=0.6), total(0.0, 0.0, 1.0, alpha=0.6)
(1.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator as Rng

from turnout.core import (
    Budget,
    Call,
    Card,
    InputError,
    LimitReached,
    Outcomes,
    Play,
    Pool,
    _check,
)
from turnout.parts.learners.actor import Actor, Decision
from turnout.parts.rounds import answers
from turnout.parts.rounds.clauses import clauses
from turnout.parts.rounds.inquiry import Inquiry, expected_costs, look
from turnout.parts.rounds.playing import Ask, Limits, drive
from turnout.parts.rounds.policies import ChatPolicy, NetworkPolicy, Policy, Speaking, turned
from turnout.parts.rounds.recorded import Recorded, admitted, price_of
from turnout.parts.rounds.turns import Purse, Turn, information, total, well_formed

__all__ = ["CARD", "ChatPolicy", "FittedRouterR1", "NetworkPolicy", "RouterR1"]

CARD = Card(
    name="llms.router_r1",
    system="Router-R1",
    title=(
        "Router-R1: Teaching LLMs Multi-Round Routing and Aggregation via Reinforcement Learning"
    ),
    authors="Haozhen Zhang, Tao Feng, Jiaxuan You",
    year=2025,
    id="arXiv:2506.09033",
    routes="sub-questions of a request to language models, over several rounds",
    kind="policy",
    recipe="RouterR1",
    signal=("outcomes", "answers"),
    covers=(
        "the protocol of think, search, information and answer, with its strict check",
        "the hierarchical reward: format, outcome, cost with weight alpha",
        "the cost reward: square root, window of 1000, 5th and 95th percentile",
        "training by policy gradient on whole plays; models by description",
    ),
    differs=(
        "The policy that is trained here is a network of some ten thousand weights over hashed "
        "words, not a language model of three billion; the prompted policy is not trained.",
        "GRPO instead of PPO with a critic: the group of plays of one question is the baseline. "
        "Reward and masking (only the policy's own decisions count) are the paper's; the KL weight "
        "is 0.02, because the reference is an untrained, nearly even network.",
        "A failed or unknown call is charged the mean cost of its destination in the reward; in "
        "the published code it is free, and so earns the best thrift.",
        "A query may hold a colon and the word that is a model's name; the published check "
        "refuses both, and its client cuts the query at the second colon.",
        "A wrong answer earns 0 by exact match and by F1 alike.",
        "Cost is what the replies cost, in the pool's currency; the published code counts tokens "
        "written times price.",
        "The network is trained at several alphas and reads which; the paper trains one router "
        "for each.",
        "Tags in a reply are taken out before it is shown, so that no model ends the block it is "
        "quoted in.",
    ),
    needs=("torch",),
    properties=("multi_step", "reads_inputs"),
    knobs=(
        ("price", "quality per unit of cost, turned into alpha"),
        ("alpha", "share of thrift in the reward, in [0, 1]"),
    ),
    aliases=("router r1", "multi-round routing"),
    cost="a decision O(m h (p + q)); training some 20,000 plays, minutes on one core",
)


@dataclass(frozen=True, eq=False)
class FittedRouterR1:
    """The loop of turns; see the module for the rules.

    Parameters
    ----------
    names : tuple of str
        The destinations it knows. Others join with a description.
    policy : NetworkPolicy or ChatPolicy
        Writes the turns.
    rounds : int
        Most calls to the pool, >= 1.
    most : float
        Greatest alpha that the policy was trained at.
    scale : float
        Cost by which a price becomes an alpha; 0 = the policy heeds no price.
    """

    names: tuple[str, ...]
    policy: Policy
    rounds: int = 4
    most: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _check.names("router_r1.names", self.names))
        _check.integer("router_r1.rounds", self.rounds, low=1)

    def alpha(self, budget: Budget) -> float:
        """The weight of thrift that a budget's price stands for.

        Raises
        ------
        InputError
            The budget is a mean: a play cannot see the batch.
        """
        worth = price_of(budget) * self.scale
        return min(self.most, worth / (1.0 + worth))

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Rng) -> Play:
        """The steps for one question.

        Raises
        ------
        InputError
            The pool holds a destination that it neither knows nor finds described, or the budget
            is no price.
        """
        return (yield from self.inquire(Inquiry(item, clauses(item), self.rounds), pool, budget))

    def inquire(self, inquiry: Inquiry, pool: Pool, budget: Budget) -> Play:
        """The same, noting all of it in an inquiry just begun."""
        alpha = self.alpha(budget)
        admitted(pool, self.names)
        try:
            for done in range(self.rounds + 1):
                last = done == self.rounds
                turn = yield from self.policy.turn(inquiry, pool, alpha, last=last)
                if turn.kind == "answer":
                    inquiry.log.append(str(turn))
                    return turn.text
                if not turn.kind or last:
                    break
                yield from _ask(inquiry, turn, pool, self.policy.word(turn) if turn.to else None)
            if not inquiry.last:
                turn = _whole(inquiry.item, pool)
                yield from _ask(inquiry, turn, pool, Call(to=turn.to, prompt=turn.text))
        except LimitReached:
            pass
        return inquiry.last


def _ask(inquiry: Inquiry, turn: Turn, pool: Pool, call: Call | None) -> Play:
    """Make a turn's call, where there is somebody to call, and note what came of it."""
    text: str | None = None
    if call is not None and call.to in pool.names and pool.available[pool.index(call.to)]:
        (reply,) = yield (call,)
        text = None if reply.failed else reply.text
    inquiry.take(turn.to, turn.text, text)
    inquiry.log.append(f"{turn}{information('None' if text is None else text)}")
    return text or ""


def _whole(item: str, pool: Pool) -> Turn:
    """The fallback: the whole question to the cheapest that is up, ties by name."""
    costs = expected_costs(pool, {})
    up = [j for j in range(pool.m) if pool.available[j]]
    return Turn("search", pool.names[min(up, key=lambda j: (costs[j], pool.names[j]))], item)


@dataclass(frozen=True)
class RouterR1:
    """Recipe of a multi-round router with a network for its policy.

    Parameters
    ----------
    alphas : tuple of float
        Weights of thrift it is trained at, each in [0, 1]. The paper trains one router at each of
        0 and 0.6 to 0.9.
    metric : str
        "exact" or "f1": how an answer is marked.
    rounds : int
        Most calls to the pool, >= 1.
    width : int
        Hidden units, >= 1.
    updates, questions, plays : int
        Steps of training; questions in each; plays of each question; all >= 1.
    rate : float
        Step size, > 0.
    kl : float
        Weight of the distance to the untrained policy, >= 0. The paper has 0.001, from a language
        model; the untrained network is nearly even, so here it is what keeps it trying.

    Raises
    ------
    InputError
        A value is out of range.
    """

    alphas: tuple[float, ...] = (0.0, 0.6, 0.9)
    metric: str = "exact"
    rounds: int = 4
    width: int = 64
    updates: int = 225
    questions: int = 16
    plays: int = 8
    rate: float = 0.005
    kl: float = 0.02

    def __post_init__(self) -> None:
        for alpha in self.alphas:
            _check.number("router_r1.alphas", alpha, low=0.0, high=1.0)
        if not self.alphas:
            raise InputError("router_r1.alphas", "hold a weight", (), "Such as (0.0,).")
        if self.metric not in ("exact", "f1"):
            raise InputError("router_r1.metric", "be 'exact' or 'f1'", self.metric, "Choose one.")
        for name in ("rounds", "width", "updates", "questions", "plays"):
            _check.integer(f"router_r1.{name}", getattr(self, name), low=1)
        _check.number("router_r1.rate", self.rate, low=1e-9)
        _check.number("router_r1.kl", self.kl, low=0.0)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Rng) -> FittedRouterR1:
        """Train on recorded answers: whole questions only, since no step of one was asked.

        Raises
        ------
        InputError
            The table holds no texts, or no answers.
        """
        table = Recorded(outcomes)
        return self._trained(table.texts, table.mark, table.ask, pool, rng, None)

    def train(
        self,
        questions: Sequence[str],
        right: Sequence[str],
        ask: Ask,
        pool: Pool,
        *,
        rng: Rng,
        progress: Callable[[int, float], None] | None = None,
    ) -> FittedRouterR1:
        """Train on destinations that really answer.

        Parameters
        ----------
        questions, right : sequence of str (n,)
            Questions and their right answers.
        ask : callable
            Makes a call; is asked the same more than once.
        pool : Pool
        rng : Generator
        progress : callable, optional
            Told after every update how many were made and the mean reward of its plays.
        """
        if not questions or len(questions) != len(right):
            got = (len(questions), len(right))
            raise InputError("questions", "come with one right answer each", got, "Pair them.")
        metric = answers.exact if self.metric == "exact" else answers.f1

        def mark(question: int, answer: str) -> float:
            return metric(answer, (right[question],))

        return self._trained(questions, mark, ask, pool, rng, progress)

    def _trained(
        self,
        questions: Sequence[str],
        mark: Callable[[int, str], float],
        ask: Ask,
        pool: Pool,
        rng: Rng,
        progress: Callable[[int, float], None] | None,
    ) -> FittedRouterR1:
        import torch

        from turnout.nn.policy_gradient import Batch, Grpo, train
        from turnout.nn.scorer import Scorer, batch_of

        trial = look(Inquiry("", ("",), 1), pool, np.ones(pool.m), 0.0, last=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        p, q = len(trial.state), trial.actions.shape[1]
        scorer = Scorer(p, q, self.width, generator=generator)
        purse = Purse(dict(zip(pool.names, expected_costs(pool, {}).tolist(), strict=True)))

        def explore(question: int, alpha: float, actor: Actor) -> list[Decision]:
            trying = _Trying(actor, purse, alpha, rng)
            strategy = FittedRouterR1(pool.names, trying, self.rounds)
            inquiry = Inquiry(questions[question], clauses(questions[question]), self.rounds)
            play = strategy.inquire(inquiry, pool, Budget())
            played = drive(play, ask, pool, Limits(calls=64))
            cost = sum(purse.pay(*pair) for pair in zip(played.calls, played.replies, strict=True))
            form = 0.0 if well_formed("".join(inquiry.log), pool.names) else -1.0
            right = mark(question, played.answer) if played.answer else 0.0
            reward = total(form, right, purse.thrift.rate(cost), alpha=alpha)
            return [*trying.made[:-1], replace(trying.made[-1], reward=reward)]

        def collect(update: int) -> Batch:
            actor, episodes = scorer.actor(), []
            for _ in range(self.questions):
                question = int(rng.integers(len(questions)))
                alpha = self.alphas[int(rng.integers(len(self.alphas)))]
                episodes += [explore(question, alpha, actor) for _ in range(self.plays)]
            return batch_of(episodes, [i // self.plays for i in range(len(episodes))])

        train(
            scorer,
            collect,
            Grpo(kl=self.kl),
            updates=self.updates,
            rate=self.rate,
            progress=None if progress is None else lambda at: progress(at.update, at.reward),
        )
        charge = tuple(purse.mean(name) for name in pool.names)
        policy = NetworkPolicy(scorer.actor(), pool.names, charge)
        scale = purse.thrift.scale
        return FittedRouterR1(pool.names, policy, self.rounds, max(self.alphas), scale)


@dataclass(eq=False)
class _Trying:
    """The network while it is trained: draws its turns and keeps them."""

    actor: Actor
    purse: Purse
    alpha: float
    rng: Rng
    made: list[Decision] = field(default_factory=list)

    def turn(self, inquiry: Inquiry, pool: Pool, alpha: float, *, last: bool) -> Speaking:
        listed = self.purse.listed  # list prices, so that what is seen does not move as it learns
        seen = look(inquiry, pool, np.array(list(listed.values())), self.alpha, last=last)
        action = self.actor.pick(seen.state, seen.actions, seen.allowed, rng=self.rng)
        self.made.append(seen.decision(action))
        return turned(inquiry, seen.says[action])
        yield ()

    def word(self, turn: Turn) -> Call:
        return Call(to=turn.to, prompt=turn.text)

r"""Chooses, step by step, which knowledge base to ask and what, until the question is answered.

Routes: the next sub-question of one request to a knowledge base, or to none.

Idea. At each step the policy writes the next single-hop sub-question and names the base that
should answer it, or stops. It is rewarded at every step, not only at the end ("Learning to Route
Queries Across Knowledge Bases for Step-wise Retrieval-Augmented Reasoning", R1-Router, 2025,
arXiv:2505.22095). With q the sub-question, s the base, a the answer and a star for the record::

    step reward    0.5 max(cos(e(q), e(q*)), 0) + 0.5 [s = s*]           `step_reward`
    answer reward  [recall(a, a*) = 1], or the recall itself where the   `answer_reward`
                   one right answer has more than five words

Step-GRPO. The context of step i is the recorded prefix, so steps are prompts of their own; a
group of G actions is drawn in each, and an action's advantage is its reward's distance from the
group's mean in deviations (`nn.policy_gradient.StepGrpo`). `learning="outcome"` is the rival: whole
plays of the policy's own, paid at the end by the answer reward (`Grpo`).

A play: look at what is known, pick (base, whole question | step at hand | next step) or stop, at
most `rounds` times; read the reply; end with the last sub-answer. A base that is down is not asked;
one that fails or finds nothing is an empty observation, after which another base may be asked the
same. A reader makes the sub-answer of the documents: `FirstDocument` takes what follows the first
colon of the best document; `ChatReader` asks a chat destination, at each step and at the end. A
base is a destination whose reply is its documents, one a line.

Knob: `Budget(price=p)` takes `p * cost` off the log-probability of an action that costs `cost`; in
log-probability per unit of the pool's currency (a retrieval, for the laboratory's bases).

What a laptop cannot show: sub-questions in the policy's own words, and images. The network picks
among the steps a question spells out (`parts.rounds.clauses`), and its reader is fixed.

Differs from the paper: see `CARD.differs`. Cost: a decision O(m h (p + q)), p = 14, q = 173.

>>> step_reward("Who made it?", "text", "Who made it?", "table")
0.5
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
    Reply,
    _check,
)
from turnout.core._check import Float
from turnout.parts.learners.actor import Actor, Decision
from turnout.parts.rounds.clauses import clauses
from turnout.parts.rounds.inquiry import Inquiry, Look, expected_costs, look
from turnout.parts.rounds.playing import Ask, Limits, drive
from turnout.parts.rounds.reading import ChatReader, FirstDocument, Reader
from turnout.parts.rounds.recorded import admitted, price_of
from turnout.parts.rounds.steps import Record, Step, answer_reward, step_reward
from turnout.parts.texts.words import texts_of

__all__ = [
    "CARD",
    "ChatReader",
    "FirstDocument",
    "FittedKbRouter",
    "KbRouter",
    "Record",
    "Step",
    "answer_reward",
    "step_reward",
]

CARD = Card(
    name="llms.kb_router",
    system="R1-Router",
    title=(
        "Learning to Route Queries Across Knowledge Bases for Step-wise Retrieval-Augmented "
        "Reasoning"
    ),
    authors="Peng, Zhao, Liu, Yan, Li, Sun, Yu, Gu, Wang, Yu, Sun",
    year=2025,
    id="arXiv:2505.22095",
    routes="the next sub-question of a request to a knowledge base, or to none",
    kind="policy",
    recipe="KbRouter",
    signal=("outcomes", "answers"),
    covers=(
        "the trajectory: sub-question and base, documents, sub-answer, until the policy stops",
        "rewards of steps and of answers",
        "Step-GRPO on recorded prefixes, and GRPO on the outcome alone to compare with",
    ),
    differs=(
        "The policy is a small network over hashed words that picks among the steps a question "
        "spells out; the paper trains a language model of seven billion that writes them.",
        "Retrieval steps alone are trained: the reader is a rule or a chat destination.",
        "The embedding in the step reward is hashed words, the paper's is bge-m3; a negative "
        "cosine counts as 0, so that no readable step earns less than an unreadable one.",
        "The network writes no unreadable step, so none is asked for again; a silent base is "
        "followed by the next likeliest action.",
        "One stops only with a sub-answer, or when nothing else is possible.",
    ),
    needs=("torch",),
    properties=("multi_step", "reads_inputs"),
    knobs=(
        ("price", "log-probability of an action per unit of cost"),
        ("rounds", "most retrievals"),
    ),
    aliases=("r1-router", "knowledge base routing", "step-grpo"),
    cost="a decision O(m h (p + q)); training seconds to a minute on one core",
)


@dataclass(frozen=True, eq=False)
class FittedKbRouter:
    """The loop of steps; see the module for the rules.

    Parameters
    ----------
    names : tuple of str
        The destinations it knows, the reader's among them. Others join with a description.
    actor : Actor
    reader : FirstDocument or ChatReader
    rounds : int
        Most retrievals, >= 1.
    """

    names: tuple[str, ...]
    actor: Actor
    reader: Reader = field(default_factory=FirstDocument)
    rounds: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _check.names("kb_router.names", self.names))
        _check.integer("kb_router.rounds", self.rounds, low=1)

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Rng) -> Play:
        """The steps for one question.

        Raises
        ------
        InputError
            The pool holds a destination that it neither knows nor finds described, or the budget
            is no price.
        """
        price = price_of(budget)

        def pick(seen: Look, costs: Float) -> int:
            logs = self.actor.log_probs(seen.state, seen.actions, seen.allowed)
            paid = np.append(0.0, np.repeat(costs, 3))
            worth = np.where(seen.allowed, logs - price * paid, -np.inf)
            return int(np.round(worth, 9).argmax())

        inquiry = Inquiry(item, clauses(item), self.rounds)
        return (yield from self._steps(inquiry, pool, pick))

    def _steps(self, inquiry: Inquiry, pool: Pool, pick: Callable[[Look, Float], int]) -> Play:
        admitted(pool, self.names)
        reader = self.reader.to if isinstance(self.reader, ChatReader) else ""
        bases = [name for name in pool.names if name != reader]
        if not any(pool.available[pool.index(name)] for name in bases):
            # nothing but a reader is up: it answers by itself
            left = [name for name in pool.names if pool.available[pool.index(name)]]
            (reply,) = yield (Call(to=left[0], prompt=inquiry.item),)
            return reply.text
        among = pool.select(bases)
        costs = expected_costs(among, {})
        try:
            for done in range(self.rounds + 1):
                seen = look(inquiry, among, costs, 0.0, last=done == self.rounds)
                to, query = seen.says[pick(seen, costs)]
                if not to:
                    break
                (reply,) = yield (Call(to=to, prompt=query),)
                said: str | None = None
                if not reply.failed and reply.text.strip():
                    said = yield from self.reader.read(query, reply.text, pool)
                inquiry.take(to, query, said)
            return (yield from self.reader.end(inquiry, pool))
        except LimitReached:
            return inquiry.last


@dataclass(frozen=True)
class KbRouter:
    """Recipe of a router over knowledge bases.

    Parameters
    ----------
    learning : str
        "steps" (Step-GRPO on recorded prefixes) or "outcome" (GRPO on whole plays).
    rounds : int
        Most retrievals of a play, >= 1.
    group : int
        Actions, or plays, drawn in each context, >= 2. The paper's trainer has 5.
    contexts : int
        Contexts, or questions, in an update, >= 1.
    updates, width : int
        Steps of training; hidden units; >= 1.
    rate : float
        Step size, > 0.
    kl : float
        Weight of the distance to the untrained policy, >= 0. That policy is a nearly even
        network here, so the weight, larger than for a language model, keeps it trying.

    Raises
    ------
    InputError
        A value is out of range.
    """

    learning: str = "steps"
    rounds: int = 3
    group: int = 5
    contexts: int = 32
    updates: int = 150
    width: int = 64
    rate: float = 0.01
    kl: float = 0.05

    def __post_init__(self) -> None:
        if self.learning not in ("steps", "outcome"):
            rule = "be 'steps' or 'outcome'"
            raise InputError("kb_router.learning", rule, self.learning, "Choose one.")
        for name in ("rounds", "contexts", "updates", "width"):
            _check.integer(f"kb_router.{name}", getattr(self, name), low=1)
        _check.integer("kb_router.group", self.group, low=2)
        _check.number("kb_router.rate", self.rate, low=1e-9)
        _check.number("kb_router.kl", self.kl, low=0.0)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Rng) -> FittedKbRouter:
        """Train on a table of single-hop questions: the base that served best is the record's.

        Rows in which no base served are left out.

        Raises
        ------
        InputError
            The table holds no texts, or no row in which a base served.
        """
        texts = texts_of(outcomes.inputs)
        best = np.nan_to_num(outcomes.quality, nan=-1.0)
        records = []
        for i, text in enumerate(texts):
            j = int(best[i].argmax())
            if best[i, j] > 0:
                said = "" if outcomes.answers is None else outcomes.answers[i, j]
                steps = (Step(clauses(text)[0], outcomes.names[j], str(said)),)
                records.append(Record(text, steps, (str(said),)))
        if not records:
            hint = "Add questions that a base can answer."
            raise InputError("outcomes.quality", "be above 0 somewhere", 0.0, hint)

        def ask(call: Call) -> Reply:
            rows = [i for i, text in enumerate(texts) if call.prompt == clauses(text)[0]]
            said = None if outcomes.answers is None or not rows else outcomes.answers[rows[0]]
            text = None if said is None else said[outcomes.names.index(call.to)]
            return Reply(text="", failed="never asked") if text is None else Reply(text=str(text))

        return self.train(records, pool, ask, rng=rng)

    def train(
        self,
        records: Sequence[Record],
        pool: Pool,
        ask: Ask | None = None,
        *,
        reader: FirstDocument | ChatReader | None = None,
        rng: Rng,
        progress: Callable[[int, float], None] | None = None,
    ) -> FittedKbRouter:
        """Train on recorded steps.

        Parameters
        ----------
        records : sequence of Record
        pool : Pool
            The bases.
        ask : callable, optional
            Makes a call; needed by `learning="outcome"` alone.
        reader : FirstDocument or ChatReader, optional
            Of the fitted router; `FirstDocument` by default.
        rng : Generator
        progress : callable, optional
            Told after every update how many were made and the mean reward.

        Raises
        ------
        InputError
            There is no record, or one names no base of the pool.
        """
        import torch

        from turnout.nn.policy_gradient import Batch, Grpo, StepGrpo, train
        from turnout.nn.scorer import Scorer, batch_of

        if not records:
            raise InputError("records", "hold a question", 0, "Record some.")
        for place, record in enumerate(records):
            for step in record.steps:
                if step.base not in pool.names:
                    rule = f"name a base of the pool ({', '.join(pool.names)})"
                    raise InputError(f"records[{place}]", rule, step.base, "Correct it.")
        if self.learning == "outcome" and ask is None:
            raise InputError("ask", "be given to learn by outcome", None, "Pass a callable.")
        costs = expected_costs(pool, {})
        contexts = [(record, place) for record in records for place in range(len(record.steps) + 1)]
        trial = look(_prefix(records[0], 0, self.rounds), pool, costs, 0.0, last=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        p, q = len(trial.state), trial.actions.shape[1]
        scorer = Scorer(p, q, self.width, generator=generator)

        def by_step(actor: Actor) -> list[list[Decision]]:
            record, place = contexts[int(rng.integers(len(contexts)))]
            seen = look(_prefix(record, place, self.rounds), pool, costs, 0.0, last=False)
            more = place < len(record.steps)
            right = record.steps[place] if more else Step("", "", "")
            drawn = [
                actor.pick(seen.state, seen.actions, seen.allowed, rng=rng)
                for _ in range(self.group)
            ]
            return [
                [
                    seen.decision(
                        a, step_reward(seen.says[a][1], seen.says[a][0], right.query, right.base)
                    )
                ]
                for a in drawn
            ]

        def by_outcome(actor: Actor) -> list[list[Decision]]:
            assert ask is not None
            record = records[int(rng.integers(len(records)))]
            return [self._played(record, actor, pool, ask, rng) for _ in range(self.group)]

        draw = by_step if self.learning == "steps" else by_outcome

        def collect(update: int) -> Batch:
            actor = scorer.actor()
            episodes = [made for _ in range(self.contexts) for made in draw(actor)]
            return batch_of(episodes, [i // self.group for i in range(len(episodes))])

        train(
            scorer,
            collect,
            StepGrpo(kl=self.kl) if self.learning == "steps" else Grpo(kl=self.kl),
            updates=self.updates,
            rate=self.rate,
            progress=None if progress is None else lambda at: progress(at.update, at.reward),
        )
        reads = reader or FirstDocument()
        names = pool.names
        if isinstance(reads, ChatReader) and reads.to not in names:
            names = (*names, reads.to)
        return FittedKbRouter(names, scorer.actor(), reads, self.rounds)

    def _played(
        self, record: Record, actor: Actor, pool: Pool, ask: Ask, rng: Rng
    ) -> list[Decision]:
        """One play of the policy's own, paid at its last decision by its answer."""
        made: list[Decision] = []

        def pick(seen: Look, costs: Float) -> int:
            action = actor.pick(seen.state, seen.actions, seen.allowed, rng=rng)
            made.append(seen.decision(action))
            return action

        router = FittedKbRouter(pool.names, actor, rounds=self.rounds)
        play = router._steps(_prefix(record, 0, self.rounds), pool, pick)
        played = drive(play, ask, pool, Limits(calls=self.rounds + 1))
        last = made[-1]
        reward = answer_reward(played.answer, record.answers)
        return [*made[:-1], Decision(last.state, last.actions, last.allowed, last.chosen, reward)]


def _prefix(record: Record, steps: int, rounds: int) -> Inquiry:
    """A question with its first recorded steps behind it."""
    inquiry = Inquiry(record.question, clauses(record.question), rounds)
    for step in record.steps[:steps]:
        inquiry.take(step.base, step.query, step.answer)
    return inquiry

"""Agents: each a model of the laboratory and a way to prompt it, on questions over stated facts.

The models read bare requests of one skill, so an agent does the reading: it follows the facts from
the person asked about (`turnout.lab.trails.read`), by rules, and puts what it finds to its model.
Only the model works anything out. There are four ways, and sixteen agents with four models.

==============  ================================================================  ==============
way             how                                                               calls, h steps
==============  ================================================================  ==============
at once         the whole trail as one request, "... Then ... it"                 1
in steps        one request a step, the result filled into the next               h
in other words  each step in three wordings; the commonest answer goes on         2 h to 3 h
checked         each step, then the way back or another wording; a third decides  2 h to 3 h
==============  ================================================================  ==============

What this shows: that ways to prompt differ when the models really answer. What it does not: that
a model reads a context or takes a question apart by itself, which these cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from turnout.core import Budget, Call, InputError, LimitReached, Outcomes, Play, Pool, Reply
from turnout.lab import pool as laboratory
from turnout.lab.model import LanguageModel
from turnout.lab.plans import PLANS
from turnout.lab.trails import Question, Step, Trail, read
from turnout.parts.priced import columns
from turnout.parts.rounds.answers import f1
from turnout.parts.rounds.asking import Worded, asked
from turnout.parts.rounds.playing import Limits, Playing

__all__ = ["CALLS", "WAYS", "Answering", "Prompting", "agents", "outcomes"]

#: The ways to prompt, as a router reads them.
WAYS: Final = {
    "at once": "asks for the whole trail at once",
    "in steps": "asks one step after another",
    "in other words": "asks every step in several wordings and goes on with the commonest answer",
    "checked": "asks every step and checks the answer by the way back",
}
#: Most calls an agent makes for a question of two trails.
CALLS: Final = 18


@dataclass(frozen=True, slots=True)
class Prompting:
    """A model and a way to prompt it, a `turnout.core.Strategy`.

    An item that asks about no trail is put to the model as it is. Where a step finds nothing, so
    does its trail.

    Parameters
    ----------
    to : str
        The model.
    way : str
        A key of `WAYS`.

    Raises
    ------
    InputError
        There is no such way.
    """

    to: str
    way: str

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise InputError("prompting.way", f"be one of {', '.join(WAYS)}", self.way, "Pick one.")

    @property
    def name(self) -> str:
        """Of the agent."""
        return f"{self.to} {self.way}"

    @property
    def names(self) -> tuple[str, ...]:
        """The model, its only destination."""
        return (self.to,)

    @property
    def about(self) -> str:
        """What a router may know of it."""
        return f"{PLANS[self.to].summary if self.to in PLANS else self.to}; {WAYS[self.way]}"

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        """The answers to what is asked, in its order, with ", " between."""
        columns(self.names, pool)
        trails = read(item)
        found: list[str] = []
        try:
            if not trails:
                return (yield from self._asked(Worded((item,))))
            for trail in trails:
                found.append((yield from self._followed(trail)))
        except LimitReached:
            pass
        return ", ".join(text for text in found if text)

    def _followed(self, trail: Trail) -> Play:
        if self.way == "at once":
            return (yield from self._asked(Worded((trail.request(),))))
        found = trail.start
        for step in trail.steps:
            found = yield from self._asked(_worded(step, found))
            if not found:
                break
        return found

    def _asked(self, worded: Worded) -> Play:
        way = "once" if self.way in ("at once", "in steps") else self.way
        return asked(way, self.to, worded)


def _worded(step: Step, found: str) -> Worded:
    def back(answer: str) -> tuple[str, str] | None:
        undone = step.undone(answer)
        return (undone.prompt(answer), found) if undone else None

    return Worded(tuple(step.prompt(found, w) for w in range(step.wordings)), back)


def agents() -> tuple[Prompting, ...]:
    """Every model in every way, the cheapest model first."""
    return tuple(Prompting(to, way) for to in laboratory.names() for way in WAYS)


@dataclass(eq=False)
class Answering:
    """The models behind calls, asked many at a time; what was asked once is remembered.

    It is an `turnout.parts.rounds.playing.Ask` as `turnout.lab.asking.asking` makes one, and
    costs the same.

    Parameters
    ----------
    models : mapping of str to LanguageModel
        The whole pool by default.
    """

    models: dict[str, LanguageModel] = field(default_factory=laboratory.models)
    _known: dict[tuple[str, str], Reply] = field(init=False, default_factory=dict)

    def __call__(self, call: Call) -> Reply:
        """One reply."""
        return self.many([call])[0]

    def many(self, calls: Sequence[Call]) -> list[Reply]:
        """The replies, in their order; what a model cannot read fails and costs nothing."""
        for name, model in self.models.items():
            wanted = dict.fromkeys(call.prompt for call in calls if call.to == name)
            fresh = [prompt for prompt in wanted if (name, prompt) not in self._known]
            readable: list[str] = []
            for prompt in fresh:
                try:
                    model.tokens(prompt)
                    readable.append(prompt)
                except InputError as error:
                    self._known[name, prompt] = Reply(text="", failed=str(error))
            with laboratory.one_thread():
                written = model.generate(readable)
            for prompt, reply in zip(readable, written, strict=True):
                cost = laboratory.cost(model, reply.prompt_tokens, reply.completion_tokens)
                self._known[name, prompt] = Reply(text=reply.text, cost=cost)
        return [self._known[call.to, call.prompt] for call in calls]


def outcomes(
    asked: Sequence[Question],
    of: Sequence[Prompting] | None = None,
    answering: Answering | None = None,
) -> Outcomes:
    """What every agent really answers to every question, graded by token F1.

    All plays go on side by side, so that a model answers many requests in one batch.

    Parameters
    ----------
    asked : sequence of Question (n,)
    of : sequence of Prompting (m,), optional
        The agents; all of `agents` by default.
    answering : Answering, optional
        Remembers what was asked; a fresh one by default.

    Returns
    -------
    Outcomes
        Texts, F1, cost in USD of all calls of an agent, answers.
    """
    chosen = agents() if of is None else tuple(of)
    answering = answering or Answering()
    limits = Limits(calls=CALLS)
    pools = [laboratory.as_pool().select(agent.names) for agent in chosen]
    rng = np.random.default_rng(0)  # no agent draws
    plays = [
        Playing(agent.play(question.text, own, budget=Budget(), rng=rng), own, limits)
        for question in asked
        for agent, own in zip(chosen, pools, strict=True)
    ]
    while live := [each for each in plays if each.ended is None]:
        replies = iter(answering.many([call for each in live for call in each.pending]))
        for each in live:
            each.take([next(replies) for _ in each.pending])
    shape = len(asked), len(chosen)
    ended = [each.ended for each in plays if each.ended is not None]
    answers = np.array([played.answer for played in ended], dtype=object).reshape(shape)
    quality = [
        [f1(str(answer), (question.answer,)) for answer in row]
        for question, row in zip(asked, answers, strict=True)
    ]
    return Outcomes(
        inputs=[question.text for question in asked],
        names=tuple(agent.name for agent in chosen),
        quality=np.array(quality),
        cost=np.array([played.cost for played in ended]).reshape(shape),
        answers=answers,
    )

"""Inquiry: a question under way, what was asked and learned, and what can be done next.

Shared by the methods that ask several destinations about one question. The actions of a small
network are the same for all of them: send the whole question, the step at hand once more, or the
next step to destination j, or end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from turnout.core import Pool
from turnout.core._check import Bool, Float
from turnout.parts.learners.actor import Decision, hashed
from turnout.parts.rounds.clauses import filled
from turnout.parts.texts.surface import prompt_surface

__all__ = ["ANSWER", "Inquiry", "Look", "expected_costs", "look"]

ANSWER, _WHOLE, _AGAIN, _NEXT = range(4)
_TEXT, _ABOUT, _SURFACE = 128, 32, 8
#: Characters of a text that an action is described by.
_READ = 2000


@dataclass(eq=False)
class Inquiry:
    """One question under way.

    Parameters
    ----------
    item : str
        The question.
    steps : tuple of str
        Its steps (`parts.rounds.clauses`), at least one.
    rounds : int
        Most calls.
    """

    item: str
    steps: tuple[str, ...]
    rounds: int
    at: int = -1
    query: str = ""
    found: str = ""
    last: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def following(self) -> str | None:
        """The next step, with what was found in the place of "it"; None after the last."""
        place = self.at + 1
        if place >= len(self.steps):
            return None
        step = self.steps[place]
        return filled(step, self.found) if place and self.found else step

    def take(self, to: str, query: str, reply: str | None) -> None:
        """Note a call and its reply; None = it failed."""
        text = (reply or "").strip()
        if query == self.following:
            self.at, self.query, self.found = self.at + 1, query, ""
        if query == self.query:
            self.found = text or self.found
        self.last = text or self.last
        self.asked.append((to, query))
        self.replies.append(text)

    def agreeing(self) -> float:
        """Share of the replies to the last query that are the last reply; 0 with none."""
        if not self.replies:
            return 0.0
        same = [
            reply
            for (_, query), reply in zip(self.asked, self.replies, strict=True)
            if query == self.asked[-1][1]
        ]
        return same.count(self.replies[-1]) / len(same) if self.replies[-1] else 0.0


@dataclass(frozen=True, eq=False)
class Look:
    """What a network is shown of an inquiry.

    Parameters
    ----------
    state : array (p,)
    actions : array (1 + 3 m, q)
        To end, then the three ways of asking each destination.
    allowed : array of bool (1 + 3 m,)
    says : list of (str, str)
        Whom and what each action asks; ("", "") to end.
    """

    state: Float
    actions: Float
    allowed: Bool
    says: list[tuple[str, str]]

    def decision(self, chosen: int, reward: float = 0.0) -> Decision:
        """One of these actions as taken."""
        return Decision(self.state, self.actions, self.allowed, chosen, reward)


def look(inquiry: Inquiry, pool: Pool, costs: Float, alpha: float, *, last: bool) -> Look:
    """Features of the state and of every action.

    Nothing is asked twice of one destination; what is down is not asked; one ends only with a
    reply, or where nothing else is left.

    Parameters
    ----------
    inquiry : Inquiry
    pool : Pool
        Read: names, descriptions, which are up.
    costs : array (m,)
        Expected cost of a call.
    alpha : float
        Weight of cost, as the policy was trained to read it.
    last : bool
        No further call is possible.
    """
    following, steps = inquiry.following, len(inquiry.steps)
    whole = inquiry.item if steps > 1 else None
    again = inquiry.query if inquiry.at >= 0 else None
    state = np.concatenate(
        [
            _surface(inquiry.last),
            [
                float(bool(inquiry.last)),
                len(inquiry.asked) / max(inquiry.rounds, 1),
                float(following is None),
                float(bool(inquiry.replies) and not inquiry.replies[-1]),
                inquiry.agreeing(),
                alpha,
            ],
        ]
    )
    ways = ((_WHOLE, whole), (_AGAIN, again), (_NEXT, following))
    blank = np.zeros(_TEXT + _SURFACE)
    read = {kind: blank if text is None else _read(text) for kind, text in ways}
    about = pool.description or ("",) * pool.m
    level = np.log10(np.maximum(costs, 1e-12))
    actions = np.zeros((1 + 3 * pool.m, 4 + _TEXT + _SURFACE + _ABOUT + 1))
    allowed = np.zeros(len(actions), dtype=np.bool_)
    says = [("", "")]
    actions[0, ANSWER] = 1.0
    for j, name in enumerate(pool.names):
        for kind, text in ways:
            row = len(says)
            actions[row, kind] = 1.0
            actions[row, 4:-1] = np.concatenate([read[kind], _about(f"{name} : {about[j]}")])
            actions[row, -1] = level[j] / 4.0
            says.append((name, text or ""))
            fresh = text is not None and (name, text) not in inquiry.asked
            allowed[row] = fresh and bool(pool.available[j]) and not last
    allowed[0] = bool(inquiry.last) or not allowed.any()
    return Look(state, actions, allowed, says)


def expected_costs(pool: Pool, seen: dict[str, float]) -> Float:
    """Cost of a call to each destination, (m,): as it was seen, else by its list price.

    A list price per token is taken at twenty tokens read and five written.
    """
    listed = pool.expected_cost(np.array([20.0]), np.array([[5.0]]))[0]
    found = [seen.get(name, cost) for name, cost in zip(pool.names, listed, strict=True)]
    return np.array(found, dtype=np.float64)


@lru_cache(maxsize=4096)
def _read(text: str) -> Float:
    made = np.concatenate([hashed([text[:_READ]], _TEXT)[0] * 2.0, _surface(text)])
    made.flags.writeable = False
    return made


@lru_cache(maxsize=1024)
def _about(text: str) -> Float:
    made = np.asarray(hashed([text[:_READ]], _ABOUT)[0] * 2.0, dtype=np.float64)
    made.flags.writeable = False
    return made


def _surface(text: str) -> Float:
    return np.asarray(prompt_surface([text[:_READ]])[0])

"""Teams: several agents on one request, in six ways of working together.

The ways are those of MasRouter (Yue et al., 2025, arXiv:2502.11133) and its code; an agent is a
role on a destination. Two wordings play them. `Chat` is for destinations that follow
instructions: roles, what others said, and a last node, on the commonest model of the team, that
settles on one answer. `Plain` is for destinations that read a bare request and nothing else: an
agent asks the request, or its steps one after another (`parts.rounds.clauses`), and the team votes.
Roles say nothing there; `parts.rounds.asking.Asking` plays as `Plain`, and a role is how to ask.

=============  ==================================  =====================================
way            Chat                                Plain
=============  ==================================  =====================================
IO             each answers at once                each asks the whole
CoT            each reasons step by step           each asks step by step
Chain          each sees the one before            the steps go round among the agents
FullConnected  each sees all before                each step is put to all, most go on
Debate         a second round after seeing all     the last step again, from most's finding
Reflection     each looks at its own answer again  each asks its last step again
=============  ==================================  =====================================

A failed call says nothing. A team that says nothing answers "".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from turnout.core import Call, InputError, Reply, _check
from turnout.parts.rounds.clauses import clauses, filled

__all__ = ["MODES", "Chat", "Member", "Plain", "Playing", "Role", "TaskRoles", "Team", "most"]

#: The ways of working together, and how a router reads them.
MODES = {
    "IO": "one agent or several, each answering directly",
    "CoT": "one agent or several, each reasoning step by step before it answers",
    "Chain": "agents in a row, each going on from what the one before it found",
    "FullConnected": "agents that all see what the earlier ones found, at every step",
    "Debate": "agents that answer, read each other's answers, and answer once more",
    "Reflection": "agents that look critically at their own answers and correct them",
}

Playing = Generator[tuple[Call, ...], tuple[Reply, ...], str]


@dataclass(frozen=True)
class Role:
    """What an agent is told to be."""

    name: str
    prompt: str = ""

    @property
    def text(self) -> str:
        """How a router reads it."""
        return f"{self.name} : {self.prompt}"


#: Roles for any task, by what they add.
ROLES = (
    Role("Solver", "Work out the answer yourself, as directly as the request allows."),
    Role("Planner", "Break the request into steps first, then carry them out in order."),
    Role("Checker", "Verify every claim and figure before it goes into the answer."),
    Role("Critic", "Look for what is wrong or missing in what was found, and put it right."),
    Role("Expert", "Bring the facts and methods of the field the request belongs to."),
    Role("Summariser", "Bring what was found together into one short answer."),
)


@dataclass(frozen=True)
class TaskRoles:
    """A kind of request and the roles that may work on it.

    Raises
    ------
    InputError
        It holds no role.
    """

    name: str
    description: str = ""
    roles: tuple[Role, ...] = ROLES

    def __post_init__(self) -> None:
        if not self.roles:
            rule = "hold a role"
            raise InputError(f"task_roles {self.name!r}", rule, (), "Leave it out for `ROLES`.")


@dataclass(frozen=True)
class Member:
    """One agent: a role on a destination."""

    role: Role
    to: str


@dataclass(frozen=True)
class Team:
    """A way of working together and who does.

    Raises
    ------
    InputError
        There is no such way, or nobody is in it.
    """

    mode: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("team.mode", f"be one of {', '.join(MODES)}", self.mode, "Choose one.")
        if not self.members:
            raise InputError("team.members", "hold an agent", (), "Add one.")


def most(texts: Sequence[str]) -> str:
    """The commonest text that is not empty, the first of equals; "" where all are."""
    counts = Counter(text.strip() for text in texts if text.strip())
    return max(counts, key=lambda text: counts[text]) if counts else ""


@dataclass(frozen=True)
class Plain:
    """Bare requests, and a vote at the end."""

    def perform(self, item: str, team: Team) -> Playing:
        """The answer of a team; yields its calls."""
        names = [member.to for member in team.members]
        if team.mode == "IO":
            return most((yield from _said(Call(to=name, prompt=item) for name in names)))
        steps = clauses(item)
        if team.mode in ("Chain", "FullConnected"):
            found = ""
            for place, step in enumerate(steps):
                query = filled(step, found) if place and found else step
                chain = team.mode == "Chain"
                asked = [names[place % len(names)]] if chain else names
                found = most((yield from _said(Call(to=name, prompt=query) for name in asked)))
            return found
        every = [""] * len(names)
        before = every
        for place, step in enumerate(steps):
            before = every
            every = yield from _step(names, step, before, place)
        if team.mode == "CoT":
            return most(every)
        last = len(steps) - 1
        shared = [most(before)] * len(names) if team.mode == "Debate" else before
        again = yield from _step(names, steps[last], shared, last)
        return most([new or old for new, old in zip(again, every, strict=True)])


def _step(
    names: Sequence[str], step: str, before: Sequence[str], place: int
) -> Generator[tuple[Call, ...], tuple[Reply, ...], list[str]]:
    """One step asked by every agent, each going on from its own finding."""
    queries = [filled(step, found) if place and found else step for found in before]
    return (yield from _said(Call(to=to, prompt=q) for to, q in zip(names, queries, strict=True)))


def _said(
    calls: Generator[Call, None, None],
) -> Generator[tuple[Call, ...], tuple[Reply, ...], list[str]]:
    replies = yield tuple(calls)
    return ["" if reply.failed else reply.text.strip() for reply in replies]


_SYSTEM = "You are {name}. {prompt}\n{manner}\nEnd with a line that holds the answer alone."
_MANNERS = {
    "CoT": "Reason step by step before you answer.",
    "IO": "Answer directly.",
}
_OTHERS = "What other agents found:\n{said}"
_AGAIN = (
    "Your answer was:\n{said}\nLook for mistakes in it and answer again; keep it if it is right."
)
_FINAL = "Several agents worked on the request. Settle on one answer and write it alone."


@dataclass(frozen=True)
class Chat:
    """Instructions, what others said, and a last call that settles the answer.

    Parameters
    ----------
    max_tokens : int
        Most an agent writes, >= 1.
    """

    max_tokens: int = 1024

    def __post_init__(self) -> None:
        _check.integer("chat.max_tokens", self.max_tokens, low=1)

    def perform(self, item: str, team: Team) -> Playing:
        """The answer of a team; yields its calls."""
        manner = _MANNERS.get(team.mode, "")
        if team.mode in ("Chain", "FullConnected"):
            said: list[str] = []
            for member in team.members:
                heard = said[-1:] if team.mode == "Chain" else said
                told = self._call(item, member, manner, heard)
                said += yield from _said(call for call in (told,))
        else:
            said = yield from _said(self._call(item, member, manner, ()) for member in team.members)
            if team.mode == "Debate":
                heard = list(said)
                said = yield from _said(
                    self._call(item, member, manner, heard) for member in team.members
                )
            elif team.mode == "Reflection":
                said = yield from _said(
                    self._call(f"{item}\n\n{_AGAIN.format(said=own)}", member, manner, ())
                    for member, own in zip(team.members, said, strict=True)
                )
        if not most(said):
            return ""
        lead = most([member.to for member in team.members])
        prompt = f"{item}\n\n{_told(said)}"
        settled = yield from _said(
            Call(to=to, prompt=prompt, system=_FINAL, max_tokens=self.max_tokens) for to in (lead,)
        )
        return settled[0] or most(said)

    def _call(self, item: str, member: Member, manner: str, heard: Sequence[str]) -> Call:
        system = _SYSTEM.format(name=member.role.name, prompt=member.role.prompt, manner=manner)
        prompt = f"{item}\n\n{_told(heard)}" if most(heard) else item
        return Call(to=member.to, prompt=prompt, system=system, max_tokens=self.max_tokens)


def _told(said: Sequence[str]) -> str:
    lines = "\n".join(f"{place + 1}. {text}" for place, text in enumerate(said) if text)
    return _OTHERS.format(said=lines)

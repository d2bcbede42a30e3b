"""Ways to ask a destination one thing, and a team whose roles are such ways.

A request of one step can often be put in other words, and its answer can sometimes be led back to
what was given. `asked` makes use of both, `Phrasing` knows the words of one kind of request, and
`Asking` plays a team as `parts.rounds.teams.Plain` does, each step asked as the role says.

==============  ===================================================================  ======
way             how                                                                  calls
==============  ===================================================================  ======
once            in its first wording                                                 1
in other words  in three wordings; the commonest answer                              2 to 3
checked         once, then the way back or another wording; a third decides          2 to 3
==============  ===================================================================  ======

What has no other wording is asked once. A failed call says nothing.

>>> adding = Phrasing(("Add {a} and {b}", "What is {a} + {b}?"), back="Take {b} from {it}", to="a")
>>> said = adding.read("What is 30 + 12?")
>>> said.wordings, said.back("41")
(('What is 30 + 12?', 'Add 30 and 12'), ('Take 12 from 41', '30'))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from turnout.core import Call, InputError, Play, Reply
from turnout.parts.rounds.clauses import clauses
from turnout.parts.rounds.teams import Member, Plain, Team, most

__all__ = ["WAYS", "Asking", "Back", "Phrasing", "Worded", "asked", "nowhere"]

#: The ways to ask one thing.
WAYS: Final = ("once", "in other words", "checked")
_WORDINGS: Final = 3
_PLACE: Final = re.compile(r"\{([a-z]\w*)\}")
_LONGEST: Final = 300  # characters; reading a long text by patterns takes long

#: From an answer to what asks the way back and what a right answer leads to; None = there is none.
Back = Callable[[str], "tuple[str, str] | None"]


def nowhere(answer: str) -> None:
    """The way back of what has none."""


@dataclass(frozen=True)
class Worded:
    """A request of one step.

    Parameters
    ----------
    wordings : tuple of str
        What asks for it, the first the one to use; at least one.
    back : callable
        The way back of an answer, which may be empty.
    """

    wordings: tuple[str, ...]
    back: Back = nowhere


def asked(way: str, to: str, worded: Worded) -> Play:
    """The answer to one thing; part of a play, which yields its calls.

    Parameters
    ----------
    way : str
        One of `WAYS`.
    to : str
        The destination.
    worded : Worded
        What is asked.
    """
    wordings = worded.wordings
    if way == "once" or len(wordings) == 1:
        return (yield from _said(to, wordings[:1]))[0]
    if way == "in other words":
        return most((yield from _said(to, wordings[:_WORDINGS])))
    (first,) = yield from _said(to, wordings[:1])
    back = worded.back(first)
    prompt, right = back or (wordings[1], first)
    if (yield from _said(to, (prompt,)))[0] == right:
        return first
    third = wordings[1 if back else 2 % len(wordings)]
    return (yield from _said(to, (third,)))[0] or first


def _said(
    to: str, prompts: Sequence[str]
) -> Generator[tuple[Call, ...], tuple[Reply, ...], list[str]]:
    replies = yield tuple(Call(to=to, prompt=prompt) for prompt in prompts)
    return ["" if reply.failed else reply.text.strip() for reply in replies]


@dataclass(frozen=True)
class Phrasing:
    """The wordings of one kind of request, and how its answer is led back.

    Parameters
    ----------
    wordings : tuple of str
        Each with the same places for what is given, such as ``{a}``.
    back : str
        Asks for one of these from the others and the answer, ``{it}``; "" = there is no way back.
    to : str
        The place the way back leads to.

    Raises
    ------
    InputError
        There is no wording, they differ in their places, or the way back has others.
    """

    wordings: tuple[str, ...]
    back: str = ""
    to: str = ""
    _patterns: tuple[tuple[int, re.Pattern[str]], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        places = [_PLACE.findall(line) for line in self.wordings]
        if not places or not all(places) or any(set(one) != set(places[0]) for one in places):
            rule = "be some, with the same places"
            raise InputError("phrasing.wordings", rule, self.wordings, "Such as 'Add {a} and {b}'.")
        known = {*places[0], "it"}
        if self.back and (
            self.to not in places[0] or not {"it"} <= set(_PLACE.findall(self.back)) <= known
        ):
            rule = "go from {it} to a place of the wordings"
            raise InputError(
                "phrasing.back", rule, (self.back, self.to), "Leave both out for none."
            )
        patterns = [(place, _pattern(line)) for place, line in enumerate(self.wordings)]
        patterns.sort(key=lambda one: -len(_PLACE.sub("", self.wordings[one[0]])))
        object.__setattr__(self, "_patterns", tuple(patterns))

    def read(self, text: str) -> Worded | None:
        """A request of this kind, or None where it is of another or has several steps.

        Of several wordings that fit, the one with most words of its own counts.
        """
        if len(text) > _LONGEST or len(clauses(text)) > 1:
            return None
        for place, pattern in self._patterns:
            if match := pattern.fullmatch(text):
                return self._worded(text, place, match.groupdict())
        return None

    def _worded(self, text: str, place: int, given: dict[str, str]) -> Worded:
        others = (line for at, line in enumerate(self.wordings) if at != place)
        wordings = (text, *(_filled(line, given) for line in others))

        def back(answer: str) -> tuple[str, str] | None:
            return (_filled(self.back, {**given, "it": answer}), given[self.to]) if answer else None

        return Worded(wordings, back if self.back else nowhere)


def _filled(line: str, given: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda match: given[match[1]], line)


def _pattern(line: str) -> re.Pattern[str]:
    made, seen = "", set[str]()
    for at, part in enumerate(_PLACE.split(line)):  # words, place, words, ...
        if at % 2 == 0:
            made += re.escape(part)
        else:
            made += f"(?P={part})" if part in seen else f"(?P<{part}>.+?)"
            seen.add(part)
    return re.compile(made)


@dataclass(frozen=True)
class Asking:
    """Bare requests as in `Plain`, each asked in the way of its member's role.

    A team makes up to three calls an agent and step where `Plain` makes one: six agents on three
    steps up to 54, more than `parts.rounds.playing.Limits` allows when nothing else is said.

    Parameters
    ----------
    phrasings : tuple of Phrasing
        The kinds of requests that can be put in other words; the first that fits counts.
    ways : tuple of (str, str)
        Names of roles, each with one of `WAYS`; a role that is not named asks once.

    Raises
    ------
    InputError
        There is no such way.
    """

    phrasings: tuple[Phrasing, ...] = ()
    ways: tuple[tuple[str, str], ...] = (("Expert", "in other words"), ("Checker", "checked"))

    def __post_init__(self) -> None:
        for role, way in self.ways:
            if way not in WAYS:
                rule = f"be one of {', '.join(WAYS)}"
                raise InputError(f"asking.ways of {role!r}", rule, way, "Pick one.")

    def perform(self, item: str, team: Team) -> Play:
        """The answer of a team; yields its calls."""
        numbered = (Member(each.role, str(place)) for place, each in enumerate(team.members))
        play = Plain().perform(item, Team(team.mode, tuple(numbered)))
        said: tuple[Reply, ...] | None = None
        while True:
            try:
                wanted = next(play) if said is None else play.send(said)
            except StopIteration as end:
                return str(end.value)
            members = [team.members[int(call.to)] for call in wanted]
            asks = [self._ask(one, call.prompt) for one, call in zip(members, wanted, strict=True)]
            said = tuple(Reply(text=text) for text in (yield from _together(asks)))

    def _ask(self, member: Member, prompt: str) -> Play:
        known = (kind.read(prompt) for kind in self.phrasings)
        worded = next((found for found in known if found), Worded((prompt,)))
        way = dict(self.ways).get(member.role.name, "once")
        return asked(way, member.to, worded)


def _together(
    asks: Sequence[Play],
) -> Generator[tuple[Call, ...], tuple[Reply, ...], list[str]]:
    """What each is answered, all of them side by side, a round of calls at a time."""
    said = [""] * len(asks)
    pending = {place: next(ask) for place, ask in enumerate(asks)}
    while pending:
        replies = iter((yield tuple(call for calls in pending.values() for call in calls)))
        for place, calls in tuple(pending.items()):
            given = tuple(next(replies) for _ in calls)
            try:
                pending[place] = asks[place].send(given)
            except StopIteration as end:
                said[place] = end.value
                del pending[place]
    return said

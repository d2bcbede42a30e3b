r"""Questions over a context of stated facts, whose answers lie at the end of a trail of facts.

A context tells what twelve people hold. Some chose it ("Ann chose 34."), the others have it from
somebody else ("Bob raises Ann by 12.", "Carl turns round Dana."), each by a skill of the models.
A question asks what one or two of them hold. Every context has a trail of numbers, one of a word
and one of days, each as long as the others, in shuffled sentences; so which skills are needed, and
how many of them in a row, shows only in the facts that lead from the person asked about.

>>> trail = read("Ann chose 34. Bob raises Ann by 12.\nWhich number has Bob?")[0]
>>> trail.start, trail.request()
('34', 'What is 34 + 12?')

Each step of an evaluation question, in its first wording and with the right result of the step
before in its place, is a prompt that no model was trained on. Its other wordings may not be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from turnout.core import _check
from turnout.lab.skills import DAYS, MONTHS, NAMES, TEMPLATES, UNITS
from turnout.lab.tasks import held_out
from turnout.lab.words import WORDS

__all__ = ["ASKED", "SKILLS", "STEPS", "UNDONE", "Question", "Step", "Trail", "questions", "read"]

#: Steps of each trail of a context.
STEPS: Final = 3
#: How a question names what it asks for.
ASKED: Final = ("number", "word", "day")

_NUMBER, _WORD, _DAY = ASKED
#: Skill: what it works on, and how a fact words it. `{b}` stands for whatever else it is given.
SKILLS: Final = {
    "add": (_NUMBER, "{who} raises {of} by {b}"),
    "subtract": (_NUMBER, "{who} lowers {of} by {b}"),
    "largest": (_NUMBER, "{who} takes the larger of {of} and {b}"),
    "smallest": (_NUMBER, "{who} takes the smaller of {of} and {b}"),
    "convert": (_NUMBER, "{who} turns {of} from {b}"),
    "reverse": (_WORD, "{who} turns round {of}"),
    "sort": (_WORD, "{who} sorts {of}"),
    "count": (_WORD, "{who} finds how often {of} has {b}"),
    "days": (_DAY, "{who} comes after {of} by {b} days"),
    "days back": (_DAY, "{who} comes before {of} by {b} days"),
}
#: Skill: the one that leads back from its right results.
UNDONE: Final = {
    "add": "subtract",
    "subtract": "add",
    "reverse": "reverse",
    "days": "days back",
    "days back": "days",
}
_PERSON, _GIVEN = r"(?P<{}>[A-Z]\w*)", r"(?P<b>[a-z0-9]+(?: to [a-z]+)?)"
_FACTS: Final = {
    skill: re.compile(said.format(who=_PERSON.format("who"), of=_PERSON.format("of"), b=_GIVEN))
    for skill, (_, said) in SKILLS.items()
}
_CHOSE: Final = re.compile(r"(?P<who>[A-Z]\w*) chose (?P<of>\w+)")
_ASKS: Final = re.compile(rf"[Ww]hich (?:{'|'.join(ASKED)}) has ([A-Z]\w*)")
_SENTENCE: Final = re.compile(r"[.?]\s*")
_LARGEST: Final = 999  # the models know numbers of three digits
_PLANS, _TRIES, _DRAWS = 50, 300, 8
# Made-up words must not be what somebody is called, nor a word that is one token.
_TAKEN: Final = frozenset(word.strip().lower() for word in (*WORDS, *NAMES, *DAYS, *MONTHS))


@dataclass(frozen=True, slots=True)
class Step:
    """One skill applied to what was found before.

    Parameters
    ----------
    skill : str
        A key of `turnout.lab.skills.TEMPLATES`.
    given : str
        What else it needs: a number, a letter, "hours to minutes"; "" = nothing.
    """

    skill: str
    given: str = ""

    @property
    def wordings(self) -> int:
        """How many ways there are to ask for it."""
        return len(TEMPLATES[self.skill])

    def prompt(self, found: str, wording: int = 0) -> str:
        """What a model is asked.

        Parameters
        ----------
        found : str
            Result of the step before.
        wording : int
            Which way; counted round.
        """
        line, b = TEMPLATES[self.skill][wording % self.wordings], self.given
        large, _, small = b.partition(" to ")
        named = {"x": found, "large": large, "small": small, "s": found, "c": b, "k": b}
        text = line.format(a=found, b=b, at=found, list=f"{found}, {b}", **named)
        return text.replace("1 days", "1 day") if b == "1" else text

    def undone(self, result: str) -> Step | None:
        """The step that leads back from a right result, or None where there is none."""
        back = UNDONE.get(self.skill)
        return Step(back, self.given) if back and result else None


@dataclass(frozen=True, slots=True)
class Trail:
    """From what somebody chose to what the person asked about holds.

    Parameters
    ----------
    start : str
    steps : tuple of Step
        In order; none where the person asked about chose it.
    """

    start: str
    steps: tuple[Step, ...]

    def request(self) -> str:
        """The whole trail as one request: each later step of "it"."""
        if not self.steps:
            return self.start
        text = self.steps[0].prompt(self.start)
        for step in self.steps[1:]:
            clause = step.prompt("it")
            clause = clause[0].lower() + clause[1:]
            text += f" Then {clause}" if text[-1] in ".?" else f"; then {clause}"
        return text


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer, and what leads there, which no router may see.

    Parameters
    ----------
    text : str
        The context, a line break, the question.
    answer : str
        What is asked for, in the order of asking, with ", " between.
    trails : tuple of Trail
        One for each person asked about.
    """

    text: str
    answer: str
    trails: tuple[Trail, ...]


def read(item: str) -> tuple[Trail, ...]:
    """The trails of a question with its context, by its sentences alone.

    A person of whom nothing is said, or whose trail goes round in a circle, has no trail.
    """
    context, _, question = item.rstrip().rpartition("\n")
    chosen: dict[str, str] = {}
    had: dict[str, tuple[str, Step]] = {}
    for sentence in _SENTENCE.split(context):
        if match := _CHOSE.fullmatch(sentence):
            kept = match["of"]
            chosen[match["who"]] = kept if kept in DAYS else kept.lower()
        for skill, pattern in _FACTS.items():
            if match := pattern.fullmatch(sentence):
                given = match["b"] if "b" in pattern.groupindex else ""
                had[match["who"]] = match["of"], Step(skill, given)
    return tuple(
        trail for who in _ASKS.findall(question) if (trail := _trail(who, chosen, had)) is not None
    )


def _trail(who: str, chosen: dict[str, str], had: dict[str, tuple[str, Step]]) -> Trail | None:
    steps: list[Step] = []
    while who in had and len(steps) < len(had):
        who, step = had[who]
        steps.append(step)
    return Trail(chosen[who], tuple(reversed(steps))) if who in chosen else None


def questions(n: int, *, seed: int, evaluation: bool = True, both: float = 0.25) -> list[Question]:
    """Draw `n` questions, the same for the same arguments.

    Parameters
    ----------
    n : int
        How many, >= 1.
    seed : int
        Not negative.
    evaluation : bool
        Whether every step is held out from the models' training; else none is.
    both : float
        Share of questions that ask for two things, in [0, 1].

    Raises
    ------
    InputError
        A value is out of range.
    """
    _check.integer("n", n, low=1)
    _check.integer("seed", seed, low=0)
    _check.number("both", both, low=0.0, high=1.0)
    rng = np.random.default_rng([seed, int(evaluation), 79])
    return [_question(rng, evaluation, both) for _ in range(n)]


@dataclass(frozen=True, slots=True)
class _Told:
    """A trail in the making: who holds what, and by which steps."""

    who: tuple[str, ...]
    held: tuple[str, ...]
    steps: tuple[Step, ...]


def _question(rng: np.random.Generator, evaluation: bool, both: float) -> Question:
    names = [NAMES[i] for i in rng.permutation(len(NAMES))]
    told = []
    for kind in ASKED:
        who = tuple(names.pop() for _ in range(STEPS + 1))
        told.append(_Told(who, *_drawn(rng, kind, evaluation)))
    facts = [fact for one in told for fact in _facts(one)]
    context = " ".join(facts[i] for i in rng.permutation(len(facts)))
    places = rng.permutation(len(ASKED))[: 2 if rng.random() < both else 1]
    asks, answers, trails = [], [], []
    for place in places:
        one, end = told[place], int(rng.integers(1, STEPS + 1))
        asks.append(f"which {_kind(one.held[end])} has {one.who[end]}")
        answers.append(one.held[end])
        trails.append(Trail(one.held[0], one.steps[:end]))
    asked = " and ".join(asks)
    text = f"{context}\n{asked[0].upper()}{asked[1:]}?"
    return Question(text, ", ".join(answers), tuple(trails))


def _facts(told: _Told) -> list[str]:
    start = told.held[0]
    facts = [f"{told.who[0]} chose {start[0].upper()}{start[1:]}."]
    for place, step in enumerate(told.steps):
        said = SKILLS[step.skill][1]
        of, who = told.who[place], told.who[place + 1]
        facts.append(f"{said.format(who=who, of=of, b=step.given)}.")
    return facts


def _kind(held: str) -> str:
    if held in DAYS:
        return _DAY
    return _NUMBER if held.isdigit() else _WORD


def _drawn(
    rng: np.random.Generator, kind: str, evaluation: bool
) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """What is held from person to person, and the steps between."""
    for _ in range(_PLANS):
        plan = _plan(rng, kind)
        for start in _chosen(rng, kind):
            held, steps = [start], list[Step]()
            for skill in plan:
                made = _follow(rng, skill, held[-1], evaluation)
                if made is None:
                    break
                steps.append(made[0])
                held.append(made[1])
            if len(steps) == STEPS:
                return tuple(held), tuple(steps)
    raise AssertionError("the skills leave room for some trail")


def _plan(rng: np.random.Generator, kind: str) -> list[str]:
    """Skills in a row, never one twice running, before anything is drawn for them to work on."""
    plan: list[str] = []
    while len(plan) < STEPS:
        able = [name for name, (works_on, _) in SKILLS.items() if works_on == kind]
        fresh = [name for name in able if name not in plan[-1:]]
        plan.append(fresh[int(rng.integers(len(fresh)))])
        kind = _NUMBER if plan[-1] == "count" else kind
    return plan


def _chosen(rng: np.random.Generator, kind: str) -> Iterator[str]:
    """What somebody may have chosen, try by try."""
    if kind == _NUMBER:
        yield from map(str, rng.integers(10, 100, size=_TRIES))
    elif kind == _DAY:
        yield from (DAYS[place] for place in rng.integers(len(DAYS), size=_TRIES))
    else:  # five to seven letters out of four
        four, places = rng.integers(26, size=(_TRIES, 4)), rng.integers(4, size=(_TRIES, 7))
        rows = np.take_along_axis(four, places, axis=1).astype(np.uint8) + ord("a")
        for row, size in zip(rows, rng.integers(5, 8, size=_TRIES), strict=True):
            word = row[:size].tobytes().decode()
            if word not in _TAKEN:
                yield word


def _follow(
    rng: np.random.Generator, skill: str, held: str, evaluation: bool
) -> tuple[Step, str] | None:
    """A step by a skill, and its result, if one of some draws is in the right stream."""
    for _ in range(1 if skill in ("reverse", "sort") else _DRAWS):
        made = _made(rng, skill, held)
        if made is not None and held_out(made[0].prompt(held)) == evaluation:
            return made
    return None


def _made(rng: np.random.Generator, skill: str, held: str) -> tuple[Step, str] | None:
    if skill in ("days", "days back"):
        away = int(rng.integers(2, 32))
        sign = 1 if skill == "days" else -1
        return Step(skill, str(away)), DAYS[(DAYS.index(held) + sign * away) % len(DAYS)]
    if skill in ("reverse", "sort"):
        return Step(skill), held[::-1] if skill == "reverse" else "".join(sorted(held))
    if skill == "count":
        letter = held[int(rng.integers(len(held)))]
        return Step(skill, letter), str(held.count(letter))
    number = int(held)
    if skill == "convert":
        large, small, factor = UNITS[int(rng.integers(4, len(UNITS)))]
        given, found = f"{large} to {small}", number * factor
    else:
        other = int(
            rng.integers(1, number + 1) if skill == "subtract" and number else rng.integers(10, 100)
        )
        found = {
            "add": number + other,
            "subtract": number - other,
            "largest": max(number, other),
            "smallest": min(number, other),
        }[skill]
        given = str(other)
    least = 2 if skill == "convert" else 0
    return (Step(skill, given), str(found)) if least <= number and 0 <= found <= _LARGEST else None

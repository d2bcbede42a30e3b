"""Symbolic puzzles and rule-based solvers with two modes: a world in which a log can be reused.

Four families of puzzles (arithmetic in a ring, edits of a word, chains of look-ups, comparisons)
with three procedures each. Six solvers know some procedures well and some hardly; each answers
directly (cheap, poor at several steps) or step by step ("_think", dearer, better). A prompt that
holds the right procedure in words lifts whoever reads it; a wrong one confuses. Whether an answer
is right is a fixed draw for each solver and question, so that the same call always gets the same
answer.

What this shows is that the bookkeeping of logs works, where procedures can be told by wording. It
is no language model: that prompts with procedures help real models is not shown here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Call, InputError, Outcomes, Reply, _check

__all__ = ["FAMILIES", "SOLVERS", "SUMMARISER", "World", "draw"]

#: Procedures of each family: how the question is put, and what is to be done.
FAMILIES = {
    "ring": (
        ("multiply {a} by {b} and wrap around the clock of {c} hours", "times then remainder"),
        ("add {a} to {b} and wrap around the clock of {c} hours", "sum then remainder"),
        ("square {a} , then wrap around the clock of {c} hours", "power then remainder"),
    ),
    "edit": (
        ("turn the tape {w} around and print it", "read letters last to first"),
        ("strike the vowels from the tape {w} and print it", "drop a e i o u"),
        ("print every mark of the tape {w} twice", "double each letter"),
    ),
    "lookup": (
        ("who is two chairs left of guest {a} at a table of {c}", "chairs back then remainder"),
        ("who is two chairs right of guest {a} at a table of {c}", "chairs on then remainder"),
        ("who is opposite to guest {a} at a round table of {d}", "add half then remainder"),
    ),
    "compare": (
        ("which weighs more , {a} crates of {b} or {c} crates of {e}", "multiply , take larger"),
        ("how much apart are {a} crates of {b} and {c} crates of {e}", "multiply , subtract"),
        ("how heavy are {a} crates of {b} with {c} crates of {e}", "multiply , sum"),
    ),
}

#: Chance of knowing a procedure by family, for each solver; cost of a direct answer.
SOLVERS = {
    "tiny": ((0.35, 0.35, 0.35, 0.35), 1.0),
    "clerk": ((0.85, 0.30, 0.40, 0.60), 2.0),
    "typist": ((0.25, 0.90, 0.40, 0.25), 2.0),
    "usher": ((0.35, 0.25, 0.90, 0.30), 2.2),
    "grocer": ((0.50, 0.25, 0.25, 0.90), 2.4),
    "dean": ((0.75, 0.75, 0.75, 0.75), 8.0),
}

#: Destination that writes a procedure from good answers.
SUMMARISER = "summariser"

_WORDS = ("marigold", "cathedral", "lantern", "orchestra", "pendulum", "velocity", "harmonica")
_THINK, _DEARER = "_think", 2.5
_SHOWN, _CONFUSED = 0.92, 0.8


@dataclass(frozen=True)
class World:
    """Questions with their answers, and all that the solvers say to them.

    Parameters
    ----------
    questions : tuple of str
    families : tuple of str
    procedures : tuple of str
    steps : tuple of int
        1 to 3, one a question.
    answers : tuple of str
    """

    questions: tuple[str, ...]
    families: tuple[str, ...]
    procedures: tuple[str, ...]
    steps: tuple[int, ...]
    answers: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The twelve candidates: each solver in both modes."""
        return tuple(name + mode for name in SOLVERS for mode in ("", _THINK))

    def table(self) -> Outcomes:
        """What every candidate earns on every question, with its family as group."""
        replies = [
            [self.ask(Call(to=name, prompt=q)) for name in self.names] for q in self.questions
        ]
        right = [
            [float(reply.text.endswith(f"answer: {answer}")) for reply in row]
            for row, answer in zip(replies, self.answers, strict=True)
        ]
        texts: NDArray[np.object_] = np.empty((len(replies), len(self.names)), dtype=object)
        texts[:] = [[reply.text for reply in row] for row in replies]
        return Outcomes(
            inputs=self.questions,
            names=self.names,
            quality=np.array(right),
            cost=np.array([[reply.cost for reply in row] for row in replies]),
            group=self.families,
            answers=texts,
        )

    def right(self, question: str, text: str) -> bool:
        """Whether an answer to one of the questions is right."""
        return text.endswith(f"answer: {self.answers[self._row(question)]}")

    def ask(self, call: Call) -> Reply:
        """What a solver or the summariser replies; a prompt with no known question fails.

        Raises
        ------
        InputError
            There is no such destination.
        """
        if call.to == SUMMARISER:
            return Reply(text=_most(call.prompt), cost=1.0)
        name, think = call.to.removesuffix(_THINK), call.to.endswith(_THINK)
        if name not in SOLVERS:
            known = ", ".join((*self.names, SUMMARISER))
            raise InputError("call.to", "be a solver", call.to, f"Pick from {known}.")
        question = call.prompt.rstrip().rpartition("\n")[2]
        if question not in self.questions:
            return Reply(text="", failed="no question that is known")
        row = self._row(question)
        family, procedure = self.families[row], self.procedures[row]
        skill, price = SOLVERS[name]
        chance = skill[list(FAMILIES).index(family)]
        chance *= (1.0 if think else 0.75) ** (self.steps[row] - 1)
        told = call.prompt[: -len(question)]
        hint = _most(told)
        if hint:
            shown = hint == f"procedure: {procedure}"
            chance = max(chance, _SHOWN) if shown else chance * _CONFUSED
        right = _draw(name, question) < chance
        cost = price * (_DEARER if think else 1.0) * (1.0 + 0.02 * len(told) / len(question))
        if right:
            said = f"answer: {self.answers[row]}"
            text = f"procedure: {procedure}. {said}" if think else said
        else:
            others = [p for _, p in FAMILIES[family] if p != procedure]
            wrong = others[int(_draw(name, question, "which") * len(others))]
            text = f"procedure: {wrong}. answer: unknown"
        return Reply(text=text, cost=cost)

    def _row(self, question: str) -> int:
        try:
            return self.questions.index(question)
        except ValueError:
            hint = "Ask one of its own."
            raise InputError("question", "be one of this world", question, hint) from None


def draw(n: int, *, rng: Generator) -> World:
    """Different questions of all families.

    Parameters
    ----------
    n : int
        1 to 4000.
    rng : Generator
    """
    n = _check.integer("n", n, low=1, high=4000)
    found: dict[str, tuple[str, str, int, str]] = {}
    while len(found) < n:
        family = list(FAMILIES)[int(rng.integers(len(FAMILIES)))]
        asked, procedure = FAMILIES[family][int(rng.integers(3))]
        a, b, c, e = (int(x) for x in rng.integers(2, 60, 4))
        steps = int(rng.integers(1, 4))
        word = _WORDS[int(rng.integers(len(_WORDS)))] + chr(97 + int(rng.integers(26)))
        after = ("", " , then add one", " , then add one and add one")[steps - 1]
        text = asked.format(a=a, b=b, c=c + 5, d=2 * (c + 3), e=e, w=word) + after
        answer = hashlib.blake2b(f"{procedure} {text}".encode(), digest_size=3).hexdigest()
        found.setdefault(text, (family, procedure, steps, answer))
    columns = list(zip(*found.values(), strict=True))
    return World(tuple(found), *columns)


def _draw(*what: str) -> float:
    """A number in [0, 1) fixed by some texts."""
    digest = hashlib.blake2b("\0".join(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def _most(text: str) -> str:
    """The procedure that stands most often in some answers."""
    every = [p for group in FAMILIES.values() for _, p in group]
    counts = [text.count(f"procedure: {p}") for p in every]
    return f"procedure: {every[int(np.argmax(counts))]}" if any(counts) else ""

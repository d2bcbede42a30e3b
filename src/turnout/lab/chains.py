"""Requests of one to three steps, each a skill of the laboratory, with the only right answer.

"Add 34 and 58; then reverse ..." is no task a model was trained on: it is answered by asking for
its steps, and each step may want another model. Every step of an evaluation request, with the
right result of the step before in its place, is a prompt that no model was trained on.

>>> chain = chains(1, seed=0, steps=(2,))[0]
>>> len(chain.parts), chain.problem.answer == chain.parts[-1].answer
(2, True)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from turnout.core import InputError, _check
from turnout.lab.skills import TEMPLATES, UNITS
from turnout.lab.tasks import TASKS, Problem, held_out

__all__ = ["Chain", "chains"]

_NUMBERS = ("add", "subtract", "convert", "count", "extreme")
_WORDS = ("reverse", "sort", "copy", "initials")
_LARGEST = 999  # the models know numbers of three digits
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Chain:
    """A request of several steps.

    Parameters
    ----------
    problem : Problem
        The whole: its difficulty is the number of steps, which no router may see.
    parts : tuple of Problem
        Each step as it is asked once the one before was answered rightly.
    """

    problem: Problem
    parts: tuple[Problem, ...]


def chains(
    n: int, *, seed: int, steps: Collection[int] = (1, 2), evaluation: bool = True
) -> list[Chain]:
    """Draw `n` requests, the same for the same arguments.

    Parameters
    ----------
    n : int
        How many, >= 1.
    seed : int
        Not negative.
    steps : collection of int
        Numbers of steps to draw from, evenly; each 1 to 3.
    evaluation : bool
        Whether every step is held out from the models' training; else none is.

    Raises
    ------
    InputError
        A value is out of range.
    """
    _check.integer("n", n, low=1)
    _check.integer("seed", seed, low=0)
    if not steps or not set(steps) <= {1, 2, 3}:
        raise InputError("steps", "be numbers from 1 to 3", tuple(steps), "Use (1, 2), say.")
    rng = np.random.default_rng([seed, int(evaluation), 77])
    sizes = tuple(steps)
    return [_chain(rng, sizes[int(rng.integers(len(sizes)))], evaluation) for _ in range(n)]


def _chain(rng: np.random.Generator, size: int, evaluation: bool) -> Chain:
    for _ in range(_TRIES):
        names = _NUMBERS + _WORDS
        name = names[int(rng.integers(len(names)))]
        start = TASKS[name].sample(rng, int(rng.integers(2, 5)))
        if held_out(start.prompt) != evaluation:
            continue
        text, parts = start.prompt, [start]
        while len(parts) < size:
            following = _follow(rng, parts[-1].answer, evaluation)
            if following is None:
                break
            clause, part = following
            text += f" Then {clause}" if text[-1] in ".?" else f"; then {clause}"
            parts.append(part)
        if len(parts) == size:
            return Chain(Problem("chain", size, text, parts[-1].answer), tuple(parts))
    raise AssertionError("the skills leave room for every length")


def _follow(rng: np.random.Generator, found: str, evaluation: bool) -> tuple[str, Problem] | None:
    """A step that goes on from a result: its clause, with "it" for the result, and the step."""
    number = int(found) if found.isdigit() else None
    for _ in range(40):
        made = _word_step(rng, found) if number is None else _number_step(rng, number)
        if made is None:
            continue
        task, clause, answer = made
        prompt = clause.replace("{it}", found)
        if held_out(prompt) == evaluation:
            said = clause.replace("{it}", "it")
            return said[0].lower() + said[1:], Problem(task, 2, prompt, answer)
    return None


def _template(rng: np.random.Generator, name: str) -> str:
    return TEMPLATES[name][int(rng.integers(len(TEMPLATES[name])))]


def _word_step(rng: np.random.Generator, word: str) -> tuple[str, str, str] | None:
    task = ("reverse", "sort", "count")[int(rng.integers(3))]
    if not 2 <= len(word) <= 11 or not word.isalpha():
        return None
    line = _template(rng, task)
    if task == "count":
        letter = word[int(rng.integers(len(word)))]
        return task, line.format(c=letter, s="{it}"), str(word.count(letter))
    return task, line.format(s="{it}"), word[::-1] if task == "reverse" else "".join(sorted(word))


def _number_step(rng: np.random.Generator, number: int) -> tuple[str, str, str] | None:
    task = ("add", "subtract", "convert", "extreme")[int(rng.integers(4))]
    other = int(rng.integers(10, 100))
    if task == "add" and number + other <= _LARGEST:
        return task, _template(rng, task).format(a="{it}", b=other), str(number + other)
    if task == "subtract" and other <= number <= _LARGEST:
        return task, _template(rng, task).format(a="{it}", b=other), str(number - other)
    if task == "convert" and 2 <= number <= 99:
        large, small, factor = UNITS[int(rng.integers(4, len(UNITS)))]
        line = _template(rng, task).format(x="{it}", large=large, small=small)
        return task, line, str(number * factor)
    if task == "extreme" and number <= _LARGEST:
        kind = ("largest", "smallest")[int(rng.integers(2))]
        best = max(number, other) if kind == "largest" else min(number, other)
        return task, _template(rng, kind).format(list=f"{{it}}, {other}"), str(best)
    return None

"""Skill tasks in plain English with graded difficulty and exact graders.

A :class:`Problem` is one request with its only right answer. Every task draws problems at five
difficulties (longer words, more digits, deeper nesting) and several phrasings. Problems come in
two streams that never meet: the SHA-256 of the prompt decides which stream a prompt belongs to,
so a prompt used for evaluation can not have been trained on, whatever the seed of either stream.
The split is by prompt, not by fact: "Add 2 and 3." may be trained on while "What is 2 + 3?" is
held out, which for the smallest difficulties makes memory a legitimate skill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from turnout.core.errors import InputError
from turnout.lab import skills

__all__ = [
    "DIFFICULTIES",
    "TASKS",
    "Problem",
    "Task",
    "grade",
    "held_out",
    "problems",
    "sample",
    "training_problems",
]

DIFFICULTIES = (1, 2, 3, 4, 5)

# One prompt in eight is held out: enough distinct problems even for the smallest task, and
# little enough that training still sees most of the facts.
_FOLDS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """One request and its answer.

    Parameters
    ----------
    task : str
        Name of the task that made it.
    difficulty : int
        1 (easiest) to 5.
    prompt : str
        The request in English: all that a model or a router may see.
    answer : str
        The only right reply, up to white space.
    """

    task: str
    difficulty: int
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Task:
    """A skill: a name, what it asks for and how to draw a problem.

    Parameters
    ----------
    name : str
        One lower-case word.
    summary : str
        What the task asks for, one line.
    draw : callable
        `draw(rng, difficulty) -> (prompt, answer)`.
    """

    name: str
    summary: str
    draw: Callable[[np.random.Generator, int], tuple[str, str]]

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise InputError("name", "be one lower-case word", self.name, "Rename the task.")

    def sample(self, rng: np.random.Generator, difficulty: int) -> Problem:
        """Draw one problem.

        Raises
        ------
        InputError
            If `difficulty` is not an integer from 1 to 5.
        """
        if difficulty not in DIFFICULTIES:
            raise InputError(
                "difficulty", "be an integer from 1 to 5", difficulty, "Pick one of 1, 2, 3, 4, 5."
            )
        prompt, answer = self.draw(rng, difficulty)
        return Problem(self.name, difficulty, prompt, answer)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("copy", "repeat a made-up word", skills.copy),
        Task("reverse", "spell a made-up word backwards", skills.reverse),
        Task("sort", "put letters in alphabetical order", skills.sort),
        Task("brackets", "close the open brackets", skills.brackets),
        Task("add", "add two numbers", skills.add),
        Task("subtract", "subtract one number from another", skills.subtract),
        Task("convert", "convert a quantity to a smaller unit", skills.convert),
        Task("calendar", "find the weekday or month so many steps away", skills.calendar),
        Task("lookup", "find a fact in a list given in the prompt", skills.lookup),
        Task("count", "count a letter in a made-up word", skills.count),
        Task("extreme", "find the largest or smallest number of a list", skills.extreme),
        Task("initials", "give the first letters of words", skills.initials),
    )
}


def held_out(prompt: str) -> bool:
    """Whether `prompt` belongs to evaluation (one in eight) and is never trained on."""
    return hashlib.sha256(prompt.encode()).digest()[0] % _FOLDS == 0


def grade(problem: Problem, reply: str) -> float:
    r"""1.0 if `reply` is the answer, else 0.0; runs of white space count as one space.

    Examples
    --------
    >>> grade(Problem("add", 1, "What is 2 + 3?", "5"), " 5\n")
    1.0
    """
    return float(" ".join(reply.split()) == " ".join(problem.answer.split()))


def sample(
    rng: np.random.Generator,
    *,
    evaluation: bool,
    tasks: tuple[str, ...],
    weights: np.ndarray | None = None,
    difficulties: tuple[int, ...] = DIFFICULTIES,
) -> Problem:
    """Draw one problem from the evaluation or the training stream.

    The task and the difficulty are drawn first, then prompts until one falls in the stream, so
    the split does not bend the mix of tasks.
    """
    if weights is None:
        name = tasks[int(rng.integers(len(tasks)))]
    else:
        name = tasks[int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum()))]
    task = TASKS[name]
    difficulty = difficulties[int(rng.integers(len(difficulties)))]
    while True:
        problem = task.sample(rng, difficulty)
        if held_out(problem.prompt) == evaluation:
            return problem


def _names(tasks: Collection[str] | None) -> tuple[str, ...]:
    """Task names checked against the list, in the list's order."""
    if tasks is None:
        return tuple(TASKS)
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown or not tasks:
        raise InputError(
            "tasks", "name tasks of the laboratory", unknown or (), f"Pick from {', '.join(TASKS)}."
        )
    return tuple(name for name in TASKS if name in set(tasks))


def problems(
    n: int,
    *,
    seed: int,
    tasks: Collection[str] | None = None,
    difficulties: Collection[int] | None = None,
) -> list[Problem]:
    """Draw `n` evaluation problems: the same for the same arguments, never trained on.

    Parameters
    ----------
    n : int
        How many, at least 1.
    seed : int
        Seed of the stream, not negative.
    tasks : collection of str, optional
        Task names to draw from, evenly; all by default.
    difficulties : collection of int, optional
        Difficulties to draw from, evenly; 1 to 5 by default.

    Returns
    -------
    list of Problem
        Drawn independently: a prompt may come twice, as requests do.

    Raises
    ------
    InputError
        If a count, seed, task or difficulty is not one of the above.
    """
    return _draw(n, seed, True, tasks, difficulties)


def training_problems(
    n: int,
    *,
    seed: int,
    tasks: Collection[str] | None = None,
    difficulties: Collection[int] | None = None,
) -> list[Problem]:
    """Draw `n` training problems; arguments as in :func:`problems`, prompts disjoint from it."""
    return _draw(n, seed, False, tasks, difficulties)


def _draw(
    n: int,
    seed: int,
    evaluation: bool,
    tasks: Collection[str] | None,
    difficulties: Collection[int] | None,
) -> list[Problem]:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError("n", "be a positive integer", n, "Ask for at least one problem.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("seed", "be a non-negative integer", seed, "Pass seed=0, say.")
    names = _names(tasks)
    levels = DIFFICULTIES if difficulties is None else tuple(sorted(set(difficulties)))
    if not levels or not set(levels) <= set(DIFFICULTIES):
        raise InputError("difficulties", "be drawn from 1 to 5", levels, "Pass (1, 2), say.")
    rng = np.random.default_rng([seed, int(evaluation)])
    return [sample(rng, evaluation=evaluation, tasks=names, difficulties=levels) for _ in range(n)]

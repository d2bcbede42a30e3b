"""What each model of the pool is: its shape, what it is trained on and for how long.

What the training did not reach is part of the pool: no model has learnt to look up (they guess
among the colours of the list), and only the specialists add three digits or know the calendar
well. The records beside the weights give the held-out accuracy of every cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from turnout.core.errors import InputError
from turnout.lab.config import Config
from turnout.lab.tasks import TASKS
from turnout.lab.tokenizer import VOCABULARY

__all__ = ["PLANS", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model is made.

    Parameters
    ----------
    name : str
        Name in the pool.
    summary : str
        What it is good for, one line.
    config : Config
        Shape.
    mix : tuple of (task, weight)
        Tasks trained on, with how often each is drawn.
    steps : int
        Optimiser steps.
    batch : int
        Problems per step.
    rate : float
        Peak learning rate.
    """

    name: str
    summary: str
    config: Config
    mix: tuple[tuple[str, float], ...]
    steps: int
    batch: int = 128
    rate: float = 3e-3

    def __post_init__(self) -> None:
        for field in ("steps", "batch"):
            if getattr(self, field) < 1:
                raise InputError(field, "be at least 1", getattr(self, field), "Raise it.")
        if not 0 < self.rate < 1:
            raise InputError("rate", "be between 0 and 1", self.rate, "Use 4e-3, say.")
        for task, weight in self.mix:
            if task not in TASKS or not weight > 0:
                raise InputError("mix", "give tasks weights above 0", (task, weight), "Correct it.")


_LETTERS = ("copy", "reverse", "sort", "brackets", "count")
_NUMBERS = ("add", "subtract", "convert", "calendar", "extreme")


def _mix(names: Iterable[str], **weights: float) -> tuple[tuple[str, float], ...]:
    """Tasks with their weights, 1 where none is given."""
    return tuple((name, weights.get(name, 1.0)) for name in names)


# Every plan fits one thread: matrices this small gain little from a second, and two models
# trained side by side use two cores fully.
PLANS: Final[dict[str, Plan]] = {
    plan.name: plan
    for plan in (
        Plan(
            "pico",
            "cheap generalist: the easy part of everything",
            Config(width=32, layers=2, heads=2, vocabulary=VOCABULARY),
            _mix(TASKS),
            steps=2000,
        ),
        Plan(
            "letters",
            "specialist: copying, reversing, sorting and counting letters, closing brackets",
            Config(width=96, layers=4, heads=4, vocabulary=VOCABULARY),
            _mix(_LETTERS),
            steps=3000,
        ),
        Plan(
            "numbers",
            "specialist: sums, differences, extremes, units, calendar",
            Config(width=96, layers=4, heads=4, vocabulary=VOCABULARY),
            _mix(_NUMBERS, calendar=1.5, extreme=0.75),
            steps=6000,
        ),
        Plan(
            "grand",
            "dear generalist: all tasks, most of them well",
            Config(width=176, layers=4, heads=4, vocabulary=VOCABULARY),
            _mix(TASKS, lookup=2.0),
            steps=2000,
            batch=192,
        ),
    )
}

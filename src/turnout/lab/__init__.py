"""The laptop laboratory: small real tasks and small real language models, anywhere.

Skill tasks in English with exact graders (:mod:`turnout.lab.tasks`), four decoder language models
trained on them (:mod:`turnout.lab.train`, torch) and run in plain numpy
(:mod:`turnout.lab.model`), and what it costs to ask them (:mod:`turnout.lab.pool`). A cheap
generalist, two specialists and a dear generalist: routing between them has something to win, on
any computer, in seconds.
"""

from __future__ import annotations

from turnout.lab.config import Config
from turnout.lab.model import LanguageModel, Reply
from turnout.lab.pool import (
    USD_PER_TFLOP,
    Asked,
    as_pool,
    ask,
    cost,
    load,
    models,
    names,
    one_thread,
    outcomes,
    prices,
)
from turnout.lab.tasks import DIFFICULTIES, TASKS, Problem, Task, grade, problems

__all__ = [
    "DIFFICULTIES",
    "TASKS",
    "USD_PER_TFLOP",
    "Asked",
    "Config",
    "LanguageModel",
    "Problem",
    "Reply",
    "Task",
    "as_pool",
    "ask",
    "cost",
    "grade",
    "load",
    "models",
    "names",
    "one_thread",
    "outcomes",
    "prices",
    "problems",
]

"""The tables and splits that `routers.py` judges on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.bench import read
from turnout.core import DataError, Outcomes

__all__ = ["TASKS", "Data", "Task"]

ROUTELLM = "routellm_gpt4_mixtral.csv.gz"
NINE = "llmrouter_9models.csv.gz"
ROUTERBENCH = "routerbench_0shot_{}_{}.csv.gz"
GSM8K = "gsm8k"


@dataclass(frozen=True, eq=False)
class Data:
    """What one task judges on.

    Parameters
    ----------
    train : Outcomes
        Also judged, out of fold, where there is no `test`.
    test : Outcomes, optional
    folds : int
    groups_out : bool
        Folds of whole groups.
    """

    train: Outcomes
    test: Outcomes | None = None
    folds: int = 5
    groups_out: bool = False

    def sample(self, rows: int, seed: int) -> Data:
        """At most so many rows of each part, and at most three folds."""
        return Data(
            _some(self.train, rows, seed),
            None if self.test is None else _some(self.test, rows, seed),
            min(self.folds, 3),
            self.groups_out,
        )


@dataclass(frozen=True)
class Task:
    """A table and a way of splitting it.

    Parameters
    ----------
    title : str
    measure : str
        The figure of it that is compared: "apgr" with two models, else "aiq".
    load : callable
        From the folder of the tables to the data.
    """

    title: str
    measure: str
    load: Callable[[Path], Data]


def _some(outcomes: Outcomes, rows: int, seed: int) -> Outcomes:
    order = np.random.default_rng(seed).permutation(outcomes.n)
    return outcomes.take(np.sort(order[:rows]))


def _file(folder: Path, name: str) -> Outcomes:
    return read(folder / name).outcomes


def _subject(outcomes: Outcomes, keep: Callable[[str], bool]) -> Outcomes:
    if outcomes.group is None:
        raise DataError("the table", "name the benchmark of each row", "no groups", "Use another.")
    return outcomes.take(np.flatnonzero([keep(label) for label in outcomes.group]))


def _mmlu(folder: Path) -> Outcomes:
    return _subject(_file(folder, ROUTELLM), lambda label: label != GSM8K)


def _gsm8k(folder: Path) -> Outcomes:
    return _subject(_file(folder, ROUTELLM), lambda label: label == GSM8K)


def _tasks_out(folder: Path) -> Data:
    table = _file(folder, NINE)
    return Data(table, folds=len(set(table.group or ())), groups_out=True)


def _routerbench(name: str) -> Callable[[Path], Data]:
    def load(folder: Path) -> Data:
        train, test = (_file(folder, ROUTERBENCH.format(name, part)) for part in ("train", "test"))
        return Data(train, test)

    return load


#: By the name on the command line and in the results.
TASKS = {
    "two": Task(
        "RouteLLM: MMLU and GSM8K, two models",
        "apgr",
        lambda folder: Data(_file(folder, ROUTELLM)),
    ),
    "subjects": Task(
        "RouteLLM: MMLU, whole subjects left out, in six parts",
        "apgr",
        lambda folder: Data(_mmlu(folder), folds=6, groups_out=True),
    ),
    "to_gsm8k": Task(
        "RouteLLM: learnt on MMLU, judged on GSM8K",
        "apgr",
        lambda folder: Data(_mmlu(folder), _gsm8k(folder)),
    ),
    "to_mmlu": Task(
        "RouteLLM: learnt on GSM8K, judged on MMLU",
        "apgr",
        lambda folder: Data(_gsm8k(folder), _mmlu(folder)),
    ),
    "nine": Task(
        "LLMRouter: nine open models, fourteen tasks",
        "aiq",
        lambda folder: Data(_file(folder, NINE)),
    ),
    "tasks": Task("LLMRouter: nine open models, each task left out in turn", "aiq", _tasks_out),
    "arc": Task(
        "RouterBench: ARC-Challenge, eleven models, its own training and test rows",
        "aiq",
        _routerbench("arc_challenge"),
    ),
    "winogrande": Task(
        "RouterBench: WinoGrande, eleven models, its own training and test rows",
        "aiq",
        _routerbench("winogrande"),
    ),
}

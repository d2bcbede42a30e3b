"""Rows of a log of answers, and the sets of training answers that are chosen from it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Outcomes, _check
from turnout.parts.files import replace_file

__all__ = ["ORDERS", "LogRow", "distillation", "log_of", "questions", "ranked", "write_sets"]


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """One answer of one model to one question.

    Parameters
    ----------
    task, query, gold : str
        Which task, what was asked, and the right answer.
    model, response : str
        Who answered what.
    performance : float
        In [0, 1]; NaN = never graded.
    judge : float
        What a judge gave, any finite scale; NaN = not judged.
    tokens : int
        Written, >= 0.
    description : str
        Of the task.
    billions : float
        Parameters of the model, in billions; NaN = unknown.
    """

    task: str
    query: str
    gold: str
    model: str
    response: str
    performance: float
    judge: float = math.nan
    tokens: int = 0
    description: str = ""
    billions: float = math.nan

    def __post_init__(self) -> None:
        if not math.isnan(self.performance):
            _check.number("log.performance", self.performance, low=0.0, high=1.0)
        _check.integer("log.tokens", self.tokens, low=0)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two rows answers to the same question."""
        return self.task, self.query, self.gold


def _known(value: float) -> float:
    """A figure to sort by: one that is not known comes last."""
    return -math.inf if math.isnan(value) else value


#: What makes an answer better: by kind of order, the first figure first.
ORDERS: dict[str, Callable[[LogRow], tuple[float, float]]] = {
    "perf": lambda row: (_known(row.performance), float(row.tokens)),
    "judge": lambda row: (_known(row.judge), float(row.tokens)),
    "hybrid": lambda row: (_known(row.performance), _known(row.judge)),
}


def questions(log: Sequence[LogRow]) -> list[list[LogRow]]:
    """The rows of each question, in the order in which questions first appear.

    Rows are brought together by task, query and right answer; nothing is assumed about how many
    models answered or where their rows stand.
    """
    found: dict[tuple[str, str, str], list[LogRow]] = {}
    for row in log:
        found.setdefault(row.key, []).append(row)
    return list(found.values())


def ranked(rows: Sequence[LogRow], by: str) -> list[LogRow]:
    """Answers of one question, best first; equals by name of the model.

    Raises
    ------
    InputError
        There is no such order.
    """
    if by not in ORDERS:
        raise InputError("by", f"be one of {', '.join(ORDERS)}", by, "Choose one.")
    figures = ORDERS[by]
    return sorted(rows, key=lambda row: (*(-figure for figure in figures(row)), row.model))


def log_of(
    outcomes: Outcomes, gold: Sequence[str], *, judge: Sequence[Sequence[float]] | None = None
) -> tuple[LogRow, ...]:
    """A log of the seen cells of a table with answers; tokens are counted as words.

    Parameters
    ----------
    outcomes : Outcomes
        With texts, answers and groups (the tasks).
    gold : n texts
        The right answers.
    judge : array (n, m), optional

    Raises
    ------
    InputError
        The table has no texts, answers or groups.
    """
    for name in ("answers", "group"):
        if getattr(outcomes, name) is None:
            raise InputError(f"outcomes.{name}", "be there", None, "Keep them with the table.")
    if isinstance(outcomes.inputs, np.ndarray):
        raise InputError("outcomes.inputs", "hold texts", "an array", "Keep what was asked.")
    assert outcomes.answers is not None
    assert outcomes.group is not None
    return tuple(
        LogRow(
            task=outcomes.group[i],
            query=outcomes.inputs[i],
            gold=gold[i],
            model=name,
            response=str(outcomes.answers[i, j] or ""),
            performance=float(outcomes.quality[i, j]),
            judge=math.nan if judge is None else float(judge[i][j]),
            tokens=len(str(outcomes.answers[i, j] or "").split()),
        )
        for i in range(outcomes.n)
        for j, name in enumerate(outcomes.names)
        if outcomes.seen[i, j]
    )


def distillation(
    log: Sequence[LogRow],
    by: str,
    *,
    top_k: int = 5,
    small: bool = False,
    rng: Generator | None = None,
) -> list[dict[str, str]]:
    """Rows to tune a model on: the right answer, then the best answers that were given.

    Of each question: one row with the right answer; then up to `top_k` responses in order,
    stopping at the first of performance 0 (or never graded). "baseline" repeats the right answer
    instead, so that the sets are equally long at most; "random" takes any responses.

    Parameters
    ----------
    log : sequence of LogRow
    by : str
        "perf", "judge", "hybrid", "baseline" or "random".
    top_k : int
        Most responses a question, >= 0.
    small : bool
        Only models of 7 to 12 billion parameters teach.
    rng : Generator, optional
        For "random".

    Returns
    -------
    list of dict
        `instruction` (the task's description), `input` (the query) and `output`.

    Raises
    ------
    InputError
        There is no such choice, `top_k` is negative, or "random" has no generator.
    """
    top_k = _check.integer("top_k", top_k, low=0)
    known = (*ORDERS, "baseline", "random")
    if by not in known:
        raise InputError("by", f"be one of {', '.join(known)}", by, "Choose one.")
    if by == "random" and rng is None:
        raise InputError("rng", "be a generator", None, "Pass numpy.random.default_rng(0).")
    found = []
    for rows in questions(log):
        first = rows[0]
        outputs = [first.gold]
        teachers = [row for row in rows if not small or 7.0 <= row.billions <= 12.0]
        if by == "baseline":
            outputs += [first.gold] * top_k
        elif by == "random":
            assert rng is not None
            picked = rng.permutation(len(teachers))[:top_k]
            outputs += [teachers[int(i)].response for i in picked]
        else:
            for row in ranked(teachers, by)[:top_k]:
                if not row.performance > 0:
                    break
                outputs.append(row.response)
        found += [
            {"instruction": first.description or first.task, "input": first.query, "output": text}
            for text in outputs
        ]
    return found


def write_sets(path: str | Path, rows: Sequence[dict[str, str]]) -> None:
    """Write training rows as a JSON list, as common tuning tools read it."""
    text = json.dumps(list(rows), ensure_ascii=False, indent=1)
    replace_file(path, text.encode("utf-8", "surrogatepass"))

"""Readers of what `turnout.bench.rank_aggregation` ranks: tables of scores and results of routers.

Five kinds of files are known by what is in them.

* *Scores of tasks*: CSV `Model,<task>,<task>,...`, one row a system (first column also System,
  Method or Name).
* *Scores of items*: CSV `System,Utterance,<metric>,...`, one row a system and item; every metric
  is a task. Mind which column is which: in published tables of summaries `System` counts the
  texts and `Utterance` names who wrote the summary; `system` and `item` then say so.
* *Results of routers*: the JSON of `benchmarks/routers.py`; its tasks are the tasks, its methods
  the systems.
* *Rows of* `turnout bench --json`: one file a task; several files are read together.
* *Outcomes*: any table that `turnout bench` reads; its models are the systems, its prompts the
  items, its groups the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from turnout.bench import files
from turnout.bench.columns import Columns
from turnout.bench.landmarks import LABELS
from turnout.bench.rank_aggregation import Scores
from turnout.bench.reader import read
from turnout.core import DataError, InputError, Outcomes
from turnout.core._check import Float

__all__ = ["LOWER", "Found", "read_scores"]

#: Figures of routers of which less is better.
LOWER = (
    *("cost", "cpt50", "cpt80", "cost_to_match", "ece"),
    *("decision_us", "decision_us_p50", "decision_us_p99", "fit_seconds"),
)

_MODEL = ("model", "system", "method", "name", "router")
_ITEM = ("utterance", "instance", "item", "example")


@dataclass(frozen=True, eq=False)
class Found:
    """Scores as they were read.

    Parameters
    ----------
    scores : Scores
        Every task has an item that all systems scored.
    notes : tuple of str
        What was left out, and how the file was taken.
    """

    scores: Scores
    notes: tuple[str, ...]


def read_scores(
    paths: Sequence[str | Path],
    *,
    columns: Sequence[str] = (),
    leave: Sequence[str] = (),
    lower: Sequence[str] = (),
    measure: str | None = None,
    system: str | None = None,
    item: str | None = None,
    landmarks: bool = False,
) -> Found:
    """Read scores of systems on tasks.

    Systems without a score in some task of one item are left out, and items that some system
    lacks; both are noted.

    Parameters
    ----------
    paths : sequence of path
        One file, or several of `turnout bench --json`.
    columns : sequence of str
        Tasks to keep; all by default.
    leave : sequence of str
        Tasks to leave out, such as a column that is a mean of the others.
    lower : sequence of str
        Tasks of which less is better.
    measure : str, optional
        Figure to rank routers by, such as "aiq" or "cpt50"; by default the one that the results
        name for each task, else "aiq".
    system, item : str, optional
        Columns that name the system and the item, where the header does not say.
    landmarks : bool
        Rank the landmarks among the routers.

    Raises
    ------
    DataError
        A file holds nothing that can be ranked.
    InputError
        A task, column or measure is unknown.
    """
    sources = [Path(path) for path in paths]
    if not sources:
        raise InputError("files", "name at least one", [], "Pass a table of scores.")
    notes: list[str] = []
    if all(source.suffix == ".json" for source in sources):
        parts = [_results(source, measure, landmarks) for source in sources]
    elif len(sources) > 1:
        rule = "be JSON of turnout bench where there are several"
        raise InputError("files", rule, [source.name for source in sources], "Pass one table.")
    else:
        parts = [_table(sources[0], system, item, notes)]
    scores = _joined(parts)
    kept = _chosen(scores, columns, leave)
    unknown = sorted(set(lower) - set(kept.tasks))
    if unknown:
        rule = f"be among {', '.join(kept.tasks)}"
        raise InputError("lower", rule, unknown, "Correct the spelling.")
    kept = Scores(
        systems=kept.systems,
        tasks=kept.tasks,
        values=kept.values,
        lower=tuple(dict.fromkeys((*kept.lower, *lower))),
    )
    return Found(_whole(kept, notes), tuple(notes))


def _chosen(scores: Scores, columns: Sequence[str], leave: Sequence[str]) -> Scores:
    unknown = sorted((set(columns) | set(leave)) - set(scores.tasks))
    if unknown:
        rule = f"be among {', '.join(scores.tasks)}"
        raise InputError("columns", rule, unknown, "Correct the spelling.")
    kept = [task for task in columns or scores.tasks if task not in set(leave)]
    if not kept:
        raise InputError("columns", "leave at least one task", list(leave), "Keep one.")
    return scores.only(tasks=kept)


def _whole(scores: Scores, notes: list[str]) -> Scores:
    """Without systems that have no score in a task, and without incomplete items."""
    lacking: dict[str, list[str]] = {}
    for task, value in zip(scores.tasks, scores.values, strict=True):
        for j in np.flatnonzero(np.isnan(value).all(axis=0)):
            lacking.setdefault(scores.systems[j], []).append(task)
    kept = [name for name in scores.systems if name not in lacking]
    if not kept:
        hint = "Choose tasks that one system has in common."
        raise DataError("systems", "include one with a score in every task", lacking, hint)
    for name, tasks in lacking.items():
        notes.append(f"left out {name}: no score in {', '.join(tasks)}")
    result = scores.only(systems=kept)
    if result.incomplete:
        notes.append(f"left out {result.incomplete:,} of {result.n:,} items that a system lacks")
    return result.complete()


def _joined(parts: Sequence[Scores]) -> Scores:
    if len(parts) == 1:
        return parts[0]
    systems = tuple(dict.fromkeys(name for part in parts for name in part.systems))
    tasks: list[str] = []
    values: list[Float] = []
    for part in parts:
        for task, value in zip(part.tasks, part.values, strict=True):
            if task in tasks:
                raise DataError("files", "hold each task once", task, "Rename one file.")
            wide = np.full((len(value), len(systems)), np.nan)
            wide[:, [systems.index(name) for name in part.systems]] = value
            tasks.append(task)
            values.append(wide)
    lower = tuple(task for part in parts for task in part.lower)
    return Scores(systems=systems, tasks=tuple(tasks), values=tuple(values), lower=lower)


def _results(source: Path, measure: str | None, landmarks: bool) -> Scores:
    """`benchmarks/results/routers.json`, or the rows of `turnout bench --json`."""
    document = files.load_json(source)
    tasks: dict[str, tuple[str, dict[str, Any]]] = {}
    if isinstance(document, dict) and isinstance(document.get("tasks"), dict):
        for name, task in document["tasks"].items():
            figure = measure or str(task.get("measure", "aiq"))
            tasks[name] = (figure, {who: row.get(figure) for who, row in task["rows"].items()})
    elif isinstance(document, list) and all(
        isinstance(row, dict) and "method" in row for row in document
    ):
        figure = measure or "aiq"
        tasks[source.stem] = (figure, {row["method"]: row.get(figure) for row in document})
    else:
        hint = "Write one with: turnout bench DATA --json FILE."
        raise DataError(str(source), "hold results of routers", type(document).__name__, hint)
    names = dict.fromkeys(
        name for _, row in tasks.values() for name in row if landmarks or name not in LABELS
    )
    if not any(
        _figure(value) == _figure(value) for _, row in tasks.values() for value in row.values()
    ):
        hint = "Such as aiq, cpt50, quality."
        raise InputError("measure", f"be a figure of {source.name}", measure, hint)
    return Scores(
        systems=tuple(names),
        tasks=tuple(tasks),
        values=tuple(
            np.array([[_figure(row.get(name)) for name in names]]) for _, row in tasks.values()
        ),
        lower=tuple(task for task, (figure, _) in tasks.items() if figure in LOWER),
    )


def _figure(value: Any) -> float:
    """A figure that may come with its interval; NaN where there is none."""
    if isinstance(value, list) and value:
        value = value[0]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else float("nan")


def _table(source: Path, system: str | None, item: str | None, notes: list[str]) -> Scores:
    frame, more = files.load(source)
    who = _column(frame, system, _MODEL, first=True)
    if who is not None:
        notes += more
        each = _column(frame, item, _ITEM, first=False)
        if each is None:
            return _of_tasks(frame, who, notes)
        return _of_items(frame, who, each, source)
    table = read(source)
    notes += table.report.notes
    notes.append(f"a table of outcomes ({table.layout}): models by the quality of their answers")
    return _of_outcomes(table.outcomes)


def _column(frame: Columns, asked: str | None, known: Sequence[str], *, first: bool) -> str | None:
    if asked is not None:
        if asked not in frame:
            rule = f"be a column: {', '.join(frame.names[:12])}"
            raise InputError("column", rule, asked, "Correct the spelling.")
        return asked
    names = frame.names[:1] if first else frame.names[:2]
    return next((name for name in names if name.strip().lower() in known), None)


def _of_tasks(frame: Columns, who: str, notes: list[str]) -> Scores:
    tasks = [name for name in frame.names if name != who]
    columns = {name: _numbers(frame[name], name) for name in tasks}
    systems: dict[str, None] = {}
    for name in (str(name).strip() for name in frame[who]):
        again = next(
            f"{name} ({k})" if k > 1 else name for k in count(1) if _free(name, k, systems)
        )
        systems[again] = None
        if again != name:
            notes.append(f"{name} stands there more than once: the next is called {again}")
    return Scores(
        systems=tuple(systems),
        tasks=tuple(tasks),
        values=tuple(columns[name][None] for name in tasks),
    )


def _free(name: str, k: int, taken: Mapping[str, None]) -> bool:
    return (f"{name} ({k})" if k > 1 else name) not in taken


def _of_items(frame: Columns, who: str, each: str, source: Path) -> Scores:
    systems = tuple(dict.fromkeys(str(name).strip() for name in frame[who]))
    items = tuple(dict.fromkeys(str(name) for name in frame[each]))
    column = {name: j for j, name in enumerate(systems)}
    row = {name: i for i, name in enumerate(items)}
    at = np.array([row[str(name)] for name in frame[each]])
    by = np.array([column[str(name).strip()] for name in frame[who]])
    if len(set(zip(at.tolist(), by.tolist(), strict=True))) < len(at):
        hint = "Average the repeats, or name the columns by --system and --item."
        raise DataError(str(source), f"hold each {who} and {each} once", "a repeat", hint)
    tasks = [name for name in frame.names if name not in (who, each)]
    values = []
    for name in tasks:
        table = np.full((len(items), len(systems)), np.nan)
        table[at, by] = _numbers(frame[name], name)
        values.append(table)
    return Scores(systems=systems, tasks=tuple(tasks), values=tuple(values))


def _of_outcomes(outcomes: Outcomes) -> Scores:
    labels = outcomes.group or ("all",) * outcomes.n
    tasks = tuple(dict.fromkeys(labels))
    at = np.array([tasks.index(label) for label in labels])
    return Scores(
        systems=outcomes.names,
        tasks=tasks,
        values=tuple(outcomes.quality[at == t] for t in range(len(tasks))),
    )


def _numbers(cells: Sequence[Any], name: str) -> Float:
    found = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        text = "" if cell is None else str(cell).strip()
        if text in ("", "-", "nan", "NaN", "NA", "None"):
            continue
        try:
            found[row] = float(text)
        except ValueError:
            hint = "Leave the column out, or empty the cell."
            raise DataError(f"column {name!r}, row {row + 1},", "be a number", cell, hint) from None
    return found

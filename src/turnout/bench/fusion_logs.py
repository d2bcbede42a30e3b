"""Reads logs of answers in the form of FusionBench and LLMRouter: one row a query and model."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

from turnout.bench import files
from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import blank, number, text
from turnout.core import DataError
from turnout.parts.answer_log import LogRow

__all__ = ["read_log"]

_NAMES = {
    "task": ("task_name", "task_id"),
    "description": ("task_description",),
    "query": ("query", "original_query"),
    "gold": ("ground_truth", "gt"),
    "model": ("llm", "model_name"),
    "response": ("response",),
    "performance": ("performance", "effect"),
    "judge": ("llm_judge",),
    "tokens": ("output_tokens", "output_tokens_num"),
    "size": ("size",),
}
_NEEDED = ("task", "query", "gold", "model", "response", "performance")


def read_log(path: str | Path) -> tuple[LogRow, ...]:
    """Rows of a log, in the file's order.

    Nothing is assumed about how many models answered a query, and answers that were never graded
    stay so (NaN). A performance that is the printed form of one measure, such as
    `{"pass@1": 1.0}`, is read as that number. Printed forms are read as literals; nothing in a
    file is run.

    Parameters
    ----------
    path : path
        JSON, JSON Lines, CSV, TSV (also gzipped) or Parquet.

    Raises
    ------
    DataError
        A column is missing, or a cell is no figure in its range.
    """
    source = Path(path)
    frame, _ = files.load(source)
    column = {
        field: next((name for name in names if name in frame), "")
        for field, names in _NAMES.items()
    }
    missing = [field for field in _NEEDED if not column[field]]
    if missing:
        rule = f"hold a column {' or '.join(_NAMES[missing[0]])}"
        raise DataError(str(source), rule, ", ".join(frame.names), "Rename or add it.")
    return tuple(_row(frame, column, i, source) for i in range(len(frame)))


def _row(frame: Columns, column: dict[str, str], i: int, source: Path) -> LogRow:
    def cell(field: str) -> Any:
        return frame[column[field]][i] if column[field] else None

    def figure(field: str) -> float:
        value = _measure(cell(field))
        if value is None:
            where = f"{source}: column {column[field]!r}, row {i + 1}"
            raise DataError(where, "be a number", cell(field), "Correct it, or leave it blank.")
        return value

    performance, tokens = figure("performance"), figure("tokens")
    if not math.isnan(performance) and not 0.0 <= performance <= 1.0:
        where = f"{source}: column {column['performance']!r}, row {i + 1}"
        raise DataError(where, "lie in [0, 1]", performance, "Scale the grades.")
    size = text(cell("size")).strip().lower().removesuffix("b")
    return LogRow(
        task=text(cell("task")),
        query=text(cell("query")),
        gold=text(cell("gold")),
        model=text(cell("model")).strip(),
        response=text(cell("response")),
        performance=performance,
        judge=figure("judge"),
        tokens=0 if math.isnan(tokens) else int(tokens),
        description=text(cell("description")),
        billions=number(size) or math.nan,
    )


def _measure(value: Any) -> float | None:
    """A cell as a number, also where it is one measure by name; NaN where blank."""
    if blank(value):
        return math.nan
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if isinstance(value, dict):
        return number(next(iter(value.values()))) if len(value) == 1 else None
    return number(value)

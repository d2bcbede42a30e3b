"""Cells made numbers and texts, and what a layout hands back."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from turnout.bench.columns import Columns
from turnout.core import DataError
from turnout.core._check import Float

__all__ = ["Draft", "Layout", "Prices", "blank", "numbers", "pivot", "text"]

_BLANK = frozenset(("", "nan", "na", "n/a", "null", "none", "-"))
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A price table: US$ per million tokens read and written, or a flat price an answer."""

    per_million_in: Mapping[str, float]
    per_million_out: Mapping[str, float]
    flat: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def names(self) -> set[str]:
        """The models it prices."""
        return set(self.per_million_in) | set(self.flat)


@dataclass(kw_only=True)
class Draft:
    """A table before its figures are checked: rows in order, columns by model.

    Parameters
    ----------
    prompts : list of str
    names : list of str
    quality : array (n, m)
    cost : array (n, m), optional
        None where the file tells no cost.
    latency, propensity : array (n, m), optional
    group, split : list of str, optional
    answers : array of object (n, m), optional
    notes : list of str
        What a reader of the report must know.
    """

    prompts: list[str]
    names: list[str]
    quality: Float
    cost: Float | None = None
    latency: Float | None = None
    propensity: Float | None = None
    group: list[str] | None = None
    split: list[str] | None = None
    answers: NDArray[np.object_] | None = None
    notes: list[str] = field(default_factory=list)


class Layout(Protocol):
    """What each file of this package offers."""

    NAME: str
    NEEDS: str

    def matches(self, frame: Columns, prices: Prices | None) -> bool: ...
    def build(self, frame: Columns, prices: Prices | None) -> Draft: ...


def blank(value: Any) -> bool:
    """Whether a cell says nothing."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in _BLANK
    return isinstance(value, float) and math.isnan(value)


def number(value: Any) -> float | None:
    """A cell as a number: NaN where blank, None where it is no number."""
    if blank(value):
        return math.nan
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        value = word
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def numbers(values: Iterable[Any], column: str) -> Float:
    """A column as numbers, (n,); blanks are NaN.

    Raises
    ------
    DataError
        A cell is neither a number nor blank.
    """
    result = []
    for row, value in enumerate(values, start=1):
        figure = number(value)
        if figure is None:
            hint = "Correct the cell, or leave it blank where nothing was seen."
            raise DataError(f"column {column!r}, row {row}", "be a number", value, hint)
        result.append(figure)
    return np.array(result, dtype=np.float64)


def text(value: Any) -> str:
    """A cell as a prompt: a list of strings or of chat messages is joined by line ends."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return text(value.get("content"))
    if isinstance(value, Sequence | np.ndarray):
        return "\n".join(text(part) for part in value)
    return str(value)


def listed(value: Any) -> str:
    """A prompt that may be the printed form of a Python list of strings."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return text(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return text(value)


def pivot(
    rows: Sequence[tuple[Any, ...]], models: Sequence[str]
) -> tuple[list[tuple[Any, ...]], list[str], NDArray[np.int64], NDArray[np.int64], int]:
    """Places in a table (n, m) of rows that each tell one model's answer.

    A key and model seen more than once is another request with the same words: its k-th
    occurrence goes to the k-th row of that key, so that nothing is averaged or lost.

    Returns
    -------
    keys, names, row, column, repeats
        The key of each table row, the models in order of appearance, where each input row goes,
        and how many input rows repeat a key and model.
    """
    names = list(dict.fromkeys(models))
    place = {name: column for column, name in enumerate(names)}
    seen: dict[tuple[Any, ...], int] = {}
    where: dict[tuple[Any, ...], int] = {}
    keys: list[tuple[Any, ...]] = []
    row = np.empty(len(rows), dtype=np.int64)
    column = np.empty(len(rows), dtype=np.int64)
    for i, (key, model) in enumerate(zip(rows, models, strict=True)):
        count = seen.get((key, model), 0)
        seen[key, model] = count + 1
        if (key, count) not in where:
            where[key, count] = len(keys)
            keys.append(key)
        row[i], column[i] = where[key, count], place[model]
    repeats = sum(count - 1 for count in seen.values())
    return keys, names, row, column, repeats


def placed(
    values: Any, row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, int]
) -> Float:
    """A table (n, m) of values at their places, NaN elsewhere."""
    table = np.full(shape, np.nan)
    table[row, column] = values
    return table

"""Prompts of a file, whatever else the file holds: tables, logs, exports of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turnout.bench import files
from turnout.core import DataError, InputError

__all__ = ["COLUMNS", "read_prompts"]

#: Columns that hold prompts, the first there is being taken.
COLUMNS = ("prompt", "text", "question", "query", "input", "instruction", "messages", "turns")


def read_prompts(
    path: str | Path, *, column: str | None = None, trust_pickle: bool = False
) -> tuple[str, ...]:
    """The prompts of a file, row by row; of a long table each prompt once.

    Rows that name a destination each (`model` beside the prompt) repeat their prompt once for
    every destination, which is no repetition in the log: such a table gives each prompt once.

    Parameters
    ----------
    path : path
        Any format that `turnout bench` reads.
    column : str, optional
        Where the prompts stand; by default the first of `COLUMNS` there is.
    trust_pickle : bool
        Open pickles, which can run any code.

    Raises
    ------
    DataError
        The file cannot be read, or no column holds prompts.
    InputError
        There is no such column.
    """
    frame, _ = files.load(Path(path), trust_pickle=trust_pickle)
    names = {name.strip().lower(): name for name in frame.names}
    if column is not None:
        if column not in frame:
            rule = f"be a column: {', '.join(frame.names[:12])}"
            raise InputError("column", rule, column, "Correct the spelling.")
        where = column
    else:
        found = next((names[name] for name in COLUMNS if name in names), None)
        if found is None:
            hint = "Name the column of the prompts."
            raise DataError(str(path), f"have one of {', '.join(COLUMNS)}", frame.names[:6], hint)
        where = found
    texts = tuple(_text(cell) for cell in frame[where])
    if "model" in names and "id" not in names:
        texts = tuple(dict.fromkeys(texts))
    return texts


def _text(cell: Any) -> str:
    """A cell as text: messages and turns one after the other."""
    if cell is None:
        return ""
    if isinstance(cell, list):
        return "\n".join(_text(part) for part in cell)
    if isinstance(cell, dict):
        return _text(cell.get("content"))
    return str(cell)

"""Files of kept prompts: made, filled and looked into."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from turnout.serve.prompts import file
from turnout.serve.prompts.file import SHIFT
from turnout.serve.prompts.keeper import Prompts

__all__ = ["DAY", "NOON", "ON", "SECRET", "filled", "id_at", "keeping", "rows", "texts", "written"]

#: 2026-11-28 12:00:00 UTC.
NOON = 1_795_867_200_000
DAY = 86_400_000
SECRET = "the quick brown fox keeps a secret"
ON = "[prompts]\nkeep_days = 30\n"


def id_at(ms: int, count: int = 0) -> int:
    """The id of a request that arrived at a moment."""
    return ms << SHIFT | count


def rows(path: Path) -> list[tuple[Any, ...]]:
    """All that is kept."""
    with closing(sqlite3.connect(path)) as reader:
        query = "SELECT id, key, goes, chars, prompt FROM prompts ORDER BY id"
        return reader.execute(query).fetchall()


def texts(path: Path) -> list[str]:
    return [row[4] for row in rows(path)]


def written(folder: Path) -> bytes:
    """Every byte in the files of a folder and of those in it."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def filled(path: Path, *prompts: tuple[int, str, int, str]) -> None:
    """A file in which some prompts are kept already; each with its days."""
    with closing(file.connect(path)) as connection:
        file.append(connection, [(id_, key, days * DAY, text) for id_, key, days, text in prompts])


def keeping(path: Path, **more: Any) -> Prompts:
    """Keeps prompts for 30 days, at a clock that stands still."""
    return Prompts(path, keep_days=30, now=lambda: NOON, **more)

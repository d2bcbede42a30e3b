"""Reads a ledger, of this version or the one before, while it may be in use; changes nothing."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from turnout.core import ConfigError
from turnout.serve.money import _schema

__all__ = ["find", "id_text", "inspect", "latest", "number", "rows", "spend"]


def id_text(number: int) -> str:
    """How clients see a request's id."""
    return f"tn-{number:016x}"


def number(text: str) -> int | None:
    """The id that a text shows; None where it shows none."""
    if len(text) != 19 or not text.startswith("tn-"):
        return None
    try:
        found = int(text[3:], 16)
    except ValueError:
        return None
    return found if 0 <= found < 2**63 and id_text(found) == text else None


def rows(path: Path) -> list[dict[str, Any]]:
    """Every request, oldest first, by the names of the view `outcomes`.

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    with _schema.reading(path) as reader:
        query = "SELECT * FROM outcomes ORDER BY time, id"
        return [_schema.unpack(row) for row in reader.execute(query)]


def latest(path: Path, count: int) -> list[dict[str, Any]]:
    """The newest requests, newest first, by the names of the view `outcomes`.

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    with _schema.reading(path) as reader:
        query = "SELECT * FROM outcomes ORDER BY time DESC LIMIT ?"
        if _schema.version(reader) > 1:
            query = """SELECT * FROM outcomes WHERE number IN
                (SELECT id FROM entries ORDER BY id DESC LIMIT ?) ORDER BY number DESC"""
        return [_schema.unpack(row) for row in reader.execute(query, (count,))]


def spend(path: Path, since: float = 0.0) -> float:
    """USD spent on requests that arrived at or after `since` (seconds since 1970).

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    with _schema.reading(path) as reader:
        if _schema.version(reader) == 1:
            query = "SELECT total(cost_usd) FROM requests WHERE time >= ?"
            return float(reader.execute(query, (since,)).fetchone()[0])
        start = min(max(math.ceil(since * 1000), 0), 2**42 - 1) << _schema.ID_SHIFT
        query = f"SELECT {_schema.SUM} FROM entries WHERE id >= ?"
        return _schema.joined(*reader.execute(query, (start,)).fetchone()) / 10**12


def find(path: Path, request: str) -> dict[str, Any] | None:
    """One request, by its id or its completion's, the latest; None if unknown.

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    with _schema.reading(path) as reader:
        known = number(request)
        if _schema.version(reader) == 1:
            where, values = "id = ?1 OR completion_id = ?1", (request,)
        elif (
            known is not None
            and reader.execute("SELECT 1 FROM entries WHERE id = ?", (known,)).fetchone()
        ):
            where, values = "number = ?1", (known,)  # type: ignore[assignment]
        else:
            # by the list of names as far as it goes, then among the rows that came after
            where = """number IN (SELECT request FROM names WHERE name = ?1) OR (
                number > (SELECT request FROM marks WHERE name = 'names')
                AND (completion_id = ?1 OR id = ?1))"""
            values = (request,)
        query = f"SELECT * FROM outcomes WHERE {where} ORDER BY time DESC LIMIT 1"
        row = reader.execute(query, values).fetchone()
    return None if row is None else _schema.unpack(row)


def inspect(path: Path) -> None:
    """Refuse what opening would refuse, without making or changing anything.

    Raises
    ------
    ConfigError
        It is no ledger, is newer than this version, or its folder does not exist.
    """
    if not path.exists():
        if not path.absolute().parent.is_dir():
            hint = "Make its folder first."
            raise ConfigError("ledger.path", "be in a folder that exists", str(path), hint)
        return
    with closing(sqlite3.connect(path, timeout=5.0)) as reader:
        try:
            _schema.check(reader, path, empty=True)
        except sqlite3.Error as error:
            hint = f"{error}. Name another file."
            raise ConfigError("ledger.path", "be a ledger", str(path), hint) from None

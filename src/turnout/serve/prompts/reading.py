"""Reads a file of kept prompts while it may be in use; changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from turnout.serve.money import _schema
from turnout.serve.money.periods import iso
from turnout.serve.money.reading import id_text
from turnout.serve.prompts.file import SHIFT, Choice, check, unusable

__all__ = ["About", "export", "inspect", "listed", "newest"]

#: Seconds to wait for others who write.
_WAIT = 5.0
#: Rows, and rows with their text, that are read at once.
_LISTED, _EXPORTED = 1000, 40


class About(NamedTuple):
    """What is known of a prompt without its text.

    Parameters
    ----------
    id : int
        As in the ledger; its upper bits are when the request arrived.
    key : str
        Name of the key that asked.
    chars : int
        Length of the text.
    goes : int
        When it is deleted, milliseconds since 1970.
    """

    id: int
    key: str
    chars: int
    goes: int

    def record(self) -> dict[str, Any]:
        """All of it as people read it."""
        return {
            "id": id_text(self.id),
            "time": iso(self.id >> SHIFT),
            "key": self.key,
            "chars": self.chars,
            "goes": iso(self.goes),
        }


def inspect(path: Path) -> None:
    """Refuse what opening would refuse, without making or changing anything.

    Raises
    ------
    ConfigError
        It is no file of prompts, or is newer than this version.
    """
    with _reading(path):
        pass


def newest(path: Path, choice: Choice) -> tuple[int, int]:
    """How many prompts a choice holds, and the highest id there is.

    Raises
    ------
    ConfigError
        As `inspect`.
    """
    with _reading(path) as reader:
        if reader is None:
            return 0, 0
        where, values = choice.where()
        query = f"SELECT count(*), (SELECT max(id) FROM prompts) FROM prompts WHERE {where}"
        count, last = reader.execute(query, values).fetchone()
        return count, last or 0


def listed(path: Path) -> Iterator[About]:
    """Every prompt without its text, oldest first; none where there is no file.

    Raises
    ------
    ConfigError
        As `inspect`.
    """
    with _reading(path) as reader:
        for rows in _chunks(reader, "id, key, chars, goes", _LISTED):
            yield from (About(*row) for row in rows)


def export(path: Path, ledger: Path) -> Iterator[dict[str, Any]]:
    """Every prompt with what the ledger says of its request, oldest first.

    Yields
    ------
    dict
        `id`, `time`, `key`, `prompt`; `model`, the destination that answered, and `status`, both
        None where the request is not in the ledger; `quality`, its latest grade, `cost` in USD,
        `latency` in seconds and `propensity` of that destination, None where it is not known.

    Raises
    ------
    ConfigError
        As `inspect`, or there is no ledger.
    """
    query = """SELECT number, destination, status, feedback, cost_usd, latency_s,
        CASE WHEN fallback_from IS NULL THEN propensity END
        FROM outcomes WHERE number IN (SELECT value FROM json_each(?))"""
    names = ("model", "status", "quality", "cost", "latency", "propensity")
    unknown = dict.fromkeys(names)
    with _reading(path) as reader, _schema.reading(ledger) as books:
        for rows in _chunks(reader, "id, key, prompt", _EXPORTED):
            found: dict[int, dict[str, Any]] = {}
            if _schema.version(books) > 1:
                ids = orjson.dumps([row[0] for row in rows]).decode()
                for number, *told in books.execute(query, (ids,)):
                    found[number] = dict(zip(names, told, strict=True))
            for id_, key, prompt in rows:
                about = {"id": id_text(id_), "time": iso(id_ >> SHIFT), "key": key}
                yield {**about, "prompt": prompt, **found.get(id_, unknown)}


def _chunks(
    reader: sqlite3.Connection | None, columns: str, count: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in the order of their ids, some at a time, so that nothing waits for whoever reads."""
    if reader is None:
        return
    query = f"SELECT {columns} FROM prompts WHERE id > ? ORDER BY id LIMIT {count}"
    last = -1
    while rows := reader.execute(query, (last,)).fetchall():
        last = rows[-1][0]
        yield rows


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that changes nothing; None where there is no prompt to be read."""
    if not path.is_file():
        if path.exists():
            raise unusable(path, "be a file of prompts", "It is no file.")
        yield None
        return
    with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as reader:
        try:
            check(reader, path)
            yield reader if _schema.version(reader) else None
        except sqlite3.Error as error:
            raise unusable(path, "be a file of prompts", error) from None

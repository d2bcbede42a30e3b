"""The file of kept prompts: its one table, how it is opened, filled and emptied.

It lies beside the ledger, so that the ledger stays free of prompts, and one file can be deleted or
put on an encrypted disk. What is deleted from it leaves no trace in it:

- SQLite overwrites what is freed (`secure_delete`), but where it moves rows between pages it leaves
  copies behind. So each text comes after a pad as long as a page. All that a page of rows can hold
  of one is then pad; the text lies on pages that are never copied, and overwritten when freed.
- After a deletion the write-ahead log is brought into the file and cut to nothing (`scrub`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import orjson

from turnout.core import ConfigError
from turnout.serve.money import _schema

__all__ = [
    "APPLICATION",
    "SHIFT",
    "VERSION",
    "Choice",
    "Row",
    "append",
    "beside",
    "check",
    "connect",
    "delete",
    "node",
    "scrub",
    "sweep",
    "unusable",
]

#: "TRNP": marks a SQLite file as one of prompts.
APPLICATION: Final = 0x54524E50
#: Bits of an id below the milliseconds of its request's arrival.
SHIFT: Final = _schema.ID_SHIFT
#: Version of the table. A file with a higher one is refused.
VERSION: Final = 1

#: Bytes of a page: a pad costs as much, and a long text a page for so many bytes.
_PAGE = 1024
#: No id is higher.
_LAST = 2**63 - 1
#: Seconds to wait for others who write.
_WAIT = 5.0
#: Rows, and characters of them, that are changed in one transaction, so that nobody waits long.
_ROWS, _CHARS = 500, 2_000_000
_TABLES = (
    """CREATE TABLE prompts (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, goes INTEGER NOT NULL, chars INTEGER NOT NULL,
        pad BLOB NOT NULL, prompt TEXT NOT NULL
    )""",
    "CREATE INDEX prompts_goes ON prompts (goes)",
    f"CREATE INDEX prompts_life ON prompts (goes - (id >> {SHIFT}))",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)

#: Id, name of the key, milliseconds after its arrival at which it goes, and text of a prompt.
Row = tuple[int, str, int, str]


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Some prompts: those of which everything that is given is true.

    Parameters
    ----------
    ids : tuple of int
        One of these; empty = any.
    key : str, optional
        Asked by the key of this name.
    before : int, optional
        Arrived before this moment, milliseconds since 1970.
    newest : int, optional
        Has at most this id.
    """

    ids: tuple[int, ...] = ()
    key: str | None = None
    before: int | None = None
    newest: int | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        parts: list[tuple[str, Any]] = []
        if self.ids:
            listed = orjson.dumps(self.ids).decode()
            parts.append(("id IN (SELECT value FROM json_each(?))", listed))
        if self.key is not None:
            parts.append(("key = ?", self.key))
        if self.before is not None:
            parts.append(("id < ?", min(self.before << SHIFT, _LAST)))
        if self.newest is not None:
            parts.append(("id <= ?", self.newest))
        return " AND ".join(text for text, _ in parts) or "true", [value for _, value in parts]


def beside(ledger: Path) -> Path:
    """Where the prompts of a ledger's requests are."""
    return ledger.with_name(f"{ledger.name}-prompts")


def node(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path) -> sqlite3.Connection:
    """Open a file of prompts to write, making it when missing, its owner's alone.

    Raises
    ------
    ConfigError
        It cannot be made or opened, is something else, or was written by a newer version.
    """
    try:
        # what is wrong with the path is told below
        with contextlib.suppress(OSError, RuntimeError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path.resolve(), flags, 0o600))
        connection = sqlite3.connect(
            path, timeout=_WAIT, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise unusable(path, "be a file that can be opened", error) from None
    try:
        check(connection, path)
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if not _schema.version(connection):
            with _schema.transaction(connection):
                if not _schema.version(connection):
                    for statement in _TABLES:
                        connection.execute(statement)
    except sqlite3.Error as error:
        connection.close()
        raise unusable(path, "be a file of prompts", error) from None
    except ConfigError:
        connection.close()
        raise
    return connection


def append(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Keep some prompts, in one transaction; how many were new.

    Parameters
    ----------
    connection
    rows : sequence of Row
        One whose id is there already is left out.

    Raises
    ------
    sqlite3.Error
        None of them could be written.
    """
    (pad,) = connection.execute("PRAGMA page_size").fetchone()
    values = [
        (id_, key, (id_ >> SHIFT) + life, len(text), pad, text) for id_, key, life, text in rows
    ]
    with _schema.transaction(connection):
        return connection.executemany(
            "INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?, zeroblob(?), ?)", values
        ).rowcount


def sweep(connection: sqlite3.Connection, now: int, life: int | None = None) -> bool:
    """Delete prompts whose time is over, as many as one transaction is to; whether more may be.

    Parameters
    ----------
    connection
    now : int
        Milliseconds since 1970.
    life : int, optional
        Longest that any may be kept after its arrival, milliseconds: those that were to stay longer
        are to go then.
    """
    if life is not None:
        where, change = f"goes - (id >> {SHIFT}) > ?", f"goes = (id >> {SHIFT}) + {int(life)}"
        if _step(connection, where, [life], f"UPDATE prompts SET {change}"):
            return True
    return bool(_step(connection, "goes <= ?", [now], "DELETE FROM prompts"))


def delete(connection: sqlite3.Connection, choice: Choice) -> int:
    """Delete some prompts; how many there were. `scrub` has to follow."""
    where, values = choice.where()
    where += " AND id > ? ORDER BY id"
    gone, last = 0, -1
    while ids := _step(connection, where, [*values, last], "DELETE FROM prompts"):
        gone, last = gone + len(ids), ids[-1]
    return gone


def scrub(connection: sqlite3.Connection, patience: float) -> bool:
    """Empty the write-ahead log, in which deleted text may stand; whether that was possible.

    Parameters
    ----------
    connection
    patience : float
        Seconds to wait for those who read. Whoever wants to write waits as long.
    """
    connection.execute(f"PRAGMA busy_timeout = {round(1000 * patience)}")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * _WAIT)}")
    return not busy


def _step(connection: sqlite3.Connection, where: str, values: list[Any], change: str) -> list[int]:
    """Change the first rows of which a condition is true, in one transaction; their ids."""
    query = f"SELECT id, chars FROM prompts WHERE {where} LIMIT {_ROWS}"
    if connection.execute(query, values).fetchone() is None:
        return []  # nobody has to wait for a look
    with _schema.transaction(connection):
        ids: list[int] = []
        chars = 0
        for id_, size in connection.execute(query, values).fetchall():
            if ids and chars + size > _CHARS:
                break
            ids.append(id_)
            chars += size
        connection.executemany(f"{change} WHERE id = ?", [(id_,) for id_ in ids])
    return ids


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no file of prompts up to this version; an empty file passes.

    Raises
    ------
    ConfigError
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    found = _schema.version(connection)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not application and not found and not tables:
        return
    if application != APPLICATION:
        raise unusable(path, "be a file of prompts", "It belongs to something else.")
    if found > VERSION:
        hint = "It was written by a newer turnout; upgrade this one."
        raise ConfigError("version of the prompts", f"be at most {VERSION}", found, hint)


def unusable(path: Path, rule: str, why: object) -> ConfigError:
    """The error of a file that cannot be used."""
    hint = f"{str(why).rstrip('.')}. Move it away, or name another ledger."
    return ConfigError("file of prompts", rule, str(path), hint)

"""The ledger's file: its tables, how it is opened, and how it is told from other files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from turnout.core import ConfigError

#: "TRNO": marks a SQLite file as a ledger.
APPLICATION = 0x54524E4F
#: Version of the tables. A file with a higher one is refused.
VERSION = 1

_TABLES = (
    """CREATE TABLE requests (
        id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, destination TEXT NOT NULL,
        price REAL NOT NULL, propensity REAL, quality_json TEXT NOT NULL, cost_json TEXT NOT NULL,
        prompt_chars INTEGER NOT NULL, stream INTEGER NOT NULL,
        input_tokens INTEGER, output_tokens INTEGER, cost_usd REAL,
        latency_s REAL NOT NULL, first_token_s REAL,
        status INTEGER NOT NULL, error_type TEXT, fallback_from TEXT, completion_id TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX requests_time ON requests (time)",
    "CREATE INDEX requests_completion ON requests (completion_id)",
    """CREATE TABLE feedback (
        number INTEGER PRIMARY KEY, request_id TEXT NOT NULL REFERENCES requests (id),
        time REAL NOT NULL, quality REAL NOT NULL, comment TEXT
    )""",
    "CREATE INDEX feedback_request ON feedback (request_id)",
    # the latest word on a request counts; earlier ones stay in the table
    """CREATE VIEW outcomes AS
        SELECT requests.*, (
            SELECT quality FROM feedback WHERE request_id = requests.id
            ORDER BY number DESC LIMIT 1
        ) AS feedback FROM requests""",
    *(
        f"""CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"""
        for table in ("requests", "feedback")
        for verb in ("update", "delete")
    ),
)
_JSON = ("quality", "cost")


def column(name: str) -> str:
    """Column of a field of `Entry`."""
    return f"{name}_json" if name in _JSON else name


def unpack(row: sqlite3.Row) -> dict[str, Any]:
    """A row by the names of `Entry`."""
    data = dict(row)
    for name in _JSON:
        data[name] = json.loads(data.pop(column(name)))
    data["stream"] = bool(data["stream"])
    return data


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """Open a ledger for one thread to write, making it when missing.

    Raises
    ------
    ConfigError
        The file cannot be made or opened, is something else, or was written by a newer version.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=5.0, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        hint = f"{error}. Check that its folder exists and can be written."
        raise ConfigError("ledger.path", "be a file that can be opened", str(path), hint) from None
    try:
        check(connection, path, empty=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with transaction(connection):
            if not _value(connection, "user_version"):
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
    except sqlite3.Error as error:
        connection.close()
        hint = f"{error}. Name another file."
        raise ConfigError("ledger.path", "be a ledger", str(path), hint) from None
    except ConfigError:
        connection.close()
        raise
    return connection


def inspect(path: Path) -> None:
    """Refuse what `connect` would refuse, without making or changing anything.

    Raises
    ------
    ConfigError
        As `connect`.
    """
    if not path.exists():
        if not path.absolute().parent.is_dir():
            hint = "Make its folder first."
            raise ConfigError("ledger.path", "be in a folder that exists", str(path), hint)
        return
    with closing(sqlite3.connect(path, timeout=5.0)) as reader:
        try:
            check(reader, path, empty=True)
        except sqlite3.Error as error:
            hint = f"{error}. Name another file."
            raise ConfigError("ledger.path", "be a ledger", str(path), hint) from None


def check(connection: sqlite3.Connection, path: Path, *, empty: bool) -> None:
    """Refuse what is no ledger of this version; an empty file passes only where `empty`."""
    application, version = _value(connection, "application_id"), _value(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if empty and not application and not version and not tables:
        return
    if application != APPLICATION:
        hint = "It belongs to something else; name another file."
        raise ConfigError("ledger.path", "be a ledger", str(path), hint)
    if version > VERSION:
        hint = "It was written by a newer turnout; upgrade this one or name another file."
        raise ConfigError("ledger version", f"be at most {VERSION}", version, hint)


def find(path: Path, request: str) -> dict[str, Any] | None:
    """One request of a ledger that may be in use, by its id or its completion's; None if unknown.

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    if not path.is_file():
        hint = "Name the file in [ledger] path of the gateway's configuration."
        raise ConfigError("ledger", "exist", str(path), hint)
    query = "SELECT * FROM outcomes WHERE id = ?1 OR completion_id = ?1 ORDER BY time DESC LIMIT 1"
    with closing(sqlite3.connect(path, timeout=5.0)) as reader:
        reader.row_factory = sqlite3.Row
        try:
            check(reader, path, empty=False)
            row = reader.execute(query, (request,)).fetchone()
        except sqlite3.Error as error:
            raise ConfigError("ledger", "be a ledger", str(path), f"{error}.") from None
    return None if row is None else unpack(row)


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])

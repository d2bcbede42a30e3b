"""The ledger's file: its tables, how it is opened, and how it is told from other files.

A request is one row of few columns; what nobody sums or filters by stands in one JSON array, in the
order of `REST`. The views `requests` and `outcomes` show everything by name. Two more tables are
filled later than the rows, each up to a mark: `names` (other names of a request) and `sums` (what
was spent a day). Whoever appends a row below a mark fills them at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from turnout.core import ConfigError
from turnout.serve.money import _migrate
from turnout.serve.money.journal import Row
from turnout.serve.money.periods import FOREVER
from turnout.serve.money.units import MAX_PICO

#: "TRNO": marks a SQLite file as a ledger.
APPLICATION = 0x54524E4F
#: Version of the tables. A file with a higher one is refused.
VERSION = 2

#: What stands in the JSON array of a row; only ever added to at the end.
REST = (
    "model", "price", "propensity", "quality", "cost", "prompt_chars", "input_tokens",
    "output_tokens", "cached_tokens", "latency_s", "first_token_s", "error_type", "fallback_from",
    "completion_id", "price_version", "tries", "budgets", "chars", "name",
)  # fmt: skip
#: Bits of `flags`.
STREAM, ESTIMATED, CUT = 1, 2, 4
#: Bits of an id below its milliseconds.
ID_SHIFT = 21
_DAY_MS = 86_400_000
#: Rows that are caught up with in one transaction.
_CHUNK = 20_000


def _rest(name: str) -> str:
    return f"json_extract(rest, '$[{REST.index(name)}]')"


_TABLES = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, destination TEXT NOT NULL,
        status INTEGER NOT NULL, cost INTEGER, flags INTEGER NOT NULL, rest TEXT NOT NULL
    )""",
    """CREATE TABLE feedback (
        number INTEGER PRIMARY KEY, request INTEGER NOT NULL REFERENCES entries (id),
        time REAL NOT NULL, quality REAL NOT NULL, comment TEXT
    )""",
    "CREATE INDEX feedback_request ON feedback (request)",
    """CREATE TABLE names (
        name TEXT NOT NULL, request INTEGER NOT NULL, PRIMARY KEY (name, request)
    ) WITHOUT ROWID""",
    """CREATE TABLE sums (
        day INTEGER NOT NULL, key TEXT NOT NULL, destination TEXT NOT NULL,
        requests INTEGER NOT NULL, cost INTEGER NOT NULL
    )""",
    "CREATE INDEX sums_day ON sums (day)",
    "CREATE TABLE marks (name TEXT PRIMARY KEY, request INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO marks VALUES ('names', -1), ('sums', -1)",
    *(
        f"""CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"""
        for table in ("entries", "feedback", "names", "sums")
        for verb in ("update", "delete")
    ),
    f"""CREATE VIEW requests AS SELECT
        coalesce({_rest("name")}, printf('tn-%016x', id)) AS id,
        (id >> {ID_SHIFT}) / 1000.0 AS time,
        {_rest("model")} AS model, destination, {_rest("price")} AS price,
        {_rest("propensity")} AS propensity,
        coalesce({_rest("quality")}, '{{}}') AS quality_json,
        coalesce({_rest("cost")}, '{{}}') AS cost_json,
        {_rest("prompt_chars")} AS prompt_chars, flags & {STREAM} AS stream,
        {_rest("input_tokens")} AS input_tokens, {_rest("output_tokens")} AS output_tokens,
        cost / 1e12 AS cost_usd, {_rest("latency_s")} AS latency_s,
        {_rest("first_token_s")} AS first_token_s, status, {_rest("error_type")} AS error_type,
        {_rest("fallback_from")} AS fallback_from, {_rest("completion_id")} AS completion_id,
        key, {_rest("cached_tokens")} AS cached_tokens, {_rest("price_version")} AS price_version,
        (flags & {ESTIMATED}) / {ESTIMATED} AS estimated, {_rest("tries")} AS tries,
        coalesce({_rest("budgets")}, '[]') AS budgets_json, {_rest("chars")} AS chars,
        cost AS cost_pico, id AS number
        FROM entries""",
    # the latest word on a request counts; earlier ones stay in the table
    """CREATE VIEW outcomes AS
        SELECT requests.*, (
            SELECT quality FROM feedback WHERE request = requests.number
            ORDER BY feedback.number DESC LIMIT 1
        ) AS feedback FROM requests""",
)
# in two halves, because SQLite refuses a sum that 64 bits do not hold
SUM = "sum(cost >> 32), sum(cost & 4294967295)"
_INSERT = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)"
_NAMED = (REST.index("completion_id"), REST.index("name"))


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
    """Open a ledger to write, making it when missing and bringing an older one to this version.

    Raises
    ------
    ConfigError
        The file cannot be made or opened, is something else, was written by a newer version, or
        is older and cannot be brought to this one; it is then as it was.
    """
    try:
        with contextlib.suppress(OSError):  # what is wrong with the path is told below
            # feedback holds comments; SQLite gives the mode to the files beside it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
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
            old = version(connection)
            if old == 1:
                _migrate.set_aside(connection)
            if old < VERSION:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            if old == 1:
                _migrate.bring_over(connection, REST, _INSERT, STREAM, ID_SHIFT)
    except sqlite3.Error as error:
        connection.close()
        hint = f"{error}. Name another file."
        raise ConfigError("ledger.path", "be a ledger", str(path), hint) from None
    except ConfigError:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, path: Path, *, empty: bool) -> None:
    """Refuse what is no ledger up to this version; an empty file passes only where `empty`."""
    application, found = _value(connection, "application_id"), version(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if empty and not application and not found and not tables:
        return
    if application != APPLICATION:
        hint = "It belongs to something else; name another file."
        raise ConfigError("ledger.path", "be a ledger", str(path), hint)
    if found > VERSION:
        hint = "It was written by a newer turnout; upgrade this one or name another file."
        raise ConfigError("ledger version", f"be at most {VERSION}", found, hint)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, to a ledger that may be in use.

    Raises
    ------
    ConfigError
        There is no such ledger.
    """
    if not path.is_file():
        hint = "Name the file in [ledger] path of the gateway's configuration."
        raise ConfigError("ledger", "exist", str(path), hint)
    with closing(sqlite3.connect(path, timeout=5.0)) as reader:
        reader.row_factory = sqlite3.Row
        try:
            check(reader, path, empty=False)
            yield reader
        except sqlite3.Error as error:
            raise ConfigError("ledger", "be a ledger", str(path), f"{error}.") from None


def unpack(row: sqlite3.Row) -> dict[str, Any]:
    """A row of `outcomes`, its JSON read."""
    data = dict(row)
    for name in ("quality", "cost", "budgets"):
        text = data.pop(f"{name}_json", None)
        data[name] = json.loads(text) if text else [] if name == "budgets" else {}
    for name in ("stream", "estimated"):
        data[name] = bool(data.get(name))
    return data


def append(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert new rows, and whatever else has to know of them; the caller is in a transaction.

    Raises
    ------
    IntegrityError
        The id of one of them is there already.
    """
    connection.executemany(_INSERT, rows)
    marks = dict(connection.execute("SELECT name, request FROM marks").fetchall())
    late = [row for row in rows if row[0] <= marks["names"]]
    if late:
        _name(connection, late)
    late = [row for row in rows if row[0] <= marks["sums"]]
    if late:
        connection.executemany(
            "INSERT INTO sums VALUES (?, ?, ?, 1, ?)",
            [((row[0] >> ID_SHIFT) // _DAY_MS, row[1], row[2], row[4] or 0) for row in late],
        )


def absent(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Row]:
    """Those rows that are not in the file yet, each once.

    A row with the id of another request gets the next free one: two requests have one id only
    where the machine's clock was set back, and neither is to be lost.
    """
    found: dict[int, Row] = {}
    query = "SELECT * FROM entries WHERE id = ?"
    for row in rows:
        id_ = row[0]
        while True:
            other = found.get(id_) or connection.execute(query, (id_,)).fetchone()
            if other is None:
                found[id_] = (id_, *row[1:])
            if other is None or tuple(other)[1:] == row[1:]:
                break
            id_ += 1
    return list(found.values())


def catch_up(connection: sqlite3.Connection, table: str) -> bool:
    """Bring `names` or `sums` some way up to the rows there are; False where nothing is left."""
    with transaction(connection):
        mark = _mark(connection, table)
        query = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
        end = connection.execute(query, (mark, _CHUNK)).fetchone()[0]
        if end is None:
            return False
        if table == "names":
            for name in ("completion_id", "name"):
                connection.execute(
                    f"""INSERT OR IGNORE INTO names SELECT {_rest(name)}, id FROM entries
                    WHERE id > ? AND id <= ? AND {_rest(name)} IS NOT NULL""",
                    (mark, end),
                )
        else:
            days = connection.execute(
                f"""SELECT (id >> {ID_SHIFT}) / {_DAY_MS} AS day, key, destination, count(*), {SUM}
                FROM entries WHERE id > ? AND id <= ? GROUP BY day, key, destination""",
                (mark, end),
            ).fetchall()
            connection.executemany(
                "INSERT INTO sums VALUES (?, ?, ?, ?, ?)",
                [(*head, min(joined(high, low), MAX_PICO)) for *head, high, low in days],
            )
        connection.execute("UPDATE marks SET request = ? WHERE name = ?", (end, table))
    return True


def spent(connection: sqlite3.Connection, start_ms: int, end_ms: int) -> dict[tuple[str, str], int]:
    """Pico-dollars by key and destination, of requests let in at or after a moment, before another.

    Whole days are read from `sums`, which has to be caught up; the rest from the rows.
    """
    found: dict[tuple[str, str], int] = {}
    if start_ms % _DAY_MS == 0 and (end_ms % _DAY_MS == 0 or end_ms >= FOREVER):
        query = f"SELECT key, destination, {SUM} FROM sums WHERE day >= ? AND day < ?"
        span = (start_ms // _DAY_MS, end_ms // _DAY_MS)
    else:
        query = f"SELECT key, destination, {SUM} FROM entries WHERE id >= ? AND id < ?"
        span = (start_ms << ID_SHIFT, end_ms << ID_SHIFT)
    for key, destination, high, low in connection.execute(
        f"{query} GROUP BY key, destination", span
    ):
        found[key, destination] = joined(high, low)
    return found


def joined(high: int | None, low: int | None) -> int:
    """The sum whose two halves were added up apart."""
    return ((high or 0) << 32) + (low or 0)


def _mark(connection: sqlite3.Connection, table: str) -> int:
    query = "SELECT request FROM marks WHERE name = ?"
    return int(connection.execute(query, (table,)).fetchone()[0])


def _name(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    for row in rows:
        rest = json.loads(row[6])
        for place in _NAMED:
            if place < len(rest) and rest[place] is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO names VALUES (?, ?)", (rest[place], row[0])
                )


def version(connection: sqlite3.Connection) -> int:
    """Version of a ledger's tables."""
    return _value(connection, "user_version")


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])

"""Brings a ledger of version 1 to version 2, inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

#: The worker's number in the ids of rows that come from version 1.
_WORKER = 63
_COUNTER_BITS = 15
_MAX_MS = 2**42 - 1


def set_aside(connection: sqlite3.Connection) -> None:
    """Free the names that version 2 uses; the rows stay."""
    for table in ("requests", "feedback"):
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER {table}_no_{verb}")
    connection.execute("DROP VIEW outcomes")
    connection.execute("DROP INDEX feedback_request")
    # otherwise renaming a table would look into all the others that speak of it
    connection.execute("PRAGMA legacy_alter_table = ON")
    for table in ("requests", "feedback"):
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")


def bring_over(
    connection: sqlite3.Connection, names: Sequence[str], insert: str, stream: int, shift: int
) -> None:
    """Fill version 2's tables from those set aside, which go.

    Parameters
    ----------
    connection : sqlite3.Connection
    names : sequence of str
        What stands in the JSON array of a row.
    insert : str
        Statement that inserts a row.
    stream : int
        Flag of streamed requests.
    shift : int
        Bits of an id below its milliseconds.
    """
    connection.execute("CREATE TEMP TABLE moved (old TEXT PRIMARY KEY, new INTEGER) WITHOUT ROWID")

    def rows() -> Iterator[tuple[Any, ...]]:
        reader = connection.cursor()
        reader.row_factory = sqlite3.Row
        last = -1
        for row in reader.execute("SELECT * FROM old_requests ORDER BY time, id"):
            ms = min(max(int(row["time"] * 1000 + 0.001), 0), _MAX_MS)
            last = max(ms << _COUNTER_BITS, last + 1)
            counter = last & (1 << _COUNTER_BITS) - 1
            id_ = last >> _COUNTER_BITS << shift | _WORKER << _COUNTER_BITS | counter
            connection.execute("INSERT INTO moved VALUES (?, ?)", (row["id"], id_))
            old = {**row, "name": row["id"]}
            for name in ("quality", "cost"):
                old[name] = json.loads(row[f"{name}_json"])
            usd = row["cost_usd"]
            yield (
                id_,
                "",
                row["destination"],
                row["status"],
                None if usd is None else round(usd * 10**12),
                stream if row["stream"] else 0,
                json.dumps([old.get(name) for name in names], separators=(",", ":")),
            )

    connection.executemany(insert, rows())
    connection.execute(
        """INSERT INTO feedback SELECT number, new, time, quality, comment
        FROM old_feedback JOIN moved ON old_feedback.request_id = moved.old ORDER BY number"""
    )
    for table in ("moved", "old_feedback", "old_requests"):
        connection.execute(f"DROP TABLE {table}")

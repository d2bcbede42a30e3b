"""A small world of text-to-SQL: databases with data, questions of graded difficulty, and a grader.

Four SQLite databases in memory, each with five tables that refer to one another. Questions come
with gold SQL and at seven kinds, from one table to chains of joins and nested queries; a `Question`
says in words what the SQL says, sometimes without naming the column, so that only the data tell.
An answer is right if it returns the rows that the gold SQL returns (*execution match*).

SQL that is not ours is run read-only, for so many steps and rows at most (`Database.run`): whatever
else it is, it returns nothing, never an exception and never too late.

Examples
--------
>>> db = databases()["school"]
>>> db.run("SELECT COUNT(*) FROM teacher")
((10,),)
>>> db.run("DROP TABLE teacher") is None
True
>>> db.right("SELECT name FROM teacher", "SELECT name FROM teacher ORDER BY age")
True
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from turnout.core.errors import InputError

__all__ = ["KINDS", "SYNONYMS", "Database", "Question", "Table", "databases", "questions"]

Rows = tuple[tuple[Any, ...], ...]

#: Kinds of questions, the easiest first, and how often each is drawn.
KINDS = {
    "plain": 0.34,
    "place": 0.14,
    "parent": 0.18,
    "group": 0.10,
    "chain": 0.10,
    "nested": 0.08,
    "rank": 0.06,
}

_STEPS, _ROWS, _LONGEST = 200_000, 2_000, 1_000_000
_CITIES = ("Rome", "Oslo", "Lima", "Kyiv", "Bern", "Riga", "Cairo", "Quito", "Porto", "Turin")
_FIRST = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jon", "Kim", "Leo")
_LAST = ("Adler", "Brook", "Costa", "Dietz", "Evans", "Falk", "Gomez", "Hahn")
_THINGS = ("Amber", "Basalt", "Cedar", "Delta", "Ember", "Fjord", "Grove", "Harbor", "Iris", "Jade")

#: Each table: name, plural, columns (a list of words, two bounds, or "person"), what it refers to.
#: The first column tells what a row is called.
_SCHEMAS: Mapping[str, tuple[Any, ...]] = {
    "school": (
        ("department", "departments", {"title": _THINGS, "city": _CITIES, "budget": (10, 90)}, ()),
        ("teacher", "teachers", {"name": "person", "age": (25, 65), "salary": (30, 99)},
         ("department",)),
        ("student", "students", {"name": "person", "age": (18, 30), "town": _CITIES},
         ("department",)),
        ("course", "courses", {"title": _THINGS, "credits": (1, 9)}, ("teacher",)),
        ("enrolment", "enrolments", {"grade": (1, 10), "year": (2015, 2024)},
         ("student", "course")),
    ),
    "shop": (
        ("supplier", "suppliers", {"name": _THINGS, "city": _CITIES, "rating": (1, 10)}, ()),
        ("product", "products", {"title": _THINGS, "price": (1, 200), "stock": (0, 50)},
         ("supplier",)),
        ("customer", "customers", {"name": "person", "age": (18, 90), "town": _CITIES}, ()),
        ("clerk", "clerks", {"name": "person", "salary": (20, 60)}, ("supplier",)),
        ("purchase", "purchases", {"amount": (1, 20), "year": (2015, 2024)},
         ("customer", "product")),
    ),
    "library": (
        ("author", "authors", {"name": "person", "country": _CITIES, "born": (1900, 2000)}, ()),
        ("publisher", "publishers", {"name": _THINGS, "city": _CITIES}, ()),
        ("book", "books", {"title": _THINGS, "pages": (80, 900), "price": (5, 60)},
         ("author", "publisher")),
        ("reader", "readers", {"name": "person", "age": (8, 90), "town": _CITIES}, ()),
        ("loan", "loans", {"days": (1, 60), "year": (2015, 2024)}, ("reader", "book")),
    ),
    "clinic": (
        ("ward", "wards", {"title": _THINGS, "floor": (0, 9), "beds": (4, 40)}, ()),
        ("doctor", "doctors", {"name": "person", "age": (28, 68), "salary": (50, 150)}, ("ward",)),
        ("patient", "patients", {"name": "person", "age": (1, 95), "city": _CITIES}, ("doctor",)),
        ("drug", "drugs", {"title": _THINGS, "price": (2, 300)}, ()),
        ("treatment", "treatments", {"dose": (1, 50), "year": (2015, 2024)}, ("patient", "drug")),
    ),
}  # fmt: skip
_SIZES = (7, 10, 30, 14, 90)

#: Words that people use in place of a column's name.
SYNONYMS = {"salary": "pay", "price": "cost", "town": "home", "grade": "mark", "beds": "capacity"}
_OPS = {">": ("above", "over"), "<": ("below", "under"), "=": ("equal to",)}
_AGGREGATES = {"AVG": "average", "MAX": "highest", "MIN": "lowest", "SUM": "total"}


@dataclass(frozen=True)
class Table:
    """One table.

    Parameters
    ----------
    name, plural : str
    columns : mapping of str to bool
        Whether each holds texts; the first is what a row is called. There is an `id` besides.
    parents : tuple of str
        Tables it refers to, by columns such as `student_id`.
    """

    name: str
    plural: str
    columns: Mapping[str, bool]
    parents: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its first column."""
        return next(iter(self.columns))

    @property
    def line(self) -> str:
        """The schema of it in one line."""
        links = [f"{parent}_id -> {parent}.id" for parent in self.parents]
        return f"{self.name}: {', '.join(['id', *self.columns, *links])}"


@dataclass(frozen=True, eq=False)
class Database:
    """A SQLite database in memory.

    Parameters
    ----------
    name : str
    tables : mapping of str to Table
    connection : sqlite3.Connection
    """

    name: str
    tables: Mapping[str, Table]
    connection: sqlite3.Connection = field(repr=False)

    def run(self, sql: str) -> Rows | None:
        """Rows of a query; None where it is no query, fails, or goes on for too long.

        Parameters
        ----------
        sql : str
            Any text: it can read and nothing else.
        """
        connection = self.connection
        connection.set_authorizer(_only_reads)
        connection.set_progress_handler(lambda: 1, _STEPS)
        try:
            cursor = connection.execute(sql)
            rows = cursor.fetchmany(_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, TypeError, ValueError, MemoryError):
            return None
        finally:
            connection.set_progress_handler(None, 0)
            connection.set_authorizer(None)
        query = cursor.description is not None  # an empty statement has no columns
        return tuple(rows) if query and len(rows) <= _ROWS else None

    def right(self, gold: str, sql: str) -> bool:
        """Whether a query returns the gold rows: in any order, doubles counted, columns in order.

        Raises
        ------
        InputError
            The gold query itself does not run.
        """
        expected = self.run(gold)
        if expected is None:
            raise InputError("gold", "be SQL that runs", gold, "Correct it.")
        found = self.run(sql)
        return found is not None and Counter(map(_key, found)) == Counter(map(_key, expected))

    def path(self, start: str, end: str) -> tuple[tuple[str, str], ...] | None:
        """The shortest way from one table to another, as (child, parent) steps; None for none."""
        ways: dict[str, tuple[tuple[str, str], ...]] = {start: ()}
        edge = [start]
        while edge and end not in ways:
            following = []
            for at in edge:
                for child, parent in self._links():
                    other = parent if child == at else child if parent == at else ""
                    if other and other not in ways:
                        ways[other] = (*ways[at], (child, parent))
                        following.append(other)
            edge = following
        return ways.get(end)

    def join(self, start: str, end: str) -> str | None:
        """`FROM` with all joins from one table to another."""
        way = self.path(start, end)
        if way is None:
            return None
        text, at = f"FROM {start}", start
        for child, parent in way:
            at = parent if child == at else child
            text += f" JOIN {at} ON {child}.{parent}_id = {parent}.id"
        return text

    def _links(self) -> list[tuple[str, str]]:
        return [(table.name, parent) for table in self.tables.values() for parent in table.parents]


@dataclass(frozen=True)
class Question:
    """A question with its gold SQL.

    Parameters
    ----------
    database, text, gold : str
    kind : str
        One of `KINDS`; for judging, not for routing.
    """

    database: str
    text: str
    gold: str
    kind: str


@cache
def databases() -> Mapping[str, Database]:
    """The four databases by name, always with the same data."""
    return {name: _build(name, tables) for name, tables in _SCHEMAS.items()}


def questions(n: int, rng: np.random.Generator) -> tuple[Question, ...]:
    """Draw questions, no two with the same text and database; each has an answer that is not empty.

    Parameters
    ----------
    n : int
        How many, >= 1. There are some thousands.
    rng : Generator
    """
    kinds, chance = list(KINDS), np.array(list(KINDS.values()))
    names = list(databases())
    found: list[Question] = []
    seen: set[tuple[str, str]] = set()
    misses = 0
    while len(found) < n:
        db = databases()[names[int(rng.integers(len(names)))]]
        kind = kinds[int(rng.choice(len(kinds), p=chance / chance.sum()))]
        made = _draw(db, kind, rng)
        if made is None or (db.name, made[0]) in seen or not _answered(db, made[1]):
            misses += 1
            if misses > 200 * n + 2_000:
                raise InputError("n", "be small enough to find other questions", n, "Lower it.")
            continue
        seen.add((db.name, made[0]))
        found.append(Question(db.name, made[0], made[1], kind))
    return tuple(found)


def _answered(db: Database, gold: str) -> bool:
    rows = db.run(gold)
    return bool(rows) and rows != ((0,),) and rows != ((None,),)


def _only_reads(action: int, *_: Any) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        float(f"{cell:.9g}") if isinstance(cell, int | float) and math.isfinite(cell) else cell
        for cell in row
    )


def _build(name: str, spec: tuple[Any, ...]) -> Database:
    rng = np.random.default_rng(sum(name.encode()))
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    tables: dict[str, Table] = {}
    for (table, plural, columns, parents), size in zip(spec, _SIZES, strict=True):
        texts = {column: not isinstance(kind[0], int) for column, kind in columns.items()}
        tables[table] = Table(table, plural, texts, tuple(parents))
        kinds = [f"{c} {'TEXT' if is_text else 'INTEGER'}" for c, is_text in texts.items()]
        links = [f"{parent}_id INTEGER REFERENCES {parent}(id)" for parent in parents]
        connection.execute(
            f"CREATE TABLE {table} ({', '.join(['id INTEGER PRIMARY KEY', *kinds, *links])})"
        )
        counts = [_SIZES[[t[0] for t in spec].index(parent)] for parent in parents]
        for key in range(size):
            row = [key + 1, *(_cell(kind, rng) for kind in columns.values())]
            # not to the last one, so that something is referred to by nothing
            row += [int(rng.integers(1, count)) for count in counts]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    connection.commit()
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    return Database(name, tables, connection)


def _cell(kind: Any, rng: np.random.Generator) -> Any:
    if kind == "person":
        return f"{_pick(_FIRST, rng)} {_pick(_LAST, rng)}"
    if isinstance(kind[0], int):
        return int(rng.integers(kind[0], kind[1] + 1))
    return _pick(kind, rng)


def _pick(options: Any, rng: np.random.Generator) -> Any:
    options = list(options)
    return options[int(rng.integers(len(options)))]


def _said(column: str, rng: np.random.Generator) -> str:
    """A column by its name, or now and then by another word."""
    return SYNONYMS[column] if column in SYNONYMS and rng.random() < 0.4 else column


def _condition(table: Table, rng: np.random.Generator, db: Database) -> tuple[str, str] | None:
    """Words and SQL of a condition on one column that is not the label."""
    column = _pick(list(table.columns)[1:] or [table.label], rng)
    values = db.connection.execute(f"SELECT DISTINCT {column} FROM {table.name}").fetchall()
    value = _pick(values, rng)[0]
    op = "=" if table.columns[column] else _pick(("<", ">"), rng)
    word = "equal to" if op == "=" else _pick(_OPS[op], rng)
    sql = f"'{value}'" if table.columns[column] else str(value)
    return f"{_said(column, rng)} is {word} {value}", f"{table.name}.{column} {op} {sql}"


def _draw(db: Database, kind: str, rng: np.random.Generator) -> tuple[str, str] | None:
    """Words and gold SQL of one question, or None where these tables have none of the kind."""
    table = _pick(db.tables.values(), rng)
    if kind in ("plain", "place"):
        where = _condition(table, rng, db) if kind == "plain" else _place(db, table, rng)
        if where is None:
            return None
        words, sql = where
        return _ask(table, f"whose {words}" if kind == "plain" else words, sql, db, rng)
    if kind in ("parent", "chain"):
        far = [t for t in db.tables.values() if len(db.path(table.name, t.name) or ()) > 1]
        others = [db.tables[p] for p in table.parents] if kind == "parent" else far
        if not others:
            return None
        other = _pick(others, rng)
        where = _condition(other, rng, db)
        if where is None:
            return None
        join = db.join(table.name, other.name)
        inner = f"{table.name}.id IN (SELECT {table.name}.id {join} WHERE {where[1]})"
        link = (
            f"whose {other.name} has a" if kind == "parent" else f"linked to a {other.name} whose"
        )
        words = where[0].replace(" is ", " ", 1) if kind == "parent" else where[0]
        return _ask(table, f"{link} {words}", inner, db, rng)
    return _summary(db, kind, table, rng)


def _place(db: Database, table: Table, rng: np.random.Generator) -> tuple[str, str] | None:
    """A city without its column: the table's own, or else that of a parent."""
    for owner in (table, *(db.tables[p] for p in table.parents)):
        for column, is_text in list(owner.columns.items())[1:]:
            if is_text:
                cell = f"SELECT {column} FROM {owner.name}"
                value = _pick(db.connection.execute(cell).fetchall(), rng)[0]
                sql = f"{table.name}.{column} = '{value}'"
                if owner is not table:
                    sql = (
                        f"{table.name}.{owner.name}_id IN "
                        f"(SELECT id FROM {owner.name} WHERE {column} = '{value}')"
                    )
                return f"from {value}", sql
    return None


def _ask(
    table: Table, words: str, where: str, db: Database, rng: np.random.Generator
) -> tuple[str, str]:
    """A list, a count or a figure of the rows of a table that meet a condition."""
    numbers = [column for column, is_text in table.columns.items() if not is_text]
    form = int(rng.integers(3))
    if form == 0:
        column = _pick(table.columns, rng)
        text = f"List the {_said(column, rng)} of every {table.name} {words}."
        return text, f"SELECT {table.name}.{column} FROM {table.name} WHERE {where}"
    if form == 1 or not numbers:
        text = f"How many {table.plural} are there {words}?"
        return text, f"SELECT COUNT(*) FROM {table.name} WHERE {where}"
    column, function = _pick(numbers, rng), _pick(_AGGREGATES, rng)
    text = (
        f"What is the {_AGGREGATES[function]} {_said(column, rng)} of the {table.plural} {words}?"
    )
    return text, f"SELECT {function}({table.name}.{column}) FROM {table.name} WHERE {where}"


def _summary(
    db: Database, kind: str, table: Table, rng: np.random.Generator
) -> tuple[str, str] | None:
    """Questions about groups, averages, absence and rank."""
    numbers = [column for column, is_text in table.columns.items() if not is_text]
    if kind == "rank":
        column = _pick(numbers, rng) if numbers else ""
        if not column:
            return None
        return (
            f"What is the second highest {_said(column, rng)} of the {table.plural}?",
            f"SELECT DISTINCT {column} FROM {table.name} ORDER BY {column} DESC LIMIT 1 OFFSET 1",
        )
    if not table.parents:
        return None
    parent = db.tables[_pick(table.parents, rng)]
    join = db.join(parent.name, table.name)
    label = f"{parent.name}.{parent.label}"
    if kind == "group":
        column = _pick(numbers, rng) if numbers else ""
        some, what = f"number of its {table.plural}", "COUNT(*)"
        if column and rng.random() < 0.5:
            some = f"average {_said(column, rng)} of its {table.plural}"
            what = f"AVG({table.name}.{column})"
        return (
            f"For each {parent.name} give the {parent.label} and the {some}.",
            f"SELECT {label}, {what} {join} GROUP BY {parent.name}.id",
        )
    form = int(rng.integers(3))
    if form == 0:
        return (
            f"List the {parent.label} of every {parent.name} that has no {table.name}.",
            f"SELECT {label} FROM {parent.name} WHERE {parent.name}.id NOT IN "
            f"(SELECT {parent.name}_id FROM {table.name})",
        )
    if form == 1:
        return (
            f"Which {parent.name} has the most {table.plural}? Give the {parent.label}.",
            f"SELECT {label} {join} GROUP BY {parent.name}.id ORDER BY COUNT(*) DESC, "
            f"{parent.name}.id LIMIT 1",
        )
    column = _pick(numbers, rng) if numbers else ""
    if not column:
        return None
    return (
        f"How many {table.plural} are there whose {_said(column, rng)} is above the average?",
        f"SELECT COUNT(*) FROM {table.name} "
        f"WHERE {column} > (SELECT AVG({column}) FROM {table.name})",
    )

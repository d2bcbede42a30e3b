"""Three pipelines from a question to SQL, of growing ability and cost, and what each of them does.

They read the same question and linked schema, and write SQL by rules:

*basic*         one pass over one table, by the names of its columns.
*intermediate*  divides the question into parts; knows other words for columns, one join to a parent
                and groups; runs its SQL and, if nothing comes back, looks for the value in another
                column (a refiner).
*advanced*      writes many candidates: every column that may be meant or holds the value, any way
                along the joins, counted once or as often as joined, nested queries; runs them all
                and takes the result that most candidates agree on.

Tokens are characters of all that a pipeline would read and write, by four: the schema and the
question for every query it writes, and what it reads of results. Linking the schema is paid for by
each, as its output is what a router reads.

Examples
--------
>>> from turnout.lab.sql import databases
>>> db = databases()["school"]
>>> basic("How many teachers are there whose age is above 40?", db).sql
'SELECT COUNT(*) FROM teacher WHERE teacher.age > 40'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.core import Outcomes
from turnout.lab.sql import SYNONYMS, Database, Question, Table, databases

__all__ = ["PIPELINES", "Answer", "advanced", "basic", "intermediate", "linked", "outcomes"]

CHARACTERS_A_TOKEN = 4.0

_OPS = {"above": ">", "over": ">", "below": "<", "under": "<", "equal to": "="}
_AGGREGATES = {"average": "AVG", "highest": "MAX", "lowest": "MIN", "total": "SUM"}
_COLUMNS = {word: column for column, word in SYNONYMS.items()}
_COMPARE = r"(?P<op>above|over|below|under|equal to) (?P<value>.+)"
_ASKS = (
    r"list the (?P<column>\w+) of every (?P<table>\w+) (?P<rest>.+)\.",
    r"how many (?P<table>\w+) are there (?P<rest>.+)\?",
    r"what is the (?P<what>average|highest|lowest|total) (?P<column>\w+) of the (?P<table>\w+) "
    r"(?P<rest>.+)\?",
)
_GROUP = (
    r"for each (?P<parent>\w+) give the (?P<label>\w+) and the "
    r"(?:number|average (?P<column>\w+)) of its (?P<table>\w+)\."
)
_MOST = r"which (?P<parent>\w+) has the most (?P<table>\w+)\? give the (?P<label>\w+)\."


@dataclass(frozen=True)
class Answer:
    """What a pipeline wrote.

    Parameters
    ----------
    sql : str
        "" where it found nothing to write.
    tokens : float
        Read and written, with the linking of the schema.
    """

    sql: str
    tokens: float


def linked(question: str, db: Database) -> str:
    """The question and the tables it may be about, a line each: what pipelines and routers read.

    The tables that are named, and those on the way between them; all of them where none is.
    """
    words = set(re.findall(r"\w+", question.lower()))
    named = [t.name for t in db.tables.values() if {t.name, t.plural} & words]
    kept = set(named or db.tables)
    for end in named[1:]:
        kept.update(name for step in db.path(named[0], end) or () for name in step)
    return "\n".join([question, "", *(t.line for t in db.tables.values() if t.name in kept)])


def basic(question: str, db: Database) -> Answer:
    """One pass over one table."""
    meter = _Meter(question, db)
    ask = _read(question, db)
    if ask is None:
        return meter.answer("")
    own = re.fullmatch(rf"whose (?P<column>\w+) is {_COMPARE}", ask.rest)
    if own:
        where = _where(ask.table, own["column"], own["op"], own["value"])
    elif place := re.fullmatch(r"from (.+)", ask.rest):
        texts = [column for column, is_text in ask.table.columns.items() if is_text]
        where = f"{ask.table.name}.{texts[-1]} = '{place[1]}'" if texts else "1 = 1"
    else:
        where = "1 = 1"
    return meter.answer(ask.sql(where))


def intermediate(question: str, db: Database) -> Answer:
    """Parts, one join, groups, and a refiner that looks at what comes back."""
    meter = _Meter(question, db)
    meter.write("The question has a target, a condition and a shape. " * 2)  # the plan
    if group := _grouped(question, db):
        return meter.answer(group)
    ask = _read(question, db)
    if ask is None:
        return meter.answer("")
    ask = ask.known()
    tries = _direct(ask, db)
    for sql in tries[:-1]:
        rows = meter.run(sql)
        if rows and rows not in (((0,),), ((None,),)):
            return meter.answer(sql)
    return meter.answer(tries[-1])


def advanced(question: str, db: Database) -> Answer:
    """Every candidate there is, by the vote of their results."""
    meter = _Meter(question, db)
    candidates = _candidates(question, db)
    results = [(sql, meter.run(sql)) for sql in candidates]
    # a candidate is written by each of three generators, and so read three times
    for sql in candidates:
        meter.write(sql)
        meter.write(sql)
    votes = Counter(
        str(sorted(map(str, rows))) for _, rows in results if rows and rows != ((None,),)
    )
    if not votes:
        return meter.answer(candidates[0] if candidates else "")
    best = max(votes.values())
    for sql, rows in results:
        if rows and votes.get(str(sorted(map(str, rows)))) == best:
            return meter.answer(sql)
    return meter.answer(candidates[0])


#: The pipelines by name, the cheapest first.
PIPELINES: Mapping[str, Callable[[str, Database], Answer]] = {
    "basic": basic,
    "intermediate": intermediate,
    "advanced": advanced,
}


def outcomes(asked: Sequence[Question]) -> Outcomes:
    """What each pipeline makes of questions: a table to fit and judge routers on.

    Returns
    -------
    Outcomes
        Linked questions, 1 where the rows are those of the gold SQL, tokens for costs, the
        database for group, SQL for answers.
    """
    n, m = len(asked), len(PIPELINES)
    quality, cost = np.zeros((n, m)), np.zeros((n, m))
    answers = np.empty((n, m), dtype=object)
    inputs = []
    for i, question in enumerate(asked):
        db = databases()[question.database]
        inputs.append(linked(question.text, db))
        for j, pipeline in enumerate(PIPELINES.values()):
            answer = pipeline(question.text, db)
            quality[i, j] = db.right(question.gold, answer.sql)
            cost[i, j], answers[i, j] = answer.tokens, answer.sql
    return Outcomes(
        inputs=inputs,
        names=tuple(PIPELINES),
        quality=quality,
        cost=cost,
        group=tuple(question.database for question in asked),
        answers=answers,
    )


class _Meter:
    """Counts what a pipeline reads and writes."""

    def __init__(self, question: str, db: Database) -> None:
        self.db = db
        self.prompt = len(linked(question, db))
        # linking reads all tables, and writes those that are kept
        everything = sum(len(table.line) for table in db.tables.values())
        self.characters = everything + len(question) + self.prompt

    def write(self, text: str) -> None:
        """One more query, or plan: the prompt is read for it."""
        self.characters += self.prompt + len(text)

    def run(self, sql: str) -> tuple[tuple[object, ...], ...] | None:
        """Write a query, run it, and read the first of its rows."""
        self.write(sql)
        rows = self.db.run(sql)
        self.characters += len(str(rows[:5])) if rows else 5
        return rows

    def answer(self, sql: str) -> Answer:
        self.write(sql)
        return Answer(sql, self.characters / CHARACTERS_A_TOKEN)


@dataclass(frozen=True)
class _Ask:
    """A question read: a target, what is wanted of it, and the words of the condition."""

    table: Table
    column: str
    what: str
    rest: str

    def sql(self, where: str, source: str = "") -> str:
        source = source or f"FROM {self.table.name}"
        return f"SELECT {self.head()} {source} WHERE {where}"

    def head(self) -> str:
        if self.what == "COUNT":
            return "COUNT(*)"
        target = f"{self.table.name}.{self.column}"
        return f"{self.what}({target})" if self.what else target

    def known(self) -> _Ask:
        """The same with the column by its name."""
        return _Ask(self.table, _named(self.table, self.column), self.what, self.rest)


def _read(question: str, db: Database) -> _Ask | None:
    for pattern in _ASKS:
        if found := re.fullmatch(pattern, question, re.IGNORECASE):
            part = found.groupdict()
            table = _table(part["table"], db)
            if table is None:
                return None
            column = part.get("column") or ""
            what = _AGGREGATES[part["what"]] if part.get("what") else "" if column else "COUNT"
            return _Ask(table, column, what, part["rest"])
    if found := re.fullmatch(
        r"what is the second (?P<what>highest) (?P<column>\w+) of the (?P<table>\w+)\?",
        question,
        re.IGNORECASE,
    ):  # nobody here knows what "second" means
        table = _table(found["table"], db)
        return _Ask(table, found["column"], "MAX", "") if table else None
    return None


def _table(word: str, db: Database) -> Table | None:
    return next((t for t in db.tables.values() if word.lower() in (t.name, t.plural)), None)


def _named(table: Table, word: str) -> str:
    return word if word in table.columns else _COLUMNS.get(word, word)


def _where(table: Table, column: str, op: str, value: str) -> str:
    value = value if re.fullmatch(r"-?\d+", value) else f"'{value}'"
    return f"{table.name}.{column} {_OPS[op]} {value}"


def _grouped(question: str, db: Database) -> str:
    found = re.fullmatch(_GROUP, question, re.IGNORECASE)
    if not found:
        return ""
    parent, table = _table(found["parent"], db), _table(found["table"], db)
    if parent is None or table is None or parent.name not in table.parents:
        return ""
    what = "COUNT(*)"
    if found["column"]:
        what = f"AVG({table.name}.{_named(table, found['column'])})"
    label = f"{parent.name}.{_named(parent, found['label'])}"
    return f"SELECT {label}, {what} {db.join(parent.name, table.name)} GROUP BY {parent.name}.id"


def _direct(ask: _Ask, db: Database) -> list[str]:
    """What one join can say, the likeliest first; at least one."""
    table = ask.table
    if own := re.fullmatch(rf"whose (?P<column>\w+) is {_COMPARE}", ask.rest):
        return [ask.sql(_where(table, _named(table, own["column"]), own["op"], own["value"]))]
    joined = re.fullmatch(rf"whose (?P<parent>\w+) has a (?P<column>\w+) {_COMPARE}", ask.rest)
    if joined:
        parent = _table(joined["parent"], db)
        if parent is not None and parent.name in table.parents:
            column = _named(parent, joined["column"])
            where = _where(parent, column, joined["op"], joined["value"])
            return [ask.sql(where, db.join(table.name, parent.name) or "")]
    if place := re.fullmatch(r"from (.+)", ask.rest):
        return _places(ask, place[1], db, [table, *(db.tables[p] for p in table.parents)])
    return [ask.sql("1 = 1")]


def _places(ask: _Ask, value: str, db: Database, owners: list[Table]) -> list[str]:
    """A value in any column of texts but what rows are called."""
    found = [
        ask.sql(f"{owner.name}.{column} = '{value}'", db.join(ask.table.name, owner.name) or "")
        for owner in owners
        for column, is_text in list(owner.columns.items())[1:]
        if is_text
    ]
    return found or [ask.sql("1 = 1")]


def _candidates(question: str, db: Database) -> list[str]:
    """Everything that may be meant, the likeliest first."""
    if group := _grouped(question, db):
        return [group, group.replace(" JOIN ", " LEFT JOIN ")]
    if most := re.fullmatch(_MOST, question, re.IGNORECASE):
        parent, table = _table(most["parent"], db), _table(most["table"], db)
        if parent is None or table is None or (join := db.join(parent.name, table.name)) is None:
            return []
        label = f"{parent.name}.{_named(parent, most['label'])}"
        by = f"GROUP BY {parent.name}.id ORDER BY COUNT(*) DESC"
        return [f"SELECT {label} {join} {by}, {parent.name}.id LIMIT 1"]
    ask = _read(question, db)
    if ask is None:
        return []
    ask = ask.known()
    table = ask.table
    if none := re.fullmatch(r"that has no (\w+)", ask.rest):
        child = _table(none[1], db)
        if child is not None and table.name in child.parents:
            inner = f"(SELECT {table.name}_id FROM {child.name})"
            return [ask.sql(f"{table.name}.id NOT IN {inner}")]
    if high := re.fullmatch(r"whose (\w+) is (above|below) the average", ask.rest):
        column = _named(table, high[1])
        inner = f"(SELECT AVG({column}) FROM {table.name})"
        return [ask.sql(f"{table.name}.{column} {_OPS[high[2]]} {inner}")]
    linked_to = re.fullmatch(
        rf"(?:linked to a|whose) (?P<far>\w+) (?:whose|has a) (?P<column>\w+) (?:is )?{_COMPARE}",
        ask.rest,
    )
    if linked_to:
        far = _table(linked_to["far"], db)
        if far is not None and (join := db.join(table.name, far.name)) is not None:
            column = _named(far, linked_to["column"])
            where = _where(far, column, linked_to["op"], linked_to["value"])
            inner = f"{table.name}.id IN (SELECT {table.name}.id {join} WHERE {where})"
            return [ask.sql(inner), ask.sql(where, join), ask.sql(inner + " AND 1 = 1")]
    if place := re.fullmatch(r"from (.+)", ask.rest):
        near = [table, *(db.tables[p] for p in table.parents)]
        rest = [t for t in db.tables.values() if t not in near and db.path(table.name, t.name)]
        return _places(ask, place[1], db, near + rest)
    return _direct(ask, db)

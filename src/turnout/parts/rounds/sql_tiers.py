"""Chat models prompted for SQL in one, three or four calls, as much as a question seems to need.

The three pipelines of EllieSQL (2025, arXiv:2503.22402, section 3) as conversations: *basic* asks
for the query at once; *intermediate* asks for the parts of the question, for a query made of them,
and for a second look at it; *advanced* asks in three ways at the same time (parts, the plan a
database would follow, examples made up for the schema) and has the best of the queries chosen. A
router over the three (such as `turnout.llms.elliesql`) says which. An item is a question, an empty
line and the schema, one table a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from numpy.random import Generator

from turnout.core import Budget, Call, InputError, LimitReached, Play, Pool, Reply, Router, _check
from turnout.parts.priced import columns

__all__ = ["SqlTiers", "sql_of"]

_SYSTEM = "You write one SQLite query for a question about a schema. Answer with the query alone."
#: "with" alone is a word of prose.
_QUERY = r"\b(?:select\b|with(?:\s+recursive)?\s+\w+(?:\s*\([^()]*\))?\s+as\s*\()[^;`]*"
_WAYS = (
    "Divide the question into parts, solve each, and put them together.",
    "Think of the plan that the database would follow: what it scans, joins, filters and groups.",
    "First make up two questions with their queries for this schema, then answer this one alike.",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class SqlTiers:
    """A strategy: how many calls a question gets is told by a router over the tiers.

    It returns the SQL found in the last reply that held any, and "" where none did. A destination
    that is down is replaced by another that is up.

    Parameters
    ----------
    router : Router
        Over three tiers, named from the cheapest to the dearest in `tiers`.
    tiers : tuple of str
        Three names that the router knows.
    names : tuple of str
        Chat destinations: the one each tier asks, or fewer, the last of which serves the rest.
    price : float
        Quality given up to save one unit of the router's costs, which are tokens; >= 0. The budget
        of a play is not read: it is about money.
    """

    router: Router
    tiers: tuple[str, ...]
    names: tuple[str, ...]
    price: float = 0.0

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "tiers", _check.names("sql_tiers.tiers", self.tiers, what="tier"))
        set_(self, "names", _check.names("sql_tiers.names", self.names))
        if len(self.tiers) != 3:
            raise InputError("sql_tiers.tiers", "name three tiers", self.tiers, "In order of cost.")
        columns(self.router.names, Pool(names=self.tiers))  # refuses what the router does not know
        set_(self, "price", _check.number("sql_tiers.price", self.price, low=0.0))

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        """The calls of the tier that the router chooses for an item."""
        known = columns(self.names, pool)
        routed = self.router.route(
            [item], Pool(names=self.tiers), budget=Budget(price=self.price), rng=rng
        )
        tier = int(routed.index[0, 0])
        wanted = min(tier, len(self.names) - 1)
        places = [place for place in range(pool.m) if pool.available[place]]
        # as near to the one wanted as can be had, the dearer of two
        place = min(places, key=lambda at: (abs(int(known[at]) - wanted), -int(known[at])))
        best = ""
        steps = (_basic, _intermediate, _advanced)[tier](pool.names[place], item)
        replies: tuple[Reply, ...] | None = None
        try:
            while True:
                calls = next(steps) if replies is None else steps.send(replies)
                replies = yield calls
                found = [sql_of(reply.text) for reply in replies if not reply.failed]
                best = next((sql for sql in found if sql), best)
        except StopIteration:
            return best
        except LimitReached:
            return best


def sql_of(text: str) -> str:
    """The first query of a reply: from SELECT or WITH to a semicolon, a fence or the end.

    Examples
    --------
    >>> sql_of("Sure. ```sql" + chr(10) + "SELECT 1;" + chr(10) + "``` It counts.")
    'SELECT 1'
    """
    found = re.search(_QUERY, text, re.IGNORECASE)
    return found[0].strip() if found else ""


def _ask(to: str, prompt: str) -> Call:
    return Call(to=to, prompt=prompt, system=_SYSTEM)


def _basic(to: str, item: str) -> Play:
    yield (_ask(to, item),)
    return ""


def _intermediate(to: str, item: str) -> Play:
    parts = Call(to=to, prompt=f"{item}\n\nList the parts of this question, without any query.")
    (plan,) = yield (parts,)
    (first,) = yield (_ask(to, f"{item}\n\nThe parts of the question:\n{plan.text}"),)
    look = f"{item}\n\nA query for it:\n{first.text}\n\nCorrect it where it is wrong."
    yield (_ask(to, look),)
    return ""


def _advanced(to: str, item: str) -> Play:
    replies = yield tuple(_ask(to, f"{item}\n\n{way}") for way in _WAYS)
    found = [sql for reply in replies if (sql := sql_of(reply.text))]
    if len(set(found)) > 1:
        listed = "\n\n".join(dict.fromkeys(found))
        yield (_ask(to, f"{item}\n\nQueries for it:\n\n{listed}\n\nRepeat the best of them."),)
    return ""

"""Chat models prompted for SQL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from turnout.core import Call, InputError, Outcomes, Pool, Reply
from turnout.lab.sql import databases
from turnout.llms.elliesql import CARD, EllieSql
from turnout.parts.priced import fit
from turnout.parts.rounds.playing import Limits, run
from turnout.parts.rounds.sql_tiers import SqlTiers, sql_of
from turnout.testing.strategies import StrategyCase, check

ONE = "How many teachers are there?\n\nteacher: id, age"
TWO = "titles of books of readers\n\nreader: id\nbook: id, title"
FOUR = "everything nested\n\na: id\nb: id\nc: id\nd: id"


def _tiers(names: tuple[str, ...] = ("small", "large")) -> SqlTiers:
    table = Outcomes(
        inputs=[ONE, TWO, FOUR] * 30,
        names=("basic", "intermediate", "advanced"),
        quality=np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]] * 30),
        cost=np.array([[100.0, 300.0, 900.0]] * 90),
    )
    router = fit(EllieSql(l2=0.01), table)
    return SqlTiers(router=router, tiers=table.names, names=names, price=4e-4)


def _answers(call: Call) -> Reply:
    """Another query for each prompt, in a fence."""
    return Reply(text=f"Here:\n```sql\nSELECT {len(call.prompt)}\n```", cost=1.0)


def _play(item: str, ask=_answers, pool: Pool | None = None, **how):
    strategy = _tiers()
    pool = pool or Pool(names=strategy.names)
    return run(strategy, item, ask, pool, rng=np.random.default_rng(0), **how)


@pytest.mark.parametrize(
    ("item", "calls", "to"), [(ONE, 1, "small"), (TWO, 3, "large"), (FOUR, 4, "large")]
)
def test_harder_questions_get_more_calls(item: str, calls: int, to: str) -> None:
    """One for a table, three for a join, three ways and a choice for what is nested."""
    played = _play(item)
    assert len(played.calls) == calls
    assert {call.to for call in played.calls} == {to}
    assert played.answer == f"SELECT {len(played.calls[-1].prompt)}"


def test_each_call_reads_what_came_before() -> None:
    """The plan goes into the query, the query into the second look; candidates into the choice."""
    plan, first, look = _play(TWO).calls
    assert "without any query" in plan.prompt
    assert f"SELECT {len(plan.prompt)}" in first.prompt
    assert f"SELECT {len(first.prompt)}" in look.prompt
    *ways, choice = _play(FOUR).calls
    assert all(f"SELECT {len(way.prompt)}" in choice.prompt for way in ways)


def test_candidates_that_agree_need_no_choice() -> None:
    """Three times the same query is the answer."""
    played = _play(FOUR, ask=lambda call: Reply(text="SELECT 1;"))
    assert (len(played.calls), played.answer) == (3, "SELECT 1")


def test_the_last_query_stands_where_a_look_fails() -> None:
    """A failed or silent call takes nothing away; out of calls, the best so far is returned."""

    def ask(call: Call) -> Reply:
        return Reply(text="", failed="away") if "Correct" in call.prompt else _answers(call)

    played = _play(TWO, ask=ask)
    assert played.answer == f"SELECT {len(played.calls[1].prompt)}"
    stopped = _play(TWO, limits=Limits(calls=2))
    assert stopped.stopped == "calls"
    assert stopped.answer == f"SELECT {len(stopped.calls[1].prompt)}"
    assert _play(ONE, ask=lambda call: Reply(text="I do not know.")).answer == ""


def test_what_is_answered_runs() -> None:
    """A reply with its fence and its chatter becomes SQL that a database takes."""
    reply = "Of course!\n```sql\nSELECT COUNT(*)\nFROM teacher;\n```\nThat counts them."
    assert databases()["school"].run(sql_of(reply)) == ((10,),)
    assert sql_of("WITH t AS (SELECT 1) SELECT * FROM t") == "WITH t AS (SELECT 1) SELECT * FROM t"
    assert sql_of("With a join: SELECT a FROM t; and so on") == "SELECT a FROM t"
    assert sql_of("selection is withheld") == ""


def test_the_contract_of_strategies() -> None:
    """It ends on any replies, calls nobody that is down, and is saved with its router."""
    check(
        StrategyCase(make=_tiers, ask=_answers, items=(ONE, TWO, FOUR, "no schema at all")),
        card=replace(CARD, properties=("multi_step",)),
    )


def test_wrong_tiers_are_refused() -> None:
    """Three that the router knows."""
    good = _tiers()
    with pytest.raises(InputError, match=r"sql_tiers.tiers must name three tiers"):
        replace(good, tiers=("basic", "advanced"))
    with pytest.raises(InputError, match="'huge'"):
        replace(good, tiers=("basic", "intermediate", "huge"))
    with pytest.raises(InputError, match=r"sql_tiers.price must be"):
        replace(good, price=-1.0)

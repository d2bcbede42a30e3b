"""Where each method stands, and the problem they all solve."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import catalog
from turnout.cli.survey import command
from turnout.core import InputError
from turnout.llms import routing_survey as survey
from turnout.llms.random import CARD as RANDOM
from turnout.parts.prices import choose

ENTRIES = [entry for entry in catalog.methods("llms") if entry.recipe]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_method_has_a_place(entry: catalog.Entry) -> None:
    """A method that routes requests has a place on every axis; one without says what to do."""
    place = survey.place(entry.card, survey.imports_of(entry.file.read_text(encoding="utf-8")))
    assert place.when in survey.WHEN
    assert place.output in survey.OUTPUTS
    assert place.family in survey.FAMILIES
    assert all(name.partition(".")[0] in survey.FAMILIES for name in place.strategies)
    assert place.what
    assert place.cost[0] == "money"
    assert place.needs


def test_what_is_known_of_some_methods() -> None:
    """Neighbours are similarity, a cascade decides after an answer, chance is a baseline."""
    places = {one.name: one for one in survey.survey(catalog.methods("llms"))}
    assert len(places) == len(ENTRIES)
    assert (places["llms.knn"].when, places["llms.knn"].strategies[0]) == ("pre", "similarity.knn")
    cascade = places["llms.cascade"]
    assert (cascade.when, cascade.family, cascade.output) == ("post", "cascade", "chain")
    assert "answers" in cascade.needs
    assert places["llms.random"].family == "baseline"
    assert places["llms.linear"].strategies[0] == "supervised.regressor"
    assert places["llms.knn"].what == "language model"


def test_a_method_of_unknown_parts_has_no_place() -> None:
    """It is refused by name, with the imports it has and where to add them."""
    card = replace(RANDOM, name="llms.new", properties=("reads_inputs",))
    imports = survey.imports_of(
        "from turnout.parts.tarot import cards\nimport turnout.parts.texts.words"
    )
    assert imports == {"parts.tarot", "parts.tarot.cards", "parts.texts.words"}
    with pytest.raises(InputError, match=r"llms\.new must be built of .*tarot.*BUILT_OF"):
        survey.place(card, imports)


def test_the_card_decides_the_moment_and_the_output() -> None:
    """Several steps are several rounds, one after the other is a chain, a fallback may reject."""
    parts = frozenset({"parts.learners.logistic", "parts.queues"})
    many = survey.place(replace(RANDOM, properties=("multi_step",)), parts)
    assert (many.when, many.output, many.cost) == ("multi", "several", ("money", "latency"))
    down = survey.place(replace(RANDOM, properties=("sequential",)), parts)
    assert (down.when, down.output, down.family) == ("post", "chain", "cascade")
    card = replace(RANDOM, properties=("reads_inputs",), routes="a prompt to a model, or to none")
    assert survey.place(card, parts).output == "reject"


def test_methods_are_found_by_what_one_has() -> None:
    """Nothing that needs more is named; unknown places are refused."""
    places = survey.survey(catalog.methods("llms"))
    found = survey.find(places, have={"outcomes"})
    assert {one.name for one in found} >= {"llms.linear", "llms.stacked"}
    assert all(set(one.needs) <= {"outcomes"} for one in found)
    assert all(one.when == "post" for one in survey.find(places, when="post"))
    assert survey.find(places, have=()) == ()
    for field in ("when", "family", "output"):
        with pytest.raises(InputError, match=f"{field} must be one of"):
            survey.find(places, **{field: "magic"})


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a method, what the short words mean, and the same as JSON."""
    command.main(args=["--family", "similarity"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "llms.knn" in out
    assert "llms.linear" not in out
    assert "pre: before any answer is seen" in out
    command.main(args=["--json", "--have", "outcomes, answers"], standalone_mode=False)
    assert {"name", "when", "family"} <= set(json.loads(capsys.readouterr().out)[0])


# --- the problem -------------------------------------------------------------------------------


def test_decisions_by_hand() -> None:
    """The best within the cap; where none is, the cheapest or none; at a price, the best value."""
    score = np.array([[0.5, 0.9, 0.7]])
    cost = np.array([[1.0, 8.0, 3.0]])
    assert survey.decide(score, cost).tolist() == [1]
    assert survey.decide(score, cost, cap=3.0).tolist() == [2]
    assert survey.decide(score, cost, cap=0.5).tolist() == [0]
    assert survey.decide(score, cost, cap=0.5, none="reject").tolist() == [-1]
    assert survey.decide(score, cost, price=0.09).tolist() == [2]
    assert survey.decide(score, cost, price=0.2).tolist() == [0]


tables = st.lists(st.tuples(*[st.integers(0, 5)] * 6), min_size=1, max_size=5)


@given(tables, st.integers(0, 6), st.floats(0, 2))
def test_a_decision_is_the_best_that_is_allowed(
    rows: list[tuple[int, ...]], cap: int, price: float
) -> None:
    """Never beyond the cap where something is within; no allowed one is worth more."""
    table = np.array(rows, dtype=float)
    score, cost = table[:, :3] / 5, table[:, 3:]
    found = survey.decide(score, cost, price=price, cap=float(cap), none="reject")
    value = score - price * cost
    for i, j in itertools.product(range(len(rows)), range(3)):
        if cost[i, j] <= cap:
            assert found[i] >= 0
            assert cost[i, found[i]] <= cap
            assert value[i, found[i]] >= value[i, j]
    assert survey.decide(score, cost, price=price).tolist() == choose(score, cost, price).tolist()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cap": -1.0}, "cap must be"),
        ({"price": -1.0}, "price must be"),
        ({"none": "guess"}, "none must be cheapest or reject"),
    ],
)
def test_wrong_decisions_are_refused(more: dict, message: str) -> None:
    """Each setting is named, and so are tables that do not fit."""
    with pytest.raises(InputError, match=message):
        survey.decide(np.ones((1, 2)), np.ones((1, 2)), **more)
    with pytest.raises(InputError, match="cost must have shape"):
        survey.decide(np.ones((1, 2)), np.ones((1, 3)))


def test_nothing_of_a_method_is_run(tmp_path: Path) -> None:
    """A file that would fail when imported still has its place."""
    file = tmp_path / "broken.py"
    file.write_text("from turnout.parts.learners.neighbours import Memory\nraise SystemExit\n")
    imports = survey.imports_of(file.read_text())
    assert survey.place(replace(RANDOM, properties=("reads_inputs",)), imports).family == (
        "similarity"
    )

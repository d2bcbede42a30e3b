"""Routing queries to encoders by pilot vectors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.lab import retrieval
from turnout.llms.router_retriever import (
    FittedRouterRetriever,
    QueryExpert,
    RouterRetriever,
    expert_quality,
    found,
    train_expert,
)
from turnout.testing import Case

CASE = Case(RouterRetriever(d=32))


def _table(quality=None, group=None) -> Outcomes:
    return Outcomes(
        inputs=np.array([[4.0, 0.0], [2.0, 2.0], [0.0, 1.0], [1.0, 1.0]]),
        names=("a", "b"),
        quality=np.array(
            [[1.0, 0.2], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]] if quality is None else quality
        ),
        cost=np.ones((4, 2)),
        group=group,
    )


def _fit(table: Outcomes, **fields) -> FittedRouterRetriever:
    recipe = RouterRetriever(**fields)
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


# --- pilots


def test_pilots_by_hand() -> None:
    """Rows 0 and 1 go to a, row 2 to b; row 3, equal for both, to nobody."""
    fitted = _fit(_table())
    assert fitted.library() == {"a": [[3.0, 1.0]], "b": [[0.0, 1.0]]}
    assert fitted.profile == pytest.approx(np.array([[0.8, 0.3], [0.1, 0.9]]))
    quality, cost = fitted.predict(np.array([[1.0, 0.0], [-1.0, 0.1]]))
    assert quality == pytest.approx(np.array([[0.8, 0.3], [0.1, 0.9]]))
    assert cost == pytest.approx(np.ones((2, 2)))


def test_each_data_set_leaves_pilots_of_its_own() -> None:
    """Split by label, a has one in each set."""
    fitted = _fit(_table(group=["s", "t", "t", "t"]))
    assert fitted.library() == {"a": [[4.0, 0.0], [2.0, 2.0]], "b": [[0.0, 1.0]]}


def test_the_dot_product_favours_long_pilots_and_the_cosine_does_not() -> None:
    """A query in b's direction, leaning to a, is a's by dot product and b's by cosine."""
    query = np.array([[0.5, 1.0]])
    assert _fit(_table()).predict(query)[0].argmax() == 0
    assert _fit(_table(), cosine=True).predict(query)[0].argmax() == 1


def test_the_mean_over_pilots_and_the_nearest_differ() -> None:
    """One near pilot decides by "max"; two far ones against one middling decide by "mean"."""
    table = Outcomes(
        inputs=np.array([[3.0, 0.0], [-3.0, 0.0], [1.0, 0.0]]),
        names=("a", "b"),
        quality=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        cost=np.ones((3, 2)),
        group=["r", "s", "t"],
    )
    query = np.array([[1.0, 0.0]])
    assert _fit(table, pick="max").predict(query)[0].argmax() == 0  # 3 against 1
    assert _fit(table).predict(query)[0].argmax() == 1  # 0 against 1


def test_equally_good_experts_share_a_row_evenly() -> None:
    """Row 0 counts half for each of its two best, so that a's centroid leans to row 1."""
    table = Outcomes(
        inputs=np.array([[0.0, 3.0], [3.0, 0.0], [1.0, 1.0]]),
        names=("a", "b", "c"),
        quality=np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        cost=np.ones((3, 3)),
    )
    fitted = _fit(table)
    assert fitted.library()["a"][0] == pytest.approx([2.0, 1.0])
    assert fitted.library()["b"][0] == pytest.approx([0.0, 3.0])
    assert fitted.library()["c"] == []
    assert fitted.predict(np.array([[0.0, 1.0]]))[0].argmax() == 1


def test_groups_too_small_leave_no_pilot() -> None:
    """Of three rows that tell, one is a third: with a bound of a half b has no pilot."""
    assert _fit(_table(), least=0.5).library()["b"] == []
    assert _fit(_table(), least=0.3).library()["b"] == [[0.0, 1.0]]


def test_clusters_are_at_most_the_group() -> None:
    """Asked for five, a group of two gives two and one of one gives one."""
    fitted = _fit(_table(), k=5)
    assert sorted(fitted.library()["a"]) == [[2.0, 2.0], [4.0, 0.0]]
    assert fitted.library()["b"] == [[0.0, 1.0]]


def test_where_nobody_is_better_all_have_their_mean() -> None:
    """Without a pilot the means are predicted."""
    fitted = _fit(_table(quality=[[0.5, 0.5], [1.0, 1.0], [0.0, 0.0], [0.5, 0.5]]))
    assert len(fitted.pilots) == 0
    assert fitted.predict(np.array([[1.0, 0.0]]))[0] == pytest.approx(np.array([[0.5, 0.5]]))


def test_the_owner_is_chosen_even_where_another_equals_it() -> None:
    """Two experts that share a group are told apart by whose pilot is nearest."""
    table = Outcomes(
        inputs=np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.1]]),
        names=("a", "b", "c"),
        quality=np.array([[0.9, 0.0, 0.0], [0.9, 0.9, 0.0], [0.0, 0.9, 0.0]]),
        cost=np.ones((3, 3)),
    )
    fitted = _fit(table)
    assert fitted.predict(np.array([[1.0, 0.0]]))[0].argmax() == 1


# --- experts come and go


@pytest.fixture(scope="module")
def world():
    """Three domains, their experts and what they earn on queries to group and to judge."""
    rng = np.random.default_rng(0)
    made = retrieval.vector_world(3, 240, d=16, topic=6, rng=rng)
    shared = made.turns.transpose(0, 2, 1).mean(axis=0)

    def asked(n):
        sets = [made.ask(n, t, rng=rng) for t in range(3)]
        return np.vstack([q @ shared for q, _ in sets]), np.concatenate([w for _, w in sets])

    train, group, test = asked(150), asked(60), asked(60)
    experts = [
        train_expert(
            train[0][t * 150 : t * 150 + 150], made.documents, train[1][t * 150 : t * 150 + 150],
            rank=6, epochs=15, batch=32, rng=rng,
        )
        for t in range(3)
    ]  # fmt: skip
    table = Outcomes(
        inputs=group[0],
        names=("x", "y", "z"),
        quality=expert_quality(experts, group[0], made.documents, group[1]),
        cost=np.ones((180, 3)),
        group=[f"set{t}" for t in range(3) for _ in range(60)],
    )
    return made, experts, table, test


def test_routing_beats_every_single_expert_and_nears_the_oracle(world) -> None:
    """Above the shared encoder and the best expert by far; the oracle is above it."""
    made, experts, table, (asked, wanted) = world
    earned = expert_quality(experts, asked, made.documents, wanted)
    chosen = _fit(table).predict(asked)[0].argmax(axis=1)
    routed = earned[np.arange(len(asked)), chosen].mean()
    shared = expert_quality([QueryExpert.shared(16)], asked, made.documents, wanted).mean()
    assert earned.max(axis=1).mean() >= routed > earned.mean(axis=0).max() + 0.15
    assert routed > shared + 0.15


def test_the_label_of_a_test_query_is_never_read(world) -> None:
    """Queries of a test are vectors alone, and the router keeps none but those of its table."""
    _, _, table, (asked, _) = world
    fitted = _fit(table)
    together = fitted.predict(asked)[0]
    alone = np.vstack([fitted.predict(asked[i : i + 1])[0] for i in range(0, 180, 30)])
    assert together[::30] == pytest.approx(alone)
    assert {tuple(key) for key in fitted.keys} == {tuple(row) for row in table.inputs}


def test_removing_an_expert_leaves_the_others_alone(world) -> None:
    """Only queries of its pilots move, and nothing goes to it."""
    _, _, table, (asked, _) = world
    fitted = _fit(table)
    without = fitted.without("x")
    before = fitted.predict(asked)[0].argmax(axis=1)
    after = without.predict(asked)[0].argmax(axis=1) + 1
    assert without.names == ("y", "z")
    assert (after == before)[before != 0].all()
    assert without.library()["y"] == fitted.library()["y"]


def test_adding_it_again_restores_it(world) -> None:
    """The same pilots and the same choices, by name, from its column alone."""
    _, _, table, (asked, _) = world
    fitted = _fit(table)
    again = fitted.without("x").added("x", table.quality[:, 0], cost=1.0)
    assert again.names == ("y", "z", "x")
    assert again.library() == fitted.library()
    assert again.predict(asked)[0][:, [2, 0, 1]] == pytest.approx(fitted.predict(asked)[0])
    assert again.predict(asked)[1] == pytest.approx(np.ones((180, 3)))


def test_the_library_is_written_as_json(world, tmp_path: Path) -> None:
    """A list of vectors for each expert."""
    fitted = _fit(world[2])
    fitted.write_library(tmp_path / "pilots.json")
    assert json.loads((tmp_path / "pilots.json").read_text()) == fitted.library()


# --- encoders


def test_an_expert_begins_as_the_shared_encoder_and_learns_its_turn(world) -> None:
    """Trained on one domain it is far above the shared encoder there."""
    made, experts, _, (asked, wanted) = world
    both = [QueryExpert.shared(16), experts[0]]
    earned = expert_quality(both, asked[:60], made.documents, wanted[:60]).mean(axis=0)
    assert earned[1] > earned[0] + 0.15
    assert both[0].encode(asked) == pytest.approx(asked)


def test_the_correction_is_of_low_rank(world) -> None:
    """Its matrix has rank 6 of 16."""
    expert = world[1][0]
    assert np.linalg.matrix_rank(expert.down @ expert.up) == 6


def test_search_is_exact_and_keeps_the_order_of_equals() -> None:
    """By cosine: the long document is no nearer for its length."""
    documents = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 0.0], [1.0, 1.0]])
    assert found(np.array([[2.0, 0.1]]), documents, 3).tolist() == [[0, 2, 3]]
    assert found(np.empty((0, 2)), documents, 3).shape == (0, 3)


def test_ndcg_of_one_relevant_document_by_hand() -> None:
    """Second of two: 1 / log2(3); beyond k: nothing."""
    documents = np.array([[1.0, 0.0], [0.0, 1.0]])
    query = np.array([[1.0, 0.2]])
    one = expert_quality([QueryExpert.shared(2)], query, documents, np.array([1]))
    none = expert_quality([QueryExpert.shared(2)], query, documents, np.array([1]), k=1)
    assert one[0, 0] == pytest.approx(1 / np.log2(3))
    assert none[0, 0] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RouterRetriever(k=0), "router_retriever.k"),
        (lambda: RouterRetriever(pick="sum"), "router_retriever.pick"),
        (lambda: RouterRetriever(least=2.0), "router_retriever.least"),
        (lambda: RouterRetriever(encoder="bert"), "encoder must be"),
        (lambda: _fit(_table()).without("c"), "name must be an expert"),
        (lambda: _fit(_table()).without("a").without("b"), "leave an expert"),
        (lambda: _fit(_table()).added("a", np.ones(4)), "names must be unique"),
        (lambda: _fit(_table()).added("c", np.ones(3)), "quality must have shape"),
        (lambda: QueryExpert(np.ones((2, 1)), np.ones((2, 1))), "expert.up"),
        (
            lambda: train_expert(
                np.ones((2, 2)), np.ones((3, 2)), np.array([0, 3]), rng=np.random.default_rng(0)
            ),
            "wanted must hold",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(make, message: str) -> None:
    """One clear error each."""
    with pytest.raises(InputError, match=message):
        make()


def test_texts_are_encoded_by_the_light_encoder() -> None:
    """Words of a domain lead to its expert."""
    table = replace(_table(), inputs=["gold coin", "gold bar", "blue whale", "a thing"])
    table = replace(table, quality=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    fitted = _fit(replace(table, inputs=["gold coin", "gold coin", "blue whale", "blue whale"]))
    assert fitted.predict(["the gold", "blue sea"])[0].argmax(axis=1).tolist() == [0, 1]

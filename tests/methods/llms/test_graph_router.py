"""The graph router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from turnout.core import InputError, Outcomes, Pool
from turnout.llms.graph_router import FittedGraphRouter, GraphRouter
from turnout.parts import store
from turnout.parts.costs import CostModel
from turnout.parts.edges import Scale, Tasks, fit_scale
from turnout.parts.learners.mixture import Line
from turnout.parts.texts.encoder import Ready
from turnout.testing import Case

torch = pytest.importorskip("torch")

from turnout.nn.graph import EdgeTable, Training, log_odds, masks, network_of, train  # noqa: E402

QUICK = GraphRouter(h=8, epochs=40, d=48)
CASE = Case(QUICK)

ABOUT = (
    "It is good at sums and bad at verse.",
    "It is good at verse and bad at sums.",
    "It is bad at sums and bad at verse.",
)


def _table(n: int = 240, *, names: tuple[str, ...] = ("sums", "verse", "none")) -> Outcomes:
    """Half sums, half verse, each with a model that is right nine times in ten."""
    rng = np.random.default_rng(3)
    topic = rng.integers(0, 2, n)
    words = (("add", "number", "digit", "total"), ("poem", "rhyme", "line", "song"))
    inputs = [
        f"{' '.join(rng.choice(words[t], 2, replace=False))} {i}" for i, t in enumerate(topic)
    ]
    good = np.stack((0.9 - 0.8 * topic, 0.1 + 0.8 * topic, np.full(n, 0.1)), axis=1)
    return Outcomes(
        inputs=inputs,
        names=names,
        quality=(rng.random((n, 3)) < good).astype(float),
        cost=np.tile([1.0, 2.0, 0.5], (n, 1)),
        group=[("sums", "verse")[t] for t in topic],
    )


def _pool(table: Outcomes) -> Pool:
    return Pool(names=table.names, usd_per_item=table.mean_cost(), description=ABOUT[: table.m])


def _fit(recipe: GraphRouter, table: Outcomes, pool: Pool | None = None) -> FittedGraphRouter:
    return recipe.fit(table, pool or table.pool(), rng=np.random.default_rng(0))


def test_an_edge_by_hand() -> None:
    """X = [t ; q] = [0.5, 1], keys (2, 0) and (0, 4): log-odds 1 / 2 and 4 / 2."""
    one = np.ones((1, 1), dtype=np.float32)
    fitted = FittedGraphRouter(
        names=("a", "b"),
        encoder=Ready(1),
        describer=None,
        tasks=Tasks(("t",), 0.5 * one),
        scale=Scale(1.0, 0.0, np.zeros(1), np.ones(1)),
        weights={
            "query.weight": one, "query.bias": 0 * one[0],
            "task.weight": one, "task.bias": 0 * one[0],
        },
        message="linear",
        keys=np.array([[2.0, 0.0], [0.0, 4.0]], dtype=np.float32),
        line=Line(np.array([0.0, -1.0]), np.array([1.0, 1.0]), 2.0),
        trained=2,
        costs=CostModel(np.array([1.0, 3.0]), np.zeros(2), np.zeros(2)),
    )  # fmt: skip
    p = 1 / (1 + np.exp(-np.array([0.5, 2.0])))
    assert fitted.best(np.array([[3.0]])) == pytest.approx(p[None])
    quality, cost = fitted.predict(np.array([[3.0]]))
    z = np.array([0.0, -1.0]) + p.mean() + 2.0 * (p - p.mean())
    assert quality == pytest.approx(1 / (1 + np.exp(-z[None])))
    assert cost.tolist() == [[1.0, 3.0]]


def test_scores_and_labels_by_hand() -> None:
    """Costs from 0 to 1 in their task; every tied best is labelled; what was not seen is not."""
    table = Outcomes(
        inputs=["a", "b", "c"],
        names=("x", "y"),
        quality=np.array([[1.0, 1.0], [0.0, 1.0], [np.nan, 0.5]]),
        cost=np.array([[2.0, 4.0], [3.0, 3.0], [np.nan, 7.0]]),
    )
    task = np.array([0, 0, 1])
    e, seen, label = fit_scale(table, task, alpha=1.0, beta=0.0).edges(table, task)
    assert label.tolist() == [[1, 1], [0, 1], [0, 1]]
    assert seen.tolist() == [[True, True], [True, True], [False, True]]
    assert e[:, :, 1].tolist() == [[0.0, 1.0], [0.5, 0.5], [0.0, 0.0]]
    e, _, label = fit_scale(table, task, alpha=0.5, beta=0.5).edges(table, task)
    assert e[0, :, 0].tolist() == [0.5, 0.0]
    assert label[0].tolist() == [1, 0]


def test_it_learns_who_is_good_at_what() -> None:
    """The choice by p and the choice by the calibrated quality agree with the rule."""
    table = _table()
    fitted = _fit(QUICK, table)
    asks = ["add the total", "a poem with rhyme"]
    assert fitted.best(asks).argmax(axis=1).tolist() == [0, 1]
    quality, _ = fitted.predict(asks)
    assert quality.argmax(axis=1).tolist() == [0, 1]
    assert quality[0] == pytest.approx([0.9, 0.1, 0.1], abs=0.25)


def test_a_dear_best_is_no_best_where_cost_counts() -> None:
    """In the scenario that weighs cost most, p sends verse to the cheapest model."""
    fitted = _fit(replace(QUICK, alpha=0.2, beta=0.8), _table())
    assert fitted.best(["a poem with rhyme"]).argmax(axis=1).tolist() == [2]


def test_a_shown_edge_is_never_predicted() -> None:
    """Of the cells seen, each is shown or hidden and none is both; blanks are neither."""
    seen = np.random.default_rng(0).random((50, 4)) < 0.8
    shown, hidden = masks(seen, 0.3, np.random.default_rng(1))
    assert not (shown & hidden).any()
    assert ((shown | hidden) == seen).all()
    assert 0.2 < shown[seen].mean() < 0.4


def _edges(n: int = 60, seed: int = 0) -> EdgeTable:
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((n, 5)).astype(np.float32)
    e = rng.random((n, 3, 3)).astype(np.float32)
    label = (e[:, :, 0] == e[:, :, 0].max(axis=1, keepdims=True)).astype(np.float32)
    about = np.eye(3, dtype=np.float32)
    return EdgeTable(query, query[:, :2], about, e, np.ones((n, 3), dtype=bool), label)


_SHORT = Training(
    h=4, inside="relu", visible=0.5, epochs=3, passes=1, rate=0.01, decay=0.0
)  # fmt: skip


def test_what_is_judged_is_not_known() -> None:
    """Edges of rows that are hidden change no log-odds, of these rows or of others."""
    table, rows, judged = _edges(), np.arange(40), np.arange(40, 60)
    network = train(table, rows, judged, _SHORT, rng=np.random.default_rng(0))
    other = table.e.copy()
    other[judged] = other[judged][::-1] + 0.5
    found = log_odds(network, table, rows, judged)
    assert (found == log_odds(network, replace(table, e=other), rows, judged)).all()
    other[rows] = other[rows] + 0.5
    assert not np.allclose(found, log_odds(network, replace(table, e=other), rows, judged))


def test_a_model_depends_on_its_own_edges_alone() -> None:
    """So that one who joins moves nobody."""
    table, rows = _edges(), np.arange(60)
    network = network_of(table, 4, "linear", torch.Generator().manual_seed(0))
    other = table.e.copy()
    other[:, 2] += 1.0
    one = log_odds(network, table, rows, rows)
    two = log_odds(network, replace(table, e=other), rows, rows)
    assert one[:, :2] == pytest.approx(two[:, :2], abs=1e-6)
    assert abs(one[:, 2] - two[:, 2]).max() > 1e-4


def test_linear_messages_do_not_tell_which_prompt_had_which_score() -> None:
    """Dealing a model's edges to other prompts changes it only where messages are bent."""
    table, rows = _edges(), np.arange(60)
    dealt = replace(table, e=table.e[::-1].copy())
    for inside, same in (("linear", True), ("relu", False)):
        network = network_of(table, 4, inside, torch.Generator().manual_seed(0))
        one, two = (log_odds(network, each, rows, rows) for each in (table, dealt))
        assert np.allclose(one, two, atol=1e-5) is same


def test_a_model_joins_without_training() -> None:
    """By its description and some edges; the others keep their figures, and it is told well."""
    table = _table()
    full, old = _pool(table), table.select(("sums", "none"))
    fitted = _fit(QUICK, old, full.select(old.names))
    few = table.take(np.arange(80))
    joined = fitted.join("verse", few, description=ABOUT[1])
    assert joined.names == ("sums", "none", "verse")
    asks = ["add the total", "a poem with rhyme"]
    before, after = fitted.predict(asks), joined.predict(asks)
    assert (after[0][:, :2] == before[0]).all()
    assert (after[1][:, :2] == before[1]).all()
    assert after[1][:, 2].tolist() == [2.0, 2.0]
    told = joined.predict(few.inputs)[0][:, 2]
    assert told.mean() == pytest.approx(few.quality[:, 1].mean(), abs=0.05)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"name": "sums", "description": "x"}, "name must be a new destination"),
        ({"name": "verse", "description": " "}, "description must describe"),
        ({"name": "nobody", "description": "x"}, "names must be destinations of the table"),
    ],
)
def test_who_may_not_join_is_told_why(how: dict[str, str], message: str) -> None:
    """Known already, undescribed, or never seen."""
    table = _table(80)
    old = table.select(("sums", "none"))
    fitted = _fit(replace(QUICK, epochs=2), old, _pool(table).select(old.names))
    with pytest.raises(InputError, match=message):
        fitted.join(how["name"], table, description=how["description"])


def test_without_descriptions_nobody_joins_and_features_do() -> None:
    """A unit vector of one's own says nothing about a stranger; features may."""
    table, quick = _table(80), replace(QUICK, epochs=2)
    old = table.select(("sums", "none"))
    with pytest.raises(InputError, match="features must tell what the model is"):
        _fit(quick, old).join("verse", table, description="good at verse")
    pool = replace(old.pool(), features=np.array([[1.0, 0.0], [0.0, 0.0]]))
    joined = _fit(quick, old, pool).join("verse", table, features=np.array([0.0, 1.0]))
    assert joined.predict(["add"])[0].shape == (1, 3)
    with pytest.raises(InputError, match="features must have shape"):
        joined.join("other", replace(table, names=("a", "b", "other")), features=np.ones(3))


def test_tasks_are_told_by_label_and_else_by_likeness() -> None:
    """A label that is known counts, another one counts as none."""
    tasks = Tasks(("a", "b"), np.eye(2, dtype=np.float32))
    query = np.array([[1.0, 0.1], [1.0, 0.1], [0.0, 1.0]], dtype=np.float32)
    assert tasks.of(query).tolist() == [0, 0, 1]
    assert tasks.of(query, ("b", "new", "b")).tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_smallest_tables_are_fitted(n: int) -> None:
    """One prompt, a repeated prompt, blank cells: figures in range."""
    quality = np.tile([1.0, 0.0], (n, 1))
    quality[1:2, 0] = np.nan
    table = Outcomes(inputs=["same"] * n, names=("a", "b"), quality=quality, cost=quality * 0)
    quality, cost = _fit(replace(QUICK, epochs=3), table).predict(["same", "", "other words"])
    assert ((quality >= 0) & (quality <= 1)).all()
    assert (cost == 0).all()


def test_a_joined_router_is_saved_and_loaded(tmp_path: Path) -> None:
    """With all it needs for a further model to join."""
    table = _table(80)
    old = table.select(("sums", "none"))
    fitted = _fit(replace(QUICK, epochs=3), old, _pool(table).select(old.names))
    store.save(tmp_path / "r.turnout", fitted, old.pool())
    loaded = store.load(tmp_path / "r.turnout").router.predictor  # type: ignore[attr-defined]
    one, two = (each.join("verse", table, description=ABOUT[1]) for each in (fitted, loaded))
    assert (one.predict(table.inputs)[0] == two.predict(table.inputs)[0]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"h": 0}, "graph_router.h must be"),
        ({"alpha": -1.0}, "graph_router.alpha must be"),
        ({"alpha": 0.0}, "graph_router.alpha must be above 0 where beta is 0"),
        ({"beta": float("nan")}, "graph_router.beta must be"),
        ({"visible": 1.0}, "graph_router.visible must be"),
        ({"message": "tanh"}, "graph_router.message must be one of linear, relu"),
        ({"epochs": 0}, "graph_router.epochs must be"),
        ({"passes": 0}, "graph_router.passes must be"),
        ({"rate": 0.0}, "graph_router.rate must be"),
        ({"held_out": 0.9}, "graph_router.held_out must be"),
        ({"encoder": "bert"}, "encoder must be one of svd, minilm"),
        ({"d": 0}, "graph_router.d must be"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        GraphRouter(**fields)

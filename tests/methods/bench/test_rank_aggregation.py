"""Borda, Kemeny and means over tasks."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from turnout.bench import _orders
from turnout.bench import rank_aggregation as ranks
from turnout.bench import rank_stability as stability
from turnout.bench.rank_aggregation import Ranking, Scores
from turnout.bench.rank_tables import read_scores
from turnout.core import DataError, InputError


def one_each(table: np.ndarray, **more: object) -> Scores:
    """Scores of tasks (T, m) as tasks of one item; systems are s0, s1, ..."""
    return Scores(
        systems=tuple(f"s{j}" for j in range(table.shape[1])),
        tasks=tuple(f"t{t}" for t in range(len(table))),
        values=tuple(row[None] for row in np.asarray(table, dtype=float)),
        **more,
    )


def test_borda_by_hand() -> None:
    """Points are systems beaten plus half of those tied: 2+1.5+0, 1+1.5+1, 0+0+2."""
    scores = one_each(np.array([[3.0, 2.0, 1.0], [5.0, 5.0, 4.0], [0.1, 0.2, 0.3]]))
    found = ranks.borda(scores)
    assert found.points.tolist() == [3.5, 3.5, 2.0]
    assert found.groups() == (("s0", "s1"), ("s2",))
    assert found.places().tolist() == [1.5, 1.5, 3.0]


def test_kemeny_by_hand() -> None:
    """A majority prefers 0 to 1, 1 to 2 and 2 to 0, by 4, 5 and 3 of 6: 0 > 1 > 2 errs 2+1+3."""
    points = [[2, 1, 0]] * 3 + [[0, 2, 1]] * 2 + [[1, 0, 2]]
    found = ranks.kemeny(one_each(np.array(points)))
    assert found.ranking.groups() == (("s0",), ("s1",), ("s2",))
    assert found.cost == 6.0
    # 1 > 2 > 0 errs 4 + 1 + 3; 0 > 1 > 2 alone errs 6.
    assert found.unique


def test_a_condorcet_winner_comes_first() -> None:
    """Borda may pass over a system that beats each other one by a majority; Kemeny never does."""
    points = np.array([[2, 1, 0]] * 3 + [[0, 2, 1]] * 2)
    scores = one_each(points)
    assert ranks.borda(scores).groups()[0] == ("s1",)
    assert ranks.kemeny(scores).ranking.groups()[0] == ("s0",)


def _brute(points: np.ndarray) -> float:
    table = ranks.wins(points)
    return min(
        sum(table[b, a] for a, b in itertools.combinations(order, 2))
        for order in itertools.permutations(range(points.shape[1]))
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("brute", [7, 2])
def test_kemeny_is_exact(seed: int, brute: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks by trying all orders, and by the integer program, cost what the least order costs."""
    monkeypatch.setattr(_orders, "BRUTE", brute)
    points = np.random.default_rng(seed).integers(0, 4, size=(5, 6)).astype(float)
    scores = one_each(points)
    found = ranks.kemeny(scores)
    expected = _brute(ranks.rankings(scores))
    assert found.cost == pytest.approx(expected)
    table = ranks.wins(ranks.rankings(scores))
    best = [
        order
        for order in itertools.permutations(range(6))
        if sum(table[b, a] for a, b in itertools.combinations(order, 2)) < expected + 0.25
    ]
    assert found.unique == (len(best) == 1)


def test_the_order_of_columns_is_nothing() -> None:
    """Kemeny's and Borda's orders name the same systems whatever column they stand in."""
    rng = np.random.default_rng(1)
    table = rng.integers(0, 3, size=(4, 6)).astype(float)
    scores = one_each(table)
    shuffled = rng.permutation(6)
    other = Scores(
        systems=tuple(scores.systems[j] for j in shuffled),
        tasks=scores.tasks,
        values=tuple(value[:, shuffled] for value in scores.values),
    )
    assert ranks.kemeny(scores).ranking.groups() == ranks.kemeny(other).ranking.groups()
    assert ranks.borda(scores).groups() == ranks.borda(other).groups()


def test_ties_help_nobody() -> None:
    """Systems that tie everywhere stand together, first column or last."""
    scores = one_each(np.ones((3, 4)))
    assert ranks.borda(scores).groups() == (("s0", "s1", "s2", "s3"),)
    assert ranks.mean(scores).groups() == (("s0", "s1", "s2", "s3"),)
    assert not ranks.kemeny(scores).unique
    assert math.isnan(ranks.tau(ranks.borda(scores), ranks.mean(scores)))


def test_scaling_a_task_moves_the_mean_alone() -> None:
    """A task in thousandths decides the mean; no ranking of tasks notices."""
    rng = np.random.default_rng(0)
    table = np.arange(6.0) + 0.3 * rng.standard_normal((5, 6))
    table[4] = rng.standard_normal(6)
    big = table.copy()
    big[4] *= 1000
    before, after = one_each(table), one_each(big)
    assert ranks.borda(before).points.tolist() == ranks.borda(after).points.tolist()
    alone = ranks.borda(after.only(tasks=["t4"]))
    assert ranks.mean(after).groups() == alone.groups() != ranks.mean(before).groups()


def test_a_large_task_decides_one_level_alone() -> None:
    """A hundred items outweigh two tasks of one item on one level, and count once on two."""
    few = np.array([[1.0, 0.0]])
    scores = Scores(
        systems=("few", "many"),
        tasks=("a", "b", "c"),
        values=(few, few, np.array([[0.0, 1.0]] * 100)),
    )
    assert ranks.borda(scores, levels=1).groups()[0] == ("many",)
    assert ranks.borda(scores, levels=2).groups()[0] == ("few",)
    assert ranks.mean(scores, levels=1).groups()[0] == ("many",)


def test_less_is_better_where_said() -> None:
    """A task of costs counts the other way round, in each aggregation."""
    table = np.array([[1.0, 2.0], [1.0, 2.0]])
    scores = one_each(table, lower=("t0", "t1"))
    for found in (ranks.borda(scores), ranks.mean(scores), ranks.kemeny(scores).ranking):
        assert found.groups()[0] == ("s0",)


def test_only_common_items_are_ranked() -> None:
    """An item that a system lacks is left out of every ranking, and counted."""
    values = np.array([[1.0, 0.0], [np.nan, 1.0], [np.nan, 1.0]])
    scores = Scores(systems=("a", "b"), tasks=("t",), values=(values,))
    assert scores.incomplete == 2
    assert ranks.borda(scores, levels=1).groups()[0] == ("a",)
    empty = Scores(systems=("a", "b"), tasks=("t",), values=(values[1:],))
    with pytest.raises(DataError, match="task 't' must have an item that every system scored"):
        ranks.borda(empty)


def test_one_system_and_one_task() -> None:
    """The least there is still has an order."""
    scores = Scores(systems=("only",), tasks=("t",), values=(np.array([[0.5]]),))
    assert ranks.borda(scores).groups() == (("only",),)
    found = ranks.kemeny(scores)
    assert (found.cost, found.unique) == (0.0, True)
    assert stability.spoilers(scores) == {}
    assert stability.without_each_task(scores) == {}


def test_kendalls_tau_and_distance_by_hand() -> None:
    """One of three pairs differs: tau 1/3, one discordant pair."""
    one = Ranking(systems=("a", "b", "c"), points=np.array([3.0, 2.0, 1.0]))
    other = Ranking(systems=("a", "b", "c"), points=np.array([2.0, 3.0, 1.0]))
    assert ranks.tau(one, other) == pytest.approx(1 / 3)
    assert ranks.disagreement(one, other.points[None]) == 1.0
    with pytest.raises(InputError, match=r"other\.systems"):
        ranks.tau(one, Ranking(systems=("a", "b", "x"), points=np.zeros(3)))


def test_a_spoiler_is_named() -> None:
    """The weak third splits the rankings: two systems lead, one with it and one without."""
    points = np.array([[2.0, 0.0, 1.0]] * 2 + [[1.0, 2.0, 0.0]] * 3)
    scores = one_each(points)  # a 7, b 6, c 2
    assert ranks.borda(scores).groups()[0] == ("s0",)
    assert stability.spoilers(scores) == {"s2": ("s1",)}


def test_draws_repeat_and_tell_the_sure_from_the_unsure() -> None:
    """The same generator draws the same; equal systems share the first place."""
    rng = np.random.default_rng(0)
    skill = np.array([0.9, 0.5, 0.5])
    scores = Scores(
        systems=("good", "b", "c"),
        tasks=("t", "u"),
        values=tuple((rng.random((200, 3)) < skill).astype(float) for _ in range(2)),
    )
    found, again = (
        stability.robustness(scores, rng=np.random.default_rng(5), resamples=50) for _ in range(2)
    )
    assert found.drawn == "items"
    assert np.array_equal(found.places, again.places)
    assert found.first[0] == 1.0
    assert found.first.sum() == pytest.approx(1.0)
    tasks = stability.robustness(one_each(np.eye(3)), rng=rng, resamples=5, how="mean")
    assert tasks.drawn == "tasks"


def test_mallows_falls_with_the_distance() -> None:
    """Of three systems the six orders have probability proportional to exp(-theta d)."""
    drawn = stability.mallows([0, 1, 2], 1.0, 5_000, rng=np.random.default_rng(0))
    centre = np.array([2.0, 1.0, 0.0])
    counts = {}
    for row in map(tuple, drawn.tolist()):
        counts[row] = counts.get(row, 0) + 1
    weight = {
        row: math.exp(
            -ranks.disagreement(Ranking(systems=("a", "b", "c"), points=centre), np.array([row]))
        )
        for row in counts
    }
    assert len(counts) == 6
    for row, count in counts.items():
        share = weight[row] / sum(weight.values())
        assert count == pytest.approx(5_000 * share, abs=4 * math.sqrt(5_000 * share))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"systems": ("a", "a")}, "scores.systems must be unique"),
        ({"tasks": ()}, "scores.tasks must hold at least one task"),
        ({"values": ()}, "scores.values must hold one array for each of 1 tasks"),
        ({"values": (np.zeros((2, 3)),)}, "scores.values of 't' must have shape"),
        ({"values": (np.array([[np.inf, 0.0]]),)}, "must be a finite number"),
        ({"lower": ("u",)}, "scores.lower must be among t"),
    ],
)
def test_wrong_scores_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    good = {"systems": ("a", "b"), "tasks": ("t",), "values": (np.zeros((1, 2)),)}
    with pytest.raises(InputError, match=message):
        Scores(**(good | fields))


def test_wrong_settings_are_refused() -> None:
    """Levels, aggregations, draws and blocks too large are named."""
    scores = one_each(np.ones((2, 3)))
    with pytest.raises(InputError, match="levels must be a whole number in"):
        ranks.borda(scores, levels=3)
    with pytest.raises(InputError, match="how must be borda or mean"):
        stability.robustness(scores, rng=np.random.default_rng(0), how="median")
    with pytest.raises(InputError, match="share must be"):
        stability.robustness(scores, rng=np.random.default_rng(0), share=0.0)
    with pytest.raises(InputError, match="blocks of at most 2"):
        ranks.kemeny(scores, most=2)


# --- readers -----------------------------------------------------------------------------------


def test_tasks_are_read(tmp_path: Path) -> None:
    """A row a system; columns can be chosen, left out, and turned round; repeats are numbered."""
    file = tmp_path / "scores.csv"
    file.write_text("Model,Score,acc,TER\na,1,0.9,0.5\nb,2,0.8,0.1\na,3,0.7,0.2\n")
    found = read_scores([file], leave=["Score"], lower=["TER"])
    assert found.scores.tasks == ("acc", "TER")
    assert found.scores.systems == ("a", "b", "a (2)")
    assert "more than once" in found.notes[0]
    assert ranks.borda(found.scores).points.tolist() == [2.0, 3.0, 1.0]
    with pytest.raises(InputError, match="columns must be among Score, acc, TER"):
        read_scores([file], columns=["bleu"])
    with pytest.raises(InputError, match="lower must be among acc"):
        read_scores([file], columns=["acc"], lower=["TER"])
    with pytest.raises(InputError, match="columns must leave at least one task"):
        read_scores([file], columns=["acc"], leave=["acc"])


def test_items_are_read_in_any_order(tmp_path: Path) -> None:
    """Items are paired by name; what a system lacks is left out and noted."""
    file = tmp_path / "items.csv"
    rows = ["System,Utterance,bleu", "x,1,0.1", "y,2,0.9", "x,2,0.2", "y,1,0.3", "y,3,0.3"]
    file.write_text("\n".join(rows))
    found = read_scores([file])
    assert found.scores.values[0].tolist() == [[0.1, 0.3], [0.2, 0.9]]
    assert found.notes == ("left out 1 of 3 items that a system lacks",)
    swapped = read_scores([file], system="Utterance", item="System")
    assert swapped.scores.systems == ("1", "2", "3")
    assert swapped.notes == ("left out 1 of 2 items that a system lacks",)
    with pytest.raises(InputError, match="column must be a column"):
        read_scores([file], system="Who")
    file.write_text("\n".join([*rows, "x,1,0.5"]))
    with pytest.raises(DataError, match="hold each System and Utterance once"):
        read_scores([file])
    file.write_text("System,Utterance,bleu\nx,1,good\n")
    with pytest.raises(DataError, match="column 'bleu', row 1, must be a number"):
        read_scores([file])


def test_results_of_routers_are_read(tmp_path: Path) -> None:
    """Each task by its own figure; landmarks stay out, as do methods not judged everywhere."""
    rows = {
        "oracle": {"aiq": [0.9, 0.8, 1.0], "apgr": 1.0, "cpt50": 0.1},
        "knn": {"aiq": [0.7, 0.6, 0.8], "apgr": 0.6, "cpt50": 0.2},
        "linear": {"aiq": [0.6, 0.5, 0.7], "apgr": 0.7, "cpt50": 0.4},
    }
    tasks = {
        "one": {"measure": "aiq", "rows": rows},
        "two": {"measure": "apgr", "rows": rows | {"cascade": {"apgr": 0.9, "aiq": None}}},
    }
    file = tmp_path / "routers.json"
    file.write_text(json.dumps({"tasks": tasks}))
    found = read_scores([file])
    assert found.scores.systems == ("knn", "linear")
    assert [value.tolist() for value in found.scores.values] == [[[0.7, 0.6]], [[0.6, 0.7]]]
    assert found.notes == ("left out cascade: no score in one",)
    share = read_scores([file], measure="cpt50", landmarks=True).scores
    assert share.lower == ("one", "two")
    assert ranks.borda(share).groups()[0] == ("oracle",)
    with pytest.raises(InputError, match=r"measure must be a figure of routers\.json"):
        read_scores([file], measure="speed")


def test_rows_of_bench_are_read_together(tmp_path: Path) -> None:
    """One file is one task; a method that one file lacks is left out and noted."""
    for name, values in (("a", {"knn": 0.7, "linear": 0.6}), ("b", {"knn": 0.5})):
        rows = [{"method": method, "aiq": aiq} for method, aiq in values.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    found = read_scores([tmp_path / "a.json", tmp_path / "b.json"])
    assert (found.scores.tasks, found.scores.systems) == (("a", "b"), ("knn",))
    assert found.notes == ("left out linear: no score in b",)
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(DataError, match="hold results of routers"):
        read_scores([tmp_path / "c.json"])


def test_a_table_of_outcomes_is_read(tmp_path: Path) -> None:
    """Its models are the systems, its groups the tasks."""
    file = tmp_path / "log.csv"
    lines = ["prompt,model,quality,cost,group"]
    for i in range(4):
        for model, quality in (("small", i % 2), ("large", 1)):
            lines.append(f"question {i},{model},{quality},1,{'ab'[i // 2]}")
    file.write_text("\n".join(lines))
    scores = read_scores([file]).scores
    assert (scores.tasks, scores.n) == (("a", "b"), 4)
    assert ranks.borda(scores).groups()[0] == ("large",)


@pytest.mark.skipif("TURNOUT_DATA" not in os.environ, reason="TURNOUT_DATA is not set")
def test_the_glue_leaderboard_is_read() -> None:
    """105 systems by 14 tasks, its column of means left out; the mean orders them otherwise."""
    file = Path(os.environ["TURNOUT_DATA"]) / "glue_leaderboard.csv"
    scores = read_scores([file], leave=["Score"]).scores
    assert (len(scores.systems), len(scores.tasks)) == (105, 14)
    assert 0.85 < ranks.tau(ranks.borda(scores), ranks.mean(scores)) < 0.99

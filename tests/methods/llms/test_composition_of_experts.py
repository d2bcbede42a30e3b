"""Composition of Experts: categories and doubt, a table of experts, and what fits."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.core import Budget, InputError, Outcomes
from turnout.llms.composition_of_experts import (
    CompositionOfExperts,
    Deployed,
    FittedComposition,
    _doubt,
)
from turnout.parts import store
from turnout.parts.portfolio import EXACT, best_set, possible_sets
from turnout.testing import Case

CASE = Case(CompositionOfExperts(d=24))

SIZES = {"coder": 7.0, "writer": 8.0, "both": 20.0}
QUICK = CompositionOfExperts(k=5, d=8, sizes=SIZES, kappa=0.0)


def _fit(recipe: CompositionOfExperts, table: Outcomes) -> FittedComposition:
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert isinstance(fitted, FittedComposition)
    return fitted


def _table(n: int = 120, *, seed: int = 1, noise: float = 0.0, spread: float = 0.1) -> Outcomes:
    """Two directions; the coder is good at one, the writer at the other, both at either."""
    rng = np.random.default_rng(seed)
    prose = rng.integers(0, 2, n)
    good = np.array([[0.9, 0.1, 0.7], [0.2, 0.8, 0.7]])[prose]
    return Outcomes(
        inputs=np.eye(2)[prose] + spread * rng.standard_normal((n, 2)),
        names=("coder", "writer", "both"),
        quality=np.clip(good + noise * rng.standard_normal((n, 3)), 0, 1),
        cost=np.tile([1.0, 2.0, 4.0], (n, 1)),
        group=tuple(("code", "prose")[p] for p in prose),
    )


def test_scores_by_hand() -> None:
    """Rows of a category with two rows' weight of the overall mean, and the mean for general."""
    table = Outcomes(
        inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]),
        names=("a", "b"),
        quality=np.array([[1.0, 0.0], [0.5, np.nan], [0.0, 1.0]]),
        cost=np.ones((3, 2)),
        group=("x", "x", "y"),
    )
    fitted = _fit(CompositionOfExperts(k=1, kappa=2.0, uncertain=0.0), table)
    assert fitted.categories == ("x", "y", "general")
    # a in x: (1 + 0.5 + 2 * 0.5) / 4; b in x: (0 + 2 * 0.5) / 3
    assert fitted.score[0] == pytest.approx([2.5 / 4, 1 / 3])
    assert fitted.score[1] == pytest.approx([1 / 3, 2 / 3])
    assert fitted.score[2] == pytest.approx([0.5, 0.5])
    assert fitted.share == pytest.approx([2 / 3, 1 / 3, 0.0])
    quality, _ = fitted.predict(np.array([[3.0, 0.0]]))
    assert quality[0] == pytest.approx([2.5 / 4, 1 / 3])


def test_doubt_is_the_entropy_of_the_votes_or_what_the_largest_leaves() -> None:
    """None where all agree; log 2 for an even split; whole numbers of votes round alike."""
    votes = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]])
    assert _doubt(votes, "entropy") == pytest.approx([0.0, np.log(2), 0.562335], abs=1e-6)
    assert _doubt(votes, "votes") == pytest.approx([0.0, 0.5, 0.25])


@pytest.mark.parametrize("statistic", ["entropy", "votes"])
def test_prompts_between_categories_are_general(statistic: str) -> None:
    """Sent there more the farther they are from both, and scored by the overall mean."""
    table = _table(400, spread=0.5)
    fitted = _fit(replace(QUICK, statistic=statistic, k=15), table)
    clear, between = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    assert fitted.category(clear).tolist() == [0]
    assert fitted.category(between).tolist() == [2]
    assert fitted.predict(between)[0][0] == pytest.approx(table.quality.mean(axis=0))
    sure = _fit(replace(QUICK, statistic=statistic, uncertain=0.0), table)
    assert (sure.category(between) < 2).all()


def test_about_the_wanted_share_is_general() -> None:
    """On rows never seen, drawn as the table was."""
    fitted = _fit(replace(QUICK, uncertain=0.2, k=15), _table(1200, spread=0.6))
    general = fitted.category(_table(1200, spread=0.6, seed=7).inputs) == 2
    assert 0.1 < general.mean() < 0.3


def test_the_table_gives_each_category_the_best_expert_that_fits() -> None:
    """No room for two: one for all; room for both specialists: one each; ties to the smaller."""
    fitted = _fit(replace(QUICK, k=15), _table(400, spread=0.5))
    small, specialists, everything = (fitted.deploy(limit) for limit in (7.0, 15.0, 99.0))
    assert small.table == {"code": "coder", "prose": "coder", "general": "coder"}
    assert specialists.table["code"] == "coder"
    assert specialists.table["prose"] == "writer"
    assert everything.table["general"] == "both"
    equal = replace(_table(), quality=np.full((120, 3), 0.5))
    assert set(_fit(QUICK, equal).deploy(99.0).table.values()) == {"coder"}


def test_the_curve_rises_with_size_and_ends_with_every_best_expert() -> None:
    """Each point is what its size buys; the last is worth all experts together."""
    fitted = _fit(QUICK, _table())
    curve = fitted.frontier()
    assert (np.diff(curve.cost) > 0).all()
    assert (np.diff(curve.quality) > 0).all()
    best = float(fitted.share @ fitted.score.max(axis=1))
    assert curve.quality[-1] == pytest.approx(best)
    for size, value in zip(curve.cost, curve.quality, strict=True):
        deployed = fitted.deploy(float(size))
        score = np.where(deployed.kept, fitted.score, -1.0).max(axis=1)
        assert float(fitted.share @ score) == pytest.approx(float(value))


@pytest.mark.parametrize("forced", [-1, 2])
def test_sets_are_those_of_brute_force(forced: int) -> None:
    """Every limit between the sizes of two sets, six experts."""
    rng = np.random.default_rng(3)
    score, share = rng.random((5, 6)), rng.dirichlet(np.ones(5))
    size = rng.integers(1, 9, 6).astype(float)
    sets = [
        set_
        for r in range(1, 7)
        for set_ in itertools.combinations(range(6), r)
        if forced < 0 or forced in set_
    ]
    least = float(size[forced] if forced >= 0 else size.min())
    for limit in (least + np.arange(0, 20, 1.5)).tolist():
        kept = best_set(score, share, size, limit, forced)
        assert kept @ size <= limit
        best = max(
            float(share @ score[:, set_].max(axis=1))
            for set_ in sets
            if size[list(set_)].sum() <= limit
        )
        assert float(share @ score[:, kept].max(axis=1)) == pytest.approx(best)


def test_many_experts_are_grown_greedily_within_the_limit() -> None:
    """Never above the limit, never below the best single expert, forced one included."""
    rng = np.random.default_rng(4)
    m = EXACT + 6
    score, share, size = rng.random((8, m)), rng.dirichlet(np.ones(8)), rng.uniform(1, 9, m)
    for limit in (9.0, 15.0, 40.0, 200.0):
        for forced in (-1, 3):
            kept = best_set(score, share, size, limit, forced)
            assert kept @ size <= limit
            assert forced < 0 or kept[forced]
            value = float(share @ score[:, kept].max(axis=1))
            alone = [float(share @ score[:, k]) for k in range(m) if size[k] <= limit]
            assert value >= (float(share @ score[:, 3]) if forced >= 0 else max(alone)) - 1e-12
    _, total, values = possible_sets(score, share, size)
    assert (np.diff(total) >= 0).all()
    assert (np.diff(values) > 0).all()


def test_a_limit_that_nothing_fits_is_refused_with_the_least_that_does() -> None:
    """The smallest expert, or the one that is always kept."""
    fitted = _fit(QUICK, _table())
    with pytest.raises(InputError, match="at least 7,"):
        fitted.deploy(6.9)
    with pytest.raises(InputError, match="at least 20,"):
        _fit(replace(QUICK, general="both"), _table()).deploy(10.0)


def test_a_named_general_expert_is_kept_and_takes_the_doubtful() -> None:
    """Whatever the limit, and although another would do as well."""
    fitted = _fit(replace(QUICK, general="writer", k=15), _table(400, spread=0.5))
    deployed = fitted.deploy(8.0)
    assert deployed.names == ("writer",)
    assert fitted.deploy(99.0).table["general"] == "writer"
    between = np.array([[1.0, 1.0]])
    assert fitted.predict(between)[0][0].argmax() == 1


def test_deployed_sends_nothing_to_what_is_not_kept() -> None:
    """At any price and within any budget; what is kept and up is left, or it is refused."""
    table = _table()
    recipe = replace(QUICK, size_budget=15.0)
    deployed = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert isinstance(deployed, Deployed)
    assert deployed.names == ("coder", "writer")
    pool, rng = table.pool(), np.random.default_rng(0)
    budgets = (Budget(), Budget(price=0.01), Budget(price=9.0), Budget(mean_cost=1.4))
    for budget in budgets:
        load = deployed.route(table.inputs, pool, budget=budget, rng=rng).load()
        assert load[2] == 0
    down = pool.with_down(["coder"])
    assert deployed.route(table.inputs, down, budget=Budget(), rng=rng).load()[1] == table.n
    with pytest.raises(InputError, match="leave a deployed expert up"):
        deployed.route(table.inputs, down.with_down(["writer"]), budget=Budget(), rng=rng)
    assert deployed.route(np.empty((0, 2)), pool, budget=Budget(), rng=rng).n == 0
    assert deployed.predict(table.inputs)[0].shape == (table.n, 2)


def test_without_labels_categories_are_clusters() -> None:
    """And it earns what the labels would where clusters are the categories."""
    table = replace(_table(), group=None)
    fitted = _fit(replace(QUICK, c=2), table)
    assert fitted.categories == ("cluster 0", "cluster 1", "general")
    quality, _ = fitted.predict(np.eye(2))
    assert quality.argmax(axis=1).tolist() == [0, 1]
    with pytest.raises(InputError, match="label every row"):
        _fit(replace(QUICK, categories="group"), table)


def test_two_steps_beat_learning_the_best_expert_of_each_prompt() -> None:
    """Noise decides who is best on one prompt; on a category it does not."""
    table = _table(200, noise=0.8, spread=0.2)
    fitted = _fit(replace(QUICK, uncertain=0.0), table)
    new = _table(400, seed=9, spread=0.2)
    two = new.quality[np.arange(400), fitted.predict(new.inputs)[0].argmax(axis=1)].mean()
    best = table.quality.argmax(axis=1)
    similar = (np.asarray(new.inputs) @ np.asarray(table.inputs).T).argmax(axis=1)
    one = new.quality[np.arange(400), best[similar]].mean()
    assert two > one + 0.05


def test_the_scores_come_from_the_table_alone() -> None:
    """What the judged rows hold changes neither table nor threshold."""
    table = _table(300)
    one = _fit(QUICK, table.take(np.arange(200)))
    other = replace(table, quality=np.vstack((table.quality[:200], 1 - table.quality[200:])))
    two = _fit(QUICK, other.take(np.arange(200)))
    assert (one.score == two.score).all()
    assert one.threshold == two.threshold


def test_both_kinds_are_saved(tmp_path: Path) -> None:
    """A predictor and a deployed set say the same from a file."""
    table = _table()
    fitted = _fit(QUICK, table)
    pool, rng = table.pool(), np.random.default_rng(0)
    for name, router in (("p", fitted), ("d", fitted.deploy(15.0))):
        store.save(tmp_path / name, router, pool)
        loaded = store.load(tmp_path / name).router
        assert loaded.predict(table.inputs)[0].tolist() == router.predict(table.inputs)[0].tolist()  # type: ignore[attr-defined]
        loaded.route(table.inputs, pool, budget=Budget(), rng=rng)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_tables_are_fitted(n: int) -> None:
    """One row of one category, and a few."""
    table = _table(40).take(np.arange(n))
    quality, _ = _fit(QUICK, table).predict(np.eye(2))
    assert np.isfinite(quality).all()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"k": 0}, "k"),
        ({"uncertain": 0.95}, "uncertain"),
        ({"statistic": "margin"}, "statistic"),
        ({"kappa": -1.0}, "kappa"),
        ({"categories": "tags"}, "categories"),
        ({"c": 0}, "c"),
        ({"sizes": {"a": 0.0}}, "sizes"),
        ({"size_budget": 0.0}, "size_budget"),
        ({"encoder": "bert"}, "encoder"),
        ({"d": 0}, "d"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str) -> None:
    """When the recipe is made, by name."""
    with pytest.raises(InputError, match=field):
        CompositionOfExperts(**values)


def test_an_unknown_general_expert_is_refused() -> None:
    """By name, when it is fitted."""
    with pytest.raises(InputError, match="nobody"):
        _fit(replace(QUICK, general="nobody"), _table())

"""AdaptDHM: centres that follow the stream, and a network with a part of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.core._check import Float, Int
from turnout.llms.adapt_dhm import AdaptDhm, FittedAdaptDhm
from turnout.parts import store
from turnout.parts.learners.adaptation import (
    _revive,
    forward,
    nearest,
    normal,
    rounds_of_routing,
    slopes,
)
from turnout.parts.learners.descent import cross_entropy
from turnout.testing import Case

CASE = Case(AdaptDhm(clusters=2, hidden=(16,), d=16, batch=64, epochs=20, rate=3e-3, starts=2))

QUICK = AdaptDhm(hidden=(16,), batch=64, epochs=40, rate=5e-3)


def _fit(recipe: AdaptDhm, table: Outcomes, seed: int = 0) -> FittedAdaptDhm:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(seed))


def _kinds(n: int, seed: int, d: int = 8) -> tuple[Float, Int, Float]:
    """Samples of three distributions, which, and the quality of two models by other weights."""
    fixed = np.random.default_rng(5)
    means, weights = 1.5 * fixed.standard_normal((3, d)), fixed.standard_normal((3, d))
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    noise = rng.standard_normal((n, d))
    good = (noise * weights[kind]).sum(axis=1) > 0
    return means[kind] + noise, kind, np.stack((good, ~good), axis=1).astype(float)


def _table(n: int, seed: int) -> tuple[Outcomes, Int]:
    x, kind, quality = _kinds(n, seed)
    return Outcomes(inputs=x, names=("a", "b"), quality=quality, cost=np.ones((n, 2))), kind


def _agree(cluster: Int, kind: Int) -> float:
    """Share of samples whose cluster is mostly of their kind."""
    return sum(int(np.bincount(kind[cluster == c]).max()) for c in np.unique(cluster)) / len(kind)


def test_a_round_of_routing_by_hand() -> None:
    """Shares by softmax, then the mean (or sum) of what was sent, a moving average, length one."""
    centres, v = np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]])
    first = np.exp([1.0, 0.6]) / (np.exp([1.0, 0.6]) + np.exp([0.0, 0.8]))
    share = np.stack((first, 1 - first), axis=1)
    for reduce, divide in (("mean", share.sum(axis=0)), ("sum", np.ones(2))):
        moved = (share.T @ v) / divide[:, None]
        blend = 0.9 * centres + 0.1 * moved
        expected = blend / np.linalg.norm(blend, axis=1, keepdims=True)
        found = rounds_of_routing(centres, v, rounds=1, beta=0.9, temperature=1.0, reduce=reduce)
        assert found == pytest.approx(expected)


def test_a_prompt_by_hand() -> None:
    """The network of its own cluster: relu, then a line."""
    layers = (
        (np.array([[[1.0], [0.0]], [[0.0], [2.0]]]), np.array([[0.0], [-0.5]])),
        (np.array([[[2.0]], [[3.0]]]), np.array([[-1.0], [0.5]])),
    )
    x = np.array([[0.6, 0.8], [-1.0, 0.0], [0.0, 0.1]])
    told = forward(x, np.array([0, 0, 1]), layers)
    assert told[:, 0] == pytest.approx([2 * 0.6 - 1, -1.0, 0.5])
    assert forward(x[2:], np.array([1]), layers)[0, 0] == pytest.approx(0.5)
    assert forward(x[:0], np.empty(0, dtype=int), layers).shape == (0, 1)


def test_gradients_are_those_of_the_loss() -> None:
    """Every parameter against finite differences, with a cell never seen and a cluster unused."""
    rng = np.random.default_rng(3)
    x, cluster = rng.standard_normal((7, 3)), np.array([0, 0, 2, 2, 2, 0, 2])
    quality = rng.random((7, 2))
    quality[2, 1] = np.nan
    shapes = [(3, 4), (4, 2)]
    parts: list[list[Float]] = [
        [rng.standard_normal(shape) for shape in shapes],
        [rng.standard_normal((3, *shape)) for shape in shapes],
        [rng.standard_normal(shape[1]) for shape in shapes],
        [rng.standard_normal((3, shape[1])) for shape in shapes],
    ]

    def loss() -> float:
        shared, own, base, shift = parts
        layers = tuple((shared[i] * own[i], base[i] + shift[i]) for i in range(2))
        return cross_entropy(forward(x, cluster, layers), quality)[0]

    found = slopes(x, cluster, quality, *parts)
    items = [item for part in parts for item in part]
    assert len(found) == len(items)
    for slope, item in zip(found, items, strict=True):
        expected = np.zeros_like(item)
        for at in np.ndindex(item.shape):
            kept = item[at]
            sides = []
            for step in (1e-6, -1e-6):
                item[at] = kept + step
                sides.append(loss())
            item[at] = kept
            expected[at] = (sides[0] - sides[1]) / 2e-6
        assert slope == pytest.approx(expected, abs=1e-7)


def test_centres_find_hidden_distributions_of_unequal_weight() -> None:
    """Without a label, and for samples never seen."""
    table, _ = _table(900, 1)
    fitted = _fit(QUICK, table)
    new, kind = _table(500, 2)
    assert _agree(fitted.cluster(new.inputs), kind) > 0.9
    assert fitted.centres == pytest.approx(normal(fitted.centres))


def test_clusters_tell_more_than_one_network() -> None:
    """Where the hidden distributions have opposite weights."""
    table, _ = _table(1500, 1)
    new, _ = _table(800, 2)
    many, one = _fit(QUICK, table), _fit(replace(QUICK, clusters=1), table)

    def right(fitted: FittedAdaptDhm) -> float:
        choice = fitted.predict(new.inputs)[0].argmax(axis=1)
        return float(new.quality[np.arange(new.n), choice].mean())

    assert right(many) > right(one)
    assert right(many) > 0.75


def test_a_cluster_does_not_hang_on_the_batch() -> None:
    """One sample alone goes where it goes among many, and is told the same."""
    table, _ = _table(300, 1)
    fitted = _fit(QUICK, table)
    x = np.asarray(table.inputs)
    whole, alone = fitted.cluster(x), [int(fitted.cluster(x[i : i + 1])[0]) for i in range(40)]
    assert whole[:40].tolist() == alone
    assert fitted.predict(x[:1])[0] == pytest.approx(fitted.predict(x)[0][:1])


def test_all_clusters_start_as_one_network() -> None:
    """With no step to speak of, the cluster of a prompt changes nothing."""
    table, _ = _table(100, 1)
    fitted = _fit(replace(QUICK, epochs=1, rate=1e-9), table)
    for weight, shift in fitted.layers:
        assert weight[0] == pytest.approx(weight[1], abs=1e-7)
        assert shift[0] == pytest.approx(shift[2], abs=1e-7)
    mean = table.quality.mean(axis=0)
    assert fitted.predict(table.inputs)[0].mean(axis=0) == pytest.approx(mean, abs=0.1)


def test_a_centre_without_samples_starts_again_far_from_all() -> None:
    """At the sample that is least like any centre."""
    centres = normal(np.array([[1.0, 0.0], [1.0, 0.0]]))
    v = normal(np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.2]]))
    _revive(centres, v, np.array([3.0, 0.0]))
    assert centres[1] == pytest.approx(v[2])
    assert nearest(v, centres).tolist() == [0, 0, 1]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize(("n", "clusters"), [(1, 3), (2, 5), (5, 1), (60, 4)])
def test_few_rows_many_clusters_and_equal_rows_are_fitted(
    n: int, clusters: int, reduce: str
) -> None:
    """A batch of one, more clusters than rows, zero vectors: finite figures, no warning."""
    table = Outcomes(
        inputs=np.vstack((np.zeros((1, 4)), np.ones((n, 4))))[:n],
        names=("a", "b"),
        quality=np.tile([1.0, 0.0], (n, 1)),
        cost=np.ones((n, 2)),
    )
    fitted = _fit(replace(QUICK, clusters=clusters, reduce=reduce, batch=7, epochs=3), table)
    quality, _ = fitted.predict(np.vstack((np.zeros((1, 4)), np.eye(4))))
    assert np.isfinite(quality).all()
    assert len(fitted.centres) == min(n, clusters)


def test_the_hidden_distribution_is_no_feature() -> None:
    """Labels of the rows change nothing."""
    table, kind = _table(200, 1)
    labelled = replace(table, group=tuple(str(k) for k in kind))
    one, two = _fit(QUICK, table), _fit(QUICK, labelled)
    assert (one.predict(table.inputs)[0] == two.predict(table.inputs)[0]).all()


def test_it_is_saved(tmp_path: Path) -> None:
    """From a file it says the same to the bit."""
    table, _ = _table(120, 1)
    fitted = _fit(QUICK, table)
    store.save(tmp_path / "r.turnout", fitted, table.pool())
    loaded: Any = store.load(tmp_path / "r.turnout").router
    assert (loaded.predict(table.inputs)[0] == fitted.predict(table.inputs)[0]).all()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"clusters": 0}, "clusters"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": 8}, "hidden"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"beta": 1.0}, "beta"),
        ({"rounds": 0}, "rounds"),
        ({"temperature": 0.0}, "temperature"),
        ({"reduce": "max"}, "reduce"),
        ({"starts": 0}, "starts"),
        ({"rate": 0.0}, "rate"),
        ({"d": 0}, "adapt_dhm.d"),
        ({"encoder": "bert"}, "encoder"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str) -> None:
    """When the recipe is made, by name."""
    with pytest.raises(InputError, match=field):
        AdaptDhm(**values)

"""Pools of destinations, played on a table and routed within."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from turnout.core import Budget, InputError, Outcomes, Pool
from turnout.parts import store
from turnout.parts.learners.plain import Plain
from turnout.parts.pools import (
    KeptPools,
    PricedPool,
    Routed,
    Sets,
    best_curves,
    keep_pools,
    prices_of,
    told,
)
from turnout.parts.tradeoffs import Rewards
from turnout.testing import planted

NAMES = ("a", "b", "c")
RNG = np.random.default_rng


def _routed() -> Routed:
    return Routed(
        told_quality=np.array([[0.9, 0.2, 0.8], [0.1, 0.9, 0.8], [0.6, 0.5, 0.9], [0.3, 0.4, 0.5]]),
        told_cost=np.tile([1.0, 2.0, 4.0], (4, 1)),
        quality=np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]),
        cost=np.tile([1.0, 2.0, 4.0], (4, 1)),
        latency=np.tile([0.1, 0.2, 0.3], (4, 1)),
    )


@dataclass(frozen=True)
class Told:
    """Predicts the same of every input."""

    names: tuple[str, ...] = NAMES

    def predict(self, inputs):
        n = len(inputs)
        return np.tile([0.5, 0.6, 0.9], (n, 1)), np.tile([1.0, 2.0, 4.0], (n, 1))


def _kept(*chosen: PricedPool, upkeep: float = 0.0) -> KeptPools:
    return keep_pools(NAMES, Told(), _routed(), chosen, upkeep=upkeep)


def _to(router: KeptPools, pool: Pool, budget: Budget) -> set[str]:
    routed = router.route(["x", "y"], pool, budget=budget, rng=RNG(0))
    return {pool.names[int(j)] for j in routed.index[:, 0]}


def test_a_pool_by_hand() -> None:
    """At any price a, b, a, b are chosen; at 0.2 the last stays with a, and is right to."""
    table = _routed()
    assert table.play(PricedPool((0, 1), 0.0)) == (0.5, 1.5, pytest.approx(0.15))
    assert table.play(PricedPool((0, 1), 0.2)) == (0.75, 1.25, pytest.approx(0.125))
    assert table.play(PricedPool((2,), 0.0)) == (0.75, 4.0, pytest.approx(0.3))


def test_an_area_by_hand() -> None:
    """From (1, 0.5) to (1.25, 0.75), then flat to 4; without the cheapest it begins at 2."""
    assert _routed().area((0, 1)) == pytest.approx((0.25 * 0.625 + 2.75 * 0.75) / 3)
    assert _routed().area((1,)) == pytest.approx(2 * 0.5 / 3)


def test_rewards_of_a_pool_by_hand() -> None:
    """Half way from the worst single to the oracle, 1.25 of 4 spent, both destinations kept."""
    sets = Sets(NAMES, np.array([0.0, 0.2]), most=2)
    rewards = Rewards(sets, _routed(), ("quality", "cost", "size"))
    found = rewards(np.array([[0, 1, 4], [0, 3, -1]]))
    assert found[0] == pytest.approx([0.5, 1 - 1.25 / 4, 0.0])
    assert found[1] == pytest.approx([0.0, 0.75, 1.0])


def test_every_set_has_one_word() -> None:
    """The words listed are those the grammar allows, and no two say the same."""
    sets = Sets(("p", "q", "r", "s"), np.array([0.0, 1.0]), most=3)
    words = list(sets.words())
    assert len({sets.read(word) for word in words}) == len(words) == sets.count() == 14 * 2
    free = sets.allowed(np.array(words))
    walks = {()}
    for step in range(sets.length):
        grown = set()
        for walk in walks:
            if walk and (walk[-1] == -1 or sets.terminal[walk[-1]]):
                grown.add((*walk, -1))
                continue
            tokens = np.array([[*walk, *[-1] * (sets.length - step)]])
            letters = np.flatnonzero(sets.allowed(tokens)[0, step]).tolist()
            grown |= {(*walk, letter) for letter in letters}
        walks = grown
    assert walks == set(words)
    for row, word in enumerate(words):
        assert all(free[row, at, letter] for at, letter in enumerate(word) if letter >= 0)


def test_a_pool_is_built_by_rising_names() -> None:
    """Whatever the order of the columns, one word says the same destinations by name."""
    for names in (("a", "b", "c"), ("c", "a", "b")):
        pool = Sets(names, np.zeros(1), most=2).read((0, 2, 3))
        assert {names[j] for j in pool.columns} == {"a", "c"}


def test_prices_part_the_decisions() -> None:
    """0 and the middle of 0.8, 0.1, 0.1 and 0.05, where choices change; 0 alone where none do."""
    table = _routed()
    found = prices_of(table, 2)
    assert found.tolist() == pytest.approx([0.0, 0.1])
    flat = replace(table, told_cost=np.zeros((4, 3)))
    assert prices_of(flat, 3).tolist() == [0.0]


def test_what_a_pool_earns_has_not_seen_its_row() -> None:
    """On outcomes dealt to other prompts no pool earns more than the best single one, by much.

    The best answer of the pool for each prompt, an oracle, would.
    """
    table = planted.shuffled(planted.hard(400, RNG(0)).outcomes, RNG(1))
    routed = told(Plain(), table, folds=4, rng=RNG(0))
    best = float(table.mean_quality().max())
    sets = Sets(table.names, np.zeros(1), most=4)
    earned = max(routed.play(sets.read(word))[0] for word in sets.words())
    assert earned < best + 0.04 < float(table.quality.max(axis=1).mean())


def test_the_cheapest_first_then_the_area_less_the_upkeep() -> None:
    """Pools with the cheapest lead; a second that adds less than its upkeep is left out."""
    one, two, dear = PricedPool((0,), 0.0), PricedPool((0, 1), 0.0), PricedPool((1, 2), 0.0)
    gain = _routed().area((0, 1)) - _routed().area((0,))
    assert gain > 0.2
    assert _kept(dear, one, two, upkeep=gain - 1e-6).kept == ("a", "b")
    assert _kept(dear, one, two, upkeep=gain + 1e-6).kept == ("a",)
    assert _kept(dear).kept == ("b", "c")


def test_the_best_curve_of_each_number() -> None:
    """Of the pairs with the cheapest a and c; all three are no better, and those without a none."""
    table = _routed()
    assert table.area((0, 2)) > table.area((0, 1)) > table.area((0,)) == 0.5
    assert table.area((0, 1, 2)) <= table.area((0, 2))
    sets = Sets(NAMES, np.zeros(1), most=3)
    found = best_curves(table, [sets.read(word).columns for word in sets.words()])
    assert found == [PricedPool((0,), 0.0), PricedPool((0, 2), 0.0)]
    assert best_curves(table, [(1,), (1, 2)]) == []


def test_kept_pools_in_words() -> None:
    """Names, size, price, figures: the smaller first, then the cheaper."""
    router = _kept(PricedPool((0, 1), 0.2), PricedPool((0, 1), 0.0), PricedPool((2,), 0.0))
    listed = router.pools()
    assert [(pool.names, pool.size, pool.price) for pool in listed] == [
        (("c",), 1, 0.0),
        (("a", "b"), 2, 0.2),
        (("a", "b"), 2, 0.0),
    ]
    assert (listed[1].quality, listed[1].cost) == (0.75, 1.25)
    assert listed[1].area == listed[2].area == _routed().area((0, 1))
    assert sorted(router.curve().cost.tolist()) == [1.25, 1.5, 4.0]


def test_a_price_stays_within_the_first_pool() -> None:
    """C is predicted best and never chosen; at a high price the cheapest is."""
    router = _kept(PricedPool((0, 1), 0.0), PricedPool((2,), 0.0))
    pool = Pool(names=NAMES)
    assert _to(router, pool, Budget()) == {"b"}
    assert _to(router, pool, Budget(price=1e6)) == {"a"}
    assert _to(router, pool.select(["c", "b", "a"]), Budget()) == {"b"}


def test_a_target_takes_the_pool_that_fits_it() -> None:
    """Within 4 the best by the table is c; a floor only c is predicted to reach takes c."""
    router = _kept(PricedPool((0, 1), 0.0), PricedPool((2,), 0.0))
    pool = Pool(names=NAMES)
    assert _to(router, pool, Budget(mean_cost=4.0)) == {"c"}
    assert _to(router, pool, Budget(mean_cost=1.0)) == {"a"}
    assert _to(router, pool, Budget(mean_quality=0.85)) == {"c"}
    with pytest.raises(InputError, match=r"budget.mean_cost must be at least 1"):
        _to(router, pool, Budget(mean_cost=0.5))
    with pytest.raises(InputError, match=r"budget.mean_quality must be at most"):
        _to(router, pool, Budget(mean_quality=0.95))


def test_what_is_down_is_passed_over() -> None:
    """Of the first pool what is up; else the next; else whatever is up."""
    router = _kept(PricedPool((0, 1), 0.0), PricedPool((1,), 0.0))
    pool = Pool(names=NAMES)
    assert _to(router, pool.with_down(["b"]), Budget()) == {"a"}
    assert _to(router, pool.with_down(["a"]), Budget(price=9.0)) == {"b"}
    assert _to(router, pool.with_down(["a", "b"]), Budget()) == {"c"}


def test_settling_for_one_pool() -> None:
    """`within` leaves one: by a budget, by a number, by both; what cannot be is refused by name."""
    router = _kept(PricedPool((0, 1), 0.2), PricedPool((2,), 0.0), PricedPool((0,), 0.0))
    assert router.kept == router.within().kept == ("a", "b")
    assert router.within(most=1).kept == ("a",)
    assert router.within(Budget(mean_cost=1.0)).kept == ("a",)
    alone = router.within(Budget(mean_quality=0.7), most=1)
    assert alone.kept == ("c",)
    assert len(alone.pools()) == 1
    assert _to(alone, Pool(names=NAMES), Budget(price=1e6)) == {"c"}
    with pytest.raises(InputError, match=r"most must be .* >= 1"):
        router.within(most=0)
    with pytest.raises(InputError, match=r"most must be at least 2"):
        _kept(PricedPool((0, 1), 0.0)).within(most=1)
    with pytest.raises(InputError, match=r"budget.mean_quality must be at most 0.75"):
        router.within(Budget(mean_quality=0.8), most=1)


def test_the_pool_kept_is_served_by_its_predictor(tmp_path) -> None:
    """Saved with the pool of what is kept, the predictor alone routes as within that pool."""
    table = planted.hard(60, RNG(0)).outcomes
    routed = told(Plain(), table, folds=2, rng=RNG(0))
    plain = Plain().fit(table, table.pool(), rng=RNG(0))
    router = keep_pools(table.names, plain, routed, [PricedPool((0, 1, 2), 0.0)])
    store.save(tmp_path / "kept.turnout", router.predictor, table.pool().select(router.kept))
    saved = store.load(tmp_path / "kept.turnout")
    for budget in (Budget(), Budget(price=40.0)):
        alone = saved.router.route(table.inputs, saved.pool, budget=budget, rng=RNG(0))
        within = router.route(table.inputs, table.pool(), budget=budget, rng=RNG(0))
        one = [saved.pool.names[j] for j in alone.index[:, 0]]
        assert one == [table.names[j] for j in within.index[:, 0]]


def test_wrong_pools_are_refused() -> None:
    """An empty one, one out of order, a size above m, no price: each by name."""
    with pytest.raises(InputError, match=r"pool.columns must hold one"):
        PricedPool((), 0.0)
    with pytest.raises(InputError, match=r"pool.columns must hold one"):
        PricedPool((1, 0), 0.0)
    with pytest.raises(InputError, match=r"sets.most .* \[1, 3\]"):
        Sets(NAMES, np.zeros(1), most=4)
    with pytest.raises(InputError, match=r"sets.prices must hold one"):
        Sets(NAMES, np.zeros(0), most=1)


def test_rows_that_are_all_the_same_cannot_be_held_out() -> None:
    """One prompt asked twice says nothing of others, and is refused."""
    table = Outcomes(inputs=["x", "x"], names=("a",), quality=np.ones((2, 1)), cost=np.ones((2, 1)))
    with pytest.raises(InputError, match=r"outcomes.inputs must hold two different"):
        told(Plain(), table, folds=4, rng=RNG(0))

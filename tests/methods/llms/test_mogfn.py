"""Pareto cascades drawn by a generative flow network."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from turnout.core import Budget, InputError, Outcomes, Pool

torch = pytest.importorskip("torch")

from turnout.llms.mogfn import CARD, Mogfn, MogfnPools  # noqa: E402
from turnout.nn.gflownet import GFlowNet, Training, Words, balance, thermometer  # noqa: E402
from turnout.parts.chains import Alphabet  # noqa: E402
from turnout.parts.pools import Sets  # noqa: E402
from turnout.testing import Case, check, planted  # noqa: E402

CASE = Case(Mogfn(steps=15, batch=16, width=8, samples=24, bins=4, levels=2))
#: Pools are found by a recipe of their own, which is held to the contract here.
POOLS = MogfnPools(steps=5, batch=8, width=8, samples=24, bins=3, levels=2, folds=2)


def _network(letters: int, length: int, d: int = 2, width: int = 16) -> GFlowNet:
    return GFlowNet(letters, length, d, width=width, generator=torch.Generator().manual_seed(0))


def _table() -> Outcomes:
    """A small model that is unsure where it is wrong, and a large one."""
    return Outcomes(
        inputs=["2 + 2", "3 + 5", "7 * 8", "9 * 6"] * 5,
        names=("small", "large"),
        quality=np.array([[1, 1], [1, 1], [0, 1], [0, 1]] * 5),
        cost=np.array([[1.0, 10.0]] * 20),
        answers=np.array([["4", "4"], ["8", "8"], ["perhaps", "56"], ["perhaps", "54"]] * 5),
    )


@pytest.fixture(scope="module")
def fitted():
    """Fitted on twenty sums."""
    recipe = Mogfn(steps=60, batch=16, width=16)
    return recipe.fit(_table(), _table().pool(), rng=np.random.default_rng(0))


def test_an_untrained_network_is_even() -> None:
    """Every word is as likely: 3 letters, 2 places, 1 / 9 each."""
    words = np.array(list(itertools.product(range(3), repeat=2)))
    w = torch.tensor([0.5, 0.5])
    with torch.no_grad():
        found = _network(3, 2).log_probability(words, w, Words(3, 2))
    assert found.exp().numpy() == pytest.approx(np.full(9, 1 / 9))


def test_probabilities_of_all_chains_sum_to_one() -> None:
    """After some training too: what stands after an end is no part of the product."""
    alphabet = Alphabet(np.zeros((3, 2)), length=3)
    network = _network(alphabet.letters, 3)
    rng = np.random.default_rng(0)
    balance(network, alphabet, lambda t: rng.random((len(t), 2)), Training(steps=20), rng=rng)
    words = np.array(list(alphabet.words()))
    for preference in ([0.5, 0.5], [1.0, 0.0]):
        with torch.no_grad():
            logs = network.log_probability(words, torch.tensor(preference), alphabet)
        assert float(logs.exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_it_learns_the_law_it_is_given() -> None:
    """Words of two letters: sampled in proportion to reward ** beta, and Z is their sum."""
    words = np.array(list(itertools.product(range(3), repeat=2)))
    table = np.random.default_rng(5).uniform(0.2, 1.0, (3, 3, 2))

    def rewards(tokens):
        return table[tokens[:, 0], tokens[:, 1]]

    network = _network(3, 2, width=32)
    training = Training(steps=500, batch=32, beta=4.0, rate=5e-3, rate_z=2e-2)
    balance(network, Words(3, 2), rewards, training, rng=np.random.default_rng(0))
    for preference in ([0.5, 0.5], [0.9, 0.1]):
        law = (rewards(words) @ np.array(preference)) ** 4
        w = torch.tensor(preference)
        with torch.no_grad():
            found = network.log_probability(words, w, Words(3, 2)).exp().numpy()
            z = float(network.log_z(w))
        assert 0.5 * np.abs(found - law / law.sum()).sum() < 0.1
        assert z == pytest.approx(np.log(law.sum()), abs=0.2)


def test_samples_follow_the_policy() -> None:
    """Drawn often, words come as often as their probability says."""
    network, grammar, w = _network(2, 2), Words(2, 2), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        network.policy[-1].bias.copy_(torch.tensor([0.0, 1.0]))
    drawn = network.sample(4000, w, grammar, generator=torch.Generator().manual_seed(1))
    words = np.array(list(itertools.product(range(2), repeat=2)))
    share = [(drawn == word).all(axis=1).mean() for word in words]
    with torch.no_grad():
        expected = network.log_probability(words, w, grammar).exp().numpy()
    assert share == pytest.approx(expected, abs=0.03)


def test_a_thermometer_by_hand() -> None:
    """0.6 of four bins: two full, the third to 0.4, the last empty."""
    code = thermometer(torch.tensor([0.6, 1.0]), 4)
    assert code.tolist() == pytest.approx([1, 1, 0.4, 0, 1, 1, 1, 1], abs=1e-6)


def test_the_cascade_of_sums_by_hand(fitted) -> None:
    """Ask the small one, keep it unless it doubts: all right for 1 + 10 / 2."""
    best = fitted.cascades()[-1]
    assert (best.names, best.quality, best.cost) == (("small", "large"), 1.0, 6.0)
    assert [c.cost for c in fitted.cascades()] == [1.0, 6.0]


def test_budgets_pick_cascades(fitted) -> None:
    """What each budget takes, and what cannot be met is refused by name."""
    pool, rng = _table().pool(), np.random.default_rng(0)

    def first(budget: Budget) -> list[int]:
        return fitted.route(["1 + 1"], pool, budget=budget, rng=rng).index[0].tolist()

    assert first(Budget()) == [0, 1]
    assert first(Budget(mean_cost=5.9)) == [0]
    assert first(Budget(mean_quality=0.4)) == [0]
    assert first(Budget(price=1.0)) == [0]
    with pytest.raises(InputError, match=r"budget.mean_cost must be at least 1"):
        first(Budget(mean_cost=0.5))
    short = pool.with_down(["large"])
    with pytest.raises(InputError, match=r"budget.mean_quality must be at most 0.5"):
        fitted.route(["1"], short, budget=Budget(mean_quality=0.9), rng=rng)


def test_it_goes_on_where_the_answer_doubts(fitted) -> None:
    """A doubtful answer is followed by the next model, a plain one is kept."""
    found = fitted.proceed(
        ["7 * 8", "2 + 2"],
        np.array([[0], [0]]),
        [["perhaps"], ["4"]],
        _table().pool(),
        budget=Budget(),
        rng=np.random.default_rng(0),
    )
    assert found.tolist() == [1, -1]


def test_what_left_the_cascade_keeps_its_answer(fitted) -> None:
    """A row that began elsewhere, or a cascade that is at its end, asks nobody."""
    args = {"budget": Budget(), "rng": np.random.default_rng(0)}
    pool = _table().pool()
    assert fitted.proceed(["7 * 8"], np.array([[1]]), [["x"]], pool, **args).tolist() == [-1]
    done = fitted.proceed(["7 * 8"], np.array([[0, 1]]), [["perhaps", "56"]], pool, **args)
    assert done.tolist() == [-1]
    with pytest.raises(InputError, match="asked and answers"):
        fitted.proceed(["7 * 8"], np.array([[0], [0]]), [["x"]], pool, **args)


def test_a_model_that_is_down_ends_its_cascades(fitted) -> None:
    """Only cascades whose models are all there are taken; a single one always is."""
    for pool in (_table().pool().with_down(["small"]), Pool(names=("large",))):
        plan = fitted.route(["1"], pool, budget=Budget(), rng=np.random.default_rng(0))
        assert plan.index.tolist() == [[pool.names.index("large")]]


def test_three_objectives_where_there_is_latency() -> None:
    """A slow cascade that is best in quality and cost does not beat a quick one."""
    table = replace(_table(), latency=np.array([[9.0, 1.0]] * 20))
    recipe = Mogfn(objectives=3, steps=60, batch=16, width=16, bins=4)
    found = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert ("large",) in {c.names for c in found.cascades()}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objectives": 1}, "mogfn.objectives"),
        ({"length": 0}, "mogfn.length"),
        ({"levels": -1}, "mogfn.levels"),
        ({"beta": 0.0}, "mogfn.beta"),
        ({"steps": 0}, "mogfn.steps"),
        ({"samples": 0}, "mogfn.samples"),
        ({"bins": 0}, "mogfn.bins"),
        ({"penalty": 0.0}, "mogfn.penalty"),
        ({"scalar": "mean"}, "mogfn.scalar must be one of sum, log, tchebycheff"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Mogfn(**fields)


def test_probabilities_of_all_pools_sum_to_one() -> None:
    """Sets are built by rising names: after some training too nothing is lost or counted twice."""
    sets = Sets(("a", "b", "c", "d"), np.array([0.0, 1.0]), most=3)
    network = _network(sets.letters, sets.length)
    rng = np.random.default_rng(0)
    balance(network, sets, lambda t: rng.random((len(t), 2)), Training(steps=20), rng=rng)
    with torch.no_grad():
        logs = network.log_probability(np.array(list(sets.words())), torch.ones(2) / 2, sets)
    assert float(logs.exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_pools_keep_the_contract() -> None:
    """A router of one pool: it learns, follows prices, reads its inputs, item by item."""
    claims = ("learns", "price_monotone", "per_item", "reads_inputs")
    report = check(Case(POOLS), card=replace(CARD, properties=claims))
    assert len(report.results) > 20


@pytest.fixture(scope="module")
def pools():
    """Fitted on a table where two specialists know everything and a cheap one half."""
    table = planted.easy(160, np.random.default_rng(3)).outcomes
    recipe = replace(POOLS, steps=20)
    return table, recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def test_the_pool_of_two_specialists_is_found(pools) -> None:
    """Nearly all right with two models, and the cheapest pool is the cheap model alone."""
    _, fitted = pools
    found = {pool.names: pool for pool in fitted.pools()}
    both = found["engineer", "scholar"]
    assert both.size == 2
    assert both.quality > 0.95
    assert 0.003 < both.cost < 0.0032
    assert found["cheap",].cost == min(pool.cost for pool in fitted.pools())
    assert fitted.within(Budget(mean_quality=0.9)).kept == ("engineer", "scholar")
    assert fitted.within(most=1).kept == ("cheap",)


def test_kept_pools_are_no_better_than_they_are(pools) -> None:
    """What a pool is said to earn and cost is what routing fresh rows within it earns and costs."""
    table, fitted = pools
    fresh = planted.easy(300, np.random.default_rng(9)).outcomes
    settled = fitted.within(Budget(mean_quality=0.9))
    routed = settled.route(
        fresh.inputs, fresh.pool(), budget=Budget(), rng=np.random.default_rng(0)
    )
    chosen = routed.index[:, 0]
    said = settled.pools()[-1]
    rows = np.arange(fresh.n)
    assert fresh.quality[rows, chosen].mean() == pytest.approx(said.quality, abs=0.04)
    assert fresh.cost[rows, chosen].mean() == pytest.approx(said.cost, rel=0.02)
    assert {table.names[j] for j in chosen} == {"engineer", "scholar"}


@pytest.mark.parametrize("scalar", ["log", "tchebycheff"])
def test_other_scalars_find_the_specialists_too(scalar: str) -> None:
    """The choice of how rewards become one changes what is drawn, not what is worth keeping."""
    table = planted.easy(100, np.random.default_rng(3)).outcomes
    recipe = replace(POOLS, scalar=scalar)
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert ("engineer", "scholar") in {pool.names for pool in fitted.pools()}


def test_one_model_is_a_pool() -> None:
    """There is one pool to keep, at a price of nothing."""
    table = planted.easy(40, np.random.default_rng(3)).outcomes.select(["cheap"])
    fitted = POOLS.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert [(pool.names, pool.price) for pool in fitted.pools()] == [(("cheap",), 0.0)]


def test_tables_that_pools_cannot_be_found_on() -> None:
    """More models than there are, a latency nobody recorded, a model seen in one fold alone."""
    table = planted.easy(40, np.random.default_rng(3)).outcomes
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"mogfn_pools.size .* \[1, 3\]; got 4"):
        replace(POOLS, size=4).fit(table, table.pool(), rng=rng)
    slow = replace(POOLS, objectives=("quality", "latency"))
    with pytest.raises(InputError, match=r"outcomes.latency must be there"):
        slow.fit(replace(table, latency=None), table.pool(), rng=rng)
    quality = np.array(table.quality)
    quality[1:, 0] = np.nan
    with pytest.raises(InputError, match=r"'cheap' must be seen in rows of two folds"):
        POOLS.fit(replace(table, quality=quality), table.pool(), rng=rng)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "mogfn_pools.size"),
        ({"upkeep": 1.5}, "mogfn_pools.upkeep"),
        ({"objectives": ("quality",)}, "be 'quality' and one or more others"),
        ({"objectives": ("cost", "quality")}, "be 'quality' and one or more others"),
        ({"objectives": ("quality", "cost", "cost")}, "be 'quality' and one or more others"),
        ({"objectives": ("quality", "speed")}, "be among quality, cost, latency, size"),
        ({"inside": "knn"}, "mogfn_pools.inside must have a method fit"),
        ({"levels": 0}, "mogfn_pools.levels"),
        ({"folds": 1}, "mogfn_pools.folds"),
        ({"beta": 0.0}, "mogfn_pools.beta"),
        ({"samples": 0}, "mogfn_pools.samples"),
        ({"scalar": "mean"}, "mogfn_pools.scalar"),
    ],
)
def test_wrong_recipes_of_pools_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        MogfnPools(**fields)

"""A predictor made a router, for batches and one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnout
from turnout.core import Budget, InputError, Inputs, Outcomes, Pool, Router
from turnout.llms.linear import Linear
from turnout.llms.random import Random
from turnout.parts import prices
from turnout.parts.decide import compile_decider
from turnout.parts.priced import Priced, as_router, columns

NAMES = ("small", "middle", "large")


@dataclass(frozen=True, eq=False)
class Stated:
    """A predictor that says what it is told, whatever is asked."""

    quality: np.ndarray
    cost: np.ndarray
    names: tuple[str, ...] = NAMES

    def predict(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        return self.quality[: len(inputs)], self.cost[: len(inputs)]


def _pool(*names: str) -> Pool:
    return Pool(names=names or NAMES)


def _route(router: Router, pool: Pool, budget: Budget, n: int = 1) -> list[int]:
    routed = router.route(["x"] * n, pool, budget=budget, rng=np.random.default_rng(0))
    return routed.index[:, 0].tolist()


ONE = Stated(np.array([[0.5, 0.7, 0.8]]), np.array([[1.0, 2.0, 6.0]]))


def test_choices_by_hand() -> None:
    """Middle gains 0.2 for 1, large 0.1 for 4 more: they are worth it below 0.2 and 0.025."""
    for price, choice in ((0.3, 0), (0.1, 1), (0.02, 2), (1e9, 0)):
        assert _route(Priced(ONE), _pool(), Budget(price=price)) == [choice]
        assert compile_decider(Priced(ONE), _pool()).decide("x", price)[0] == choice


def test_the_pool_may_be_part_of_what_is_known_in_any_order() -> None:
    """Positions count in the pool; an unknown destination is refused by name."""
    pool = _pool("large", "small")
    assert _route(Priced(ONE), pool, Budget()) == [0]
    choice, quality, cost = compile_decider(Priced(ONE), pool).decide("x", 0.2)
    assert (choice, quality, cost) == (1, [0.8, 0.5], [6.0, 1.0])
    assert columns(NAMES, pool).tolist() == [2, 0]
    with pytest.raises(InputError, match="stranger"):
        compile_decider(Priced(ONE), _pool("small", "stranger"))
    with pytest.raises(InputError, match="stranger"):
        _route(Priced(ONE), _pool("small", "stranger"), Budget())


def test_what_is_down_is_not_chosen() -> None:
    """Down in the pool, or said to be down at the call."""
    decider = compile_decider(Priced(ONE), _pool().with_down(["large"]))
    assert decider.decide("x", 0.0)[0] == 1
    assert decider.decide("x", 0.0, [True, False, True])[0] == 2
    with pytest.raises(InputError, match="at least one"):
        decider.decide("x", 0.0, [False, False, False])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.3, 2.0, np.inf]))
def test_one_at_a_time_is_as_in_a_batch(seed: int, price: float) -> None:
    """The decider and the batch agree, ties included."""
    rng = np.random.default_rng(seed)
    said = Stated(rng.integers(0, 4, (1, 3)) / 4, rng.integers(0, 3, (1, 3)) / 2)
    batch = prices.choose(said.quality, said.cost, price)
    assert compile_decider(said, _pool()).decide("x", price)[0] == batch[0]


def test_the_quick_path_of_the_default_router_is_its_own_prediction() -> None:
    """String to choice gives the batch's choice, quality and cost."""
    texts = [f"prompt {i} about {'poems' if i % 3 else 'sums'}" for i in range(60)]
    rng = np.random.default_rng(0)
    table = Outcomes(
        inputs=texts,
        names=NAMES,
        quality=(rng.random((60, 3)) < [0.4, 0.6, 0.8]).astype(float),
        cost=np.outer([len(text) for text in texts], [1.0, 2.0, 5.0]),
    )
    router = turnout.fit(Linear(l2=(1.0,)), table)
    decider = compile_decider(router, table.pool())
    quality, cost = router.predict(texts)
    routed = _route_texts(router, texts, table.pool(), 0.002)
    for row, text in enumerate(texts):
        choice, one_quality, one_cost = decider.decide(text, 0.002)
        assert one_quality == quality[row].tolist()
        assert one_cost == cost[row].tolist()
        assert choice == routed[row]


def _route_texts(router: Router, texts: list[str], pool: Pool, price: float) -> list[int]:
    budget = Budget(price=price)
    routed = router.route(texts, pool, budget=budget, rng=np.random.default_rng(0))
    return routed.index[:, 0].tolist()


def test_a_router_of_its_own_mind_is_left_as_it_is() -> None:
    """`as_router` wraps predictors only, and only predictors have a decider."""
    table = Outcomes(inputs=["a"], names=NAMES, quality=np.full((1, 3), 0.5), cost=np.ones((1, 3)))
    mixture = Random().fit(table, table.pool(), rng=np.random.default_rng(0))
    assert as_router(mixture) is mixture
    assert isinstance(as_router(ONE), Priced)
    with pytest.raises(InputError, match="predictor under a price"):
        compile_decider(mixture, table.pool())


def test_empty_batch() -> None:
    """No input, no route."""
    assert _route(Priced(ONE), _pool(), Budget(mean_cost=0.0), n=0) == []


def test_fit_selects_the_pool_and_refuses_strangers() -> None:
    """A pool of some destinations is fitted on those columns, in its order."""
    table = Outcomes(
        inputs=["a", "b"],
        names=NAMES,
        quality=np.array([[0.0, 0.5, 1.0]] * 2),
        cost=np.array([[1.0, 2.0, 3.0]] * 2),
    )
    router = turnout.fit(Random(), table, _pool("large", "small"))
    assert router.names == ("large", "small")
    with pytest.raises(InputError, match="stranger"):
        turnout.fit(Random(), table, _pool("stranger"))

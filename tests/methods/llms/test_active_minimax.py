"""Buying labels by a policy trained by a minimax game."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.active_minimax import ActiveMinimax, Buyer, buy
from turnout.llms.linear import Linear
from turnout.parts.feedback.buying import plan
from turnout.parts.feedback.minimax import Uniform
from turnout.testing import Case

CASE = Case(ActiveMinimax(labels=200, packets=10, steps=3, particles=4, rollouts=4, width=8))


class _First:
    """Always the same model; a fake rule."""

    def __init__(self, j: int) -> None:
        self.j = j

    def choose(self, counts, sums, t, rng):
        return np.full(len(counts), self.j)


def _table(n: int = 100) -> Outcomes:
    rng = np.random.default_rng(0)
    return Outcomes(
        inputs=[f"prompt {i}" for i in range(n)],
        names=("small", "large", "odd"),
        quality=(rng.random((n, 3)) < [0.3, 0.9, 0.5]).astype(float),
        cost=np.tile([1.0, 9.0, 5.0], (n, 1)),
    )


@pytest.fixture(scope="module")
def fitted():
    """Fitted with little training."""
    recipe = ActiveMinimax(labels=60, packets=12, steps=20, particles=6, rollouts=4, width=8)
    return recipe.fit(_table(), _table().pool(), rng=np.random.default_rng(0))


def test_a_packet_by_hand() -> None:
    """Four labels of one column in two packets: means are of what was bought, the rest the mean."""
    quality = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = buy(_First(0), quality, 4, 2, rng=np.random.default_rng(0))
    assert sorted(found.cells[:, 0].tolist()) == [0, 1, 2, 3]
    assert found.quality.tolist() == [0.75, 0.75]
    assert found.best == 0


def test_the_rule_is_told_sums_of_unit_noise() -> None:
    """A packet of four right answers sums to sqrt(4) * 1, of four wrong ones to its negative."""
    seen = []

    class Watch(_First):
        def choose(self, counts, sums, t, rng):
            seen.append((counts[0].tolist(), sums[0].tolist()))
            return np.array([t % 2])

    quality = np.column_stack([np.ones(8), np.zeros(8)])
    buy(Watch(0), quality, 12, 3, rng=np.random.default_rng(0))
    assert seen == [
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 0.0], [2.0, 0.0]),
        ([1.0, 1.0], [2.0, -2.0]),
    ]


def test_no_cell_is_bought_twice_nor_a_blank_one() -> None:
    """A model that is sold out is passed over, and buying ends where all are."""
    quality = np.array([[1.0, np.nan], [0.0, 0.5], [1.0, np.nan]])
    found = buy(_First(1), quality, 10, 10, rng=np.random.default_rng(0))
    cells = {tuple(cell) for cell in found.cells.tolist()}
    assert cells == {(0, 0), (1, 0), (2, 0), (1, 1)}
    assert len(found.cells) == 4


def test_only_bought_cells_are_looked_at() -> None:
    """Changing every other cell changes nothing of what is bought or said."""
    quality = _table().quality
    one = buy(Uniform(), quality, 30, 10, rng=np.random.default_rng(3))
    other = 1.0 - quality
    other[tuple(one.cells.T)] = quality[tuple(one.cells.T)]
    two = buy(Uniform(), other, 30, 10, rng=np.random.default_rng(3))
    assert one.cells.tolist() == two.cells.tolist()
    assert one.quality.tolist() == two.quality.tolist()


def test_it_names_the_best(fitted) -> None:
    """Sixty labels part 0.9 from 0.5 and 0.3, and no more than sixty were bought."""
    assert fitted.named == "large"
    assert len(fitted.bought) == 60
    assert len({tuple(cell) for cell in fitted.bought.tolist()}) == 60
    quality, cost = fitted.predict(["x", "y"])
    assert quality[0].tolist() == quality[1].tolist()
    assert cost[0].tolist() == [1.0, 9.0, 5.0]


def test_its_policy_buys_for_real(fitted) -> None:
    """As a strategy it orders whole columns; with nothing seen each model may be first."""
    buyer = fitted.buyer(60)
    prompts, cost = [f"new {i}" for i in range(4)], np.ones((4, 3))
    firsts = set()
    for seed in range(12):
        order = plan(
            prompts, cost, None, 4.0, Linear(), np.random.default_rng(seed), strategy=buyer
        )
        assert len(order) == 4
        firsts.add(int(order.cells[-1, 1]))
    assert firsts == {0, 1, 2}


def test_what_was_seen_counts_in_packets(fitted) -> None:
    """A model without any label is asked next, whatever is known of the others."""
    quality = np.column_stack([np.ones(8), np.zeros(8), np.full(8, np.nan)])
    quality[0, 2] = 1.0
    seen = Outcomes(
        inputs=[f"old {i}" for i in range(8)],
        names=("small", "large", "odd"),
        quality=quality,
        cost=np.where(np.isnan(quality), np.nan, 1.0),
    )

    class Watch:
        game = fitted.buyer(60).policy.game

        def chances(self, counts, sums):
            self.counts, self.sums = counts, sums
            return np.array([[0.0, 1.0, 0.0]])

    watch = Watch()
    buyer = Buyer(watch, 4)
    order = plan(
        [f"new {i}" for i in range(4)],
        np.ones((4, 3)),
        seen,
        4.0,
        Linear(),
        np.random.default_rng(0),
        strategy=buyer,
    )
    assert watch.counts.tolist() == [[2.0, 2.0, 0.25]]
    assert watch.sums.tolist() == [[4.0, -4.0, 0.5]]
    assert order.cells[:, 1].tolist() == [1] * 4


def test_one_model_is_named_without_a_game() -> None:
    """There is nothing to compare; its mean is that of the labels bought, and there is no buyer."""
    table = _table().select(("odd",))
    fitted = ActiveMinimax(labels=10).fit(table, table.pool(), rng=np.random.default_rng(0))
    assert len(fitted.bought) == 10
    assert fitted.quality[0] == table.quality[fitted.bought[:, 0], 0].mean()
    with pytest.raises(InputError, match="models must be two or more"):
        fitted.buyer(10)


def test_another_number_of_models_is_refused(fitted) -> None:
    """A policy of three arms orders no market of two."""
    with pytest.raises(InputError, match="market must have 3 destinations"):
        plan(
            ["a"],
            np.ones((1, 2)),
            None,
            1.0,
            Linear(),
            np.random.default_rng(0),
            strategy=fitted.buyer(60),
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": 0}, "active_minimax.labels"),
        ({"packets": 0}, "active_minimax.packets"),
        ({"levels": (0.0,)}, "levels"),
        ({"levels": (2.0, 1.0)}, "levels"),
        ({"steps": 0}, "learning.steps"),
        ({"particles": 1}, "learning.particles"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        ActiveMinimax(**fields)


def test_nothing_to_buy_is_refused() -> None:
    """A table of blanks has no label."""
    with pytest.raises(InputError, match="quality must hold a cell"):
        buy(Uniform(), np.full((2, 2), np.nan), 3, 1, rng=np.random.default_rng(0))

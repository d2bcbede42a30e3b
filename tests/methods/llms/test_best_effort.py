"""The load-aware policy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import turnout
from turnout.core import Budget, InputError, Outcomes
from turnout.llms.best_effort import BestEffort, Load
from turnout.parts.qlearning import DoubleQ, QNetwork, new_network
from turnout.parts.queue_learning import Play, at_rest, train
from turnout.parts.queues import Servers
from turnout.testing import Case

CASE = Case(BestEffort(requests=400, width=8))


def _table(latency: bool = True) -> Outcomes:
    """A light and a heavy destination; the heavy one is better at everything."""
    return Outcomes(
        inputs=["add two numbers", "write a poem", "add ten numbers", "recite a poem"] * 25,
        names=("small", "large"),
        quality=np.array([[0.6, 0.9]] * 100),
        cost=np.array([[1.0, 9.0]] * 100),
        latency=np.array([[0.1, 1.0]] * 100) if latency else None,
    )


@pytest.fixture(scope="module")
def fitted():
    """A policy of two destinations with a deadline of two answers of the heavy one."""
    recipe = BestEffort(deadline=2.0, slope=1.0, requests=6000, width=16)
    return recipe.fit(_table(), _table().pool(), rng=np.random.default_rng(0))


def test_the_target_by_hand() -> None:
    """The network chooses, its copy values: y = 1 + 0.5 * 3, though the copy's own best is 8."""
    network = new_network(1, 2, 1, rng=np.random.default_rng(0))
    learner = DoubleQ(network, gamma=0.5, rng=np.random.default_rng(0))
    network.weights[5][:] = (2.0, 1.0)  # the network prefers the first
    learner._target.weights[5][:] = (3.0, 8.0)
    assert learner.targets(np.array([1.0]), np.array([[0.0]])).tolist() == [2.5]


def test_the_gradient_is_the_gradient() -> None:
    """Slopes of the network agree with finite differences."""
    rng = np.random.default_rng(3)
    network = QNetwork(
        tuple(rng.standard_normal(s) for s in ((3, 4), (4,), (4, 4), (4,), (4, 2), (2,))), base=True
    )
    states, error = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    for array, slope in zip(network.weights, network.slopes(states, error), strict=True):
        spot = np.unravel_index(int(np.abs(slope).argmax()), array.shape)
        array[spot] += 1e-6
        above = float((error * network.values(states)).sum())
        array[spot] -= 2e-6
        below = float((error * network.values(states)).sum())
        array[spot] += 1e-6
        assert (above - below) / 2e-6 == pytest.approx(slope[spot], rel=1e-4)


def test_it_gives_way_under_load(fitted) -> None:
    """At rest the better destination; when that is full, the one that answers in time."""
    at_rest = fitted.predict(["add numbers"])[0]
    full = fitted.under(Load(np.array([0.0, 8.0]), rate=4.0)).predict(["add numbers"])[0]
    assert at_rest.argmax() == 1
    assert full.argmax() == 0


def test_each_load_has_a_curve(fitted) -> None:
    """A policy under a load routes like any predictor: a price moves it to the cheaper."""
    router = turnout.parts.priced.as_router(fitted.under(Load(np.zeros(2), rate=0.1)))
    rng = np.random.default_rng(0)
    sent = [
        int(router.route(["a poem"], _table().pool(), budget=Budget(price=p), rng=rng).index[0, 0])
        for p in (0.0, 10.0)
    ]
    assert sent == [1, 0]


def test_untrained_it_is_what_the_words_say() -> None:
    """Before any step the network adds nothing: quality delivered at rest is quality told."""
    fitted = BestEffort(requests=8, width=4).fit(
        _table(), _table().pool(), rng=np.random.default_rng(0)
    )
    told = fitted.quality(["add two numbers"])
    assert fitted.predict(["add two numbers"])[0] == pytest.approx(told)


def test_predictions_keep_their_order_far_below_zero(fitted) -> None:
    """However bad a choice is, its delivered quality is above 0 and worse ones are below it."""
    from dataclasses import replace

    weights = tuple(np.zeros_like(w) for w in fitted.network.weights[:5])
    network = QNetwork((*weights, np.array([0.0, -3.0])), base=True)
    worst = replace(fitted, network=network)
    low = worst.delivered(np.array([[0.5, 0.5], [0.5, 0.4]]), Load(np.zeros(2)))
    assert low[0, 0] == 0.5
    assert low[0, 1] > low[1, 1] > 0.0


def test_what_is_delivered_by_hand(fitted) -> None:
    """Values (3.4, 3.1) of qualities (0.4, 0.5): the best is worth 0.5, the other 0.3 less."""
    from dataclasses import replace

    weights = tuple(np.zeros_like(w) for w in fitted.network.weights[:5])
    network = QNetwork((*weights, np.array([3.0, 2.6])), base=True)
    policy = replace(fitted, network=network)
    found = policy.delivered(np.array([[0.4, 0.5]]), Load(np.zeros(2)))
    assert found[0].tolist() == pytest.approx([0.5, 0.2])


def test_without_latencies_cost_is_time() -> None:
    """The unit is then the mean answer of the dearest, and blank cells are the column's mean."""
    assert at_rest(_table(latency=False))[0].tolist() == pytest.approx([1 / 9, 1.0])
    table = Outcomes(
        inputs=["a", "b"],
        names=("x",),
        quality=np.ones((2, 1)),
        cost=np.ones((2, 1)),
        latency=np.array([[3.0], [np.nan]]),
    )
    assert at_rest(table).tolist() == [[3.0], [3.0]]


def test_what_ends_late_earns_nothing() -> None:
    """Where nobody can be in time, nothing is worth more than anything else."""
    work = np.tile([1.0, 5.0], (20, 1))
    quality = np.tile([0.2, 0.9], (20, 1))
    play = Play(
        deadline=0.5,
        soft=0.0,
        gamma=0.0,
        requests=4000,
        width=8,
        rate=1e-2,
        explore=1.0,
        loads=(0.01, 0.02),
        arrivals=(),
    )
    servers = Servers(np.zeros(2), np.array([4, 4]))
    network = train(quality, work, servers, play, rng=np.random.default_rng(0))
    state = np.array([0.2, 0.9, 0.0, 0.0, 0.0])
    assert np.abs(network.values(state)).max() < 0.15


def test_late_is_worth_less_where_the_deadline_is_soft() -> None:
    """An answer late by `soft` seconds earns 1 / e of its quality."""
    play = Play(
        deadline=1.0,
        soft=1.0,
        gamma=0.0,
        requests=4000,
        width=8,
        rate=1e-2,
        explore=1.0,
        loads=(0.01, 0.02),
        arrivals=(),
    )
    work = np.tile([2.0], (20, 1))  # late by one second
    servers = Servers(np.zeros(1), np.array([64]))
    network = train(np.full((20, 1), 0.8), work, servers, play, rng=np.random.default_rng(0))
    assert network.values(np.array([0.8, 0.0, 0.0]))[0] == pytest.approx(0.8 / math.e, abs=0.08)


def test_a_record_can_be_trained_on() -> None:
    """Recorded arrivals replace the drawn ones and give another policy."""
    times = tuple(np.cumsum(np.tile([0.01] * 20 + [5.0], 10)).tolist())
    drawn, replayed = (
        BestEffort(requests=300, width=4, arrivals=arrivals).fit(
            _table(), _table().pool(), rng=np.random.default_rng(0)
        )
        for arrivals in ((), times)
    )
    assert not np.array_equal(drawn.network.weights[4], replayed.network.weights[4])


def test_a_load_of_other_destinations_is_refused(fitted) -> None:
    """Counts must be one a destination, and never negative."""
    with pytest.raises(InputError, match=r"load.in_flight must have shape"):
        fitted.under(Load(np.zeros(3)))
    with pytest.raises(InputError, match=r"load.in_flight"):
        Load(np.array([-1.0, 0.0]))
    with pytest.raises(InputError, match=r"load.rate"):
        Load(np.zeros(2), rate=math.nan)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"deadline": 0.0}, "best_effort.deadline"),
        ({"soft": -1.0}, "best_effort.soft"),
        ({"slope": (0.1, -0.1)}, r"best_effort.slope\[1\]"),
        ({"slots": 0}, r"best_effort.slots\[0\]"),
        ({"gamma": 1.0}, "best_effort.gamma"),
        ({"requests": 0}, "best_effort.requests"),
        ({"width": 0}, "best_effort.width"),
        ({"explore": 0.0}, "best_effort.explore"),
        ({"loads": (0.5, 0.1)}, r"best_effort.loads\[1\]"),
        ({"arrivals": (2.0, 1.0)}, "best_effort.arrivals"),
        ({"l2": 0.0}, "best_effort.l2"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        BestEffort(**fields)


def test_as_many_slopes_as_destinations() -> None:
    """Three slopes for two destinations are refused when they meet."""
    with pytest.raises(InputError, match=r"best_effort.slope must hold 1 or 2 numbers"):
        BestEffort(slope=(0.1, 0.1, 0.1)).fit(
            _table(), _table().pool(), rng=np.random.default_rng(0)
        )

"""The online controller: what it promises, whatever the traffic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import Budget, InputError
from turnout.parts import prices
from turnout.parts.pacing import Pacer, Pacing, Plan
from turnout.parts.replay import replay

PLAN = Plan((0.1, 0.4, 1.0), (2.0, 0.5, 0.0), 100)


def traffic(n, seed, *, m=3, gap=1.0):
    """Predictions and true figures (n, m): dearer destinations are better, by how much varies."""
    rng = np.random.default_rng(seed)
    cost = np.linspace(0.1, 1.0, m) * rng.uniform(0.5, 1.5, size=(n, 1))
    quality = np.clip(0.4 + gap * rng.beta(1, 3, size=(n, 1)) * np.linspace(0, 1, m) ** 0.5, 0, 1)
    return quality, cost, cost * rng.lognormal(-0.02, 0.2, size=cost.shape)


def events(count=40):
    cost = st.floats(0.0, 2.0)
    return st.lists(st.tuples(st.booleans(), cost, cost), max_size=count)


def feed(pacer, rows):
    """Play events: True = decided, False = settled."""
    for is_decided, expected, actual in rows:
        if is_decided:
            pacer.decided(expected)
        else:
            pacer.settled(expected, actual)
    return pacer


def pacings():
    return st.sampled_from(
        [
            Pacing(mean_cost=0.5, price=1.0, period=100),
            Pacing(mean_cost=0.3, plan=PLAN, period=60),
            Pacing(mean_cost=5.0, plan=PLAN),
            Pacing(mean_cost=0.5, plan=Plan((0.2,), (0.0,), 1)),
        ]
    )


@settings(deadline=None, max_examples=60)
@given(pacings(), events())
def test_price_is_always_usable(pacing, rows):
    """Finite and not negative after any sequence of events, expected or not."""
    price = feed(Pacer(pacing), rows).price
    assert np.isfinite(price)
    assert price >= 0


@settings(deadline=None, max_examples=60)
@given(pacings(), events(), events())
def test_state_goes_on_exactly(pacing, before, after):
    """Saved as JSON in the middle and resumed, it decides exactly as if it had not stopped."""
    whole = feed(Pacer(pacing), before)
    resumed = Pacer(pacing, json.loads(json.dumps(whole.state())))
    assert resumed.price == whole.price
    assert feed(resumed, after).price == feed(whole, after).price
    assert resumed.state() == whole.state()


@settings(deadline=None, max_examples=60)
@given(pacings(), events(), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 5.0))
def test_dearer_news_never_lower_the_price(pacing, rows, expected, actual, more):
    """All else equal, a higher true cost gives a price at least as high."""
    one, two = feed(Pacer(pacing), rows), feed(Pacer(pacing), rows)
    one.settled(expected, actual)
    two.settled(expected, actual + more)
    assert two.price >= one.price * (1 - 1e-9)


@settings(deadline=None, max_examples=40)
@given(events(), st.sampled_from([1e-6, 0.01, 1000.0]))
def test_units_of_cost_do_not_matter(rows, scale):
    """In another currency the price is the same price in that currency."""
    one = Pacer(Pacing(mean_cost=0.3, plan=PLAN, period=60))
    spend, price = np.array(PLAN.spend) * scale, np.array(PLAN.price) / scale
    plan = Plan(tuple(spend.tolist()), tuple(price.tolist()), PLAN.rows)
    two = Pacer(Pacing(mean_cost=0.3 * scale, plan=plan, period=60))
    feed(one, rows)
    feed(two, [(kind, expected * scale, actual * scale) for kind, expected, actual in rows])
    assert two.price * scale == pytest.approx(one.price, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 2.0)), min_size=1, max_size=30),
    st.integers(0, 2**32 - 1),
)
def test_settling_order_does_not_change_the_account(pairs, seed):
    """Whatever the order in which costs arrive, the money spent is the same, to rounding."""
    means = []
    for order in (np.arange(len(pairs)), np.random.default_rng(seed).permutation(len(pairs))):
        pacer = Pacer(Pacing(mean_cost=0.5, price=1.0))
        for expected, _ in pairs:
            pacer.decided(expected)
        for i in order:
            pacer.settled(*pairs[i])
        means.append(pacer.mean_spent)
    assert means[0] == pytest.approx(means[1])
    assert means[0] == pytest.approx(np.mean([actual for _, actual in pairs]), abs=1e-9)


def test_the_first_price_is_the_offline_one():
    """Before any event the price is the plan's for the budget, or the one given."""
    quality, cost, _ = traffic(400, 0)
    pacer = Pacer.for_budget(quality, cost, 0.5)
    assert pacer.price == Plan.fit(quality, cost).at(0.5)
    rows = np.arange(400)
    spent = cost[rows, prices.choose(quality, cost, pacer.price)].mean()
    assert spent == pytest.approx(0.5, rel=0.05)
    assert Pacer(Pacing(mean_cost=0.5, price=7.0)).price == 7.0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["steady", "drifting", "blocks"])
def test_spend_meets_the_budget(kind, share):
    """Within 2 % over a period with late, noisy costs; at least 98 % of the offline quality.

    The plan is made on other traffic: on drifting traffic the gap between destinations doubles
    half way, in blocks twelve subjects of different difficulty come one after another.
    """
    n = 3000
    quality, cost, actual = traffic(n, 1)
    if kind == "drifting":
        quality[n // 2 :] = traffic(n - n // 2, 2, gap=2.0)[0]
    if kind == "blocks":
        rng = np.random.default_rng(20)
        like = np.argsort(np.argsort(quality[:, -1] + rng.normal(0, 0.2, size=n)))
        order = np.argsort(rng.permutation(12)[like * 12 // n], kind="stable")
        quality, cost, actual = quality[order], cost[order], actual[order]
    rows = np.arange(n)
    low = actual[rows, prices.choose(quality, cost, np.inf)].mean()
    high = actual[rows, prices.choose(quality, cost, 0.0)].mean()
    budget = low + share * (high - low)
    pacer = Pacer.for_budget(*traffic(500, 3)[:2], budget, period=n)
    delay = np.random.default_rng(4).integers(0, 100, size=n)
    served = replay(pacer, quality, cost, actual, delay=delay)
    assert actual[rows, served.choice].mean() == pytest.approx(budget, rel=0.02)
    assert pacer.mean_spent == pytest.approx(actual[rows, served.choice].mean())
    up = np.ones(3, dtype=bool)
    best = prices.spend(quality, cost, Budget(mean_cost=budget), up, rng=np.random.default_rng(0))
    assert quality[rows, served.choice].mean() >= 0.98 * quality[rows, best].mean()


@pytest.mark.parametrize("wrong", [0.6, 1.5])
def test_biased_costs_are_found_out(wrong):
    """Expected costs that are 40 % too low or 50 % too high do not move the true spend."""
    n = 3000
    quality, cost, actual = traffic(n, 5)
    planned = traffic(500, 6)
    pacer = Pacer.for_budget(planned[0], planned[1] * wrong, 0.5, period=n)
    served = replay(pacer, quality, cost * wrong, actual, delay=30)
    assert actual[np.arange(n), served.choice].mean() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_a_wrong_first_price_is_found_out(factor):
    """Without a plan and with a first price five times off, spend is within 5 % in the end."""
    n = 4000
    quality, cost, actual = traffic(n, 7)
    right = Plan.fit(quality, cost).at(0.5)
    pacer = Pacer(Pacing(mean_cost=0.5, price=right * factor, period=n))
    served = replay(pacer, quality, cost, actual, delay=20)
    assert actual[np.arange(n), served.choice].mean() == pytest.approx(0.5, rel=0.05)


def test_periods_repeat():
    """At the end of every period, not only of the first, spend so far is at the budget."""
    n, period = 6000, 1500
    quality, cost, actual = traffic(n, 8)
    pacer = Pacer.for_budget(*traffic(500, 9)[:2], 0.5, period=period)
    served = replay(pacer, quality, cost, actual, delay=10)
    spent = np.cumsum(actual[np.arange(n), served.choice])
    for end in range(period, n + 1, period):
        assert spent[end - 1] / end == pytest.approx(0.5, rel=0.02)


def test_a_budget_too_large_is_simply_not_spent():
    """Where even the freest routes cost less than the budget, the price is zero throughout."""
    quality, cost, actual = traffic(500, 10)
    served = replay(Pacer.for_budget(quality, cost, 100.0), quality, cost, actual)
    assert (served.price == 0).all()


def test_a_budget_too_small_is_refused():
    """Below the cheapest routes no price helps, and the bound is named."""
    quality, cost, _ = traffic(100, 11)
    with pytest.raises(InputError, match="mean_cost must be at least"):
        Pacer.for_budget(quality, cost, cost[:, 0].mean() * 0.9)


def test_down_destinations_are_not_planned_with():
    """The plan knows what is down; so does the replay."""
    quality, cost, actual = traffic(300, 12)
    up = np.array([True, True, False])
    pacer = Pacer.for_budget(quality, cost, 0.3, up=up)
    assert pacer.pacing.plan.spend[-1] <= cost[:, 1].mean() + 1e-9
    assert (replay(pacer, quality, cost, actual, up=up).choice < 2).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_plan_follows_the_frontier(seed, share):
    """Prices fall with spend; at a knot's price the predictions spend what the knot says."""
    quality, cost, _ = traffic(60, seed)
    plan = Plan.fit(quality, cost)
    ask = plan.spend[0] + share * (plan.spend[-1] - plan.spend[0])
    assert plan.at(ask) >= plan.at(ask + 0.01)
    assert plan.at(plan.spend[0] - 0.01) >= plan.price[0]
    rows = np.arange(60)
    for spend, price in zip(plan.spend, plan.price, strict=True):
        above = cost[rows, prices.choose(quality, cost, price * (1 + 1e-9))].mean()
        assert above == pytest.approx(spend)


def test_plan_of_one_destination():
    """With nothing to choose there is one knot and the price is zero from there on."""
    plan = Plan.fit(np.array([[0.5], [0.6]]), np.array([[1.0], [3.0]]))
    assert (plan.spend, plan.price) == ((2.0,), (0.0,))
    assert plan.at(1.0) == plan.at(2.0) == plan.at(3.0) == 0.0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Pacing(mean_cost=0.0, price=1.0), "pacing.mean_cost"),
        (lambda: Pacing(mean_cost=-1.0, price=1.0), "pacing.mean_cost"),
        (lambda: Pacing(mean_cost=np.nan, price=1.0), "pacing.mean_cost"),
        (lambda: Pacing(mean_cost=1.0, price=0.0), "pacing.price"),
        (lambda: Pacing(mean_cost=1.0, price=np.inf), "pacing.price"),
        (lambda: Pacing(mean_cost=1.0, price=1.0, period=0), "pacing.period"),
        (lambda: Pacing(mean_cost=1.0, price=1.0, period=2.5), "pacing.period"),
        (lambda: Pacing(mean_cost=1.0), "pacing"),
        (lambda: Pacing(mean_cost=1.0, price=1.0, plan=PLAN), "pacing"),
        (lambda: Plan((), (), 1), "plan.spend"),
        (lambda: Plan((1.0, 1.0), (1.0, 0.0), 1), "plan.spend"),
        (lambda: Plan((1.0, 2.0), (1.0,), 1), "plan.price"),
        (lambda: Plan((1.0, 2.0), (1.0, 2.0), 1), "plan.price"),
        (lambda: Plan((1.0,), (1.0,), 0), "plan.rows"),
        (lambda: Plan.fit(np.empty((0, 2)), np.empty((0, 2))), "quality"),
        (lambda: Pacer(Pacing(mean_cost=1.0, price=1.0), {"debt": 1.0}), "state.decided"),
        (lambda: _pacer().decided(-1.0), "expected_cost"),
        (lambda: _pacer().decided(np.nan), "expected_cost"),
        (lambda: _pacer().settled(np.inf, 1.0), "expected_cost"),
        (lambda: _pacer().settled(1.0, np.nan), "actual_cost"),
        (lambda: _pacer().settled(1.0, -1.0), "actual_cost"),
    ],
)
def test_refuses_by_name(make, field):
    """Values out of range are refused with the field, before anything is counted."""
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field == field


def _pacer():
    return Pacer(Pacing(mean_cost=1.0, price=1.0))


def test_a_refused_cost_changes_nothing():
    """After a refusal the controller stands where it stood."""
    pacer = feed(_pacer(), [(True, 0.5, 0.0), (False, 0.5, 0.7)])
    before = pacer.state()
    with pytest.raises(InputError):
        pacer.settled(0.5, float("nan"))
    assert pacer.state() == before


def test_repr_says_where_it_stands():
    """Budget, spend, price and count at a glance."""
    assert repr(_pacer()) == "Pacer(budget=1, spent=0, price=1, count=0)"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cost": np.ones((2, 3))}, "cost"),
        ({"actual": -np.ones((2, 2))}, "actual[0, 0]"),
        ({"quality": np.full((2, 2), np.nan)}, "quality[0, 0]"),
        ({"delay": -1}, "delay"),
        ({"delay": np.array([1])}, "delay"),
        ({"delay": np.array([0.5, 1.0])}, "delay"),
    ],
)
def test_replay_refuses_by_name(changes, field):
    """Tables of other shapes, bad figures and bad delays are refused."""
    fields = {"quality": np.ones((2, 2)), "cost": np.ones((2, 2)), "actual": np.ones((2, 2))}
    with pytest.raises(InputError) as caught:
        replay(_pacer(), **(fields | changes))
    assert caught.value.field == field


def test_replay_settles_everything_in_the_end():
    """Whatever the delay, nothing is outstanding after the last row."""
    quality, cost, actual = traffic(50, 13)
    pacer = Pacer.for_budget(quality, cost, 0.5)
    served = replay(pacer, quality, cost, actual, delay=1000)
    assert pacer.count == 50
    assert pacer.state()["reserved"] == pytest.approx(0.0, abs=1e-9)
    assert pacer.mean_spent == pytest.approx(actual[np.arange(50), served.choice].mean())


@pytest.mark.parametrize("guess", [0.5, 1.0, 2.0])
def test_a_budget_for_a_time_is_kept_by_new_targets(guess):
    """However wrong the first guess of how many requests come, the money ends with the time."""
    n, every = 4000, 100
    quality, cost, actual = traffic(n, 5)
    plan = Plan.fit(quality[:500], cost[:500])
    money = n * (0.6 * plan.spend[0] + 0.4 * plan.spend[-1])
    pacer = Pacer(Pacing(mean_cost=money / (n * guess), plan=plan))
    spent = reserved = 0.0
    for i in range(n):
        if i and i % every == 0:
            # the guess grows true as the time passes
            left = (n - i) * (1 + (guess - 1) * (1 - i / n) ** 2)
            pacer.retarget(max(money - spent - reserved, 1e-9) / left)
            assert pacer.count == 0
        j = int(prices.choose(quality[i : i + 1], cost[i : i + 1], pacer.price)[0])
        pacer.decided(float(cost[i, j]))
        pacer.settled(float(cost[i, j]), float(actual[i, j]))
        spent += float(actual[i, j])
    assert 0.97 <= spent / money <= 1.02


def test_what_is_reserved_is_not_counted_twice_at_a_new_target():
    """Costs already set aside are in the quotient that sets the target: they are no debt."""
    pacer = Pacer(Pacing(mean_cost=0.4, plan=PLAN))
    for _ in range(50):
        pacer.decided(0.4)
    before = pacer.price
    pacer.retarget(0.4)
    assert pacer.price == pytest.approx(before, rel=0.2)
    for _ in range(50):
        pacer.settled(0.4, 0.4)
    assert pacer.mean_spent == 0.0
    assert pacer.price == pytest.approx(before, rel=0.2)
    with pytest.raises(InputError, match=r"pacing\.mean_cost must be above 0"):
        pacer.retarget(0.0)

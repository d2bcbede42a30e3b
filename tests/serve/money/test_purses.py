from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from turnout.core import BudgetExceededError, InputError
from turnout.serve.money._lock import Lock
from turnout.serve.money.board import Board
from turnout.serve.money.budgets import BudgetRule, OverBudgetError
from turnout.serve.money.periods import FOREVER, bounds
from turnout.serve.money.purses import Purses
from turnout.serve.money.rates import RateExceededError, Rates

NOON = 1_795_867_200_000
MINUTE = 60_000


def budget(name: str = "b", pico: int = 100, **more: Any) -> BudgetRule:
    """A budget of so many pico-dollars."""
    return BudgetRule(name=name, usd=f"{pico}e-12", **{"period": "minute", **more})


def make(*rules: BudgetRule, workers: int = 2) -> list[Purses]:
    """What each of the workers sees of one board."""
    board = Board(workers=workers, purses=32, rates=4, buffer=bytearray(10**5))
    return [Purses(board, rules, worker) for worker in range(workers)]


class Held:
    """A reservation in a test."""

    def __init__(self, who: Purses, key: str, model: str, amount: int, ms: int) -> None:
        self.who, self.key, self.amount = who, key, amount
        self.purses = who.of(key, model)
        self.ms = who.reserve(self.purses, amount, ms)
        self.tags = [purse.tag for purse in self.purses]

    def settle(self, cost: int) -> None:
        self.who.settle(self.who.settlement(self.purses, self.tags, self.amount, cost))


def test_money_is_reserved_and_settled() -> None:
    """Reserved by one worker it is missing for the other; the real cost takes its place."""
    one, two = make(budget(pico=100))
    first = Held(one, "", "m", 60, NOON)
    with pytest.raises(OverBudgetError):
        Held(two, "", "m", 41, NOON)
    second = Held(two, "", "m", 40, NOON)
    first.settle(10)
    (state,) = one.states(NOON)
    assert (state.limit, state.spent, state.reserved, state.left) == (100, 10, 40, 50)
    second.settle(95)  # it cost more than was predicted
    (state,) = two.states(NOON)
    assert (state.spent, state.reserved, state.left) == (105, 0, 0)


def test_a_refusal_says_everything() -> None:
    """Budget, whose purse, limit, spent, reserved, what was asked, and when it starts anew."""
    (one,) = make(budget("team", 100, per="key", period="day"), workers=1)
    Held(one, "alice", "m", 30, NOON).settle(50)
    Held(one, "alice", "m", 20, NOON)
    with pytest.raises(OverBudgetError) as caught:
        one.reserve(one.of("alice", "m"), 60, NOON)
    error = caught.value
    assert isinstance(error, BudgetExceededError)
    assert str(error) == (
        "budget 'team' of key 'alice' must have room for another 0.00000000006 USD; got "
        "'0.0000000001 USD a day, 0.00000000005 spent and 0.00000000002 in flight'. "
        "It starts anew at 2026-11-29T00:00:00Z."
    )
    assert error.wait_s == 12 * 3600
    assert (error.state.spent, error.state.reserved, error.asked) == (50, 20, 60)
    assert pickle.loads(pickle.dumps(error)).state == error.state


def test_where_only_requests_in_flight_stand_in_the_way_ask_again_soon() -> None:
    """Their reservations may be given back long before the period ends."""
    (one,) = make(budget(pico=100, period="month"), workers=1)
    Held(one, "", "m", 90, NOON)
    with pytest.raises(OverBudgetError) as caught:
        one.reserve(one.of("", "m"), 20, NOON)
    assert caught.value.wait_s == 1.0


@pytest.mark.parametrize(("amount", "limit"), [(101, 100), (0, 0), (5, 0)])
def test_what_no_period_would_let_in_says_so(amount: int, limit: int) -> None:
    """A prediction above the limit itself, or a limit of nothing: there is no use in waiting."""
    (one,) = make(budget(pico=limit), workers=1)
    with pytest.raises(OverBudgetError) as caught:
        one.reserve(one.of("", "m"), amount, NOON)
    assert caught.value.wait_s is None
    assert ("at all" in str(caught.value)) == (amount > limit)


def test_a_total_never_starts_anew() -> None:
    """Once spent it stays spent."""
    (one,) = make(budget(pico=10, period="total"), workers=1)
    Held(one, "", "m", 10, 0).settle(10)
    with pytest.raises(OverBudgetError, match="It never starts anew") as caught:
        one.reserve(one.of("", "m"), 1, FOREVER // 2)
    assert caught.value.wait_s is None


def test_a_full_purse_lets_nothing_in_not_even_what_is_free() -> None:
    """A predicted cost of 0 needs some room too."""
    (one,) = make(budget(pico=10), workers=1)
    Held(one, "", "m", 0, NOON)
    Held(one, "", "m", 10, NOON).settle(10)
    with pytest.raises(OverBudgetError) as caught:
        one.reserve(one.of("", "m"), 0, NOON)
    assert caught.value.wait_s == 60


def test_rules_are_for_keys_and_models() -> None:
    """Each purse has its own money; a rule that names keys or models is for no others."""
    (one,) = make(
        budget("pool"),
        budget("per key", per="key"),
        budget("per model", per="model"),
        budget("some", keys=("alice", "bob"), models=("dear",)),
        workers=1,
    )
    names = {
        (key, model): [purse.rule.name for purse in one.of(key, model)]
        for key in ("alice", "carol")
        for model in ("cheap", "dear")
    }
    common = ["pool", "per key", "per model"]
    assert names == {
        ("alice", "cheap"): common,
        ("alice", "dear"): [*common, "some"],
        ("carol", "cheap"): common,
        ("carol", "dear"): common,
    }
    owns = {purse.own for key in ("alice", "carol") for m in ("cheap", "dear")
            for purse in one.of(key, m)}  # fmt: skip
    assert len(owns) == 1 + 2 + 2 + 1


def test_all_purses_or_none() -> None:
    """If the last of them has no room, the first ones keep theirs; so do the rate limits."""
    board = Board(purses=8, rates=8, buffer=bytearray(10**5))
    one = Purses(board, [budget("wide", 100), budget("narrow", 10)])
    rates = Rates(board, Lock())
    rate = rates.find("calls", "a", 60)
    purses = one.of("", "m")
    with pytest.raises(OverBudgetError, match="narrow"):
        one.reserve(purses, 11, NOON, [(rate, 1)], rates, 0)
    assert [state.left for state in one.states(NOON)] in ([100, 10], [10, 100])
    assert rates.left(rate, 0) == 60
    rates.take([(rate, 60)], 0)
    with pytest.raises(RateExceededError):
        one.reserve(purses, 1, NOON, [(rate, 1)], rates, 0)
    assert sum(state.left for state in one.states(NOON)) == 110
    one.reserve(purses, 1, NOON, [(rate, 1)], rates, 60 * 10**9)
    assert sum(state.left for state in one.states(NOON)) == 108


def test_a_new_period_has_all_its_money_and_old_requests_settle_in_their_own() -> None:
    """What was reserved before the turn neither hinders nor is charged after it."""
    one, two = make(budget(pico=100))
    old = Held(one, "", "m", 100, NOON - 1)
    new = Held(two, "", "m", 100, NOON)
    old.settle(70)
    (state,) = two.states(NOON)
    assert (state.spent, state.reserved) == (0, 100)
    (state,) = two.states(NOON - 1)
    assert (state.spent, state.reserved) == (70, 0)
    new.settle(1)
    mine = Held(one, "", "m", 99, NOON)  # this worker's column starts anew
    assert [state.left for state in one.states(NOON)] == [0]
    mine.settle(0)
    assert [state.spent for state in one.states(NOON)] == [1]


def test_an_old_request_does_not_settle_in_a_period_its_worker_has_begun() -> None:
    """The worker itself has turned its column; the old reservation is gone with the old period."""
    (one,) = make(budget(pico=100), workers=1)
    old = Held(one, "", "m", 100, NOON - 1)
    new = Held(one, "", "m", 10, NOON)
    old.settle(70)
    assert [(state.spent, state.reserved) for state in one.states(NOON)] == [(0, 10)]
    one.release(old.purses, old.tags, 100)
    new.settle(3)
    assert [(state.spent, state.reserved) for state in one.states(NOON)] == [(3, 0)]


def test_a_clock_reading_just_before_the_turn_counts_in_the_period_another_worker_opened() -> None:
    """Otherwise what that worker had spent in the old period would be forgotten for a moment."""
    one, two = make(budget(pico=100))
    Held(one, "", "m", 90, NOON - 5).settle(90)
    Held(one, "", "m", 30, NOON)
    late = Held(two, "", "m", 50, NOON - 1)
    assert late.ms == NOON
    with pytest.raises(OverBudgetError):
        Held(two, "", "m", 50, NOON - 1)
    late.settle(20)
    (state,) = two.states(NOON)
    assert (state.spent, state.reserved) == (20, 30)


def test_a_clock_set_back_by_more_than_a_period_is_followed() -> None:
    """A moment in the far future must not lock the purse until then."""
    one, two = make(budget(pico=100))
    Held(one, "", "m", 100, NOON + 100 * MINUTE)
    assert Held(two, "", "m", 100, NOON).ms == NOON
    with pytest.raises(OverBudgetError):
        Held(one, "", "m", 1, NOON)
    Held(one, "", "m", 60, NOON - 100 * MINUTE).settle(50)  # its own column was in the future, too
    with pytest.raises(OverBudgetError):
        Held(two, "", "m", 51, NOON - 100 * MINUTE)
    assert [state.spent for state in one.states(NOON - 100 * MINUTE)] == [50]


def test_moving_changes_purses_all_or_nothing() -> None:
    """Common purses take the difference, others the whole; a refusal leaves all as it was."""
    (one,) = make(budget("pool", 100), budget("models", 60, per="model"), workers=1)

    def left() -> dict[tuple[str, str], int]:
        return {(state.budget, state.holder): state.left for state in one.states(NOON)}

    Held(one, "", "dear", 5, NOON)
    held = Held(one, "", "cheap", 50, NOON)
    new = one.of("", "dear")
    tags = one.move(held.purses, held.tags, 50, new, 55, NOON)
    expected = {("pool", ""): 40, ("models", "dear"): 0, ("models", "cheap"): 60}
    assert left() == expected
    for amount, name in ((56, "models"), (96, "pool")):
        with pytest.raises(OverBudgetError, match=name):
            one.move(new, tags, 55, one.of("", "dear"), amount, NOON)
    Held(one, "", "cheap", 40, NOON)
    with pytest.raises(OverBudgetError, match="pool"):
        one.move(new, tags, 55, one.of("", "other"), 56, NOON)
    assert left()["models", "dear"] == 0
    assert left()["pool", ""] == 0
    back = one.move(new, tags, 55, one.of("", "cheap"), 20, NOON)
    assert left() == {
        ("pool", ""): 35, ("models", "dear"): 55, ("models", "cheap"): 0, ("models", "other"): 60
    }  # fmt: skip
    one.release(one.of("", "cheap"), back, 20)
    assert left()["pool", ""] == 55


def test_moving_after_the_period_has_ended_touches_nothing_new() -> None:
    """The request still belongs to its own period, which is over on this worker's column."""
    (one,) = make(budget("pool", 100), budget("models", 60, per="model"), workers=1)
    held = Held(one, "", "cheap", 50, NOON - 1)
    Held(one, "", "dear", 60, NOON)
    tags = one.move(held.purses, held.tags, 50, one.of("", "dear"), 60, held.ms)
    assert tags == [(NOON - MINUTE) // 1000] * 2
    one.settle(one.settlement(one.of("", "dear"), tags, 60, 60))
    states = {state.budget + state.holder: state for state in one.states(NOON)}
    assert (states["pool"].spent, states["pool"].reserved) == (0, 60)
    assert (states["modelsdear"].spent, states["modelsdear"].reserved) == (0, 60)


def test_a_move_is_not_checked_against_a_period_that_is_over() -> None:
    """Not even where another worker still shows what was spent in it."""
    one, two = make(budget("pool", 100), budget("models", 60, per="model"))
    Held(two, "", "dear", 40, NOON - 1)
    held = Held(one, "", "cheap", 50, NOON - 1)
    Held(one, "", "dear", 1, NOON)
    tags = one.move(held.purses, held.tags, 50, one.of("", "dear"), 60, held.ms)
    assert tags == held.tags
    assert [state.reserved for state in one.states(NOON) if state.holder == "dear"] == [1]


def test_long_names_hold_their_money_though_they_are_not_listed() -> None:
    """The board cuts a long name and cannot tell it any more; the purse counts all the same."""
    (one,) = make(budget("a" * 300), budget("b", per="key"), workers=1)
    for key in ("k" * 250, "k" * 251, "short"):
        Held(one, key, "m", 30, NOON)
        with pytest.raises(OverBudgetError):
            Held(one, key, "m", 71, NOON)
    with pytest.raises(OverBudgetError, match="aaa"):
        Held(one, "other", "m", 20, NOON)
    listed = {(state.budget, state.holder) for state in one.states(NOON)}
    assert listed == {("b", "short"), ("b", "other")}


def test_amounts_beyond_a_cell_stay_at_its_end() -> None:
    """A bill of billions fills the purse; it neither wraps around nor fails."""
    (one,) = make(BudgetRule(name="b", usd=9_000_000), workers=1)
    held = Held(one, "", "m", 0, NOON)
    for _ in range(3):
        one.settle(one.settlement(held.purses, held.tags, 0, 2**62))
    (state,) = one.states(NOON)
    assert state.spent == 2**63 - 1
    with pytest.raises(OverBudgetError):
        one.reserve(held.purses, 1, NOON)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": " "}, "name must be printable"),
        ({"name": "a\0b"}, "name must be printable"),
        ({"usd": -1}, "usd must be an amount"),
        ({"usd": float("nan")}, "usd must be an amount"),
        ({"period": "fortnight"}, "period must be one of minute, hour"),
        ({"per": "team"}, "per must be one of pool, key, model"),
        ({"keys": ("a", "a")}, "keys must be unique"),
        ({"models": ("",)}, "models must hold non-empty"),
    ],
)
def test_odd_rules_are_refused(change: dict[str, Any], rule: str) -> None:
    """Each field by its name."""
    with pytest.raises(InputError, match=rule):
        BudgetRule(**{"name": "b", "usd": 1.0, **change})


def test_two_budgets_of_one_name_are_refused() -> None:
    """They would share their purses."""
    with pytest.raises(InputError, match="budgets must be unique"):
        make(budget("b"), budget("b"))


def test_no_store_of_a_reservation_happens_without_the_lock() -> None:
    """Check and reservation are one step for all workers: every cell is touched under the lock."""
    board = Board(workers=2, purses=8, rates=8, buffer=bytearray(10**5))
    lock = SpiedLock()
    one = Purses(board, [budget("a"), budget("b", per="key")], 0, lock)  # type: ignore[arg-type]
    rates = Rates(board, lock)  # type: ignore[arg-type]
    rate = rates.find("calls", "a", 60)
    purses, others = one.of("k", "m"), one.of("other", "m")
    one._cells = rates._cells = SpiedCells(board.cells, lock)  # type: ignore[assignment]
    unpack = one._unpack

    def spied(memory: Any, at: int) -> Any:
        assert lock.held
        return unpack(memory, at)

    one._unpack = spied
    one.reserve(purses, 5, NOON, [(rate, 1)], rates, 0)
    assert lock.touched == 4
    rates.take([(rate, 1)], 0)
    rates.give(rate, -1)
    lock.strict = False  # a worker may read its own column at any time
    tags = [purse.tag for purse in purses]
    takes = lock.takes
    one.move(purses, tags, 5, others, 7, NOON)
    assert lock.takes == takes + 1


class SpiedLock:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.held = False
        self.takes = self.touched = 0
        self.strict = True

    def take(self) -> None:
        assert not self.held
        self.held = True
        self.takes += 1

    def drop(self) -> None:
        assert self.held
        self.held = False

    def close(self) -> None:
        assert not self.held


class SpiedCells:
    """Cells that fail when they are touched without the lock."""

    def __init__(self, cells: Any, lock: SpiedLock) -> None:
        self.cells, self.lock = cells, lock

    def __getitem__(self, at: int) -> int:
        assert self.lock.held or not self.lock.strict
        self.lock.touched += 1
        value: int = self.cells[at]
        return value

    def __setitem__(self, at: int, value: int) -> None:
        assert self.lock.held
        self.cells[at] = value


class Accounts(RuleBasedStateMachine):
    """Three workers against a plain model of four budgets, over minutes and hours."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.rules = (
            budget("pool", 300),
            budget("hour", 900, period="hour"),
            budget("key", 150, per="key"),
            budget("dear", 100, per="model", models=("dear",)),
        )
        self.workers = make(*self.rules, workers=3)
        self.ms = NOON
        #: (budget, holder, start of the period) to the amounts in it, by request
        self.books: dict[tuple[str, str, int], dict[int, int]] = {}
        self.open: dict[int, Held] = {}
        self.next = 0

    def purses(
        self, key: str, model: str, ms: int
    ) -> list[tuple[BudgetRule, tuple[str, str, int]]]:
        return [
            (rule, (rule.name, holder, bounds(rule.period, ms)[0]))
            for rule in self.rules
            if (holder := rule.holder(key, model)) is not None
        ]

    def total(self, purse: tuple[str, str, int]) -> int:
        return sum(self.books.get(purse, {}).values())

    @rule(ms=st.sampled_from([1, 20_000, 60_000, 3_600_000]))
    def wait(self, ms: int) -> None:
        """Time only goes on here; clocks that go back have their own tests."""
        self.ms += ms

    @rule(
        target=holds,
        worker=st.integers(0, 2),
        key=st.sampled_from("ab"),
        model=st.sampled_from(["cheap", "dear"]),
        amount=st.integers(0, 120),
    )
    def admit(self, worker: int, key: str, model: str, amount: int) -> Any:
        """Let in exactly when every purse has room; a refusal names one that has not."""
        purses = self.purses(key, model, self.ms)
        full = [
            rule.name
            for rule, purse in purses
            if self.total(purse) >= rule.limit or self.total(purse) + amount > rule.limit
        ]
        if full:
            with pytest.raises(OverBudgetError) as caught:
                Held(self.workers[worker], key, model, amount, self.ms)
            assert caught.value.state.budget in full
            return multiple()
        held = Held(self.workers[worker], key, model, amount, self.ms)
        self.next += 1
        self.open[self.next] = held
        for _, purse in purses:
            self.books.setdefault(purse, {})[self.next] = amount
        return self.next

    @rule(name=holds, cost=st.integers(0, 200))
    def settle(self, name: int, cost: int) -> None:
        """The cost takes the place of what was reserved, in the period of the reservation."""
        held = self.open.pop(name, None)
        if held is not None:
            held.settle(cost)
            for amounts in self.books.values():
                if name in amounts:
                    amounts[name] = cost

    @rule(name=holds)
    def release(self, name: int) -> None:
        """As if it had never been."""
        held = self.open.pop(name, None)
        if held is not None:
            held.who.release(held.purses, held.tags, held.amount)
            for amounts in self.books.values():
                amounts.pop(name, None)

    @invariant()
    def every_purse_is_exact(self) -> None:
        """Spent and reserved are the model's, as each of the workers sees them."""
        for who in self.workers:
            for state in who.states(self.ms):
                start = bounds(state.period, self.ms)[0]
                amounts = self.books.get((state.budget, state.holder, start), {})
                reserved = sum(value for name, value in amounts.items() if name in self.open)
                assert state.reserved == reserved
                assert state.spent == sum(amounts.values()) - reserved


Accounts.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAccounts = Accounts.TestCase

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from turnout.core import InputError
from turnout.serve.money import reading
from turnout.serve.money.books import Books
from turnout.serve.money.budgets import BudgetRule, OverBudgetError
from turnout.serve.money.entry import Entry
from turnout.serve.money.journal import JournalFullError
from turnout.serve.money.rates import RateExceededError
from turnout.serve.money.store import Store
from turnout.serve.money.units import MAX_PICO
from turnout.serve.money.usage import MAX_TOKENS, Usage

NOON = 1_795_867_200_000
MINUTE = 60_000

POOL = BudgetRule(name="pool", usd=1, period="minute")
MODELS = BudgetRule(name="models", usd="0.5", period="day", per="model")

ASK: dict[str, Any] = {"key": "alice", "destination": "cheap", "model": "auto", "chars": 400,
                       "cap": 100, "ms": NOON}  # fmt: skip
#: 100 tokens in, 100 out, at 1 and 4 USD a million.
PREDICTED = 100 * 1_000_000 + 100 * 4_000_000


@pytest.fixture
def books(make_store: Callable[..., Store]) -> Iterator[Books]:
    made = make_store(POOL, MODELS).join()
    yield made
    made.stop()


def spent(books: Books, ms: int = NOON) -> dict[str, tuple[int, int]]:
    """Spent and reserved, by budget and holder."""
    return {
        state.budget + state.holder: (state.spent, state.reserved)
        for state in books.purses.states(ms)
    }


def test_a_request_is_reserved_settled_and_kept(books: Books) -> None:
    """What was predicted is reserved, what it has cost is settled, and all of it is on record."""
    hold = books.open(**ASK, stream=True)
    assert (hold.key, hold.destination, hold.amount) == ("alice", "cheap", PREDICTED)
    assert (hold.input_tokens, hold.output_tokens) == (100, 100)
    assert books.predict("cheap", 400, 100) == PREDICTED
    assert spent(books) == {"pool": (0, PREDICTED), "modelscheap": (0, PREDICTED)}
    cost = books.close(hold, Entry(status=200, usage=Usage(90, 10), latency_s=0.5, tries=1))
    assert cost == hold.cost == 90 * 1_000_000 + 10 * 4_000_000
    assert spent(books) == {"pool": (cost, 0), "modelscheap": (cost, 0)}
    (row,) = books.ledger.rows()
    expected = {
        "id": hold.name, "number": hold.id, "time": NOON / 1000, "key": "alice", "stream": True,
        "destination": "cheap", "model": "auto", "input_tokens": 90, "output_tokens": 10,
        "cached_tokens": 0, "cost_pico": cost, "estimated": False, "price_version": "v1",
        "budgets": ["pool", "models"], "chars": 400, "status": 200,
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("entry", "cost", "estimated"),
    [
        ({"usage": Usage(10, 10, 10)}, 50_000_000, False),
        ({"cost": 77, "usage": Usage(10, 10)}, 77, False),
        ({"cost": -5}, 0, False),
        ({"cost": 2**70}, MAX_PICO, False),
        ({"charged": True}, PREDICTED, True),
        ({"charged": True, "seen": 3}, PREDICTED, True),
        ({"charged": True, "seen": 300}, 100 * 1_000_000 + 300 * 4_000_000, True),
        ({}, 0, False),
        ({"usage": Usage(MAX_TOKENS, MAX_TOKENS)}, 5 * MAX_TOKENS * 1_000_000, False),
    ],
)
def test_what_a_request_has_cost(
    books: Books, entry: dict[str, Any], cost: int, estimated: bool
) -> None:
    """As told, else by its tokens, else estimated where it may have been charged, else nothing."""
    hold = books.open(**ASK)
    assert books.close(hold, Entry(status=200, **entry)) == cost
    assert hold.estimated is estimated
    assert spent(books)["pool"] == (cost, 0)
    (row,) = books.ledger.rows()
    assert (row["cost_pico"], row["estimated"]) == (cost, estimated)


def test_a_refusal_takes_nothing(books: Books) -> None:
    """No money, no slot, no rate, no row."""
    rate = books.rates.find("calls", "alice", 60)
    free = books.journal.free
    with pytest.raises(OverBudgetError, match="budget 'models' of model 'dear'"):
        books.open(**{**ASK, "destination": "dear", "cap": 20_000, "choices": 100},
                   rates=[(rate, 1)])  # fmt: skip
    assert books.journal.free == free
    assert books.rates.left(rate, 0) == 60
    assert all(amounts == (0, 0) for amounts in spent(books).values())
    assert books.ledger.rows() == []


def test_a_request_that_never_went_out_leaves_no_trace(books: Books) -> None:
    """Money and slot are given back, and the predicted tokens of the rate limits."""
    rate = books.rates.find("tokens", "alice", 600)
    free = books.journal.free
    hold = books.open(**ASK, token_rates=[rate])
    books.drop(hold)
    assert books.journal.free == free
    assert books.rates.left(rate, 10**15) == 600
    assert spent(books)["pool"] == (0, 0)
    assert books.ledger.rows() == []


def test_token_limits_are_corrected_by_what_was_used(books: Books) -> None:
    """The predicted tokens are taken at once, the difference at the end."""
    rate = books.rates.find("tokens", "alice", 300)
    hold = books.open(**ASK, token_rates=[rate])
    with pytest.raises(RateExceededError):
        books.open(**ASK, token_rates=[rate])
    books.close(hold, Entry(status=200, usage=Usage(10, 10)))
    books.close(books.open(**ASK, token_rates=[rate]), Entry(status=200))


def test_a_request_moves_with_its_money(books: Books) -> None:
    """The purse of the first destination is free again; the row names both budgets of the last."""
    hold = books.open(**ASK)
    hold.move("dear")
    assert hold.destination == "dear"
    assert spent(books) == {
        "pool": (0, 10 * PREDICTED), "modelscheap": (0, 0), "modelsdear": (0, 10 * PREDICTED),
    }  # fmt: skip
    assert [(one.id, one.version) for one in books.journal.opened()] == [(hold.id, 1)]
    hold.move("cheap")
    books.close(hold, Entry(status=200, usage=Usage(1, 1)))
    assert spent(books)["modelsdear"] == (0, 0)
    assert spent(books)["modelscheap"] == (5_000_000, 0)
    books.ledger.flush()
    assert books.journal.free == books.journal.slots


def test_a_move_that_is_refused_changes_nothing(books: Books) -> None:
    """The request can still be closed where it was."""
    hold = books.open(**{**ASK, "chars": 0, "cap": 10**5, "choices": 100})
    before = (hold.destination, hold.amount, hold.price, list(hold.tags), spent(books))
    with pytest.raises(OverBudgetError):
        hold.move("dear")
    assert (hold.destination, hold.amount, hold.price, list(hold.tags)) == before[:4]
    assert spent(books) == {**before[4], "modelsdear": (0, 0)}
    books.close(hold, Entry(status=502))
    assert spent(books)["pool"] == (0, 0)


def test_requests_are_closed_once(books: Books) -> None:
    """A second time is a mistake of the caller, and changes nothing."""
    closed, dropped = books.open(**ASK), books.open(**ASK)
    books.close(closed, Entry(status=200, cost=5))
    books.drop(dropped)
    for hold in (closed, dropped):
        with pytest.raises(InputError, match="hold must be open"):
            books.close(hold, Entry(status=200, cost=5))
        with pytest.raises(InputError, match="hold must be open"):
            books.drop(hold)
        with pytest.raises(InputError, match="hold must be open"):
            hold.move("dear")
    assert spent(books)["pool"] == (5, 0)


def test_a_full_journal_refuses_new_requests_and_loses_none(
    make_store: Callable[..., Store],
) -> None:
    """With every slot taken the next request is told so; those let in are closed and kept."""
    books = make_store(POOL, slots=3).join()
    holds = [books.open(**ASK) for _ in range(3)]
    with pytest.raises(JournalFullError, match="must have a free slot"):
        books.open(**ASK)
    with pytest.raises(JournalFullError):
        holds[0].move("dear")
    assert spent(books)["pool"] == (0, 3 * PREDICTED)
    for hold in holds:
        books.close(hold, Entry(status=200, cost=1))
    assert [row["number"] for row in books.ledger.rows()] == [hold.id for hold in holds]
    books.drop(books.open(**ASK))
    books.stop()


def test_ids_rise_even_if_the_clock_stands_still_or_goes_back(books: Books) -> None:
    """Every request has its own id, later ones a higher one; a far step back is followed."""
    ids = [books.open(**{**ASK, "ms": ms}).id for ms in (NOON, NOON, NOON - 5000, NOON + 1)]
    assert ids == sorted(set(ids))
    assert [id_ >> 21 for id_ in ids] == [NOON, NOON, NOON, NOON + 1]
    assert books.open(**{**ASK, "ms": NOON - 3_600_000}).id >> 21 == NOON - 3_600_000


def test_a_request_belongs_to_the_period_its_id_says(make_store: Callable[..., Store]) -> None:
    """Also where another worker's clock has opened the next period a moment earlier."""
    store = make_store(POOL, workers=2)
    one, two = store.join(0), store.join(1)
    first = one.open(**{**ASK, "ms": NOON + MINUTE})
    late = two.open(**{**ASK, "ms": NOON + MINUTE - 1})
    assert late.id >> 21 == late.ms == NOON + MINUTE
    two.close(late, Entry(status=200, cost=7))
    one.close(first, Entry(status=200, cost=5))
    assert spent(one, NOON + MINUTE) == {"pool": (12, 0)}
    one.stop()
    two.stop()
    store.close()
    books = make_store(POOL, ms=NOON + MINUTE).join()
    assert spent(books, NOON + MINUTE) == {"pool": (12, 0)}
    books.stop()


def test_estimates_learn_from_answers(books: Books) -> None:
    """Answers shorter than predicted lower the next prediction."""
    ask = {**ASK, "cap": None}
    before = books.predict("cheap", 400)
    for _ in range(20):
        books.close(books.open(**ask), Entry(status=200, usage=Usage(100, 1)))
    assert books.predict("cheap", 400) < before / 2
    assert books.predict("dear", 400) == 10 * before


def test_odd_texts_and_names_do_no_harm(books: Books) -> None:
    """Whatever clients and destinations send is kept shortened; a key's name may not be cut."""
    hold = books.open(**{**ASK, "model": "\ud800" + "m" * 10_000})
    entry = Entry(
        status=200, usage=Usage(1, 1), completion_id="\x00é" * 5000, error_type="x" * 5000,
        quality={"cheap": float("nan"), "dear": float("inf")}, predicted={"cheap": 1e-300},
    )  # fmt: skip
    books.close(hold, entry)
    (row,) = books.ledger.rows()
    assert len(row["model"]) <= 256
    assert len(row["completion_id"]) <= 256
    assert row["quality"] == {"cheap": None, "dear": None}
    with pytest.raises(InputError, match="name of the key must be shorter"):
        books.open(**{**ASK, "key": "k" * 1000})


def test_names_that_clients_make_up_do_not_pile_up(books: Books) -> None:
    """However many models are asked for, only a few names are remembered."""
    for i in range(1000):
        books.drop(books.open(**{**ASK, "model": f"model-{i}"}))
    assert len(books._models) <= 256


def test_predictions_that_do_not_fit_are_left_out(books: Books) -> None:
    """More candidates than the pool has: the row is kept, marked, without them."""
    hold = books.open(**ASK)
    many = {f"destination-{i}": 0.5 for i in range(1000)}
    books.close(hold, Entry(status=200, cost=5, quality=many, predicted=many, prompt_chars=3))
    (row,) = books.ledger.rows()
    assert (row["cost_pico"], row["quality"], row["cost"], row["prompt_chars"]) == (5, {}, {}, 3)


def test_what_is_still_open_at_a_stop_is_found_at_the_next_start(
    make_store: Callable[..., Store],
) -> None:
    """Stopping closes no requests by itself."""
    store = make_store(POOL)
    books = store.join()
    hold = books.open(**ASK)
    books.stop()
    books = store.join()
    (row,) = books.ledger.rows()
    assert (row["number"], row["error_type"]) == (hold.id, "gateway_died")
    assert spent(books)["pool"] == (PREDICTED, 0)
    books.stop()


def test_the_newest_requests_are_read_first(books: Books) -> None:
    """For a look at what goes on, without reading everything."""
    for _ in range(5):
        books.close(books.open(**ASK), Entry(status=200, cost=1))
    rows = books.ledger.rows()
    assert reading.latest(books.ledger.path, 2) == [rows[4], rows[3]]

"""Between two tries of which the first may have been charged: no room, and nobody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.desk import Desk
from turnout.serve.guard.key import KeyLimits
from turnout.serve.money.books import Books
from turnout.serve.money.hold import Hold

from .records import kept, told
from .rig import SHORT, Gateway, make_keys, opened, until
from .test_manners import GUESSED, TOLD
from .upstream import BadUpstream

Serve = Callable[..., AbstractContextManager[Gateway]]


# --- no room ---------------------------------------------------------------------------------


def test_a_budget_without_room_ends_it(serve: Serve, bad: BadUpstream) -> None:
    """Nobody else is asked; the one row is that of the failed try, and so is the answer."""
    budget = {"budgets.all": f'usd = {1.5 * GUESSED / 1e12}\nperiod = "total"'}
    with serve("die", "good", **budget) as gateway:
        answer = gateway.chat("die>good")
        assert (answer.status, answer.code) == (502, "truncated")
        (row,) = rows = kept(gateway)
        assert told(rows) == [("die", 502, "truncated", GUESSED)]
        assert (row["id"], row["tries"]) == (answer.id, 1)
        assert gateway.reserved() == 0
    assert bad.counts == {"die": 1}


def test_a_destination_without_money_is_passed_over(serve: Serve, bad: BadUpstream) -> None:
    """The failed try stays open until somebody has room, and is closed once."""
    budgets = {"budgets.none": 'usd = 0\nperiod = "total"\nmodels = ["silent"]'}
    router = 'model = "die"\nfallbacks = 2'
    with serve("die", "silent", "good", router=router, **budgets) as gateway:
        answer = gateway.chat("die>silent>good")
        rows = kept(gateway)
        assert told(rows) == [("die", 502, "truncated", GUESSED), ("good", 200, None, TOLD)]
        assert rows[-1]["id"] == answer.id
    assert bad.counts == {"die": 1, "good": 1}


def test_a_full_journal_ends_it(serve: Serve, bad: BadUpstream) -> None:
    """As a budget without room does."""
    with serve("die", "good") as gateway:
        journal = gateway.desk.books.journal
        taken: list[int] = []

        async def take() -> None:
            taken.extend(journal.claim() for _ in range(journal.free - 1))

        async def give() -> None:
            for slot in taken:
                journal.give_back(slot)

        gateway.run(take())
        answer = gateway.chat("die>good")
        assert (answer.status, answer.code) == (502, "truncated")
        gateway.run(give())
        assert told(kept(gateway)) == [("die", 502, "truncated", GUESSED)]
    assert bad.counts == {"die": 1}


# --- clients that leave ----------------------------------------------------------------------

LEFT = "client_disconnected"


def test_a_client_leaves_while_the_next_try_waits_for_its_turn(
    serve: Serve, bad: BadUpstream
) -> None:
    """There is no new hold yet: the failed try is the last one, and its row says who left."""
    with serve("die", "silent", entries={"silent": "parallel = 1"}) as gateway:
        with closing(opened(gateway, "silent")):
            bad.wait_for_requests(1)
            with closing(opened(gateway, "die>silent")):
                until(lambda: gateway.desk.gate.waiting("silent") == 1)
            until(lambda: gateway.desk.gate.in_hand == 1)
            gateway.desk.books.ledger.flush()
            assert told(gateway.rows()) == [("die", 499, LEFT, GUESSED)]
            assert gateway.reserved() == GUESSED
        assert len(kept(gateway)) == 2
        assert gateway.reserved() == 0
    assert bad.counts == {"die": 1, "silent": 1}


def test_a_client_leaves_while_the_next_try_is_at_work(serve: Serve, bad: BadUpstream) -> None:
    """Both may be charged, and both are."""
    with serve("die", "silent") as gateway:
        with closing(opened(gateway, "die>silent")):
            bad.wait_for_requests(2)
        rows = kept(gateway)
        assert told(rows) == [
            ("die", 502, "truncated", GUESSED),
            ("silent", 499, LEFT, GUESSED),
        ]
        assert gateway.reserved() == 0


@pytest.mark.parametrize("when", ["before", "after", "refused"])
def test_a_client_leaves_in_the_moment_of_the_next_hold(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whatever the moment, what was open is closed once, and nothing stays reserved."""
    reopen = Desk.reopen

    def leaving(self: Desk, hold: Hold, name: str) -> Hold:
        task = asyncio.current_task()
        assert task is not None
        if when != "after":
            task.cancel()
        new = reopen(self, hold, name)
        task.cancel()
        return new

    monkeypatch.setattr(Desk, "reopen", leaving)
    usd = 1.5 * GUESSED / 1e12 if when == "refused" else 1000
    with serve("die", "good", **{"budgets.all": f'usd = {usd}\nperiod = "total"'}) as gateway:
        with closing(opened(gateway, "die>good")) as connection:
            assert connection.recv(100)[:12] in (b"", b"HTTP/1.1 502")
        rows = kept(gateway)
        first = ("die", 502, "truncated", GUESSED)
        assert told(rows) == [first] if when == "refused" else [first, ("good", 499, LEFT, GUESSED)]
        assert gateway.reserved() == 0


def test_books_that_fail_leave_nothing_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the failed try cannot be closed, the hold of the next one is given back."""
    close, times = Books.close, [True]

    def failing(self: Books, hold: Hold, entry: Any) -> int:
        if times:
            times.clear()
            raise RuntimeError
        return close(self, hold, entry)

    monkeypatch.setattr(Books, "close", failing)
    with serve("die", "good") as gateway:
        answer = gateway.chat("die>good")
        assert (answer.status, answer.code) == (500, "internal_error")
        assert told(kept(gateway)) == [("die", 500, "internal_error", GUESSED)]
        assert gateway.reserved() == 0
        assert gateway.desk.books.journal.free == gateway.desk.books.journal.slots


# --- limits of the key -----------------------------------------------------------------------


def limited(gateway: Gateway, name: str) -> int:
    """Where the one limit of a name stands, in nanoseconds of the monotonic clock."""
    rates = gateway.desk.books.rates
    (cell,) = {rate.cell for (found, *_), rate in rates._found.items() if found == name}
    at: int = rates._cells[cell]
    return at


def test_the_client_has_asked_once(serve: Serve, bad: BadUpstream, tmp_path: Path) -> None:
    """A try of the gateway's own takes no request, and tokens without ever being refused."""
    limits = KeyLimits(requests_per_minute=2, tokens_per_minute=60)
    secrets = make_keys(tmp_path, alice={"limits": limits})
    with serve("die", "good", keys='file = "keys.json"') as gateway:
        gateway.headers = {"authorization": f"Bearer {secrets['alice']}"}
        assert gateway.chat("die>good").status == 200
        start = bad.seen[0].at * 1e9  # a moment after the first was let in
        # predicted of the first, 10 read and 256 written, and told of the second
        ahead = (limited(gateway, "tokens_per_minute") - start) / 1e9
        assert 10 + 256 + 11 + 19 - 15 < ahead <= 10 + 256 + 11 + 19 + 1
        ahead = (limited(gateway, "requests_per_minute") - start) / 1e9
        assert 15 < ahead <= 30
        assert {row["key"] for row in kept(gateway)} == {"alice"}
        assert gateway.chat("good").code == "rate_limit_exceeded"
        gateway.headers = {"authorization": f"Bearer {secrets['admin']}"}


def test_tokens_of_a_later_try_count_from_its_own_moment(
    serve: Serve, bad: BadUpstream, tmp_path: Path
) -> None:
    """A limit that has come to rest meanwhile is not asked for less."""
    limits = KeyLimits(tokens_per_minute=60_000_000)
    secrets = make_keys(tmp_path, alice={"limits": limits})
    names = ("silent", "good")
    with serve(*names, entries={"silent": SHORT}, keys='file = "keys.json"') as gateway:
        gateway.headers = {"authorization": f"Bearer {secrets['alice']}"}
        assert gateway.chat("silent>good").status == 200
        first, second = (seen.at * 1e9 for seen in bad.seen)
        assert limited(gateway, "tokens_per_minute") > (first + second) / 2

"""The books of one worker: money is reserved before a request goes out, and settled at its end.

::

    hold = books.open(key="alice", destination="mini", model="auto", chars=1200, cap=400)
    hold.move("grand")                      # the first destination failed
    cost = books.close(hold, Entry(status=200, usage=usage, ...))

The order in which things are written makes a kill harmless at any point between two stores:

- *open*: reserve on the board, then the slot in the journal, then the request goes out. Without a
  slot nothing went out, and what the board shows as reserved is dropped with the worker.
- *close*: row and settlement into the slot, then its state, then the board, then the ledger's
  queue; the slot is freed once the row is in the file. From the state on, settling can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, final

from turnout.core import InputError
from turnout.serve.money import _schema
from turnout.serve.money.entry import COUNTER_BITS, Entry, cut, id_of, rest_of, short
from turnout.serve.money.estimate import Estimator
from turnout.serve.money.hold import Hold, Lane
from turnout.serve.money.journal import Journal, Row, RowTooLongError
from turnout.serve.money.ledger import SQLiteLedger
from turnout.serve.money.prices import Tariff
from turnout.serve.money.purses import Purses
from turnout.serve.money.rates import Rate, Rates
from turnout.serve.money.units import MAX_PICO, Pico

__all__ = ["Books"]

#: How far ids may run ahead of the clock before they follow it back: ten minutes.
_AHEAD = 600_000 << COUNTER_BITS
#: Names asked for that are remembered, and how long each may be.
_MODELS, _LONGEST = 256, 512


@final
class Books:
    """Opens and closes requests; made by `Store.join`.

    Parameters
    ----------
    worker : int
    tariffs : mapping of str to Tariff
        By destination: the pool.
    purses : Purses
    rates : Rates
    journal : Journal
    ledger : SQLiteLedger
        Told by the journal's slots what to keep.
    estimators : mapping of str to Estimator
        By destination.
    floor : int
        Number from which on ids are unused.
    """

    __slots__ = (
        "_estimators", "_lanes", "_last", "_models", "_tariffs", "_worker", "journal", "ledger",
        "purses", "rates",
    )  # fmt: skip

    def __init__(
        self,
        worker: int,
        tariffs: Mapping[str, Tariff],
        purses: Purses,
        rates: Rates,
        journal: Journal,
        ledger: SQLiteLedger,
        estimators: Mapping[str, Estimator],
        floor: int,
    ) -> None:
        self.purses = purses
        self.rates = rates
        self.journal = journal
        self.ledger = ledger
        self._worker = worker
        self._tariffs = dict(tariffs)
        self._estimators = estimators
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._models: dict[str, str] = {}
        self._last = max(floor, journal.last)

    def predict(
        self, destination: str, chars: int, cap: int | None = None, choices: int = 1
    ) -> Pico:
        """What a request would be expected to cost now, in pico-dollars; parameters as `open`."""
        read, written = self._estimators[destination].tokens(chars, cap, choices)
        price = self._tariffs[destination].at(time.time_ns() // 1_000_000)
        return min(price.cost(read, written), MAX_PICO)

    def open(
        self,
        *,
        key: str,
        destination: str,
        model: str,
        chars: int,
        cap: int | None = None,
        choices: int = 1,
        stream: bool = False,
        rates: Sequence[tuple[Rate, int]] = (),
        token_rates: Sequence[Rate] = (),
        ms: int | None = None,
    ) -> Hold:
        """Let a request in, with the predicted cost reserved in every purse it touches.

        Parameters
        ----------
        key : str
            Name of the client's key; empty where there is none.
        destination : str
            In the pool.
        model : str
            What the client asked for.
        chars : int
            Characters of the request's messages.
        cap : int, optional
            Most output tokens the request allows; see `output_cap`.
        choices : int
            Answers asked for (`n`).
        stream : bool
        rates : sequence of (Rate, int)
            Units to take of rate limits.
        token_rates : sequence of Rate
            Limits of tokens: take the predicted ones, corrected at the end.
        ms : int, optional
            Now, milliseconds since 1970; the clock's unless given.

        Raises
        ------
        OverBudgetError, RateExceededError
            A budget or a rate limit does not let it in; nothing was taken.
        JournalFullError
            Too many requests are in flight or not yet written; nothing was taken.
        InputError
            The key's name is too long.
        """
        lane = self._lanes.get((key, destination)) or self._lane(key, destination)
        number = (time.time_ns() // 1_000_000 if ms is None else ms) << COUNTER_BITS
        if number <= self._last:
            number = self._after_last(number)
        ms = number >> COUNTER_BITS
        hold = Hold()
        hold._move = self.move
        known = self._models.get(model)
        hold.model = self._model(model) if known is None else known
        hold.chars, hold.cap, hold.choices, hold.stream = chars, cap, choices, stream
        hold.cost, hold.estimated, hold.moves = None, False, 0
        hold.token_rates = token_rates
        self._price(hold, lane, ms)
        wanted = rates
        if token_rates:
            tokens = hold.input_tokens + hold.output_tokens
            wanted = [*rates, *[(rate, tokens) for rate in token_rates]]
        slot = self.journal.claim()
        try:
            if wanted or lane.purses:
                now = time.monotonic_ns() if wanted else 0
                charged = self.purses.reserve(lane.purses, hold.amount, ms, wanted, self.rates, now)
                if charged != ms:  # in the next period already
                    ms = charged
                    number = ms << COUNTER_BITS
        except BaseException:
            self.journal.give_back(slot)
            raise
        self._last = number
        hold.ms, hold.slot = ms, slot
        hold.id = id_of(number, self._worker)
        hold.tags = [purse.tag for purse in lane.purses]
        try:
            self.journal.open(slot, number, self._head(hold), lane.tail)
        except BaseException:
            self.purses.release(lane.purses, hold.tags, hold.amount)
            self.journal.give_back(slot)
            raise
        return hold

    def move(self, hold: Hold, destination: str) -> None:
        """As `Hold.move`."""
        _check_open(hold)
        new = self._lanes.get((hold.key, destination)) or self._lane(hold.key, destination)
        old = (hold.lane, hold.price, hold.amount, hold.input_tokens, hold.output_tokens)
        slot = self.journal.claim()
        try:
            self._price(hold, new, hold.ms)
            hold.tags = self.purses.move(
                old[0].purses, hold.tags, old[2], new.purses, hold.amount, hold.ms
            )
        except BaseException:
            hold.lane, hold.price, hold.amount, hold.input_tokens, hold.output_tokens = old
            self.journal.give_back(slot)
            raise
        hold.moves += 1
        self.journal.fill_open(slot, self._head(hold), new.tail)
        self.journal.mark_open(slot, hold.moves)
        self.journal.clear((hold.slot,))
        hold.slot = slot

    def close(self, hold: Hold, entry: Entry) -> Pico:
        """Settle a request with what it has cost, and keep it; returns the cost in pico-dollars.

        Raises
        ------
        InputError
            It is closed already.
        """
        _check_open(hold)
        lane = hold.lane
        cost = self._cost(hold, entry)
        flags = (_schema.STREAM if hold.stream else 0) | (
            _schema.ESTIMATED if hold.estimated else 0
        )
        rest = rest_of(entry, hold.model, hold.price.version, lane.budgets, hold.chars)
        row: Row = (hold.id, lane.key, lane.destination, entry.status, cost, flags, rest)
        settlement = self.purses.settlement(lane.purses, hold.tags, hold.amount, cost)
        try:
            self.journal.close(hold.slot, row, settlement)
        except RowTooLongError:
            row = cut(row)
            self.journal.close(hold.slot, row, settlement)
        self.purses.settle(settlement)
        slot, hold.slot = hold.slot, -1
        hold.cost = cost
        self.ledger.record(row, slot)
        usage = entry.usage
        if usage is not None:
            read, written, _ = usage
            lane.estimator.learn(hold.chars, read, written, hold.choices)
            for rate in hold.token_rates:
                self.rates.give(rate, read + written - hold.input_tokens - hold.output_tokens)
        return cost

    def drop(self, hold: Hold) -> None:
        """Give the reservation back without a trace: the request never went out.

        Raises
        ------
        InputError
            It is closed already.
        """
        _check_open(hold)
        slot, hold.slot = hold.slot, -1
        self.journal.clear((slot,))
        self.purses.release(hold.lane.purses, hold.tags, hold.amount)
        for rate in hold.token_rates:
            self.rates.give(rate, -(hold.input_tokens + hold.output_tokens))

    def stop(self) -> None:
        """Write what is left and let go of the files; what is still open stays in the journal."""
        self.ledger.close()
        self.journal.shut()
        self.purses.close()

    def _lane(self, key: str, destination: str) -> Lane:
        if short(key) != key:
            rule, hint = "be shorter", "Give it a name of at most 128 letters."
            raise InputError("name of the key", rule, key[:32], hint)
        purses = self.purses.of(key, destination)
        tariff, estimator = self._tariffs[destination], self._estimators[destination]
        made = self._lanes[key, destination] = Lane(key, destination, purses, tariff, estimator)
        return made

    def _model(self, model: str) -> str:
        """What is kept of the name a client asked for."""
        if len(self._models) >= _MODELS:
            self._models.clear()  # clients can ask for anything
        known = self._models[model[:_LONGEST]] = short(model)
        return known

    def _after_last(self, number: int) -> int:
        """The number after the last one, unless the clock was set far back."""
        return number if self._last - number > _AHEAD else self._last + 1

    def _price(self, hold: Hold, lane: Lane, ms: int) -> None:
        """Predict tokens and cost."""
        read, written = lane.estimator.tokens(hold.chars, hold.cap, hold.choices)
        price = lane.tariff.at(ms)
        amount = price.cost(read, written)
        hold.lane, hold.price = lane, price
        hold.input_tokens, hold.output_tokens = read, written
        hold.amount = amount if amount < MAX_PICO else MAX_PICO

    def _cost(self, hold: Hold, entry: Entry) -> Pico:
        """What was told, else what its tokens cost, else an estimate, else nothing."""
        cost = entry.cost
        if cost is None:
            usage = entry.usage
            if usage is not None:
                cost = hold.price.cost(*usage)
            elif entry.charged:
                hold.estimated = True
                written = max(hold.output_tokens, entry.seen)
                cost = hold.price.cost(hold.input_tokens, written)
            else:
                cost = 0
        return 0 if cost < 0 else cost if cost < MAX_PICO else MAX_PICO

    def _head(self, hold: Hold) -> list[Any]:
        """What the ledger is to know if nobody closes the request; see `entry.orphan`."""
        version, tries = hold.price.version, hold.moves + 1
        return [
            hold.id, hold.amount, hold.tags, hold.model, hold.chars, hold.stream, version, tries,
        ]  # fmt: skip


def _check_open(hold: Hold) -> None:
    if hold.slot < 0:
        raise InputError("hold", "be open", "a closed one", "Close each request once.")

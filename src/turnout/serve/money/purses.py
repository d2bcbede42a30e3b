"""Hard budgets: money is reserved before a request is let in, and settled when its cost is known.

A budget rule makes one purse for the pool, for each key or for each model, anew each calendar
period (UTC). A request touches one purse of each rule that applies to it. It is let in while, in
each of them,

    spent + reserved + predicted <= limit      and      spent + reserved < limit,

checked and reserved over all workers under one lock, in all purses or in none. Settling needs no
lock: a worker replaces its own reservation by the cost in a single store.

A request belongs to the period it was let in at, however long it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import final

from turnout.core import _check
from turnout.serve.money._lock import Lock
from turnout.serve.money.board import Board
from turnout.serve.money.budgets import BudgetRule, OverBudgetError, PurseState
from turnout.serve.money.periods import FOREVER
from turnout.serve.money.purse import Purse
from turnout.serve.money.rates import Rate, RateExceededError, Rates
from turnout.serve.money.units import MAX_PICO, Pico

__all__ = ["Purses"]

#: Seconds after which to ask again where only requests in flight stand in the way.
_SOON = 1.0


@final
class Purses:
    """The budgets as one worker sees them.

    Parameters
    ----------
    board : Board
    rules : sequence of BudgetRule
        With different names.
    worker : int
        Whose column to write; -1 for what was spent before the start.
    lock : Lock
        Of the board.
    generations : mapping of str to int
        Those of the rules, by name, where one was changed since the board was made: a rule that
        has changed has other purses.

    Raises
    ------
    InputError
        Two rules have one name.
    """

    __slots__ = (
        "_board", "_bytes", "_cells", "_columns", "_generations", "_lock", "_of", "_purses",
        "_rules", "_seen", "_unpack", "_worker",
    )  # fmt: skip

    def __init__(
        self,
        board: Board,
        rules: Sequence[BudgetRule],
        worker: int = 0,
        lock: Lock | None = None,
        generations: Mapping[str, int] | None = None,
    ) -> None:
        if rules:
            _check.names("budgets", [rule.name for rule in rules], what="budget")
        self._board = board
        self._cells = board.cells
        self._unpack, self._bytes = board.reader()
        self._columns = board.workers + 1
        self._generations = dict(generations or {})
        self._rules = tuple(rules)
        self._worker = worker
        self._lock = lock or Lock()
        self._purses: dict[str, Purse] = {}
        self._seen: dict[int, Purse | None] = {}
        self._of: dict[tuple[str, str], tuple[Purse, ...]] = {}

    def of(self, key: str, destination: str) -> tuple[Purse, ...]:
        """The purses that a key's request to a destination touches.

        Raises
        ------
        BoardFullError
            One of them is new and the board has no room.
        """
        known = self._of.get((key, destination))
        if known is None:
            found = []
            for rule in self._rules:
                holder = rule.holder(key, destination)
                if holder is not None:
                    found.append(self._purse(rule, holder))
            known = self._of[key, destination] = tuple(found)
        return known

    def reserve(
        self,
        purses: Sequence[Purse],
        amount: Pico,
        ms: int,
        rates: Sequence[tuple[Rate, int]] = (),
        limits: Rates | None = None,
        now_ns: int = 0,
    ) -> int:
        """Set money aside in all of the purses, and take units of all rate limits, or do nothing.

        Parameters
        ----------
        purses : sequence of Purse
        amount : int
            Pico-dollars, >= 0.
        ms : int
            Now, milliseconds since 1970.
        rates, limits, now_ns
            As `Rates.take`; checked under the same lock.

        Returns
        -------
        int
            The moment the request belongs to: `ms`, or the start of the next period where another
            worker, whose clock reading was later, has already opened it.

        Raises
        ------
        OverBudgetError
            One of the purses has no room.
        RateExceededError
            One of the rate limits has no room.
        """
        cells = self._cells
        unpack, memory, count = self._unpack, self._bytes, self._columns
        full = short = None
        self._lock.take()
        try:
            if rates and limits is not None:
                short = limits.short(rates, now_ns)
            while short is None:
                later = 0
                for purse in purses:
                    if not purse.start <= ms < purse.end:
                        purse.turn(ms)
                    both = unpack(memory, purse.place)
                    if both[:count] != purse.seen:
                        purse.look(both[:count])
                    if purse.ahead:
                        later = purse.end
                        break
                    taken = 0
                    for i in purse.live:
                        taken += both[i]
                    if taken >= purse.limit or taken + amount > purse.limit:
                        full = purse
                        break
                if not later:
                    break
                ms = later
            if short is None and full is None:
                for purse in purses:
                    if not purse.mine:
                        self._begin(purse)
                    cells[purse.taken] = cells[purse.taken] + amount
                if rates and limits is not None:
                    limits.advance(rates, now_ns)
        finally:
            self._lock.drop()
        if short is not None:
            raise RateExceededError(short[0].name, short[1] / 1e9)
        if full is not None:
            raise self._refusal(full, amount, ms)
        return ms

    def move(
        self,
        old: Sequence[Purse],
        tags: Sequence[int],
        old_amount: Pico,
        new: Sequence[Purse],
        new_amount: Pico,
        ms: int,
    ) -> list[int]:
        """Exchange one reservation for another, in all purses or in none.

        The request keeps its moment `ms`. A purse whose period has meanwhile ended is over: nothing
        is checked there.

        Returns
        -------
        list of int
            Tags of the new purses, for `settlement`.

        Raises
        ------
        OverBudgetError
            One of the new purses has no room; the old reservation stands.
        """
        cells = self._cells
        before = {
            purse.taken: old_amount
            for purse, tag in zip(old, tags, strict=True)
            if cells[purse.own] == tag
        }
        full = None
        found = []
        self._lock.take()
        try:
            for purse in new:
                purse.turn(ms)
                found.append(purse.tag)
                if cells[purse.own] > purse.tag:
                    continue
                more = new_amount - before.get(purse.taken, 0)
                taken = self._taken(purse)
                if more > 0 and taken + more > purse.limit:
                    full = purse
                    break
            else:
                for cell in before:
                    cells[cell] = cells[cell] - old_amount
                for purse in new:
                    if cells[purse.own] < purse.tag:
                        self._begin(purse)
                    if cells[purse.own] == purse.tag:
                        cells[purse.taken] = cells[purse.taken] + new_amount
        finally:
            self._lock.drop()
        if full is not None:
            raise self._refusal(full, new_amount, ms)
        return found

    def settlement(
        self, purses: Sequence[Purse], tags: Sequence[int], amount: Pico, cost: Pico
    ) -> list[tuple[int, int, Pico, Pico]]:
        """What settling will write: cell, tag, what will then be settled there, and taken.

        Purses whose period is over are left out. Because it holds sums and not differences, what
        is settled can be written again after a kill without harm.

        Parameters
        ----------
        purses : sequence of Purse
        tags : sequence of int
            Of the periods it was reserved in.
        amount, cost : int
            Pico-dollars reserved, and spent.
        """
        cells = self._cells
        more = cost - amount
        found = []
        for i, purse in enumerate(purses):
            own = purse.own
            if cells[own] == tags[i]:
                settled = cells[purse.settled] + cost
                taken = cells[purse.taken] + more
                if settled > MAX_PICO or taken > MAX_PICO:
                    settled, taken = min(settled, MAX_PICO), min(taken, MAX_PICO)
                found.append((own, tags[i], settled, taken))
        return found

    def settle(self, settlement: Iterable[tuple[int, int, Pico, Pico]]) -> None:
        """Write a settlement; nothing else has been reserved since it was made."""
        cells, to_taken, to_settled = self._cells, self._board.taken, self._board.settled
        for own, _, settled, taken in settlement:
            cells[own + to_taken] = taken
            cells[own + to_settled] = settled

    def release(self, purses: Sequence[Purse], tags: Sequence[int], amount: Pico) -> None:
        """Give a reservation back; nothing was spent."""
        cells = self._cells
        for i, purse in enumerate(purses):
            if cells[purse.own] == tags[i]:
                cells[purse.taken] = cells[purse.taken] - amount

    def state(self, purse: Purse, ms: int) -> PurseState:
        """What is in a purse at a moment."""
        if not purse.start <= ms < purse.end:
            purse.turn(ms)
        first = purse.own - self._worker - 1
        tags = range(first, first + self._columns)
        cells, to_settled = self._cells, self._board.settled
        spent = sum(cells[tag + to_settled] for tag in tags if cells[tag] == purse.tag)
        return PurseState(
            budget=purse.rule.name,
            per=purse.rule.per,
            holder=purse.holder,
            period=purse.rule.period,
            limit=purse.limit,
            spent=spent,
            reserved=max(self._taken(purse) - spent, 0),
            ends_ms=purse.end,
        )

    def states(self, ms: int) -> Iterator[PurseState]:
        """What is in every purse of these rules that any worker has used."""
        for at in self._board.used():
            if at not in self._seen:
                self._seen[at] = self._at(at)
            purse = self._seen[at]
            if purse is not None:
                yield self.state(purse, ms)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def load(self, rule: BudgetRule, holder: str, ms: int, spent: Pico) -> None:
        """Set what this worker's column says was spent in the period of a moment."""
        purse = self._purse(rule, holder)
        purse.turn(ms)
        self._begin(purse)
        self._cells[purse.settled] = self._cells[purse.taken] = min(spent, MAX_PICO)

    def _name(self, rule: BudgetRule, holder: str) -> str:
        """Name of a purse on the board; a rule for other periods, say, has other purses."""
        generation = str(self._generations.get(rule.name, 0))
        return "\0".join((rule.name, rule.period, rule.per, generation, holder))

    def _purse(self, rule: BudgetRule, holder: str) -> Purse:
        name = self._name(rule, holder)
        known = self._purses.get(name)
        if known is None:
            at = self._board.purse(name)
            if at < 0:
                self._lock.take()
                try:
                    at = self._board.add_purse(name)
                finally:
                    self._lock.drop()
            known = self._purses[name] = Purse(rule, holder, self._board, at, self._worker)
        return known

    def _at(self, at: int) -> Purse | None:
        """The purse at a place of the board, if it is one of these rules'."""
        name = self._board.name(at)
        head, _, holder = name.rpartition("\0")
        for rule in self._rules:
            if self._name(rule, "") == f"{head}\0" and self._board.purse(name) == at:
                return self._purse(rule, holder)
        return None

    def _begin(self, purse: Purse) -> None:
        """Start this worker's column anew."""
        cells = self._cells
        cells[purse.taken] = 0
        cells[purse.settled] = 0
        cells[purse.own] = purse.tag  # last: until now the column counted as nothing

    def _taken(self, purse: Purse) -> Pico:
        """What is taken over all columns of the purse's period."""
        both, count = self._unpack(self._bytes, purse.place), self._columns
        return sum(both[i + count] for i in range(count) if both[i] == purse.tag)

    def _refusal(self, purse: Purse, asked: Pico, ms: int) -> OverBudgetError:
        state = self.state(purse, ms)
        wait: float | None
        if asked > state.limit or state.limit == 0:
            wait = None
        elif state.spent < state.limit and state.spent + asked <= state.limit:
            wait = _SOON
        elif state.ends_ms >= FOREVER:
            wait = None
        else:
            wait = max((state.ends_ms - ms) / 1000, _SOON)
        return OverBudgetError(state, asked, wait)

"""One purse of a budget, as one worker sees it."""

from __future__ import annotations

from typing import final

from turnout.serve.money.board import Board
from turnout.serve.money.budgets import BudgetRule
from turnout.serve.money.periods import bounds

__all__ = ["Purse"]


@final
class Purse:
    """Where a purse is on the board, and the period that was last looked at.

    Parameters
    ----------
    rule : BudgetRule
    holder : str
        Key or model; empty for the whole pool.
    board : Board
    at : int
        Its place.
    worker : int
        Whose column is the own one.

    Attributes
    ----------
    limit : int
        Pico-dollars.
    own, taken, settled : int
        Cells of this worker's column.
    place : int
        Where all columns are, in bytes.
    start, end : int
        Milliseconds since 1970.
    tag, next_tag : int
        Starts of this period and of the one after it, in seconds.
    seen : tuple of int
        Tags of all columns, as last looked at, and what follows from them:
    live : tuple of int
        Where the amounts of this period stand, in what is read of the board.
    mine, ahead : bool
        This worker's column is of this period; some column is of the next.
    """

    __slots__ = (
        "_column",
        "ahead",
        "end",
        "holder",
        "limit",
        "live",
        "mine",
        "next_tag",
        "own",
        "place",
        "rule",
        "seen",
        "settled",
        "start",
        "tag",
        "taken",
    )  # fmt: skip

    def __init__(self, rule: BudgetRule, holder: str, board: Board, at: int, worker: int) -> None:
        self.rule = rule
        self.holder = holder
        self.limit = rule.limit
        self.own = board.column(at, worker)
        self.taken = self.own + board.taken
        self.settled = self.own + board.settled
        self.place = board.place(at)
        self._column = worker + 1
        self.start = self.end = self.tag = self.next_tag = 0
        self.seen: tuple[int, ...] = ()
        self.live: tuple[int, ...] = ()
        self.mine = self.ahead = False

    def turn(self, ms: int) -> None:
        """Look at the period that holds a moment."""
        self.start, self.end = bounds(self.rule.period, ms)
        self.tag, self.next_tag = self.start // 1000, self.end // 1000
        self.seen = ()

    def look(self, tags: tuple[int, ...]) -> None:
        """Take in the tags of all columns, which seldom change."""
        count = len(tags)
        self.seen = tags
        self.live = tuple(i + count for i in range(count) if tags[i] == self.tag)
        self.mine = tags[self._column] == self.tag
        self.ahead = self.next_tag in tags

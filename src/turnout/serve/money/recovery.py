"""Puts right what a killed worker left: the journal says what was under way, the board follows."""

from __future__ import annotations

from turnout.serve.money.board import Board
from turnout.serve.money.entry import orphan
from turnout.serve.money.journal import Closed, Journal
from turnout.serve.money.units import MAX_PICO

__all__ = ["salvage"]


def salvage(journal: Journal, board: Board | None = None, worker: int = 0) -> list[Closed]:
    """Close what was in flight, settle what was closed, and return what is to be kept, in order.

    It can be killed at any point itself, and repeated: every store writes what the next attempt
    would write again. No lock is needed, because nobody else writes a worker's column. Without a
    board only the journal is put right, for a ledger from which the board will be rebuilt.

    Parameters
    ----------
    journal : Journal
        Of the killed worker; its slots stay taken until the rows are in the ledger's file.
    board : Board, optional
    worker : int
        Whose column it was.
    """
    closed = journal.closed()
    if board is not None:
        for old in closed:
            _settle(board, old.settlement)
    done = {old.row[0] for old in closed}
    opened = journal.opened()
    newest = {one.id: one for one in opened}  # of one that was moving, the slot it moved to
    journal.clear(one.slot for one in opened if one.id in done or newest[one.id] is not one)
    for one in newest.values():
        if one.id in done:
            continue
        settlement = []
        if board is not None:
            settlement = [
                (column, tag, min(board.cells[column + board.settled] + one.amount, MAX_PICO))
                for column, tag in one.purses
                if board.cells[column] == tag
            ]
        journal.close(one.slot, orphan(one), [(*move, 0) for move in settlement])
        if board is not None:
            _settle(board, settlement)
    if board is not None:
        for place in board.used():
            column = board.column(place, worker)
            board.cells[column + board.taken] = board.cells[column + board.settled]
    return journal.closed()


def _settle(board: Board, settlement: list[tuple[int, int, int]]) -> None:
    """Write sums, not differences, so that twice is as good as once."""
    for column, tag, settled in settlement:
        if board.cells[column] == tag:
            board.cells[column + board.settled] = settled

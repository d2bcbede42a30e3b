from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import ConfigError, InputError
from turnout.serve.money import board as board_module
from turnout.serve.money._lock import Claim, Lock
from turnout.serve.money.board import Board, BoardFullError
from turnout.serve.money.rates import RateExceededError, Rates

SECOND = 10**9


def test_two_views_of_one_memory_find_the_same_purses() -> None:
    """What one adds the other finds, in the same place, under its whole name."""
    buffer = bytearray(10**6)
    one = Board(workers=2, purses=8, rates=2, buffer=buffer)
    other = Board(workers=2, purses=8, rates=2, buffer=buffer)
    names = [f"budget {i}\0day\0key\0größe" for i in range(8)]
    assert all(other.purse(name) < 0 for name in names)
    places = [one.add_purse(name) for name in names]
    assert len(set(places)) == 8
    assert [other.purse(name) for name in names] == places
    assert [other.add_purse(name) for name in names] == places
    assert sorted(map(other.name, other.used())) == sorted(names)


def test_columns_do_not_overlap() -> None:
    """Every cell of every column of every purse, and every rate, is a cell of its own."""
    board = Board(workers=3, purses=4, rates=4, buffer=bytearray(10**5))
    cells = [board.rate(f"r{i}") for i in range(4)]
    for i in range(4):
        for worker in range(-1, 3):
            column = board.column(board.add_purse(f"p{i}"), worker)
            cells += [column, column + board.settled, column + board.taken]
    assert len(set(cells)) == len(cells) == 4 + 4 * 4 * 3
    for cell in cells:
        assert board.cells[cell] == 0
    before = [board.name(at) for at in board.used()]
    for cell in cells:
        board.cells[cell] = -1
    assert [board.name(at) for at in board.used()] == before


def test_a_full_board_says_so() -> None:
    """One purse or rate too many is refused by name, the others stay."""
    board = Board(purses=2, rates=1, buffer=bytearray(10**4))
    places = [board.add_purse(name) for name in ("a", "b")]
    with pytest.raises(BoardFullError, match="room for more than 2 purses; got 'c'"):
        board.add_purse("c")
    board.rate("a")
    with pytest.raises(BoardFullError, match="room for more than 1 rates"):
        board.rate("b")
    assert [board.purse(name) for name in ("a", "b")] == places
    assert board.purse("c") < 0


def test_a_board_of_another_shape_is_refused() -> None:
    """Workers have to agree on the numbers; memory that is too small or something else fails."""
    buffer = bytearray(10**5)
    Board(workers=2, purses=8, rates=2, buffer=buffer)
    with pytest.raises(ConfigError, match="be one of the same shape"):
        Board(workers=1, purses=8, rates=2, buffer=buffer)
    with pytest.raises(ConfigError, match="board must have"):
        Board(workers=2, purses=800, rates=2, buffer=bytearray(100))
    with pytest.raises(ConfigError, match="be one of the same shape"):
        Board(purses=1, rates=1, buffer=bytearray(b"x" * 1000))
    with pytest.raises(InputError, match="workers must"):
        Board(workers=0)


def test_purses_are_told_apart_by_both_halves_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that share one half, or the place it leads to, are purses of their own."""
    board = Board(purses=4, rates=4, buffer=bytearray(10**4))
    hashes = {"a": (8, 1), "b": (8, 2), "c": (4, 1), "d": (8, 3)}
    monkeypatch.setattr(board_module, "_hash", hashes.__getitem__)
    places = [board.add_purse(name) for name in hashes]
    assert len(set(places)) == 4
    assert [board.purse(name) for name in hashes] == places


def test_forked_processes_share_a_board() -> None:
    """The default memory is the same for a child that was forked after it was made."""
    board = Board(workers=2, purses=4, rates=4)
    place = board.add_purse("a")
    pid = os.fork()
    if not pid:
        board.cells[board.column(place, 1)] = 7
        board.add_purse("b")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert board.cells[board.column(place, 1)] == 7
    assert board.purse("b") >= 0
    assert isinstance(board._bytes.obj, mmap.mmap)


def test_a_lock_is_held_by_one_and_given_back_by_the_kernel(tmp_path: Path) -> None:
    """Two openings of one file exclude each other; a killed holder lets go."""
    path = tmp_path / "lock"
    first = Claim(path, "it", "wait")
    with pytest.raises(ConfigError, match="it must be in use by nobody else"):
        Claim(path, "it", "wait")
    first.close()
    ready, said = os.pipe()
    pid = os.fork()
    if not pid:
        Lock(path).take()
        os.write(said, b"!")
        os.read(os.pipe()[0], 1)  # until it is killed
        os._exit(0)
    assert os.read(ready, 1) == b"!"
    with pytest.raises(ConfigError):
        Claim(path, "it", "wait")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    lock = Lock(path)
    lock.take()
    lock.drop()
    lock.close()
    lock.close()
    for end in (ready, said):
        os.close(end)
    with pytest.raises(ConfigError, match="be a file that can be opened"):
        Claim(tmp_path / "none" / "lock", "it", "wait")


@pytest.fixture
def rates() -> Rates:
    return Rates(Board(purses=1, rates=16, buffer=bytearray(10**4)), Lock())


def test_a_rate_admits_the_burst_and_then_its_pace(rates: Rates) -> None:
    """60 a minute with a burst of 5: five at once, then one a second; the wait told is exact."""
    rate = rates.find("calls", "alice", 60, burst=5)
    now = 1000 * SECOND
    for left in range(5, 0, -1):
        assert rates.left(rate, now) == left
        rates.take([(rate, 1)], now)
    with pytest.raises(RateExceededError, match=r"'calls' must have room.*in 1 s") as caught:
        rates.take([(rate, 1)], now)
    assert caught.value.wait_s == 1.0
    rates.take([(rate, 1)], now + SECOND)
    with pytest.raises(RateExceededError):
        rates.take([(rate, 1)], now + SECOND)
    assert rates.left(rate, now + 600 * SECOND) == 5


def test_several_limits_are_taken_all_or_none(rates: Rates) -> None:
    """A refusal by one leaves the other as it was, and names the one to wait for longest."""
    calls, tokens = rates.find("calls", "a", 60), rates.find("tokens", "a", 600)
    rates.take([(calls, 1), (tokens, 600)], 0)
    with pytest.raises(RateExceededError) as caught:
        rates.take([(calls, 1), (tokens, 50)], 0)
    assert (caught.value.name, caught.value.wait_s) == ("tokens", 5.0)
    assert rates.left(calls, 0) == 59
    for order in ((calls, tokens), (tokens, calls)):
        with pytest.raises(RateExceededError) as caught:
            rates.take([(rate, 400) for rate in order], 0)
        assert (caught.value.name, caught.value.wait_s) == ("tokens", 40.0)
    rates.give(tokens, -600)
    assert rates.left(tokens, 0) == 600
    rates.give(tokens, 0)
    rates.give(tokens, 60)
    assert rates.left(tokens, 0) == 540


def test_whoever_wants_more_than_the_burst_waits_for_all_of_it(rates: Rates) -> None:
    """A request of more tokens than fit at once is let in when all are there, not never."""
    tokens = rates.find("tokens", "a", 60)
    rates.take([(tokens, 600)], 0)
    with pytest.raises(RateExceededError) as caught:
        rates.take([(tokens, 600)], 0)
    assert caught.value.wait_s == 600
    rates.take([(tokens, 600)], 600 * SECOND)


def test_holders_count_apart_and_limits_are_found_again(rates: Rates) -> None:
    """The same name and holder is the same cell, also after its figure changed."""
    assert rates.find("calls", "a", 60).cell == rates.find("calls", "a", 90).cell
    assert rates.find("calls", "a", 60) is rates.find("calls", "a", 60)
    assert rates.find("calls", "a", 60).cell != rates.find("calls", "b", 60).cell
    for wrong in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(InputError, match="must be a finite number"):
            rates.find("other", "a", *wrong)


@settings(max_examples=50)
@given(st.data())
def test_no_window_ever_sees_more_than_burst_and_pace(data: st.DataObject) -> None:
    """In any span of t seconds at most burst + t * rate units are let in, whatever is asked."""
    rates = Rates(Board(purses=1, rates=4, buffer=bytearray(10**4)), Lock())
    rate = rates.find("calls", "a", 120, burst=10)
    now, taken = 0, []
    steps = st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 10))
    for wait, units in data.draw(st.lists(steps, max_size=30)):
        now += wait
        short = units - rates.left(rate, now)
        if short > 1e-9:
            with pytest.raises(RateExceededError) as caught:
                rates.take([(rate, units)], now)
            assert caught.value.wait_s == pytest.approx(short / 2, abs=1e-6)
        else:
            rates.take([(rate, units)], now)
            taken.append((now, units))
    for i, (start, _) in enumerate(taken):
        for end, _ in taken[i:]:
            inside = sum(units for at, units in taken if start <= at <= end)
            assert inside <= 10 + (end - start) / SECOND * 2 + 1e-6


def test_absurd_amounts_do_not_overflow(rates: Rates) -> None:
    """A hundred million tokens at one a minute take a very long time, and no error."""
    rate = rates.find("tokens", "a", 0.001)
    rates.take([(rate, 10**8)], 0)
    rates.give(rate, 10**8)
    assert rates.left(rate, 0) == 0

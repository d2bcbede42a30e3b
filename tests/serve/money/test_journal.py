from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve.money.journal import Journal, JournalFullError, RowTooLongError


def row(id_: int, cost: int = 5, rest: str = '["größe"]') -> Any:
    return (id_, "alice", "cheap", 200, cost, 1, rest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker-0.journal"


def open_(journal: Journal, number: int, head: list[Any], tail: bytes) -> int:
    """Open a request in a slot of its own."""
    slot = journal.claim()
    try:
        journal.open(slot, number, head, tail)
    except RowTooLongError:
        journal.give_back(slot)
        raise
    return slot


def again(journal: Journal) -> Journal:
    """The same file, opened anew, as after a kill."""
    journal.shut()
    return Journal(journal.path)


def test_what_was_written_is_there_after_opening_anew(path: Path) -> None:
    """Requests in flight, closed ones in the order of closing, the last number, the shape."""
    journal = Journal(path, slots=8, open_bytes=512, row_bytes=1024)
    slots = [open_(journal, 70 + i, [i, 10 * i, [100, 200], "m"], b'[[7,8],"k"]') for i in range(4)]
    journal.close(slots[2], row(2), [(7, 100, 55, 60)])
    journal.close(slots[1], row(1), [])
    journal = again(journal)
    assert (journal.slots, journal.free, journal.last) == (8, 4, 73)
    assert [one.row for one in journal.closed()] == [row(2), row(1)]
    assert journal.closed()[0].settlement == [(7, 100, 55)]
    opened = {one.id: one for one in journal.opened()}
    assert set(opened) == {0, 3}
    assert opened[3].amount == 30
    assert opened[3].purses == [(7, 100), (8, 200)]
    assert opened[3].about == ["m", "k"]
    journal.close(slots[3], row(3), [])
    assert [one.row[0] for one in journal.closed()] == [2, 1, 3]
    journal.clear([slots[2], slots[1]])
    assert [one.row[0] for one in again(journal).closed()] == [3]


def test_the_newer_slot_of_a_moving_request_comes_last(path: Path) -> None:
    """A kill between taking the new slot and leaving the old one leaves both."""
    journal = Journal(path, slots=8)
    other, first = (open_(journal, i, [i, 10, [], "a"], b"[[]]") for i in range(2))
    journal.clear([other])
    slot = journal.claim()
    assert slot < first
    journal.fill_open(slot, [1, 20, [], "a"], b"[[]]")
    journal.mark_open(slot, 1)
    assert [(one.version, one.amount) for one in again(journal).opened()] == [(0, 10), (1, 20)]


def test_without_a_free_slot_nothing_is_opened(path: Path) -> None:
    """The refusal is clear, and a slot that is freed is used again."""
    journal = Journal(path, slots=2)
    slots = [open_(journal, i, [i, 0, []], b"[[]]") for i in range(2)]
    with pytest.raises(JournalFullError, match="journal must have a free slot; got '2 requests"):
        open_(journal, 3, [3, 0, []], b"[[]]")
    journal.clear(slots[:1])
    assert open_(journal, 4, [4, 0, []], b"[[]]") == slots[0]
    journal.shut()


def test_what_does_not_fit_is_not_half_written(path: Path) -> None:
    """A row beyond its room leaves the slot open; a request beyond it leaves it free."""
    journal = Journal(path, slots=2, open_bytes=256, row_bytes=256)
    slot = open_(journal, 1, [1, 0, []], b"[[]]")
    with pytest.raises(RowTooLongError, match="row must take at most 256 bytes"):
        journal.close(slot, row(1, rest="x" * 256), [])
    with pytest.raises(RowTooLongError):
        open_(journal, 2, [2, 0, [], "x" * 256], b"[[]]")
    assert journal.free == 1
    assert [one.id for one in journal.opened()] == [1]
    journal.close(slot, row(1, rest="x" * 180), [])
    assert journal.closed()[0].row[6] == "x" * 180
    assert journal.opened() == []


def test_a_journal_is_used_by_one_process(path: Path) -> None:
    """The second opening is refused until the first lets go."""
    journal = Journal(path, slots=2)
    with pytest.raises(ConfigError, match="in use by nobody else"):
        Journal(path)
    journal.shut()
    journal.shut()
    Journal(path).remove()
    assert not path.exists()


def test_other_files_are_refused_and_left_alone(path: Path) -> None:
    """A text, a journal cut short or of another version; but an unfinished one is made anew."""
    Journal(path, slots=2).shut()
    good = path.read_bytes()
    for wrong in (b"x" * 10, b"x" * 10_000, good[:-8], good[:8] + b"\7" + good[9:]):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError, match="journal must be a journal"):
            Journal(path)
        assert path.read_bytes() == wrong
    path.write_bytes(bytes(8) + good[8:])  # killed before it was declared one
    journal = Journal(path, slots=3)
    assert journal.slots == journal.free == 3
    journal.shut()
    with pytest.raises(InputError, match="slots must"):
        Journal(path.with_name("other"), slots=0)


def test_damaged_slots_are_dropped_with_a_word(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power cut a state may speak of what never reached the disk; the rest is kept."""
    journal = Journal(path, slots=4, open_bytes=256, row_bytes=256)
    slots = [open_(journal, i, [i, 0, []], b"[[]]") for i in range(3)]
    journal.close(slots[0], row(0), [])
    journal.close(slots[1], row(1), [])
    journal.shut()
    raw = bytearray(path.read_bytes())
    first = 4096 + 4 * 8
    raw[first + 256 : first + 512] = bytes(256)
    raw[first + 2 * 512 : first + 2 * 512 + 20] = b"\xff" * 20
    path.write_bytes(raw)
    journal = Journal(path)
    assert [one.row for one in journal.closed()] == [row(1)]
    assert journal.opened() == []
    assert journal.free == 3
    assert caplog.text.count("damaged") == 2
    journal.shut()


def test_a_full_disk_is_found_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is taken when the file is made, so that no request faults on it later."""

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"No space left on device\. Free some space"):
        Journal(path)
    monkeypatch.undo()
    journal = Journal(path, slots=2)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    journal.shut()


def test_where_files_cannot_be_given_room_they_are_filled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every system can reserve room; there the file is written whole."""
    monkeypatch.delattr(os, "posix_fallocate")
    journal = Journal(path, slots=2)
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 4096
    journal.shut()

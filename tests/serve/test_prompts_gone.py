"""Prompts go when their time is over or somebody says so, and leave no trace."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from turnout.serve.prompts import file, reading
from turnout.serve.prompts.file import SHIFT, Choice
from turnout.serve.prompts.keeper import Prompts

from .fault.rig import until
from .kept import DAY, NOON, SECRET, filled, id_at, rows, texts, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return file.beside(tmp_path / "ledger.sqlite")


def test_expired_prompts_go_at_the_start(tmp_path: Path, path: Path) -> None:
    """Those whose time is over, to the last byte; the others stay."""
    filled(
        path,
        (id_at(NOON), "alice", 2, SECRET),
        (id_at(NOON, 1), "alice", 3, "not yet"),
        (id_at(NOON + DAY), "alice", 2, "nor this"),
    )
    prompts = Prompts(path, keep_days=30, now=lambda: NOON + 2 * DAY)
    until(lambda: len(rows(path)) == 2)
    prompts.close()
    assert texts(path) == ["not yet", "nor this"]
    assert SECRET.encode() not in written(tmp_path)


def test_expired_prompts_go_while_it_runs(tmp_path: Path, path: Path) -> None:
    """As the clock moves on, what it passes is deleted; also right after it was kept."""
    now = [NOON]
    prompts = Prompts(path, keep_days=1, every=0.01, now=lambda: now[0])
    prompts.keep(id_at(NOON - 1), "alice", SECRET)
    prompts.keep(id_at(NOON), "alice", "one more millisecond")
    until(lambda: len(rows(path)) == 2)
    now[0] += DAY - 1
    until(lambda: len(rows(path)) == 1)
    assert texts(path) == ["one more millisecond"]
    until(lambda: SECRET.encode() not in written(tmp_path))
    now[0] += 1
    until(lambda: not rows(path))
    until(lambda: b"one more" not in written(tmp_path))
    prompts.close()


def test_many_expired_prompts_go_in_steps(path: Path) -> None:
    """More than one transaction deletes, with others let in between, until none is left."""
    filled(path, *((id_at(NOON, count), "alice", 1, f"{count}") for count in range(1700)))
    with closing(file.connect(path)) as connection:
        left = []
        while file.sweep(connection, NOON + DAY):
            left.append(len(rows(path)))
    assert left == [1200, 700, 200, 0]


def test_a_step_is_bounded_by_size(path: Path) -> None:
    """Long prompts are deleted some at a time, however few they are; one at least."""
    filled(path, *((id_at(NOON, count), "alice", 1, "x" * 900_000) for count in range(3)))
    filled(path, (id_at(NOON, 9), "alice", 1, "x" * 3_000_000))
    with closing(file.connect(path)) as connection:
        assert file.sweep(connection, NOON + DAY)
        assert len(rows(path)) == 2
        assert file.delete(connection, Choice()) == 2


def test_a_shorter_life_holds_for_what_is_there(path: Path) -> None:
    """Less days than before count from each arrival; more days change nothing."""
    for days, expected in ((30, [30]), (7, [7, 7]), (90, [7, 7, 90])):
        filled(
            path,
            (id_at(NOON, days), "alice", days, f"kept for {days}"),
            (id_at(NOON - days * DAY), "alice", days, "goes at once"),
        )
        prompts = Prompts(path, keep_days=days, every=0.01, now=lambda: NOON)
        # what is over is deleted last, so then the rest has been looked at
        until(lambda: "goes at once" not in texts(path))
        prompts.close()
        assert [(row[2] - NOON) // DAY for row in rows(path)] == expected
    assert texts(path) == ["kept for 7", "kept for 30", "kept for 90"]


def test_switched_off_what_is_there_goes_in_time(path: Path) -> None:
    """Without a life none is taken in; those of before go when they were to; no file is made."""
    prompts = Prompts(path, every=0.01)
    assert prompts.hook is None
    prompts.close()
    assert not path.exists()
    filled(path, (id_at(NOON), "a", 1, SECRET), (id_at(NOON), "a", 9, "x"), (1, "a", 9, "y"))
    now = [NOON]
    prompts = Prompts(path, every=0.01, now=lambda: now[0])
    until(lambda: texts(path) == [SECRET])
    now[0] += DAY
    until(lambda: not rows(path))
    path.unlink()
    until(lambda: prompts._connection is None)
    prompts.close()
    assert not path.exists()


def test_looking_for_what_is_to_go_reads_no_other_rows(path: Path) -> None:
    """Both looks go by an index, so that a large file costs a worker nothing."""
    with closing(file.connect(path)) as connection:
        for where, index in (
            ("goes <= 1", "prompts_goes (goes<?)"),
            (f"goes - (id >> {SHIFT}) > 1", "prompts_life (<expr>>?)"),
        ):
            query = f"EXPLAIN QUERY PLAN SELECT id, chars FROM prompts WHERE {where}"
            plan = [row[3] for row in connection.execute(query)]
            assert plan == [f"SEARCH prompts USING INDEX {index}"]


@pytest.mark.parametrize("seed", range(4))
def test_deletion_leaves_no_byte(tmp_path: Path, path: Path, seed: int) -> None:
    """Of texts of any length, kept and deleted in any order, in no file; the others stay whole."""
    draw = random.Random(seed)
    live: dict[int, str] = {}
    gone: list[str] = []
    # SQLite moves most where ids come in no order
    steps = [*draw.sample(range(600), 600), *range(600, 700)]
    with closing(file.connect(path)) as connection:
        for step in steps:
            id_ = id_at(NOON + step)
            live[id_] = f"<{step:06d}>" * (draw.randint(1, 40) if step % 50 else 2000)
            file.append(connection, [(id_, "alice", DAY, live[id_])])
        for id_ in draw.sample(list(live), 200):
            gone.append(live.pop(id_))
            assert file.delete(connection, Choice(ids=(id_,))) == 1
        assert file.scrub(connection, 5.0)
        data = written(tmp_path)
        assert not [text[:8] for text in gone if text[:8].encode() in data]
        assert {row[0]: row[4] for row in rows(path)} == live


def test_text_lies_on_pages_that_are_never_copied(path: Path) -> None:
    """Pages of rows and of indexes, which SQLite rearranges, hold no byte of any text."""
    with closing(file.connect(path)) as connection:
        for count in range(400):
            text = "<text>" * (count // 6 + 1)
            file.append(connection, [(id_at(NOON, count), "k" * (count % 256), DAY, text)])
    data = path.read_bytes()
    size = int.from_bytes(data[16:18], "big")
    pages = [data[start : start + size] for start in range(0, len(data), size)]
    # leaves and inner pages of tables and indexes, by their first byte; page 1 has a head before
    kinds = [page[100 if number == 0 else 0] for number, page in enumerate(pages)]
    moved = [page for page, kind in zip(pages, kinds, strict=True) if kind in (2, 5, 10, 13)]
    assert len(moved) > 100
    assert not [page for page in moved if b"<text>" in page]
    assert sum(b"<text>" in page for page in pages) >= 400


def test_deleted_text_is_not_left_in_the_log(tmp_path: Path, path: Path) -> None:
    """While somebody reads, the log cannot be emptied; the gateway does it as soon as it can."""
    filled(path, (id_at(NOON), "alice", 1, SECRET), (id_at(NOON, 1), "alice", 9, "x"))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM prompts").fetchone()
        prompts = Prompts(path, keep_days=30, every=0.01, now=lambda: NOON + DAY)
        until(lambda: len(rows(path)) == 1)
        with closing(file.connect(path)) as connection:
            assert not file.scrub(connection, 0.0)
        assert SECRET.encode() in written(tmp_path)
        reader.execute("COMMIT")
        until(lambda: SECRET.encode() not in written(tmp_path))
    prompts.close()


def test_choices(path: Path) -> None:
    """Whatever is given has to be true at once."""
    prompts = [(id_at(NOON + day * DAY, day), "ab"[day % 2], 30, str(day)) for day in range(6)]
    filled(path, *prompts)
    ids = tuple(row[0] for row in prompts)
    for choice, expected in (
        (Choice(), 6),
        (Choice(ids=ids[1:3]), 2),
        (Choice(ids=(5,)), 0),
        (Choice(key="a"), 3),
        (Choice(key="c"), 0),
        (Choice(before=NOON + 2 * DAY), 2),
        (Choice(newest=ids[3]), 4),
        (Choice(ids=ids[1:4], key="b", before=NOON + 3 * DAY, newest=ids[5]), 1),
    ):
        assert reading.newest(path, choice) == (expected, ids[5])
    with closing(file.connect(path)) as connection:
        assert file.delete(connection, Choice(key="b", before=NOON + 3 * DAY)) == 1
    assert texts(path) == ["0", "2", "3", "4", "5"]


def test_a_choice_among_many(path: Path) -> None:
    """Some of each step's rows are chosen, over more than one step; the others stay."""
    filled(path, *((id_at(NOON, count), "abc"[count % 3], 1, f"{count}") for count in range(2400)))
    with closing(file.connect(path)) as connection:
        assert file.delete(connection, Choice(key="a")) == 800
        assert file.delete(connection, Choice(key="a")) == 0
    assert texts(path) == [f"{count}" for count in range(2400) if count % 3]

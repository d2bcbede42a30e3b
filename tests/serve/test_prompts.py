"""Prompts are kept where that is switched on, as long as was said, and then leave no trace."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve import build
from turnout.serve.config import Config, parse
from turnout.serve.money.reading import number
from turnout.serve.prompts import file, reading
from turnout.serve.prompts.file import SHIFT, Choice
from turnout.serve.prompts.keeper import Prompts
from turnout.serve.tables import PromptsConfig

from .fault.rig import make_keys, serving, until

#: 2026-11-28 12:00:00 UTC.
NOON = 1_795_867_200_000
DAY = 86_400_000
SECRET = "the quick brown fox keeps a secret"
ON = "[prompts]\nkeep_days = 30\n"


def id_at(ms: int, count: int = 0) -> int:
    """The id of a request that arrived at a moment."""
    return ms << SHIFT | count


def rows(path: Path) -> list[tuple[Any, ...]]:
    """All that is kept."""
    with closing(sqlite3.connect(path)) as reader:
        query = "SELECT id, key, goes, chars, prompt FROM prompts ORDER BY id"
        return reader.execute(query).fetchall()


def texts(path: Path) -> list[str]:
    return [row[4] for row in rows(path)]


def written(folder: Path) -> bytes:
    """Every byte in the files of a folder and of those in it."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def filled(path: Path, *prompts: tuple[int, str, int, str]) -> None:
    """A file in which some prompts are kept already; each with its days."""
    with closing(file.connect(path)) as connection:
        file.append(connection, [(id_, key, days * DAY, text) for id_, key, days, text in prompts])


def keeping(path: Path, **more: Any) -> Prompts:
    """Keeps prompts for 30 days, at a clock that stands still."""
    return Prompts(path, keep_days=30, now=lambda: NOON, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return file.beside(tmp_path / "ledger.sqlite")


# ---------------------------------------------------------------------- keeping


def test_what_is_handed_over_is_kept(path: Path) -> None:
    """Id, key, text, its length and when it goes; in a file that is its owner's alone."""
    prompts = keeping(path)
    prompts.keep(id_at(NOON, 1), "alice", SECRET)
    prompts.keep(id_at(NOON, 2), "bob", "tägliche\nGrüße \U0001f600")
    prompts.keep(id_at(NOON, 3), "bob", "")
    until(lambda: len(rows(path)) == 3)
    for part in path.parent.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part
    prompts.close()
    prompts.close()
    assert path.name == "ledger.sqlite-prompts"
    goes = NOON + 30 * DAY
    assert rows(path) == [
        (id_at(NOON, 1), "alice", goes, len(SECRET), SECRET),
        (id_at(NOON, 2), "bob", goes, 16, "tägliche\nGrüße \U0001f600"),
        (id_at(NOON, 3), "bob", goes, 0, ""),
    ]
    assert [part.name for part in path.parent.iterdir()] == [path.name]
    assert prompts.dropped == 0


def test_only_the_keys_that_were_named(path: Path) -> None:
    """Prompts of other keys are not kept, and do not count as dropped."""
    prompts = Prompts(path, keep_days=1, keys=("alice", "carol"), now=lambda: NOON)
    for count, key in enumerate(("alice", "bob", "carol", "")):
        prompts.keep(id_at(NOON, count), key, f"of {key}")
    prompts.close()
    assert texts(path) == ["of alice", "of carol"]
    assert prompts.dropped == 0


def test_an_id_is_kept_once(path: Path) -> None:
    """A prompt whose id is there already neither replaces the first one nor fails the others."""
    filled(path, (id_at(NOON), "alice", 1, "first"))
    prompts = Prompts(path, keep_days=1, now=lambda: NOON)
    prompts.keep(id_at(NOON), "alice", "second")
    prompts.keep(id_at(NOON, 1), "alice", "third")
    prompts.close()
    assert texts(path) == ["first", "third"]
    assert prompts.dropped == 1


def test_several_workers_write_one_file(path: Path) -> None:
    """Two threads and another process keep 500 prompts each, and all are there."""
    code = f"""if True:
        from pathlib import Path
        from turnout.serve.prompts.keeper import Prompts
        prompts = Prompts(Path({str(path)!r}), keep_days=30, now=lambda: {NOON})
        print(flush=True)
        input()
        for count in range(500):
            prompts.keep({NOON} + count << {SHIFT} | 2, "other", f"2 {{count}}" + 100 * "x")
        prompts.close()
        print(prompts.dropped)
    """
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    mine = [keeping(path) for _ in range(2)]
    assert other.stdout is not None
    other.stdout.readline()

    def write(place: int) -> None:
        for count in range(500):
            mine[place].keep(id_at(NOON + count, place), "mine", f"{place} {count}" + 100 * "x")

    threads = [threading.Thread(target=write, args=(place,)) for place in range(2)]
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for prompts in mine:
        prompts.close()
    assert other.communicate(timeout=60)[0] == "0\n"
    assert [prompts.dropped for prompts in mine] == [0, 0]
    expected = [f"{place} {count}" + 100 * "x" for count in range(500) for place in range(3)]
    assert texts(path) == expected


def test_where_there_is_no_room_prompts_are_dropped_and_counted(path: Path) -> None:
    """While the file is held by another, as many wait as there is room for; the rest is counted."""
    prompts = keeping(path, room=10 * (1000 + 256))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for count in range(25):
            prompts.keep(id_at(NOON, count), "alice", "x" * 1000)
        assert prompts.dropped == 15
        other.execute("ROLLBACK")
    until(lambda: len(rows(path)) == 10)
    until(lambda: prompts._come == prompts._gone)
    prompts.keep(id_at(NOON, 99), "alice", "there is room again")
    prompts.keep(id_at(NOON, 100), "alice", "\U0001f600" * 2500)  # four bytes each
    prompts.keep(id_at(NOON, 101), "alice", "\U0001f600" * 3500)
    prompts.close()
    assert len(rows(path)) == 12
    assert prompts.dropped == 16


def test_what_cannot_be_written_is_dropped_and_counted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure costs the prompts of that moment, is told without a text, and passes."""
    prompts = keeping(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON prompts BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        prompts.keep(id_at(NOON, 1), "alice", SECRET)
        until(lambda: prompts.dropped == 1)
        assert prompts.error == "IntegrityError: no"
        other.execute("DROP TRIGGER broken")
    prompts.keep(id_at(NOON, 2), "alice", "after it")
    until(lambda: len(rows(path)) == 1)
    prompts.keep(id_at(NOON, 3), "alice", "half a pair \ud800")  # nothing that SQLite takes
    until(lambda: prompts.dropped == 2)
    assert prompts.error == "UnicodeEncodeError"
    prompts.close()
    assert texts(path) == ["after it"]
    assert "IntegrityError: no" in caplog.text
    assert "quick" not in caplog.text
    assert "half" not in caplog.text


def test_a_full_disk_fails_nothing(path: Path) -> None:
    """Where files can grow no more, what fits is kept, the rest counted; nothing is raised."""
    code = f"""if True:
        import resource, signal, threading
        from pathlib import Path
        from turnout.serve.prompts.keeper import Prompts
        prompts = Prompts(Path({str(path)!r}), keep_days=30, now=lambda: {NOON})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        for batch in range(8):
            for count in range(20):
                prompts.keep({NOON} << {SHIFT} | 20 * batch + count, "alice", 1000 * "x")
            while prompts._come != prompts._gone:
                threading.Event().wait(0.01)
        prompts.close()
        print(prompts.dropped)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 160
    assert len(rows(path)) == 160 - int(done.stdout)


def test_a_stop_does_not_wait_for_a_file_that_fails(path: Path) -> None:
    """At a stop what does not fit into a failing file is given up at once, and counted."""
    prompts = keeping(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON prompts BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        tries: list[Any] = []
        write = prompts._write
        prompts._write = lambda items: tries.append(items) or write(items)  # type: ignore
        other.execute("BEGIN IMMEDIATE")  # so that all of it waits for the stop
        for count in range(6):
            prompts.keep(id_at(NOON, count), "alice", "x" * 600_000)
        until(lambda: len(tries) == 1)
        prompts._closing.set()
        prompts._queue.put(None)
        other.execute("ROLLBACK")
        prompts._thread.join()
        prompts._shut()
    assert len(tries) == 1
    assert prompts.dropped == 6


def test_a_file_that_was_deleted_is_made_anew(path: Path) -> None:
    """Prompts after that go into the new file; the old one is let go."""
    prompts = keeping(path)
    prompts.keep(id_at(NOON, 1), "alice", SECRET)
    until(lambda: rows(path))
    for part in list(path.parent.iterdir()):
        part.unlink()
    prompts.keep(id_at(NOON, 2), "alice", "after it")
    until(lambda: path.exists() and prompts._come == prompts._gone)
    prompts.close()
    assert texts(path) == ["after it"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_was_left_behind_is_not_read(tmp_path: Path, path: Path) -> None:
    """Where only the file itself was deleted, the prompts in its write-ahead log stay deleted."""
    with closing(file.connect(path)) as connection:
        file.append(connection, [(id_at(NOON), "alice", DAY, SECRET)])
        log = path.with_name(f"{path.name}-wal").read_bytes()
    assert SECRET.encode() in log
    path.unlink()
    path.with_name(f"{path.name}-wal").write_bytes(log)
    filled(path, (id_at(NOON, 1), "alice", 1, "after it"))
    assert texts(path) == ["after it"]
    assert SECRET.encode() not in written(tmp_path)


# ------------------------------------------------------------------- retention


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


# -------------------------------------------------------------------- deletion


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


# ---------------------------------------------------------------- other files


def test_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    """A ledger, text, a folder, a newer version or no folder: one clear error, nothing changes."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
    refused(path, "belongs to something else")
    path.write_text("some text that is long enough to be no SQLite file at all" * 20)
    refused(path, "not a database")
    path.unlink()
    filled(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    refused(path, "upgrade this one")
    path.unlink()
    path.mkdir()
    refused(path, "file of prompts must")
    with pytest.raises(ConfigError, match="be a file that can be opened"):
        file.connect(tmp_path / "no" / "such")
    assert list(reading.listed(tmp_path / "no" / "such")) == []


def refused(path: Path, said: str) -> None:
    """By whoever writes, reads or inspects it."""
    before = path.read_bytes() if path.is_file() else b""
    for action in (file.connect, reading.inspect, lambda path: list(reading.listed(path))):
        with pytest.raises(ConfigError, match=said):
            action(path)
    assert before == (path.read_bytes() if path.is_file() else b"")


def test_an_empty_file_holds_none(path: Path) -> None:
    """As a kill can leave it, right after it was made."""
    path.touch()
    reading.inspect(path)
    assert list(reading.listed(path)) == []
    filled(path, (id_at(NOON), "alice", 1, "x"))
    assert [about.chars for about in reading.listed(path)] == [1]


def test_a_link_leads_to_the_file(tmp_path: Path, path: Path) -> None:
    """The file may be a link to another disk: all of it is there, and its owner's alone."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path.symlink_to(disk / "prompts")
    prompts = keeping(path)
    prompts.keep(id_at(NOON), "alice", SECRET)
    until(lambda: rows(path))
    assert {part.name for part in disk.iterdir()} == {"prompts", "prompts-wal", "prompts-shm"}
    assert stat.S_IMODE((disk / "prompts").stat().st_mode) == 0o600
    prompts.close()
    assert [part.name for part in tmp_path.iterdir() if part.is_file()] == [path.name]


# --------------------------------------------------------------- configuration

POOL = '[pool.a]\nupstream = "lab:pico"\n'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[prompts]", "prompts.keep_days must be given"),
        ("[prompts]\nkeep_days = 0", "prompts.keep_days must be a whole number in [1, 3650]"),
        ("[prompts]\nkeep_days = 3651", "prompts.keep_days must be a whole number in [1, 3650]"),
        ("[prompts]\nkeep_days = 1.5", "prompts.keep_days must be a whole number"),
        ("[prompts]\nkeep_days = true", "prompts.keep_days must be a whole number"),
        ('[prompts]\nkeep_days = "30"', "prompts.keep_days must be a whole number"),
        (ON + 'keys = "alice"', "prompts.keys must be a list of texts in quotes"),
        (ON + 'keys = ["a", "a"]', "prompts.keys must be unique"),
        (ON + 'keys = [" "]', "prompts.keys must hold non-empty strings"),
        (ON + "days = 3", "Did you mean 'keep_days'?"),
        ("prompts = true", "prompts must be a table"),
        ("[promts]\nkeep_days = 3", "Did you mean 'prompts'?"),
    ],
)
def test_mistakes_are_named(table: str, said: str) -> None:
    """Each is one error with the key and the rule."""
    text = f"{table}\n{POOL}" if "[" not in table else f"{POOL}{table}"
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("turnout.toml"))
    assert said in str(caught.value)


def test_the_table_is_the_switch() -> None:
    """Absent: off. There: on, for all keys unless some are named."""
    source = Path("turnout.toml")
    assert parse(POOL, source).prompts is None
    assert parse(POOL + ON, source).prompts == PromptsConfig(keep_days=30)
    some = parse(POOL + ON + 'keys = ["a", "b"]', source).prompts
    assert some == PromptsConfig(keep_days=30, keys=("a", "b"))
    with pytest.raises(InputError, match="keep_days"):
        PromptsConfig(keep_days=0)


# --------------------------------------------------------------------- gateway


def test_off_nothing_is_kept(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """No byte of a prompt in any file while it runs or after, and nothing that could keep one."""
    with serving(make_config(), build.build) as gateway:
        answers = [gateway.chat("auto", SECRET), gateway.chat("auto", SECRET, stream=True)]
        assert gateway.worker._prompts is None
        data = written(tmp_path)
    assert [answer.status for answer in answers] == [200, 200]
    assert not [path for path in tmp_path.iterdir() if "prompts" in path.name]
    assert SECRET.encode() not in data + written(tmp_path)


def test_on_the_right_prompts_are_kept(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Of the keys that were named, with the ids that the answers tell; in this one file alone."""
    secrets = make_keys(tmp_path, alice={}, bob={})
    keys = '[keys]\nfile = "keys.json"\n'
    config = make_config(more=f'{keys}{ON}keys = ["bob"]')
    names = {}
    with serving(config, build.build) as gateway:
        prompts = gateway.worker._prompts
        assert prompts is not None
        assert prompts.hook is not None
        for key in ("alice", "bob"):
            headers = {"authorization": f"Bearer {secrets[key]}"}
            answer = gateway.chat("auto", f"{SECRET} of {key}", headers)
            assert answer.status == 200
            names[key] = answer.id
            id_ = number(answer.id)
            assert id_ is not None
            prompts.hook(id_, key, f"{SECRET} of {key}")
    path = file.beside(config.ledger.path)
    (about,) = reading.listed(path)
    assert about.record()["id"] == names["bob"]
    assert about.goes == (about.id >> SHIFT) + 30 * DAY
    assert texts(path) == [f"{SECRET} of bob"]
    elsewhere = [one for one in tmp_path.rglob("*") if one.is_file() and one != path]
    assert not [one for one in elsewhere if SECRET.encode() in one.read_bytes()]
    (row,) = [row for row in reading.export(path, config.ledger.path) if row["key"] == "bob"]
    assert (row["model"], row["status"], row["id"]) == ("dear", 200, names["bob"])


def test_a_file_that_fails_fails_no_request(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Prompts are lost and counted; requests are answered, and the gateway stops in good order."""
    config = make_config(more=ON)
    path = file.beside(config.ledger.path)
    with serving(config, build.build) as gateway:
        prompts = gateway.worker._prompts
        assert prompts is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("DROP TABLE prompts")
        prompts.keep(id_at(NOON), "anyone", SECRET)
        until(lambda: prompts.dropped >= 1)
        assert gateway.chat("auto", SECRET).status == 200
    assert prompts.error == "OperationalError: no such table: prompts"


@pytest.mark.parametrize("more", ["", ON])
def test_a_start_deletes_what_has_expired(
    make_config: Callable[..., Config], tmp_path: Path, more: str
) -> None:
    """Also where prompts are switched off by now; what has not expired stays."""
    config = make_config(more=more)
    path = file.beside(config.ledger.path)
    future = 4_000_000_000_000
    filled(path, (id_at(NOON - 900 * DAY), "a", 30, SECRET), (id_at(future), "a", 30, "not yet"))
    with serving(config, build.build) as gateway:
        until(lambda: len(rows(path)) == 1)
        assert gateway.chat("auto", "hi").status == 200
    assert "not yet" in texts(path)
    assert SECRET.encode() not in written(tmp_path)


def test_a_file_that_is_something_else_is_a_mistake_where_prompts_are_kept(
    make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    """`--check`, a start and a reload say so; a gateway that keeps none only warns."""
    config, off = make_config(more=ON), make_config()
    path = file.beside(config.ledger.path)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.check(config)
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.store(config, 1)
    build.check(off)
    kept = build.store(off, 1)  # nothing holds the ledger since the start that failed
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.renewed(kept, config)
    kept.close()
    assert build.keeper(off) is None
    assert "prompts kept before are not deleted" in caplog.text
    assert path.read_bytes() == b"something else" * 100


def test_a_reload_switches_it_on(make_config: Callable[..., Config]) -> None:
    """The file is there before the new workers are."""
    kept = build.store(make_config(), 1)
    config = make_config(more=ON)
    path = file.beside(config.ledger.path)
    assert not path.exists()
    build.renewed(kept, config)
    assert rows(path) == []
    kept.close()

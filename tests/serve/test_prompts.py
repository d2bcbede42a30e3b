"""Prompts are kept in their file; what cannot be is counted, and nothing fails for it."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError
from turnout.serve.prompts import file, reading
from turnout.serve.prompts.file import SHIFT
from turnout.serve.prompts.keeper import Prompts

from .fault.rig import until
from .kept import DAY, NOON, SECRET, filled, id_at, keeping, rows, texts, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return file.beside(tmp_path / "ledger.sqlite")


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

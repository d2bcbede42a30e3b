"""`turnout prompts`: what is kept is shown, taken out and deleted; mistakes are told."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from turnout.cli import main
from turnout.serve.money.entry import Entry, rest_of
from turnout.serve.money.ledger import SQLiteLedger
from turnout.serve.money.reading import id_text
from turnout.serve.prompts import file
from turnout.serve.prompts.file import SHIFT
from turnout.serve.prompts.keeper import Prompts

#: 2026-11-28 12:00:00 UTC.
NOON = 1_795_867_200_000
DAY = 86_400_000
SECRET = "the quick brown fox keeps a secret"
CONFIG = Path("turnout.toml")
PROMPTS = Path("ledger.sqlite-prompts")
LOG = Path("ledger.sqlite.audit.jsonl")
POOL = '[ledger]\npath = "ledger.sqlite"\n[pool.a]\nupstream = "lab:pico"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a configuration, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    CONFIG.write_text(f"{POOL}[prompts]\nkeep_days = 30\n")
    return tmp_path


def id_at(day: int, count: int = 0) -> int:
    return (NOON + day * DAY) << SHIFT | count


def fill(*prompts: tuple[int, str, str]) -> None:
    """Keep some prompts: id, key and text."""
    with closing(file.connect(PROMPTS.absolute())) as connection:
        file.append(connection, [(id_, key, 30 * DAY, text) for id_, key, text in prompts])


def three() -> None:
    fill((id_at(0), "alice", SECRET), (id_at(1), "[bold]bob", "hi"), (id_at(2), "alice", "\n"))


def kept() -> list[str]:
    with closing(sqlite3.connect(PROMPTS)) as reader:
        return [row[0] for row in reader.execute("SELECT prompt FROM prompts ORDER BY id")]


def ledger_of(*requests: tuple[int, dict[str, Any]], grades: dict[int, float]) -> None:
    """A ledger with some requests: id, and what is known of each; and grades by id."""
    ledger = SQLiteLedger("ledger.sqlite")
    for id_, more in requests:
        destination = more.pop("destination")
        entry = Entry(status=more.pop("status", 200), **more)
        rest = rest_of(entry, "auto", "v1", [], 10)
        ledger.record((id_, "alice", destination, entry.status, 2_000_000_000, 0, rest))
    for id_, grade in grades.items():
        ledger.rate(id_text(id_), 0.5)
        ledger.rate(id_text(id_), grade)
    ledger.close()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """Standard output and standard error of a command that succeeds."""
    capsys.readouterr()
    main(["prompts", words[0], str(CONFIG), *words[1:]])
    out, err = capsys.readouterr()
    return out, err


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a mistake says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["prompts", *words])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert not out
    return err


def log() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def exported() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out.jsonl").read_text().split("\n") if line]


def written() -> bytes:
    return b"\n".join(path.read_bytes() for path in Path().rglob("*") if path.is_file())


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Table and JSON show all that is known of each prompt but its text, oldest first."""
    three()
    table, _ = run(capsys, "list")
    text, _ = run(capsys, "list", "--json")
    first, second, third = json.loads(text)
    assert first == {
        "id": id_text(id_at(0)),
        "time": "2026-11-28T12:00:00Z",
        "key": "alice",
        "chars": len(SECRET),
        "goes": "2026-12-28T12:00:00Z",
    }
    assert (second["key"], second["chars"], third["chars"]) == ("[bold]bob", 2, 1)
    for row in (first, second, third):
        line = next(line for line in table.splitlines() if row["id"] in line)
        assert all(str(value) in line for value in row.values())
    assert "quick" not in table + text


def test_without_a_file_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is listed or deleted, and no file of prompts is made."""
    CONFIG.write_text(POOL)
    assert json.loads(run(capsys, "list", "--json")[0]) == []
    assert run(capsys, "delete", "--all")[0] == "Deleted 0 prompts.\n"
    assert not PROMPTS.exists()


def test_export(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object a line, with what the ledger knows; the file is its owner's alone."""
    three()
    fill((id_at(3), "alice", "of a request in progress"))
    ledger_of(
        (id_at(0), {"destination": "big", "latency_s": 1.5, "propensity": 0.25}),
        (id_at(1), {"destination": "a", "fallback_from": "big", "propensity": 0.75}),
        (id_at(2), {"destination": "a", "status": 502}),
        grades={id_at(0): 1.0},
    )
    out, err = run(capsys, "export", "out.jsonl")
    assert (out, err) == (
        "",
        "Wrote 3 prompts to out.jsonl.\nLeft out 1 prompt of requests that the ledger lacks.\n",
    )
    assert stat.S_IMODE(Path("out.jsonl").stat().st_mode) == 0o600
    first, second, third = exported()
    assert first == {
        "id": id_text(id_at(0)), "time": "2026-11-28T12:00:00Z", "key": "alice", "prompt": SECRET,
        "model": "big", "status": 200, "quality": 1.0, "cost": 0.002, "latency": 1.5,
        "propensity": 0.25,
    }  # fmt: skip
    # the odds are of the destination that was chosen, and another one answered
    assert (second["model"], second["quality"], second["propensity"]) == ("a", None, None)
    assert (third["prompt"], third["status"]) == ("\n", 502)
    out, _ = run(capsys, "export", "-", "--graded")
    assert json.loads(out) == first


def test_many_are_exported(capsys: pytest.CaptureFixture[str]) -> None:
    """More than are read at once, each once and in order."""
    ids = [id_at(0, count) for count in range(2500)]
    fill(*((id_, "alice", f"prompt {id_}") for id_ in ids))
    ledger_of(*((id_, {"destination": "a"}) for id_ in ids), grades={})
    assert "Wrote 2,500 prompts to -." in run(capsys, "export", "-")[1]
    run(capsys, "export", "out.jsonl")
    rows = exported()
    assert [(row["id"], row["prompt"]) for row in rows] == [
        (id_text(id_), f"prompt {id_}") for id_ in ids
    ]
    assert len(json.loads(run(capsys, "list", "--json")[0])) == 2500


@pytest.mark.slow
def test_what_is_graded_can_be_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    """An export is a table of outcomes: `turnout fit` makes a router of it."""
    ids = [id_at(0, count) for count in range(60)]
    fill(*((id_, "alice", f"{'long ' * 40 if i % 2 else 'sum'} {i}") for i, id_ in enumerate(ids)))
    ledger_of(
        *((id_, {"destination": "ab"[i // 2 % 2], "propensity": 0.5}) for i, id_ in enumerate(ids)),
        grades={id_: float(i % 2 == i // 2 % 2) for i, id_ in enumerate(ids[:50])},
    )
    run(capsys, "export", "out.jsonl", "--graded")
    assert len(exported()) == 50
    main(["fit", "out.jsonl", "-o", "router.turnout"])
    assert "50 rows, 2 models" in capsys.readouterr().out
    assert Path("router.turnout").stat().st_size


@pytest.mark.parametrize(
    ("words", "left", "facts"),
    [
        (("--all",), [], {"all": True}),
        (("--id", id_text(id_at(0))), ["hi", "\n"], {"ids": [id_text(id_at(0))]}),
        (
            ("--id", id_text(id_at(0)), "--id", id_text(id_at(1)), "--id", id_text(1)),
            ["\n"],
            {"ids": [id_text(id_at(0)), id_text(id_at(1)), id_text(1)]},
        ),
        (("--key", "alice"), ["hi"], {"key": "alice"}),
        (("--before", "2026-11-29"), ["hi", "\n"], {"before": "2026-11-29T00:00:00Z"}),
        (
            ("--before", "2026-11-29T14:00:01+02:00"),
            ["\n"],
            {"before": "2026-11-29T12:00:01Z"},
        ),
        (
            ("--key", "alice", "--before", "2026-11-30T12:00:00Z"),
            ["hi", "\n"],
            {"key": "alice", "before": "2026-11-30T12:00:00Z"},
        ),
        (("--before", "9999-12-31"), [], {"before": "9999-12-31T00:00:00Z"}),
        (("--before", "1900-01-01"), [SECRET, "hi", "\n"], {"before": "1970-01-01T00:00:00Z"}),
        (("--key", ""), [SECRET, "hi", "\n"], {"key": ""}),
    ],
)
def test_delete(
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    left: list[str],
    facts: dict[str, Any],
) -> None:
    """What is chosen goes to the last byte and is counted; the audit log tells all but the text."""
    three()
    gone = 3 - len(left)
    out, _ = run(capsys, "delete", *words)
    assert out == f"Deleted {'1 prompt' if gone == 1 else f'{gone} prompts'}.\n"
    assert kept() == left
    (line,) = log()
    assert set(line) == {"time", "actor", "action", "subject", "found", *facts}
    assert (line["action"], line["found"]) == ("prompts.delete", gone)
    assert line["subject"] == str(PROMPTS.absolute())
    assert {name: line[name] for name in facts} == facts
    assert stat.S_IMODE(LOG.stat().st_mode) == 0o600
    assert (SECRET.encode() in written()) == (SECRET in left)


def test_where_there_is_a_key_file_its_log_is_the_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Deletions stand with the changes of keys."""
    CONFIG.write_text(f'{CONFIG.read_text()}[keys]\nfile = "keys.json"\n')
    three()
    run(capsys, "delete", "--all")
    (line,) = map(json.loads, Path("keys.json.audit.jsonl").read_text().splitlines())
    assert line["action"] == "prompts.delete"
    assert not LOG.exists()


def test_no_deletion_without_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the log cannot be written the prompts stay."""
    three()
    LOG.mkdir()
    assert "audit log must" in fails(capsys, "delete", str(CONFIG), "--all")
    assert len(kept()) == 3


def test_it_works_while_a_gateway_keeps_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    """What was there goes, while more comes all the time; none of that is lost or held up."""
    prompts = Prompts(PROMPTS.absolute(), keep_days=30, now=lambda: NOON)
    three()
    enough = threading.Event()
    sent = []

    def write() -> None:
        while not enough.is_set():
            sent.append(f"later {len(sent)}")
            prompts.keep(id_at(3, len(sent)), "alice", sent[-1])
            enough.wait(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        run(capsys, "delete", "--key", "[bold]bob")
        run(capsys, "delete", "--id", id_text(id_at(0)))
        listed = json.loads(run(capsys, "list", "--json")[0])
        assert not {row["id"] for row in listed} & {id_text(id_at(0)), id_text(id_at(1))}
        assert SECRET.encode() not in written()
    finally:
        enough.set()
        thread.join()
        prompts.close()
    assert prompts.dropped == 0
    assert kept() == ["\n", *sent]


def test_a_reader_that_stays_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log cannot be emptied the command says so; once more mends it, with none left."""
    monkeypatch.setattr("turnout.cli.prompts._PAUSE", 0.0)
    monkeypatch.setattr("turnout.cli.prompts._PATIENCE", 0.0)
    three()
    with closing(sqlite3.connect(PROMPTS, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM prompts").fetchone()
        said = fails(capsys, "delete", str(CONFIG), "--key", "alice")
        assert "be read by nobody else, after 2 prompts were deleted from it" in said
        reader.execute("COMMIT")
        assert run(capsys, "delete", "--key", "alice")[0] == "Deleted 0 prompts.\n"
        assert SECRET.encode() not in written()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("delete", str(CONFIG)), "--id, --key, --before, or else --all must be given"),
        (("delete", str(CONFIG), "--all", "--key", "alice"), "got 'both'"),
        (("delete", str(CONFIG), "--id", "alice"), "--id must be tn- and 16 digits; got 'alice'"),
        (("delete", str(CONFIG), "--id", "tn-0"), "--id must be tn- and 16 digits"),
        (("delete", str(CONFIG), "--before", "soon"), "must be a date"),
        (("delete", str(CONFIG), "--before", "2026-13-01"), "must be a date"),
        (("delete", "none.toml", "--all"), "configuration file must be readable"),
        (("list", "none.toml"), "configuration file must be readable"),
        (("export", str(CONFIG), "no/such/file"), "be in a folder that exists"),
        (("export", str(CONFIG), "."), "FILE must be a file"),
        (("export", str(CONFIG), "out.jsonl"), "ledger must exist"),
        (("list",), "Missing argument"),
        (("forget", str(CONFIG)), "No such command"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    """Each mistake is one clear message with exit status 2, and changes nothing."""
    three()
    before = {path.name for path in Path().iterdir()}
    assert said in fails(capsys, *words)
    assert len(kept()) == 3
    assert {path.name for path in Path().iterdir()} == before


@pytest.mark.parametrize("command", ["list", "export", "delete"])
def test_another_file_is_left_alone(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """What is no file of prompts is neither read nor changed."""
    PROMPTS.write_bytes(b"something else" * 100)
    ledger_of(grades={})
    words = {"list": (), "export": ("out.jsonl",), "delete": ("--all",)}[command]
    assert "file of prompts must" in fails(capsys, command, str(CONFIG), *words)
    assert PROMPTS.read_bytes() == b"something else" * 100
    assert not Path("out.jsonl").exists()
    assert not LOG.exists()

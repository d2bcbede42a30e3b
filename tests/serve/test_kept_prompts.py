"""A gateway from end to end: which prompts it keeps, under which ids, and what a failure costs."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from turnout.serve import build
from turnout.serve.config import Config
from turnout.serve.money import reading as books
from turnout.serve.money.reading import id_text
from turnout.serve.prompts import file

from .crowd import Crowd, Upstream, run, started
from .crowd import until as come
from .fault.rig import ask, make_keys, serving, until

SECRET = "the quick brown fox keeps a secret"
ON = "[prompts]\nkeep_days = 30\n"


def kept(path: Path) -> dict[str, tuple[str, str]]:
    """Key and text of all that is kept, by the request's id."""
    with closing(sqlite3.connect(path)) as reader:
        rows = reader.execute("SELECT id, key, prompt FROM prompts")
        return {id_text(id_): (key, text) for id_, key, text in rows}


def written(folder: Path) -> dict[str, bytes]:
    """What stands in the files of a folder and of those in it, by their names."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_request_is_kept_under_its_id(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Whole, streamed, pinned and failed ones; none that was refused; the ledger has the same."""
    config = make_config("ok", "status-500", more=ON, router="fallbacks = 0")
    long = "a prompt that is longer than twenty characters"
    with serving(config, build.build) as gateway:
        sent = [
            (text, gateway.chat(model, text, stream=stream))
            for model, text in (
                ("auto", "hi"),
                ("cheap", "pinned"),
                ("dear", "pin"),
                ("auto", long),
            )
            for stream in (False, True)
        ]
        assert {answer.status for _, answer in sent} == {200, 502}
        bad = [gateway.chat("nobody", SECRET), gateway.chat("auto", SECRET, messages=SECRET)]
        assert all(answer.status >= 400 for answer in bad)
        assert SECRET.encode() not in b"".join(written(tmp_path).values())
    path = file.beside(config.ledger.path)
    assert kept(path) == {answer.id: ("anyone", text) for text, answer in sent}
    assert set(kept(path)) == {row["id"] for row in books.rows(config.ledger.path)}


def test_a_prompt_is_kept_once_under_the_id_that_was_told(
    make_config: Callable[..., Config],
) -> None:
    """However many destinations were tried, and have rows in the ledger, before one answered."""
    config = make_config("ok", "nothing", more=ON, router="fallbacks = 1")
    long = "a prompt that is longer than twenty characters"
    with serving(config, build.build) as gateway:
        answer = gateway.chat("auto", long, stream=True)
    assert (answer.status, answer.headers["x-turnout-fallback-from"]) == (200, "dear")
    assert [row["destination"] for row in books.rows(config.ledger.path)] == ["dear", "cheap"]
    assert kept(file.beside(config.ledger.path)) == {answer.id: ("anyone", long)}


def test_only_what_is_routed_on(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """No answer, no image, no message of an assistant, no header; and the chosen keys alone."""
    secrets = make_keys(tmp_path, alice={}, bob={})
    config = make_config(more=f'[keys]\nfile = "keys.json"\n{ON}keys = ["alice"]')
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,SECRETIMAGE"}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "SECRETANSWER"},
        {"role": "user", "content": [{"type": "text", "text": SECRET}, image]},
    ]
    body = {"model": "auto", "messages": messages, "user": "SECRETUSER"}
    with serving(config, build.build) as gateway:
        for key in ("alice", "bob"):
            headers = {"authorization": f"Bearer {secrets[key]}", "x-more": "SECRETHEADER"}
            assert ask(gateway.url, body=body, headers=headers).status == 200
        files = written(tmp_path)
    files |= written(tmp_path)
    assert list(kept(file.beside(config.ledger.path)).values()) == [
        ("alice", f"be brief\n{SECRET}")
    ]
    assert not [name for name, data in files.items() if b"SECRET" in data]
    holders = {name for name, data in files.items() if SECRET.encode() in data}
    assert holders
    assert all("ledger.sqlite-prompts" in name for name in holders)


def test_off_nothing_is_kept(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Without the table there is no hook, no file and no byte of a prompt."""
    with serving(make_config(), build.build) as gateway:
        assert gateway.desk.keep is None
        assert gateway.chat("auto", SECRET).status == 200
        assert b"turnout_prompts_dropped_total 0\n" in gateway.get("/metrics").body
    assert not [name for name, data in written(tmp_path).items() if SECRET.encode() in data]
    assert not file.beside(tmp_path / "ledger.sqlite").exists()


def test_a_file_that_fails_costs_prompts_and_nothing_else(
    make_config: Callable[..., Config],
) -> None:
    """Requests are answered; the metric and the trouble on the dashboard tell of it."""
    config = make_config(more=ON)
    with serving(config, build.build) as gateway:
        path = file.beside(config.ledger.path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("DROP TABLE prompts")
        assert [gateway.chat("auto", SECRET).status for _ in range(3)] == [200] * 3
        until(lambda: b"turnout_prompts_dropped_total 3\n" in gateway.get("/metrics").body)
        trouble = gateway.get("/admin/state").json["trouble"]
        assert trouble == ["prompts: OperationalError: no such table: prompts"]
        assert gateway.get("/healthz").status == 200


def configure(path: Path, url: str, more: str) -> None:
    """A configuration of two workers, replaced as a whole."""
    new = path.with_suffix(".new")
    new.write_text(
        "[server]\nport = 0\nworkers = 2\n[load]\nlag_seconds = 60\n"
        f'[ledger]\npath = "ledger.sqlite"\n{more}'
        f'[pool.one]\nupstream = "openai:{url}"\nfree = true\n'
    )
    new.replace(path)


def test_workers_that_are_killed_renewed_and_stopped(tmp_path: Path) -> None:
    """Under load: two workers write one file, a kill loses a moment, a reload switches it off."""
    config = tmp_path / "turnout.toml"
    path = file.beside(tmp_path / "ledger.sqlite")
    lost = []

    async def main() -> None:
        async with Upstream() as upstream:
            configure(config, upstream.url, ON)
            with started(config) as gateway:
                crowd = Crowd(gateway.url)
                await crowd.all(8, iter(range(300)), fresh=8)
                os.kill(gateway.workers()[0], signal.SIGKILL)
                await gateway.logged("a worker ended by signal 9")
                await crowd.all(8, iter(range(300, 600)), fresh=8)
                delete = [sys.executable, "-m", "turnout", "prompts", "delete", str(config)]
                first = crowd.answers[300][1]
                done = subprocess.run([*delete, "--id", first], capture_output=True, text=True)
                assert done.stdout in ("Deleted 1 prompt.\n", "Deleted 0 prompts.\n"), done.stderr
                configure(config, upstream.url, "")
                before = set(gateway.workers())
                gateway.tell(signal.SIGHUP)
                await gateway.logged("new workers serve by the configuration as it is now")
                # those who leave may still take a request, and keep its prompt
                await come(lambda: before.isdisjoint(gateway.workers()))
                late = Crowd(gateway.url)
                await late.all(8, iter(range(600, 700)), fresh=8)
                assert gateway.stopped() == 0
            assert late.count(200) == 100
            answered = {told[1]: n for n, told in crowd.answers.items() if told[0] == 200}
            assert len(answered) > 590
            rows = kept(path)
            assert not set(rows) & {told[1] for told in late.answers.values()}
            assert all(
                rows[id_][1] == f"request {answered[id_]}" for id_ in rows if id_ in answered
            )
            lost.extend(answered[id_] for id_ in answered if id_ not in rows)
            assert len([n for n in lost if n >= 300]) <= 1  # the one that was deleted

    run(main())
    # what was not written yet when one of the two was killed
    assert len([number for number in lost if number < 300]) < 300
    assert not re.search(rb"request [67]\d\d\b", b"".join(written(tmp_path).values()))

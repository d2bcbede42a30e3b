"""Real processes: workers that are renewed, stopped and killed while they are at work."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from turnout.serve.money import reading

from .crowd import Crowd, Process, Upstream, run, started, until

NEW = "new workers serve by the configuration as it is now"
STAYS = "the configuration stays as it was"
KILLED = "a worker ended by signal 9; another takes its place"


def write(
    path: Path,
    upstream: Upstream,
    names: str = "one",
    *,
    workers: int = 2,
    key: str = "first",
    usd: float = 1000.0,
    more: str = "",
) -> None:
    """A configuration, replaced as a whole; the last of the names is asked."""
    (path.parent / "key").write_text(f"sk-{key}\n")
    pool = "".join(
        f'[pool.{name}]\nupstream = "openai:{upstream.url}"\nkey_file = "key"\n'
        "usd_per_million_input_tokens = 1\nusd_per_million_output_tokens = 4\n"
        for name in names.split()
    )
    new = path.with_suffix(".new")
    new.write_text(
        f"[server]\nport = 0\nworkers = {workers}\n[load]\nlag_seconds = 60\n"
        f'[router]\nmodel = "{names.split()[-1]}"\n[ledger]\npath = "ledger.sqlite"\n'
        f'[budgets.all]\nusd = {usd}\nperiod = "total"\n{more}{pool}'
    )
    new.replace(path)


class Numbers:
    """Numbers of requests, until it is told that these are enough."""

    def __init__(self) -> None:
        self.enough = False
        self.given = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.enough:
            raise StopIteration
        self.given += 1
        return self.given - 1


def all_answered(crowd: Crowd, numbers: Numbers) -> None:
    """Every request that was sent has got its own, whole answer."""
    assert sorted(crowd.answers) == list(range(numbers.given))
    assert crowd.count(200) == numbers.given, [
        (number, told) for number, told in crowd.answers.items() if told[0] != 200
    ][:5]
    assert not crowd.wrong


def test_a_new_configuration_under_load_loses_no_request(tmp_path: Path) -> None:
    """Another destination, budget and upstream key, one after the other, while many ask."""
    config = tmp_path / "turnout.toml"

    async def story() -> tuple[Crowd, Numbers, Upstream]:
        async with Upstream() as upstream:
            write(config, upstream)
            with started(config) as gateway:
                crowd, numbers = Crowd(gateway.url), Numbers()
                load = asyncio.create_task(crowd.all(24, numbers, fresh=8))
                await until(lambda: len(crowd.answers) > 200)
                for turn, change in enumerate(
                    (
                        {"names": "one two"},
                        {"names": "one two", "usd": 2000.0},
                        {"names": "one two", "usd": 2000.0, "key": "second"},
                    )
                ):
                    before = set(gateway.workers())
                    write(config, upstream, **change)  # type: ignore[arg-type]
                    gateway.tell(signal.SIGHUP)
                    await gateway.logged(NEW, turn + 1)
                    await until(lambda before=before: not before & set(gateway.workers()))
                    some = len(crowd.answers) + 200
                    await until(lambda some=some: len(crowd.answers) > some)
                numbers.enough = True
                await load
                assert gateway.stopped() == 0
                return crowd, numbers, upstream

    crowd, numbers, upstream = run(story())
    all_answered(crowd, numbers)
    assert upstream.keys == {b"Bearer sk-first", b"Bearer sk-second"}
    rows = reading.rows(tmp_path / "ledger.sqlite")
    assert {row["id"] for row in rows} == {name for _, name in crowd.answers.values()}
    assert {row["destination"] for row in rows} == {"one", "two"}
    assert {row["status"] for row in rows} == {200}
    assert rows[-1]["destination"] == "two"


def test_a_smaller_budget_counts_what_was_spent_before(tmp_path: Path) -> None:
    """After the change the budget is the new one, with all that the old workers spent in it."""
    config = tmp_path / "turnout.toml"

    async def story() -> tuple[int, int]:
        async with Upstream(pause=0) as upstream:
            write(config, upstream)
            with started(config) as gateway:
                first = Crowd(gateway.url)
                await first.all(8, iter(range(200)))
                before = set(gateway.workers())
                write(config, upstream, usd=0.02)  # 200 requests have cost about 0.042
                gateway.tell(signal.SIGHUP)
                await gateway.logged(NEW)
                # the old ones may take some more on their way out
                await until(lambda: not before & set(gateway.workers()))
                second = Crowd(gateway.url)
                await second.all(8, iter(range(200, 250)))
                return first.count(200), second.count(429)

    assert run(story()) == (200, 50)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda text: text + "[pool", "must be TOML"),
        (lambda text: text.replace("[router]", "[rooter]"), "rooter"),
        (lambda text: text.replace('key_file = "key"', 'key_file = "nothing"'), "key_file"),
        (lambda text: text.replace('key_file = "key"', 'key_env = "NO_SUCH"'), "NO_SUCH"),
        (lambda text: text.replace("workers = 2", "workers = 3"), "server.workers must stay 2"),
        (lambda text: text.replace("ledger.sqlite", "other.sqlite"), "ledger.path must stay"),
    ],
)
def test_a_broken_configuration_leaves_the_old_one_serving(
    tmp_path: Path, broken: Callable[[str], str], said: str
) -> None:
    """Nothing stops, nothing changes, and the log says what is wrong; a good one then counts."""
    config = tmp_path / "turnout.toml"

    async def story() -> tuple[Crowd, Numbers, str]:
        async with Upstream() as upstream:
            write(config, upstream)
            with started(config) as gateway:
                before = set(gateway.workers())
                crowd, numbers = Crowd(gateway.url), Numbers()
                load = asyncio.create_task(crowd.all(4, numbers, fresh=2))
                config.write_text(broken(config.read_text()))
                gateway.tell(signal.SIGHUP)
                await gateway.logged(STAYS)
                assert set(gateway.workers()) == before
                some = len(crowd.answers) + 20
                await until(lambda: len(crowd.answers) > some)
                write(config, upstream, "one two")
                gateway.tell(signal.SIGHUP)
                await gateway.logged(NEW)
                numbers.enough = True
                await load
                return crowd, numbers, gateway.log.read_text()

    crowd, numbers, log = run(story())
    all_answered(crowd, numbers)
    assert said in log
    assert "Traceback" not in log
    assert not (tmp_path / "other.sqlite").exists()


def test_a_stop_finishes_what_is_in_progress(tmp_path: Path) -> None:
    """All that was asked before the signal is answered and on record; then nobody listens."""
    config = tmp_path / "turnout.toml"

    async def story() -> tuple[Crowd, str]:
        async with Upstream(pause=0.3) as upstream:
            write(config, upstream, workers=3)
            with started(config) as gateway:
                crowd = Crowd(gateway.url)
                numbers = itertools.count()
                load = [
                    asyncio.create_task(crowd.ask(itertools.islice(numbers, 1))) for _ in range(30)
                ]
                await until(lambda: len(upstream._open) == 30)
                gateway.tell(signal.SIGTERM)
                await asyncio.gather(*load)
                status = await asyncio.to_thread(gateway.process.wait, 60)
                assert status == 0
                assert gateway.process.stdout is not None
                address = urlsplit(gateway.url)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address.hostname, address.port), timeout=5)
                return crowd, gateway.process.stdout.read().decode()

    crowd, out = run(story())
    assert crowd.count(200) == 30
    assert not crowd.wrong
    assert out.endswith("stopped\n")
    rows = reading.rows(tmp_path / "ledger.sqlite")
    assert {row["id"] for row in rows} == {name for _, name in crowd.answers.values()}


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Connections that waited for it are taken by its successor, one worker after the other."""
    config = tmp_path / "turnout.toml"

    async def killed(gateway: Process, crowd: Crowd, numbers: Iterator[int]) -> None:
        before = gateway.workers()
        os.kill(before[0], signal.SIGKILL)
        # at once, so that some of these meet the queue of the dead worker
        await crowd.all(16, itertools.islice(numbers, 64), fresh=16)
        await until(lambda: len(set(gateway.workers()) - {before[0]}) == len(before))

    async def story() -> tuple[Crowd, str]:
        async with Upstream(pause=0) as upstream:
            write(config, upstream)
            with started(config) as gateway:
                crowd, numbers = Crowd(gateway.url), itertools.count()
                for _ in range(3):
                    await killed(gateway, crowd, numbers)
                log = gateway.log.read_text()
                assert gateway.stopped() == 0
                return crowd, log

    crowd, log = run(story())
    assert crowd.count(200) == len(crowd.answers) == 192
    assert log.count(KILLED) == 3
    assert len(reading.rows(tmp_path / "ledger.sqlite")) == 192

"""Ten thousand requests, a budget that runs out, and a worker that is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import pytest

from turnout.serve.money import reading

from .crowd import Crowd, Process, Upstream, output_tokens, run, started, until

REQUESTS, CLIENTS, WORKERS = 10_000, 128, 4
#: Pico-dollars of a token read and of one written.
READ, WRITTEN = 1_000_000, 4_000_000
CONFIG = """
[server]
port = 0
workers = {workers}
[load]
lag_seconds = 60
in_hand = 100000
[ledger]
path = "ledger.sqlite"
[retry]
tries = 1
[budgets.all]
usd = {usd}
period = "total"
[budgets.each]
usd = 1000
period = "total"
per = "model"
[pool.one]
upstream = "openai:{url}"
usd_per_million_input_tokens = 1
usd_per_million_output_tokens = 4
timeout_seconds = 60
"""


def cost(number: int) -> int:
    """What the upstream says that a request has cost."""
    return 10 * READ + output_tokens(number) * WRITTEN


def state(gateway: Process) -> dict[str, Any]:
    with urlopen(f"{gateway.url}/admin/state", timeout=30) as answer:
        told: dict[str, Any] = orjson.loads(answer.read())
    return told


async def storm(config: Path) -> tuple[Crowd, Upstream, dict[str, Any], int]:
    """The whole story; what the clients got, what was served, and the state at the end."""
    async with Upstream() as upstream:
        # enough for about seven in ten
        usd = sum(map(cost, range(REQUESTS * 7 // 10))) / 10**12
        config.write_text(CONFIG.format(url=upstream.url, usd=f"{usd:.9f}", workers=WORKERS))
        with started(config) as gateway:
            crowd = Crowd(gateway.url)
            killed: list[int] = []

            def numbers() -> Iterator[int]:
                for number in range(REQUESTS):
                    if number == REQUESTS * 4 // 10:
                        killed.append(gateway.workers()[1])
                        os.kill(killed[0], signal.SIGKILL)
                    yield number

            await crowd.all(CLIENTS, numbers())
            # the worker that took the place of the dead one has put its books right
            await until(lambda: len(gateway.workers()) == WORKERS)
            await until(lambda: not any(one["reserved_usd"] for one in state(gateway)["budgets"]))
            shown = state(gateway)
            assert killed[0] not in gateway.workers()
            assert gateway.stopped() == 0
    return crowd, upstream, shown, round(usd * 10**12)


@pytest.mark.slow
def test_nothing_is_lost_when_a_worker_is_killed_under_load(tmp_path: Path) -> None:
    """Ledger, clients, upstream and the state shown agree to the last pico-dollar."""
    crowd, upstream, shown, limit = run(storm(tmp_path / "turnout.toml"))
    rows = reading.rows(tmp_path / "ledger.sqlite")
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)

    # every request has come to an end, and only the dead worker's clients were let down
    assert sorted(crowd.answers) == list(range(REQUESTS))
    assert not crowd.wrong
    good, refused, lost = (crowd.count(status) for status in (200, 429, 0))
    assert good + refused + lost == REQUESTS
    assert lost <= CLIENTS
    assert good > REQUESTS / 2
    assert refused > REQUESTS / 10

    # whatever a client was given is in the ledger, once, at the cost the upstream told
    for number, (status, name) in crowd.answers.items():
        if status == 200:
            row = by_id[name]
            assert (row["status"], row["completion_id"]) == (200, f"number-{number}")
            assert row["cost_pico"] == cost(number)
            assert not row["estimated"]

    # whatever the upstream served is in the ledger: by its name, or as given up with its worker
    served = set(upstream.served)
    assert len(served) == len(upstream.served)
    named = {
        int(row["completion_id"].removeprefix("number-")) for row in rows if row["completion_id"]
    }
    died = [row for row in rows if row["error_type"] == "gateway_died"]
    assert named <= served
    assert len(served - named) <= len(died) <= lost
    assert all(crowd.answers[number][0] == 0 for number in served - named)
    assert all(row["cost_pico"] > 0 for row in died)
    assert len(named) + len(died) == len(rows)

    # the budget: as shown it is what the ledger says, and overspent at most by what was in flight
    spent = sum(row["cost_pico"] for row in rows)
    for budget in shown["budgets"]:
        assert round(budget["spent_usd"] * 10**12) == spent
        assert budget["reserved_usd"] == 0
    assert spent <= limit + CLIENTS * max(map(cost, range(61)))
    assert spent >= limit - 2 * max(row["cost_pico"] for row in rows)
    assert reading.spend(tmp_path / "ledger.sqlite") == pytest.approx(spent / 10**12)

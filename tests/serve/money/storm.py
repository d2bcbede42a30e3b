"""Workers reserve and settle as fast as they can while one after the other is killed.

Run as a program of its own, because it forks and must have no other threads. It prints, as JSON,
what was done and what was wrong afterwards: the ledger, the board and what the workers wrote down
themselves before they died have to agree to the last pico-dollar, and no budget may be exceeded.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turnout.core import BudgetExceededError
from turnout.serve.money import reading
from turnout.serve.money.budgets import BudgetRule
from turnout.serve.money.entry import Entry
from turnout.serve.money.journal import JournalFullError
from turnout.serve.money.periods import bounds
from turnout.serve.money.prices import Price, Tariff
from turnout.serve.money.purses import Purses
from turnout.serve.money.store import Store
from turnout.serve.money.usage import Usage

NOON = 1_795_867_200_000
MINUTE = 60_000
WORKERS = 3
TARIFFS = {"cheap": Tariff([(0, Price(1, 4))]), "dear": Tariff([(0, Price(3, 7))])}
RULES = [
    BudgetRule(name="pool", usd=2, period="minute"),
    BudgetRule(name="keys", usd="0.8", period="minute", per="key"),
    BudgetRule(name="models", usd=1.5, period="minute", per="model"),
    BudgetRule(name="all", usd=1000, period="total"),
]


def work(store: Store, worker: int, ms: int, stop: mmap.mmap, path: Path, seed: int) -> None:
    """Serve until told to stop; what costs what was predicted, so that no budget is exceeded."""
    rng = random.Random(seed)
    books = store.join(worker)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    holds: list[Any] = []
    while not stop[0]:
        try:
            hold = books.open(
                key=rng.choice(("alice", "bob", "carol")),
                destination=rng.choice(("cheap", "dear")),
                model="auto",
                chars=rng.randrange(4000),
                cap=rng.randrange(1, 300),
                ms=ms,
            )
        except (BudgetExceededError, JournalFullError) as refusal:
            os.write(log, f"refused {type(refusal).__name__} {ms}\n".encode())
            time.sleep(0.001)
        else:
            os.write(log, f"open {hold.id} {hold.amount}\n".encode())
            holds.append(hold)
        while holds and (len(holds) > 5 or rng.random() < 0.5):
            hold = holds.pop(rng.randrange(len(holds)))
            what = rng.random()
            if what < 0.1:
                os.write(log, f"drop {hold.id} 0\n".encode())
                books.drop(hold)
                continue
            if what < 0.2:
                with contextlib.suppress(BudgetExceededError, JournalFullError):
                    hold.move("dear" if hold.destination == "cheap" else "cheap")
                os.write(log, f"open {hold.id} {hold.amount}\n".encode())
            usage = Usage(hold.input_tokens, hold.output_tokens)
            os.write(log, f"close {hold.id} {hold.amount}\n".encode())
            cost = books.close(hold, Entry(status=200, usage=usage))
            os.write(log, f"closed {hold.id} {cost}\n".encode())
    for hold in holds:
        os.write(log, f"close {hold.id} 0\n".encode())
        os.write(log, f"closed {hold.id} {books.close(hold, Entry(status=503))}\n".encode())
    books.stop()


def fork(*args: Any) -> int:
    """Start a worker."""
    pid = os.fork()
    if not pid:
        try:
            work(*args)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid


def until_full(folder: Path, ms: int) -> None:
    """Wait until a budget has refused a request of this minute."""
    end = time.monotonic() + 30
    told = f"refused OverBudgetError {ms}"
    while time.monotonic() < end:
        if any(told in path.read_text() for path in folder.glob("log-*")):
            return
        time.sleep(0.002)


def wrong(store: Store, folder: Path, ms: int) -> Iterator[str]:
    """Where ledger, board and the workers' own notes differ."""
    told: dict[int, tuple[str, int]] = {}
    for path in folder.glob("log-*"):
        for line in path.read_text().splitlines():
            word, *rest = line.split()
            if word != "refused":
                number, amount = map(int, rest)
                told[number] = (word, amount)
    rows = {row["number"]: row for row in reading.rows(store.path)}
    for number, (word, amount) in told.items():
        row = rows.get(number)
        cost = None if row is None else row["cost_pico"]
        if word == "closed" and cost != amount:
            yield f"closed at {amount}, kept at {cost}"
        if word in ("open", "close") and row is None:
            yield f"was in state {word} and is not there"
        # a move just before the kill may not have been noted any more
        if word == "open" and row is not None and row["status"] != 499:
            yield "was in flight and was not given up"
        if word == "drop" and row is not None and row["status"] != 499:
            yield "was being dropped and was closed"
    for number, row in rows.items():
        if number not in told and row["status"] != 499:
            yield "closed and never noted"
    for state in Purses(store.board, RULES, 0).states(ms):
        (rule,) = (rule for rule in RULES if rule.name == state.budget)
        start, end = bounds(rule.period, ms)
        spent = sum(
            row["cost_pico"]
            for number, row in rows.items()
            if start <= number >> 21 < end
            and rule.holder(row["key"], row["destination"]) == state.holder
        )
        if (state.spent, state.reserved) != (spent, 0):
            yield f"{state.budget}/{state.holder}: {state.spent} + {state.reserved}, not {spent}"
        if spent > rule.limit:
            yield f"{state.budget}/{state.holder}: {spent} is above the limit"


def main() -> None:
    """So many rounds of a minute each, with three kills in each."""
    rounds, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(dir=shared))
    stop = mmap.mmap(-1, 1)
    found: list[str] = []
    kills = 0
    try:
        small: dict[str, Any] = {"slots": 4096, "purses": 16, "rates": 2, "ms": NOON}
        store = Store(folder / "l", tariffs=TARIFFS, rules=RULES, workers=WORKERS, **small)
        for turn in range(rounds):
            stop[0] = 0
            ms = NOON + turn * MINUTE
            pids = {}

            def start(worker: int, ms: int = ms, pids: dict[int, int] = pids) -> None:
                path = folder / f"log-{worker}"
                pids[worker] = fork(store, worker, ms, stop, path, rng.randrange(2**32))

            for worker in range(WORKERS):
                start(worker)
            for _ in range(3):
                time.sleep(rng.uniform(0.002, 0.03))
                worker = rng.randrange(WORKERS)
                os.kill(pids[worker], signal.SIGKILL)
                os.waitpid(pids[worker], 0)
                kills += 1
                start(worker)
            until_full(folder, ms)
            stop[0] = 1
            for pid in pids.values():
                if os.waitpid(pid, 0)[1]:
                    found.append("a worker failed")
            found += [f"round {turn}: {what}" for what in wrong(store, folder, ms)]
        store.close()
        rows = reading.rows(folder / "l")
        last = Store(folder / "l", tariffs=TARIFFS, rules=RULES, **{**small, "ms": ms})
        found += [f"after all: {what}" for what in wrong(last, folder, ms)]
        last.close()
        notes = "".join(path.read_text() for path in folder.glob("log-*"))
        refused = notes.count("refused OverBudgetError")
        died = sum(row["error_type"] == "gateway_died" for row in rows)
        told = {"kills": kills, "requests": len(rows), "died": died, "refused": refused}
        print(json.dumps({**told, "wrong": found[:10]}))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

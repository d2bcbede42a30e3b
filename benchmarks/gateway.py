"""Measures what the gateway costs, beside other gateways, in one interleaved run.

    python benchmarks/gateway.py [--quick] [--json FILE] [--data DIR] [--peers DIR]

Every contestant runs alone on core 0, with one worker, logs off, in front of the same upstream;
the load and the upstream run on core 1. Contestants take turns of a few seconds a cell, the order
changing from round to round, so that what else the machine does meets all of them alike. Figures
are medians over rounds, with the least and the greatest; ratios are taken within a round.

Whole answers (324 bytes) come from nginx; streams (22 events) from a small server of this
benchmark, which writes each event by itself: `stream` as fast as it can, `paced` one every 5 ms.
Requests have 400 bytes and a key. wrk drives closed loops; a first block of each cell, which is
not timed, looks at every answer. `replay` sends a real trace of arrivals, with its bursts, at its
own times whatever the answers do. CPU is user and system time of all processes of a contestant.

Marks: at most 60 us of CPU a request and 5 us a streamed event with 32 connections, at most 3
times nginx's, 250 times less than LiteLLM's; under 80 MB resident a worker.

nginx and wrk are taken from the system, else fetched by apt and unpacked into --peers; peers are
installed from PyPI into environments there (a temporary folder where it is not given). Whatever
cannot be had or started is said and left out. All of it takes half an hour. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console

from _gateway_drive import Driver  # type: ignore[import-not-found,unused-ignore]
from _gateway_process import (  # type: ignore[import-not-found,unused-ignore]
    core_time,
    yardstick,
)
from _gateway_run import Run  # type: ignore[import-not-found,unused-ignore]
from _gateway_show import show  # type: ignore[import-not-found,unused-ignore]
from _gateway_systems import (  # type: ignore[import-not-found,unused-ignore]
    PEERS,
    SYSTEMS,
    Yard,
)
from _gateway_task import (  # type: ignore[import-not-found,unused-ignore]
    arrivals,
    data_folder,
    make_task,
)
from _gateway_tools import tool  # type: ignore[import-not-found,unused-ignore]

MODES = ("whole", "replay", "stream", "paced")
#: Share of the gateway's core that others may take during blocks.
DISTURBED = 0.05


def cores() -> tuple[tuple[int, int], str]:
    """The gateway's core and the load's, and a warning where they are one."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) > 1:
        return (mine[0], mine[1]), ""
    return (mine[0], mine[0]), "one core only: gateway, load and upstream take turns on it"


def quiet(core: int, seconds: float = 0.5) -> float:
    """Share of a core's time that others take while nothing runs here."""
    before = core_time(core)[0]
    time.sleep(seconds)
    return float((core_time(core)[0] - before) / seconds)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What the gateway costs, beside others.")
    parser.add_argument("--quick", action="store_true", help="about three minutes, no peers")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--data", type=Path, help="folder of the data sets (TURNOUT_DATA)")
    parser.add_argument("--peers", type=Path, help="keep what is fetched in this folder")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), help="these only")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--concurrency", nargs="+", type=int, help="connections (1 32 128)")
    parser.add_argument("--seconds", type=float, help="of a block")
    parser.add_argument("--rounds", type=int, help="blocks of a contestant in a cell")
    parser.add_argument("--rate", type=float, default=1000.0, help="mean of the replay, a second")
    options = parser.parse_args()
    small = options.quick
    if options.systems is None:
        options.systems = [name for name in SYSTEMS if not (small and name in PEERS)]
    options.concurrency = options.concurrency or ([1, 32] if small else [1, 32, 128])
    options.seconds = options.seconds or (2.0 if small else 3.0)
    options.rounds = options.rounds or (2 if small else 5)
    options.replays = 1 if small else 3
    if options.peers is not None:
        options.peers = options.peers.absolute()
        options.peers.mkdir(parents=True, exist_ok=True)
    return options


def main() -> None:
    """Run it."""
    options = parse()
    if sys.platform != "linux":
        raise SystemExit("gateway.py pins processes and reads /proc: it needs Linux.")
    # ended by a signal, it ends what it has started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 160
    both, warning = cores()
    data = data_folder(options.data)
    before = quiet(both[0])
    exchange, turn = yardstick(both[0])
    with tempfile.TemporaryDirectory(prefix="turnout-gateway-") as scratch:
        folder = Path(scratch)
        peers = options.peers or folder / "peers"
        peers.mkdir(exist_ok=True)
        progress.print("[dim]fitting the router[/]")
        task = make_task(data, folder)
        wrk, no_wrk = tool("wrk", peers)
        load = None if wrk is None else (wrk.path, wrk.env)
        yard = Yard(folder, peers, task, both)
        run = Run(options, yard, Driver(load, core=both[1], folder=folder), progress)
        most = 4000 if options.quick else None
        trace, no_trace = arrivals(data, options.rate, most)
        try:
            run.go(trace)
        except KeyboardInterrupt:
            run.absent["the rest"] = "interrupted"
    about = [
        f"{platform.processor() or platform.machine()}, {_model()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}",
        f"core {both[0]}: the gateway; core {both[1]}: load and upstream; rounds: {options.rounds} "
        f"of {options.seconds:g} s",
        f"on this core 400 bytes sent over the loopback and taken cost {exchange:.1f} us of CPU "
        f"(every answer needs two such, every event one), a turn of a Python loop {turn:.0f} ns",
        f"prompts and router: {task.source}",
        f"load: {wrk.version if wrk else 'a client of this benchmark: ' + no_wrk}",
        *run.notes,
        "versions: " + ", ".join(sorted(set(yard.versions.values()))),
        f"the gateway's core was {before:.0%} busy before the run; others took "
        f"{median(run.others or [0.0]):.1%} of it during blocks, {max(run.others or [0.0]):.1%} "
        "at the worst",
    ]
    if trace is not None and "replay" in options.modes:
        about.append("replay: " + trace.about())
    elif "replay" in options.modes:
        run.absent["replay"] = no_trace
    if warning:
        about.append(warning)
    if median(run.others or [0.0]) > DISTURBED:
        about.append("this machine was busy with other work: do not read much into these figures")
    told = show(console, run.rows, run.absent, about, run.decision)
    if options.json:
        document = {
            "rows": [row.record() for row in run.rows],
            "absent": run.absent,
            "about": about,
            "marks": [asdict(mark) for mark in told],
            "versions": yard.versions,
            "yardstick": {"loopback_us": exchange, "python_turn_ns": turn},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if "the rest" in run.absent:
        sys.exit(130)


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


if __name__ == "__main__":
    main()

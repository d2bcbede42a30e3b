"""Measures how long one decision takes, from a string to a choice, beside others.

    python benchmarks/decisions.py [--data DIR] [--json FILE] [--peers DIR]

Every contestant runs in a process of its own on one core, is trained on the same prompts, and
decides the same prompts one by one; contestants take turns, block by block, so that what else the
machine does meets all of them alike. Of each prompt the least of its rounds counts (what the
decision costs when nothing interferes); the columns marked *all* count every timing.

This package runs as it does where a compiler is at hand, once more among eleven destinations, and
as it does where there is none; by the default router, and by the linear one. Marks, on one core:
p50 at most 50 us and p99 at most 300 us for the default; for the linear router 10 and 60 with
compiled code, 50 and 300 with arrays.

Prompts are the MMLU and GSM8K questions of the RouteLLM table where there is a folder of tables
(--data, or TURNOUT_DATA), else made up, of like length. Peers are installed from PyPI into a
throw-away environment beside this one (--peers keeps it); what cannot be had is said and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table

from _deciders import CONTESTANTS  # type: ignore[import-not-found,unused-ignore]

#: Contestants of this package -> p50 and p99 that they may take, in microseconds.
MARKS = {
    "ours": (50.0, 300.0),
    "ours_arrays": (50.0, 300.0),
    "linear": (10.0, 60.0),
    "linear_arrays": (50.0, 300.0),
}
TABLE = "routellm_gpt4_mixtral.csv.gz"


@dataclass(frozen=True)
class Row:
    """What one contestant took, in microseconds."""

    name: str
    p50: float
    p99: float
    all_p50: float
    all_p99: float
    cpu: float
    ratio: float
    ratio_low: float
    ratio_high: float


def real_task(folder: Path, seed: int, decisions: int) -> dict[str, Any]:
    """Four fifths of the table to learn from, prompts of the last fifth to decide."""
    from turnout.bench import read

    table = read(folder / TABLE).outcomes
    order = np.random.default_rng(seed).permutation(table.n)
    train, test = order[: table.n * 4 // 5], order[table.n * 4 // 5 :][:decisions]
    return {
        "train": [table.inputs[int(i)] for i in train],
        "quality": table.quality[train].tolist(),
        "prompts": [table.inputs[int(i)] for i in test],
        "source": "RouteLLM table, MMLU and GSM8K questions",
    }


def made_task(seed: int, decisions: int) -> dict[str, Any]:
    """Prompts of made-up words, as often and as long as words and questions are."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    sizes = rng.integers(2, 11, 20_000)
    words = np.array(["".join(letters[rng.zipf(1.3, size) % 26]) for size in sizes])

    def prompt() -> str:
        count = int(np.clip(rng.lognormal(4.0, 0.8), 5, 800))
        return " ".join(words[rng.zipf(1.25, count) % len(words)]) + "\nA. B. C. D.\nAnswer:"

    texts = [prompt() for _ in range(6000 + decisions)]
    right = rng.random((6000, 2)) < [0.68, 0.81]
    return {
        "train": texts[:6000],
        "quality": right.astype(float).tolist(),
        "prompts": texts[6000:],
        "source": "made-up prompts",
    }


def environment(folder: Path) -> Path:
    """A Python that also sees what is installed here, so that only the peers are fetched."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for site in folder.glob("lib/python*/site-packages"):
            here = [path for path in sys.path if path.endswith("site-packages")]
            (site / "beside.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    return python


def installed(python: Path, wants: tuple[str, ...]) -> str:
    """Nothing once pip has them, else its last word."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        run = subprocess.run(
            [*command, *wants], capture_output=True, text=True, timeout=900, check=False
        )
    except subprocess.TimeoutExpired:
        return "pip took more than 15 minutes"
    return "" if run.returncode == 0 else _last(run.stderr)


class Contestant:
    """A process that decides on demand."""

    def __init__(self, name: str, python: Path, task: Path, log: TextIO) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("_deciders.py")), name, str(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        assert self.process.stdout is not None
        self.ready = bool(self.process.stdout.readline())

    def block(self, start: int, stop: int) -> tuple[list[int], float]:
        """Nanoseconds of each decision, processor seconds of all."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{start} {stop}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["ns"], answer["cpu"]

    def end(self) -> None:
        """Let it go."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()


def race(contestants: list[Contestant], n: int, rounds: int, block: int) -> list[Row]:
    """All contestants over all prompts, taking turns; the first one is the measure."""
    times = {one.name: np.zeros((rounds, n)) for one in contestants}
    cpu = dict.fromkeys(times, 0.0)
    for turn in range(rounds):
        # Blocks begin elsewhere each round: the first prompt of one finds its caches taken, and no
        # prompt shall be that one in every round.
        edges = sorted({0, n, *range(turn * block // rounds, n, block)})
        for number, (start, stop) in enumerate(pairwise(edges)):
            # who goes first changes, so that nobody always follows the same neighbour
            shift = (turn + number) % len(contestants)
            for one in contestants[shift:] + contestants[:shift]:
                nanoseconds, seconds = one.block(start, stop)
                times[one.name][turn, start:stop] = np.array(nanoseconds) / 1e3
                cpu[one.name] += seconds
    base = np.median(times[contestants[0].name], axis=1)
    rows = []
    for one in contestants:
        took = times[one.name]
        least = took.min(axis=0)
        ratios = np.median(took, axis=1) / base
        rows.append(
            Row(
                name=CONTESTANTS[one.name][1],
                p50=float(np.median(least)),
                p99=float(np.quantile(least, 0.99)),
                all_p50=float(np.median(took)),
                all_p99=float(np.quantile(took, 0.99)),
                cpu=cpu[one.name] / took.size * 1e6,
                ratio=float(np.median(ratios)),
                ratio_low=float(ratios.min()),
                ratio_high=float(ratios.max()),
            )
        )
    return rows


def show(console: Console, rows: list[Row], absent: dict[str, str], about: str) -> None:
    """The table, the marks, and what is missing."""
    table = Table(title="One decision, one core, microseconds")
    for column in ("", "p50", "p99", "all p50", "all p99", "CPU", "x first (over rounds)"):
        table.add_column(column, justify="left" if column == "" else "right")
    for row in rows:
        figures = (row.p50, row.p99, row.all_p50, row.all_p99, row.cpu)
        spread = f"{row.ratio:.1f} ({row.ratio_low:.1f} to {row.ratio_high:.1f})"
        table.add_row(
            row.name, *(f"{value:.{0 if value >= 100 else 1}f}" for value in figures), spread
        )
    console.print(table)
    console.print(about)
    for name, marks in MARKS.items():
        for row in (row for row in rows if row.name == CONTESTANTS[name][1]):
            for what, value, mark in zip(("p50", "p99"), (row.p50, row.p99), marks, strict=True):
                verdict = "met" if value <= mark else "missed"
                console.print(f"{row.name}: {what} <= {mark:.0f} us: {verdict} ({value:.1f} us)")
    for name, why in absent.items():
        console.print(f"left out: {CONTESTANTS[name][1]}: {why}")


def enter(
    names: list[str], task: Path, peers: Path, folder: Path, console: Console
) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants that could be had, and why the others could not."""
    here, absent = [], {}
    for name in names:
        wants = CONTESTANTS[name][2]
        python = Path(sys.executable)
        if wants:
            python = environment(peers)
            console.print(f"[dim]installing {wants[-1] if len(wants) < 2 else wants[1]}[/]")
            why = installed(python, wants)
            if why:
                absent[name] = why
                continue
        path = folder / f"{name}.log"
        with path.open("w", encoding="utf-8") as log:
            one = Contestant(name, python, task, log)
        if one.ready:
            here.append(one)
        else:
            one.end()
            absent[name] = _last(path.read_text(encoding="utf-8", errors="replace"))
    return here, absent


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Time of one decision, from string to choice.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--peers", type=Path, help="keep the peers' environment in this folder")
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="this peer only")
    parser.add_argument("--decisions", type=int, default=1000, help="prompts decided a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=int, default=50, help="decisions in one turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, errors = Console(), Console(stderr=True)
    data = options.data or (
        Path(os.environ["TURNOUT_DATA"]) if "TURNOUT_DATA" in os.environ else None
    )
    if data is not None:
        task = real_task(data, options.seed, options.decisions)
    else:
        task = made_task(options.seed, options.decisions)
    names = [*MARKS, *(name for name in options.only or CONTESTANTS if name not in MARKS)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "task.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        peers = options.peers or folder / "peers"
        here, absent = enter(names, path, peers, folder, errors)
        try:
            if not here or here[0].name not in MARKS:
                raise SystemExit(f"the router of this package did not start: {absent}")
            rows = race(here, len(task["prompts"]), options.rounds, options.block)
        finally:
            for one in here:
                one.end()
    mean = float(np.mean([len(text) for text in task["prompts"]]))
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    about = (
        f"{len(task['prompts'])} prompts ({task['source']}, mean {mean:.0f} characters), "
        f"{options.rounds} rounds, blocks of {options.block}; {os.cpu_count()} cores, load {load}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
    show(console, rows, absent, about)
    if options.json:
        document = {"rows": [asdict(row) for row in rows], "absent": absent, "about": about}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measures mixture-of-experts layers on a processor beside other libraries, dense and roofline.

    python benchmarks/moe.py [--quick] [--cells NAME=VALUE|VALUE ...] [--seconds S] [--json FILE]

Layers of d = 512, f = 1024, gated by SiLU. Contestants of a cell take turns, block by block;
one thread is timed by processor time, more by the wall. Every cell goes through eight draws of the
choices and through so many layers that no matrix waits in a cache. Before a contestant is timed
its answer is held against the loop over experts; a wrong one is reported, not timed.

    roofline = max(FLOPs / measured product, bytes of active matrices (x 3 trained) / measured read)

`dense` is one feed-forward network on t * k rows. Peers are those that can be imported here;
which could not be, and how to get them, is said. Cells that would take absurdly long are skipped
for that contestant, with the reason. `--device cuda` hands over to `moe_gpu.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import runpy
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from _moe_cells import (  # type: ignore[import-not-found,unused-ignore]
    Cell,
    D,
    F,
    Inputs,
    Machine,
    Stock,
    Times,
    all_cells,
    ceilings,
    dense,
    moving,
    quick_cells,
    race,
    wanted,
)
from _moe_peers import (  # type: ignore[import-not-found,unused-ignore]
    CONTESTANTS,
    Contestant,
    absent,
)
from turnout.nn.dispatch import naive, native, run

PEER, DENSE, DECODE, TRAIN, MOVE = 1.1, 1.15, 2.0, 3.0, 3.0
COLUMNS = tuple(c.name for c in CONTESTANTS)


def wrong(contestant: Contestant, inputs: Inputs) -> str:
    """Why the answer of ours is wrong, or the empty word; peers of other rules are not judged."""
    if not contestant.ours or contestant.layer:
        return ""
    bank, ids = inputs.banks[0], inputs.ids[0]
    if inputs.cell.t * inputs.cell.k > 2048:
        return ""
    with torch.no_grad():
        truth = naive.run(inputs.x, ids, inputs.weights, bank).float()
        made = run(inputs.x, ids, inputs.weights, bank).float()
    off = float((made - truth).norm() / truth.norm())
    limit = 1e-5 if inputs.cell.dtype == "float32" else 1e-2
    return "" if off < limit else f"WRONG: off by {off:.1e}"


def measure(
    cell: Cell, stock: Stock, gone: dict[str, str], seconds: float, out: set[str]
) -> tuple[dict[str, Times], dict[str, str], float]:
    """Times by name, reasons of those left out, active experts."""
    torch.set_num_threads(cell.threads)
    inputs = stock.inputs(cell)
    calls, reasons = {}, {}
    for contestant in CONTESTANTS:
        if contestant.name in out or contestant.name in gone:
            continue
        reason = contestant.unfit(inputs) or wrong(contestant, inputs)
        if reason:
            reasons[contestant.name] = reason
            continue
        try:
            # what peers print while they are made or compiled is not ours to show
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                call = contestant.make(inputs)
                call(0)
        except Exception as error:
            reasons[contestant.name] = f"failed: {type(error).__name__}: {str(error)[:80]}"
            continue
        calls[contestant.name] = call
    slow = cell.dtype != "float32" and cell.flops / 7e9 > 8
    if slow:
        reasons["dense"] = f"torch has no fast product of {cell.dtype} here"
    else:
        calls["dense"] = dense(inputs)
    times = race(calls, threads=cell.threads, seconds=seconds)
    return times, reasons, inputs.active


class Report:
    """Rows as they come, and the marks over all of them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.rows: list[dict[str, Any]] = []

    def add(
        self, cell: Cell, times: dict[str, Times], reasons: dict[str, str], active: float
    ) -> dict[str, Any]:
        """One cell."""
        roof = self.machine.roofline(cell, active)
        mine = times["ours"]
        peers = {
            c.name: times[c.name]
            for c in CONTESTANTS
            if c.name in times and not c.ours and not c.layer
        }
        row: dict[str, Any] = {
            "cell": cell.facts(),
            "label": cell.label(),
            "active": active,
            "roofline_ms": roof * 1e3,
            "times": {
                name: {
                    "least_ms": one.least * 1e3,
                    "median_ms": one.median * 1e3,
                    "spread": one.spread,
                    "rounds": len(one.rounds),
                }
                for name, one in times.items()
            },
            "left_out": reasons,
            "to_roofline": mine.least / roof,
        }
        if peers:
            best = min(peers, key=lambda name: peers[name].least)
            row["best_peer"] = best
            row["to_peer"] = mine.least / peers[best].least
            row["to_peer_median"] = mine.median / min(p.median for p in peers.values())
        layers = [times[c.name] for c in CONTESTANTS if c.name in times and c.layer and not c.ours]
        if layers and "our layer" in times:
            row["layer_to_peer"] = times["our layer"].least / min(one.least for one in layers)
        if "dense" in times:
            row["to_dense"] = mine.least / times["dense"].least
        self.rows.append(row)
        return row

    def marks(self, moved: float | None) -> list[tuple[str, str, str]]:
        """Mark, verdict, worst cell."""

        def over(key: str, limit: float, rows: list[dict[str, Any]], what: str) -> None:
            seen = [row for row in rows if key in row]
            if not seen:
                out.append((what, "not measured", ""))
                return
            worst = max(seen, key=lambda row: row[key])
            missed = [row for row in seen if row[key] > limit]
            verdict = "met" if not missed else f"missed in {len(missed)}"
            line = f"{len(seen)} cells, worst {worst[key]:.2f} at {worst['label']}"
            out.append((what, verdict, line))

        def pick(**want: Any) -> list[dict[str, Any]]:
            return [r for r in self.rows if all(r["cell"][k] in v for k, v in want.items())]

        out: list[tuple[str, str, str]] = []
        over("to_peer", PEER, self.rows, f"dispatch <= {PEER} x best peer")
        over("layer_to_peer", PEER, self.rows, f"layer <= {PEER} x best peer")
        large = pick(e=("8",), t=("512", "4096"))
        over("to_dense", DENSE, large, f"T >= 512, E = 8 <= {DENSE} x dense")
        few = pick(t=("1", "16"), **{"pass": ("forward",)})
        over("to_roofline", DECODE, few, f"decode (T <= 16) <= {DECODE} x roofline")
        many = pick(e=("64",), **{"pass": ("train",)})
        over("to_roofline", TRAIN, many, f"training, E = 64 <= {TRAIN} x roofline")
        what = f"dispatch and combine <= {MOVE} x copy"
        if moved is None:
            out.append((what, "not measured", ""))
        else:
            out.append((what, "met" if moved <= MOVE else "missed", f"{moved:.2f}"))
        return out


def table(title: str) -> Table:
    """The head."""
    made = Table(title=title, pad_edge=False)
    made.add_column("cell", no_wrap=True)
    for name in ("roofline", "dense", *COLUMNS):
        made.add_column(name, justify="right")
    for name in ("/peer", "/dense", "/roof"):
        made.add_column(name, justify="right")
    return made


def line(row: dict[str, Any]) -> list[str]:
    """One row: least milliseconds, spread of ours in brackets."""
    times = row["times"]

    def least(name: str) -> str:
        if name not in times:
            return "-"
        value = f"{times[name]['least_ms']:.2f}"
        return f"{value} ±{times[name]['spread'] * 50:.0f}%" if name == "ours" else value

    def ratio(key: str) -> str:
        return f"{row[key]:.2f}" if key in row else "-"

    values = [f"{row['roofline_ms']:.2f}", least("dense"), *(least(name) for name in COLUMNS)]
    return [row["label"], *values, *(ratio(k) for k in ("to_peer", "to_dense", "to_roofline"))]


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Mixture-of-experts layers on a processor.")
    parser.add_argument("--quick", action="store_true", help="a few cells, about two minutes")
    parser.add_argument(
        "--cells",
        nargs="*",
        default=[],
        metavar="NAME=VALUE|VALUE",
        help="only these: threads, dtype, e, k, t, pass=forward|train, load=even|zipf",
    )
    parser.add_argument("--seconds", type=float, help="of alternating rounds, over all cells")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--dtype", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--without", nargs="*", default=[], help="contestants to leave out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    options = options_of()
    console = Console(width=250 if not sys.stdout.isatty() else None)
    if options.device == "cuda":
        sys.argv = [sys.argv[0], *(["--json", str(options.json)] if options.json else [])]
        runpy.run_path(str(Path(__file__).with_name("moe_gpu.py")), run_name="__main__")
        return
    warnings.simplefilter("ignore")
    make = quick_cells if options.quick else all_cells
    cells = [c for c in make(options.threads, options.dtype) if wanted(c, options.cells)]
    cells.sort(key=lambda c: (c.dtype, c.e))  # matrices are made once for those alike
    seconds = (options.seconds or (100 if options.quick else 6 * len(cells))) / max(1, len(cells))
    gone = absent()
    console.print("kernels built" if native.available() else "no kernels: torch alone")
    machine = ceilings(sorted({c.threads for c in cells} | set(options.threads)))
    report, stock = Report(machine), Stock()
    began = time.perf_counter()
    for number, cell in enumerate(cells):
        times, reasons, active = measure(cell, stock, gone, seconds, set(options.without))
        row = report.add(cell, times, reasons, active)
        told = " ".join(f"{n} {t['least_ms']:.2f}" for n, t in row["times"].items())
        console.print(f"[dim]{number + 1}/{len(cells)} {cell.label()}: {told}[/]", highlight=False)
        if options.json:
            save(options.json, report, gone, None)
    # ceilings again: whichever of the two was less disturbed counts
    again = ceilings(list(machine.gflops))
    for best, other in ((machine.gflops, again.gflops), (machine.gbs, again.gbs)):
        for n in best:
            best[n] = max(best[n], other[n])
    for row, cell in zip(report.rows, cells, strict=True):
        roof = machine.roofline(cell, row["active"])
        row["roofline_ms"] = roof * 1e3
        row["to_roofline"] = row["times"]["ours"]["least_ms"] / (roof * 1e3)
    there, copy = moving(machine, options.threads[0])
    shown = table("Least milliseconds of a call")
    for row in report.rows:
        shown.add_row(*line(row))
    console.print(shown)
    left = sorted(
        {f"{name}: {why}" for row in report.rows for name, why in row["left_out"].items()}
    )
    for one in left:
        console.print(f"skipped in some cells: {one}", highlight=False)
    for name, why in gone.items():
        console.print(f"could not be started: {name}: {why}", highlight=False)
    console.print(about(machine, began), highlight=False)
    move = f"{there * 1e3:.1f} ms beside {copy * 1e3:.1f} ms for one copy"
    console.print(f"4096 x 8 rows of {D} to 64 experts and back: {move}", highlight=False)
    for what, verdict, where in report.marks(there / copy):
        console.print(f"mark {what}: {verdict} ({where})", highlight=False)
    if options.json:
        save(options.json, report, gone, there / copy)


def about(machine: Machine, began: float) -> str:
    """The machine in words."""
    limits = ", ".join(
        f"threads {n}: {machine.gflops[n]:.0f} GFLOP/s, {machine.gbs[n]:.1f} GB/s"
        for n in machine.gflops
    )
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"d {D}, f {F}; {limits}; {os.cpu_count()} cores, load {load}, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {time.perf_counter() - began:.0f} s"
    )


def save(path: Path, report: Report, gone: dict[str, str], moved: float | None) -> None:
    """The figures as JSON."""
    document = {
        "d": D,
        "f": F,
        "machine": asdict(report.machine)
        | {
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "rows": report.rows,
        "absent": gone,
        "marks": [list(mark) for mark in report.marks(moved)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

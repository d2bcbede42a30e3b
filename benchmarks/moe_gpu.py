"""Measures mixture-of-experts layers on one CUDA device against transformers, dense, roofline.

    PYTHONPATH=src python3 benchmarks/moe_gpu.py [--check-only] [--json FILE] [--seconds S]

Every path is first checked against an expert-by-expert sum in fp32, on answers and on gradients,
with the free memory poisoned before; a wrong path is reported as wrong and never timed.

Times are CUDA events around blocks of calls, paths in alternation, median of the rounds. Forward
cells are timed twice: as called from Python, and replayed from a CUDA graph where the path can be
captured; with few tokens the first is mostly the host's time. Marks use the graph. For t <= 16 a
block goes through eight choices of experts in turn, so that matrices are not found in the cache.

roofline = max(FLOPs / measured bf16 product, bytes of active matrices and rows / measured copy)

`dense` is one expert on t * k rows: the same arithmetic, one matrix set. transformers is given
combine weights in bf16, as most of its models do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from _moe_gpu import (  # type: ignore[import-not-found,unused-ignore]
    GATHER_BYTES,
    REFERENCE_FLOPS,
    WRONG,
    Cell,
    Layer,
    Machine,
    Timing,
    captured,
    chosen,
    dense,
    draws,
    error,
    layer,
    machine,
    marks,
    paths,
    poison,
    reference,
    rounds,
)
from turnout.nn.dispatch import _triton_tiles, triton
from turnout.nn.dispatch.bank import Bank

FINE = (2048, 1408)
WIDE = (4096, 14336)
TOKENS = (1, 16, 512, 4096, 16384)
SHAPES = (
    (1, 8, 2, 512, 320),
    (1, 64, 8, 512, 320),
    (3, 8, 3, 200, 72),
    (5, 8, 1, 512, 320),
    (16, 64, 2, 512, 320),
    (64, 8, 8, 512, 320),
    (200, 8, 2, 512, 320),
    (700, 64, 8, 512, 320),
    (1100, 8, 8, 512, 320),
)
CAPTURED = ("triton", "grouped", "hf_batched_mm", "hf_grouped_mm", "dense")
CONSOLE = Console(width=200)


def cells() -> Iterator[Cell]:
    """All shapes, those of one layer together."""
    for e in (8, 64):
        for train in (False, True):
            for t in TOKENS:
                for k in (1, 2, 8):
                    yield Cell(t, e, k, *FINE, train)
    for train in (False, True):
        for t in TOKENS:
            yield Cell(t, 8, 2, *WIDE, train)


def gradients(
    path: Callable[..., torch.Tensor], leaves: tuple[torch.Tensor, ...], ids: torch.Tensor, dy: Any
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, weights and matrices."""
    made = path(leaves[0], ids, leaves[1])
    found: tuple[torch.Tensor, ...] = torch.autograd.grad(made, leaves, dy.to(made.dtype))
    return found


def right(of: Layer, x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, dy: Any) -> Any:
    """Answer and, if dy is given, gradients in fp32."""
    if dy is None:
        with torch.no_grad():
            return (reference(x, ids, weights, of.gate_up, of.down),)
    leaves = [s.detach().float().requires_grad_() for s in (x, weights, of.gate_up, of.down)]
    made = reference(leaves[0], ids, *leaves[1:])
    return (made.detach(), *torch.autograd.grad(made, leaves, dy.float()))


def errors(
    path: Callable[..., torch.Tensor],
    of: Layer,
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    dy: Any,
    truth: Any,
) -> list[float]:
    """Relative errors of the answer and of the gradients."""
    poison()
    with torch.no_grad():
        found = [error(path(x, ids, weights), truth[0])]
    if dy is not None:
        leaves = (
            x.detach().requires_grad_(),
            weights.detach().requires_grad_(),
            of.gate_up,
            of.down,
        )
        poison()
        made = gradients(path, leaves, ids, dy)
        found += [error(a, b) for a, b in zip(made, truth[1:], strict=True)]
    return found


def check() -> bool:
    """Every path on small shapes, sentinel slots and idle experts among them."""
    table = Table(title="relative error (norms): answer, dx, dweights, dgate_up, ddown")
    for column in ("t, e, k, d, f", "slots of no expert", "path", "errors", ""):
        table.add_column(column)
    fine = True

    def row(shape: str, none: str, name: str, found: list[float], good: bool) -> None:
        nonlocal fine
        fine &= good
        text = " ".join(f"{value:.1e}" for value in found)
        table.add_row(shape, none, name, text, "right" if good else "WRONG")

    for t, e, k, d, f in SHAPES:
        of = layer(e, d, f)
        for none in (False, True):
            draw = torch.Generator("cuda").manual_seed(t)
            x = torch.randn(t, d, generator=draw, device="cuda").bfloat16()
            dy = torch.randn(t, d, generator=draw, device="cuda").bfloat16()
            ids, weights = draws(Cell(t, e, k, d, f, False), 1)[0]
            if none:
                gone = torch.rand(ids.shape, generator=draw, device="cuda") < 0.3
                gone |= ids == 1
                gone[0] = t > 1
                ids, weights = ids.masked_fill(gone, e), weights.masked_fill(gone, 0)
            truth = right(of, x, ids, weights, dy)
            if none:
                x = x.clone()
                x[(ids == e).all(1)] = float("nan")
            for name, path in paths(of).items():
                if none and name.startswith("hf"):
                    continue
                try:
                    found = errors(path, of, x, ids, weights, dy, truth)
                except Exception as what:
                    row(f"{t} {e} {k} {d} {f}", str(none), f"{name}: {what!r:.90}", [], False)
                    continue
                good = all(value < WRONG for value in found)
                row(f"{t} {e} {k} {d} {f}", str(none), name, found, good)
    for label, good in special():
        row("special", "", label, [], good)
    CONSOLE.print(table)
    return fine


def special() -> Iterator[tuple[str, bool]]:
    """Forced tiles, a CUDA graph, equal bits, exact zeros, other types and layouts."""
    of = layer(8, 512, 384)
    cell = Cell(300, 8, 2, 512, 384, True)
    draw = torch.Generator("cuda").manual_seed(3)
    x = torch.randn(cell.t, cell.d, generator=draw, device="cuda").bfloat16()
    ids, weights = draws(cell, 1)[0]
    ids[ids == 5] = 4
    with torch.no_grad():
        truth = reference(x, ids, weights, of.gate_up, of.down)
        for _, tiling in _triton_tiles.TABLE:
            made = triton.run(x, ids, weights, of.bank, tiling=tiling)
            yield f"tiles of {tiling.rows} rows", error(made, truth) < WRONG
        for t in (1, 16, 300):
            part = (x[:t], ids[:t].contiguous(), weights[:t].contiguous())
            for name in ("triton", "grouped"):
                path = paths(of)[name]
                plain = path(*part)
                kept: list[torch.Tensor] = []
                replay = captured(lambda: kept.append(path(*part)))  # noqa: B023
                replay()
                torch.cuda.synchronize()
                yield f"{name}, t={t}: graph equals call", bool(torch.equal(kept[-1], plain))
                yield f"{name}, t={t}: equal bits", bool(torch.equal(path(*part), plain))
        for dtype, limit in ((torch.float16, 5e-3), (torch.float32, 1e-5)):
            bank = Bank(gate_up=of.gate_up.to(dtype), down=of.down.to(dtype))
            made = triton.run(x.to(dtype), ids, weights, bank)
            yield str(dtype), error(made, truth) < limit
    leaves = (x.detach().requires_grad_(), weights.requires_grad_(), of.gate_up, of.down)
    for name in ("triton", "grouped"):
        found = gradients(paths(of)[name], leaves, ids, torch.randn_like(x))
        idle = [float(gradient[5].abs().max()) for gradient in found[2:]]
        yield f"{name}: idle expert has exact zeros", idle == [0.0, 0.0]


def measure(cell: Cell, of: Layer, roof: Machine, seconds: float) -> dict[str, Any]:
    """All paths in one cell."""
    draw = torch.Generator("cuda").manual_seed(1)
    x = torch.randn(cell.t, cell.d, generator=draw, device="cuda").bfloat16()
    choices = draws(cell, 8 if cell.t <= 16 else 1)
    active = statistics.mean(int(ids.unique().numel()) for ids, _ in choices)
    dy = torch.randn(cell.t, cell.d, generator=draw, device="cuda").bfloat16()
    known = paths(of)
    timings = {name: Timing() for name in [*known, "dense"]}
    checked = not cell.train or cell.flops < REFERENCE_FLOPS
    ids, weights = choices[0]
    up_to = dy if cell.train else None
    truth = right(of, x, ids, weights, up_to) if checked else None
    runs: dict[str, tuple[Callable[[], Any], int]] = {}
    for name, path in known.items():
        timing = timings[name]
        copies = cell.t * cell.k * 6.0 * cell.d * cell.f * (2 if cell.train else 1)
        if name == "hf_batched_mm" and copies > GATHER_BYTES:
            timing.note = f"skipped: copies {copies / 1e9:.0f} GB of matrices"
            continue
        try:
            if truth is not None:
                found = errors(path, of, x, ids, weights, up_to, truth)
                timing.error = max(found)
                if not timing.error < WRONG:
                    timing.note = "WRONG " + " ".join(f"{value:.1e}" for value in found)
                    continue
            else:
                timing.note = "unchecked in this cell"
            runs[name] = (work(cell, path, x, choices, dy, (of.gate_up, of.down)), len(choices))
        except Exception as what:
            timing.note = f"{what!r:.100}"
        torch.cuda.empty_cache()
    del truth
    flat = torch.randn(cell.t * cell.k, cell.d, generator=draw, device="cuda").bfloat16()
    back = torch.randn(flat.shape, generator=draw, device="cuda").bfloat16()
    plain = dense(of, cell.k)
    runs["dense"] = (
        work(cell, plain, flat, choices, back, plain.matrices),
        len(choices),
    )
    if not cell.train:
        for name in [name for name in runs if name in CAPTURED]:
            run, count = runs[name]
            try:
                with torch.no_grad():
                    runs[f"{name}@"] = (captured(run), count)
            except Exception as what:
                timings[name].note = f"no graph: {what!r:.80}"
    try:
        for name, samples in rounds(runs, seconds).items():
            kind = "graph" if name.endswith("@") else "called"
            setattr(timings[name.rstrip("@")], kind, samples)
    except torch.OutOfMemoryError:
        timings["triton"].note = "out of memory"
    return {
        "cell": asdict(cell),
        "active": active,
        "roofline_ms": roof.roofline_ms(cell, round(active)),
        "paths": {name: asdict(timing) for name, timing in timings.items()},
        "best_ms": {name: timing.best() for name, timing in timings.items()},
    }


def work(
    cell: Cell,
    path: Callable[..., torch.Tensor],
    x: torch.Tensor,
    choices: list[tuple[torch.Tensor, torch.Tensor]],
    dy: torch.Tensor,
    matrices: tuple[torch.Tensor, ...],
) -> Callable[[], None]:
    """One block of calls: every choice in turn."""
    routed = x.shape[0] == cell.t and len(matrices) == 2 and matrices[0].ndim == 3

    def forward() -> None:
        with torch.no_grad():
            for ids, weights in choices:
                path(x, ids, weights)

    def both() -> None:
        for ids, weights in choices:
            leaves = [x.detach().requires_grad_()]
            if routed:
                leaves.append(weights.detach().requires_grad_())
            made = path(leaves[0], ids, leaves[-1])
            torch.autograd.grad(made, [*leaves, *matrices], dy)

    return both if cell.train else forward


def show(results: list[dict[str, Any]]) -> None:
    """Tables: times, ratios, marks."""
    names = ["triton", "grouped", "hf_eager", "hf_batched_mm", "hf_grouped_mm", "dense"]
    table = Table(title="ms (graph where captured, else as called); ratio of ours to each")
    for column in (
        "",
        "t",
        "e",
        "k",
        "f",
        "roofline",
        *names,
        "called",
        "/roof",
        "/peer",
        "/dense",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for one in results:
        cell, best = one["cell"], one["best_ms"]
        peer = [best[name] for name in names[2:5] if best[name]]
        mine = best[chosen(cell)] or float("nan")
        called = one["paths"][chosen(cell)]["called"]
        table.add_row(
            "train" if cell["train"] else "fwd",
            *(str(cell[letter]) for letter in "tekf"),
            f"{one['roofline_ms']:.4f}",
            *("-" if best[name] is None else f"{best[name]:.4f}" for name in names),
            f"{statistics.median(called):.4f}" if called else "-",
            f"{mine / one['roofline_ms']:.2f}",
            f"{mine / min(peer):.2f}" if peer else "-",
            f"{mine / best['dense']:.2f}" if best["dense"] else "-",
        )
    CONSOLE.print(table)
    for one in results:
        for name, timing in one["paths"].items():
            if timing["note"] and not timing["note"].startswith(("skipped", "unchecked")):
                CONSOLE.print(f"{one['cell']} {name}: {timing['note']}", markup=False)


def warm() -> None:
    """Compile every kernel in processes side by side; the cache on the disk keeps them."""
    jobs = [(spot, e) for spot in range(len(_triton_tiles.TABLE)) for e in (8, 64)]
    command = [sys.executable, str(Path(__file__)), "--job"]
    running = [subprocess.Popen([*command, f"{spot},{e}"]) for spot, e in jobs]
    codes = [process.wait() for process in running]
    CONSOLE.print(f"compiled beside each other, exit codes {codes}")


def job(text: str) -> None:
    """Launch the kernels of one tiling and number of experts once."""
    spot, e = (int(part) for part in text.split(","))
    tiling = _triton_tiles.TABLE[spot][1]
    of = layer(e, 512, 256, bare=True)
    for t, k in ((1, 1), (1, 2), (1, 8), (16, 1), (16, 2), (16, 8), (520, 8), (2100, 2), (4200, 1)):
        cell = Cell(t, e, k, 512, 256, False)
        x = torch.randn(t, cell.d, device="cuda").bfloat16().requires_grad_()
        ids, weights = draws(cell, 1)[0]
        made = triton.run(x, ids, weights.requires_grad_(), of.bank, tiling=tiling)
        torch.autograd.grad(made, [x, weights, of.gate_up, of.down], torch.ones_like(made))
        with torch.no_grad():
            triton.run(x, ids, weights, of.bank, tiling=tiling)
    torch.cuda.synchronize()


def main() -> int:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description="Mixture-of-experts layers on a CUDA device.")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=105.0, help="for the cells together")
    parser.add_argument("--only", choices=("fwd", "train"))
    parser.add_argument("--tokens", type=int, nargs="*", default=list(TOKENS))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to measure")
        return 0
    if options.job:
        job(options.job)
        return 0
    began = time.perf_counter()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    warm()
    CONSOLE.print(f"{time.perf_counter() - began:.0f} s; checking")
    fine = check()
    CONSOLE.print(f"{time.perf_counter() - began:.0f} s; all paths right: {fine}")
    if options.check_only:
        return 0 if fine else 1
    roof = machine()
    CONSOLE.print(asdict(roof))
    wanted = [
        cell
        for cell in cells()
        if cell.t in options.tokens and options.only in (None, "train" if cell.train else "fwd")
    ]
    results: list[dict[str, Any]] = []
    end = time.perf_counter() + options.seconds
    held: Layer | None = None
    for number, cell in enumerate(wanted):
        left = end - time.perf_counter()
        if left <= 0:
            CONSOLE.print(f"out of time: {len(wanted) - number} cells skipped, from {cell}")
            break
        if held is None or (held.e, held.d, held.f) != (cell.e, cell.d, cell.f):
            held = None
            torch.cuda.empty_cache()
            held = layer(cell.e, cell.d, cell.f)
        share = left / (len(wanted) - number)
        results.append(measure(cell, held, roof, 0.4 * share))
        torch.cuda.empty_cache()
    show(results)
    for line in marks(results):
        CONSOLE.print(line, markup=False)
    CONSOLE.print(f"{time.perf_counter() - began:.0f} s in all")
    if options.json:
        report = {"machine": asdict(roof), "right": fine, "cells": results}
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

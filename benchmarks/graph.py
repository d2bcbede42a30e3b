"""Measures the graph layers beside PyTorch Geometric's: equal weights, one graph, one process.

    python benchmarks/graph.py [--json FILE] [--rounds N] [--threads N ...]

Each pair is first checked: result and gradient must agree to 1e-4 of the largest number, else the
exit status is 1. Then the two take turns, forward and backward, and the ratio of each turn is kept:
its median, and the tenth and ninetieth percentile of the turns. Below 1 ours is the faster. The
milliseconds are those of the least turn, when nothing interfered. Sizes are those of
`llms.graph_router` and `llms.agent_router`; a layer alone is handed the graph in the form it likes,
and a whole network has to bring it into that form.

What it takes to have them is measured, too: seconds to import beyond torch's, in fresh processes
that take turns, and the megabytes and packages that an installation would gain.

PyTorch Geometric is used as it comes from PyPI, without its compiled companions (pyg-lib and
others), which PyPI does not have. Where it is not installed, how to get it is said.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

#: Results and gradients may differ by this part of the largest number.
TOLERANCE = 1e-4
#: A turn is repeated to take about this long, in seconds.
TURN = 0.02
#: A pair at one number of threads gets at most about this long, but five turns at least.
LONGEST = 4.0
WANTED = "torch_geometric==2.8.1"
IMPORTS = {"torch": "torch", "ours": "turnout.nn.graph", "theirs": "torch_geometric.nn"}


@dataclass(frozen=True)
class Row:
    """One pair of layers at one size and number of threads; milliseconds of the least turn."""

    layer: str
    peer: str
    size: str
    threads: int
    ours_ms: float
    theirs_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    difference: float
    gradient: float


@dataclass(frozen=True)
class Price:
    """What it takes to have the peer."""

    version: str
    import_s: dict[str, float]
    megabytes: dict[str, float]
    already: tuple[str, ...]


def measure(pair: Any, threads: int, rounds: int) -> Row:
    """Check a pair, then let the two take turns."""
    import torch

    torch.set_num_threads(threads)
    ways = (pair.ours, pair.theirs)
    results = [_once(way, [leaf[side] for leaf in pair.leaves]) for side, way in enumerate(ways)]
    far = [_far(one, other) for one, other in zip(*results, strict=True)]
    first = [min(_turn(way, bool(far[1:]), 1) for _ in range(2)) for way in ways]
    times = max(1, round(TURN / min(first)))
    turns = max(5, min(rounds, int(LONGEST / times / sum(first))))
    taken = np.empty((turns, 2))
    for turn in range(turns):
        for which in (0, 1) if turn % 2 else (1, 0):
            taken[turn, which] = _turn(ways[which], bool(far[1:]), times)
    low, middle, high = np.quantile(taken[:, 0] / taken[:, 1], [0.1, 0.5, 0.9])
    ours, theirs = 1e3 * taken.min(axis=0)
    return Row(
        pair.layer,
        pair.peer,
        pair.size,
        threads,
        float(ours),
        float(theirs),
        float(middle),
        float(low),
        float(high),
        far[0],
        max(far[1:], default=0.0),
    )


def _once(way: Callable[[], Any], leaves: list[Any]) -> list[Any]:
    """The result, and the gradients of its squares' mean by each leaf."""
    import torch

    if not leaves:
        with torch.no_grad():
            return [way()]
    result = way()
    return [result.detach(), *torch.autograd.grad(result.square().mean(), leaves)]


def _far(one: Any, other: Any) -> float:
    """Greatest difference as a part of the greatest number."""
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def _turn(way: Callable[[], Any], back: bool, times: int) -> float:
    """Seconds of one of so many passes, forward and where wanted backward."""
    import torch

    start = time.perf_counter()
    for _ in range(times):
        if back:
            way().sum().backward()
        else:
            with torch.no_grad():
                way()
    return (time.perf_counter() - start) / times


def price(rounds: int) -> Price:
    """Import times beyond torch's, and what an installation would gain."""
    taken: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, module in IMPORTS.items():
            taken[name].append(_import(module))
    have = _closure("torch") | _closure("turnout")
    gained = _closure("torch_geometric") - have
    return Price(
        importlib.metadata.version("torch_geometric"),
        {name: float(np.median(each)) for name, each in taken.items()},
        {name: _megabytes(name) for name in sorted(gained, key=_megabytes, reverse=True)},
        tuple(sorted(_closure("torch_geometric") & have)),
    )


def _import(module: str) -> float:
    """Seconds to import it once torch is there; torch's own where it is that."""
    first = "" if module == "torch" else "import torch\n"
    code = (
        f"import time, warnings\nwarnings.simplefilter('ignore')\n{first}"
        f"start = time.perf_counter()\nimport {module}\nprint(time.perf_counter() - start)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def _closure(name: str) -> set[str]:
    """A package and all that it asks for without extras, by their plain names."""
    found, open_ = set[str](), [canonicalize_name(name)]
    while open_:
        each = open_.pop()
        if each in found:
            continue
        try:
            wants = importlib.metadata.requires(each) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(each)
        for want in map(Requirement, wants):
            if want.marker is None or want.marker.evaluate({"extra": ""}):
                open_.append(canonicalize_name(want.name))
    return found


def _megabytes(name: str) -> float:
    files = importlib.metadata.files(name) or []
    paths = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def show(rows: list[Row], console: Console) -> None:
    """One line a pair."""
    table = Table(title="Graph layers beside PyTorch Geometric's (ratio below 1: ours is faster)")
    for column in ("ours", "theirs", "on"):
        table.add_column(column)
    for column in ("threads", "ours ms", "theirs ms", "ratio", "10 to 90 %", "differ by"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.layer,
            row.peer,
            row.size,
            str(row.threads),
            f"{row.ours_ms:.2f}",
            f"{row.theirs_ms:.2f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_low:.2f} to {row.ratio_high:.2f}",
            f"{max(row.difference, row.gradient):.0e}",
        )
    console.print(table)


def show_price(paid: Price, console: Console) -> None:
    """What to have the peer takes."""
    seconds = paid.import_s
    console.print(
        f"Import: torch {seconds['torch']:.2f} s; beyond it {IMPORTS['ours']} "
        f"{seconds['ours']:.2f} s, {IMPORTS['theirs']} {seconds['theirs']:.2f} s."
    )
    gains = ", ".join(f"{name} {size:.1f}" for name, size in paid.megabytes.items())
    console.print(
        f"torch_geometric {paid.version} beside turnout[torch] adds {len(paid.megabytes)} packages "
        f"of {sum(paid.megabytes.values()):.1f} MB: {gains}."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit status 1 where a pair disagrees, 2 where there is no peer."""
    parser = argparse.ArgumentParser(description="Graph layers beside PyTorch Geometric's.")
    parser.add_argument("--json", type=Path, help="write every row here")
    parser.add_argument("--rounds", type=int, default=30, help="turns a pair")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch")
    parser.add_argument("--only", default="", help="only layers whose name holds this")
    options = parser.parse_args(arguments)
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 170
    if importlib.util.find_spec("torch_geometric") is None:
        progress.print(f"PyTorch Geometric is not installed: pip install '{WANTED}'")
        return 2
    warnings.simplefilter("ignore")  # torch says that parts of the peer are old-fashioned
    from _graph_cases import pairs  # type: ignore[import-not-found,unused-ignore]

    rows = []
    with progress.status("taking turns"):
        for pair in pairs():
            if options.only in pair.layer:
                rows += [measure(pair, count, options.rounds) for count in options.threads]
        paid = price(max(3, options.rounds // 6))
    show(rows, console)
    show_price(paid, console)
    if options.json:
        document = {
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "settings": {"rounds": options.rounds, "tolerance": TOLERANCE},
            "rows": [asdict(row) for row in rows],
            "price": asdict(paid),
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(max(row.difference, row.gradient) <= TOLERANCE for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

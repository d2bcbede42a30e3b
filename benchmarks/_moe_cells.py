"""What the benchmark of mixture-of-experts layers on a processor is made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from turnout.nn.dispatch import Bank

D, F = 512, 1024
#: Layers are worked through in turn until this much memory is touched, so that no matrix waits in
#: a cache for the next call.
COLD = 256 << 20
#: Numbers of draws of the choices a cell goes through in turn.
DRAWS = 8


@dataclass(frozen=True)
class Cell:
    """One shape: t tokens, k of e experts, forward or forward and backward."""

    threads: int
    dtype: str
    e: int
    k: int
    t: int
    train: bool
    skew: bool = False

    def label(self) -> str:
        """A line of its own for every cell."""
        what = "train" if self.train else "forward"
        return f"{self.dtype} x{self.threads} E{self.e} k{self.k} T{self.t} {what}" + (
            " zipf" if self.skew else ""
        )

    def facts(self) -> dict[str, str]:
        """What `--cells` can ask for."""
        return {
            "threads": str(self.threads),
            "dtype": self.dtype,
            "e": str(self.e),
            "k": str(self.k),
            "t": str(self.t),
            "pass": "train" if self.train else "forward",
            "load": "zipf" if self.skew else "even",
        }

    @property
    def type(self) -> torch.dtype:
        """Of matrices and rows."""
        made: torch.dtype = getattr(torch, self.dtype)
        return made

    @property
    def flops(self) -> float:
        """Of the three products, times three in training."""
        return (3 if self.train else 1) * 6.0 * self.t * self.k * D * F

    def bytes(self, active: float) -> float:
        """Matrices of the active experts, read; in training read again, and gradients written."""
        return (3 if self.train else 1) * active * 3.0 * D * F * self.type.itemsize


def all_cells(threads: list[int], dtypes: list[str]) -> Iterator[Cell]:
    """The whole table, even load first."""
    for dtype in dtypes:
        for n in threads:
            for train in (False, True):
                for t in (1, 16, 512, 4096):
                    for e in (8, 64):
                        for k in (1, 2, 8):
                            yield Cell(n, dtype, e, k, t, train)
                for t in (16, 512):
                    yield Cell(n, dtype, 64, 2, t, train, True)


def quick_cells(threads: list[int], dtypes: list[str]) -> Iterator[Cell]:
    """Some of each kind."""
    shapes = ((8, 2, 1), (64, 8, 1), (64, 2, 16), (8, 1, 512), (8, 2, 512), (64, 2, 512))
    for dtype in dtypes[:1]:
        for train in (False, True):
            for e, k, t in shapes:
                yield Cell(threads[0], dtype, e, k, t, train)
        yield Cell(threads[0], dtype, 64, 2, 512, False, True)
    for other in dtypes[1:]:
        yield Cell(threads[0], other, 64, 2, 16, False)


def wanted(cell: Cell, filters: list[str]) -> bool:
    """Whether a cell passes every filter `name=value|value`."""
    for one in filters:
        name, _, values = one.partition("=")
        if cell.facts().get(name) not in values.split("|"):
            return False
    return True


@dataclass(eq=False)
class Inputs:
    """Everything a contestant may use for a cell."""

    cell: Cell
    banks: list[Bank]
    x: torch.Tensor
    ids: list[torch.Tensor]
    weights: torch.Tensor
    dy: torch.Tensor
    dense: list[tuple[torch.Tensor, torch.Tensor]]
    rows: torch.Tensor
    drows: torch.Tensor
    active: float


def draw(cell: Cell, generator: torch.Generator) -> torch.Tensor:
    """Choices (t, k) without repetition; by Zipf's law with exponent 1 where skewed."""
    noise = -torch.log(-torch.log(torch.rand(cell.t, cell.e, generator=generator)))
    if cell.skew:
        noise = noise - torch.log(torch.arange(1, cell.e + 1))
    return noise.topk(cell.k, dim=1).indices.contiguous()


class Stock:
    """Matrices, made once for all cells of a type and a number of experts."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, int], list[Bank]] = {}

    def banks(self, dtype: torch.dtype, e: int) -> list[Bank]:
        """Enough layers to leave the caches cold."""
        key = (str(dtype), e)
        if key not in self.held:
            self.held.clear()
            size = e * 3 * D * F * dtype.itemsize
            make = torch.Generator().manual_seed(e)
            self.held[key] = [
                Bank(
                    gate_up=_matrix(make, dtype, e, 2 * F, D),
                    down=_matrix(make, dtype, e, D, F),
                )
                for _ in range(-(-COLD // size))
            ]
        return self.held[key]

    def inputs(self, cell: Cell) -> Inputs:
        """Rows, choices and layers of a cell."""
        make = torch.Generator().manual_seed(cell.t * 1000 + cell.e + cell.k)
        banks = self.banks(cell.type, cell.e)
        for bank in banks:
            for part in (bank.first, bank.down):
                part.requires_grad_(cell.train)
        one = [
            (
                b.first[j].detach().requires_grad_(cell.train),
                b.down[j].detach().requires_grad_(cell.train),
            )
            for b in banks
            for j in range(min(cell.e, 8))
        ]
        ids = [draw(cell, make) for _ in range(DRAWS)]
        x = torch.randn(cell.t, D, generator=make).to(cell.type)
        return Inputs(
            cell=cell,
            banks=banks,
            x=x.requires_grad_(cell.train),
            ids=ids,
            weights=torch.rand(cell.t, cell.k, generator=make).requires_grad_(cell.train),
            dy=torch.randn(cell.t, D, generator=make).to(cell.type),
            dense=one[:64],
            rows=torch.randn(cell.t * cell.k, D, generator=make).to(cell.type),
            drows=torch.randn(cell.t * cell.k, D, generator=make).to(cell.type),
            active=statistics.mean(len(torch.unique(choice)) for choice in ids),
        )


def _matrix(make: torch.Generator, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.nn.Parameter((torch.randn(*shape, generator=make) / shape[-1] ** 0.5).to(dtype))


@dataclass(frozen=True)
class Machine:
    """Ceilings of the machine, measured in the same run, by number of threads."""

    gflops: dict[int, float]
    gbs: dict[int, float]

    def roofline(self, cell: Cell, active: float) -> float:
        """Seconds that arithmetic or memory needs at least, whichever is longer."""
        work = cell.flops / (self.gflops[cell.threads] * 1e9)
        return max(work, cell.bytes(active) / (self.gbs[cell.threads] * 1e9))


def clock(threads: int) -> Callable[[], float]:
    """Processor time for one thread, so that neighbours are not counted; else the wall's."""
    return time.process_time if threads == 1 else time.perf_counter


def ceilings(threads: list[int], rounds: int = 8) -> Machine:
    """Best product of 1024 x 1024 matrices, best reading of half a gigabyte in two ways."""
    a, b = torch.randn(2, 1024, 1024)
    out = torch.empty(1024, 1024)
    big = torch.randn(1 << 27)
    gflops, gbs = {}, {}
    for n in threads:
        torch.set_num_threads(n)
        now = clock(n)
        best = {"product": 1e9, "stream": 1e9, "streams": 1e9}
        jobs: dict[str, Callable[[], Any]] = {
            "product": lambda: torch.mm(a, b, out=out),
            "stream": big.sum,
            "streams": lambda: big.view(8, -1).sum(dim=0),
        }
        for _ in range(rounds):
            for name, job in jobs.items():
                began = now()
                job()
                best[name] = min(best[name], now() - began)
        gflops[n] = 2 * 1024**3 / best["product"] / 1e9
        size = big.numel() * 4
        gbs[n] = max(size / best["stream"], size * 1.125 / best["streams"]) / 1e9
    return Machine(gflops, gbs)


@dataclass
class Times:
    """Seconds of each round of one contestant."""

    rounds: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        """Of the rounds."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """From the lower to the upper quartile, as a share of the median."""
        if len(self.rounds) < 4:
            return (max(self.rounds) - min(self.rounds)) / self.median
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / self.median


Call = Callable[[int], None]


def race(
    calls: dict[str, Call], *, threads: int, seconds: float, most: int = 25, least: int = 3
) -> dict[str, Times]:
    """Blocks of calls in turn, the first to go changing from round to round.

    A block starts with a call that does not count: memory that lay idle while others had their turn
    is slow to come back, in virtual machines above all, and nobody trains in such turns.
    """
    now = clock(threads)
    sizes: dict[str, int] = {}
    slow: set[str] = set()
    for name, call in calls.items():
        call(0)  # once for what is built or compiled at first
        began = now()
        call(1)
        took = max(now() - began, 1e-6)
        sizes[name] = max(1, min(50, int(0.012 / took)))
        if took > 1.0:
            slow.add(name)
    times = {name: Times() for name in calls}
    names, began, turn = list(calls), time.perf_counter(), 0
    while turn < least or (turn < most and time.perf_counter() - began < seconds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            size, call = sizes[name], calls[name]
            if name not in slow:
                call(turn * size)
            start = now()
            for i in range(size):
                call(turn * size + i + 1)
            times[name].rounds.append((now() - start) / size)
        turn += 1
    return times


def moving(machine: Machine, threads: int) -> tuple[float, float]:
    """Seconds to send 4096 x 8 rows to 64 experts and back, and to copy as many rows once.

    The first is what remains of a layer when its inner width goes to nothing, from the times at
    widths 32 and 128.
    """
    from turnout.nn.dispatch import run

    cell = Cell(threads, "float32", 64, 8, 4096, False)
    make = torch.Generator().manual_seed(7)
    x, ids = torch.randn(4096, D, generator=make), draw(cell, make)
    weights = torch.rand(4096, 8, generator=make)
    banks = {
        f: Bank(gate_up=torch.randn(64, 2 * f, D) / 23, down=torch.randn(64, D, f) / 6)
        for f in (32, 128)
    }
    rows, copy = torch.randn(2, 4096 * 8, D)

    def layer(f: int) -> Call:
        def call(_: int) -> None:
            with torch.no_grad():
                run(x, ids, weights, banks[f])

        return call

    def copying(_: int) -> None:
        copy.copy_(rows)

    torch.set_num_threads(threads)
    times = race(
        {"32": layer(32), "128": layer(128), "copy": copying},
        threads=threads,
        seconds=8,
    )
    return (4 * times["32"].least - times["128"].least) / 3, times["copy"].least


def dense(inputs: Inputs) -> Call:
    """One feed-forward network over as many rows: the same arithmetic, one set of matrices."""
    pairs = inputs.dense
    rows = inputs.rows.detach().requires_grad_(inputs.cell.train)

    def forward(i: int) -> torch.Tensor:
        up, down = pairs[i % len(pairs)]
        gate, other = functional.linear(rows, up).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate) * other, down)

    if not inputs.cell.train:
        return silent(forward)

    def call(i: int) -> None:
        torch.autograd.backward(forward(i), inputs.drows)
        rows.grad = None
        for part in pairs[i % len(pairs)]:
            part.grad = None

    return call


def silent(forward: Callable[[int], torch.Tensor]) -> Call:
    """A forward pass without gradients."""

    def call(i: int) -> None:
        with torch.no_grad():
            forward(i)

    return call


def learning(
    forward: Callable[[int], torch.Tensor], inputs: Inputs, leaves: Callable[[int], list[Any]]
) -> Call:
    """Forward and backward, gradients dropped as an optimiser does."""

    def call(i: int) -> None:
        torch.autograd.backward(forward(i), inputs.dy)
        inputs.x.grad = inputs.weights.grad = None
        for leaf in leaves(i):
            leaf.grad = None

    return call

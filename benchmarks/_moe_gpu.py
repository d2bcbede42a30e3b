"""What the benchmark of mixture-of-experts layers on a graphics processor is made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from turnout.nn.dispatch import cuda, triton
from turnout.nn.dispatch.bank import Bank

WRONG = 2e-2  # relative error (norms) above which a bf16 path is wrong, and never timed
GATHER_BYTES = 6e9  # batched_mm copies every slot's matrices: more than this is not tried
REFERENCE_FLOPS = 1.2e13  # larger gradients are not checked in their cell: fp32 takes seconds

Path = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Cell:
    """One shape: t tokens, k of e experts, widths d and f, forward or forward and backward."""

    t: int
    e: int
    k: int
    d: int
    f: int
    train: bool

    @property
    def flops(self) -> float:
        """Multiply-adds of the three products, times two; three times that in training."""
        return (3 if self.train else 1) * 6.0 * self.t * self.k * self.d * self.f

    def bytes(self, active: int) -> float:
        """Matrices of the active experts, read once (and twice more in training), and rows."""
        rows = 2.0 * self.t * self.d * 2
        return (3 if self.train else 1) * (active * 3.0 * self.d * self.f * 2 + rows)


@dataclass(frozen=True)
class Machine:
    """The device and its two ceilings, measured."""

    name: str
    driver: str
    torch: str
    triton: str
    transformers: str
    copy_gbs: float
    bf16_tflops: float

    def roofline_ms(self, cell: Cell, active: int) -> float:
        """The larger of the times that arithmetic and memory need."""
        work = cell.flops / (self.bf16_tflops * 1e12)
        return 1e3 * max(work, cell.bytes(active) / (self.copy_gbs * 1e9))


@dataclass
class Layer:
    """Matrices of one layer, shared by every path; a transformers module around them if any."""

    e: int
    d: int
    f: int
    module: Any
    gate_up: torch.Tensor
    down: torch.Tensor

    @property
    def bank(self) -> Bank:
        """As ours reads them."""
        return Bank(gate_up=self.gate_up, down=self.down)


@dataclass
class Timing:
    """Milliseconds of one path in one cell."""

    called: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    error: float | None = None
    note: str = ""

    def best(self) -> float | None:
        """Median in a graph where one could be captured, else as called."""
        samples = self.graph or self.called
        return statistics.median(samples) if samples else None


def layer(e: int, d: int, f: int, *, bare: bool = False) -> Layer:
    """Random matrices, in transformers' module where it is installed and not asked to be bare."""
    draw = torch.Generator("cuda").manual_seed(0)

    def made(*shape: int) -> torch.Tensor:
        whole = torch.empty(shape, dtype=torch.bfloat16, device="cuda")
        for part in whole:
            part.copy_(torch.randn(part.shape, generator=draw, device="cuda") / shape[-1] ** 0.5)
        return whole

    gate_up = torch.nn.Parameter(made(e, 2 * f, d))
    down = torch.nn.Parameter(made(e, d, f))
    if bare:
        return Layer(e, d, f, None, gate_up, down)
    try:
        from transformers.models.mixtral.configuration_mixtral import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralExperts
    except ImportError:
        return Layer(e, d, f, None, gate_up, down)
    config = MixtralConfig(num_local_experts=e, hidden_size=d, intermediate_size=f)
    with torch.device("meta"):
        module = MixtralExperts(config)
    module.gate_up_proj, module.down_proj = gate_up, down
    return Layer(e, d, f, module, gate_up, down)


def hugging_face(module: Any, implementation: str) -> Path:
    """One of transformers' implementations."""

    def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        module.config._experts_implementation = implementation
        made: torch.Tensor = module(x, ids, weights.to(x.dtype))
        return made

    return run


def paths(of: Layer) -> dict[str, Path]:
    """Everything that is compared, by name."""
    bank = of.bank
    found: dict[str, Path] = {
        "triton": lambda x, ids, weights: triton.run(x, ids, weights, bank),
        "grouped": lambda x, ids, weights: cuda.grouped(x, ids, weights, bank),
    }
    if of.module is not None:
        for name in ("eager", "batched_mm", "grouped_mm"):
            found[f"hf_{name}"] = hugging_face(of.module, name)
    return found


def dense(of: Layer, k: int) -> Path:
    """One expert on t * k rows: the same arithmetic, no routing."""
    up, down = of.gate_up[0].detach(), of.down[0].detach()
    up, down = up.clone().requires_grad_(), down.clone().requires_grad_()

    def run(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        gate, other = functional.linear(x, up).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate) * other, down)

    run.matrices = (up, down)  # type: ignore[attr-defined]
    return run


def draws(cell: Cell, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Choices and weights; experts take turns, so that repeats do not find them in the cache."""
    draw = torch.Generator("cuda").manual_seed(cell.t * 1000 + cell.k)
    made = []
    order = torch.randperm(cell.e, generator=draw, device="cuda")
    for turn in range(count):
        if cell.t == 1:
            spots = (turn * cell.k + torch.arange(cell.k, device="cuda")) % cell.e
            ids = order[spots].unsqueeze(0)
        else:
            scores = torch.rand(cell.t, cell.e, generator=draw, device="cuda")
            ids = scores.topk(cell.k, dim=1).indices
        weights = torch.rand(cell.t, cell.k, generator=draw, device="cuda") + 0.1
        made.append((ids.contiguous(), weights / weights.sum(1, keepdim=True)))
    return made


def reference(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
) -> torch.Tensor:
    """The sum in fp32, expert by expert; differentiable."""
    total = torch.zeros(x.shape[0], down.shape[1], device=x.device)
    for leaf in (x, weights, gate_up, down):
        total = total + leaf[:0].float().sum()  # every gradient exists, though it be zero
    pairs = zip(gate_up.unbind(0), down.unbind(0), strict=True)
    for expert, (up, back) in enumerate(pairs):
        token, slot = (ids == expert).nonzero(as_tuple=True)
        if len(token):
            gate, other = functional.linear(x[token].float(), up.float()).chunk(2, dim=-1)
            made = functional.linear(functional.silu(gate) * other, back.float())
            total = total.index_add(0, token, made * weights[token, slot].float().unsqueeze(1))
    return total


def error(made: torch.Tensor, right: torch.Tensor) -> float:
    """Norm of the difference by the norm of what is right."""
    off = (made.detach().float() - right.float()).norm()
    return float(off / right.float().norm().clamp(min=1e-30))


def poison() -> None:
    """Fill free memory with what no sum survives, so that unwritten answers show."""
    torch.cuda.synchronize()
    block = torch.full((1 << 28,), float("nan"), dtype=torch.float32, device="cuda")
    del block


def spent(run: Callable[[], Any], times: int) -> float:
    """Milliseconds of one call, by events around so many."""
    began: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    ended: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    began.record()
    for _ in range(times):
        run()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / times


def captured(run: Callable[[], Any]) -> Callable[[], None]:
    """The same work as a CUDA graph; its outputs live as long as the graph."""
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    replay: Callable[[], None] = graph.replay
    return replay


def rounds(
    runs: dict[str, tuple[Callable[[], Any], int]], seconds: float
) -> dict[str, list[float]]:
    """Alternate between runs (each so many calls in one) until the time is up."""
    first = {name: spent(run, 1) for name, (run, _) in runs.items()}
    times = {name: max(1, min(20, int(8.0 / max(ms, 1e-3)))) for name, ms in first.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    for turn in range(15):
        if turn >= 3 and time.perf_counter() > end:
            break
        for name, (run, calls) in runs.items():
            found[name].append(spent(run, times[name]) / calls)
    return found


def _copy_ms() -> float:
    """Milliseconds to copy 2 GiB."""
    source = torch.empty(1 << 30, dtype=torch.int16, device="cuda").random_(0, 100)
    target = torch.empty_like(source)
    return min(spent(lambda: target.copy_(source), 5) for _ in range(3))


def _product_ms() -> float:
    """Milliseconds of a bf16 product of 8192 by 8192 by 8192, random."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return min(spent(lambda: a @ b, 10) for _ in range(3))


def machine() -> Machine:
    """Names, versions and the two ceilings."""
    import importlib.metadata

    def version(of: str) -> str:
        try:
            return importlib.metadata.version(of)
        except importlib.metadata.PackageNotFoundError:
            return "absent"

    copy, product = _copy_ms(), _product_ms()
    try:
        import subprocess

        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return Machine(
        torch.cuda.get_device_name(),
        driver,
        torch.__version__,
        version("triton"),
        version("transformers"),
        2 * 2 * (1 << 30) / copy / 1e6,
        2 * 8192**3 / product / 1e9,
    )


def chosen(cell: dict[str, Any]) -> str:
    """The path that `turnout.nn.dispatch.cuda.run` takes for a cell by itself."""
    long = cuda.long_training(cell["d"], cell["f"], cell["e"], cell["t"] * cell["k"])
    return "grouped" if cell["train"] and long else "triton"


def marks(results: list[dict[str, Any]]) -> list[str]:
    """Each mark with its worst cell; a mark without cells says so."""

    def worst(label: str, limit: float, ratios: list[tuple[float, Any]]) -> str:
        if not ratios:
            return f"{label}: no cell measured"
        ratio, cell = max(ratios, key=lambda pair: pair[0])
        within = sum(one <= limit for one, _ in ratios)
        verdict = "met" if within == len(ratios) else "missed"
        return f"{label}: {verdict}, {within} of {len(ratios)} cells, worst {ratio:.2f} at {cell}"

    peer, roof, plain, learn = [], [], [], []
    for one in results:
        cell, best = one["cell"], one["best_ms"]
        ours = best[chosen(cell)]
        if ours is None:
            continue
        others = [best[name] for name in best if name.startswith("hf_") and best[name]]
        if others:
            peer.append((ours / min(others), cell))
        if not cell["train"] and cell["t"] <= 64:
            roof.append((ours / one["roofline_ms"], cell))
        if not cell["train"] and cell["t"] >= 512 and cell["e"] == 8 and best["dense"]:
            plain.append((ours / best["dense"], cell))
        if cell["train"] and cell["e"] == 64:
            learn.append((ours / one["roofline_ms"], cell))
    return [
        worst("at most 1.1x the best of transformers", 1.1, peer),
        worst("decode at most 2x the roofline", 2.0, roof),
        worst("at most 1.15x dense, t >= 512, e = 8", 1.15, plain),
        worst("training at e = 64 at most 3x the roofline", 3.0, learn),
    ]

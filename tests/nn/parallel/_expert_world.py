"""What four real processes do for `test_parallel`: every case once, results into files."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn

from turnout.nn.balance import Balancer, Sign, global_switch_loss, switch_loss
from turnout.nn.experts import ExpertList, StackedExperts
from turnout.nn.gates import (
    Bias,
    Decision,
    Gate,
    LinearScorer,
    Plain,
    Positive,
    Relu,
    Renormalised,
    RouteContext,
    Softmax,
    TopK,
)
from turnout.nn.moe import MoeLayer
from turnout.nn.parallel import ParallelExperts, part_of, share_of, sum_gradients

D, F = 8, 12


@dataclass(frozen=True)
class Case:
    """A layer on the first `ranks` processes, against the same layer in one."""

    ranks: int = 4
    e: int = 8
    k: int = 2
    tokens: tuple[int, ...] = (5, 9, 3, 7)
    tilt: float = 0.0  # lifts the logits of the first expert
    masked: bool = False  # every third token is padding
    positive: bool = False  # a ReLU gate: another k in every process
    stacked: bool = True
    layers: int = 1
    deduplicate: bool = True
    method: str = "auto"
    members: tuple[int, ...] | None = None  # experts of each process
    dtype: torch.dtype = torch.float32


CASES = {
    "four": Case(),
    "two": Case(ranks=2, tokens=(6, 11)),
    "one": Case(ranks=1, tokens=(6,)),
    "uneven experts": Case(e=6, k=3),
    "fewer experts than processes": Case(e=3),
    "a process without tokens": Case(tokens=(5, 0, 3, 7)),
    "one process has all tokens": Case(tokens=(0, 0, 9, 0)),
    "no token at all": Case(tokens=(0, 0, 0, 0)),
    "all to one process": Case(tilt=60.0, k=1),
    "all to one process, two of two": Case(ranks=2, tilt=60.0, k=1, tokens=(4, 0)),
    "padding": Case(masked=True),
    "every expert": Case(e=6, k=6),
    "slots one by one": Case(deduplicate=False, masked=True),
    "slots one by one, every expert": Case(deduplicate=False, e=5, k=5),
    "pairs": Case(method="pairs", tokens=(5, 0, 3, 7)),
    "pairs, all to one": Case(method="pairs", tilt=60.0, k=1),
    "unlike experts": Case(stacked=False, tilt=60.0, k=1),
    "another k in every process": Case(positive=True, tokens=(5, 0, 3, 7)),
    "three layers": Case(layers=3, tokens=(5, 0, 3, 7), tilt=60.0, k=1),
    "experts by hand": Case(e=8, members=(0, 5, 1, 2)),
    "double precision": Case(stacked=False, dtype=torch.float64),
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _experts(case: Case, seed: int) -> StackedExperts | ExpertList:
    """All experts of a layer, the same in every process."""
    generator = _generator(seed)
    if case.stacked:
        return StackedExperts(case.e, D, F, generator=generator, backend="naive")
    members = [
        nn.Sequential(nn.Linear(D, F + j), nn.Tanh(), nn.Linear(F + j, D)) for j in range(case.e)
    ]
    for parameter in nn.ModuleList(members).parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    return ExpertList(members).to(case.dtype)


def _gate(case: Case, seed: int) -> Gate:
    scorer = LinearScorer(D, case.e, bias=True, generator=_generator(seed))
    assert scorer.bias is not None
    scorer.bias.data[0] = case.tilt
    if case.positive:
        return Gate(scorer, Positive(), Plain(), processors=[Relu()], e=case.e)
    return Gate(scorer, TopK(case.k), Renormalised(), processors=[Softmax()], e=case.e)


class Model(nn.Module):
    """Layers with a residual path, and the gradient that reaches their input."""

    def __init__(self, layers: list[MoeLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(x, context)
        return x


def _gap(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """The greatest difference, relative to values above 1; a missing gradient counts as zeros."""
    if a is None or b is None:
        rest = a if b is None else b
        return 0.0 if rest is None or not rest.numel() else float(rest.abs().max())
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) if a.numel() else 0.0


def compare(case: Case, rank: int, group: distributed.ProcessGroup) -> dict[str, float]:
    """Gaps between this process's part and the single process, by name."""
    keep = share_of(case.e, case.ranks, rank)
    if case.members is not None:
        start = sum(case.members[:rank])
        keep = range(start, start + case.members[rank])
    whole = [_experts(case, 10 + n) for n in range(case.layers)]
    gates = [_gate(case, 20 + n) for n in range(case.layers)]
    single = Model(
        [MoeLayer(deepcopy(gate), some) for gate, some in zip(gates, whole, strict=True)]
    )
    spread = []
    for gate, some in zip(gates, whole, strict=True):
        local = part_of(some, keep)
        parallel = ParallelExperts(
            local,
            group,
            deduplicate=case.deduplicate,
            method=case.method,  # type: ignore[arg-type]
        )
        spread.append(MoeLayer(deepcopy(gate), parallel))
    model = Model(spread)

    everything = torch.randn(sum(case.tokens), D, generator=_generator(1), dtype=case.dtype)
    target = torch.randn(sum(case.tokens), D, generator=_generator(2), dtype=case.dtype)
    mask = torch.arange(sum(case.tokens)) % 3 != 0 if case.masked else None
    start = sum(case.tokens[:rank])
    mine = slice(start, start + case.tokens[rank])

    x_all = everything.clone().requires_grad_()
    y_all = single(x_all, RouteContext(mask=mask))
    (y_all * target).sum().backward()
    x = everything[mine].clone().requires_grad_()
    y = model(x, RouteContext(mask=None if mask is None else mask[mine]))
    (y * target[mine]).sum().backward()
    sum_gradients([p for layer in model.layers for p in layer.gate.parameters()], group)

    assert x_all.grad is not None
    gaps = {"value": _gap(y.detach(), y_all.detach()[mine]), "x": _gap(x.grad, x_all.grad[mine])}
    for n, (layer, reference) in enumerate(zip(model.layers, single.layers, strict=True)):
        for name, parameter in layer.gate.named_parameters():
            other = reference.gate.get_parameter(name)
            gaps[f"{n} gate {name}"] = _gap(parameter.grad, other.grad)
        local = layer.experts.local
        if isinstance(local, StackedExperts):
            for name, parameter in local.named_parameters():
                other = reference.experts.get_parameter(name).grad
                part = None if other is None else other[keep.start : keep.stop]
                gaps[f"{n} {name}"] = _gap(parameter.grad, part)
        elif local is not None:
            for j, member in zip(keep, local.members, strict=True):
                for name, parameter in member.named_parameters():
                    other = reference.experts.members[j].get_parameter(name).grad
                    gaps[f"{n} expert {j} {name}"] = _gap(parameter.grad, other)
    return gaps


def traffic(rank: int, group: distributed.ProcessGroup) -> dict[str, float]:
    """Two processes, four experts, tokens by hand: what is sent, with and without duplicates.

    Experts 0, 1 live in process 0, experts 2, 3 in process 1. Each process has three tokens: on
    (0, 1), on (2, 3), and on (1, 3).
    """
    told: dict[str, float] = {}
    for deduplicate in (True, False):
        local = part_of(_experts(Case(e=4), 0), share_of(4, 2, rank))
        parallel = ParallelExperts(local, group, deduplicate=deduplicate)
        ids = torch.tensor([[0, 1], [2, 3], [1, 3]])
        parallel(torch.ones(3, D), ids, torch.full((3, 2), 0.5))
        moved = parallel.traffic
        assert moved is not None
        name = "once" if deduplicate else "each"
        told |= {f"{name} {key}": value for key, value in vars(moved).items()}
    return told


def weights_gradient(rank: int, group: distributed.ProcessGroup) -> dict[str, float]:
    """The gradient of free combine weights, and that of nothing but the experts."""
    whole = _experts(Case(e=4), 0)
    ids = torch.tensor([[0, 2], [3, 1], [2, 4]])  # 4 = none
    x = torch.randn(3, D, generator=_generator(rank))
    grads = []
    for experts in (whole, ParallelExperts(part_of(whole, share_of(4, 2, rank)), group)):
        weights = torch.tensor([[0.3, 0.7], [0.9, 0.1], [1.0, 0.0]], requires_grad=True)
        experts(x, ids, weights).square().sum().backward()
        assert weights.grad is not None
        grads.append(weights.grad)
    alone = ParallelExperts(part_of(whole, share_of(4, 2, rank)), group)
    if rank == 0:  # here alone does the input need a gradient; nobody may wait for ever
        x = x.clone().requires_grad_()
    alone(x, ids, torch.ones(3, 2)).sum().backward()
    return {"weights": _gap(grads[0][ids < 4], grads[1][ids < 4])}


def without_gradient(rank: int, group: distributed.ProcessGroup) -> dict[str, float]:
    """Under no_grad the value is the same and hangs on nothing."""
    whole = _experts(Case(e=4), 0)
    parallel = ParallelExperts(part_of(whole, share_of(4, 2, rank)), group)
    x, ids = torch.randn(3, D, generator=_generator(rank)), torch.tensor([[0, 2], [3, 1], [2, 4]])
    weights = torch.tensor([[0.3, 0.7], [0.9, 0.1], [1.0, 0.0]])
    with torch.no_grad():
        y = parallel(x, ids, weights)
        gap = _gap(y, whole(x, ids, weights))
        lower = deepcopy(whole).bfloat16()
        low = ParallelExperts(part_of(lower, share_of(4, 2, rank)), group)(
            x.bfloat16(), ids, weights
        )
    own = parallel.owned.start
    rows = parallel.apply_to(own, x)
    return {
        "value": gap,
        "needs gradient": float(y.requires_grad),
        "bfloat16 comes back": float(low.dtype == torch.bfloat16),
        "bfloat16": _gap(low.float(), y),
        "apply_to": _gap(rows.detach(), whole.apply_to(own, x).detach()),
    }


def balance(rank: int, group: distributed.ProcessGroup) -> dict[str, float]:
    """Loads and counts are those of both processes together."""
    experts = torch.full((4, 1), rank)  # each process collapsed onto its own expert
    decision = Decision(
        experts=experts,
        weights=torch.ones(4, 1),
        e=2,
        logits=torch.zeros(4, 2).scatter(1, experts, 40.0),
    )
    even = Balancer({0: Bias(2)}, Sign(0.1), group=group)
    even.count(0, decision.load())
    tilted = Balancer({0: Bias(2)}, Sign(0.1), group=group)
    tilted.count(0, torch.tensor([rank, 0]))
    told = even.step()[0]
    tilted.step()
    return {
        "local loss": float(switch_loss(decision)),
        "global loss": float(global_switch_loss(decision, group=group)),
        "pairs": told.pairs,
        "max over mean": told.max_over_mean,
        "moved": float(tilted._targets[0].tensor[0]),
    }


EXTRA: dict[str, Callable[[int, distributed.ProcessGroup], dict[str, float]]] = {
    "traffic": traffic,
    "weights gradient": weights_gradient,
    "without gradient": without_gradient,
    "balance": balance,
}


def work(rank: int, world: int, rendezvous: str, folder: str) -> None:
    """One of the processes: every case it takes part in, then its results into a file."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),  # a process that waits for nobody fails
    )
    groups = {size: distributed.new_group(list(range(size))) for size in (1, 2, world)}
    results: dict[str, dict[str, float]] = {}
    for name, case in CASES.items():
        if rank < case.ranks:
            results[name] = compare(case, rank, groups[case.ranks])
    for name, extra in EXTRA.items():
        if rank < 2:
            results[name] = extra(rank, groups[2])
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()

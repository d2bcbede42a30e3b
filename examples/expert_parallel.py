"""Trains one mixture-of-experts layer whose experts are spread over processes.

::

    torchrun --nproc-per-node 4 examples/expert_parallel.py
    torchrun --nproc-per-node 4 examples/expert_parallel.py --experts 6 --k 3 --check

Runs on CPUs with gloo, and with `--backend nccl` on one GPU a process. Every process has its own
tokens; gate and read-out are replicated, experts are not. `--check` compares the first step with
the same layer in one process.
"""

from __future__ import annotations

import argparse
import os

import torch
from torch import distributed

from turnout.nn.balance import Balancer, Sign, biases_of
from turnout.nn.experts import StackedExperts
from turnout.nn.gates import (
    Bias,
    Gate,
    LinearScorer,
    Renormalised,
    RouteContext,
    RouteLog,
    Softmax,
    TopK,
)
from turnout.nn.moe import MoeLayer
from turnout.nn.parallel import ParallelExperts, part_of, share_of, sum_gradients

D, F = 32, 64


def main() -> None:
    """Train for some steps and report loss, balance and traffic."""
    asked = _arguments()
    torch.set_num_threads(1)
    distributed.init_process_group(asked.backend)
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    device = "cpu"
    if asked.backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        device = "cuda"

    whole = StackedExperts(asked.experts, D, F, generator=torch.Generator().manual_seed(0))
    mine = share_of(asked.experts, ranks, rank)
    layer = MoeLayer(_gate(asked), ParallelExperts(part_of(whole, mine))).to(device)
    local = set(layer.experts.parameters())
    replicated = [p for p in layer.parameters() if p not in local]
    balancer = Balancer(biases_of(layer), Sign(1e-2))

    draw = torch.Generator().manual_seed(1)
    turn = torch.randn(4, D, D, generator=draw) / D**0.5  # four kinds of token, a map for each
    centres = torch.randn(4, D, generator=draw) * 2
    draw.manual_seed(100 + rank)
    for step in range(asked.steps):
        kind = torch.randint(0, 4, (asked.tokens,), generator=draw)
        x = centres[kind] + torch.randn(asked.tokens, D, generator=draw)
        target = torch.einsum("td,tdo->to", x, turn[kind])
        x, target = x.to(device), target.to(device)
        log = RouteLog()
        answer = layer(x, RouteContext(log=log))
        # Sums over tokens, divided by the tokens of all processes: every gradient is that of the
        # mean over the global batch, whichever process an expert lives in.
        loss = (answer - target).square().mean(dim=1).sum() / (asked.tokens * ranks)
        layer.zero_grad()
        loss.backward()
        sum_gradients(replicated)
        if asked.check and step == 0:
            _check(asked, whole, layer, x, target, rank, mine)
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    parameter -= asked.rate * parameter.grad
        balancer.observe(log)
        told = balancer.step()[0]
        total = loss.detach().clone()
        distributed.all_reduce(total)
        moved = layer.experts.traffic
        if rank == 0 and step % max(1, asked.steps // 5) == 0:
            print(
                f"step {step:4d}  loss {float(total):.4f}  max/mean load {told.max_over_mean:.2f}  "
                f"process 0 sent {moved.rows_sent} rows, {moved.bytes_sent / 1024:.1f} KiB, "
                f"spared {moved.rows_saved} rows",
                flush=True,
            )
    distributed.destroy_process_group()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="of each process and step")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--backend", default="gloo")
    parser.add_argument("--check", action="store_true", help="compare with a single process")
    return parser.parse_args()


def _gate(asked: argparse.Namespace) -> Gate:
    """The same gate in every process: the generator is seeded alike."""
    return Gate(
        LinearScorer(D, asked.experts, generator=torch.Generator().manual_seed(2)),
        TopK(asked.k),
        Renormalised(),
        processors=[Softmax(), Bias(asked.experts)],
        e=asked.experts,
    )


def _check(
    asked: argparse.Namespace,
    whole: StackedExperts,
    layer: MoeLayer,
    x: torch.Tensor,
    target: torch.Tensor,
    rank: int,
    mine: range,
) -> None:
    """Gather all tokens, run the layer in this process alone, and compare gradients."""
    ranks = distributed.get_world_size()
    parts = [[torch.empty_like(some) for _ in range(ranks)] for some in (x, target)]
    for some, part in zip((x, target), parts, strict=True):
        distributed.all_gather(part, some)
    everything, wanted = (torch.cat(part) for part in parts)
    single = MoeLayer(_gate(asked), whole.to(x.device)).to(x.device)
    loss = (single(everything) - wanted).square().mean(dim=1).sum() / len(everything)
    loss.backward()
    gaps = {"gate": layer.gate.scorer.weight.grad - single.gate.scorer.weight.grad}
    if layer.experts.local is not None:
        for name, parameter in layer.experts.local.named_parameters():
            other = getattr(single.experts, name).grad[mine.start : mine.stop]
            gaps[name] = parameter.grad - other
    shown = ", ".join(f"{name} {float(gap.abs().max()):.1e}" for name, gap in gaps.items())
    print(f"process {rank}: greatest difference to a single process: {shown}", flush=True)


if __name__ == "__main__":
    main()

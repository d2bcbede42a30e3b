"""Who takes part in the benchmark of mixture-of-experts layers on a processor.

Two leagues. *Dispatch*: given the choices, run the experts; ours, and what transformers has.
*Layer*: a gate of its own included; ours behind a softmax gate, and libraries that cannot be had
without theirs, which have another rule of choice, a capacity and dropped tokens: they may do less.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from _moe_cells import (  # type: ignore[import-not-found,unused-ignore]
    Call,
    D,
    F,
    Inputs,
    learning,
    silent,
)
from turnout.nn.dispatch import run

#: A call that is expected to take longer is not tried.
SECONDS = 6.0
#: Matrices copied slot by slot: more is not tried.
COPIES = 1.5e9
#: What torch's own products of bfloat16 reach here, for expectations only.
HALF_GFLOPS = 7.0
#: What an indexed matrix costs in its gradient: bytes of zeros a second.
ZEROS = 2.0e9

Make = Callable[[Inputs], Call]


@dataclass(frozen=True)
class Contestant:
    """Somebody who can do a cell, or says why not."""

    name: str
    make: Make
    unfit: Callable[[Inputs], str] = lambda inputs: ""
    layer: bool = False
    ours: bool = False


def _slow_half(inputs: Inputs) -> str:
    cell = inputs.cell
    expected = cell.flops / (HALF_GFLOPS * 1e9 * cell.threads)
    if cell.dtype != "float32" and expected > SECONDS:
        return f"expected {expected:.0f} s: torch has no fast product of {cell.dtype} here"
    return ""


def _pass(
    inputs: Inputs, forward: Callable[[int], torch.Tensor], leaves: Callable[[int], list[Any]]
) -> Call:
    return learning(forward, inputs, leaves) if inputs.cell.train else silent(forward)


def _matrices(inputs: Inputs) -> Callable[[int], list[Any]]:
    return lambda i: [
        inputs.banks[i % len(inputs.banks)].first,
        inputs.banks[i % len(inputs.banks)].down,
    ]


def ours(backend: str) -> Make:
    """Our own dispatch, by a path's name."""

    def make(inputs: Inputs) -> Call:
        def forward(i: int) -> torch.Tensor:
            bank, ids = inputs.banks[i % len(inputs.banks)], inputs.ids[i % len(inputs.ids)]
            return run(inputs.x, ids, inputs.weights, bank, backend=backend)

        return _pass(inputs, forward, _matrices(inputs))

    return make


def transformers_experts(implementation: str) -> Make:
    """The experts of a Mixtral layer, with our matrices."""

    def make(inputs: Inputs) -> Call:
        transformers = importlib.import_module("transformers")
        home = importlib.import_module("transformers.models.mixtral.modeling_mixtral")
        config = transformers.MixtralConfig(
            hidden_size=D, intermediate_size=F, num_local_experts=inputs.cell.e
        )
        config._experts_implementation = implementation
        modules = []
        for bank in inputs.banks:
            with torch.device("meta"):
                module = home.MixtralExperts(config)
            module.gate_up_proj, module.down_proj = bank.first, bank.down
            modules.append(module)
        # models hand over weights in the type of the rows
        weights = inputs.weights.detach().to(inputs.cell.type).requires_grad_(inputs.cell.train)

        def forward(i: int) -> torch.Tensor:
            made: torch.Tensor = modules[i % len(modules)](
                inputs.x, inputs.ids[i % len(inputs.ids)], weights
            )
            return made

        return _pass(inputs, forward, lambda i: [weights, *_matrices(inputs)(i)])

    return make


def _eager_unfit(inputs: Inputs) -> str:
    cell = inputs.cell
    if cell.train:
        # each active expert's gradient is a tensor as large as all of them
        size = inputs.active * cell.e * 3 * D * F * cell.type.itemsize
        if size / ZEROS > SECONDS:
            return f"expected {size / ZEROS:.0f} s: its gradients are zeros of {size / 1e9:.0f} GB"
    return _slow_half(inputs)


def _batched_unfit(inputs: Inputs) -> str:
    cell = inputs.cell
    size = cell.t * cell.k * 3 * D * F * cell.type.itemsize
    if size > COPIES:
        return f"would copy {size / 1e9:.1f} GB of matrices"
    return _slow_half(inputs)


def compiled(inputs: Inputs) -> Call:
    """The form of transformers' batched_mm, compiled by inductor for the cell's shape."""

    def batched(
        x: torch.Tensor,
        ids: torch.Tensor,
        weights: torch.Tensor,
        up: torch.Tensor,
        down: torch.Tensor,
    ) -> torch.Tensor:
        t, k = ids.shape
        flat = ids.reshape(-1)
        rows = x.repeat_interleave(k, dim=0).unsqueeze(2)
        gate, other = torch.bmm(up[flat], rows).squeeze(2).chunk(2, dim=-1)
        made = torch.bmm(down[flat], (functional.silu(gate) * other).unsqueeze(2)).squeeze(2)
        return (made * weights.reshape(-1, 1)).view(t, k, -1).sum(dim=1)

    torch._dynamo.reset()
    function = torch.compile(batched, dynamic=False)
    weights = inputs.weights.to(inputs.cell.type)

    def forward(i: int) -> torch.Tensor:
        bank = inputs.banks[i % len(inputs.banks)]
        made: torch.Tensor = function(
            inputs.x, inputs.ids[i % len(inputs.ids)], weights, bank.first, bank.down
        )
        return made

    return silent(forward)


def _compiled_unfit(inputs: Inputs) -> str:
    cell = inputs.cell
    if cell.train:
        return "forward only"
    if cell.t > 16:
        return "compiled for few tokens only"
    return ""


def _gate(inputs: Inputs) -> torch.Tensor:
    make = torch.Generator().manual_seed(3)
    made: torch.Tensor = (torch.randn(inputs.cell.e, D, generator=make) / D**0.5).to(
        inputs.cell.type
    )
    return made.requires_grad_(inputs.cell.train)


def our_layer(inputs: Inputs) -> Call:
    """Our dispatch behind a softmax gate that takes the k best and renormalises."""
    gate = _gate(inputs)

    def forward(i: int) -> torch.Tensor:
        scores = functional.linear(inputs.x, gate).float().softmax(dim=-1)
        weights, ids = scores.topk(inputs.cell.k, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return run(inputs.x, ids, weights, inputs.banks[i % len(inputs.banks)])

    return _pass(inputs, forward, lambda i: [gate, *_matrices(inputs)(i)])


def _layer_unfit(k: int) -> Callable[[Inputs], str]:
    def unfit(inputs: Inputs) -> str:
        cell = inputs.cell
        if cell.k != k:
            return f"chooses {k} experts a token"
        if cell.dtype != "float32":
            return "run in float32 only"
        if cell.t > 512 or (cell.t == 512 and cell.e == 64):
            return "dense masks of tokens, experts and capacity: minutes"
        return ""

    return unfit


class _SwiGlu(torch.nn.Module):
    """Experts over (..., e, n, d), for libraries that want a module."""

    def __init__(self, up: torch.Tensor, down: torch.Tensor) -> None:
        super().__init__()
        self.up, self.down = up, down

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same experts, one padded product for all."""
        rows = x.reshape(x.shape[-3], -1, x.shape[-1]) if x.ndim == 3 else x
        gate, other = torch.matmul(rows, self.up.transpose(-1, -2)).chunk(2, dim=-1)
        return torch.matmul(functional.silu(gate) * other, self.down.transpose(-1, -2)).view(
            x.shape
        )


def lucidrains(inputs: Inputs) -> Call:
    """`mixture-of-experts` of PyPI: top 2, capacity, one-hot positions."""
    library = importlib.import_module("mixture_of_experts")
    layers = [
        library.MoE(dim=D, num_experts=inputs.cell.e, experts=_SwiGlu(bank.first, bank.down)).train(
            inputs.cell.train
        )
        for bank in inputs.banks
    ]

    def forward(i: int) -> torch.Tensor:
        made, _ = layers[i % len(layers)](inputs.x.unsqueeze(0))
        answer: torch.Tensor = made[0]
        return answer

    def leaves(i: int) -> list[Any]:
        return list(layers[i % len(layers)].parameters())

    return _pass(inputs, forward, leaves)


def deepspeed(inputs: Inputs) -> Call:
    """DeepSpeed's top-2 gate and the einsums of its layer, run on one process."""
    gating = importlib.import_module("deepspeed.moe.sharded_moe")
    gate = _gate(inputs)

    def forward(i: int) -> torch.Tensor:
        bank = inputs.banks[i % len(inputs.banks)]
        logits = functional.linear(inputs.x, gate).float()
        _, combine, mask, _ = gating.topkgating(
            logits, 2, 1.0, 4, drop_tokens=True, drop_policy="probs"
        )
        sent = torch.einsum("sec,sm->ecm", mask.type_as(inputs.x), inputs.x)
        up, other = torch.bmm(sent, bank.first.transpose(1, 2)).chunk(2, dim=-1)
        made = torch.bmm(functional.silu(up) * other, bank.down.transpose(1, 2))
        return torch.einsum("sec,ecm->sm", combine.type_as(made), made)

    return _pass(inputs, forward, lambda i: [gate, *_matrices(inputs)(i)])


def tutel(inputs: Inputs) -> Call:
    """Tutel's layer with its own top-k gate; no capacity limit."""
    library = importlib.import_module("tutel.moe")
    layers = []

    class Expert(torch.nn.Module):
        """SwiGLU experts in tutel's custom form."""

        def __init__(
            self, model_dim: int, local_experts: int, sharded_count: int, **_: Any
        ) -> None:
            super().__init__()
            self.skip_expert = False
            self.w: tuple[torch.Tensor, torch.Tensor] | None = None

        def forward(self, x: torch.Tensor, ctx: Any) -> torch.Tensor:
            """Rows (e, n, d)."""
            assert self.w is not None
            gate, other = torch.matmul(x, self.w[0].transpose(1, 2)).chunk(2, dim=-1)
            return torch.matmul(functional.silu(gate) * other, self.w[1].transpose(1, 2))

    for bank in inputs.banks:
        layer = library.moe_layer(
            gate_type={"type": "top", "k": inputs.cell.k, "capacity_factor": 0.0},
            model_dim=D,
            experts={"type": "custom", "module": Expert, "num_experts_per_device": inputs.cell.e},
        )
        layer.experts.w = (bank.first, bank.down)
        layers.append(layer.train(inputs.cell.train))

    def forward(i: int) -> torch.Tensor:
        made: torch.Tensor = layers[i % len(layers)](inputs.x)
        return made

    def leaves(i: int) -> list[Any]:
        return [*layers[i % len(layers)].parameters(), *_matrices(inputs)(i)]

    return _pass(inputs, forward, leaves)


def _tutel_unfit(inputs: Inputs) -> str:
    return "run in float32 only" if inputs.cell.dtype != "float32" else _layer_unfit(2)(inputs)


CONTESTANTS = (
    Contestant("ours", ours("auto"), ours=True),
    Contestant("ours sorted", ours("sorted"), _slow_half, ours=True),
    Contestant("hf eager", transformers_experts("eager"), _eager_unfit),
    Contestant("hf batched", transformers_experts("batched_mm"), _batched_unfit),
    Contestant("hf grouped", transformers_experts("grouped_mm"), _slow_half),
    Contestant("batched compiled", compiled, _compiled_unfit),
    Contestant("our layer", our_layer, _layer_unfit(2), layer=True, ours=True),
    Contestant("lucidrains", lucidrains, _layer_unfit(2), layer=True),
    Contestant("deepspeed", deepspeed, _layer_unfit(2), layer=True),
    Contestant("tutel", tutel, _tutel_unfit, layer=True),
)

#: What a contestant needs, and how to get it.
NEEDS = {
    "hf eager": ("transformers", "pip install 'transformers>=5'"),
    "hf batched": ("transformers", "pip install 'transformers>=5'"),
    "hf grouped": ("transformers", "pip install 'transformers>=5'"),
    "lucidrains": ("mixture_of_experts", "pip install mixture-of-experts"),
    "deepspeed": ("deepspeed", "DS_BUILD_OPS=0 pip install deepspeed"),
    "tutel": ("tutel", "not on PyPI: NO_CUDA=1 pip install git+https://github.com/microsoft/tutel"),
}


def absent() -> dict[str, str]:
    """Contestants that cannot be imported, and how they could be."""
    out = {}
    for name, (module, how) in NEEDS.items():
        if importlib.util.find_spec(module) is None:
            out[name] = f"{module} is not installed ({how})"
            continue
        try:
            importlib.import_module(module)
        except Exception as error:
            out[name] = f"{module} does not import: {type(error).__name__}: {error} ({how})"
    return out

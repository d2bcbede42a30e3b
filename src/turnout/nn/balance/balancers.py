"""Balancers: what moves between training steps so that loads come out even, without a loss.

A balance bias is the dual price of an expert with its sign turned: overloaded experts fall, idle
ones rise. The update happens once per optimiser step, from the load of all its micro-batches and
all processes, and never in evaluation::

    log = RouteLog()
    model(x, RouteContext(log=log))      every micro-batch
    balancer.observe(log)
    ...
    optimizer.step()
    balancer.step()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import distributed, nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.balance._reading import load_of, positive
from turnout.nn.balance.loads import LoadReport, report, total_over
from turnout.nn.gates import Bias, Decision, Gate, RouteLog

__all__ = [
    "Balancer",
    "BiasRule",
    "BiasTarget",
    "Proportional",
    "Sign",
    "biases_of",
]


@dataclass(frozen=True, eq=False)
class BiasTarget:
    """Where a balance bias lives.

    The tensor is looked up at each use, because moving a module to another device replaces it.

    Parameters
    ----------
    module : torch.nn.Module
        Its owner: a `Bias`, or the router of a transformers model.
    name : str
        Its name there, such as "e_score_correction_bias".
    e : int, optional
        How many of its columns are experts; all where not given. The rest stays unmoved.

    Raises
    ------
    InputError
        There is no such vector, or it has fewer than e columns.
    """

    module: nn.Module
    name: str = "bias"
    e: int | None = None

    def __post_init__(self) -> None:
        value = getattr(self.module, self.name, None)
        if not isinstance(value, torch.Tensor) or value.ndim != 1 or not len(value):
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else value
            hint = "Pass the module that owns the bias, and its name there."
            raise InputError(f"target {self.name!r}", "be a vector", found, hint)
        if self.e is not None:
            _check.integer("target e", self.e, low=1, high=len(value))

    @property
    def tensor(self) -> torch.Tensor:
        """The bias (columns,) as it is now."""
        value: torch.Tensor = getattr(self.module, self.name)
        return value

    @property
    def experts(self) -> int:
        """Columns that are experts."""
        return len(self.tensor) if self.e is None else self.e


@runtime_checkable
class BiasRule(Protocol):
    """Bias and load -> new bias."""

    def __call__(self, bias: torch.Tensor, load: torch.Tensor, n: int = 1) -> torch.Tensor:
        """The bias (e,) moved by the load (e,) of update number n, which counts from 1."""
        ...


@dataclass(frozen=True)
class Sign:
    """A step of fixed size towards the even load.

    Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024,
    arXiv:2408.15664, algorithm 1::

        b_j <- b_j + rate * sign(mean load - load_j)

    Parameters
    ----------
    rate : float
        u, > 0, in units of the scores; 0.001 is the paper's for sigmoid scores.

    Raises
    ------
    InputError
        The rate is not above 0.
    """

    rate: float = 1e-3

    def __post_init__(self) -> None:
        positive("rate", self.rate)

    def __call__(self, bias: torch.Tensor, load: torch.Tensor, n: int = 1) -> torch.Tensor:
        """The bias (e,) moved by the load (e,)."""
        load = load.float()
        return bias + self.rate * torch.sign(load.mean() - load)


@dataclass(frozen=True)
class Proportional:
    """A step as large as the imbalance, smaller from update to update.

    Han and Zhong, "A Theoretical Framework for Auxiliary-Loss-Free Load Balancing of Sparse
    Mixture-of-Experts in Large-Scale AI Models", 2025, arXiv:2512.03915: constant steps, 1/n and
    1/sqrt(n)::

        b_j <- b_j + rate * n^(-power) * (L - load_j) / L,    L = mean load

    The imbalance is taken relative to L, where the paper takes tokens: a rate then does not depend
    on the size of the batch. The mean of the biases stays where it is.

    Parameters
    ----------
    rate : float
        > 0, in units of the scores.
    power : float
        0 for constant steps, 0.5 for 1/sqrt(n), 1 for 1/n; in [0, 1].

    Raises
    ------
    InputError
        The rate is not above 0, or the power not in [0, 1].
    """

    rate: float = 1e-3
    power: float = 0.0

    def __post_init__(self) -> None:
        positive("rate", self.rate)
        _check.number("power", self.power, low=0.0, high=1.0)

    def __call__(self, bias: torch.Tensor, load: torch.Tensor, n: int = 1) -> torch.Tensor:
        """The bias (e,) moved by the load (e,) of update number n; unmoved by an empty load."""
        load = load.float()
        mean = load.mean()
        step = self.rate * _check.integer("n", n, low=1) ** -self.power
        moved: torch.Tensor = bias + step * (mean - load) / mean.clamp(min=1.0 / len(load))
        return moved


class Balancer(nn.Module):
    """Moves the balance bias of each layer by a rule.

    Its buffers are the load seen since the last update, the number of updates, and a float32 copy
    of each bias that is kept in a lower precision, where steps of 0.001 would vanish. It is frozen
    while it, or the module that owns the bias, is in evaluation.

    Parameters
    ----------
    targets : mapping of int to BiasTarget or Bias
        Layer -> its bias, see `biases_of`.
    rule : BiasRule
    group : ProcessGroup, optional
        Whose loads are summed; the default group where one is running.

    Raises
    ------
    InputError
        No target.
    """

    updates: torch.Tensor

    def __init__(
        self,
        targets: Mapping[int, BiasTarget | Bias],
        rule: BiasRule,
        *,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        if not targets:
            raise InputError(
                "targets", "hold at least one bias", {}, "Build the gates with a Bias."
            )
        self.rule = rule
        self.group = group
        # Kept in a plain mapping: the biases are parts of their gates, not of this module.
        self._targets = {
            layer: BiasTarget(target) if isinstance(target, Bias) else target
            for layer, target in sorted(targets.items())
        }
        for layer, target in self._targets.items():
            bias = target.tensor
            zeros = torch.zeros(target.experts + 1, dtype=torch.int64, device=bias.device)
            self.register_buffer(f"load_{layer}", zeros)
            if bias.dtype != torch.float32:
                self.register_buffer(f"bias_{layer}", bias.detach().float().clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose bias is moved."""
        return tuple(self._targets)

    @torch.no_grad()
    def observe(self, log: RouteLog) -> None:
        """Add the loads of one forward pass; nothing in evaluation.

        Call it before the backward pass where activations are recomputed: the second forward would
        be counted too. Layers without a target are passed over.

        Raises
        ------
        InputError
            A layer of the log has another number of experts than its target.
        """
        for entry in log:
            decision = entry.decision
            if entry.layer not in self._targets or not isinstance(decision, Decision):
                continue
            dropped = 0 if decision.dropped is None else int(decision.dropped.sum())
            self.count(entry.layer, load_of(decision), dropped=dropped)

    @torch.no_grad()
    def count(self, layer: int, load: torch.Tensor, *, dropped: int = 0) -> None:
        """Add the load (e,) of one layer by hand, where there is no log; nothing in evaluation.

        Raises
        ------
        InputError
            The layer has no target, or another number of experts.
        """
        if layer not in self._targets:
            raise InputError("layer", f"be one of {list(self.layers)}", layer, "Name its bias.")
        e = self._targets[layer].experts
        if tuple(load.shape) != (e,):
            rule = f"have shape ({e},), as its bias"
            raise InputError(f"load of layer {layer}", rule, tuple(load.shape), "Check the layer.")
        if self._frozen(layer):
            return
        seen = self.get_buffer(f"load_{layer}")
        seen[:e] += load.to(seen.device, seen.dtype)
        seen[e] += _check.integer("dropped", dropped, low=0)

    @torch.no_grad()
    def step(self) -> dict[int, LoadReport]:
        """Sum the loads over processes, move every bias, and start counting afresh.

        Returns
        -------
        dict of int to LoadReport
            How even each layer was, over what was counted since the last update. Layers that are
            frozen are not in it; layers that saw nothing keep their bias.
        """
        layers = [layer for layer in self.layers if not self._frozen(layer)]
        if not layers:
            return {}
        device = self._targets[layers[0]].tensor.device
        seen = [self.get_buffer(f"load_{layer}") for layer in layers]
        sums = total_over(torch.cat([counts.to(device) for counts in seen]), self.group)
        self.updates += 1
        reports = {}
        for layer, counts in zip(
            layers, torch.split(sums, [len(part) for part in seen]), strict=True
        ):
            load = counts[:-1]
            reports[layer] = report(load, dropped=int(counts[-1]))
            if reports[layer].pairs:
                self._move(layer, load)
            self.get_buffer(f"load_{layer}").zero_()
        return reports

    def _frozen(self, layer: int) -> bool:
        """Whether the bias of a layer may not move now."""
        return not (self.training and self._targets[layer].module.training)

    def _move(self, layer: int, load: torch.Tensor) -> None:
        """Move one bias by the load (e,) of its layer."""
        bias, e = self._targets[layer].tensor, len(load)
        exact = bias if bias.dtype == torch.float32 else self.get_buffer(f"bias_{layer}")
        exact[:e] = self.rule(exact[:e], load.to(exact.device), int(self.updates))
        if exact is not bias:
            bias.copy_(exact)


def biases_of(model: nn.Module) -> dict[int, BiasTarget]:
    """The balance bias of each layer of a model built of `turnout.nn.moe.MoeLayer`.

    Layers whose gate has none are passed over.

    Raises
    ------
    InputError
        Two layers have one number, or a gate has two biases.
    """
    found: dict[int, BiasTarget] = {}
    for module in model.modules():
        gate, layer = getattr(module, "gate", None), getattr(module, "layer", None)
        if not isinstance(gate, Gate) or not isinstance(layer, int):
            continue
        for part in gate.processors:
            if isinstance(part, Bias):
                if layer in found:
                    hint = "Number the layers from 0."
                    raise InputError("model", "have one bias a layer", layer, hint)
                found[layer] = BiasTarget(part, e=gate.e)
    return found

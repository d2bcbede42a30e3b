"""Experts: what works on the rows a gate sends; they do not know why a row was sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn import dispatch

__all__ = ["ExpertList", "Experts", "StackedExperts"]


@runtime_checkable
class Experts(Protocol):
    """What a mixture-of-experts layer asks of its experts."""

    @property
    def e(self) -> int:
        """Number of experts."""
        ...

    def forward(
        self, x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum (t, d) of what the chosen experts (t, k) make of x (t, d)."""
        ...

    def apply_to(self, expert: int, rows: torch.Tensor) -> torch.Tensor:
        """What one expert makes of rows (p, d)."""
        ...


class StackedExperts(nn.Module):
    """Gated feed-forward experts of one shape, their matrices stacked.

    Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202::

        y = (act(x G^T) * (x U^T)) D^T          per expert, gate_up = [G; U]

    The layout is that of transformers v5: `gate_up_proj (e, 2f, d)`, `down_proj (e, d, f)`.

    Parameters
    ----------
    e, d, f : int
        Experts, width of the hidden states, inner width.
    act : callable
    backend : str
        How rows are dispatched, see `turnout.nn.dispatch`; "auto" chooses by shape.
    generator : torch.Generator, optional
    """

    def __init__(
        self,
        e: int,
        d: int,
        f: int,
        *,
        act: Callable[[torch.Tensor], torch.Tensor] = functional.silu,
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("e", e), ("d", d), ("f", f)):
            _check.integer(name, value, low=1)
        self.e = e
        self.act = act
        self.backend = backend
        up = torch.randn(e, 2 * f, d, generator=generator) / math.sqrt(d)
        down = torch.randn(e, d, f, generator=generator) / math.sqrt(f)
        self.gate_up_proj = nn.Parameter(up)
        self.down_proj = nn.Parameter(down)

    def bank(self) -> dispatch.Bank:
        """The matrices as the dispatchers read them."""
        return dispatch.Bank(gate_up=self.gate_up_proj, down=self.down_proj, act=self.act)

    def forward(
        self, x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum (t, d) of what the chosen experts (t, k) make of x (t, d)."""
        return dispatch.run(x, experts, weights, self.bank(), backend=self.backend)

    def apply_to(self, expert: int, rows: torch.Tensor) -> torch.Tensor:
        """What one expert makes of rows (p, d)."""
        gate, up = functional.linear(rows, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return functional.linear(self.act(gate) * up, self.down_proj[expert])


class ExpertList(nn.Module):
    """Experts that are modules of any kind, unlike ones included.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        Each maps (p, d) to (p, d).
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(modules)
        if not len(self.members):
            raise InputError("modules", "hold at least one expert", 0, "Give the layer an expert.")

    @property
    def e(self) -> int:
        """Number of experts."""
        return len(self.members)

    def forward(
        self, x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum (t, d) of what the chosen experts (t, k) make of x (t, d)."""
        total = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for expert, member in enumerate(self.members):
            token, slot = (experts == expert).nonzero(as_tuple=True)
            if len(token):
                made = member(x[token]).float() * weights[token, slot].float().unsqueeze(1)
                total = total.index_add(0, token, made)
        return total.to(x.dtype)

    def apply_to(self, expert: int, rows: torch.Tensor) -> torch.Tensor:
        """What one expert makes of rows (p, d)."""
        made: torch.Tensor = self.members[expert](rows)
        return made

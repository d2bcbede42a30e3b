"""Scorers: hidden states -> raw scores, in float32 whatever the hidden states are."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.parts import Scorer
from turnout.nn.gates.scores import Scores

__all__ = ["CosineScorer", "LinearScorer", "NoScorer", "full_precision"]


class LinearScorer(Scorer):
    """`x @ weight.T (+ bias)`: one row an expert.

    Parameters
    ----------
    d : int
        Width of the hidden states.
    e : int
        Experts.
    nulls : int
        Further columns that stand for doing nothing.
    bias : bool
        Learn an offset a column.
    trainable : bool
        Whether gradients reach the rows; a frozen random projection has False.
    generator : torch.Generator, optional
        Where the first weights, normal with deviation d ** -0.5, are drawn from; torch's default
        generator where none is given.
    """

    def __init__(
        self,
        d: int,
        e: int,
        *,
        nulls: int = 0,
        bias: bool = False,
        trainable: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.e = _check.integer("e", e, low=1)
        columns = e + _check.integer("nulls", nulls, low=0)
        first = torch.randn(columns, _check.integer("d", d, low=1), generator=generator) * d**-0.5
        self.weight = nn.Parameter(first, requires_grad=trainable)
        offset = torch.zeros(columns) if bias else None
        self.bias = None if offset is None else nn.Parameter(offset, requires_grad=trainable)

    def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
        """Scores of x (t, d)."""
        bias = None if self.bias is None else self.bias.float()
        with full_precision(x):
            return Scores.raw(functional.linear(x.float(), self.weight.float(), bias), self.e)


class CosineScorer(Scorer):
    """Cosine of a projected token and an expert's vector, over a learned temperature.

    Chi et al., "On the Representation Collapse of Sparse Mixture of Experts", 2022,
    arXiv:2204.09179, section 3.2::

        s_j = cos(P x, v_j) / tau

    Parameters
    ----------
    d, e : int
    width : int
        Length of the projected vectors; the paper takes half the number of experts.
    temperature : float
        First value of tau, > 0.
    floor : float
        tau never falls below it, > 0.
    generator : torch.Generator, optional
    """

    def __init__(
        self,
        d: int,
        e: int,
        *,
        width: int,
        temperature: float = 0.3,
        floor: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.e = _check.integer("e", e, low=1)
        _check.integer("width", width, low=1)
        _check.number("temperature", temperature, low=0.0)
        _check.number("floor", floor, low=0.0)
        if not 0.0 < floor <= temperature:
            raise InputError("floor", "lie in (0, temperature]", floor, "Lower it.")
        self.floor = floor
        self.project = nn.Parameter(torch.randn(width, d, generator=generator) * d**-0.5)
        self.vectors = nn.Parameter(torch.randn(e, width, generator=generator) * width**-0.5)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
        """Scores of x (t, d)."""
        with full_precision(x):
            low = functional.linear(x.float(), self.project.float())
            cosine = functional.linear(
                functional.normalize(low, dim=1), functional.normalize(self.vectors.float(), dim=1)
            )
            tau = self.log_temperature.float().exp().clamp(min=self.floor)
            return Scores.raw(cosine / tau, self.e)


class NoScorer(Scorer):
    """No score at all: for gates that choose by token id, at random or in turn.

    Parameters
    ----------
    e : int
    """

    def __init__(self, e: int) -> None:
        super().__init__()
        self.e = _check.integer("e", e, low=1)

    def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
        """Zeros (t, e)."""
        return Scores.raw(x.new_zeros((x.shape[0], self.e), dtype=torch.float32), self.e)


def full_precision(x: torch.Tensor) -> torch.autocast:
    """A context in which autocast does not lower the precision of scores."""
    return torch.autocast(device_type=x.device.type, enabled=False)

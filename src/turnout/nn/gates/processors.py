"""Processors: what happens to scores between scorer and selector, in the order they are given."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.order import top_columns
from turnout.nn.gates.parts import Processor
from turnout.nn.gates.scorers import full_precision
from turnout.nn.gates.scores import Scores

__all__ = ["Bias", "GroupLimit", "LearnedNoise", "Relu", "Sigmoid", "Softmax", "SqrtSoftplus"]


class Softmax(Processor):
    """Probabilities over all columns; moves weights and choice."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`softmax(value)`."""
        return _both(scores, scores.value.softmax(dim=1))


class Sigmoid(Processor):
    """Each column by itself in (0, 1); moves weights and choice."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`sigmoid(value)`."""
        return _both(scores, scores.value.sigmoid())


class SqrtSoftplus(Processor):
    """`sqrt(softplus(value))`, the affinity of DeepSeek-V4; moves weights and choice."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`sqrt(log(1 + exp(value)))`."""
        return _both(scores, functional.softplus(scores.value).sqrt())


class Relu(Processor):
    """`max(value, 0)`; moves weights and choice."""

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`relu(value)`."""
        return _both(scores, scores.value.relu())


class LearnedNoise(Processor):
    """Normal noise of learned size, in training only; moves weights and choice.

    Shazeer et al., "Outrageously Large Neural Networks", 2017, arXiv:1701.06538, eq. 4::

        H(x)_j = (x W_g)_j + n_j softplus((x W_noise)_j),    n_j standard normal

    Parameters
    ----------
    d, columns : int
        Width of the hidden states; columns of the scores.
    """

    def __init__(self, d: int, columns: int) -> None:
        super().__init__()
        _check.integer("d", d, low=1)
        self.weight = nn.Parameter(torch.zeros(_check.integer("columns", columns, low=1), d))

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """The scores with noise added, its size (t, e') in `state["noise"]`; evaluation: unchanged.

        Raises
        ------
        InputError
            The context brings no generator to draw from.
        """
        if not self.training:
            return scores
        generator = context.draws("learned noise")
        with full_precision(x):
            size = functional.softplus(functional.linear(x.float(), self.weight.float()))
        noise = torch.randn(size.shape, generator=generator, device=generator.device)
        moved = _both(scores, scores.value + noise.to(size.device) * size)
        return replace(moved, state={**scores.state, "noise": size})


class Bias(Processor):
    """A balance bias a column, added for the choice alone.

    Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024,
    arXiv:2408.15664, eq. 3. It is a dual price with its sign turned, kept in a float32 buffer
    that no gradient reaches; a balancer moves it (`turnout.nn.balance`).

    Parameters
    ----------
    columns : int
    """

    bias: torch.Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        columns = _check.integer("columns", columns, low=1)
        self.register_buffer("bias", torch.zeros(columns, dtype=torch.float32))

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`choice + bias`."""
        return replace(scores, choice=scores.choice + self.bias.float())


class GroupLimit(Processor):
    """Only the best groups of experts may be chosen from; moves the choice alone.

    DeepSeek-V2 (2024, arXiv:2405.04434, section 2.2.2) rates a group by its best member,
    DeepSeek-V3 (2024, arXiv:2412.19437, section 2.1.2) by the sum of its best two.

    Parameters
    ----------
    groups : int
        Number of groups of equal size, in the order of the columns.
    keep : int
        Groups a token may use, 1 to `groups`.
    best : int
        Members whose scores add up to the group's.
    """

    def __init__(self, groups: int, keep: int, *, best: int = 1) -> None:
        super().__init__()
        self.groups = _check.integer("groups", groups, low=1)
        self.keep = _check.integer("keep", keep, low=1, high=groups)
        self.best = _check.integer("best", best, low=1)

    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """`choice`, with -inf outside the groups kept.

        Raises
        ------
        InputError
            The columns do not divide into the groups, or a group has fewer than `best` members.
        """
        t, columns = scores.choice.shape
        size, rest = divmod(columns, self.groups)
        if rest or size < self.best:
            rule = f"divide {columns} experts into groups of {self.best} or more"
            raise InputError("groups", rule, self.groups, "Change the number of groups.")
        grouped = scores.choice.reshape(t, self.groups, size)
        rating = grouped.max(dim=2).values
        if self.best > 1:
            rating = grouped.topk(self.best, dim=2).values.sum(dim=2)
        allowed = torch.zeros_like(rating, dtype=torch.bool)
        allowed.scatter_(1, top_columns(rating, self.keep), True)
        choice = grouped.masked_fill(~allowed.unsqueeze(2), -torch.inf).reshape(t, columns)
        return replace(scores, choice=choice)


def _both(scores: Scores, value: torch.Tensor) -> Scores:
    """Scores whose weights and choice are read from `value`.

    Raises
    ------
    InputError
        The choice was moved before: what follows would lose it.
    """
    if scores.choice is not scores.value:
        rule = "come before those that move the choice alone"
        raise InputError("processors", rule, "another order", "Put biases and limits last.")
    return replace(scores, value=value, choice=value)

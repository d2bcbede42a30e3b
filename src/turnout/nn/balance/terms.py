"""Losses: several loss terms over a forward pass, weighted, and told apart by name and by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.gates import Decision, RouteLog

__all__ = ["Loss", "LossValues", "Losses", "attach"]

#: A loss of one layer's decision; bind further arguments with `functools.partial`.
Loss = Callable[[Decision], torch.Tensor]


@dataclass(frozen=True, eq=False)
class LossValues:
    """What the terms came to.

    Parameters
    ----------
    total : scalar tensor
        Weighted sum of the terms, with its gradient; what training adds to its own loss.
    terms : mapping of str to mapping of int to scalar tensor
        Each term by layer, not weighted.
    weights : mapping of str to float
    """

    total: torch.Tensor
    terms: Mapping[str, Mapping[int, torch.Tensor]]
    weights: Mapping[str, float]

    def floats(self) -> dict[str, float]:
        """Plain numbers to log: "switch" is the mean over layers, "switch/3" that of layer 3."""
        told: dict[str, float] = {}
        for name, layers in self.terms.items():
            values = {layer: float(value.detach()) for layer, value in layers.items()}
            told[name] = sum(values.values()) / len(values)
            told.update({f"{name}/{layer}": value for layer, value in values.items()})
        return told


@dataclass(frozen=True)
class Losses:
    """Loss terms with their weights, applied to each layer of a log.

    Every layer is judged by itself. Counts pooled over layers cannot see that each layer uses two
    experts only, as long as they are other ones in the next layer.

    Parameters
    ----------
    terms : mapping of str to (Loss, float)
        Name -> loss of a decision, and its weight.
    over : {"mean", "sum"}
        How the layers of a term are put together in the total. With the mean, a weight does not
        change its meaning with the depth of the model; Switch sums.

    Raises
    ------
    InputError
        No term, a weight that is not a number, or another word than "mean" or "sum".
    """

    terms: Mapping[str, tuple[Loss, float]]
    over: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        _check.names("terms", self.terms, what="loss")
        for name, (_, weight) in self.terms.items():
            _check.number(f"terms[{name!r}] weight", weight)
        if self.over not in ("mean", "sum"):
            raise InputError("over", "be 'mean' or 'sum'", self.over, "Choose one.")

    def __call__(self, log: RouteLog) -> LossValues:
        """Every term of every layer, and the total.

        Several passes through one layer are averaged.

        Raises
        ------
        InputError
            The log is empty, or holds a soft decision: its load is even by construction.
        """
        if not len(log):
            hint = "Run the model with RouteContext(log=RouteLog())."
            raise InputError("log", "hold a decision", "an empty log", hint)
        layers: dict[int, list[Decision]] = {}
        for entry in log:
            if not isinstance(entry.decision, Decision):
                rule = "hold decisions that choose experts"
                hint = "A soft gate needs no balance: leave its layer out."
                raise InputError(f"log, layer {entry.layer},", rule, "soft slots", hint)
            layers.setdefault(entry.layer, []).append(entry.decision)
        values: dict[str, dict[int, torch.Tensor]] = {}
        total: torch.Tensor | None = None
        for name, (loss, weight) in self.terms.items():
            values[name] = {
                layer: torch.stack([loss(decision) for decision in passes]).mean()
                for layer, passes in sorted(layers.items())
            }
            every = torch.stack(list(values[name].values()))
            term = weight * (every.sum() if self.over == "sum" else every.mean())
            total = term if total is None else total + term
        assert total is not None
        return LossValues(
            total=total,
            terms=values,
            weights={name: weight for name, (_, weight) in self.terms.items()},
        )


def attach(x: torch.Tensor, loss: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
    """X as it is, with a loss hung on: for models that cannot hand a loss back.

    Whenever a gradient flows back through the result, the loss receives the gradient `scale`, as if
    `scale * loss` had been added to whatever is minimised. The size of the gradient that arrives
    plays no part: under loss scaling or accumulation, give the same factor here.

    Parameters
    ----------
    x : tensor (...)
        An activation that the training loss depends on.
    loss : scalar tensor
    scale : float

    Raises
    ------
    InputError
        The loss is not one number.
    """
    if loss.numel() != 1:
        raise InputError("loss", "be one number", tuple(loss.shape), "Take its sum or mean.")
    result: torch.Tensor = _Attach.apply(x, loss, _check.number("scale", scale))  # type: ignore[no-untyped-call]
    return result


class _Attach(torch.autograd.Function):
    """Identity forward; backward, the gradient as it came and a constant for the loss."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, loss: torch.Tensor, scale: float) -> torch.Tensor:
        """X."""
        ctx.shape, ctx.options, ctx.scale = (
            loss.shape,
            {"dtype": loss.dtype, "device": loss.device},
            scale,
        )
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """The gradient of x unchanged, `scale` for the loss."""
        return gradients[0], torch.full(ctx.shape, ctx.scale, **ctx.options), None

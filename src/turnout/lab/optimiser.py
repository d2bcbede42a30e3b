"""The optimiser that trains the laboratory's models: Muon for matrices, AdamW for the rest.

Muon takes the direction of the momentum and makes it orthogonal, so that no direction of a weight
matrix learns much faster than another; at this scale it needs about half the steps of AdamW
alone. Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
(the Newton-Schulz iteration and its coefficients); Liu et al., "Muon is scalable for LLM
training", 2025, arXiv:2502.16982, section 2.2 (the factor 0.2 sqrt(max(rows, columns)), which
gives its steps the size of AdamW's, so that both share one learning rate); Loshchilov and Hutter,
"Decoupled weight decay regularization", ICLR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core.errors import InputError

__all__ = ["Optimiser", "orthogonal"]

_MOMENTUM = 0.95
_BETA1, _BETA2 = 0.9, 0.98
_EPSILON = 1e-8


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with singular values of one, by five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = x if wide else x.T
    return result


@dataclass(frozen=True)
class Optimiser:
    """Steps weights in place; its state is a flat dictionary of tensors, easy to save.

    Parameters
    ----------
    weights : dict of tensor
        What to train.
    state : dict of tensor
        "m.NAME" momenta and "v.NAME" second moments; :meth:`fresh` makes zeros.
    decay : float
        Weight decay of matrices, per unit of learning rate.
    """

    weights: dict[str, torch.Tensor]
    state: dict[str, torch.Tensor]
    decay: float = 0.05

    def __post_init__(self) -> None:
        wanted = set(self.fresh(self.weights))
        if set(self.state) != wanted:
            odd = sorted(wanted ^ set(self.state))
            raise InputError("state", "belong to the weights", odd, "Start afresh.")

    @staticmethod
    def fresh(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """State of a run that has not begun."""
        state = {f"m.{name}": torch.zeros_like(value) for name, value in weights.items()}
        for name, value in weights.items():
            if not _hidden(name):
                state[f"v.{name}"] = torch.zeros_like(value)
        return state

    @torch.no_grad()
    def step(self, gradients: dict[str, torch.Tensor], rate: float, count: int) -> None:
        """Take step number `count` (from 1) at learning rate `rate`."""
        for name, gradient in gradients.items():
            weight, m = self.weights[name], self.state[f"m.{name}"]
            if weight.ndim == 2:
                weight.mul_(1 - rate * self.decay)
            if _hidden(name):
                m.mul_(_MOMENTUM).add_(gradient)
                update = orthogonal(gradient + _MOMENTUM * m)
                weight.add_(update, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)
            else:
                v = self.state[f"v.{name}"]
                m.lerp_(gradient, 1 - _BETA1)
                v.lerp_(gradient.square(), 1 - _BETA2)
                mean = m / (1 - _BETA1**count)
                size = (v / (1 - _BETA2**count)).sqrt_().add_(_EPSILON)
                weight.addcdiv_(mean, size, value=-rate)


def _hidden(name: str) -> bool:
    """Whether a weight is a matrix between hidden layers (Muon's share)."""
    return name.endswith((".qkv", ".out", ".up", ".down"))

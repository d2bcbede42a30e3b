"""Weighers: who is chosen -> what each is worth in the sum.

Whether probabilities are taken before or after the choice, and whether they are brought back to a
sum of one, differs from paper to paper and is the first thing a reimplementation gets wrong.
There is no default: a gate names one of these.
"""

from __future__ import annotations

import torch

from turnout.core import _check
from turnout.nn.gates.parts import Weigher
from turnout.nn.gates.scores import Scores

__all__ = ["Equal", "Plain", "Renormalised", "SigmoidOfChosen", "SoftmaxOfChosen"]


class Plain(Weigher):
    """The value as it is, times `scale`: rows do not sum to one.

    Parameters
    ----------
    scale : float
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = _check.number("scale", scale)

    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """`scale * value[i, j]`."""
        picked = scores.at(columns)
        return picked if self.scale == 1.0 else picked * self.scale


class Renormalised(Weigher):
    """The values of the chosen, divided by their sum, times `scale`.

    Null experts take no share. After a softmax this is the softmax over the chosen alone.

    Parameters
    ----------
    scale : float
    eps : float
        Added to the sum, >= 0 (DeepSeek-V3: 1e-20).
    """

    def __init__(self, scale: float = 1.0, eps: float = 1e-20) -> None:
        super().__init__()
        self.scale = _check.number("scale", scale)
        self.eps = _check.number("eps", eps, low=0.0)

    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """`scale * value[i, j] / (sum over chosen + eps)`."""
        picked = scores.at(columns.masked_fill(columns >= scores.e, scores.columns))
        share = picked / (picked.sum(dim=1, keepdim=True) + self.eps)
        return share if self.scale == 1.0 else share * self.scale


class SoftmaxOfChosen(Weigher):
    """Softmax over the chosen alone, of values that are still logits."""

    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """`exp(value[i, j]) / sum over chosen exp`."""
        none = columns >= scores.e
        picked = scores.at(columns).masked_fill(none, -torch.inf)
        return picked.softmax(dim=1).nan_to_num(0.0) if none.numel() else picked


class SigmoidOfChosen(Weigher):
    """Sigmoid of each chosen value, which is still a logit."""

    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """`sigmoid(value[i, j])`."""
        return scores.at(columns).sigmoid()


class Equal(Weigher):
    """One share each, `1 / chosen` or 1.

    Parameters
    ----------
    normalised : bool
        Rows sum to one; otherwise every weight is 1.
    """

    def __init__(self, *, normalised: bool = True) -> None:
        super().__init__()
        self.normalised = normalised

    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """1 for each expert chosen, divided by their number where `normalised`."""
        one = (columns < scores.e).to(torch.float32)
        return one / one.sum(dim=1, keepdim=True).clamp(min=1.0) if self.normalised else one

"""The four parts of a gate: Scorer -> Processors -> Selector -> Weigher.

Every published gate is a choice of parts. Each is small, says what it needs of the context, and
whether it keeps the two promises that matter where a gate is used:

* `causal_safe`: the choice for a token depends on no later token of its sequence. A gate inside a
  model that predicts the next token must keep this, or training sees the future.
* `batch_coupled`: the choice for a token depends on which other tokens are in the batch, so that
  serving gives other routes than training did.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.decision import Decision
from turnout.nn.gates.scores import Scores

__all__ = ["Limit", "Part", "Processor", "Scorer", "Selector", "Weigher"]


class Part(nn.Module):
    """What all parts promise.

    Attributes
    ----------
    causal_safe : bool
        No look at later tokens.
    batch_coupled : bool
        Other tokens of the batch matter.
    needs : frozenset of str
        Fields of the context it reads, such as "tokens" or "tags.language".
    """

    causal_safe: bool = True
    batch_coupled: bool = False
    needs: frozenset[str] = frozenset()


class Scorer(Part):
    """Hidden states -> raw scores."""

    @abstractmethod
    def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
        """Scores of x (t, d); computed in float32 whatever x is."""


class Processor(Part):
    """Scores -> scores: softmax, noise, a balance bias, a group limit."""

    @abstractmethod
    def forward(self, scores: Scores, x: torch.Tensor, context: RouteContext) -> Scores:
        """The scores moved; x (t, d) is what they were made from."""


class Selector(Part):
    """Scores -> columns chosen."""

    @abstractmethod
    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k), int64; a number >= e' stands for none."""


class Weigher(Part):
    """Scores and columns chosen -> combine weights."""

    @abstractmethod
    def forward(self, scores: Scores, columns: torch.Tensor) -> torch.Tensor:
        """Weights (t, k), float32; what it says where the column is no expert is set to 0 later."""


class Limit(Part):
    """Decision -> decision: what is done after the choice, such as dropping for want of room."""

    @abstractmethod
    def forward(self, decision: Decision, context: RouteContext) -> Decision:
        """The decision with fewer slots filled."""

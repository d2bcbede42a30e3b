"""SparsityController: how hard a ReLU gate is pushed towards few experts a token."""

from __future__ import annotations

import math

import torch
from torch import distributed, nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.balance._reading import load_of, positive
from turnout.nn.balance.loads import total_over
from turnout.nn.gates import Decision, RouteLog

__all__ = ["SparsityController"]


class SparsityController(nn.Module):
    """The coefficient of the L1 loss of a ReLU gate, moved until a token has k experts on average.

    Wang et al., "ReMoE: Fully Differentiable Mixture-of-Experts with ReLU Routing", 2024,
    arXiv:2412.14711, section 3::

        coefficient <- coefficient * factor ^ sign((1 - k / e) - sparsity)
        sparsity = share of (token, expert) pairs, over all layers, that are off

    It grows while too many experts are on. Multiply `l1_loss` by `coefficient`.

    Parameters
    ----------
    k : float
        Experts a token, on average, in (0, e].
    e : int
    first : float
        Coefficient at the start, > 0.
    factor : float
        > 1.
    group : ProcessGroup, optional
        Whose tokens are summed; the default group where one is running.

    Raises
    ------
    InputError
        A number lies outside its range.
    """

    coefficient: torch.Tensor
    seen: torch.Tensor

    def __init__(
        self,
        k: float,
        e: int,
        *,
        first: float = 1e-8,
        factor: float = 1.2,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.e = _check.integer("e", e, low=1)
        positive("k", k)
        self.k = _check.number("k", k, high=e)
        self.factor = _check.number("factor", factor, low=1.0)
        if factor == 1.0:
            raise InputError("factor", "be > 1", factor, "1.2 is the paper's.")
        self.group = group
        positive("first", first)
        self.register_buffer("coefficient", torch.tensor(first, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    @torch.no_grad()
    def observe(self, log: RouteLog) -> None:
        """Add the pairs that are on in one forward pass; nothing in evaluation.

        Raises
        ------
        InputError
            A layer has another number of experts.
        """
        if not self.training:
            return
        for entry in log:
            decision = entry.decision
            if not isinstance(decision, Decision) or decision.e != self.e:
                rule = f"choose among {self.e} experts"
                found = getattr(decision, "e", None)
                raise InputError(f"log, layer {entry.layer},", rule, found, "Log ReLU gates alone.")
            on = torch.stack([load_of(decision).sum(), decision.real.sum() * self.e])
            self.seen += on.to(self.seen.device)

    @torch.no_grad()
    def step(self) -> float:
        """Move the coefficient and start counting afresh.

        Returns
        -------
        float
            The sparsity since the last step, in [0, 1]; NaN where nothing was counted, or in
            evaluation: then the coefficient stays.
        """
        if not self.training:
            return math.nan
        on, pairs = total_over(self.seen, self.group).tolist()
        self.seen.zero_()
        if not pairs:
            return math.nan
        sparsity = 1.0 - float(on) / float(pairs)
        missing = on - self.k / self.e * pairs
        self.coefficient *= self.factor ** ((missing > 0) - (missing < 0))
        return sparsity

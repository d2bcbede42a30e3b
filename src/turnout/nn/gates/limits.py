"""Limits: what is taken from a decision after the choice."""

from __future__ import annotations

from turnout.core import _check
from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.decision import Decision, DropPolicy, check_policy
from turnout.nn.gates.parts import Limit
from turnout.nn.gates.selectors import room_for

__all__ = ["Capacity"]


class Capacity(Limit):
    """An expert takes at most `ceil(factor * k * t / e)` tokens; the rest is dropped.

    Fedus et al., "Switch Transformers", 2021, arXiv:2101.03961, eq. 3, where k is 1. Masked
    tokens take no room and do not count in t. Which tokens fit depends on who else is in the batch;
    only by position is no token displaced by a later one.

    Parameters
    ----------
    factor : float
        > 0; 1 is just enough room for an even load.
    policy : {"position", "choice", "weight"}
        Who keeps its place, see `Decision.limited`.
    least : int
        Room there always is, >= 0.
    """

    batch_coupled = True

    def __init__(self, factor: float, *, policy: DropPolicy = "position", least: int = 0) -> None:
        super().__init__()
        self.factor = _check.number("factor", factor, low=0.0)
        self.least = _check.integer("least", least, low=0)
        check_policy(policy)
        self.policy: DropPolicy = policy
        self.causal_safe = policy == "position"

    def forward(self, decision: Decision, context: RouteContext) -> Decision:
        """The decision with what does not fit dropped."""
        t = decision.t if context.mask is None else int(context.mask.sum())
        room = max(self.least, room_for(t, decision.e, self.factor * decision.k))
        return decision.limited(room, policy=self.policy)

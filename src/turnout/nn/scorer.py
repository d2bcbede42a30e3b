"""Scorer: the twin in torch of `parts.learners.actor.Actor`, and the tables it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from turnout.nn.policy_gradient import Batch
from turnout.parts.learners.actor import Actor, Decision

__all__ = ["Scorer", "batch_of"]


@dataclass(frozen=True, eq=False)
class _Table:
    """Decisions of b episodes, padded: state (b, s, p), actions (b, s, k, q), and so on."""

    state: torch.Tensor
    actions: torch.Tensor
    allowed: torch.Tensor
    chosen: torch.Tensor


class Scorer(nn.Module):
    """A policy over actions described by vectors; see `Actor` for the formula.

    Parameters
    ----------
    p, q, h : int
        Length of a state, of an action; hidden units.
    generator : torch.Generator
        Draws the first weights.
    """

    def __init__(self, p: int, q: int, h: int, *, generator: torch.Generator) -> None:
        super().__init__()

        def draw(*shape: int) -> nn.Parameter:
            made = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return nn.Parameter(made / shape[0] ** 0.5)

        self.state, self.action = draw(p, h), draw(q, h)
        self.bias = nn.Parameter(torch.zeros(h, dtype=torch.float64))
        self.out = nn.Parameter(draw(h).detach() * 0.1)  # nearly even at the start

    def forward(self, data: _Table) -> torch.Tensor:
        """Log-probability of what was chosen, (b, s)."""
        known = (data.state @ self.state + self.bias)[:, :, None]
        score = torch.tanh(known + data.actions @ self.action) @ self.out
        score = score.masked_fill(~data.allowed, -torch.inf)
        logs = torch.log_softmax(score, dim=-1)
        return logs.gather(-1, data.chosen[..., None]).squeeze(-1)

    def actor(self) -> Actor:
        """The same policy in numpy, as it is now."""
        found = (self.state, self.action, self.bias, self.out)
        return Actor(*(item.detach().numpy().copy() for item in found))


def batch_of(episodes: Sequence[Sequence[Decision]], group: Sequence[int]) -> Batch:
    """Episodes of decisions as one padded batch; there is at least one decision."""
    b, s = len(episodes), max(len(steps) for steps in episodes)
    some = next(step for steps in episodes for step in steps)
    k = max(len(step.allowed) for steps in episodes for step in steps)
    state = np.zeros((b, s, len(some.state)))
    actions = np.zeros((b, s, k, some.actions.shape[1]))
    allowed = np.zeros((b, s, k), dtype=np.bool_)
    allowed[:, :, 0] = True  # so that a padded step has a log-probability, which counts nothing
    chosen, rewards = np.zeros((b, s), dtype=np.int64), np.zeros((b, s))
    mask = np.zeros((b, s), dtype=np.bool_)
    for i, steps in enumerate(episodes):
        for t, step in enumerate(steps):
            size = len(step.allowed)
            state[i, t], actions[i, t, :size] = step.state, step.actions
            allowed[i, t, :size] = step.allowed
            chosen[i, t], rewards[i, t], mask[i, t] = step.chosen, step.reward, True
    table = _Table(*(torch.from_numpy(item) for item in (state, actions, allowed, chosen)))
    return Batch(
        table, torch.from_numpy(rewards), torch.from_numpy(mask), torch.tensor(list(group))
    )

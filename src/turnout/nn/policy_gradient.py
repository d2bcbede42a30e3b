r"""Policy gradients over discrete decisions: REINFORCE, GRPO, and GRPO with a reward a step.

One trainer for every method that learns by trying. A policy is any module that gives the
log-probabilities of decisions made before; episodes of several steps are padded, and what is
padded counts nothing.

Equations, with b episodes of at most s steps, rewards `r` (b, s), `mask` (b, s), group `g` (b,)::

    R_t = sum_{u >= t} r_u                                      return from a step on
    REINFORCE   A_t = R_t - baseline                            ("none": 0, "mean": mean of R_0)
    GRPO        A   = (R_0 - mean_g) / std_g, the same at every step
    Step-GRPO   A_t = (r_t - mean_g,t) / std_g,t                over the group's steps t
    ratio       w_t = exp(logp_t - old_t)
    surrogate   min(w_t A_t, clip(w_t, 1 - c, 1 + c) A_t)
    penalty     k_t = exp(ref_t - logp_t) - (ref_t - logp_t) - 1,  an estimate of KL(policy || ref)

A group of equal rewards (or of one episode) has advantage 0, not NaN: `std` below 1e-8 divides
nothing. The deviation is that of a population (divided by the count).

Sources: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning", 1992, doi:10.1007/BF00992696; Schulman et al., "Proximal Policy
Optimization Algorithms", 2017, arXiv:1707.06347, eq. 7; Shao et al., "DeepSeekMath", 2024,
arXiv:2402.03300, eq. 3, 4 and section 4.1.2; Peng et al., R1-Router, 2025, arXiv:2505.22095
(Step-GRPO: advantages within the group of one step).

Examples
--------
>>> import torch
>>> rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
>>> mask = torch.ones(2, 2, dtype=torch.bool)
>>> Grpo().advantages(rewards, mask, torch.zeros(2, dtype=torch.int64))[:, 0].tolist()
[1.0, -1.0]
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from turnout.core import InputError, _check

__all__ = [
    "Algorithm",
    "Batch",
    "Grpo",
    "Progress",
    "Reinforce",
    "StepGrpo",
    "group_relative",
    "train",
]

#: Below this a deviation is none.
_EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class Batch:
    """Decisions of b episodes, padded to s steps.

    Parameters
    ----------
    data : object
        What the policy reads to give the log-probabilities (b, s) of the decisions.
    rewards : tensor (b, s)
        Reward that followed each step.
    mask : bool tensor (b, s)
        Steps that were taken; the rest counts nothing.
    group : int64 tensor (b,)
        Episodes that began alike have one number.

    Raises
    ------
    InputError
        Shapes disagree, or a reward that counts is not finite.
    """

    data: Any
    rewards: torch.Tensor
    mask: torch.Tensor
    group: torch.Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.rewards.shape)
        if len(shape) != 2 or tuple(self.mask.shape) != shape or len(self.group) != shape[0]:
            got = (shape, tuple(self.mask.shape), tuple(self.group.shape))
            raise InputError("batch", "have rewards and mask (b, s) and group (b,)", got, "Pad it.")
        if not torch.isfinite(self.rewards[self.mask]).all():
            hint = "Give a failed step a finite reward."
            raise InputError("batch.rewards", "be finite where the mask is set", "NaN or inf", hint)


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Parameters
    ----------
    update : int
        Updates done.
    reward : float
        Mean reward of an episode in the last batch.
    loss : float
        What the last step descended.
    """

    update: int
    reward: float
    loss: float


class Algorithm(Protocol):
    """Turns rewards into advantages and advantages into a loss."""

    @property
    def passes(self) -> int:
        """Steps taken on each batch."""
        ...

    @property
    def kl(self) -> float:
        """Weight of the distance to the policy that training began with."""
        ...

    def advantages(
        self, rewards: torch.Tensor, mask: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """How much better than expected each step was, (b, s); 0 where masked."""
        ...

    def loss(
        self,
        logp: torch.Tensor,
        old: torch.Tensor,
        reference: torch.Tensor | None,
        advantages: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """What to descend, from log-probabilities (b, s) now, at sampling and at the start."""
        ...


@dataclass(frozen=True)
class Reinforce:
    """REINFORCE: each step is blamed for what followed it.

    Parameters
    ----------
    baseline : str
        "mean" takes off the mean return of the batch, "none" nothing. The mean includes the
        episode itself, so the gradient is scaled by `1 - 1/b` and not bent.

    Raises
    ------
    InputError
        There is no such baseline.
    """

    baseline: str = "mean"

    def __post_init__(self) -> None:
        if self.baseline not in ("mean", "none"):
            hint = "Choose one."
            raise InputError("reinforce.baseline", "be 'mean' or 'none'", self.baseline, hint)

    @property
    def passes(self) -> int:
        """One: the gradient holds for the policy that acted."""
        return 1

    @property
    def kl(self) -> float:
        """None."""
        return 0.0

    def advantages(
        self, rewards: torch.Tensor, mask: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """Return from each step on, less the baseline."""
        counted = torch.where(mask, rewards, 0.0)
        later = counted.flip(1).cumsum(1).flip(1)
        level = later[:, 0].mean() if self.baseline == "mean" else 0.0
        return torch.where(mask, later - level, 0.0)

    def loss(
        self,
        logp: torch.Tensor,
        old: torch.Tensor,
        reference: torch.Tensor | None,
        advantages: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Minus the sum of `logp * A` over an episode, mean over the episodes."""
        return -(torch.where(mask, logp, 0.0) * advantages).sum(dim=1).mean()


@dataclass(frozen=True)
class Grpo:
    """Group-relative policy optimization: one advantage an episode.

    Parameters
    ----------
    clip : float
        How far the ratio may leave 1 before it stops paying; in (0, 1).
    kl : float
        Weight of the distance to the first policy, >= 0.
    passes : int
        Steps taken on each batch, >= 1.
    """

    clip: float = 0.2
    kl: float = 0.001
    passes: int = 1

    def __post_init__(self) -> None:
        _check.number("grpo.clip", self.clip, low=1e-6, high=1 - 1e-6)
        _check.number("grpo.kl", self.kl, low=0.0)
        _check.integer("grpo.passes", self.passes, low=1)

    def advantages(
        self, rewards: torch.Tensor, mask: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """The episode's reward against those of its group, at each of its steps."""
        total = torch.where(mask, rewards, 0.0).sum(dim=1, keepdim=True)
        taken = torch.ones_like(total, dtype=torch.bool)
        return torch.where(mask, group_relative(total, taken, group), 0.0)

    def loss(
        self,
        logp: torch.Tensor,
        old: torch.Tensor,
        reference: torch.Tensor | None,
        advantages: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Minus the clipped surrogate less the penalty; mean of an episode, then of episodes."""
        return _clipped(logp, old, reference, advantages, mask, self.clip, self.kl)


@dataclass(frozen=True)
class StepGrpo:
    """GRPO with a reward at every step: a step is compared with its group's at the same place.

    Parameters
    ----------
    clip, kl, passes
        As for `Grpo`.
    """

    clip: float = 0.2
    kl: float = 0.001
    passes: int = 1

    def __post_init__(self) -> None:
        Grpo(self.clip, self.kl, self.passes)

    def advantages(
        self, rewards: torch.Tensor, mask: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """Each step's reward against its group's at that step, among those that took it."""
        return group_relative(rewards, mask, group)

    def loss(
        self,
        logp: torch.Tensor,
        old: torch.Tensor,
        reference: torch.Tensor | None,
        advantages: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """As for `Grpo`."""
        return _clipped(logp, old, reference, advantages, mask, self.clip, self.kl)


def group_relative(rewards: torch.Tensor, mask: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """`(r - mean) / std` within each group and column, (b, s); 0 where masked or all are equal.

    Parameters
    ----------
    rewards : tensor (b, s)
    mask : bool tensor (b, s)
    group : int64 tensor (b,)
    """
    _, place = torch.unique(group, return_inverse=True)
    count = int(place.max()) + 1 if len(place) else 0
    weight = mask.to(rewards.dtype)
    size = weight.new_zeros(count, rewards.shape[1]).index_add(0, place, weight).clamp(min=1)

    def mean(values: torch.Tensor) -> torch.Tensor:
        kept = torch.where(mask, values, 0.0)
        total = kept.new_zeros(count, values.shape[1]).index_add(0, place, kept)
        return (total / size)[place]

    apart = torch.where(mask, rewards - mean(rewards), 0.0)
    spread = mean(apart**2).sqrt()
    return torch.where(spread > _EPSILON, apart / spread.clamp(min=_EPSILON), 0.0)


def _clipped(
    logp: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor | None,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    clip: float,
    kl: float,
) -> torch.Tensor:
    logp, old = torch.where(mask, logp, 0.0), torch.where(mask, old, 0.0)
    ratio = (logp - old).exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    if kl and reference is not None:
        apart = torch.where(mask, reference, 0.0) - logp
        gain = gain - kl * (apart.exp() - apart - 1)
    steps = mask.sum(dim=1).clamp(min=1)
    return -(torch.where(mask, gain, 0.0).sum(dim=1) / steps).mean()


def train(
    policy: nn.Module,
    collect: Callable[[int], Batch],
    algorithm: Algorithm,
    *,
    updates: int,
    rate: float,
    extra: Callable[[Batch], torch.Tensor] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Improve a policy in place, by Adam on batches of its own episodes.

    Deterministic: whatever is drawn, is drawn by `collect`.

    Parameters
    ----------
    policy : nn.Module
        `policy(batch.data)` gives the log-probabilities (b, s) of the decisions in it.
    collect : callable
        Plays with the policy as it is now; is told the update, from 0.
    algorithm : Algorithm
    updates : int
        Batches, >= 1.
    rate : float
        Step size, > 0.
    extra : callable, optional
        A further loss on each batch, as auxiliary losses are.
    progress : callable, optional
        Called after every update.
    """
    _check.integer("updates", updates, low=1)
    _check.number("rate", rate, low=1e-12)
    first = copy.deepcopy(policy) if algorithm.kl else None
    adam = torch.optim.Adam(policy.parameters(), lr=rate)
    for update in range(updates):
        batch = collect(update)
        advantages = algorithm.advantages(batch.rewards, batch.mask, batch.group)
        with torch.no_grad():
            old = policy(batch.data)
            reference = None if first is None else first(batch.data)
        loss = torch.zeros(())
        for _ in range(algorithm.passes):
            loss = algorithm.loss(policy(batch.data), old, reference, advantages, batch.mask)
            if extra is not None:
                loss = loss + extra(batch)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        if progress is not None:
            reward = torch.where(batch.mask, batch.rewards, 0.0).sum(dim=1).mean()
            progress(Progress(update + 1, float(reward), float(loss.detach())))

"""A generative flow network over sequences, conditioned on a preference among several rewards.

An object x is built letter by letter and ends with a terminal letter or at full length; each
prefix has one parent, so the way back is certain (log P_B = 0). The network samples objects in
proportion to a reward, for every preference w at once (Jain, Raparthy, Hernandez-Garcia,
Rector-Brooks, Bengio, Miret and Bengio, "Multi-Objective GFlowNets", 2022, arXiv:2210.12765)::

    R(x | w) = sum_i w_i R_i(x)                    or another of `parts.tradeoffs.SCALARS`
    loss     = (log Z(w) + sum_t log P_F(x_t | x_<t, w) - beta log max(R(x | w), floor))^2

which is trajectory balance (Malkin, Jain, Bengio, Sun and Bengio, "Trajectory balance: Improved
credit assignment in GFlowNets", 2022, arXiv:2201.13259). At its minimum P_F(x | w) is
R(x | w)^beta / Z(w). What stands after the end is masked out of the sum.

Shapes: b objects of at most t letters from an alphabet of `letters`; tokens (b, t), -1 = nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from turnout.core import _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.pareto import simplex
from turnout.parts.tradeoffs import Scalarise, weighted_sum

__all__ = [
    "GFlowNet",
    "Grammar",
    "Training",
    "Words",
    "balance",
    "drawn",
    "thermometer",
]


class Grammar(Protocol):
    """Which letters may follow.

    Whatever is built of letters has one: cascades (`turnout.parts.chains.Alphabet`) and pools
    (`turnout.parts.pools.Sets`), of which nothing is known here.
    """

    @property
    def letters(self) -> int:
        """Number of letters, >= 1."""
        ...

    @property
    def length(self) -> int:
        """Most letters of an object, >= 1."""
        ...

    @property
    def terminal(self) -> Bool:
        """Which letters end an object, (letters,)."""
        ...

    def allowed(self, tokens: Int) -> Bool:
        """Letters that may come at each place, (b, length, letters), given those before it.

        At least one wherever an object may still be going; what is said after an end is nothing.
        """
        ...


@dataclass(frozen=True)
class Words:
    """All words of one length over some letters.

    Parameters
    ----------
    letters, length : int
        Each >= 1.
    """

    letters: int
    length: int

    def __post_init__(self) -> None:
        _check.integer("words.letters", self.letters, low=1)
        _check.integer("words.length", self.length, low=1)

    @property
    def terminal(self) -> Bool:
        """No letter ends a word."""
        return np.zeros(self.letters, dtype=np.bool_)

    def allowed(self, tokens: Int) -> Bool:
        """Every letter everywhere."""
        return np.ones((len(tokens), self.length, self.letters), dtype=np.bool_)


def thermometer(values: Tensor, bins: int) -> Tensor:
    """Codes (..., d * bins) of values (..., d) in [0, 1]: bin i is full where the value is past it.

    The bin that the value lies in is filled in part, so that no two values are alike.
    """
    edges = torch.arange(bins, dtype=values.dtype)
    return (values[..., None] * bins - edges).clamp(0.0, 1.0).flatten(-2)


class GFlowNet(nn.Module):
    """The forward policy and the logarithm of the normaliser, both read from the preference.

    Parameters
    ----------
    letters, length, d : int
        Alphabet, longest object, objectives.
    width : int
        Units of each of two hidden layers.
    bins : int
        Of the thermometer of each preference.
    generator : torch.Generator
        Draws the initial weights.
    """

    def __init__(
        self,
        letters: int,
        length: int,
        d: int,
        *,
        width: int = 64,
        bins: int = 50,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.letters, self.length, self.d, self.bins = letters, length, d, bins
        code = d * bins
        self.policy = _mlp(length * (letters + 1) + code, width, letters, generator)
        self.normaliser = _mlp(code, width, 1, generator)

    def logits(self, prefixes: Tensor, preference: Tensor) -> Tensor:
        """Scores (b, letters) of what may follow prefixes (b, length), -1 = not there yet."""
        spots = torch.where(prefixes < 0, self.letters, prefixes)
        shown = nn.functional.one_hot(spots, self.letters + 1).flatten(1).to(torch.float32)
        code = thermometer(preference, self.bins)
        joined = torch.cat([shown, code.expand(len(shown), -1)], dim=1)
        scores: Tensor = self.policy(joined)
        return scores

    def log_z(self, preference: Tensor) -> Tensor:
        """Logarithm of the sum of all rewards, (1,)."""
        value: Tensor = self.normaliser(thermometer(preference, self.bins))
        return value

    def log_probability(self, tokens: Int, preference: Tensor, grammar: Grammar) -> Tensor:
        """Logarithm of the probability of whole objects (b, length) under the policy, (b,)."""
        t = torch.as_tensor(tokens)
        b, length = t.shape
        earlier = torch.arange(length)[None, :] < torch.arange(length)[:, None]
        prefixes = torch.where(earlier[None], t[:, None, :], -1).reshape(b * length, length)
        mask = torch.as_tensor(grammar.allowed(tokens)).reshape(b * length, -1)
        live = (t >= 0).reshape(-1)
        scores = self.logits(prefixes[live], preference)
        scores = scores.masked_fill(~mask[live], -math.inf)
        taken = torch.log_softmax(scores, dim=1).gather(1, t.reshape(-1, 1)[live])[:, 0]
        total = torch.zeros(b * length)
        total[live] = taken
        return total.reshape(b, length).sum(dim=1)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        preference: Tensor,
        grammar: Grammar,
        *,
        explore: float = 0.0,
        generator: torch.Generator,
    ) -> NDArray[np.int64]:
        """Draw objects (count, length), -1 after their end.

        Parameters
        ----------
        count : int
        preference : tensor (d,)
        grammar : Grammar
        explore : float
            Chance of a letter drawn evenly instead, in [0, 1].
        generator : torch.Generator
        """
        tokens = torch.full((count, self.length), -1, dtype=torch.int64)
        terminal = torch.as_tensor(grammar.terminal)
        live = torch.ones(count, dtype=torch.bool)
        for step in range(self.length):
            rows = live.nonzero()[:, 0]
            if not len(rows):
                break
            mask = torch.as_tensor(grammar.allowed(tokens[rows].numpy())[:, step])
            scores = self.logits(tokens[rows], preference).masked_fill(~mask, -math.inf)
            chance = torch.softmax(scores, dim=1)
            if explore > 0:
                even = mask / mask.sum(dim=1, keepdim=True)
                chance = (1.0 - explore) * chance + explore * even
            drawn = torch.multinomial(chance, 1, generator=generator)[:, 0]
            tokens[rows, step] = drawn
            live[rows] = ~terminal[drawn]
        return tokens.numpy()


def _mlp(d: int, width: int, out: int, generator: torch.Generator) -> nn.Sequential:
    """Two hidden layers; the last starts at zero, so that every letter is as likely."""
    layers: list[nn.Module] = []
    for inner, outer in ((d, width), (width, width), (width, out)):
        # made without drawing from the global generator
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, inner, outer)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            scale = math.sqrt(2.0 / inner) if outer is not out else 0.0
            linear.weight.copy_(torch.randn(outer, inner, generator=generator) * scale)
            linear.bias.zero_()
        layers += [linear, nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train.

    Parameters
    ----------
    steps, batch : int
        Updates, and objects an update; all of a batch share one preference.
    beta : float
        Inverse temperature, > 0.
    floor : float
        Least reward that counts, in (0, 1): a reward of nothing has no logarithm.
    alpha : float
        Of the Dirichlet distribution that preferences are drawn from, > 0.
    rate, rate_z : float
        Step sizes of the policy and of the normaliser, > 0.
    explore : float
        Chance of a random letter while training, in [0, 1].
    clip : float
        Most length of a gradient, > 0.
    """

    steps: int
    batch: int = 128
    beta: float = 32.0
    floor: float = 1e-2
    alpha: float = 1.0
    rate: float = 1e-3
    rate_z: float = 1e-2
    explore: float = 0.01
    clip: float = 10.0

    def __post_init__(self) -> None:
        _check.integer("training.steps", self.steps, low=0)
        _check.integer("training.batch", self.batch, low=1)
        for name in ("beta", "alpha", "rate", "rate_z", "clip"):
            _check.number(f"training.{name}", getattr(self, name), low=1e-12)
        _check.number("training.floor", self.floor, low=1e-30, high=1.0 - 1e-12)
        _check.number("training.explore", self.explore, low=0.0, high=1.0)


def balance(
    network: GFlowNet,
    grammar: Grammar,
    rewards: Callable[[Int], Float],
    training: Training,
    *,
    scalarise: Scalarise = weighted_sum,
    rng: Generator,
) -> list[float]:
    """Train by trajectory balance; returns the loss of each step.

    Parameters
    ----------
    network : GFlowNet
        Changed in place.
    grammar : Grammar
    rewards : callable
        Objects (b, length) to rewards (b, d) in [0, 1].
    training : Training
    scalarise : callable
    rng : Generator
        Draws the preferences and seeds the generator of the letters.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    groups = [
        {"params": list(network.policy.parameters()), "lr": training.rate},
        {"params": list(network.normaliser.parameters()), "lr": training.rate_z},
    ]
    adam = torch.optim.Adam(groups, weight_decay=0.0)
    losses = []
    for step in range(training.steps):
        # towards the end smaller steps: the loss is a square that noise keeps from its minimum
        left = 1.0 - step / max(training.steps, 1)
        for group, rate in zip(adam.param_groups, (training.rate, training.rate_z), strict=True):
            group["lr"] = rate * max(0.05, min(1.0, 2.0 * left))
        preference = rng.dirichlet(np.full(network.d, training.alpha))
        w = torch.as_tensor(preference, dtype=torch.float32)
        tokens = network.sample(
            training.batch, w, grammar, explore=training.explore, generator=generator
        )
        scalar = np.maximum(scalarise(rewards(tokens), preference), training.floor)
        target = torch.as_tensor(training.beta * np.log(scalar), dtype=torch.float32)
        gap = network.log_z(w) + network.log_probability(tokens, w, grammar) - target
        loss = (gap * gap).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        adam.step()
        losses.append(float(loss.detach()))
    return losses


def drawn(
    grammar: Grammar,
    rewards: Callable[[Int], Float],
    d: int,
    training: Training,
    *,
    width: int,
    samples: int,
    bins: int,
    scalarise: Scalarise = weighted_sum,
    rng: Generator,
) -> set[tuple[int, ...]]:
    """The different objects met when a network is trained and then drawn from for a grid of wishes.

    What was only met in training is not among them.

    Parameters
    ----------
    grammar : Grammar
    rewards : callable
        Objects (b, length) to rewards (b, d) in [0, 1].
    d : int
        Objectives, >= 1.
    training : Training
    width : int
        Hidden units of the network.
    samples : int
        Draws for each preference, >= 1.
    bins : int
        The preferences are all multiples of 1 / bins on the simplex.
    scalarise : callable
    rng : Generator
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    network = GFlowNet(grammar.letters, grammar.length, d, width=width, generator=generator)
    balance(network, grammar, rewards, training, scalarise=scalarise, rng=rng)
    met: set[tuple[int, ...]] = set()
    for preference in simplex(d, bins):
        w = torch.as_tensor(preference, dtype=torch.float32)
        tokens = network.sample(samples, w, grammar, generator=generator)
        met.update(tuple(word) for word in tokens.tolist())
    return met

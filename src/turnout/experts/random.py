"""Sends a token to k experts drawn evenly at random.

Routes tokens to feed-forward experts without looking at them, in training and in evaluation: the
baseline that any gate must beat, and the routing of THOR, which trains experts to agree.

Equations, with the variable of each symbol::

    S   = k different experts, each set equally likely      experts (t, k)
    g_j = 1 / k                                             weights (t, k)

Every draw is from `RouteContext.generator`; the same generator gives the same route. A token's
draw depends on its place in the batch.

Differs from the paper: see `CARD.differs`. Cost: e random numbers a token.

Examples
--------
>>> import torch
>>> from turnout.nn.gates import RouteContext
>>> gate = Random(k=2).build(1, 4, generator=torch.Generator().manual_seed(0))
>>> context = RouteContext(generator=torch.Generator().manual_seed(0))
>>> decision = gate(torch.zeros(100, 1), context)
>>> int(decision.load().sum()), decision.weights[0, 0].item()
(200, 0.5)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card, _check
from turnout.nn.gates import Equal, Gate, NoScorer, Uniform

__all__ = ["CARD", "Random"]

CARD = Card(
    name="experts.random",
    system="THOR routing",
    title="Taming Sparsely Activated Transformer with Stochastic Experts",
    authors="Zuo, Liu, Jiao, Kim, Hassan, Zhang, Zhao, Gao",
    year=2021,
    id="arXiv:2110.04260",
    routes="a token to feed-forward experts drawn at random",
    kind="policy",
    recipe="Random",
    signal=("nothing",),
    covers=("Section 3: experts drawn evenly at random, in training and in inference",),
    differs=(
        "Every token draws for itself; in training the paper draws one expert a layer for a whole "
        "batch, and at inference a token or a sentence draws.",
        "The consistency loss between two passes is a training loop, not a gate.",
        "k may exceed the paper's 1.",
    ),
    needs=("torch",),
    properties=("causal_safe", "per_sequence", "fixed_k"),
    aliases=("thor", "stochastic experts", "uniform"),
    cost="e random numbers and one choice of k among e a token",
)


@dataclass(frozen=True)
class Random:
    """Recipe of a random gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; the paper has 1.

    Raises
    ------
    InputError
        k is below 1.
    """

    k: int = 1

    def __post_init__(self) -> None:
        _check.integer("random.k", self.k, low=1)

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for e experts; neither the width d nor the generator matters.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        return Gate(NoScorer(e), Uniform(self.k), Equal(), e=e)

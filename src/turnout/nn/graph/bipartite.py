"""A graph of inputs and destinations, whose edges are the outcomes seen, and what it predicts.

For input i of task t(i) and destination j, with features of both and of each edge seen::

    x_i = [W_t t(i) ; W_q q_i],   x_j = W_d d_j                     (2 h,)   how they start
    g_ij = relu(W_e e_ij + b_e)                                              an edge seen
    y = relu(BN(conv(x, g))),     z = BN(conv(y, g))                         `Conv`, to j only
    l_ij = mean over k of x_ik z_jk                                          log-odds

Inputs hear nothing: edges lead from inputs to destinations alone. So z_j depends on the edges into
j and on nothing else of the graph, once the norms (BN) use their running figures.
(Feng, Shen, You, "GraphRouter", ICLR 2025, arXiv:2410.03834, section 3.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from turnout.nn.graph.messages import Conv
from turnout.nn.graph.weights import linear

__all__ = ["Bipartite", "Seen"]

#: Numbers an edge carries.
_EDGE = 3


@dataclass(frozen=True, eq=False)
class Seen:
    """The edges that may be looked at.

    Parameters
    ----------
    source, target : int64 tensor (edges,)
        Input and destination of each.
    e : tensor (edges, 3)
    """

    source: torch.Tensor
    target: torch.Tensor
    e: torch.Tensor


class Bipartite(nn.Module):
    """The network of the module's equations.

    Parameters
    ----------
    query, task, destination : int
        Lengths of the features of an input, of its task, of a destination.
    h : int
        Half the width of a node.
    inside : str
        "linear" or "relu", see `Conv`.
    generator : torch.Generator
        Draws every first weight.
    """

    def __init__(
        self,
        *,
        query: int,
        task: int,
        destination: int,
        h: int,
        inside: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.query = linear(query, h, generator=generator)
        self.task = linear(task, h, generator=generator)
        self.destination = linear(destination, 2 * h, generator=generator)
        self.edge = linear(_EDGE, _EDGE, generator=generator)
        self.first, self.second = (
            Conv(2 * h, 2 * h, edge=_EDGE, inside=inside, generator=generator) for _ in range(2)
        )
        self.norm1, self.norm2 = nn.BatchNorm1d(2 * h), nn.BatchNorm1d(2 * h)

    def inputs(self, query: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """How inputs start, (n, 2 h), from their features (n, d) and their tasks' (n, d)."""
        return torch.cat((self.task(task), self.query(query)), dim=1)

    def destinations(self, x: torch.Tensor, destination: torch.Tensor, seen: Seen) -> torch.Tensor:
        """Destinations after both rounds, (m, 2 h), from inputs x and features (m, d)."""
        n, m = len(x), len(destination)
        e = torch.relu(self.edge(seen.e))
        own: torch.Tensor = self.destination(destination)
        own = own + self.first.heard(x, seen.source, seen.target, e, m)
        y = torch.relu(self.norm1(torch.cat((x, own))))
        own = y[n:] + self.second.heard(y[:n], seen.source, seen.target, e, m)
        z: torch.Tensor = self.norm2(torch.cat((y[:n], own)))
        return z[n:]

    def forward(
        self,
        query: torch.Tensor,
        task: torch.Tensor,
        destination: torch.Tensor,
        seen: Seen,
    ) -> torch.Tensor:
        """Log-odds (n, m) of every edge, given those that are seen."""
        x = self.inputs(query, task)
        return x @ self.destinations(x, destination, seen).T / x.shape[1]

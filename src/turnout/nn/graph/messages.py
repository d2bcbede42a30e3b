"""Messages along edges: what a node hears is the sum or the mean of what its neighbours say.

For node i with incoming edges N(i), each with features e of its own::

    x'_i = agg_{j in N(i)} (W x_j + U e_ji) + S x_i              S = 1 where the widths agree

That is the general layer of You, Ying and Leskovec, "Design Space for Graph Neural Networks",
NeurIPS 2020, arXiv:2011.08843, section 3.1, without its own normalisation and activation. A node
that hears nothing keeps `S x_i`: the mean over nobody is zero.

Such a message is a sum, so all that reaches a node is the mean neighbour and the mean edge: *which*
neighbour came with which edge is lost. `inside="relu"` bends each message before they are added,
and what is heard then depends on the pairs.
"""

from __future__ import annotations

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.nn.graph.weights import linear

__all__ = ["Conv", "gather", "segment_softmax"]

_HOW = ("sum", "mean")
_INSIDE = ("linear", "relu")


def gather(said: torch.Tensor, target: torch.Tensor, v: int, how: str = "sum") -> torch.Tensor:
    """What each of v nodes hears.

    Parameters
    ----------
    said : tensor (edges, d)
    target : int64 tensor (edges,)
        Node that hears each.
    v : int
    how : str
        "sum" or "mean".

    Returns
    -------
    tensor (v, d)
        0 where nothing is said.

    Raises
    ------
    InputError
        There is no such way.
    """
    if how not in _HOW:
        raise InputError("how", f"be one of {', '.join(_HOW)}", how, "Choose one.")
    heard = said.new_zeros((v, *said.shape[1:])).index_add(0, target, said)
    if how == "sum":
        return heard
    count = torch.bincount(target, minlength=v).clamp(min=1).to(said.dtype)
    return heard / count.reshape(v, *[1] * (said.ndim - 1))


def segment_softmax(scores: torch.Tensor, target: torch.Tensor, v: int) -> torch.Tensor:
    """Softmax of scores (edges, ...) over the edges of each target, of the same shape."""
    index = target.reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    top = scores.new_full((v, *scores.shape[1:]), -torch.inf)
    top = top.scatter_reduce(0, index, scores.detach(), "amax")
    grown = (scores - top.index_select(0, target)).exp()
    return grown / gather(grown, target, v).index_select(0, target)


class Conv(nn.Module):
    """The layer of the module's equation.

    Parameters
    ----------
    d, h : int
        Width of a node before and after.
    edge : int
        Numbers an edge carries, >= 0.
    how : str
        "mean" or "sum".
    inside : str
        "linear", or "relu" around each message.
    generator : torch.Generator
        Draws every first weight.

    Raises
    ------
    InputError
        There is no such way.
    """

    def __init__(
        self,
        d: int,
        h: int,
        *,
        edge: int = 0,
        how: str = "mean",
        inside: str = "linear",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if how not in _HOW:
            raise InputError("how", f"be one of {', '.join(_HOW)}", how, "Choose one.")
        if inside not in _INSIDE:
            raise InputError("inside", f"be one of {', '.join(_INSIDE)}", inside, "Choose one.")
        self.how, self.inside = how, inside
        self.message = linear(d, h, generator=generator)
        self.edge = linear(edge, h, generator=generator) if edge else None
        self.skip = nn.Identity() if d == h else linear(d, h, generator=generator)

    def forward(
        self,
        x: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        e: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Nodes (v, h) of nodes (v, d), edges (edges,) twice and their features (edges, edge)."""
        kept: torch.Tensor = self.skip(x)
        return self.heard(x, source, target, e, len(x)) + kept

    def heard(
        self,
        x: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        e: torch.Tensor | None,
        v: int,
    ) -> torch.Tensor:
        """What v nodes hear from nodes x, (v, h); targets count apart from sources.

        Raises
        ------
        InputError
            The layer reads features of edges and there are none, or the other way round.
        """
        if (self.edge is None) != (e is None):
            rule = "be given where the layer reads them, and only there"
            raise InputError("e", rule, None if e is None else tuple(e.shape), "Match the layer.")
        if self.inside == "relu":
            said: torch.Tensor = self.message(x).index_select(0, source)
            if self.edge is not None:
                said = said + self.edge(e)
            return gather(said.relu(), target, v, self.how)
        # linear messages: adding first and multiplying after is the same, and far less work
        total: torch.Tensor = self.message(gather(x.index_select(0, source), target, v, self.how))
        shift: torch.Tensor = self.message.bias
        if e is not None and self.edge is not None:
            total = total + self.edge(gather(e, target, v, self.how))
            shift = shift + self.edge.bias
        count = torch.bincount(target, minlength=v).to(x.dtype)[:, None]
        times = count if self.how == "sum" else count.clamp(max=1)
        return total + (times - 1) * shift

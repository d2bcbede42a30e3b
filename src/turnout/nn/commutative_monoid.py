"""Makes one vector of a set by an operator that is learnt, commutative and taught to associate.

Routes a set of vectors to one: messages to a node, answers to a verdict, the experts of a request
to a feature. "Learnable Commutative Monoids for Graph Neural Networks" (2022), arXiv:2212.08541.
A sum forgets and a maximum ignores; a recurrent scan does neither, but takes n steps and depends on
the order. A learnt operator on pairs, applied in a balanced tree, takes log n steps.

Equations, with the variable of each symbol::

    x_i  = relu(W u_i + b)                       element of a set, (h,) from (d,)     `project`
    f(a, b)    = GRU(input = a, state = b)       (h,)                                 `cell`
    a * b      = (f(a, b) + f(b, a)) / 2         commutative to the bit               `combine`
    x_1 * ... * x_n = ((x_1 * x_2) * (x_3 * x_4)) * ...      depth ceil(log2 n)       `tree`
    the empty product = e                        (h,), learnt                         `unit`
    L_a = mean |(x * y) * z - x * (y * z)|^2     over drawn triples           `associativity`
    L_e = mean |x * e - x|^2                                                  `identity`

Sets of any sizes go side by side, as rows of one table and the size of each; at each level every
set pairs its neighbours, and an odd last one waits. No padding is ever combined.

The order still matters as far as L_a is not zero: shuffle while training (pass a generator), train
with L_a on the latents of all levels (`levels`), and where it matters average over orders
(`averaged`). `order_error` says how far two orders differ.

Differs from the paper: see `CARD.differs`. Cost: see `CARD.cost`.

Examples
--------
>>> import torch
>>> monoid = CommutativeMonoid(3, 4, generator=torch.Generator().manual_seed(0))
>>> u = torch.arange(15.0).reshape(5, 3)
>>> tuple(monoid(u, torch.tensor([2, 0, 3])).shape)
(3, 4)
>>> tree(torch.add, u, torch.tensor([2, 3]))[:, 0].tolist()
[3.0, 27.0]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from turnout.core import Card
from turnout.core.errors import InputError
from turnout.nn.graph.weights import gru_cell, linear

__all__ = ["CARD", "CommutativeMonoid", "order_error", "shuffled", "tree"]

CARD = Card(
    name="nn.commutative_monoid",
    system="LCM",
    title="Learnable Commutative Monoids for Graph Neural Networks",
    authors="Ong, Velickovic",
    year=2022,
    id="arXiv:2212.08541",
    routes="a set of vectors to one vector",
    kind="score",
    recipe="",
    signal=("gradient",),
    covers=(
        "The binary operator made commutative by its symmetric half, and its tree",
        "Losses that teach it to associate and to have an identity",
    ),
    differs=(
        "Ragged sets are reduced set by set; the layer of PyTorch Geometric pads them with zeros "
        "and combines the zeros, so that a set depends on the longest one beside it.",
        "The empty set is a learnt vector.",
        "Triples for associativity are drawn from all latents given, those of inner levels too; "
        "how the paper draws and weighs them is not known here.",
    ),
    needs=("torch",),
    aliases=("lcm", "learnable commutative monoid", "lcm aggregation"),
    cost="two gated units a pair, n - 1 pairs, ceil(log2 n) in sequence",
)

#: Combines rows (n, h) and (n, h) into (n, h).
Operator: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def tree(combine: Operator, x: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Each set reduced to one row.

    Parameters
    ----------
    combine : callable
        Takes two tensors (pairs, h).
    x : tensor (n, h)
        Elements of the first set, then of the second, ...
    sizes : int64 tensor (b,)
        Elements of each, >= 1.

    Returns
    -------
    tensor (b, h)

    Raises
    ------
    InputError
        The sizes are not those of x, or a set is empty.
    """
    return _levels(combine, x, _checked(x, sizes, low=1))[-1]


def shuffled(sizes: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Row numbers (n,) that put every set into a random order, each where it was."""
    n = int(sizes.sum())
    owner = torch.arange(len(sizes)).repeat_interleave(sizes)
    order = torch.rand(n, generator=generator).argsort()
    return order[owner[order].argsort(stable=True)]


class CommutativeMonoid(nn.Module):
    """The aggregator of the module's equations.

    Parameters
    ----------
    d, h : int
        Width of an element and of the result.
    generator : torch.Generator
        Draws every first weight.
    project : bool
        Map elements by W first; without it d must be h.

    Raises
    ------
    InputError
        d is not h and nothing projects.
    """

    def __init__(self, d: int, h: int, *, generator: torch.Generator, project: bool = True) -> None:
        super().__init__()
        if d != h and not project:
            raise InputError("d", f"be h = {h} where nothing projects", d, "Set project=True.")
        self.project = linear(d, h, generator=generator) if project else None
        self.cell = gru_cell(h, h, generator=generator)
        self.unit = nn.Parameter(torch.zeros(h))

    def combine(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """A * b for rows (n, h); to the bit the same as b * a."""
        one: torch.Tensor = self.cell(a, b)
        other: torch.Tensor = self.cell(b, a)
        return (one + other) / 2

    def forward(
        self,
        u: torch.Tensor,
        sizes: torch.Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """One row (b, h) for each set of elements u (n, d).

        Parameters
        ----------
        u : tensor (n, d)
            Elements of the first set, then of the second, ...
        sizes : int64 tensor (b,)
            Elements of each; 0 gives `unit`.
        generator : torch.Generator, optional
            Shuffles each set; wanted while training.

        Raises
        ------
        InputError
            The sizes are not those of u.
        """
        return self._filled(self.levels(u, sizes, generator=generator)[-1], sizes)

    def levels(
        self,
        u: torch.Tensor,
        sizes: torch.Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Latents of every level of the trees, the elements first, the roots last."""
        sizes = _checked(u, sizes, low=0)
        if generator is not None:
            u = u[shuffled(sizes, generator=generator)]
        x = u if self.project is None else self.project(u).relu()
        return _levels(self.combine, x, sizes[sizes > 0])

    def averaged(
        self, u: torch.Tensor, sizes: torch.Tensor, *, orders: int, generator: torch.Generator
    ) -> torch.Tensor:
        """The mean (b, h) over so many random orders: the more, the less the order matters."""
        if orders < 1:
            raise InputError("orders", "be at least 1", orders, "Take 8, say.")
        results = [self.forward(u, sizes, generator=generator) for _ in range(orders)]
        return torch.stack(results).mean(dim=0)

    def associativity(self, x: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """L_a over as many triples as there are latents x (n, h), drawn from them."""
        a, b, c = (x[torch.randperm(len(x), generator=generator)] for _ in range(3))
        left = self.combine(self.combine(a, b), c)
        right = self.combine(a, self.combine(b, c))
        return (left - right).square().sum(dim=1).mean()

    def identity(self, x: torch.Tensor) -> torch.Tensor:
        """L_e over latents x (n, h)."""
        return (self.combine(x, self.unit.expand_as(x)) - x).square().sum(dim=1).mean()

    def _filled(self, roots: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """The roots where they belong, and the unit for the empty sets."""
        some = sizes > 0
        place = (some.cumsum(0) - 1).clamp(min=0)
        if not len(roots):
            return self.unit.expand(len(sizes), -1)
        return torch.where(some[:, None], roots.index_select(0, place), self.unit)


def order_error(
    aggregate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    u: torch.Tensor,
    sizes: torch.Tensor,
    *,
    generator: torch.Generator,
) -> float:
    """Mean of |A(one order) - A(another)| / |A(one order)| over the sets.

    Parameters
    ----------
    aggregate : callable
        Takes elements (n, d) and sizes (b,), gives (b, h).
    u, sizes : tensors
    generator : torch.Generator
    """
    with torch.no_grad():
        one, other = (aggregate(u[shuffled(sizes, generator=generator)], sizes) for _ in range(2))
        far = (one - other).norm(dim=1) / one.norm(dim=1).clamp(min=1e-12)
    return float(far.mean())


def _levels(combine: Operator, x: torch.Tensor, sizes: torch.Tensor) -> list[torch.Tensor]:
    """Rows of every level; of b sets, none empty, the last level has b."""
    found = [x]
    while len(sizes) and int(sizes.max()) > 1:
        if bool((sizes % 2 == 0).all()):  # nobody waits: views in place of looking rows up
            x = combine(*x.reshape(-1, 2, *x.shape[1:]).unbind(1))
        else:
            owner = torch.arange(len(sizes)).repeat_interleave(sizes)
            place = torch.arange(len(x)) - (sizes.cumsum(0) - sizes)[owner]
            first = (place % 2 == 0).nonzero()[:, 0]
            paired = place[first] + 1 < sizes[owner[first]]
            left = first[paired]
            met = combine(x.index_select(0, left), x.index_select(0, left + 1))
            x = x.index_select(0, first).index_put((paired.nonzero()[:, 0],), met)
        sizes = (sizes + 1) // 2
        found.append(x)
    return found


def _checked(x: torch.Tensor, sizes: torch.Tensor, *, low: int) -> torch.Tensor:
    if sizes.ndim != 1 or sizes.dtype != torch.int64 or (sizes < low).any():
        rule = f"be whole numbers >= {low}, one a set"
        raise InputError("sizes", rule, sizes.tolist(), "Count the elements of each set.")
    if int(sizes.sum()) != len(x):
        rule = f"add up to the {len(x)} elements"
        raise InputError("sizes", rule, int(sizes.sum()), "Count the elements of each set.")
    return sizes

"""Selectors: scores -> who is chosen."""

from __future__ import annotations

import torch

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.order import top_columns
from turnout.nn.gates.parts import Selector
from turnout.nn.gates.scores import Scores

__all__ = ["ExpertChoice", "HashTable", "Positive", "TopK", "Uniform", "room_for"]


class TopK(Selector):
    """The k columns of greatest choice, the greatest first; ties to the lower column.

    Columns at -inf are never chosen: where fewer than k may be had, the rest is none.

    Parameters
    ----------
    k : int
        >= 1. `RouteContext.budget`, a whole number, overrides it.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _check.integer("k", k, low=1)

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k).

        Raises
        ------
        InputError
            k exceeds the number of columns.
        """
        k = self.k if context.budget is None else round(context.budget)
        if not 1 <= k <= scores.columns:
            rule = f"lie in [1, {scores.columns}], the number of experts"
            raise InputError("k", rule, k, "Choose fewer experts a token, or add experts.")
        columns = top_columns(scores.choice, k)
        barred = scores.choice.gather(1, columns) == -torch.inf
        return columns.masked_fill(barred, scores.columns)


class Positive(Selector):
    """Every column with a positive choice; as many as there are.

    Wang et al., "ReMoE: Fully Differentiable Mixture-of-Experts with ReLU Routing", 2024,
    arXiv:2412.14711, section 3.1. k is the largest number any token of the batch chooses.
    """

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k), ascending, none behind."""
        on = scores.choice > 0
        if context.mask is not None:
            on = on & context.mask.unsqueeze(1)
        widest = int(on.sum(dim=1).max()) if scores.t else 0
        numbers = torch.arange(scores.columns, device=on.device).expand_as(on)
        return numbers.masked_fill(~on, scores.columns).sort(dim=1).values[:, :widest]


class ExpertChoice(Selector):
    """Each expert chooses its tokens, so that every load is the same.

    Zhou et al., "Mixture-of-Experts with Expert Choice Routing", 2022, arXiv:2202.09368, section
    3.2: an expert takes the n * c / e tokens that score highest for it. An early token's place
    depends on later ones: not for models that predict the next token.

    Parameters
    ----------
    factor : float
        c, experts a token on average, > 0.
    """

    causal_safe = False
    batch_coupled = True

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = _check.number("factor", factor, low=0.0)

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k), ascending, none behind; k is the most any token is chosen by."""
        choice, t = scores.choice, scores.t
        factor = self.factor if context.budget is None else context.budget
        real = t
        if context.mask is not None:
            choice = choice.masked_fill(~context.mask.unsqueeze(1), -torch.inf)
            real = int(context.mask.sum())
        places = room_for(real, scores.columns, factor)
        if places == 0:
            return torch.empty((t, 0), dtype=torch.int64, device=choice.device)
        chosen = torch.zeros_like(choice, dtype=torch.bool)
        chosen.scatter_(0, top_columns(choice.t(), places).t(), True)
        chosen &= choice > -torch.inf
        numbers = torch.arange(scores.columns, device=choice.device).expand_as(chosen)
        widest = int(chosen.sum(dim=1).max())
        return numbers.masked_fill(~chosen, scores.columns).sort(dim=1).values[:, :widest]


class HashTable(Selector):
    """The expert of a token's id, by a fixed table.

    Roller et al., "Hash Layers For Large Sparse Models", 2021, arXiv:2106.04426.

    Parameters
    ----------
    table : int64 tensor (vocabulary, k)
        Columns of each token id.
    """

    needs = frozenset({"tokens"})
    table: torch.Tensor

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        if table.ndim != 2 or table.dtype != torch.int64:
            found = (table.dtype, tuple(table.shape))
            raise InputError("table", "be int64 of shape (vocabulary, k)", found, "Reshape it.")
        self.register_buffer("table", table)

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k).

        Raises
        ------
        InputError
            A token id lies outside the table.
        """
        assert context.tokens is not None
        tokens = context.tokens
        if tokens.numel() and not torch.compiler.is_compiling():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= len(self.table):
                rule = f"lie in [0, {len(self.table) - 1}]"
                wrong = low if low < 0 else high
                raise InputError("context.tokens", rule, wrong, "Give the table more rows.")
        return self.table[tokens]


class Uniform(Selector):
    """k different columns drawn at random.

    Parameters
    ----------
    k : int
        >= 1.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _check.integer("k", k, low=1)

    def forward(self, scores: Scores, context: RouteContext) -> torch.Tensor:
        """Columns (t, k).

        Raises
        ------
        InputError
            k exceeds the number of columns, or the context brings no generator.
        """
        if self.k > scores.columns:
            rule = f"lie in [1, {scores.columns}], the number of experts"
            raise InputError("k", rule, self.k, "Choose fewer experts a token, or add experts.")
        generator = context.draws("uniform choice")
        shape = (scores.t, scores.columns)
        draw = torch.rand(shape, generator=generator, device=generator.device)
        return top_columns(draw.to(scores.choice.device), self.k)


def room_for(t: int, e: int, factor: float) -> int:
    """Places an expert has: `ceil(t * factor / e)`, at most t."""
    return min(t, max(0, -int(-t * factor // e)))

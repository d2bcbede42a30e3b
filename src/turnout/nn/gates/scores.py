"""Scores: what travels through a gate, from scorer to weigher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from turnout.core.errors import InputError

__all__ = ["Scores"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Scores of t tokens for e' columns, in three readings.

    A processor that moves both `value` and `choice` (noise, softmax) also moves the weights; one
    that moves `choice` alone (a balance bias, a group limit) decides who is chosen and never what
    the chosen weigh.

    Parameters
    ----------
    logits : float32 tensor (t, e')
        Raw, as the scorer gave them.
    value : float32 tensor (t, e')
        What the weights are read from.
    choice : float32 tensor (t, e')
        What the selector reads; -inf = may not be chosen.
    e : int
        Experts; columns e ... e' - 1 are null experts, which do nothing and cost nothing.
    state : mapping of str to tensor
        What a part leaves for whoever reads the decision, such as the size of its noise.
    """

    logits: torch.Tensor
    value: torch.Tensor
    choice: torch.Tensor
    e: int
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def raw(cls, logits: torch.Tensor, e: int) -> Scores:
        """Scores before any processor.

        Raises
        ------
        InputError
            Fewer than e columns.
        """
        if logits.ndim != 2 or logits.shape[1] < e:
            rule = f"have shape (t, {e}) or more columns"
            raise InputError("logits", rule, tuple(logits.shape), "One column an expert.")
        return cls(logits=logits, value=logits, choice=logits, e=e)

    @property
    def t(self) -> int:
        """Number of tokens."""
        return int(self.logits.shape[0])

    @property
    def columns(self) -> int:
        """Columns, null experts included."""
        return int(self.logits.shape[1])

    def at(self, columns: torch.Tensor) -> torch.Tensor:
        """`value` at the columns chosen (t, k); 0 where the column is none (>= e')."""
        none = columns >= self.columns
        picked = self.value.gather(1, columns.masked_fill(none, 0))
        return picked.masked_fill(none, 0.0)

"""Decision: which experts each token goes to, and with what weight.

One type serves every gate, and everything that reads a gate: dispatch, losses, balancers, traces
and replay. Experts are numbered 0 to e - 1 and **e stands for none**: it sorts behind every
expert, a histogram over e bins drops it, and an embedding of e + 1 rows can hold it. (`Trace` and
`Assignment`, which are files and tables, write -1.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch

from turnout.core.assignment import Assignment
from turnout.core.errors import InputError

__all__ = ["Decision", "DropPolicy", "Slots", "check_policy"]

#: Who keeps a place where an expert is full, see `Decision.limited`.
DropPolicy = Literal["position", "choice", "weight"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """Experts of t tokens, k slots each.

    Parameters
    ----------
    experts : int64 tensor (t, k)
        0 to e - 1; e = none (masked, dropped, null, or a slot not used).
    weights : float tensor (t, k)
        Combine weights; exactly 0 where the expert is none. float32 out of every gate here.
    e : int
        Number of experts.
    logits : tensor (t, e'), optional
        Raw scores, before bias and noise; e' >= e where there are null experts. None where the
        gate has no scores.
    scores : tensor (t, e'), optional
        What the weights were read from, such as probabilities.
    dropped : bool tensor (t, k), optional
        Slots that were chosen and then dropped for want of capacity.
    mask : bool tensor (t,), optional
        True = real token. Masked tokens have no expert and count nowhere.
    state : mapping of str to tensor
        Handed to the next layer.

    Raises
    ------
    InputError
        Shapes do not fit. Values are not looked at here (that would wait for an accelerator);
        `check` does.
    """

    experts: torch.Tensor
    weights: torch.Tensor
    e: int
    logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    dropped: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.experts.ndim != 2 or self.experts.shape != self.weights.shape:
            shapes = (tuple(self.experts.shape), tuple(self.weights.shape))
            raise InputError(
                "decision.experts and weights", "share one shape (t, k)", shapes, "Reshape them."
            )
        if self.e < 1:
            raise InputError("decision.e", "be >= 1", self.e, "Count the experts.")
        for name in ("logits", "scores", "dropped", "mask"):
            value = getattr(self, name)
            if value is not None and value.shape[0] != self.t:
                rule = f"have {self.t} rows, one a token"
                raise InputError(f"decision.{name}", rule, tuple(value.shape), "Reshape it.")

    @property
    def t(self) -> int:
        """Number of tokens."""
        return int(self.experts.shape[0])

    @property
    def k(self) -> int:
        """Slots a token."""
        return int(self.experts.shape[1])

    @property
    def chosen(self) -> torch.Tensor:
        """Slots that hold an expert, bool (t, k)."""
        return self.experts < self.e

    @property
    def real(self) -> torch.Tensor:
        """Tokens that count, bool (t,)."""
        if self.mask is None:
            return torch.ones(self.t, dtype=torch.bool, device=self.experts.device)
        return self.mask

    def pairs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The p filled slots in token order: token (p,), expert (p,), weight (p,)."""
        token, slot = self.chosen.nonzero(as_tuple=True)
        return token, self.experts[token, slot], self.weights[token, slot]

    def load(self) -> torch.Tensor:
        """Tokens each expert receives, int64 (e,)."""
        counts = torch.zeros(self.e + 1, dtype=torch.int64, device=self.experts.device)
        flat = self.experts.reshape(-1)
        return counts.scatter_add(0, flat, torch.ones_like(flat))[: self.e]

    def dense(self) -> torch.Tensor:
        """Weights as a matrix (t, e); several slots with one expert add up."""
        full = self.weights.new_zeros((self.t, self.e + 1))
        return full.scatter_add(1, self.experts, self.weights)[:, : self.e]

    def masked(self, mask: torch.Tensor) -> Decision:
        """The same decision with the tokens where `mask` is False sent nowhere."""
        keep = mask.unsqueeze(1)
        return replace(
            self,
            experts=self.experts.masked_fill(~keep, self.e),
            weights=self.weights.masked_fill(~keep, 0.0),
            mask=mask if self.mask is None else mask & self.mask,
        )

    def without(self, drop: torch.Tensor) -> Decision:
        """The same decision with the slots where `drop` (t, k) is True emptied and marked."""
        drop = drop & self.chosen
        return replace(
            self,
            experts=self.experts.masked_fill(drop, self.e),
            weights=self.weights.masked_fill(drop, 0.0),
            dropped=drop if self.dropped is None else drop | self.dropped,
        )

    def limited(self, capacity: int, *, policy: DropPolicy = "position") -> Decision:
        """At most `capacity` tokens an expert; the rest is dropped.

        Parameters
        ----------
        capacity : int
            Tokens an expert takes, >= 0.
        policy : {"position", "choice", "weight"}
            Who keeps its place. "position": the earlier token; no later one can displace it (Fedus
            et al., "Switch Transformers", 2021, arXiv:2101.03961, section 2.2). "choice": first
            choices of all tokens before second ones, the earlier token within each (Lepikhin et
            al., "GShard", 2020, arXiv:2006.16668, algorithm 1). "weight": the greater weight
            (Riquelme et al., "Scaling Vision with Sparse Mixture of Experts", 2021,
            arXiv:2106.05974, section 4). The last two look at later tokens; with one choice a
            token the first two are the same.

        Raises
        ------
        InputError
            The capacity is negative, or there is no such policy.
        """
        if capacity < 0:
            raise InputError("capacity", "be >= 0", capacity, "Allow tokens to be routed.")
        check_policy(policy)
        flat = self.experts.reshape(-1)
        order = torch.arange(len(flat), device=flat.device)
        if policy == "choice":
            order = order.reshape(self.t, self.k).t().reshape(-1)
        elif policy == "weight":
            weight = self.weights.detach().reshape(-1)
            order = torch.argsort(weight, stable=True, descending=True)
        grouped = order[torch.argsort(flat[order], stable=True)]
        start = torch.zeros(self.e + 2, dtype=torch.int64, device=flat.device)
        counts = torch.zeros(self.e + 1, dtype=torch.int64, device=flat.device)
        counts = counts.scatter_add(0, flat, torch.ones_like(flat))
        start[1:] = counts.cumsum(0)
        place = torch.empty_like(flat)
        place[grouped] = torch.arange(len(flat), device=flat.device) - start[flat[grouped]]
        return self.without((place >= capacity).reshape(self.t, self.k))

    @classmethod
    def from_pairs(
        cls,
        token: torch.Tensor,
        expert: torch.Tensor,
        weight: torch.Tensor,
        *,
        t: int,
        e: int,
        logits: torch.Tensor | None = None,
        scores: torch.Tensor | None = None,
    ) -> Decision:
        """The decision of a list of (token, expert, weight), each (p,).

        k is the largest number of experts any token has; slots of a token are in ascending order
        of its pairs in the list.
        """
        order = torch.argsort(token, stable=True)
        token, expert, weight = token[order], expert[order], weight[order]
        counts = torch.zeros(t, dtype=torch.int64, device=token.device)
        counts = counts.scatter_add(0, token, torch.ones_like(token))
        k = int(counts.max()) if t and len(token) else 0
        slot = torch.arange(len(token), device=token.device) - (counts.cumsum(0) - counts)[token]
        experts = torch.full((t, k), e, dtype=torch.int64, device=token.device)
        experts[token, slot] = expert
        weights = weight.new_zeros((t, k)).index_put((token, slot), weight)
        return cls(experts=experts, weights=weights, e=e, logits=logits, scores=scores)

    def assignment(self) -> Assignment:
        """The same as the noun of the house, where -1 = none."""
        index = self.experts.masked_fill(~self.chosen, -1)
        return Assignment(index, self.weights.detach(), self.e)

    def check(self) -> Decision:
        """Look at the values too; answers with itself.

        Raises
        ------
        InputError
            An expert lies outside 0 ... e, appears twice in a row, a weight is not finite, or a
            weight is not 0 where no expert is.
        """
        if self.experts.numel() == 0:
            return self
        low, high = int(self.experts.min()), int(self.experts.max())
        if low < 0 or high > self.e:
            wrong = low if low < 0 else high
            raise InputError(
                "decision.experts", f"lie in [0, {self.e}]", wrong, f"{self.e} stands for none."
            )
        if not bool(torch.isfinite(self.weights).all()):
            wrong_weight = float(self.weights[~torch.isfinite(self.weights)][0])
            raise InputError("decision.weights", "be finite", wrong_weight, "Look at the logits.")
        stray = ~self.chosen & (self.weights != 0)
        if bool(stray.any()):
            value = float(self.weights[stray][0])
            raise InputError("decision.weights", "be 0 where no expert is", value, "Zero it.")
        ranked = self.experts.sort(dim=1).values
        twice = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] < self.e)
        if bool(twice.any()):
            row = int(twice.any(dim=1).nonzero()[0, 0])
            value_list = self.experts[row].tolist()
            raise InputError(
                f"decision.experts[{row}]", "name an expert once", value_list, "Add the weights up."
            )
        return self


@dataclass(frozen=True, eq=False, kw_only=True)
class Slots:
    """A soft decision: every expert works on s mixtures of tokens, every token gets a mixture.

    Puigcerver et al., "From Sparse to Soft Mixtures of Experts", 2023, arXiv:2308.00951, eq. 1-3.

    Parameters
    ----------
    dispatch : tensor (b, n, e, s)
        Share of each token in each slot; sums to one over the n tokens of a sequence.
    combine : tensor (b, n, e, s)
        Share of each slot in each token's answer; sums to one over (e, s), 0 for masked tokens.
    logits : tensor (b, n, e, s)
    mask : bool tensor (b * n,), optional

    Raises
    ------
    InputError
        The shapes differ or are not of four axes.
    """

    dispatch: torch.Tensor
    combine: torch.Tensor
    logits: torch.Tensor
    mask: torch.Tensor | None = None

    def __post_init__(self) -> None:
        shapes = (tuple(self.dispatch.shape), tuple(self.combine.shape), tuple(self.logits.shape))
        if len(set(shapes)) != 1 or self.dispatch.ndim != 4:
            rule = "share one shape (b, n, e, s) with logits"
            raise InputError("slots.dispatch and combine", rule, shapes, "Reshape them.")

    @property
    def e(self) -> int:
        """Number of experts."""
        return int(self.dispatch.shape[2])

    @property
    def t(self) -> int:
        """Number of tokens, b * n."""
        return int(self.dispatch.shape[0] * self.dispatch.shape[1])

    def load(self) -> torch.Tensor:
        """Slots each expert works on, int64 (e,): the same for all."""
        b, _, e, s = self.dispatch.shape
        return torch.full((e,), b * s, dtype=torch.int64, device=self.dispatch.device)


def check_policy(policy: str) -> None:
    """Refuse a word that is no `DropPolicy`.

    Raises
    ------
    InputError
        There is no such policy.
    """
    if policy not in get_args(DropPolicy):
        rule = f"be one of {', '.join(get_args(DropPolicy))}"
        raise InputError("policy", rule, policy, "Choose one.")

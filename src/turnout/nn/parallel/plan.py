"""Which rows go to which process; tensor work only, no process is spoken to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from turnout.core import _check

__all__ = ["SendPlan", "Traffic", "share_of"]


@dataclass(frozen=True)
class Traffic:
    """What one process exchanged in one forward pass; the backward pass moves the rows once more.

    Parameters
    ----------
    rows_sent, rows_received : int
        Rows that left for, and came from, other processes; each comes back as one row.
    rows_kept : int
        Rows whose expert lives here.
    bytes_sent, bytes_received : int
        On the way out: hidden states, expert numbers and weights.
    bytes_returned : int
        Answers that came back.
    rows_saved : int
        Further rows that one row for each token and expert would have sent to other processes.
    """

    rows_sent: int
    rows_received: int
    rows_kept: int
    bytes_sent: int
    bytes_received: int
    bytes_returned: int
    rows_saved: int


@dataclass(frozen=True, eq=False)
class SendPlan:
    """The n rows a process sends, grouped by the process they go to.

    Parameters
    ----------
    token : int64 tensor (n,)
        Token each row is a copy of.
    slots : bool tensor (n, c)
        Which slots of the token the row serves, of the columns in `columns`.
    columns : int64 tensor (n, c)
        Slot each column is.
    local : int32 tensor (n, c)
        Number of the expert in its process; the number of experts there = none.
    counts : int64 tensor (r,)
        Rows for each process.
    pairs : int64 tensor (r,)
        Pairs of token and expert for each process.
    """

    token: torch.Tensor
    slots: torch.Tensor
    columns: torch.Tensor
    local: torch.Tensor
    counts: torch.Tensor
    pairs: torch.Tensor

    @classmethod
    def of(
        cls, experts: torch.Tensor, members: torch.Tensor, *, deduplicate: bool = True
    ) -> SendPlan:
        """The plan for experts (t, k); slots that hold none are never sent.

        Parameters
        ----------
        experts : int64 tensor (t, k)
            0 to e - 1, numbered process by process; e = none.
        members : int64 tensor (r,)
            How many experts each process has; they sum to e.
        deduplicate : bool
            One row for each token and process, whatever number of experts it serves there (as
            DeepEP does); otherwise one for each token and expert.
        """
        t, k = experts.shape
        r, e = len(members), int(members.sum())
        first = members.cumsum(0) - members
        # Where an expert lives; r for none.
        homes = torch.arange(r, device=members.device).repeat_interleave(members)
        home = torch.cat([homes, homes.new_tensor([r])])[experts]
        pairs = torch.zeros(r + 1, dtype=torch.int64, device=experts.device)
        pairs = pairs.scatter_add(0, home.reshape(-1), torch.ones_like(home).reshape(-1))[:r]
        if deduplicate:
            goes = torch.zeros((t, r + 1), dtype=torch.bool, device=experts.device)
            goes = goes.scatter(1, home, True)[:, :r]
            rank, token = goes.t().nonzero(as_tuple=True)
            columns = torch.arange(k, device=experts.device).expand(len(token), k)
        else:
            flat = home.reshape(-1)
            order = torch.argsort(flat, stable=True)
            order = order[: int((flat < r).sum())]
            rank, token, columns = flat[order], order // max(k, 1), (order % max(k, 1)).unsqueeze(1)
        chosen = experts[token].gather(1, columns)
        slots = (home[token].gather(1, columns) == rank.unsqueeze(1)) & (chosen < e)
        local = torch.where(slots, chosen - first[rank].unsqueeze(1), members[rank].unsqueeze(1))
        counts = torch.zeros(r, dtype=torch.int64, device=experts.device)
        counts = counts.scatter_add(0, rank, torch.ones_like(rank))
        return cls(token, slots, columns, local.to(torch.int32), counts, pairs)

    def widened(self, width: int, members: torch.Tensor) -> SendPlan:
        """The same plan with at least `width` columns, the further ones empty.

        Gates that choose as many experts as they like have another k in every process.
        """
        n, c = self.local.shape
        if c >= width:
            return self
        rank = torch.arange(len(members), device=self.token.device).repeat_interleave(self.counts)
        empty = members[rank].to(torch.int32).unsqueeze(1).expand(n, width - c)
        return replace(
            self,
            slots=functional.pad(self.slots, (0, width - c)),
            columns=functional.pad(self.columns, (0, width - c)),
            local=torch.cat([self.local, empty], dim=1),
        )

    def weights(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (t, k) as the rows carry them, (n, c); 0 where the slot lives elsewhere."""
        if not weights.shape[1]:
            return weights.new_zeros(self.slots.shape)
        return weights[self.token].gather(1, self.columns).masked_fill(~self.slots, 0.0)


def share_of(e: int, ranks: int, rank: int) -> range:
    """The experts of one process where e are spread as evenly as can be, the first ones longer.

    Raises
    ------
    InputError
        A number lies outside its range.
    """
    _check.integer("e", e, low=1)
    _check.integer("ranks", ranks, low=1)
    _check.integer("rank", rank, low=0, high=ranks - 1)
    size, longer = divmod(e, ranks)
    start = rank * size + min(rank, longer)
    return range(start, start + size + (rank < longer))

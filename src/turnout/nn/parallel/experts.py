"""ParallelExperts: the experts of a layer, each process holding a part.

::

    send       one row for each token and process, with its weights and its experts' numbers there
    work       every process: its experts on the rows it received, weighted and summed
    return     one row for each row received
    sum        the rows of a token, in float32

Differs from engines for accelerators: rows wait for the whole exchange, nothing overlaps.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import distributed, nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.experts import ExpertList, Experts, StackedExperts
from turnout.nn.parallel.exchange import Exchange, Method, bring_back, send
from turnout.nn.parallel.plan import SendPlan, Traffic

__all__ = ["ParallelExperts", "part_of"]


class ParallelExperts(nn.Module):
    """Experts spread over the processes of a group; numbered process by process.

    Making one and calling it, forward and backward, are steps that every process of the group
    takes together, also one that has no token. An expert's gradient is the sum over the losses of
    all processes. Parameters that every process has, such as the gate's, get the gradient of their
    own tokens alone: add them up with `sum_gradients`.

    Parameters
    ----------
    local : torch.nn.Module, optional
        The experts of this process, see `turnout.nn.experts.Experts`; None where it has none.
    group : ProcessGroup, optional
        The default group where none is given.
    deduplicate : bool
        A token travels once to a process, whatever number of experts it has there.
    method : {"auto", "collective", "pairs"}
        How rows are exchanged, see `Exchange`.

    Raises
    ------
    InputError
        No process has an expert, or no process group was started.
    """

    members: torch.Tensor

    def __init__(
        self,
        local: nn.Module | None,
        group: distributed.ProcessGroup | None = None,
        *,
        deduplicate: bool = True,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        assert local is None or isinstance(local, Experts)
        self.local = local
        self.deduplicate = deduplicate
        self.exchange = Exchange(group, method=method)
        mine = 0 if local is None else local.e
        counts = self.exchange.numbers(torch.full((self.exchange.ranks, 1), mine)).cpu()[:, 0]
        self.register_buffer("members", counts, persistent=False)
        self.e = int(counts.sum())
        if not self.e:
            hint = "Give at least one process an expert."
            raise InputError("local", "hold an expert in some process", None, hint)
        self.first = int(counts[: self.exchange.rank].sum())
        self._traffic: Traffic | None = None

    @property
    def owned(self) -> range:
        """Numbers of the experts that live here."""
        mine = 0 if self.local is None else int(self.members[self.exchange.rank])
        return range(self.first, self.first + mine)

    @property
    def traffic(self) -> Traffic | None:
        """What the last forward pass exchanged; None before the first."""
        return self._traffic

    def forward(
        self, x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum (t, d) of what the chosen experts (t, k), wherever they live, make of x."""
        members = self.members.to(experts.device)
        plan = SendPlan.of(experts, members, deduplicate=self.deduplicate)
        exact = torch.promote_types(x.dtype, torch.float32)
        received, width = self._announce(plan)
        plan = plan.widened(width, members)
        sent = plan.counts.tolist()
        shares = plan.weights(weights.to(exact))
        rows, shares = send(self.exchange, x[plan.token], shares, sent, received)
        numbers = self.exchange.move(plan.local, sent, received).long()
        answers = self._work(rows, numbers, shares)
        back = bring_back(self.exchange, answers, (rows, shares), sent, received)
        self._traffic = self._count(plan, rows, shares, sent, received)
        total = torch.zeros(x.shape, dtype=exact, device=x.device)
        return total.index_add(0, plan.token, back.to(exact)).to(x.dtype)

    def apply_to(self, expert: int, rows: torch.Tensor) -> torch.Tensor:
        """What one expert makes of rows (p, d).

        Raises
        ------
        InputError
            The expert lives in another process.
        """
        _check.integer("expert", expert, low=0, high=self.e - 1)
        if expert not in self.owned:
            rule = f"be one of {self.owned}, which live in this process"
            raise InputError("expert", rule, expert, "Send the rows through forward.")
        assert isinstance(self.local, Experts)
        return self.local.apply_to(expert - self.first, rows)

    def _announce(self, plan: SendPlan) -> tuple[list[int], int]:
        """Rows that will come from each process, and the most slots a row has in any."""
        mine = torch.full_like(plan.counts, plan.local.shape[1])
        table = self.exchange.numbers(torch.stack([plan.counts, mine], dim=1)).cpu()
        return table[:, 0].tolist(), int(table[:, 1].max())

    def _work(
        self, rows: torch.Tensor, numbers: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """What the experts here make of the rows received."""
        if self.local is None:
            return torch.zeros_like(rows)
        answers: torch.Tensor = self.local(rows, numbers, shares)
        return answers.to(rows.dtype)

    def _count(
        self,
        plan: SendPlan,
        rows: torch.Tensor,
        shares: torch.Tensor,
        sent: list[int],
        received: list[int],
    ) -> Traffic:
        """What was exchanged; what stays here is no traffic."""
        mine = self.exchange.rank
        out, came = sum(sent) - sent[mine], sum(received) - received[mine]
        row = rows.shape[1] * rows.element_size()
        extra = shares.shape[1] * (shares.element_size() + plan.local.element_size())
        pairs = int(plan.pairs.sum() - plan.pairs[mine])
        return Traffic(
            rows_sent=out,
            rows_received=came,
            rows_kept=sent[mine],
            bytes_sent=out * (row + extra),
            bytes_received=came * (row + extra),
            bytes_returned=out * row,
            rows_saved=pairs - out,
        )


def part_of(
    experts: StackedExperts | ExpertList, keep: range
) -> StackedExperts | ExpertList | None:
    """A copy of some experts, to be the local ones of a process; None where it keeps none.

    Parameters
    ----------
    experts : StackedExperts or ExpertList
        All of a layer.
    keep : range
        Their numbers, see `share_of`.

    Raises
    ------
    InputError
        An expert is not there.
    """
    if not len(keep):
        return None
    for expert in (keep[0], keep[-1]):
        _check.integer("keep", expert, low=0, high=experts.e - 1)
    if isinstance(experts, ExpertList):
        return ExpertList(deepcopy(experts.members[j]) for j in keep)
    part = StackedExperts(
        len(keep), 1, 1, act=experts.act, backend=experts.backend, generator=torch.Generator()
    )
    for name in ("gate_up_proj", "down_proj"):
        whole: nn.Parameter = getattr(experts, name)
        rows = whole.detach()[keep.start : keep.stop : keep.step].clone()
        setattr(part, name, nn.Parameter(rows, requires_grad=whole.requires_grad))
    return part.train(experts.training)

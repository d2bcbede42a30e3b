"""Exchange: rows between all processes of a group, of any number for each, and their gradients.

The backward pass of an exchange is the exchange the other way round. For it to be entered by every
process, the autograd nodes exist in every process, also where nothing there needs a gradient and
where no row was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import distributed

from turnout.core.errors import InputError

__all__ = ["Exchange", "Method", "bring_back", "send"]

#: One collective call, or a send and a receive for each pair of processes.
Method = Literal["auto", "collective", "pairs"]


class Exchange:
    """Moves rows between the processes of a group.

    Parameters
    ----------
    group : ProcessGroup, optional
        The default group where none is given.
    method : {"auto", "collective", "pairs"}
        "auto" tries the collective once, with a row for each process, and takes pairs where the
        backend has none. Every process must make its exchange at the same point.

    Raises
    ------
    InputError
        There is no such method, or no process group was started.
    """

    def __init__(
        self, group: distributed.ProcessGroup | None = None, *, method: Method = "auto"
    ) -> None:
        if method not in ("auto", "collective", "pairs"):
            rule = "be 'auto', 'collective' or 'pairs'"
            raise InputError("method", rule, method, "Choose one.")
        if not (distributed.is_available() and distributed.is_initialized()):
            hint = "Call torch.distributed.init_process_group first."
            raise InputError("group", "be a running process group", group, hint)
        self.group = group
        self.rank: int = distributed.get_rank(group)
        self.ranks: int = distributed.get_world_size(group)
        nccl = "nccl" in str(distributed.get_backend(group))
        #: Where small control tensors live: NCCL moves those of the accelerator alone.
        self.device = torch.device("cuda", torch.cuda.current_device()) if nccl else "cpu"
        self.method: Method = self._probe() if method == "auto" else method

    def numbers(self, given: torch.Tensor) -> torch.Tensor:
        """A row of numbers (r, c) for each process becomes a row from each, (r, c)."""
        ones = [1] * self.ranks
        return self.move(given.to(self.device), ones, ones)

    def move(
        self, rows: torch.Tensor, sent: Sequence[int], received: Sequence[int]
    ) -> torch.Tensor:
        """Rows (n, d), grouped by receiver, become rows (n', d), grouped by sender; no gradient.

        They travel as bytes, so that any type may, also one the backend does not know.
        """
        if not rows.shape[1]:
            return rows.new_empty((sum(received), 0))
        packed = rows.detach().contiguous().view(torch.uint8)
        came = packed.new_empty((sum(received), packed.shape[1]))
        if self.method == "pairs":
            self._pairs(packed, came, sent, received)
        else:
            distributed.all_to_all_single(
                came, packed, list(received), list(sent), group=self.group
            )
        return came.view(rows.dtype)

    def _probe(self) -> Method:
        """Whether the backend has the collective; every process finds the same."""
        ones = [1] * self.ranks
        row = torch.zeros((self.ranks, 1), dtype=torch.uint8, device=self.device)
        try:
            distributed.all_to_all_single(torch.empty_like(row), row, ones, ones, group=self.group)
        except (NotImplementedError, RuntimeError):
            return "pairs"
        return "collective"

    def _pairs(
        self,
        packed: torch.Tensor,
        came: torch.Tensor,
        sent: Sequence[int],
        received: Sequence[int],
    ) -> None:
        """A send and a receive for each other process; empty ones are left out on both sides."""
        outgoing, incoming = torch.split(packed, list(sent)), torch.split(came, list(received))
        incoming[self.rank].copy_(outgoing[self.rank])
        tasks = []
        for step in range(1, self.ranks):
            to, source = (self.rank + step) % self.ranks, (self.rank - step) % self.ranks
            for way, peer, part in (
                (distributed.isend, to, outgoing[to]),
                (distributed.irecv, source, incoming[source]),
            ):
                if len(part):
                    tasks.append(distributed.P2POp(way, part, group=self.group, group_peer=peer))
        for work in distributed.batch_isend_irecv(tasks) if tasks else ():
            work.wait()


def send(
    exchange: Exchange,
    rows: torch.Tensor,
    weights: torch.Tensor,
    sent: Sequence[int],
    received: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, d) and their weights (n, c) to their processes; gradients come back the same way.

    Parameters
    ----------
    exchange : Exchange
    rows, weights : tensor (n, d), (n, c)
        Grouped by receiver.
    sent, received : sequence of int (r,)
        Rows for each process, and from each.

    Returns
    -------
    tuple of tensor (n', d), (n', c)
        Grouped by sender.
    """
    anchor = torch.zeros((), requires_grad=torch.is_grad_enabled())
    result: tuple[torch.Tensor, torch.Tensor] = _Send.apply(  # type: ignore[no-untyped-call]
        rows, weights, anchor, exchange, sent, received
    )
    return result


def bring_back(
    exchange: Exchange,
    answers: torch.Tensor,
    after: tuple[torch.Tensor, torch.Tensor],
    sent: Sequence[int],
    received: Sequence[int],
) -> torch.Tensor:
    """Answers (n', d) to where their rows came from, (n, d).

    Parameters
    ----------
    exchange : Exchange
    answers : tensor (n', d)
        One a row received, in its order.
    after : tuple of tensor
        What `send` gave: it ties the two exchanges together where the answers do not, as in a
        process that received no row, so that the backward pass goes through both.
    sent, received : sequence of int (r,)
        As given to `send`.
    """
    result: torch.Tensor = _Return.apply(  # type: ignore[no-untyped-call]
        answers, *after, exchange, sent, received
    )
    return result


class _Send(torch.autograd.Function):
    """Rows and weights out; their gradients back."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weights: torch.Tensor,
        anchor: torch.Tensor,
        exchange: Exchange,
        sent: Sequence[int],
        received: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.exchange, ctx.sent, ctx.received = exchange, sent, received
        return exchange.move(rows, sent, received), exchange.move(weights, sent, received)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weights = (
            ctx.exchange.move(gradient, ctx.received, ctx.sent) for gradient in gradients
        )
        return rows, weights, None, None, None, None


class _Return(torch.autograd.Function):
    """Answers back; their gradients out."""

    @staticmethod
    def forward(
        ctx: Any,
        answers: torch.Tensor,
        rows: torch.Tensor,
        weights: torch.Tensor,
        exchange: Exchange,
        sent: Sequence[int],
        received: Sequence[int],
    ) -> torch.Tensor:
        ctx.exchange, ctx.sent, ctx.received = exchange, sent, received
        return exchange.move(answers, received, sent)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        answers = ctx.exchange.move(gradients[0], ctx.sent, ctx.received)
        return answers, None, None, None, None, None

"""Forcing: a router that chooses as it is told, and weighs as it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from turnout.core.errors import InputError
from turnout.experts.models.context import Reading
from turnout.experts.models.layouts import Masks, OneHot
from turnout.experts.models.sites import Seat
from turnout.nn.gates import Decision, Gate, RouteContext, check_hidden

__all__ = ["Forced"]


@dataclass(eq=False)
class Forced:
    """What is forced in one forward of one tower.

    Parameters
    ----------
    ids : mapping of (ordinal, iteration) to int64 tensor (t, k)
        -1 = none.
    known : mapping of (ordinal, iteration) to bool tensor (t,)
        Tokens whose choice was recorded; the others choose live.
    """

    ids: Mapping[tuple[int, int], torch.Tensor]
    known: Mapping[tuple[int, int], torch.Tensor]

    def native(
        self,
        reading: Reading,
        seat: Seat,
        iteration: int,
        call: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """What the native router answers when it has to choose as recorded."""
        ids, known = self._at(seat, iteration, args[0].device)
        training = bool(getattr(getattr(call, "__self__", None), "training", False))
        mode = _Choose(seat, ids, known, training)
        with mode:
            output = call(*args, **kwargs)
        if not mode.asked:
            rule = "choose by topk, argmax, max or a table, to be replayed"
            hint = "Please report this family."
            raise InputError(f"router {seat.native.__name__}", rule, "none of them", hint)
        return output

    def gate(
        self,
        reading: Reading,
        seat: Seat,
        iteration: int,
        gate: nn.Module,
        x: torch.Tensor,
        context: RouteContext,
    ) -> Decision:
        """The decision of a gate that has to choose as recorded; its limits are in the record."""
        if not isinstance(gate, Gate):
            rule = "be a turnout.nn.gates.Gate to be replayed"
            hint = "Others cannot be told whom to choose."
            raise InputError(f"gate of layer {seat.layer}", rule, type(gate).__name__, hint)
        ids, known = self._at(seat, iteration, x.device)
        check_hidden(gate, x, context)
        scores = gate.scorer(x, context)
        for processor in gate.processors:
            scores = processor(scores, x, context)
        columns = gate.selector(scores, context)
        wide = max(columns.shape[1], ids.shape[1])
        columns = nn.functional.pad(columns, (0, wide - columns.shape[1]), value=scores.columns)
        told = nn.functional.pad(ids, (0, wide - ids.shape[1]), value=-1)
        told = told.masked_fill(told < 0, scores.columns)
        columns = torch.where(known.unsqueeze(1), told, columns)
        none = columns >= gate.e
        return Decision(
            experts=columns.masked_fill(none, gate.e),
            weights=gate.weigher(scores, columns).masked_fill(none, 0.0),
            e=gate.e,
            logits=scores.logits,
            scores=scores.value,
        )

    def _at(
        self, seat: Seat, iteration: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key = (seat.ordinal, iteration)
        if key not in self.ids:
            rule = "have been recorded"
            hint = "Record the same model."
            raise InputError(f"layer {seat.layer}, pass {iteration}", rule, "nothing", hint)
        return self.ids[key].to(device), self.known[key].to(device)


class _Choose(TorchFunctionMode):
    """While a native router runs, answers in place of what it chooses by."""

    def __init__(self, seat: Seat, ids: torch.Tensor, known: torch.Tensor, training: bool) -> None:
        super().__init__()
        self.seat, self.ids, self.known = seat, ids, known
        self.asked = 0
        self.maxed = 0
        # Phi-3.5-MoE draws from its masked logits in training: its second and fifth `max`.
        self.drawn = {1: 0, 4: 1} if training else {0: 0, 1: 1}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        if func in (torch.topk, torch.Tensor.topk):
            k = args[1] if len(args) > 1 else kwargs["k"]
            if k == self.seat.k and self._is_scores(args[0]):
                ids = self._told(answer.indices)
                return torch.return_types.topk((args[0].gather(-1, ids), ids))
        elif func in (torch.argmax, torch.Tensor.argmax):
            if isinstance(self.seat.layout, OneHot | Masks):
                return self._told(answer, slot=self.asked)
        elif func is torch.max and isinstance(self.seat.layout, OneHot):
            ids = self._told(answer.indices, slot=0).unsqueeze(-1)
            return torch.return_types.max((args[0].gather(-1, ids)[..., 0], ids[..., 0]))
        elif func is torch.Tensor.max and "phimoe" in self.seat.native.__module__:
            slot = self.drawn.get(self.maxed)
            self.maxed += 1
            if slot is not None:
                ids = self._told(answer.indices, slot=slot)
                return torch.return_types.max((answer.values, ids))
        elif func is torch.Tensor.__getitem__ and "HashRouter" in self.seat.native.__name__:
            return self._told(answer)
        return answer

    def _is_scores(self, value: torch.Tensor) -> bool:
        """One row a token, one column an expert, or one more for none."""
        columns = int(value.shape[-1])
        rows = value.numel() // max(1, columns)
        return rows == len(self.known) and columns in (self.seat.e, self.seat.e + 1)

    def _told(self, live: torch.Tensor, slot: int | None = None) -> torch.Tensor:
        """The recorded experts in the shape of the live ones, which stay where none are known."""
        self.asked += 1
        ids = self.ids if slot is None else self.ids[:, slot : slot + 1]
        if getattr(self.seat.layout, "empty", False):
            ids = ids.masked_fill(ids < 0, self.seat.e)
        known = self.known.unsqueeze(1) & (ids >= 0)
        ids = torch.where(known, ids, live.reshape(ids.shape).long())
        return ids.reshape(live.shape).to(live.dtype)

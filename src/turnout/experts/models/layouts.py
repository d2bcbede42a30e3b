"""Layouts: what the routers of transformers answer, read as a `Decision` and written back.

Most families answer `(logits (t, e), weights (t, k), experts (t, k))`. The others are listed in
`LAYOUTS` by the class of their router. A layout holds no state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from turnout.core.errors import InputError
from turnout.nn.gates import Decision

__all__ = [
    "LAYOUTS",
    "Dense",
    "Layout",
    "LogitsOnly",
    "Masks",
    "OneHot",
    "Router",
    "Sorted",
    "Triple",
    "layout_of",
    "shown_logits",
    "sparse",
]


class Router(Protocol):
    """What a layout asks of a router's seat, see `turnout.experts.models.sites.Seat`."""

    native: type[nn.Module]
    e: int
    k: int
    skips: bool
    weight_dtype: torch.dtype | None


class Layout(Protocol):
    """How one kind of router speaks."""

    name: str
    #: Whether the native router has to run under a foreign gate, for what it answers besides.
    needs_native: bool

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer."""
        ...

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """A decision as a native answer."""
        ...


class Triple:
    """`(logits (t, e), weights (t, k), experts (t, k))`, and whatever comes behind."""

    needs_native = False

    def __init__(
        self, name: str = "triple", *, rest: bool = False, empty: bool = False, least: int = 1
    ) -> None:
        self.name = name
        self.least = least  # slots a token must have: LongCat's loop takes one for none
        self.needs_native = rest
        self.empty = empty  # a weight of 0 says that the token skips the experts

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer."""
        if not _is_triple(output):
            rule = "answer (logits (t, e), weights (t, k), experts (t, k))"
            hint = "This family is not known. Please report it."
            raise InputError(f"router {seat.native.__name__}", rule, _shapes(output), hint)
        logits, weights, experts = output[:3]
        k = experts.shape[-1]
        experts = experts.reshape(-1, k).long()
        weights = weights.reshape(-1, k).float()
        if self.empty:
            experts = experts.masked_fill(weights == 0, seat.e)
        return Decision(
            experts=experts,
            weights=weights,
            e=seat.e,
            logits=logits.reshape(-1, logits.shape[-1]),
        )

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """A decision as a native answer."""
        experts, weights = _slots(decision, seat, hidden, self.least)
        rest = tuple(native[3:]) if native is not None else ()
        return (shown_logits(decision), weights, experts, *rest)


class Dense:
    """Llama 4: `(scores (t, e), logits (t, e))`; the scores are 0 where an expert is not chosen."""

    name = "dense"
    needs_native = False

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer."""
        scores, logits = output
        experts = scores.detach().topk(seat.k, dim=1).indices
        weights = scores.gather(1, experts).float()
        return Decision(experts=experts, weights=weights, e=seat.e, logits=logits)

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """A decision as a native answer."""
        return decision.dense().to(hidden.dtype), shown_logits(decision)


class LogitsOnly:
    """DBRX: `logits (t, e)`; the block makes weights and experts of them, see `BlockRoutes`."""

    name = "logits"
    needs_native = False

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in what the block makes of the logits: `(logits, weights, experts)`."""
        logits, weights, experts = output
        return Decision(experts=experts, weights=weights.float(), e=seat.e, logits=logits)

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """A decision as what the block makes of the logits."""
        return _slots(decision, seat, hidden)[::-1]


class OneHot:
    """Switch: `(one-hot (b, s, e), probability (b, s, 1), logits (b, s, e))`; none = dropped."""

    name = "one-hot"
    needs_native = False

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer."""
        hot, probability, logits = (part.reshape(-1, part.shape[-1]) for part in output)
        kept = hot.sum(dim=1, keepdim=True) > 0
        experts = hot.argmax(dim=1, keepdim=True)
        return Decision(
            experts=experts.masked_fill(~kept, seat.e),
            weights=probability.float().masked_fill(~kept, 0.0),
            e=seat.e,
            logits=logits,
            dropped=~kept,
        )

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """The logits; the experts are told the decision itself, see `ExpertsObey`."""
        lead = hidden.shape[:-1]
        experts, weights = decision.experts[:, :1], decision.weights[:, :1]
        if decision.k == 0:
            experts = decision.experts.new_full((decision.t, 1), seat.e)
            weights = decision.weights.new_zeros((decision.t, 1))
        hot = functional.one_hot(experts[:, 0], seat.e + 1)[:, : seat.e]
        logits = shown_logits(decision)
        return (
            hot.reshape(*lead, seat.e),
            weights.to(hidden.dtype).reshape(*lead, 1),
            logits.reshape(*lead, logits.shape[-1]),
        )


class Masks:
    """NLLB-MoE: `(first choice (t, e), weights (t, e), logits (t, e))`."""

    name = "masks"
    needs_native = False

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer: the two heaviest."""
        _, weights, logits = output
        return sparse(weights, seat, logits)

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """The first choice, the weights and the logits; see `ExpertsObey`."""
        first = decision.experts[:, :1]
        if decision.k == 0:
            first = decision.experts.new_full((decision.t, 1), seat.e)
        hot = functional.one_hot(first[:, 0], seat.e + 1)[:, : seat.e]
        return hot, decision.dense().to(hidden.dtype), shown_logits(decision)


class Sorted:
    """JetMoE: pairs by expert: `(order (p,), token (p,), weight (p,), sizes [e], logits)`."""

    name = "sorted"
    needs_native = False

    def read(self, output: Any, seat: Router, hidden: torch.Tensor) -> Decision:
        """The decision in a native answer; order counts slots, token by token."""
        order, _, weight, sizes, logits = output
        t, k = logits.shape[0], len(order) // max(1, logits.shape[0])
        counts = torch.as_tensor(sizes, device=order.device)
        expert = torch.repeat_interleave(torch.arange(seat.e, device=order.device), counts)
        experts = torch.empty_like(order).scatter(0, order, expert)
        weights = torch.zeros_like(weight).scatter(0, order, weight)
        return Decision(
            experts=experts.reshape(t, k),
            weights=weights.reshape(t, k).float(),
            e=seat.e,
            logits=logits,
        )

    def write(self, decision: Decision, seat: Router, hidden: torch.Tensor, native: Any) -> Any:
        """The filled slots alone, sorted by expert."""
        token, expert, weight = decision.pairs()
        by_expert = torch.argsort(expert, stable=True)
        slot = decision.chosen.reshape(-1).nonzero()[:, 0]
        sizes = decision.load().tolist()
        logits = shown_logits(decision)
        return (
            slot[by_expert],
            token[by_expert],
            weight[by_expert].to(hidden.dtype),
            sizes,
            logits,
        )


TRIPLE = Triple()

#: Class of the router -> its layout; every other router is taken for a `Triple`.
LAYOUTS: dict[str, Layout] = {
    "DbrxRouter": LogitsOnly(),
    "InklingTopkRouter": Triple("triple+rest", rest=True),
    "JetMoeTopKGating": Sorted(),
    "Llama4Router": Dense(),
    "LongcatFlashTopkRouter": Triple(least=2),
    "NllbMoeTop2Router": Masks(),
    "SwitchTransformersTop1Router": OneHot(),
    "ZayaRouter": Triple("triple+state", rest=True, empty=True),
}


def layout_of(router: type[nn.Module]) -> Layout:
    """The layout of a router's class, or of a class it is made from."""
    for kind in router.__mro__:
        if kind.__name__ in LAYOUTS:
            return LAYOUTS[kind.__name__]
    return TRIPLE


def sparse(weights: torch.Tensor, seat: Router, logits: torch.Tensor | None) -> Decision:
    """The decision of a matrix of weights (t, e): its k heaviest, none where the weight is 0."""
    experts = weights.detach().topk(seat.k, dim=1).indices
    chosen = weights.gather(1, experts).float()
    none = chosen == 0
    decision = Decision(experts=experts, weights=chosen, e=seat.e, logits=logits)
    return replace(decision, experts=experts.masked_fill(none, seat.e))


def _is_triple(output: Any) -> bool:
    if not isinstance(output, tuple) or len(output) < 3:
        return False
    tensors = all(isinstance(part, torch.Tensor) for part in output[:3])
    return tensors and output[1].shape == output[2].shape and not output[2].is_floating_point()


def _shapes(output: Any) -> str:
    parts = output if isinstance(output, tuple | list) else (output,)
    shown = (
        f"{part.dtype} {tuple(part.shape)}" if isinstance(part, torch.Tensor) else str(type(part))
        for part in parts
    )
    return ", ".join(shown)


def _slots(
    decision: Decision, seat: Router, hidden: torch.Tensor, least: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Experts and weights (t, k) as the native experts take them.

    A slot without an expert is left to experts that skip the number e, where the family has such,
    and is otherwise given to expert 0 with a weight of 0, which every implementation can bear.
    """
    experts, weights = decision.experts, decision.weights
    if decision.k < least:
        missing = (0, least - decision.k)
        experts = functional.pad(experts, missing, value=seat.e)
        weights = functional.pad(weights, missing)
    if not seat.skips:
        experts = experts.masked_fill(experts >= seat.e, 0)
    return experts.contiguous(), weights.to(seat.weight_dtype or hidden.dtype).contiguous()


def shown_logits(decision: Decision) -> torch.Tensor:
    """What `output_router_logits` shows: columns of real experts, in the gate's own precision.

    A gate without scores shows the logarithm of its weights, whose softmax is the weights.
    """
    if decision.logits is not None:
        return decision.logits[:, : decision.e]
    tiny = torch.finfo(torch.float32).tiny
    return decision.dense().float().clamp(min=tiny).log()

"""Gate: scorer, processors, selector, weigher and limits, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.nn.gates.context import RouteContext
from turnout.nn.gates.decision import Decision, Slots
from turnout.nn.gates.parts import Limit, Part, Processor, Scorer, Selector, Weigher
from turnout.nn.gates.scores import Scores

__all__ = ["Gate", "GateRecipe", "Gating", "check_hidden"]


@runtime_checkable
class Gating(Protocol):
    """What a mixture-of-experts layer asks of a gate; `Gate` is one, and others may be written."""

    @property
    def e(self) -> int:
        """Number of experts."""
        ...

    @property
    def causal_safe(self) -> bool:
        """Whether no token's route depends on later tokens."""
        ...

    @property
    def batch_coupled(self) -> bool:
        """Whether a token's route depends on the others of its batch."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Fields of the context it reads."""
        ...

    def forward(self, x: torch.Tensor, context: RouteContext) -> Decision | Slots:
        """The decision for hidden states x (t, d)."""
        ...


class GateRecipe(Protocol):
    """Hyper-parameters of a gate, ready to be built for a layer; a frozen dataclass."""

    def build(self, d: int, e: int, *, generator: torch.Generator) -> nn.Module:
        """A gate (see `Gating`) for width d and e experts; `generator` draws its first weights."""
        ...


class Gate(nn.Module):
    """Hidden states -> `Decision`, in four steps and nothing else.

    It runs no expert, computes no loss and keeps no balance. The order is fixed: score (float32),
    process, select, weigh, send masked tokens nowhere, limit.

    Parameters
    ----------
    scorer : Scorer
    selector : Selector
    weigher : Weigher
    processors : iterable of Processor
        In order; those that move the choice alone come last.
    limits : iterable of Limit
        In order.
    e : int
        Number of experts.

    Raises
    ------
    InputError
        At a call: the scores hold NaN or infinity, a need is not met, or the host predicts the next
        token and this gate looks ahead.
    """

    def __init__(
        self,
        scorer: Scorer,
        selector: Selector,
        weigher: Weigher,
        *,
        e: int,
        processors: Iterable[Processor] = (),
        limits: Iterable[Limit] = (),
    ) -> None:
        super().__init__()
        if e < 1:
            raise InputError("e", "be >= 1", e, "Give the layer an expert.")
        self.e = e
        self.scorer = scorer
        self.processors = nn.ModuleList(processors)
        self.selector = selector
        self.weigher = weigher
        self.limits = nn.ModuleList(limits)

    def parts(self) -> Iterator[Part]:
        """Every part, in the order in which they act."""
        for part in (self.scorer, *self.processors, self.selector, self.weigher, *self.limits):
            assert isinstance(part, Part)
            yield part

    @property
    def causal_safe(self) -> bool:
        """Whether no part looks at later tokens."""
        return all(part.causal_safe for part in self.parts())

    @property
    def batch_coupled(self) -> bool:
        """Whether some part looks at the other tokens of the batch."""
        return any(part.batch_coupled for part in self.parts())

    @property
    def needs(self) -> frozenset[str]:
        """Fields of the context some part reads."""
        return frozenset().union(*(part.needs for part in self.parts()))

    def forward(self, x: torch.Tensor, context: RouteContext | None = None) -> Decision:
        """The decision for hidden states x (t, d); without a context nothing is known of them."""
        context = RouteContext() if context is None else context
        check_hidden(self, x, context)
        scores: Scores = self.scorer(x, context)
        _check_finite(scores.logits, context)
        for processor in self.processors:
            scores = processor(scores, x, context)
        columns: torch.Tensor = self.selector(scores, context)
        none = columns >= self.e
        weights = self.weigher(scores, columns).masked_fill(none, 0.0)
        decision = Decision(
            experts=columns.masked_fill(none, self.e),
            weights=weights,
            e=self.e,
            logits=scores.logits,
            scores=scores.value,
            state=scores.state,
        )
        if context.mask is not None:
            decision = decision.masked(context.mask)
        for limit in self.limits:
            decision = limit(decision, context)
        return decision


def check_hidden(gate: Gating, x: torch.Tensor, context: RouteContext) -> None:
    """What every gate refuses before it looks at a token.

    Raises
    ------
    InputError
        x is not (t, d), a need is not met, a field of the context has another length, or the host
        is causal and the gate looks ahead.
    """
    if x.ndim != 2:
        raise InputError("x", "have shape (t, d)", tuple(x.shape), "Flatten the sequences.")
    if context.causal and not gate.causal_safe:
        raise InputError(
            "gate",
            "be causal-safe in a model that predicts the next token",
            type(gate).__name__,
            "It lets a token's route depend on later ones. Choose another gate, or allow it in "
            "words: look_ahead=True.",
        )
    context.require(gate.needs, type(gate).__name__)
    context.check(len(x))


def _check_finite(logits: torch.Tensor, context: RouteContext) -> None:
    """Refuse NaN and infinity; masked tokens may hold anything.

    One sum is looked at first: it is finite wherever all its terms are, short of overflow.
    """
    if torch.compiler.is_compiling() or bool(torch.isfinite(logits.sum())):
        return
    wrong = ~torch.isfinite(logits)
    if context.mask is not None:
        wrong = wrong & context.mask.unsqueeze(1)
    if bool(wrong.any()):
        token, column = wrong.nonzero()[0].tolist()
        raise InputError(
            f"logits[{token}, {column}]",
            "be finite",
            float(logits.detach()[token, column]),
            "Look for overflow in the hidden states, or lower the learning rate.",
        )

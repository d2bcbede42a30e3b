"""The swapped router: the model's own class with another `forward`, and a gate inside.

A router is swapped by giving the instance a subclass of its own class. Whatever looks routers up by
class (output recording, initialisation, tensor-parallel plans) finds it as before; hooks, weights
and keys stay. The subclasses are made on demand; copies and pickles rebuild them from the class of
the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, Protocol

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.experts.models.context import Reading, current, enter, leave
from turnout.experts.models.layouts import LogitsOnly, Masks, OneHot, shown_logits
from turnout.experts.models.sites import Seat, core_of
from turnout.nn.gates import Decision, RouteContext

__all__ = ["GATE", "Board", "Enter", "Leave", "Observer", "adapted", "rise", "seat_of", "sit"]

#: Name under which a gate is registered in its router.
GATE = "turnout_gate"


class Observer(Protocol):
    """Who looks at decisions; never changes them."""

    def begin(self, reading: Reading) -> None:
        """A tower begins to read."""
        ...

    def decided(
        self, reading: Reading | None, seat: Seat, iteration: int, decision: Decision
    ) -> None:
        """A router has decided; not called a second time for the backward pass."""
        ...

    def end(self, reading: Reading, output: Any) -> None:
        """A tower has read; `output` is None where it failed."""
        ...


class Board:
    """What the routers of one swapped model share.

    Copies and pickles of the model get a board of their own, without the observers.
    """

    def __init__(self) -> None:
        self.users = 0
        self.observers: tuple[Observer, ...] = ()
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"users": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.users = state["users"]
        self.observers = ()
        self.lock = threading.Lock()

    def watch(self, observer: Observer) -> None:
        """Let an observer see every decision from now on."""
        with self.lock:
            self.observers = (*self.observers, observer)

    def unwatch(self, observer: Observer) -> None:
        """Let it see no more."""
        with self.lock:
            self.observers = tuple(one for one in self.observers if one is not observer)


class Enter:
    """Forward pre-hook of a tower."""

    def __init__(self, board: Board, tower: str) -> None:
        self.board = board
        self.tower = tower

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin to read."""
        reading = enter(module, self.board, self.tower, args, kwargs)
        for observer in self.board.observers:
            observer.begin(reading)


class Leave:
    """Forward hook of a tower, called whether the forward fails or not."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """End reading."""
        reading = leave(module)
        if reading is not None:
            for observer in self.board.observers:
                observer.end(reading, output)


class _Routed:
    """Stands before the router's own class."""

    turnout_seat: Seat

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        native = super().forward  # type: ignore[misc]
        return _answer(self, native, hidden, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.turnout_seat.native, _Routed), self.__dict__


class _Obeying:
    """Stands before the class of experts that cannot be told a decision by their router's answer.

    Switch has room for one weight a token, and the experts of NLLB-MoE take the numbers in the mask
    for experts. Under a foreign gate they do what was decided.
    """

    turnout_seat: Seat

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        decision = _pending(self.turnout_seat)
        if decision is None:
            return super().forward(hidden, *args, **kwargs)  # type: ignore[misc]
        total = torch.zeros_like(hidden)
        for expert in decision.load().nonzero()[:, 0].tolist():
            token, slot = (decision.experts == expert).nonzero(as_tuple=True)
            weight = decision.weights[token, slot, None].to(hidden.dtype)
            made = self[f"expert_{expert}"](hidden[token]) * weight  # type: ignore[index]
            total = total.index_add(0, token, made.to(total.dtype))
        return total

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self).__mro__[2], _Obeying), self.__dict__


class _Choosing:
    """Stands before the class of a block that makes weights and experts of logits itself: DBRX."""

    turnout_seat: Seat

    def route_tokens_to_experts(self, logits: torch.Tensor) -> Any:
        seat = self.turnout_seat
        native = super().route_tokens_to_experts  # type: ignore[misc]
        router = core_of(self.router)  # type: ignore[attr-defined]
        reading = current(seat.board)
        if GATE not in router._modules:
            forced = None if reading is None else reading.forced
            iteration = 0 if reading is None else reading.next(seat.ordinal)
            if forced is not None:
                weights, experts = forced.native(reading, seat, iteration, native, logits)
            else:
                weights, experts = native(logits)
            if seat.board.observers:
                decision = seat.layout.read((logits, weights, experts), seat, logits)
                _tell(seat, reading, iteration, _hidden_mask(reading, decision))
            return weights, experts
        left = _pending(seat)
        assert left is not None
        return seat.layout.write(left, seat, logits, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self).__mro__[2], _Choosing), self.__dict__


def adapted(native: type[nn.Module], before: type = _Routed) -> type[nn.Module]:
    """The subclass of a router's class that asks a gate; one and the same at each call."""
    kind: type[nn.Module] = _made(native, before)  # type: ignore[arg-type]
    return kind


@cache
def _made(native: Any, before: Any) -> Any:
    body = {"__module__": native.__module__, "__doc__": native.__doc__}
    return type(f"Turnout{native.__name__}", (before, native), body)


def _rebuilt(native: type[nn.Module], before: type) -> nn.Module:
    kind = adapted(native, before)
    module: nn.Module = kind.__new__(kind)
    return module


def seat_of(router: nn.Module) -> Seat | None:
    """The seat of a swapped router; None where it is not swapped."""
    return router.__dict__.get("turnout_seat") if isinstance(router, _Routed) else None


def sit(router: nn.Module, block: nn.Module, experts: nn.Module | None, seat: Seat) -> None:
    """Swap a router, and what has to obey with it, to native routing that can be observed."""
    router.turnout_seat = seat  # type: ignore[assignment]
    router.__class__ = adapted(seat.native)
    if isinstance(seat.layout, LogitsOnly):
        block.turnout_seat = seat  # type: ignore[assignment]
        block.__class__ = adapted(type(block), _Choosing)
    if isinstance(seat.layout, OneHot | Masks):
        assert experts is not None
        experts.turnout_seat = seat  # type: ignore[assignment]
        experts.__class__ = adapted(type(experts), _Obeying)


def rise(router: nn.Module, block: nn.Module, experts: nn.Module | None) -> None:
    """Give a router, and what obeyed with it, their own classes back."""
    for module in (router, block, experts):
        if module is not None and isinstance(module, _Routed | _Obeying | _Choosing):
            module.__class__ = type(module).__mro__[2]
            del module.turnout_seat


def _answer(
    router: Any,
    native: Callable[..., Any],
    hidden: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """What a swapped router answers."""
    seat: Seat = router.turnout_seat
    reading = current(seat.board)
    layout = seat.layout
    if GATE not in router._modules:
        if isinstance(layout, LogitsOnly):
            return native(hidden, *args, **kwargs)  # its block has the choice
        iteration = 0 if reading is None else reading.next(seat.ordinal)
        if reading is not None and reading.forced is not None:
            output = reading.forced.native(
                reading, seat, iteration, native, hidden, *args, **kwargs
            )
        else:
            output = native(hidden, *args, **kwargs)
        if seat.board.observers:
            decision = layout.read(output, seat, hidden)
            _tell(seat, reading, iteration, _hidden_mask(reading, decision))
        return output
    decision = _ask(router, seat, reading, hidden)
    if isinstance(layout, LogitsOnly | OneHot | Masks):
        _DECIDED.set((seat, decision))
    if isinstance(layout, LogitsOnly):
        return shown_logits(decision)
    rest = native(hidden, *args, **kwargs) if layout.needs_native else None
    return layout.write(decision, seat, hidden, rest)


def _ask(router: Any, seat: Seat, reading: Reading | None, hidden: torch.Tensor) -> Decision:
    """The decision of the gate in a router, masked tokens sent nowhere."""
    gate = router._modules[GATE]
    flat = hidden.reshape(-1, hidden.shape[-1])
    causal = seat.causal and not seat.look_ahead
    iteration, context = 0, RouteContext(layer=seat.ordinal, causal=causal)
    if reading is not None:
        iteration = reading.next(seat.ordinal)
        context = reading.route(seat.ordinal, iteration, len(flat), causal=causal)
    if reading is not None and reading.forced is not None:
        decision = reading.forced.gate(reading, seat, iteration, gate, flat, context)
    else:
        decision = gate(flat, context)
    if not isinstance(decision, Decision):
        rule = "answer a Decision: the experts of a transformers model work on whole tokens"
        hint = "Soft gates need turnout.nn.moe.MoeLayer."
        raise InputError(f"gate of layer {seat.layer}", rule, type(decision).__name__, hint)
    if decision.e != seat.e:
        rule = f"know the {seat.e} experts of the layer"
        hint = "Build the gate for as many."
        raise InputError(f"gate of layer {seat.layer}", rule, decision.e, hint)
    if context.mask is not None:
        decision = decision.masked(context.mask)
    if reading is not None and decision.state:
        reading.state = {**reading.state, **decision.state}
    _tell(seat, reading, iteration, decision)
    return decision


#: What a router decided, for the experts or the block that come right after it.
_DECIDED: ContextVar[tuple[Seat, Decision] | None] = ContextVar("turnout_decided", default=None)


def _pending(seat: Seat) -> Decision | None:
    """The decision a router left for its experts, taken away; None under native routing."""
    left = _DECIDED.get()
    if left is None or left[0] is not seat:
        return None
    _DECIDED.set(None)
    return left[1]


def _hidden_mask(reading: Reading | None, decision: Decision) -> Decision:
    """A native decision without the masked tokens, which the native router sends somewhere."""
    if reading is None or reading.mask is None or len(reading.mask) != decision.t:
        return decision
    return decision.masked(reading.mask)


def _tell(seat: Seat, reading: Reading | None, iteration: int, decision: Decision) -> None:
    """Show a decision to the observers, once."""
    if reading is not None and reading.again:
        return
    for observer in seat.board.observers:
        observer.decided(reading, seat, iteration, decision)

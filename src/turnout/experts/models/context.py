"""What a model is reading while its routers decide, carried to them without touching its code.

A transformers block hands its router hidden states and nothing else. Here the forward of each
pretrained model leaves what it was called with (mask, token ids, positions, cache) in a context
variable, from which the swapped routers take their `RouteContext`. A context variable belongs to
one thread or task: two threads that run one model do not see each other's tokens.

Activation checkpointing runs a layer twice, the second time in the backward pass, when the forward
has long ended. `Linked` carries the reading of the first run over to the second.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.nn.gates import RouteContext

__all__ = ["FORCING", "Linked", "Reading", "Said", "context", "current", "enter", "leave", "said"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Said:
    """What the caller says of the forwards inside a `context`.

    Parameters
    ----------
    tags : mapping of str to tensor
        One number a sequence (b,), a token (b, s), or for all.
    generator : torch.Generator, optional
    step : int
    budget : float, optional
    """

    tags: Mapping[str, Any] = field(default_factory=dict)
    generator: torch.Generator | None = None
    step: int = 0
    budget: float | None = None


@dataclass(eq=False, kw_only=True)
class Reading:
    """One forward of one pretrained model: which tokens it reads.

    Parameters
    ----------
    owner : torch.nn.Module
        The pretrained model.
    board : object
        Of the swapped model it is part of; two models do not read each other's.
    tower : str
        Its path in the swapped model.
    shape : tuple of int, optional
        (b, s); not known for inputs that are no sequences of tokens.
    mask, tokens, positions, segments : tensor (t,), optional
    past : int
        Positions the cache holds already.
    cache : object, optional
        The cache the forward was given.
    said : Said
    parent : Reading, optional
        The forward that called this one.
    counts : dict of int to int
        How often each site has decided; more than once where layers are looped.
    state : dict of str to tensor
        From layer to layer.
    attention : dict of int to tensor
        Attention weights of the layers whose gate asks for them.
    forced : object, optional
        What is to be replayed, see `turnout.experts.models.replaying`.
    again : bool
        This is a second run, for the backward pass.
    """

    owner: nn.Module
    board: object
    tower: str = ""
    shape: tuple[int, int] | None = None
    mask: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    past: int = 0
    cache: object | None = None
    said: Said = field(default_factory=Said)
    parent: Reading | None = None
    counts: dict[int, int] = field(default_factory=dict)
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    attention: dict[int, torch.Tensor] = field(default_factory=dict)
    forced: Any = None
    tags: dict[str, torch.Tensor] = field(default_factory=dict)
    again: bool = False
    closed: bool = False

    @property
    def t(self) -> int | None:
        """Number of tokens, where known."""
        return None if self.shape is None else self.shape[0] * self.shape[1]

    def next(self, ordinal: int) -> int:
        """Which pass through a site this is, from 0; counts it."""
        iteration = self.counts.get(ordinal, 0)
        self.counts[ordinal] = iteration + 1
        return iteration

    def route(self, ordinal: int, iteration: int, t: int, *, causal: bool) -> RouteContext:
        """What the gate of a site is told about its t tokens.

        Where a layer is given another number of tokens than the model reads, as experts for one
        modality are, nothing is known of them one by one.
        """
        known: dict[str, Any] = {}
        if self.t == t:
            known = {
                "shape": self.shape,
                "mask": self.mask,
                "tokens": self.tokens,
                "positions": self.positions,
                "segments": self.segments,
                "tags": self.tags,
            }
        attention = self.attention.get(ordinal)
        return RouteContext(
            layer=ordinal,
            iteration=iteration,
            causal=causal,
            attention=None if attention is None else lambda: attention,
            state=dict(self.state),
            generator=self.said.generator,
            step=self.said.step,
            budget=self.said.budget,
            **known,
        )

    def once_more(self, counts: Mapping[int, int], state: Mapping[str, torch.Tensor]) -> Reading:
        """The same reading for a second run of a layer."""
        return replace(self, counts=dict(counts), state=dict(state), again=True)


#: The replay that is on in this thread, see `turnout.experts.models.replaying`.
FORCING: ContextVar[Any] = ContextVar("turnout_forcing", default=None)

_STACK: ContextVar[tuple[Reading, ...]] = ContextVar("turnout_readings", default=())
_SAID: ContextVar[Said] = ContextVar("turnout_said", default=Said())  # noqa: B039 (frozen)


def current(board: object) -> Reading | None:
    """The innermost forward of a swapped model that is running in this thread, if any."""
    stack = _STACK.get()
    return stack[-1] if stack and stack[-1].board is board else None


def said() -> Said:
    """What the caller says now."""
    return _SAID.get()


@contextmanager
def context(
    *,
    generator: torch.Generator | None = None,
    step: int | None = None,
    budget: float | None = None,
    **tags: Any,
) -> Iterator[None]:
    """Tell the gates of every swapped model more, for the forwards inside.

    What an outer `context` said stays, unless it is said again.

    Parameters
    ----------
    generator : torch.Generator, optional
        Where noise is drawn from.
    step : int, optional
        Training step, for schedules.
    budget : float, optional
        Experts a token, on average; overrides a gate's own number.
    **tags : int, or integer tensor (b,) or (b, s)
        Such as `domain=...`: a number for all, a sequence, or a token; -1 = unknown.
    """
    outer = _SAID.get()
    inner = Said(
        tags={**outer.tags, **tags},
        generator=outer.generator if generator is None else generator,
        step=outer.step if step is None else step,
        budget=outer.budget if budget is None else budget,
    )
    token = _SAID.set(inner)
    try:
        yield
    finally:
        _SAID.reset(token)


def enter(
    module: nn.Module, board: object, tower: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Reading:
    """Begin a forward of a pretrained model; `leave` ends it."""
    stack = _STACK.get()
    parent = stack[-1] if stack and stack[-1].board is board else None
    reading = _read(module, board, tower, _bound(module, args, kwargs), parent)
    forcing = FORCING.get()
    if forcing is not None:
        reading.forced = forcing.begin(reading)
    _STACK.set((*stack, reading))
    return reading


def leave(module: nn.Module) -> Reading | None:
    """End the innermost forward, which must be of this module; None where it never began."""
    stack = _STACK.get()
    if not stack or stack[-1].owner is not module:
        return None
    _STACK.set(stack[:-1])
    stack[-1].closed = True
    return stack[-1]


class Linked:
    """A checkpoint function whose second run knows what the first was reading.

    Parameters
    ----------
    call : callable
        `torch.utils.checkpoint.checkpoint`, or what stands in its place.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint `function`."""
        stack = _STACK.get()
        if not stack:
            return self.call(function, *args, **kwargs)
        first = stack[-1]
        counts, state = dict(first.counts), dict(first.state)

        def linked(*inner: Any, **named: Any) -> Any:
            running = _STACK.get()
            if running and running[-1] is first:
                return function(*inner, **named)
            token = _STACK.set((first.once_more(counts, state),))
            try:
                return function(*inner, **named)
            finally:
                _STACK.reset(token)

        return self.call(linked, *args, **kwargs)


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a forward by name."""
    if not args:
        return dict(kwargs)
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _read(
    module: nn.Module, board: object, tower: str, given: dict[str, Any], parent: Reading | None
) -> Reading:
    """What the arguments of a forward say about its tokens."""
    tokens, embeddings = given.get("input_ids"), given.get("inputs_embeds")
    device: torch.device
    reading = Reading(owner=module, board=board, tower=tower, said=said(), parent=parent)
    if isinstance(tokens, torch.Tensor) and tokens.ndim == 2:
        shape, device = (int(tokens.shape[0]), int(tokens.shape[1])), tokens.device
    elif isinstance(embeddings, torch.Tensor) and embeddings.ndim == 3:
        tokens, device = None, embeddings.device
        shape = (int(embeddings.shape[0]), int(embeddings.shape[1]))
    else:
        return reading
    reading.shape = shape
    reading.cache = given.get("cache", given.get("past_key_values"))
    reading.past = _past(reading.cache)
    # The two halves of a translation model read different sequences: nothing is handed down there.
    above = parent if parent is not None and parent.shape == shape else None
    if above is not None and _is_pair(above.owner):
        above = None
    reading.mask = _mask(given.get("attention_mask"), shape, reading.past)
    if reading.mask is None and above is not None:
        reading.mask = above.mask
    if tokens is not None:
        reading.tokens = tokens.reshape(-1)
    elif above is not None:
        reading.tokens = above.tokens
    ids = given.get("position_ids")
    if isinstance(ids, torch.Tensor) and ids.ndim >= 2 and int(ids.shape[-1]) == shape[1]:
        reading.positions = ids.reshape(-1, *ids.shape[-2:])[0].expand(shape).reshape(-1).long()
    elif above is not None and above.positions is not None:
        reading.positions = above.positions
    else:
        reading.positions = _count(given.get("attention_mask"), shape, reading.past, device)
    reading.segments = _segments(reading.positions, reading.mask, shape)
    reading.tags = {
        name: _tag(name, value, shape, device) for name, value in reading.said.tags.items()
    }
    return reading


def _is_pair(module: nn.Module) -> bool:
    """Whether a model is an encoder with a decoder."""
    return bool(getattr(getattr(module, "config", None), "is_encoder_decoder", False))


def _past(cache: object) -> int:
    """Positions a cache holds."""
    length = getattr(cache, "get_seq_length", None)
    if length is None:
        return 0
    return int(length())


def _mask(given: Any, shape: tuple[int, int], past: int) -> torch.Tensor | None:
    """Real tokens (t,) of an attention mask (b, past + s) or (b, 1, s, past + s)."""
    if isinstance(given, Mapping):
        values = [value for value in given.values() if isinstance(value, torch.Tensor)]
        given = next((value for value in values if value.ndim == 4), None)
    if not isinstance(given, torch.Tensor):
        return None
    b, s = shape
    if given.ndim == 2 and given.shape[0] == b and given.shape[1] >= s:
        whole = int(given.shape[1])
        end = min(whole, past + s) if past + s <= whole else whole
        return (given[:, end - s : end] != 0).reshape(-1)
    if given.ndim == 4 and given.shape[2] == s and given.shape[3] >= past + s:
        # A token that may not even attend to itself is padding.
        at = torch.arange(s, device=given.device)
        own = given.expand(b, *given.shape[1:])[:, 0, at, at + past]
        real = own if own.dtype == torch.bool else own > torch.finfo(own.dtype).min / 2
        return real.reshape(-1)
    return None


def _count(given: Any, shape: tuple[int, int], past: int, device: torch.device) -> torch.Tensor:
    """Positions (t,) counted over real tokens where a plain mask is given."""
    b, s = shape
    if isinstance(given, torch.Tensor) and given.ndim == 2 and given.shape[0] == b:
        if given.shape[1] >= past + s:
            counted = (given != 0).long().cumsum(1) - 1
            return counted[:, past : past + s].clamp(min=0).reshape(-1)
        past = 0
    return torch.arange(past, past + s, device=device).expand(b, s).reshape(-1)


def _segments(
    positions: torch.Tensor | None, mask: torch.Tensor | None, shape: tuple[int, int]
) -> torch.Tensor | None:
    """Which packed document (t,) each token of a sequence is of: positions start anew in each."""
    if positions is None:
        return None
    starts = positions == 0
    if mask is not None:
        starts = starts & mask
    return (starts.reshape(shape).long().cumsum(1) - 1).clamp(min=0).reshape(-1)


def _tag(name: str, value: Any, shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    """A tag (t,) of a value for all, a sequence or a token."""
    b, s = shape
    tag = torch.as_tensor(value, dtype=torch.int64, device=device)
    if tag.ndim == 0:
        return tag.expand(b * s)
    if tuple(tag.shape) == (b,):
        return tag.unsqueeze(1).expand(b, s).reshape(-1)
    if tuple(tag.shape) in ((b, s), (b * s,)):
        return tag.reshape(-1)
    rule = f"have shape ({b},), one a sequence, or {(b, s)}, one a token"
    raise InputError(f"tags[{name!r}]", rule, tuple(tag.shape), "Give one number a sequence.")

"""RouteContext: what a gate may know beyond the hidden states; RouteLog: what gates decided.

One context describes one forward pass through one mixture-of-experts layer. It is handed on
explicitly and never kept in a global: two models in two threads do not see each other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from turnout.core.errors import InputError

if TYPE_CHECKING:
    from turnout.nn.gates.decision import Decision, Slots

__all__ = ["LogEntry", "RouteContext", "RouteLog"]


@dataclass(frozen=True, eq=False)
class LogEntry:
    """One decision and where it was made.

    Parameters
    ----------
    layer : int
        Ordinal of the mixture-of-experts layer.
    iteration : int
        Pass through the same layer within one forward (chains of experts); 0 elsewhere.
    decision : Decision or Slots
    """

    layer: int
    iteration: int
    decision: Decision | Slots


@dataclass(eq=False)
class RouteLog:
    """The decisions of one forward pass, in the order in which they were made.

    Parameters
    ----------
    entries : list of LogEntry
    """

    entries: list[LogEntry] = field(default_factory=list)

    def add(self, decision: Decision | Slots, context: RouteContext) -> None:
        """Keep one decision."""
        self.entries.append(LogEntry(context.layer, context.iteration, decision))

    def by_layer(self) -> dict[int, list[Decision | Slots]]:
        """Decisions of each layer, layers in ascending order."""
        layers: dict[int, list[Decision | Slots]] = {}
        for entry in self.entries:
            layers.setdefault(entry.layer, []).append(entry.decision)
        return dict(sorted(layers.items()))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[LogEntry]:
        return iter(self.entries)


@dataclass(frozen=True, eq=False, kw_only=True)
class RouteContext:
    """What is known about the t tokens a gate is asked about; every field is optional.

    Parameters
    ----------
    layer, iteration : int
        Which mixture-of-experts layer asks, and which pass through it.
    causal : bool
        The host predicts each token from those before it: a gate that looks ahead is refused.
    shape : tuple of int, optional
        (b, s) with b * s = t: how the sequences were flattened.
    mask : bool tensor (t,), optional
        True = real token. Masked tokens are sent nowhere and count nowhere.
    tokens, positions, segments : integer tensor (t,), optional
        Token ids, positions in the sequence, and which packed document a token is of.
    tags : mapping of str to integer tensor (t,)
        "domain", "language", "task" and the like; -1 = unknown.
    attention : callable, optional
        Returns the attention of the same layer (b, h, s, s); called only by gates that need it.
    state : dict of str to tensor
        Written by the layer before, read by the next.
    generator : torch.Generator, optional
        Where noise is drawn from; gates that draw refuse to go without.
    step : int
        Training step, for schedules.
    budget : float, optional
        Experts a token, on average; overrides the gate's own number at inference.
    log : RouteLog, optional
        Where the layer leaves its decision.
    """

    layer: int = 0
    iteration: int = 0
    causal: bool = False
    shape: tuple[int, int] | None = None
    mask: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    tags: Mapping[str, torch.Tensor] = field(default_factory=dict)
    attention: Callable[[], torch.Tensor] | None = None
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    generator: torch.Generator | None = None
    step: int = 0
    budget: float | None = None
    log: RouteLog | None = None

    def at(self, layer: int, iteration: int = 0) -> RouteContext:
        """The same context for another layer; state and log are shared."""
        return replace(self, layer=layer, iteration=iteration)

    def shaped(self, b: int, s: int) -> RouteContext:
        """The same context for b sequences of s positions."""
        return replace(self, shape=(b, s))

    def has(self, need: str) -> bool:
        """Whether a need such as "tokens" or "tags.language" is met."""
        name, _, key = need.partition(".")
        value = getattr(self, name, None)
        return key in self.tags if key else value is not None

    def require(self, needs: Iterable[str], who: str) -> None:
        """Refuse to go on where a need is not met.

        Raises
        ------
        InputError
            Names the first need that is missing.
        """
        for need in sorted(needs):
            if not self.has(need):
                rule = f"be given: {who} reads it"
                hint = f"Pass RouteContext({need.partition('.')[0]}=...)."
                if need == "attention":
                    hint = (
                        "Load the model with attn_implementation='eager': fused attention kernels "
                        "hide the weights."
                    )
                raise InputError(f"context.{need}", rule, None, hint)

    def draws(self, who: str) -> torch.Generator:
        """The generator to draw from.

        Raises
        ------
        InputError
            There is none: nothing here draws from a global generator.
        """
        if self.generator is None:
            hint = "Pass RouteContext(generator=torch.Generator().manual_seed(0))."
            raise InputError("context.generator", f"be given: {who} draws from it", None, hint)
        return self.generator

    def check(self, t: int) -> None:
        """Refuse fields whose length is not t.

        Raises
        ------
        InputError
            Names the field.
        """
        fields = {
            "mask": self.mask,
            "tokens": self.tokens,
            "positions": self.positions,
            "segments": self.segments,
            **{f"tags[{name!r}]": value for name, value in self.tags.items()},
        }
        for name, value in fields.items():
            if value is not None and tuple(value.shape) != (t,):
                raise InputError(
                    f"context.{name}", f"have shape ({t},)", tuple(value.shape), "Flatten it."
                )
        if self.shape is not None and self.shape[0] * self.shape[1] != t:
            rule = f"multiply to the {t} tokens given"
            raise InputError("context.shape", rule, self.shape, "Pass (sequences, positions).")

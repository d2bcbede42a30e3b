"""GateSubject: one gate under test, and the batches its checks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from turnout.core import Card
from turnout.nn.gates import Decision, RouteContext, Slots
from turnout.testing.gates.case import GateCase
from turnout.testing.subject import ContractError
from turnout.testing.watch import other_global_rng

__all__ = ["Batch", "GateSubject", "differing", "other_torch_rng", "routes", "same_routes"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Tokens a gate is asked about.

    Parameters
    ----------
    x : tensor (t, d)
    tokens : int64 tensor (t,)
        Their ids.
    mask : bool tensor (t,), optional
        True = real token.
    shape : tuple of int, optional
        (sequences, positions).
    """

    x: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor | None = None
    shape: tuple[int, int] | None = None

    @property
    def t(self) -> int:
        """Number of tokens."""
        return int(self.x.shape[0])

    def take(self, rows: torch.Tensor) -> Batch:
        """Some of the tokens, as one sequence."""
        mask = None if self.mask is None else self.mask[rows]
        return Batch(self.x[rows], self.tokens[rows], mask)

    def with_rows(self, rows: torch.Tensor, other: Batch) -> Batch:
        """The same batch with the tokens where `rows` (t,) is True taken from another."""
        return replace(
            self,
            x=torch.where(rows.unsqueeze(1), other.x, self.x),
            tokens=torch.where(rows, other.tokens, self.tokens),
        )


@dataclass
class GateSubject:
    """A gate under test.

    Parameters
    ----------
    case : GateCase
        The recipe and the sizes.
    card : Card
        What the method claims.
    """

    case: GateCase
    card: Card

    @cached_property
    def gate(self) -> nn.Module:
        """The gate in evaluation; checks that change one build their own."""
        return self.build().eval()

    def claims(self, name: str) -> bool:
        """Whether the card claims a property."""
        return name in self.card.properties

    def build(self, e: int | None = None, *, seed: int = 0) -> nn.Module:
        """A new gate, in training mode."""
        case = self.case
        generator = torch.Generator().manual_seed(seed)
        return case.recipe.build(case.d, case.e if e is None else e, generator=generator)

    def batch(self, t: int, *, seed: int = 1, alike: bool = False) -> Batch:
        """Some tokens; `alike` = all near one another, so that they want the same expert."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(t, self.case.d, generator=generator)
        if alike:
            x = x[:1].expand_as(x) + 0.01 * x
        tokens = torch.randint(self.case.vocabulary, (t,), generator=generator)
        return Batch(x, torch.zeros_like(tokens) if alike else tokens)

    def context(self, batch: Batch, *, seed: int = 7, causal: bool = False) -> RouteContext:
        """The context of a batch, with a generator of its own."""
        return RouteContext(
            causal=causal,
            shape=batch.shape,
            mask=batch.mask,
            tokens=batch.tokens,
            generator=torch.Generator().manual_seed(seed),
        )

    def decide(
        self, gate: nn.Module, batch: Batch, *, seed: int = 7, causal: bool = False
    ) -> Decision | Slots:
        """What the gate decides; it must be a `Decision` or `Slots` for as many tokens."""
        context = self.context(batch, seed=seed, causal=causal)
        with torch.no_grad():
            decision: object = gate(batch.x, context)
        if not isinstance(decision, Decision | Slots):
            kind = type(decision).__name__
            raise ContractError(f"a gate must answer with a Decision or Slots; got {kind}")
        if decision.t != batch.t:
            raise ContractError(f"it must decide for {batch.t} tokens; got {decision.t}")
        return decision


def routes(decision: Decision | Slots) -> torch.Tensor:
    """What a decision says of each token, (t, c): who is chosen and with what weight.

    Slots of one decision may stand in any order; two decisions that send tokens alike are equal
    here.
    """
    if isinstance(decision, Slots):
        parts = (decision.combine, decision.dispatch)
        return torch.cat([part.flatten(0, 1).flatten(1) for part in parts], dim=1).float()
    chosen = replace(decision, weights=decision.chosen.to(torch.float32)).dense()
    return torch.cat([chosen, decision.dense().float()], dim=1)


def differing(one: torch.Tensor, two: torch.Tensor, *, atol: float = 1e-5) -> int:
    """How many rows of two route matrices differ."""
    if one.shape != two.shape:
        return max(len(one), len(two))
    return int(((one - two).abs() > atol).any(dim=1).sum()) if one.numel() else 0


def same_routes(one: Decision | Slots, two: Decision | Slots, what: str) -> None:
    """Refuse two decisions that send tokens differently."""
    wrong = differing(routes(one), routes(two))
    if wrong:
        raise ContractError(f"{what} must give the same route; {wrong} of {one.t} tokens differ")


@contextmanager
def other_torch_rng() -> Iterator[None]:
    """All global generators in another state, torch's included."""
    state = torch.get_rng_state()
    torch.manual_seed(987654321)
    try:
        with other_global_rng():
            yield
    finally:
        torch.set_rng_state(state)

"""Whether a gate learns what is there, and nothing that is not.

The planted problem: tokens lie around four centres, two and their opposites, and what is wanted of
a token is a linear map of its own kind. A single linear expert cannot serve a centre and its
opposite; experts among which a gate shares the tokens out, can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from turnout.nn.balance import switch_loss
from turnout.nn.gates import Decision, Slots
from turnout.testing.gates.subject import Batch, GateSubject
from turnout.testing.subject import ContractError

__all__ = ["gains_on_planted", "no_gain_on_noise"]

#: Greatest share of a single expert's error that may be left on the planted problem.
_LEFT = 0.75
#: Least share of a single expert's error that must be left on noise.
_NOISE = 0.97
#: Weight of Switch's balance loss in training, as published gates are trained with one.
_BALANCE = 0.01


def gains_on_planted(subject: GateSubject) -> None:
    """Trained with its experts on tokens of four kinds, it leaves less error than one expert."""
    left = _share_left(subject, noise=False, steps=100)
    if not left <= _LEFT:
        raise ContractError(
            f"on the planted problem it must leave at most {_LEFT} of a single expert's error; "
            f"it leaves {left:.3f}"
        )


def no_gain_on_noise(subject: GateSubject) -> None:
    """Where the kind of a token cannot be told from it, it gains nothing on fresh tokens."""
    left = _share_left(subject, noise=True, steps=40)
    if not left >= _NOISE:
        raise ContractError(
            f"on noise it must leave at least {_NOISE} of a single expert's error; it leaves "
            f"{left:.3f}: it knows what a token does not say"
        )


@dataclass(frozen=True, eq=False)
class _Planted:
    """Kinds of tokens: centres (kinds, d), maps (kinds, d, d); under noise they are unrelated."""

    centres: torch.Tensor
    maps: torch.Tensor
    noise: bool

    @classmethod
    def draw(cls, d: int, *, noise: bool) -> _Planted:
        generator = torch.Generator().manual_seed(21)
        ways = nn.functional.normalize(torch.randn(2, d, generator=generator), dim=1)
        centres = 4.0 * torch.cat([ways, -ways])
        maps = torch.randn(len(centres), d, d, generator=generator) / d**0.5
        return cls(centres, maps, noise)

    def batch(self, t: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (t, d), and what is wanted of each (t, d)."""
        kinds, d = self.centres.shape
        kind = torch.randint(kinds, (t,), generator=generator)
        near = torch.randint(kinds, (t,), generator=generator) if self.noise else kind
        x = self.centres[near] + 0.3 * torch.randn(t, d, generator=generator)
        return x, torch.einsum("tio,ti->to", self.maps[kind], x)


def _share_left(subject: GateSubject, *, noise: bool, steps: int) -> float:
    """Error on fresh tokens after training, as a share of the best single linear map's."""
    d, e = subject.case.d, subject.case.e
    planted = _Planted.draw(d, noise=noise)
    draws, noises = (torch.Generator().manual_seed(seed) for seed in (22, 24))
    gate = subject.build()
    first = torch.randn(e, d, d, generator=torch.Generator().manual_seed(23)) / d**0.5
    experts = nn.Parameter(first)
    optimiser = torch.optim.Adam([experts, *gate.parameters()], lr=0.02)

    def answer(x: torch.Tensor) -> tuple[torch.Tensor, Decision | Slots]:
        context = subject.context(Batch(x, torch.zeros(len(x), dtype=torch.int64)))
        decision: Decision | Slots = gate(x, replace(context, generator=noises))
        return _mixed(x, decision, experts), decision

    for _ in range(steps):
        x, wanted = planted.batch(128, draws)
        made, decision = answer(x)
        loss = (made - wanted).square().mean()
        if isinstance(decision, Decision) and decision.logits is not None:
            loss = loss + _BALANCE * switch_loss(decision)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    gate.eval()
    seen, target = planted.batch(2000, draws)
    single = torch.linalg.lstsq(seen, target).solution
    x, wanted = planted.batch(500, draws)
    with torch.no_grad():
        left = (answer(x)[0] - wanted).square().mean()
    return float(left / (x @ single - wanted).square().mean())


def _mixed(x: torch.Tensor, decision: Decision | Slots, experts: torch.Tensor) -> torch.Tensor:
    """What linear experts (e, d, d) make of x (t, d), put together as the decision says."""
    if isinstance(decision, Decision):
        made = torch.einsum("ti,eio->teo", x, experts)
        return torch.einsum("te,teo->to", decision.dense(), made)
    slots = torch.einsum("nes,nd->esd", decision.dispatch[0], x)
    made = torch.einsum("esi,eio->eso", slots, experts)
    return torch.einsum("nes,eso->no", decision.combine[0], made)

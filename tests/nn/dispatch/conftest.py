"""Layers that every path must agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional

from turnout.nn.dispatch import Bank, native, run


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows, choices, weights and experts."""

    x: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor
    bank: Bank

    def answer(self, backend: str) -> torch.Tensor:
        """What a path makes of it."""
        return run(self.x, self.ids, self.weights, self.bank, backend=backend)

    def leaves(self) -> dict[str, torch.Tensor]:
        """Everything a gradient may be asked of, by name."""
        bank = self.bank
        first = "gate_up" if bank.gated else "up"
        all_ = {"x": self.x, "weights": self.weights, first: bank.first, "down": bank.down}
        biases = {"up_bias": bank.up_bias, "down_bias": bank.down_bias}
        return all_ | {name: bias for name, bias in biases.items() if bias is not None}

    def with_leaves(self, leaves: dict[str, torch.Tensor]) -> Problem:
        """The same problem on other tensors."""
        own = {name: value for name, value in leaves.items() if name not in ("x", "weights")}
        return Problem(leaves["x"], self.ids, leaves["weights"], replace(self.bank, **own))

    def cast(self, dtype: torch.dtype) -> Problem:
        """In another type."""
        return self.with_leaves({n: v.detach().to(dtype) for n, v in self.leaves().items()})

    def learning(self, names: tuple[str, ...] = ()) -> Problem:
        """Fresh leaves that ask for gradients: those named, or all."""
        made = {name: value.detach().clone() for name, value in self.leaves().items()}
        for name in names or made:
            made[name].requires_grad_()
        return self.with_leaves(made)

    def gradients(self, backend: str, dy: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gradients of all leaves that ask for one, by name."""
        names = [name for name, value in self.leaves().items() if value.requires_grad]
        found = torch.autograd.grad(self.answer(backend), [self.leaves()[n] for n in names], dy)
        return dict(zip(names, found, strict=True))


def make(
    t: int,
    e: int,
    k: int,
    *,
    gated: bool = True,
    bias: bool = False,
    transposed: bool = False,
    d: int = 16,
    f: int = 32,
    d_out: int = 48,
    none: float = 0.2,
    act: Callable[[torch.Tensor], torch.Tensor] = functional.silu,
    seed: int = 0,
) -> Problem:
    """Random rows and experts; a share `none` of the slots has no expert."""
    draw = torch.Generator().manual_seed(1 + seed + 7 * t + 31 * e + 101 * k)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    wide = f * (2 if gated else 1)
    up, down = normal(e, wide, d) / d**0.5, normal(e, d_out, f) / f**0.5
    if transposed:
        up, down = up.transpose(1, 2).contiguous(), down.transpose(1, 2).contiguous()
    ids = torch.rand(t, e, generator=draw).argsort(1)[:, :k].contiguous()
    ids = ids.masked_fill(torch.rand(t, k, generator=draw) < none, e)
    weights = torch.rand(t, k, generator=draw).masked_fill(ids == e, 0)
    bank = Bank(
        down=down,
        gate_up=up if gated else None,
        up=None if gated else up,
        up_bias=normal(e, wide) if bias else None,
        down_bias=normal(e, d_out) if bias else None,
        act=act,
        transposed=transposed,
    )
    return Problem(normal(t, d), ids, weights, bank)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread, so that other work on the machine does not keep a team waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """The maker of problems."""
    return make


@pytest.fixture(params=["naive", "sorted", "grouped", "native"])
def path(request: pytest.FixtureRequest) -> str:
    """Each path in turn."""
    name: str = request.param
    if name == "native" and not native.available():
        pytest.skip("no compiler: the native kernels were not built")
    return name

"""Bank: the stacked matrices of a layer's experts, as dispatchers read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from turnout.core.errors import InputError

__all__ = ["Bank"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bank:
    """Feed-forward experts of one shape, stacked.

    A gated expert makes `(act(x G^T) * (x U^T)) D^T` with `gate_up = [G; U]`, a plain one
    `act(x U^T) D^T`; biases are added behind each product.

    Parameters
    ----------
    down : tensor (e, d_out, f)
    gate_up : tensor (e, 2 f, d), optional
        Gate rows first, then up rows. Given for gated experts.
    up : tensor (e, f, d), optional
        Given for plain experts.
    up_bias : tensor (e, 2 f) or (e, f), optional
    down_bias : tensor (e, d_out), optional
    act : callable
        Activation of the gate rows, or of plain ones.
    apply_gate : callable, optional
        (p, 2 f) -> (p, f), where gate and up are not simply two halves and `act`.
    transposed : bool
        The matrices are stored (e, in, out).

    Raises
    ------
    InputError
        Not exactly one of `gate_up` and `up`, or shapes do not fit.
    """

    down: torch.Tensor
    gate_up: torch.Tensor | None = None
    up: torch.Tensor | None = None
    up_bias: torch.Tensor | None = None
    down_bias: torch.Tensor | None = None
    act: Callable[[torch.Tensor], torch.Tensor] = functional.silu
    apply_gate: Callable[[torch.Tensor], torch.Tensor] | None = None
    transposed: bool = False

    def __post_init__(self) -> None:
        if (self.gate_up is None) == (self.up is None):
            hint = "Gated experts have gate_up, plain ones have up."
            raise InputError("bank.gate_up and up", "be given one of them", "both or none", hint)
        first = self.first
        rows, inner = (2, 1) if self.transposed else (1, 2)
        wide = self.down.shape[inner] * (2 if self.gated else 1)
        if first.ndim != 3 or self.down.ndim != 3 or first.shape[0] != self.down.shape[0]:
            shapes = (tuple(first.shape), tuple(self.down.shape))
            raise InputError("bank", "stack as many up as down matrices", shapes, "Check them.")
        if first.shape[rows] != wide:
            shapes = (tuple(first.shape), tuple(self.down.shape))
            raise InputError("bank", "have one inner width", shapes, "Check the layout.")

    @classmethod
    def of(cls, module: Any) -> Bank:
        """The bank of a transformers v5 experts module.

        Raises
        ------
        InputError
            The module holds no stacked matrices.
        """
        gated = bool(getattr(module, "has_gate", hasattr(module, "gate_up_proj")))
        name = "gate_up_proj" if gated else "up_proj"
        for needed in (name, "down_proj"):
            if not isinstance(getattr(module, needed, None), torch.Tensor):
                found = type(module).__name__
                raise InputError(
                    "experts", f"hold a tensor {needed}", found, "Use its own forward."
                )
        first = getattr(module, name)
        return cls(
            down=module.down_proj,
            gate_up=first if gated else None,
            up=None if gated else first,
            up_bias=getattr(module, f"{name}_bias", None),
            down_bias=getattr(module, "down_proj_bias", None),
            act=getattr(module, "act_fn", functional.silu),
            apply_gate=getattr(module, "_apply_gate", None) if gated else None,
            transposed=bool(getattr(module, "is_transposed", False)),
        )

    @property
    def first(self) -> torch.Tensor:
        """Matrices of the first product."""
        first = self.gate_up if self.gate_up is not None else self.up
        assert first is not None
        return first

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate."""
        return self.gate_up is not None

    @property
    def e(self) -> int:
        """Number of experts."""
        return int(self.down.shape[0])

    @property
    def d(self) -> int:
        """Width of the rows taken in."""
        return int(self.first.shape[1 if self.transposed else 2])

    @property
    def f(self) -> int:
        """Inner width."""
        return int(self.down.shape[1 if self.transposed else 2])

    @property
    def d_out(self) -> int:
        """Width of the rows given back."""
        return int(self.down.shape[2 if self.transposed else 1])

    def gate(self, z: torch.Tensor) -> torch.Tensor:
        """What goes into the second product, (p, f), from the first product z."""
        if not self.gated:
            return self.act(z)
        if self.apply_gate is not None:
            return self.apply_gate(z)
        gate, up = z.chunk(2, dim=-1)
        return self.act(gate) * up

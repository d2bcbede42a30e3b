"""First weights drawn from a generator of one's own, and weights in and out of a module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from turnout.core import _check

__all__ = ["gru_cell", "linear", "numpy_of", "to_torch", "torch_generator"]

#: Makes a module without drawing its weights from the global generator. It has no types.
_skip: Any = nn.utils.skip_init


def linear(d: int, h: int, *, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A linear map from d numbers to h, every weight uniform within 1 / sqrt(d).

    The spread is the usual one of torch, without its global generator.
    """
    d, h = _check.integer("d", d, low=1), _check.integer("h", h, low=1)
    made: nn.Linear = _skip(nn.Linear, d, h, bias=bias)
    _draw(made, d, generator)
    return made


def gru_cell(d: int, h: int, *, generator: torch.Generator) -> nn.GRUCell:
    """A gated recurrent unit that reads d numbers into a state of h, uniform within 1 / sqrt(h)."""
    d, h = _check.integer("d", d, low=1), _check.integer("h", h, low=1)
    made: nn.GRUCell = _skip(nn.GRUCell, d, h)
    _draw(made, h, generator)
    return made


def torch_generator(rng: Generator) -> torch.Generator:
    """A generator for torch, seeded from one of numpy."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def numpy_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """All weights and running figures of a module by name, as arrays of their own."""
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def to_torch(module: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> nn.Module:
    """The module with these weights, ready to be used and not to be trained."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    module.load_state_dict(state)
    return module.eval()


def _draw(module: nn.Module, d: int, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(d)
    with torch.no_grad():
        for weight in module.parameters():
            weight.uniform_(-bound, bound, generator=generator)

"""The few array operations whose spelling differs between numpy and torch.

torch is never imported here: an array that comes from torch brings its module along.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from turnout.core.errors import InputError

__all__ = ["Namespace", "namespace"]


class Namespace(Protocol):
    """Array operations in one spelling."""

    def is_integer(self, array: Any) -> bool: ...
    def isfinite(self, array: Any) -> Any: ...
    def bincount(self, index: Any, m: int) -> Any: ...
    def scatter(self, index: Any, weight: Any, m: int) -> Any: ...


class _Numpy:
    def is_integer(self, array: Any) -> bool:
        return bool(np.issubdtype(array.dtype, np.integer))

    def isfinite(self, array: Any) -> Any:
        return np.isfinite(array)

    def bincount(self, index: Any, m: int) -> Any:
        return np.bincount(index, minlength=m)

    def scatter(self, index: Any, weight: Any, m: int) -> Any:
        dense = np.zeros((index.shape[0], m), dtype=weight.dtype)
        rows, columns = np.nonzero(index >= 0)
        np.add.at(dense, (rows, index[rows, columns]), weight[rows, columns])
        return dense


class _Torch:
    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def is_integer(self, array: Any) -> bool:
        return not (array.dtype.is_floating_point or array.dtype.is_complex) and (
            array.dtype != self.torch.bool
        )

    def isfinite(self, array: Any) -> Any:
        return self.torch.isfinite(array)

    def bincount(self, index: Any, m: int) -> Any:
        return self.torch.bincount(index, minlength=m)

    def scatter(self, index: Any, weight: Any, m: int) -> Any:
        kept = self.torch.where(index >= 0, weight, self.torch.zeros_like(weight))
        dense = weight.new_zeros((index.shape[0], m))
        return dense.scatter_add(1, index.clamp(min=0).long(), kept)


def namespace(*arrays: Any) -> Namespace:
    """The operations for numpy or for torch, by what `arrays` are; a mixture is refused."""
    kinds = {_kind(array) for array in arrays}
    if len(kinds) != 1:
        hint = "Convert them all to numpy or all to torch."
        raise InputError("arrays", "be all numpy or all torch", sorted(kinds), hint)
    return _Torch(sys.modules["torch"]) if kinds == {"torch"} else _Numpy()


def _kind(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return "numpy"
    if type(array).__module__.partition(".")[0] == "torch":
        return "torch"
    raise InputError("array", "be a numpy array or a torch tensor", type(array).__name__, "")

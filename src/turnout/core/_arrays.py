"""The few array operations whose spelling differs between numpy and torch.

torch is never imported here: an array that comes from torch brings its module along.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from turnout.core.errors import InputError

__all__ = ["Namespace", "namespace"]


class Namespace(Protocol):
    """Array operations in one spelling."""

    def is_integer(self, array: Any) -> bool: ...
    def isfinite(self, array: Any) -> Any: ...
    def bincount(self, index: Any, m: int) -> Any: ...
    def scatter(self, index: Any, weight: Any, m: int) -> Any: ...
    def floating(self, array: Any) -> Any: ...
    def isnan(self, array: Any) -> Any: ...
    def full_like(self, array: Any, value: float) -> Any: ...
    def where(self, condition: Any, yes: Any, no: Any) -> Any: ...
    def exp(self, array: Any) -> Any: ...
    def logsumexp(self, array: Any, axis: int) -> Any: ...
    def descending(self, array: Any) -> Any: ...
    def take(self, array: Any, index: Any) -> Any: ...
    def put(self, array: Any, index: Any, values: Any) -> Any: ...
    def arange(self, stop: int, like: Any) -> Any: ...
    def to_numpy(self, array: Any) -> NDArray[Any]: ...
    def from_numpy(self, array: NDArray[Any], like: Any) -> Any: ...


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

    def floating(self, array: Any) -> Any:
        return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)

    def isnan(self, array: Any) -> Any:
        return np.isnan(array)

    def full_like(self, array: Any, value: float) -> Any:
        return np.full_like(array, value)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return np.where(condition, yes, no)

    def exp(self, array: Any) -> Any:
        return np.exp(array)

    def logsumexp(self, array: Any, axis: int) -> Any:
        if array.shape[axis] == 0:
            return np.full(array.sum(axis=axis).shape, -np.inf, dtype=array.dtype)
        top = array.max(axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):  # the sum of nothing is 0, its logarithm -inf
            total = np.log(np.exp(array - top).sum(axis=axis, keepdims=True))
        return (total + top).squeeze(axis)

    def descending(self, array: Any) -> Any:
        """Stable order of the last axis, the greatest first."""
        return np.argsort(-array, axis=-1, kind="stable")

    def take(self, array: Any, index: Any) -> Any:
        """Entries along the last axis."""
        return np.take_along_axis(array, index, axis=-1)

    def put(self, array: Any, index: Any, values: Any) -> Any:
        """A copy (s,) with `values` at `index`."""
        result = array.copy()
        result[index] = values
        return result

    def arange(self, stop: int, like: Any) -> Any:
        return np.arange(stop)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)

    def from_numpy(self, array: NDArray[Any], like: Any) -> Any:
        return array


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

    def floating(self, array: Any) -> Any:
        return array if array.dtype.is_floating_point else array.double()

    def isnan(self, array: Any) -> Any:
        return self.torch.isnan(array)

    def full_like(self, array: Any, value: float) -> Any:
        return self.torch.full_like(array, value)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return self.torch.where(condition, yes, no)

    def exp(self, array: Any) -> Any:
        return self.torch.exp(array)

    def logsumexp(self, array: Any, axis: int) -> Any:
        return self.torch.logsumexp(array, axis)

    def descending(self, array: Any) -> Any:
        return self.torch.argsort(array, dim=-1, descending=True, stable=True)

    def take(self, array: Any, index: Any) -> Any:
        return self.torch.gather(array, -1, index)

    def put(self, array: Any, index: Any, values: Any) -> Any:
        return array.index_put((index,), values)

    def arange(self, stop: int, like: Any) -> Any:
        return self.torch.arange(stop, device=like.device)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        result: NDArray[Any] = array.detach().cpu().numpy()
        return result

    def from_numpy(self, array: NDArray[Any], like: Any) -> Any:
        return self.torch.from_numpy(array).to(like.device)


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

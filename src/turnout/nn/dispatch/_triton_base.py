"""Triton where it is installed, and what its kernels are declared with; imported on demand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

__all__: list[str] = []

triton: Any
tl: Any
try:
    triton = importlib.import_module("triton")
    tl = importlib.import_module("triton.language")
except ImportError:
    triton = tl = None

if TYPE_CHECKING:
    constexpr: TypeAlias = Any
    tensor: TypeAlias = Any
else:
    constexpr = None if tl is None else tl.constexpr
    tensor = None if tl is None else tl.tensor


def _jit(*loose: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile by Triton where it is installed; `loose` arguments do not compile anew."""

    def wrap(kernel: Callable[..., Any]) -> Any:
        if triton is None:
            return kernel
        return triton.jit(kernel, do_not_specialize=list(loose))

    return wrap

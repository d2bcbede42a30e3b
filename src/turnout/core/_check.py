"""Validation shared by the nouns: each function returns the clean value or raises `InputError`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core.errors import InputError

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view, so that a noun handed around cannot be changed behind its owner's back."""
    view = array.view()
    view.flags.writeable = False
    return view


def number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> float:
    """One finite real number in [low, high]."""
    rule = _range_rule("be a finite number", low, high)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(name, rule, value, "Pass a plain number.")
    result = float(value)
    if not math.isfinite(result) or not low <= result <= high:
        raise InputError(name, rule, value, "Correct the value.")
    return result


def integer(name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """One whole number in [low, high]."""
    rule = _range_rule(
        "be a whole number",
        -math.inf if low is None else low,
        math.inf if high is None else high,
    )
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(name, rule, value, "Pass a plain integer.")
    result = int(value)
    if (low is not None and result < low) or (high is not None and result > high):
        raise InputError(name, rule, value, "Correct the value.")
    return result


def strengths(name: str, values: Any) -> tuple[float, ...]:
    """Penalties to choose from, the strongest first; each > 0."""
    if isinstance(values, int | float):
        raise InputError(name, "be a tuple", values, "Write (1.0,) for one value.")
    found = tuple(number(name, value, low=1e-6) for value in values)
    if not found:
        raise InputError(name, "hold at least one value", (), "Such as (1.0,).")
    return tuple(sorted(found, reverse=True))


def _range_rule(rule: str, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"{rule} in [{low:g}, {high:g}]"
    if math.isfinite(low):
        return f"{rule} >= {low:g}"
    if math.isfinite(high):
        return f"{rule} <= {high:g}"
    return rule


def names(name: str, values: Iterable[str], *, what: str = "destination") -> tuple[str, ...]:
    """Unique, non-empty names, at least one."""
    if isinstance(values, str):
        raise InputError(name, "be a sequence of names", values, "Wrap a single name in a list.")
    result = tuple(values)
    if not result:
        raise InputError(name, f"hold at least one {what}", result, f"Name one {what} or more.")
    seen: set[str] = set()
    for value in result:
        if not isinstance(value, str) or not value.strip():
            raise InputError(name, "hold non-empty strings", value, f"Give every {what} a name.")
        if value in seen:
            raise InputError(name, "be unique", value, f"Rename or drop the repeated {what}.")
        seen.add(value)
    return result


def floats(
    name: str,
    value: Any,
    shape: Sequence[int | None],
    *,
    low: float = -math.inf,
    high: float = math.inf,
    nan: bool = False,
    inf: bool = False,
) -> Float:
    """A read-only float64 array of `shape` (None = any length) with entries in [low, high].

    NaN passes only where `nan` (it means "never seen"), infinities only where `inf`.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            name, "be numeric", value, "Convert every entry to a number, or to NaN for never seen."
        ) from None
    expect_shape(name, array, shape)
    absent = np.isnan(array)
    if not nan and bool(absent.any()):
        where = _first(absent)
        raise InputError(
            f"{name}{where}", "not be NaN", math.nan, "Drop the entry or fill it with a number."
        )
    wrong = ~absent & ((array < low) | (array > high) | (np.isinf(array) & (not inf)))
    if bool(wrong.any()):
        index = _first(wrong)
        raise InputError(
            f"{name}{index}",
            _range_rule("be a finite number", low, high),
            float(array[tuple(index)]),
            "Correct the value, or use NaN where it was never seen." if nan else "Correct it.",
        )
    return frozen(array)


def expect_shape(name: str, array: NDArray[Any], shape: Sequence[int | None]) -> None:
    """Refuse an array whose shape is not `shape` (None = any length)."""
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        if len(shape) == 1:
            wanted += ","
        raise InputError(name, f"have shape ({wanted})", array.shape, "Reshape or transpose it.")


def _first(mask: NDArray[np.bool_]) -> list[int]:
    return [int(axis) for axis in np.argwhere(mask)[0]]

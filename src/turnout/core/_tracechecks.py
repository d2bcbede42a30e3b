"""Validation of the fields of a trace; each returns the clean value or raises `InputError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Bool, Int
from turnout.core.errors import InputError


def experts(value: Any, e: int) -> NDArray[np.int32]:
    """Expert numbers (t, l, k) from -1 to e - 1."""
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError("trace.experts", "hold integers", array.dtype.name, "Cast it.")
    _check.expect_shape("trace.experts", array, (None, None, None))
    if 0 in array.shape[1:]:
        hint = "Record at least one layer and one choice."
        raise InputError("trace.experts", "have l >= 1 and k >= 1", array.shape, hint)
    if array.size and (array.min() < -1 or array.max() >= e):
        wrong = array.min() if array.min() < -1 else array.max()
        rule = f"lie in [-1, {e - 1}]"
        raise InputError("trace.experts", rule, int(wrong), "-1 stands for a masked token.")
    kept: NDArray[np.int32] = _check.frozen(array.astype(np.int32, copy=False))
    return kept


def weights(value: Any, chosen: NDArray[np.int32]) -> NDArray[np.float32]:
    """Weights >= 0 of the shape of `chosen`, 0 where nothing is chosen."""
    array = np.asarray(value)
    # A trace can fill gigabytes: the thorough check, which copies, only where a quick one fails.
    quick = array.dtype == np.float32 and array.shape == chosen.shape
    if not (quick and (array.size == 0 or (array.min() >= 0 and array.max() < np.inf))):
        checked = _check.floats("trace.weights", value, chosen.shape, low=0.0)
        array = checked.astype(np.float32)
    if bool((array[chosen < 0] > 0).any()):
        hint = "Set the weight to 0 where nothing is chosen."
        raise InputError("trace.weights", "be 0 where experts is -1", "a positive", hint)
    kept: NDArray[np.float32] = _check.frozen(array)
    return kept


def offsets(value: Any, t: int) -> Int:
    """Offsets that rise from 0 to t."""
    array = np.asarray(value, dtype=np.int64)
    ordered = (
        array.ndim == 1
        and len(array) >= 1
        and array[0] == 0
        and array[-1] == t
        and bool((np.diff(array) >= 0).all())
    )
    if not ordered:
        rule = f"rise from 0 to {t}, one offset a request and one at the end"
        raise InputError("trace.requests", rule, array.tolist(), "Recount the tokens.")
    return _check.frozen(array)


def per_token(name: str, value: Any, t: int, high: int | None = None) -> Int:
    """One integer a token, -1 = unknown."""
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer) and array.size:
        raise InputError(name, "hold integers", array.dtype.name, "Cast it.")
    _check.expect_shape(name, array, (t,))
    if array.size and (array.min() < -1 or (high is not None and array.max() > high)):
        wrong = array.min() if array.min() < -1 else array.max()
        rule = "be >= -1" if high is None else f"lie in [-1, {high}]"
        raise InputError(name, rule, int(wrong), "-1 stands for unknown.")
    return _check.frozen(array.astype(np.int64, copy=False))


def flags(name: str, value: Any, shape: tuple[int, ...]) -> Bool:
    """Booleans of a shape."""
    array = np.asarray(value)
    if array.dtype != np.bool_:
        raise InputError(name, "hold booleans", array.dtype.name, "Use True or False.")
    _check.expect_shape(name, array, shape)
    return _check.frozen(array)


def numbers(value: Any, layers: int) -> Int:
    """Layer numbers, rising."""
    array = per_token("trace.layers", value, layers)
    if bool((array < 0).any()) or bool((np.diff(array) <= 0).any()):
        hint = "Number the layers as the network does."
        raise InputError("trace.layers", "rise from 0 or more", array.tolist(), hint)
    return array


def tags(given: Mapping[str, Any], t: int) -> dict[str, Int]:
    """Tags with names, one integer a token."""
    for name in given:
        if not isinstance(name, str) or not name.strip():
            raise InputError("trace.tags", "have non-empty names", name, "Give the tag a name.")
    return {name: per_token(f"trace.tags[{name!r}]", tag, t) for name, tag in given.items()}


def names(given: Mapping[str, Sequence[str]], known: dict[str, Int]) -> dict[str, tuple[str, ...]]:
    """Names of the values of tags, at least as many as are used."""
    result = {}
    for tag, values in given.items():
        field = f"trace.tag_names[{tag!r}]"
        if tag not in known:
            raise InputError(field, f"name one of the tags {sorted(known)}", tag, "Add the tag.")
        result[tag] = _check.names(field, values, what="value")
        if known[tag].size and int(known[tag].max()) >= len(result[tag]):
            rule = f"name the values 0 to {int(known[tag].max())}"
            raise InputError(field, rule, result[tag], "Add the missing names.")
    return result

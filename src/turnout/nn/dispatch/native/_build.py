"""The kernels as a source of `turnout.parts.native`, and the one library of this process."""

from __future__ import annotations

import ctypes
from pathlib import Path

from turnout.parts.native import Source, compiler, once

__all__ = ["VERSION", "compiler", "library", "loaded"]

#: The interface that `_call` speaks; see `turnout_version` in kernels.cpp.
VERSION = 1
_FOLDER = Path(__file__).parent
_COMMON = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
#: Tried in turn: not every compiler knows every flag.
_FLAGS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    ("-fopenmp",),
    (),
)
_STATE: dict[str, ctypes.CDLL | None] = {}


def library() -> ctypes.CDLL | None:
    """The kernels, built if need be; None where they cannot be had or are not wanted."""
    return once("kernels", source, _STATE)


def loaded() -> ctypes.CDLL:
    """The kernels, which are known to be there."""
    found = _STATE.get("kernels") or library()
    assert found is not None
    return found


def source() -> Source:
    return Source(
        name="kernels",
        title="the native kernels",
        main=_FOLDER / "kernels.cpp",
        version=VERSION,
        symbol="turnout_version",
        common=_COMMON,
        flags=_FLAGS,
        typed=_typed,
    )


def _typed(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    found.turnout_plan.argtypes = (pointer, number, number, pointer, pointer)
    found.turnout_plan.restype = number
    for name in ("turnout_forward", "turnout_backward"):
        function = getattr(found, name)
        function.argtypes = (pointer,)
        function.restype = ctypes.c_int
    return found

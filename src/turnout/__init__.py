"""Turnout learns where to send each input, under a budget."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnout._version import __version__

if TYPE_CHECKING:
    from turnout.bench import read
    from turnout.core import Assignment as Assignment
    from turnout.core import Budget as Budget
    from turnout.core import Frontier as Frontier
    from turnout.core import InputError as InputError
    from turnout.core import Outcomes as Outcomes
    from turnout.core import Pool as Pool
    from turnout.core import Trace as Trace
    from turnout.core import TurnoutError as TurnoutError
    from turnout.parts.priced import fit as fit
    from turnout.parts.store import load as load
    from turnout.parts.store import save as save

#: Where each public name lives; nothing is imported before it is asked for.
_HOMES = {
    "Assignment": "turnout.core",
    "Budget": "turnout.core",
    "Frontier": "turnout.core",
    "InputError": "turnout.core",
    "Outcomes": "turnout.core",
    "Pool": "turnout.core",
    "Trace": "turnout.core",
    "TurnoutError": "turnout.core",
    "fit": "turnout.parts.priced",
    "load": "turnout.parts.store",
    "read": "turnout.bench",
    "save": "turnout.parts.store",
}

__all__ = [
    "Assignment",
    "Budget",
    "Frontier",
    "InputError",
    "Outcomes",
    "Pool",
    "Trace",
    "TurnoutError",
    "__version__",
    "fit",
    "load",
    "read",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'turnout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

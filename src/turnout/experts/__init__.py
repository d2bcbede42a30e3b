"""Sends tokens to feed-forward experts.

Gates are the modules beside this one. What works on whole transformers models is in
`turnout.experts.models` and `turnout.experts.surgery` and can be had from here; nothing is imported
before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnout.experts.models.balancing import BiasUpdates as BiasUpdates
    from turnout.experts.models.balancing import bias_updates as bias_updates
    from turnout.experts.models.context import context as context
    from turnout.experts.models.recording import Recorder as Recorder
    from turnout.experts.models.recording import record as record
    from turnout.experts.models.replaying import Replay as Replay
    from turnout.experts.models.replaying import replay as replay
    from turnout.experts.models.saving import load as load
    from turnout.experts.models.saving import save as save
    from turnout.experts.models.sites import Site as Site
    from turnout.experts.models.sites import sites as sites
    from turnout.experts.models.swapping import Handle as Handle
    from turnout.experts.models.swapping import Identity as Identity
    from turnout.experts.models.swapping import swap as swap
    from turnout.experts.surgery import add_experts as add_experts
    from turnout.experts.surgery import least_loaded as least_loaded
    from turnout.experts.surgery import merge_experts as merge_experts
    from turnout.experts.surgery import remove_experts as remove_experts
    from turnout.experts.surgery import upcycle as upcycle

#: Where each public name lives.
_HOMES = {
    "BiasUpdates": "models.balancing",
    "Handle": "models.swapping",
    "Identity": "models.swapping",
    "Recorder": "models.recording",
    "Replay": "models.replaying",
    "Site": "models.sites",
    "add_experts": "surgery",
    "bias_updates": "models.balancing",
    "context": "models.context",
    "least_loaded": "surgery",
    "load": "models.saving",
    "merge_experts": "surgery",
    "record": "models.recording",
    "remove_experts": "surgery",
    "replay": "models.replaying",
    "save": "models.saving",
    "sites": "models.sites",
    "swap": "models.swapping",
    "upcycle": "surgery",
}

__all__ = [
    "BiasUpdates",
    "Handle",
    "Identity",
    "Recorder",
    "Replay",
    "Site",
    "add_experts",
    "bias_updates",
    "context",
    "least_loaded",
    "load",
    "merge_experts",
    "record",
    "remove_experts",
    "replay",
    "save",
    "sites",
    "swap",
    "upcycle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'turnout.experts' has no attribute {name!r}")
    from turnout.core.errors import MissingExtraError

    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "experts")
    return getattr(importlib.import_module(f"turnout.experts.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

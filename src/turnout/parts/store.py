"""Save a fitted router or strategy as a manifest plus arrays; load it elsewhere. No pickle.

A router file is one safetensors file: the arrays by dotted path, and the manifest (JSON) in the
file's metadata, so any safetensors reader can look inside. Whatever is a frozen dataclass of
arrays, numbers, strings, tuples, dicts with string keys and other such dataclasses can be saved;
fields with `init=False` are derived and are made again on loading. Loading only ever calls
dataclasses of this package (or of packages the caller names), and checks the file before that.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout._version import __version__
from turnout.core import Pool, Predictor, Router, RouterFileError, Strategy
from turnout.parts.files import replace_file
from turnout.parts.priced import as_router
from turnout.parts.rounds.playing import as_strategy

__all__ = ["FORMAT", "SavedRouter", "SavedStrategy", "load", "load_strategy", "save"]

#: Version of the file format. A file with a higher number is refused.
FORMAT = 1

_KEY = "turnout"


@dataclass(frozen=True, eq=False, kw_only=True)
class SavedRouter:
    """A router with what is needed to use it elsewhere.

    Parameters
    ----------
    router : Router
        Ready to route.
    pool : Pool
        The destinations it was fitted for.
    fingerprint : str
        Hash of the table it learned from (`Outcomes.fingerprint`).
    method : str
        Catalogue name, or "" where there is none.
    extra : mapping
        JSON-able notes: scores, chosen price, versions.
    """

    router: Router
    pool: Pool
    fingerprint: str = ""
    method: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class SavedStrategy:
    """A strategy with what is needed to use it elsewhere; fields as in `SavedRouter`."""

    strategy: Strategy
    pool: Pool
    fingerprint: str = ""
    method: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def save(
    path: str | Path,
    router: Predictor | Router | Strategy,
    pool: Pool,
    *,
    fingerprint: str = "",
    method: str = "",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a router file; an existing one is replaced whole or not at all.

    Raises
    ------
    RouterFileError
        A field of the router cannot be saved, or the folder cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, NDArray[Any]] = {}
    manifest = {
        "format": FORMAT,
        "turnout": __version__,
        "numpy": np.__version__,
        "method": method,
        "fingerprint": fingerprint,
        "extra": dict(extra or {}),
        "pool": _pack(pool, "pool", arrays),
        "router": _pack(router, "router", arrays),
    }
    payload = to_bytes(arrays, metadata={_KEY: json.dumps(manifest, sort_keys=True)})
    try:
        replace_file(path, payload)
    except OSError as error:
        rule = "be a path that can be written"
        hint = f"{error.strerror or error}. Choose another path."
        raise RouterFileError("router file", rule, str(path), hint) from error


def load(path: str | Path, *, trust: tuple[str, ...] = ()) -> SavedRouter:
    """Read a router file.

    Parameters
    ----------
    path : path
    trust : tuple of str
        Top-level packages, besides this one, whose dataclasses the file may name.

    Raises
    ------
    RouterFileError
        The file is missing, damaged, newer than this version, names an untrusted class, or holds
        a strategy.
    """
    thing, pool, notes = _read(path, trust)
    if not isinstance(thing, Predictor | Router):
        hint = "It asks in several steps: name it in a gateway's [[strategies]], or load_strategy."
        raise RouterFileError("router file", "hold a router", str(path), hint)
    return SavedRouter(router=as_router(thing), pool=pool, **notes)


def load_strategy(path: str | Path, *, trust: tuple[str, ...] = ()) -> SavedStrategy:
    """Read a file that holds a strategy, or a router, which then asks whom it chooses.

    Raises
    ------
    RouterFileError
        As for `load`, strategies excepted.
    """
    thing, pool, notes = _read(path, trust)
    strategy = thing if isinstance(thing, Strategy) else as_strategy(as_router(thing))
    return SavedStrategy(strategy=strategy, pool=pool, **notes)


def _read(
    path: str | Path, trust: tuple[str, ...]
) -> tuple[Predictor | Router | Strategy, Pool, dict[str, Any]]:
    """What a file holds, its pool, and the notes beside them."""
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if not source.is_file():
        hint = "Make one with: turnout fit DATA -o FILE."
        raise RouterFileError("router file", "exist", str(source), hint)
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        manifest = json.loads(metadata[_KEY])
        version = manifest["format"]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        hint = f"It is damaged or something else ({type(error).__name__}). Fit and save it again."
        raise RouterFileError("router file", "be a router file", str(source), hint) from error
    if not isinstance(version, int) or version > FORMAT:
        hint = f"Written by turnout {manifest.get('turnout')}; upgrade this installation."
        raise RouterFileError("router file format", f"be at most {FORMAT}", version, hint)
    allowed = ("turnout", *trust)
    try:
        router = _unpack(manifest["router"], arrays, allowed)
        pool = _unpack(manifest["pool"], arrays, allowed)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        if isinstance(error, RouterFileError):
            raise
        hint = f"{type(error).__name__}: {error}. Fit and save it again."
        raise RouterFileError("router file", "be whole", str(source), hint) from error
    if not isinstance(pool, Pool) or not isinstance(router, Predictor | Router | Strategy):
        hint = "Fit and save it again."
        raise RouterFileError("router file", "hold a router and its pool", str(source), hint)
    notes = {
        "fingerprint": str(manifest.get("fingerprint", "")),
        "method": str(manifest.get("method", "")),
        "extra": manifest.get("extra", {}),
    }
    return router, pool, notes


def _pack(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """JSON for `value`; its arrays go into `arrays` under dotted paths."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.generic):
        return _pack(value.item(), path, arrays)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        arrays[path] = np.ascontiguousarray(value)
        return {"array": path}
    if isinstance(value, tuple | list):
        if all(isinstance(item, str) for item in value):
            return {"tuple": list(value)}
        return {"tuple": [_pack(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _pack(item, f"{path}.{key}", arrays) for key, item in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            item.name: _pack(getattr(value, item.name), f"{path}.{item.name}", arrays)
            for item in dataclasses.fields(value)
            if item.init
        }
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    rule = "hold arrays, numbers, strings, tuples and dataclasses only"
    raise RouterFileError(path, rule, type(value).__name__, "Store plain arrays instead.")


def _unpack(spec: Any, arrays: Mapping[str, NDArray[Any]], allowed: tuple[str, ...]) -> Any:
    if not isinstance(spec, dict):
        return spec
    if "array" in spec:
        return arrays[spec["array"]]
    if "float" in spec:
        return float(spec["float"])
    if "tuple" in spec:
        return tuple(_unpack(item, arrays, allowed) for item in spec["tuple"])
    if "dict" in spec:
        return {key: _unpack(item, arrays, allowed) for key, item in spec["dict"].items()}
    kind = _resolve(spec["class"], allowed)
    return kind(**{key: _unpack(item, arrays, allowed) for key, item in spec["fields"].items()})


def _resolve(name: str, allowed: tuple[str, ...]) -> type:
    """The dataclass a file names, if it may be named."""
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] not in allowed:
        hint = "Pass trust=(package,) to load if you trust the file."
        raise RouterFileError("router class", f"belong to {', '.join(allowed)}", name, hint)
    kind = getattr(importlib.import_module(module), qualname, None)
    if (
        not isinstance(kind, type)
        or not dataclasses.is_dataclass(kind)
        or kind.__module__ != module
    ):
        hint = "Fit and save the router again with this version."
        raise RouterFileError("router class", "be a dataclass of this version", name, hint)
    return kind

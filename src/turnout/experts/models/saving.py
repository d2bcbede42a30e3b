"""Save the gates of a swapped model beside its checkpoint, and put them back. No pickle.

`save_pretrained` writes the stock checkpoint, which any engine reads; what a swap added goes into
two side files: `routing.json` names the recipe of each gate and its values, `routing.safetensors`
holds its weights. Loading only ever makes dataclasses of this package, or of packages that the
caller names, and checks the files before that.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from turnout._version import __version__
from turnout.core.errors import InputError, RouterFileError
from turnout.experts.models.router import GATE, seat_of
from turnout.experts.models.sites import Site, sites
from turnout.experts.models.swapping import Handle, Identity, swap
from turnout.parts.files import replace_file

__all__ = ["FORMAT", "load", "save"]

#: Version of the file format. A file with a higher number is refused.
FORMAT = 1

_JSON, _WEIGHTS = "routing.json", "routing.safetensors"


def save(model: nn.Module, folder: str | Path) -> None:
    """Write `routing.json` and `routing.safetensors`; existing ones are replaced.

    Gates that were not built from a recipe are saved by their weights alone; `load` asks for a
    function that makes them.

    Parameters
    ----------
    model : torch.nn.Module
        A swapped model.
    folder : path
        Where `save_pretrained` wrote, or another that exists.

    Raises
    ------
    InputError
        The model has no gate, or a recipe holds what JSON cannot.
    RouterFileError
        The folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    weights: dict[str, torch.Tensor] = {}
    gates = []
    found = sites(model)
    for site in found:
        gate = site.router._modules.get(GATE)
        seat = seat_of(site.router)
        if gate is None or seat is None:
            continue
        for name, value in gate.state_dict().items():
            weights[f"{site.ordinal}.{name}"] = value.detach().cpu().contiguous().clone()
        recipe = None if seat.recipe is None else _pack(seat.recipe, f"gate {site.ordinal}")
        gates.append({"ordinal": site.ordinal, "recipe": recipe, "look_ahead": seat.look_ahead})
    if not gates:
        hint = "Swap its routers first: turnout.experts.swap(model, gate)."
        raise InputError("model", "have a gate in some layer", None, hint)
    manifest = {
        "format": FORMAT,
        "turnout": __version__,
        "model": type(model).__name__,
        "sites": [{"path": site.path, "d": site.d, "e": site.e} for site in found],
        "gates": gates,
    }
    target = Path(folder)
    try:
        replace_file(target / _WEIGHTS, to_bytes(weights))
        text = json.dumps(manifest, indent=2, sort_keys=True)
        replace_file(target / _JSON, f"{text}\n".encode())
    except OSError as error:
        hint = f"{error.strerror or error}. Choose another."
        raise RouterFileError("folder", "be one that can be written", str(folder), hint) from error


def load(
    model: nn.Module,
    folder: str | Path,
    *,
    gate: Callable[[Site], nn.Module] | None = None,
    trust: tuple[str, ...] = (),
) -> Handle:
    """Put saved gates back into a model fresh from `from_pretrained`.

    Parameters
    ----------
    model : torch.nn.Module
        Not swapped.
    folder : path
    gate : callable, optional
        Makes the gates that were not built from a recipe.
    trust : tuple of str
        Top-level packages, besides this one, whose recipes the file may name.

    Returns
    -------
    Handle

    Raises
    ------
    RouterFileError
        The files are missing, damaged, newer than this version, name an untrusted class, or are of
        a model with other layers.
    """
    manifest, weights = _read(Path(folder))
    found = sites(model)
    shapes = [{"d": site.d, "e": site.e} for site in found]
    saved = [{"d": one.get("d"), "e": one.get("e")} for one in manifest["sites"]]
    if shapes != saved:
        rule = f"be of a model with these layers: {shapes}"
        raise RouterFileError(_JSON, rule, saved, "Load it into the model it was saved from.")
    wanted: dict[int, Any] = {}
    ahead = False
    for one in manifest["gates"]:
        recipe, ordinal = one["recipe"], int(one["ordinal"])
        if recipe is None and gate is None:
            hint = "Pass gate=, the function that was swapped in."
            raise RouterFileError(_JSON, "name a recipe", f"none for layer {ordinal}", hint)
        wanted[ordinal] = gate if recipe is None else _unpack(recipe, ("turnout", *trust))
        ahead = ahead or bool(one["look_ahead"])
    handle = swap(model, wanted or Identity(), init="fresh", look_ahead=ahead)
    try:
        for ordinal, made in handle.gates.items():
            prefix = f"{ordinal}."
            state = {
                name[len(prefix) :]: value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
            made.load_state_dict(state)
    except RuntimeError as error:
        handle.restore()
        hint = "The files do not belong together. Save them again."
        raise RouterFileError(_WEIGHTS, "fit the gates", str(error)[:200], hint) from error
    return handle


def _read(folder: Path) -> tuple[dict[str, Any], Mapping[str, torch.Tensor]]:
    """The two files, looked at."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        manifest = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        version, fields = manifest["format"], (manifest["sites"], manifest["gates"])
        if not isinstance(version, int) or not all(isinstance(one, list) for one in fields):
            raise TypeError("a field is of another type")
        if version > FORMAT:
            hint = f"Written by turnout {manifest.get('turnout')}; upgrade this installation."
            raise RouterFileError(f"{_JSON} format", f"be at most {FORMAT}", version, hint)
        weights: dict[str, torch.Tensor] = load_file(folder / _WEIGHTS)
    except FileNotFoundError as error:
        hint = "Make one with: turnout.experts.save(model, folder)."
        raise RouterFileError(str(folder), f"hold {_JSON} and {_WEIGHTS}", None, hint) from error
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        hint = f"It is damaged or something else ({type(error).__name__}). Save it again."
        raise RouterFileError(str(folder), "hold saved gates", _JSON, hint) from error
    return manifest, weights


def _pack(value: Any, where: str) -> Any:
    """A recipe as JSON: its class, and the fields it was made with."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            one.name: _pack(getattr(value, one.name), f"{where}.{one.name}")
            for one in dataclasses.fields(value)
            if one.init
        }
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    if isinstance(value, tuple | list):
        return [_pack(one, where) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: _pack(one, where) for key, one in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    hint = "Hold numbers, text, tuples, mappings and dataclasses of them only."
    raise InputError(where, "be something JSON can hold", type(value).__name__, hint)


def _unpack(packed: Any, allowed: tuple[str, ...]) -> Any:
    """What `_pack` packed; sequences come back as tuples."""
    if isinstance(packed, list):
        return tuple(_unpack(one, allowed) for one in packed)
    if not isinstance(packed, dict):
        return packed
    if "mapping" in packed:
        return {key: _unpack(one, allowed) for key, one in packed["mapping"].items()}
    name = str(packed.get("class"))
    module, _, attribute = name.partition(":")
    if module.split(".")[0] not in allowed:
        hint = "Name its package in trust=, if you trust it."
        raise RouterFileError(_JSON, f"name classes of {', '.join(allowed)} only", name, hint)
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        hint = "Install the version it was saved with."
        raise RouterFileError(_JSON, "name classes that exist", name, hint) from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise RouterFileError(_JSON, "name dataclasses", name, "Save it again.")
    try:
        fields = {key: _unpack(one, allowed) for key, one in packed["fields"].items()}
        return kind(**fields)
    except (TypeError, KeyError, AttributeError, InputError) as error:
        hint = f"{type(error).__name__}: {error}. Save it again."
        raise RouterFileError(_JSON, f"fit the fields of {name}", packed, hint) from error

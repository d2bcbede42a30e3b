"""Swap the routers of a transformers model for gates, and back.

::

    with swap(model, softmax_topk.Recipe(k=4)) as handle:
        model(**batch)                     every layer asks its gate
    model(**batch)                         as it was
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.experts.models.context import context
from turnout.experts.models.hooks import KeepAttention, drop, heed, ignore, release, seated
from turnout.experts.models.router import GATE, seat_of
from turnout.experts.models.sites import Seat, Site, sites
from turnout.experts.models.starting import start, weight_dtype

__all__ = ["Handle", "Identity", "swap"]


@dataclass(frozen=True)
class Identity:
    """Native routing, kept as it is and only observed."""


class Handle:
    """A swap that can be taken back; also a context manager that does.

    Parameters
    ----------
    model : torch.nn.Module
    layers : tuple of int, optional
        Ordinals of the sites it took part in; those with a gate where not given, as for a copy of a
        swapped model.
    copied : tuple of int
        Ordinals whose gate starts from the native router's rows.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: tuple[int, ...] | None = None,
        *,
        copied: tuple[int, ...] = (),
    ) -> None:
        self.model = model
        if layers is None:
            found = sites(model)
            layers = tuple(site.ordinal for site in found if GATE in site.router._modules)
        self.layers = layers
        self.copied = copied
        self._active = True

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of this swap."""
        return tuple(site for site in sites(self.model) if site.ordinal in self.layers)

    @property
    def gates(self) -> dict[int, nn.Module]:
        """Ordinal -> gate, where there is one."""
        return {
            site.ordinal: gate
            for site in self.sites
            if isinstance(gate := site.router._modules.get(GATE), nn.Module)
        }

    def tags(self, **tags: Any) -> AbstractContextManager[None]:
        """Tell the gates more for the forwards inside, see `turnout.experts.context`."""
        return context(**tags)

    def restore(self) -> None:
        """Give the model its own routers back; a second call does nothing."""
        if not self._active:
            return
        self._active = False
        for site in self.sites:
            seat = seat_of(site.router)
            if seat is not None and GATE in site.router._modules:
                heed(self.model, site)
                _empty(site, seat)
        if not any(GATE in site.router._modules for site in sites(self.model)):
            _unsilence(self.model)
        release(self.model)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


def swap(
    model: nn.Module,
    gate: Any,
    *,
    layers: Any = None,
    generator: torch.Generator | None = None,
    init: Literal["native", "fresh"] = "native",
    look_ahead: bool = False,
) -> Handle:
    """Let gates decide in the mixture-of-experts layers of a transformers model.

    The routers get a subclass of their own class and the gate as a submodule, so that it is
    trained, moved and saved with the model's state; `handle.restore()` takes everything back.
    Masked tokens are sent nowhere.

    transformers' own balance loss recomputes a softmax and the configuration's k from the logits:
    of another gate than this one. Its coefficient is therefore 0 while gates are in place; the
    losses of `turnout.nn.balance` read `record(model).log` instead.

    Parameters
    ----------
    model : torch.nn.Module
        Any model with mixture-of-experts layers, also inside an adapter library's wrapper.
    gate : GateRecipe, callable, mapping or Identity
        A recipe, built for each layer; a function of the `Site` that answers with a gate; a
        mapping of site ordinals to either; or `Identity()`.
    layers : sequence of int, optional
        Ordinals of the sites; all where not given.
    generator : torch.Generator, optional
        Draws the first weights; seed 0 where not given.
    init : {"native", "fresh"}
        Whether a linear scorer starts from the rows of the native router, and a balance bias from
        the native bias, where the shapes match and the native router is a linear map.
    look_ahead : bool
        Allow gates whose choice depends on later tokens in a model that predicts the next one.

    Returns
    -------
    Handle

    Raises
    ------
    InputError
        No site, an unknown layer, a gate already in place, a gate of another number of experts,
        that looks ahead unasked, or that needs attention weights which the kernel hides.
    """
    if init not in ("native", "fresh"):
        raise InputError("init", "be 'native' or 'fresh'", init, "Choose one.")
    found = sites(model)
    chosen = _chosen(found, gate, layers)
    for site in chosen:
        if GATE in site.router._modules:
            hint = "Call restore() on the handle of the swap before."
            raise InputError(f"layer {site.ordinal}", "have no gate yet", site.path, hint)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    built: list[tuple[Site, object | None, nn.Module]] = []
    copied: list[int] = []
    for site in chosen:
        wanted = gate[site.ordinal] if isinstance(gate, Mapping) else gate
        if isinstance(wanted, Identity):
            continue
        recipe, made = _built(wanted, site, generator)
        _check_gate(made, site, look_ahead)
        if init == "native" and start(made, site):
            copied.append(site.ordinal)
        place = next(site.router.parameters()).device
        built.append((site, recipe, made.to(place)))
    seated(model)
    for site, recipe, made in built:
        _put(model, site, recipe, made, look_ahead)
    if built:
        _silence(model)
    return Handle(model, tuple(site.ordinal for site in chosen), copied=tuple(copied))


def _chosen(found: tuple[Site, ...], gate: Any, layers: Any) -> list[Site]:
    ordinals = [site.ordinal for site in found]
    if isinstance(gate, Mapping):
        if layers is not None:
            hint = "The mapping names the layers."
            raise InputError("layers", "not be given beside a mapping of gates", layers, hint)
        layers = list(gate)
    if layers is None:
        return list(found)
    wrong = [layer for layer in layers if layer not in ordinals]
    if wrong or len(set(layers)) != len(layers):
        rule = f"be among the ordinals 0 to {len(found) - 1} of the sites, each once"
        raise InputError("layers", rule, list(layers), "See turnout.experts.sites(model).")
    return [site for site in found if site.ordinal in layers]


def _built(wanted: Any, site: Site, generator: torch.Generator) -> tuple[object | None, nn.Module]:
    """A recipe and the gate built from it, or None and the gate a function answered with."""
    if isinstance(wanted, type):
        hint = "Make an instance of the recipe."
        raise InputError("gate", "be a recipe or a function of the site", wanted.__name__, hint)
    build = getattr(wanted, "build", None)
    if build is not None:
        made = build(site.d, site.e, generator=generator)
        recipe: object | None = wanted
    elif callable(wanted) and not isinstance(wanted, nn.Module):
        made, recipe = wanted(site), None
    else:
        rule = "be a recipe, a function of the site, a mapping of them, or Identity()"
        hint = "A gate belongs to one layer: pass a mapping, or a function that makes one."
        raise InputError("gate", rule, type(wanted).__name__, hint)
    if not isinstance(made, nn.Module):
        hint = "See turnout.nn.gates.Gating."
        raise InputError("gate", "be a torch.nn.Module", type(made).__name__, hint)
    return recipe, made


def _check_gate(made: Any, site: Site, look_ahead: bool) -> None:
    """Refuse what cannot work in this place before anything is changed."""
    where = f"gate of layer {site.layer}"
    for name in ("e", "causal_safe", "needs"):
        if not hasattr(made, name):
            raise InputError(where, f"say `{name}`", type(made).__name__, "See Gating.")
    if made.e != site.e:
        rule = f"know the {site.e} experts of the layer"
        raise InputError(where, rule, made.e, "Build the gate for as many.")
    if site.causal and not made.causal_safe and not look_ahead:
        rule = "be causal-safe in a model that predicts the next token"
        hint = (
            "It lets a token's route depend on later ones. Choose another gate, or allow it in "
            "words: look_ahead=True."
        )
        raise InputError(where, rule, type(made).__name__, hint)
    if "attention" in made.needs:
        config = getattr(site.attention, "config", None)
        kernel = getattr(config, "_attn_implementation", None)
        if site.attention is None or kernel != "eager":
            rule = "be 'eager' for a gate that reads attention weights"
            hint = "Fused kernels hide them: model.set_attn_implementation('eager')."
            raise InputError("attn_implementation", rule, kernel, hint)


def _put(
    model: nn.Module, site: Site, recipe: object | None, made: nn.Module, look_ahead: bool
) -> None:
    """Register a gate in its router."""
    seat = seat_of(site.router)
    assert seat is not None
    seat.recipe, seat.look_ahead = recipe, look_ahead
    seat.weight_dtype = weight_dtype(site, seat)
    if seat.skips:
        seat.was_parallel = bool(site.experts._is_expert_parallel)  # type: ignore[union-attr]
        site.experts._is_expert_parallel = True  # type: ignore[union-attr]
    made.train(site.router.training)
    site.router.add_module(GATE, made)
    if "attention" in made.needs:  # type: ignore[operator]
        assert site.attention is not None
        site.attention.register_forward_hook(KeepAttention(seat))
    ignore(model, site, made)


def _empty(site: Site, seat: Seat) -> None:
    """Take a gate out of its router."""
    del site.router._modules[GATE]
    seat.recipe, seat.look_ahead, seat.weight_dtype = None, False, None
    if seat.was_parallel is not None:
        site.experts._is_expert_parallel = seat.was_parallel  # type: ignore[union-attr]
        seat.was_parallel = None
    if site.attention is not None:
        drop(site.attention._forward_hooks, KeepAttention)


#: Where a module keeps the coefficient of its balance loss while gates are in place.
_KEPT = "_turnout_router_aux_loss_coef"


def _silence(model: nn.Module) -> None:
    """Set the coefficient of transformers' own balance loss to 0."""
    for module in model.modules():
        value = module.__dict__.get("router_aux_loss_coef")
        if isinstance(value, float | int) and _KEPT not in module.__dict__:
            setattr(module, _KEPT, value)
            module.router_aux_loss_coef = 0.0  # type: ignore[assignment]


def _unsilence(model: nn.Module) -> None:
    """Undo `_silence`."""
    for module in model.modules():
        if _KEPT in module.__dict__:
            module.router_aux_loss_coef = module.__dict__.pop(_KEPT)

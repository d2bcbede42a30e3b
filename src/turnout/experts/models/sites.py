"""Sites: the mixture-of-experts layers of a model, found by what they are made of.

A layer is a module that holds experts under `experts` and a router under `gate` or `router`, the
contract of transformers version 5. What differs from family to family is in `layouts` and in the
names below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.experts.models.layouts import Layout, layout_of

__all__ = [
    "BIASES",
    "CHOICES",
    "COUNTS",
    "FIXED",
    "OTHER_BLOCKS",
    "ROUTERS",
    "SHARED",
    "UNSKIPPING",
    "Seat",
    "Site",
    "core_of",
    "native_class",
    "rows_of",
    "sites",
]

#: Attributes under which a block keeps its router.
ROUTERS = ("gate", "router")
#: Attributes that say how many experts there are, on the experts or the router.
COUNTS = ("total_experts", "num_experts", "num_local_experts", "n_routed_experts")
#: Attributes that say how many experts a token gets, on the router, the block or a configuration.
CHOICES = ("top_k", "num_experts_per_tok", "top_k_experts", "moe_top_k", "moe_topk", "moe_k")
#: Names of a bias that is added for the choice alone.
BIASES = ("e_score_correction_bias", "expert_bias", "balancing_biases")
#: Names of experts every token has.
SHARED = ("shared_experts", "shared_expert", "shared_mlp")
#: Experts that carry the switch of `use_experts_implementation` but whose loop knows no number e.
UNSKIPPING = ("GptOssExperts", "NemotronHExperts", "OpenAIPrivacyFilterExperts")
#: Routers whose number of choices is written nowhere.
FIXED = {"SwitchTransformersTop1Router": 1, "NllbMoeTop2Router": 2}
#: Routers that are no mixture of feed-forward experts: JetMoE's attention heads.
OTHER_BLOCKS = ("JetMoeMoA",)


@dataclass(eq=False, kw_only=True)
class Seat:
    """What a swapped router knows of itself; travels with the model when it is copied.

    Parameters
    ----------
    ordinal, layer : int
        Among the sites of the model; in the whole network.
    tower : str
        Path of the pretrained model that reads the tokens.
    native : type
        The router's own class.
    layout : Layout
    d, e, k : int
        Width, experts, choices a token of the native router.
    causal : bool
        The tower predicts each token from those before it.
    skips : bool
        The experts may be given the number e.
    board : object
        What the routers of one model share.
    recipe : object, optional
        What the gate was built from; None where only a module was given.
    look_ahead : bool
        A gate that sees later tokens was allowed.
    weight_dtype : torch.dtype, optional
        In which the native router weighs; that of the hidden states where not known.
    """

    ordinal: int
    layer: int
    tower: str
    native: type[nn.Module]
    d: int
    e: int
    k: int
    causal: bool
    skips: bool
    board: Any = None
    recipe: object | None = None
    look_ahead: bool = False
    weight_dtype: torch.dtype | None = None
    was_parallel: bool | None = None

    @property
    def layout(self) -> Layout:
        """How the native router speaks."""
        return layout_of(self.native)


@dataclass(frozen=True, eq=False, kw_only=True)
class Site:
    """One mixture-of-experts layer of a model.

    Parameters
    ----------
    ordinal : int
        Among the sites, from 0.
    layer : int
        Number of the layer in the whole network, as its path has it.
    path : str
        Of the block in the model.
    tower : str
        Path of the pretrained model that reads its tokens; "" is the model itself.
    family : str
        Name of the module its class is from, such as "mixtral".
    layout : str
        How its router answers, see `turnout.experts.models.layouts`.
    d, e, k : int
        Width of the hidden states, experts, experts a token.
    block, router : torch.nn.Module
    experts : torch.nn.Module, optional
        None where the block has no such module (JetMoE).
    bias_owner : torch.nn.Module, optional
    bias_name : str
        Where the correction bias is; "" = the family has none.
    shared : bool
        Whether there are experts every token has.
    causal : bool
        Whether the tower predicts each token from those before it.
    """

    ordinal: int
    layer: int
    path: str
    tower: str
    family: str
    layout: str
    d: int
    e: int
    k: int
    block: nn.Module = field(repr=False)
    router: nn.Module = field(repr=False)
    experts: nn.Module | None = field(repr=False)
    bias_owner: nn.Module | None = field(repr=False)
    bias_name: str
    shared: bool
    causal: bool

    @property
    def bias(self) -> torch.Tensor | None:
        """The correction bias as it is now, or None."""
        if self.bias_owner is None:
            return None
        value: torch.Tensor = getattr(self.bias_owner, self.bias_name)
        return value

    @property
    def attention(self) -> nn.Module | None:
        """The attention of the same layer, where there is one."""
        return self._attention

    _attention: nn.Module | None = field(default=None, repr=False)


def sites(model: nn.Module) -> tuple[Site, ...]:
    """Every mixture-of-experts layer of a model, in the order of its modules.

    Layers in which experts are attention heads (JetMoE's first half) are left alone.

    Raises
    ------
    InputError
        There is none, or a block of an unknown kind: the message says what was looked for and seen.
    """
    named = dict(model.named_modules())
    found: list[Site] = []
    for path, block in named.items():
        if type(block).__name__ in OTHER_BLOCKS:
            continue
        router = _router_of(block)
        if router is not None:
            found.append(_site(len(found), path, block, router, model, named))
    if not found:
        rule = "hold blocks with `experts` and a router under `gate` or `router`"
        seen = sorted({type(module).__name__ for module in named.values()})
        hint = "Only mixture-of-experts models of transformers 5 can be swapped."
        raise InputError(f"model {type(model).__name__}", rule, seen, hint)
    return tuple(found)


def core_of(module: nn.Module) -> nn.Module:
    """The module inside the wrappers that adapter libraries put around it."""
    while isinstance(inner := getattr(module, "base_layer", None), nn.Module):
        module = inner
    return module


def native_class(router: nn.Module) -> type[nn.Module]:
    """The router's own class, also while it is swapped."""
    seat = getattr(router, "turnout_seat", None)
    kind: type[nn.Module] = type(router) if seat is None else seat.native
    return kind


def _router_of(block: nn.Module) -> nn.Module | None:
    """The router of a block, or None where the module is no such block."""
    if not isinstance(getattr(block, "experts", None), nn.Module):
        inner = getattr(block, "router", None)
        if not (isinstance(inner, nn.Module) and hasattr(block, "input_linear")):
            return None
        return core_of(inner)
    for name in ROUTERS:
        inner = getattr(block, name, None)
        if isinstance(inner, nn.Module):
            return core_of(inner)
    return None


def _site(
    ordinal: int,
    path: str,
    block: nn.Module,
    router: nn.Module,
    model: nn.Module,
    named: dict[str, nn.Module],
) -> Site:
    experts = getattr(block, "experts", None)
    experts = core_of(experts) if isinstance(experts, nn.Module) else None
    native = native_class(router)
    tower = _tower(path, named)
    bias_owner, bias_name = _bias(block, router)
    weight = rows_of(router)
    holders = [experts, router, block]
    e = _number(holders, COUNTS)
    if e is None and weight is not None:
        e = int(weight.shape[0])
    configs = [getattr(holder, "config", None) for holder in (router, block, named[tower])]
    k = FIXED.get(native.__name__) or _number([router, block, *configs], CHOICES)
    d = _width(router, block, weight)
    if e is None or k is None or d is None:
        rule = f"say its experts ({', '.join(COUNTS)}), choices ({', '.join(CHOICES)}) and width"
        seen = sorted(name for name in vars(router) if not name.startswith("_"))
        hint = "This family is not known. Please report it."
        raise InputError(f"block {path!r} of {type(block).__name__}", rule, seen, hint)
    attention, causal = _surroundings(path, named, tower)
    return Site(
        ordinal=ordinal,
        layer=_layer(path),
        path=path,
        tower=tower,
        family=native.__module__.rpartition("modeling_")[2] or native.__module__,
        layout=layout_of(native).name,
        d=d,
        e=e,
        k=k,
        block=block,
        router=router,
        experts=experts,
        bias_owner=bias_owner,
        bias_name=bias_name,
        shared=any(isinstance(getattr(block, name, None), nn.Module) for name in SHARED),
        causal=causal,
        _attention=attention,
    )


def _tower(path: str, named: dict[str, nn.Module]) -> str:
    """Path of the nearest pretrained model above a block; the whole model where there is none."""
    from transformers import PreTrainedModel

    parts = path.split(".")
    for length in range(len(parts) - 1, -1, -1):
        above = ".".join(parts[:length])
        if isinstance(named.get(above), PreTrainedModel):
            return above
    return ""


def _layer(path: str) -> int:
    """Number of the layer in a path: the first number in it."""
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", path)
    return int(numbers[0]) if numbers else 0


def _number(holders: list[Any], names: tuple[str, ...]) -> int | None:
    for holder in holders:
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def rows_of(router: nn.Module) -> torch.Tensor | None:
    """The router's matrix, one row an expert, where it has one and only one."""
    foreign = "turnout_gate."
    matrices = [
        parameter
        for name, parameter in router.named_parameters()
        if parameter.ndim == 2 and not name.startswith(foreign)
    ]
    return matrices[0] if len(matrices) == 1 else None


def _width(router: nn.Module, block: nn.Module, weight: torch.Tensor | None) -> int | None:
    if weight is not None:
        return int(weight.shape[1])
    names = ("hidden_dim", "hidden_size", "input_size")
    configs = [getattr(router, "config", None), getattr(block, "config", None)]
    return _number([router, block, *configs], names)


def _bias(block: nn.Module, router: nn.Module) -> tuple[nn.Module | None, str]:
    """Who owns the correction bias, and its name there."""
    for owner in (router, block, *_below(router)):
        for name in BIASES:
            if isinstance(getattr(owner, name, None), torch.Tensor):
                return owner, name
    return None, ""


def _below(router: nn.Module) -> Iterator[nn.Module]:
    for name, child in router.named_children():
        if name != "turnout_gate":
            yield child


def _surroundings(
    path: str, named: dict[str, nn.Module], tower: str
) -> tuple[nn.Module | None, bool]:
    """Attention of the same layer, and whether the tower is causal."""
    own = named[tower]
    parts = path.split(".")
    attention = None
    for length in range(len(parts) - 1, len(tower.split(".")) if tower else 0, -1):
        above = named[".".join(parts[:length])]
        if not isinstance(above, nn.ModuleList):
            attention = next(_attentions(above), None)
        if attention is not None:
            break
    decoder = getattr(own, "is_decoder", None)
    if isinstance(decoder, bool):
        return attention, decoder
    flags = [module.is_causal for module in _attentions(own) if hasattr(module, "is_causal")]
    return attention, any(flags) or not flags


def _attentions(module: nn.Module) -> Iterator[nn.Module]:
    """Self-attention modules in a module."""
    for name, child in module.named_modules():
        kind = type(child).__name__
        crossed = "cross" in f"{kind}{name}".lower() or "encoder_attn" in name
        if kind.endswith("Attention") and hasattr(child, "config") and not crossed:
            yield child

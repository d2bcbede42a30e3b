"""The operating table: which layers can be changed, their tensors, and numbers that must follow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.experts.models.sites import CHOICES, COUNTS, Site, native_class, rows_of, sites

T = TypeVar("T")
P = TypeVar("P")

#: Routers that choose by a procedure of their own for two experts.
_SET_CHOICES = ("PhimoeTopKRouter",)
#: Groups of experts to which a router limits its choice.
_GROUPS = ("num_group", "n_group", "num_expert_group")


def operable(model: nn.Module) -> tuple[Site, ...]:
    """The mixture-of-experts layers of a model, all of one size and of a kind that can be changed.

    Raises
    ------
    InputError
        A layer is of another kind: swapped, wrapped by an adapter, limited to groups of experts, of
        another size than the rest, or with experts or router not stacked along the first axis.
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        hint = "Unwrap it first."
        raise InputError("model", "be a model of transformers", type(model).__name__, hint)
    found = sites(model)
    for site in found:
        _check_site(site, found[0])
    return found


def _check_site(site: Site, first: Site) -> None:
    where = f"layer {site.path!r}"
    if native_class(site.router) is not type(site.router):
        rule, hint = "have its own router", "Restore the swap first, and swap again afterwards."
        raise InputError(where, rule, "a swapped gate", hint)
    if (site.e, site.k) != (first.e, first.k):
        rule = f"have {first.e} experts and {first.k} choices, as the first has"
        hint = "The configuration has one number for all layers."
        raise InputError(where, rule, (site.e, site.k), hint)
    children = {id(child) for child in site.block.children()}
    if site.experts is None or not {id(site.experts), id(site.router)} <= children:
        rule = "hold experts and router themselves"
        raise InputError(where, rule, "wrapped ones", "Merge the adapter into the model first.")
    for name in _GROUPS:
        groups = getattr(site.router, name, None)
        if isinstance(groups, int) and groups > 1:
            rule = "choose among all experts"
            hint = "Another number of experts would break its groups."
            raise InputError(where, rule, f"{groups} groups of them", hint)
    weight = rows_of(site.router)
    stacked = all(len(tensor) == site.e for _, _, tensor in _own(site.experts) if tensor.ndim)
    stacked &= site.bias is None or tuple(site.bias.shape) == (site.e,)
    tables = [t for _, _, t in _own(site.router) if not t.is_floating_point()]
    plain = weight is not None and len(weight) == site.e and not tables
    if not (site.layout == "triple" and plain and stacked):
        rule = "have stacked experts and a router of one matrix, a row for each, and no tables"
        raise InputError(where, rule, site.family, "This family cannot be changed yet.")


def picks_of(
    found: Sequence[Site],
    which: Sequence[T] | Mapping[int, Sequence[T]],
    name: str,
    checked: Callable[[Sequence[T]], P],
) -> list[P]:
    """What is meant in each layer: the same everywhere, or by ordinal of the layer; checked.

    Raises
    ------
    InputError
        A layer is missing, or `checked` refuses.
    """
    if isinstance(which, Mapping):
        ordinals = [site.ordinal for site in found]
        if sorted(which) != ordinals:
            raise InputError(
                name, f"name the layers {ordinals}", sorted(which), "Name every layer."
            )
        return [checked(which[ordinal]) for ordinal in ordinals]
    return [checked(which) for _ in found]


def numbers(name: str, values: Sequence[int], e: int) -> list[int]:
    """Different experts in 0 ... e - 1.

    Raises
    ------
    InputError
        One lies outside, or comes twice.
    """
    found = [_check.integer(name, value, low=0, high=e - 1) for value in values]
    if len(set(found)) != len(found):
        raise InputError(name, "name an expert once", found, "Drop the repeated one.")
    return found


def same_number(counts: Sequence[int], name: str) -> int:
    """The number that all layers share.

    Raises
    ------
    InputError
        They differ.
    """
    if len(set(counts)) != 1:
        rule = "be equally many in every layer"
        hint = "The configuration has one number for all layers."
        raise InputError(name, rule, list(counts), hint)
    return counts[0]


def tensors(site: Site) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """Every tensor of a layer that has a row for each expert: (owner, name, tensor)."""
    assert site.experts is not None
    yield from (entry for entry in _own(site.experts) if entry[2].ndim)
    for owner, name, tensor in _own(site.router):
        if tensor.ndim and len(tensor) == site.e:
            yield owner, name, tensor
    if site.bias_owner is not None and site.bias_owner is not site.router:
        bias = site.bias
        assert bias is not None
        yield site.bias_owner, site.bias_name, bias


def _own(module: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """Parameters and buffers of a module and those below."""
    for owner in module.modules():
        for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is not None:
                yield owner, name, tensor


def put(owner: nn.Module, name: str, value: torch.Tensor) -> None:
    """A new tensor in the place of an old one, of the same kind."""
    old = getattr(owner, name)
    value = value.detach().to(old.dtype).contiguous()
    if isinstance(old, nn.Parameter):
        setattr(owner, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(owner, name, value)


def prepared(model: nn.Module, found: Sequence[Site], e: int, k: int) -> nn.Module:
    """The same model with other numbers of experts and choices, without any weights.

    It is made from a copy of the configuration with the new numbers, so that whatever the family
    derives from them is right; shapes and numbers of every layer are checked before a weight is
    touched.

    Raises
    ------
    InputError
        The configuration does not tell the numbers in a field known here, or the family allows no
        other number of choices.
    """
    old_e, old_k, family = found[0].e, found[0].k, found[0].family
    if k != old_k and native_class(found[0].router).__name__ in _SET_CHOICES:
        raise InputError("k", f"stay {old_k}: {family} knows no other", k, "Leave k out.")
    root: Any = model.config
    memo: dict[int, Any] = {}
    config = copy.deepcopy(root, memo)
    named = dict(model.named_modules())
    for tower in {site.tower for site in found}:
        own: Any = named[tower]
        _write(memo.get(id(own.config), config), old_e, e, old_k, k)
    kind: Any = type(model)
    # Nothing is drawn on this device, but constructors may draw from the global state all the same.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        fresh: nn.Module = kind(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in fresh.state_dict().items()}
    rows = {(id(owner), name) for site in found for owner, name, _ in tensors(site)}
    wanted: dict[str, tuple[int, ...]] = {}
    for path, module in named.items():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                shape = tuple(tensor.shape)
                full = f"{path}.{name}" if path else name
                wanted[full] = (e, *shape[1:]) if (id(module), name) in rows else shape
    wrong = [name for name, shape in shapes.items() if wanted.get(name) != shape]
    numbers_now = {(site.e, site.k) for site in sites(fresh)}
    if wrong or numbers_now != {(e, k)}:
        rule = f"tell that there are {old_e} experts and {old_k} choices in fields known here"
        hint = "This family cannot be changed yet."
        raise InputError(f"configuration of {family}", rule, wrong[:3] or numbers_now, hint)
    return fresh


def adopt(model: nn.Module, fresh: nn.Module) -> None:
    """Take over the configuration and every whole number that the modules of `fresh` hold."""
    given = dict(fresh.named_modules())
    for path, module in model.named_modules():
        for name, value in vars(given[path]).items():
            old = vars(module).get(name)
            whole = isinstance(value, int) and isinstance(old, int) and not isinstance(value, bool)
            if name == "config" or (whole and value != old):
                setattr(module, name, value)


def _write(config: Any, old_e: int, e: int, old_k: int, k: int) -> None:
    """Set the fields of a configuration that tell the numbers.

    Fields are known by name; where a family has its own name for the number of experts, it is one
    that holds it and speaks of experts. What is not found here is found missing afterwards.
    """
    fields = {**vars(config), **getattr(config, "attribute_map", {})}
    other = ("per_tok", "shared", "group", "size", "layer", "first", "null", "zero")
    counts = {name for name in COUNTS if name in fields} or {
        name for name in fields if "expert" in name and not any(part in name for part in other)
    }
    choices = {name for name in CHOICES if name in fields}
    stale = [(name, e) for name in counts if getattr(config, name, None) == old_e]
    stale += [(name, k) for name in choices if getattr(config, name, None) == old_k]
    for name, new in stale:
        setattr(config, name, new)


def draws(name: str, noise: float, generator: torch.Generator | None) -> torch.Generator | None:
    """The generator noise is drawn from; None where there is no noise.

    Raises
    ------
    InputError
        The noise is negative, or has nothing to be drawn from.
    """
    if not _check.number(name, noise, low=0.0):
        return None
    if generator is None:
        hint = "Pass torch.Generator().manual_seed(0)."
        raise InputError("generator", "be given where noise is added", None, hint)
    return generator


def shaken(value: torch.Tensor, noise: float, generator: torch.Generator | None) -> torch.Tensor:
    """`value` with normal noise of `noise` times its own deviation, or as it is."""
    if generator is None or not value.numel():
        return value
    drawn = torch.randn(value.shape, generator=generator, device=generator.device)
    size = noise * value.float().std(correction=0)
    return (value.float() + size * drawn.to(value.device)).to(value.dtype)

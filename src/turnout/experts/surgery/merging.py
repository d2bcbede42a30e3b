"""Experts merged: several become their weighted mean, neurons brought into line first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.experts.models.sites import Site
from turnout.experts.surgery import _table
from turnout.experts.surgery.resizing import _choices

__all__ = ["merge_experts"]

_MATRICES = ("gate_up_proj", "down_proj")
_BIASES = ("gate_up_proj_bias", "down_proj_bias")


@torch.no_grad()
def merge_experts(
    model: nn.Module,
    groups: Sequence[Sequence[int]] | Mapping[int, Sequence[Sequence[int]]],
    *,
    load: Any = None,
    align: bool = True,
    k: int | None = None,
) -> nn.Module:
    """Replace each group of experts by one, the mean of its members weighted by load.

    Li et al., "Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing Policy",
    2023, arXiv:2310.01334, section 3: members are permuted to match the most used one, then
    averaged by how often they are used. Here the router rows and balance biases are averaged in the
    same way; the paper keeps all rows and sends them to the merged expert.

    The inner neurons of an expert can be in any order. `align` finds, by the Hungarian method, the
    order in which the rows of gate and up and the columns of down agree best with the group's most
    used member. Copies made by `add_experts` with k grown in proportion are merged back without
    loss, whatever the order of their neurons.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    groups : sequence of sequences of int, or mapping of int to such
        Experts to merge, each in one group at most; the others stay. The merged expert takes the
        place of the group's lowest number. Equally many must be left in every layer.
    load : array (l, e), optional
        Weight of each expert, >= 0, such as `Trace.load()`; equal where not given, and in a group
        that has none.
    align : bool
        Permute the neurons first.
    k : int, optional
        New number of choices a token; unchanged where not given.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    InputError
        A group is wrong, the load has another shape, fewer than k experts would be left, or the
        model cannot be changed, see the message.
    """
    found = _table.operable(model)
    e = found[0].e
    picks = _table.picks_of(found, groups, "groups", lambda some: _partition(some, e))
    new_e = _table.same_number([len(pick) for pick in picks], "groups")
    new_k = _choices(k, found[0].k, new_e)
    shares = np.ones((len(found), e)) if load is None else np.asarray(load, dtype=np.float64)
    shares = np.asarray(_check.floats("load", shares, (len(found), e), low=0.0))
    if align:
        for site in found:
            _check_neurons(site)
    fresh = _table.prepared(model, found, new_e, new_k)
    for site, pick, share in zip(found, picks, shares, strict=True):
        _merge(site, pick, share, align)
    _table.adopt(model, fresh)
    return model


def _partition(groups: Sequence[Sequence[int]], e: int) -> list[list[int]]:
    """All experts as groups, those named and those alone, ordered by their lowest number."""
    named = [_table.numbers("groups", sorted(group), e) for group in groups]
    flat = _table.numbers("groups", [j for group in named for j in group], e)
    if not all(named):
        raise InputError("groups", "hold an expert each", named, "Drop the empty group.")
    return sorted([*named, *([j] for j in range(e) if j not in flat)])


def _merge(site: Site, groups: list[list[int]], share: Any, align: bool) -> None:
    """Merge the experts of one layer."""
    weights = [_weights(share[group]) for group in groups]
    if align:
        for group, weight in zip(groups, weights, strict=True):
            anchor = group[int(weight.argmax())]
            for member in group:
                if member != anchor:
                    _permute(site, member, _order(site, anchor, member))
    for owner, name, tensor in list(_table.tensors(site)):
        rows = [
            torch.tensordot(weight.to(tensor.device), tensor[group].double(), dims=1)
            for group, weight in zip(groups, weights, strict=True)
        ]
        _table.put(owner, name, torch.stack(rows))


def _weights(share: Any) -> torch.Tensor:
    """Shares that sum to one; equal where there is none."""
    total = float(share.sum())
    even = np.full(len(share), 1.0 / len(share))
    return torch.from_numpy(share / total if total else even)


def _order(site: Site, anchor: int, member: int) -> torch.Tensor:
    """Neurons of `member` in the order that matches those of `anchor` best, (f,)."""
    gain = _features(site, anchor) @ _features(site, member).T
    _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    return torch.from_numpy(columns)


def _features(site: Site, expert: int) -> torch.Tensor:
    """Each inner neuron of an expert as a row: gate, up and down."""
    experts: Any = site.experts
    gate, up = experts.gate_up_proj[expert].double().chunk(2, dim=0)
    down = experts.down_proj[expert].double().T
    return torch.cat([gate, up, down], dim=1).cpu()


def _permute(site: Site, expert: int, order: torch.Tensor) -> None:
    """Put the inner neurons of an expert into another order, in place."""
    experts: Any = site.experts
    f = len(order)
    both = torch.cat([order, order + f]).to(experts.gate_up_proj.device)
    experts.gate_up_proj[expert] = experts.gate_up_proj[expert][both]
    experts.down_proj[expert] = experts.down_proj[expert][:, both[:f]]
    bias = getattr(experts, "gate_up_proj_bias", None)
    if bias is not None:
        bias[expert] = bias[expert][both]


def _check_neurons(site: Site) -> None:
    """Refuse experts whose neurons cannot be told apart."""
    experts: Any = site.experts
    shapes: list[Any] = [getattr(getattr(experts, name, None), "shape", ()) for name in _MATRICES]
    names = {name for _, name, _ in _table.tensors(site)}
    router = {name for name, _ in site.router.named_parameters()}
    known = names - router - {site.bias_name} <= {*_MATRICES, *_BIASES}
    fits = (
        all(len(shape) == 3 for shape in shapes)
        and shapes[0][1] == 2 * shapes[1][2]
        and shapes[0][2] == shapes[1][1]
        and not getattr(experts, "is_transposed", False)
        and type(experts).__name__ != "GptOssExperts"
    )
    if not (known and fits):
        rule = "be stacked as gate_up_proj (e, 2f, d), down_proj (e, d, f) to be aligned"
        raise InputError(f"experts of {site.path!r}", rule, site.family, "Pass align=False.")

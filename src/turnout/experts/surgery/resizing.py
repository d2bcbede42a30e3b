"""More experts, or fewer: copies added, and the least used removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.core.trace import Trace
from turnout.experts.surgery import _table

__all__ = ["Which", "add_experts", "least_loaded", "remove_experts"]

#: Experts, the same in every layer, or by ordinal of the layer (0 for the first that has experts).
Which = Sequence[int] | Mapping[int, Sequence[int]]


@torch.no_grad()
def add_experts(
    model: nn.Module,
    of: Which,
    *,
    k: int | None = None,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Add a copy of each expert named, its router row included, behind the others.

    Without noise two cases keep every output to float tolerance, because the copies of an expert
    share its weight between them:

    * every expert is copied as often and k grows by the same factor (the weights being a softmax,
      or brought back to a sum);
    * k = 1 and the weight is brought back to a sum of one: either copy may be chosen.

    Otherwise a token may choose both copies of one expert where it chose two experts before, and
    the output moves. He et al., "Upcycling Large Language Models into Mixture of Experts", 2024,
    arXiv:2410.07524, start fine-grained experts from such copies.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    of : sequence of int, or mapping of int to such
        Experts to copy; equally many in every layer.
    k : int, optional
        New number of choices a token; unchanged where not given.
    noise : float
        Deviation of normal noise on the copies, relative to that of the tensor; >= 0.
    generator : torch.Generator, optional
        Where noise is drawn from.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    InputError
        There is no such expert, the layers differ, or the model cannot be changed, see the message.
    """
    found = _table.operable(model)
    e = found[0].e
    picks = _table.picks_of(found, of, "of", lambda some: _table.numbers("of", some, e))
    new_e = e + _table.same_number([len(pick) for pick in picks], "of")
    new_k = _choices(k, found[0].k, new_e)
    fresh = _table.prepared(model, found, new_e, new_k)
    drawn = _table.draws("noise", noise, generator)
    for site, pick in zip(found, picks, strict=True):
        for owner, name, tensor in list(_table.tensors(site)):
            copies = _table.shaken(tensor[pick], noise, drawn)
            _table.put(owner, name, torch.cat([tensor, copies]))
    _table.adopt(model, fresh)
    return model


@torch.no_grad()
def remove_experts(model: nn.Module, which: Which, *, k: int | None = None) -> nn.Module:
    """Take experts out, their router rows included; the others move up.

    An expert that a text never chooses leaves the outputs on it as they are where the weights are
    brought back to a sum, or made from the chosen alone. A softmax over all experts that is not
    brought back gives the others its share, so that their weights grow.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    which : sequence of int, or mapping of int to such
        Experts to remove, equally many in every layer, see `least_loaded`.
    k : int, optional
        New number of choices a token; unchanged where not given.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    InputError
        There is no such expert, fewer than k would be left, the layers differ, or the model cannot
        be changed, see the message.
    """
    found = _table.operable(model)
    e = found[0].e
    picks = _table.picks_of(found, which, "which", lambda some: _table.numbers("which", some, e))
    new_e = e - _table.same_number([len(pick) for pick in picks], "which")
    new_k = _choices(k, found[0].k, new_e)
    fresh = _table.prepared(model, found, new_e, new_k)
    for site, pick in zip(found, picks, strict=True):
        keep = [j for j in range(e) if j not in pick]
        for owner, name, tensor in list(_table.tensors(site)):
            _table.put(owner, name, tensor[keep])
    _table.adopt(model, fresh)
    return model


def least_loaded(trace: Trace, n: int) -> dict[int, tuple[int, ...]]:
    """The n experts of each layer that the fewest choices of a trace went to; ties to the lower.

    Parameters
    ----------
    trace : Trace
        Of the model, all its layers in order.
    n : int
        In [0, e].

    Returns
    -------
    dict of int to tuple of int
        Ordinal of the layer -> experts, ascending.

    Raises
    ------
    InputError
        n is out of range.
    """
    n = _check.integer("n", n, low=0, high=trace.e)
    order = np.argsort(trace.load(), axis=1, kind="stable")[:, :n]
    return {layer: tuple(sorted(row.tolist())) for layer, row in enumerate(order)}


def _choices(k: int | None, old: int, e: int) -> int:
    """The new number of choices, which the experts must suffice for."""
    if k is not None:
        return _check.integer("k", k, low=1, high=e)
    if old > e:
        rule = f"be left in number, at least the {old} a token chooses"
        raise InputError("experts", rule, e, "Remove fewer, or lower k.")
    return old

"""What a swap hangs on a model: observable routers, and hooks that say what a model reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from turnout.experts.models.context import Linked, current
from turnout.experts.models.router import GATE, Board, Enter, Leave, rise, seat_of, sit
from turnout.experts.models.sites import UNSKIPPING, Seat, Site, sites

__all__ = ["KeepAttention", "Link", "board_of", "drop", "heed", "ignore", "release", "seated"]


def seated(model: nn.Module) -> Board:
    """Make the routers of a model observable, or count one more user of those that are."""
    board = board_of(model)
    if board is None:
        board = Board()
        for site in sites(model):
            sit(site.router, site.block, site.experts, _seat(site, board))
        _hook(model, board)
    board.users += 1
    return board


def release(model: nn.Module) -> None:
    """Count one user less; the last one gives the routers their own classes back."""
    board = board_of(model)
    if board is None:
        return
    board.users -= 1
    if board.users > 0:
        return
    for site in sites(model):
        rise(site.router, site.block, site.experts)
    for module in model.modules():
        _unhook(module)


def board_of(model: nn.Module) -> Board | None:
    """What the swapped routers of a model share; None where none is."""
    for module in model.modules():
        seat = seat_of(module)
        if seat is not None:
            board: Board = seat.board
            return board
    return None


def _seat(site: Site, board: Board) -> Seat:
    native = type(site.router)
    parallel = getattr(site.experts, "_is_expert_parallel", None)
    kind = type(site.experts)
    skips = (
        isinstance(parallel, bool)
        and kind.__module__.startswith("transformers.models.")
        and kind.__name__ not in UNSKIPPING
    )
    return Seat(
        ordinal=site.ordinal,
        layer=site.layer,
        tower=site.tower,
        native=native,
        d=site.d,
        e=site.e,
        k=site.k,
        causal=site.causal,
        skips=skips,
        board=board,
    )


class KeepAttention:
    """Forward hook of an attention module: leaves its weights for the gate of the same layer."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Keep the weights (b, h, s, s)."""
        reading = current(self.seat.board)
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if reading is not None and isinstance(weights, torch.Tensor):
            reading.attention[self.seat.ordinal] = weights


class Link:
    """Forward pre-hook of a tower: second runs of checkpointed layers know what the first read."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Wrap the checkpoint functions that are in use."""
        if not (module.training and torch.is_grad_enabled()):
            return
        for part in module.modules():
            call = part.__dict__.get("_gradient_checkpointing_func")
            if call is not None and not isinstance(call, Linked):
                part._gradient_checkpointing_func = Linked(call)  # type: ignore[assignment]


def _hook(model: nn.Module, board: Board) -> None:
    """Let every pretrained model around a site say what it reads."""
    named = dict(model.named_modules())
    for path in sorted(_pretrained(named, sites(model))):
        module = named[path]
        module.register_forward_pre_hook(Link())
        module.register_forward_pre_hook(Enter(board, path), with_kwargs=True)
        module.register_forward_hook(Leave(board), with_kwargs=True, always_call=True)


def _unhook(module: nn.Module) -> None:
    """Take away everything a swap hung on a module."""
    drop(module._forward_pre_hooks, Link, Enter)
    drop(module._forward_hooks, Leave, KeepAttention)
    for register in (
        module._forward_pre_hooks_with_kwargs,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
    ):
        hooks = {**module._forward_pre_hooks, **module._forward_hooks}
        for key in [key for key in register if key not in hooks]:
            del register[key]
    call = module.__dict__.get("_gradient_checkpointing_func")
    if isinstance(call, Linked):
        module._gradient_checkpointing_func = call.call  # type: ignore[assignment]


def drop(hooks: Any, *kinds: type) -> None:
    """Take the hooks of these kinds away."""
    for key in [key for key, hook in hooks.items() if isinstance(hook, kinds)]:
        del hooks[key]


def _pretrained(named: dict[str, nn.Module], found: tuple[Site, ...]) -> set[str]:
    """Paths of the towers and of the pretrained models around them."""
    from transformers import PreTrainedModel

    paths = {site.tower for site in found}
    for tower in tuple(paths):
        parts = tower.split(".")
        above = {".".join(parts[:length]) for length in range(len(parts))}
        paths |= {path for path in above if isinstance(named[path], PreTrainedModel)}
    return paths


def _owners(model: nn.Module, site: Site) -> Iterator[tuple[nn.Module, str]]:
    """Pretrained models around a site, and the gate's path in each."""
    named = dict(model.named_modules())
    path = next(name for name, module in named.items() if module is site.router)
    for owner in _pretrained(named, (site,)):
        yield named[owner], f"{path[len(owner) + 1 :] if owner else path}.{GATE}."


def ignore(model: nn.Module, site: Site, made: nn.Module) -> None:
    """Leave a gate out of what `save_pretrained` writes: its checkpoint stays a stock one."""
    for owner, prefix in _owners(model, site):
        keys = getattr(owner, "_keys_to_ignore_on_save", None)
        ours = {f"{prefix}{name}" for name in made.state_dict()}
        owner._keys_to_ignore_on_save = {*(keys or ()), *ours}  # type: ignore[assignment]


def heed(model: nn.Module, site: Site) -> None:
    """Undo `_ignore`."""
    for owner, prefix in _owners(model, site):
        keys = getattr(owner, "_keys_to_ignore_on_save", None) or ()
        kept = {key for key in keys if not key.startswith(prefix)}
        owner._keys_to_ignore_on_save = kept  # type: ignore[assignment]

"""Where a gate starts: from the native router's rows, bias and precision, where they fit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from turnout.experts.models.layouts import Triple
from turnout.experts.models.sites import Seat, Site, native_class, rows_of
from turnout.nn.gates import Bias, Gate, LinearScorer

__all__ = ["start", "weight_dtype"]


def _try_native(site: Site, hidden: torch.Tensor) -> Any:
    """What the native router answers on hidden states (t, d), or None where it cannot be asked.

    Families differ in what else they pass: a bias, token ids, sequences that are not flattened.
    """
    router, kind = site.router, native_class(site.router)
    ids = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    deep = hidden.unsqueeze(0)
    bias = site.bias
    training = router.training
    router.training = False
    try:
        for arguments in ((hidden,), (hidden, bias), (hidden, ids), (deep, bias), (deep,)):
            try:
                with torch.no_grad():
                    output = kind.forward(router, *arguments)
            except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
                continue
            return output
    finally:
        router.training = training
    return None


def weight_dtype(site: Site, seat: Seat) -> torch.dtype | None:
    """In which precision the native router weighs; None = as the hidden states."""
    if not isinstance(seat.layout, Triple):
        return None
    like = next((site.experts or site.block).parameters())
    hidden = torch.zeros(2, site.d, dtype=like.dtype, device=like.device)
    output = _try_native(site, hidden)
    if not isinstance(output, tuple) or len(output) < 3:
        return None
    dtype: torch.dtype = output[1].dtype
    return None if dtype == hidden.dtype else dtype


def start(made: nn.Module, site: Site) -> bool:
    """Copy the native router's rows, and its bias, into a gate of like shape."""
    if not isinstance(made, Gate):
        return False
    for processor in made.processors:
        bias = site.bias
        if not isinstance(processor, Bias) or bias is None:
            continue
        if bias.numel() == processor.bias.numel():
            processor.bias.copy_(bias.detach().reshape(-1))
    scorer, rows = made.scorer, rows_of(site.router)
    if not isinstance(scorer, LinearScorer) or rows is None or rows.is_meta:
        return False
    offset = getattr(site.router, "bias", None)
    offset = offset if isinstance(offset, nn.Parameter) and offset.shape == rows.shape[:1] else None
    if scorer.weight.shape != rows.shape or (offset is not None and scorer.bias is None):
        return False
    draw = torch.randn(4, site.d, generator=torch.Generator().manual_seed(0))
    hidden = draw.to(rows.device, rows.dtype)
    output = _try_native(site, hidden)
    parts = output if isinstance(output, tuple | list) else (output,)
    straight = functional.linear(hidden, rows, offset).detach().float()
    linear = any(
        isinstance(part, torch.Tensor)
        and part.numel() == straight.numel()
        and torch.allclose(part.float().reshape(straight.shape), straight, atol=1e-2, rtol=1e-2)
        for part in parts
    )
    if not linear:
        return False
    with torch.no_grad():
        scorer.weight.copy_(rows)
        if offset is not None and scorer.bias is not None:
            scorer.bias.copy_(offset)
    return True

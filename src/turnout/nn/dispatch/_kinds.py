"""Which activations and gates the kernels know, and which tensors they can read."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from turnout.nn.dispatch.bank import Bank

_FUNCTIONS = {
    functional.silu: "silu",
    functional.gelu: "gelu",
    functional.relu: "relu",
    torch.relu: "relu",
}
#: Names of activation modules of transformers, which is not imported for this.
_MODULES = {
    "SiLUActivation": "silu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
    "ReLUSquaredActivation": "relu2",
}


def kind(act: Any) -> str:
    """Name of a known activation, or the empty word."""
    if isinstance(act, torch.nn.Module):
        if type(act) is torch.nn.SiLU:
            return "silu"
        if type(act) is torch.nn.ReLU:
            return "relu"
        if type(act) is torch.nn.GELU:
            return "gelu" if act.approximate == "none" else "gelu_tanh"
        if type(act).__module__ == "transformers.activations":
            return _MODULES.get(type(act).__name__, "")
        return ""
    try:
        return _FUNCTIONS.get(act, "")
    except TypeError:  # a callable without a hash
        return ""


def halves(bank: Bank) -> bool:
    """Whether a gate is act(first half) times second half, or there is none."""
    own = getattr(bank.apply_gate, "__func__", bank.apply_gate)
    if own is None:
        return True
    name = (getattr(own, "__module__", ""), getattr(own, "__name__", ""))
    return name == ("transformers.integrations.moe", "_default_apply_gate")


def learns(x: torch.Tensor, weights: torch.Tensor, bank: Bank) -> bool:
    """Whether gradients may be asked for."""
    if not torch.is_grad_enabled():
        return False
    if x.requires_grad or weights.requires_grad:
        return True
    own = (bank.first, bank.down, bank.up_bias, bank.down_bias)
    if any(part is not None and part.requires_grad for part in own):
        return True
    modules = (bank.act, bank.apply_gate)
    return any(_has_learners(part) for part in modules)


def _has_learners(part: Any) -> bool:
    owner = getattr(part, "__self__", part)
    return isinstance(owner, torch.nn.Module) and any(
        parameter.requires_grad for parameter in owner.parameters()
    )


def plain(*tensors: torch.Tensor | None) -> bool:
    """Whether these are ordinary contiguous tensors in this process's memory."""
    return all(
        tensor is None
        or (
            type(tensor) in (torch.Tensor, torch.nn.Parameter)
            and tensor.device.type == "cpu"
            and tensor.is_contiguous()
        )
        for tensor in tensors
    )

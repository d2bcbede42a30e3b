"""A dense model made sparse: each feed-forward layer becomes experts that start as copies of it.

Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints", 2022,
arXiv:2212.05055. The router is new. As all experts of a layer start equal, the layer's output is
that of the dense one wherever the weights of a token sum to one, whichever experts are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.experts.surgery import _table

__all__ = ["upcycle"]


@dataclass(frozen=True)
class _Family:
    """Where a dense family goes.

    `need` are the values that fields of the dense configuration must have, because the sparse
    family has no counterpart; `more` are fields of the sparse configuration set besides.
    """

    dense: str
    sparse: str
    model_type: str
    need: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    some_layers: bool = False
    shared: bool = False


_FAMILIES = {
    "llama": _Family(
        "Llama", "Mixtral", "mixtral", need={"attention_bias": False, "mlp_bias": False}
    ),
    "mistral": _Family("Mistral", "Mixtral", "mixtral"),
    "qwen2": _Family(
        "Qwen2",
        "Qwen2Moe",
        "qwen2_moe",
        need={"use_sliding_window": False},
        more={"norm_topk_prob": True, "qkv_bias": True},
        some_layers=True,
        shared=True,
    ),
    "qwen3": _Family(
        "Qwen3",
        "Qwen3Moe",
        "qwen3_moe",
        need={"use_sliding_window": False},
        more={"norm_topk_prob": True},
        some_layers=True,
    ),
}
#: Families that look as if they went together, and why they do not.
_REFUSED = {
    "olmo": "OLMoE normalises queries and keys and scales its norms, which OLMo does not.",
    "olmo2": "OLMo 2 normalises behind its layers, OLMoE before them.",
}
_NOT_COPIED = ("architectures", "model_type", "transformers_version", "_name_or_path", "dtype")
_NEW = (".mlp.gate.", ".mlp.experts.", ".mlp.shared_expert.", ".mlp.shared_expert_gate.")


def upcycle(
    dense_model: nn.Module,
    e: int,
    k: int,
    *,
    generator: torch.Generator,
    noise: float = 0.0,
    gate: Any = None,
    layers: Iterable[int] | None = None,
) -> nn.Module:
    """A mixture-of-experts model of transformers that starts as a dense one.

    Llama and Mistral become Mixtral, Qwen2 becomes Qwen2-MoE, Qwen3 becomes Qwen3-MoE. The weights
    of a token sum to one in all of them: Mixtral's do always, for the others `norm_topk_prob` is
    set. Qwen2-MoE has a shared expert besides; it starts with an output of zero and the width of
    the dense layer over e. Equality with the dense model is checked on random tokens before any
    noise is added. The dense model is left as it is.

    Parameters
    ----------
    dense_model : torch.nn.Module
        A causal language model of transformers, or its bare model.
    e, k : int
        Experts, and choices a token.
    generator : torch.Generator
        Where router rows, noise and the tokens of the check are drawn from.
    noise : float
        Deviation of normal noise on each expert's matrices, relative to their own; >= 0. Without
        it the experts separate through the router alone.
    gate : GateRecipe, optional
        A gate to swap in, see `turnout.experts.swap`; refused where its weights do not sum to one,
        since the model would not start as the dense one.
    layers : iterable of int, optional
        Layers that get experts, at least one; all where not given. Qwen only.

    Returns
    -------
    torch.nn.Module
        In evaluation or training as the dense model is, on its device, in its type.

    Raises
    ------
    InputError
        The family has no sparse counterpart, a number is out of range, or the outputs differ.
    """
    e = _check.integer("e", e, low=1)
    k = _check.integer("k", k, low=1, high=e)
    noise = _check.number("noise", noise, low=0.0)
    family = _family(dense_model)
    chosen = _layers(dense_model, family, layers)
    model = _empty(dense_model, family, e, k, chosen)
    _fill(model, dense_model, e, generator)
    _check_equal(dense_model, model, generator, "dense_model", "Please report it.")
    if gate is not None:
        from turnout.experts.models.swapping import swap

        swap(model, gate, generator=generator)
        hint = "Choose a gate that brings its weights back to a sum of one."
        _check_equal(dense_model, model, generator, "gate", hint)
    if noise:
        _shake(model, noise, generator)
    return model.train(dense_model.training)


def _family(dense_model: nn.Module) -> _Family:
    """Where the model goes, or a refusal."""
    config: Any = getattr(dense_model, "config", None)
    kind = getattr(config, "model_type", type(dense_model).__name__)
    if kind not in _FAMILIES:
        rule = f"be of one of the families {', '.join(_FAMILIES)}"
        raise InputError("dense_model", rule, kind, _REFUSED.get(kind, "Choose one of these."))
    family = _FAMILIES[kind]
    for name, wanted in family.need.items():
        found = getattr(config, name, wanted)
        if found != wanted:
            hint = f"{family.sparse} has no such thing."
            raise InputError(f"config.{name}", f"be {wanted}", found, hint)
    if type(dense_model).__name__ not in (f"{family.dense}ForCausalLM", f"{family.dense}Model"):
        rule = f"be a {family.dense}ForCausalLM or {family.dense}Model"
        found = type(dense_model).__name__
        raise InputError("dense_model", rule, found, "Merge adapters and unwrap it first.")
    return family


def _layers(dense_model: nn.Module, family: _Family, layers: Iterable[int] | None) -> list[int]:
    """Numbers of the layers that get experts."""
    config: Any = dense_model.config
    every = list(range(config.num_hidden_layers))
    if layers is None:
        return every
    chosen = sorted(_table.numbers("layers", list(layers), len(every)))
    if not chosen:
        raise InputError("layers", "name at least one layer", chosen, "Name one.")
    if chosen != every and not family.some_layers:
        raise InputError("layers", f"be all: {family.sparse} has no dense ones", chosen, "Omit it.")
    return chosen


def _empty(dense_model: nn.Module, family: _Family, e: int, k: int, chosen: list[int]) -> nn.Module:
    """The sparse model, its weights still to be filled."""
    import transformers

    old: Any = dense_model.config
    config: Any = transformers.AutoConfig.for_model(family.model_type)
    known = set(config.to_dict())
    fields = {
        name: value
        for name, value in old.to_dict().items()
        if name in known and name not in _NOT_COPIED
    }
    width = old.intermediate_size
    fields |= {"num_local_experts" if family.sparse == "Mixtral" else "num_experts": e}
    fields |= {"num_experts_per_tok": k, **family.more}
    if family.some_layers:
        dense = [n for n in range(old.num_hidden_layers) if n not in chosen]
        fields |= {"moe_intermediate_size": width, "mlp_only_layers": dense}
        fields |= {"decoder_sparse_step": 1}
    if family.shared:
        fields["shared_expert_intermediate_size"] = max(1, width // e)
    config = transformers.AutoConfig.for_model(family.model_type, **fields)
    suffix = type(dense_model).__name__.removeprefix(family.dense)
    heads: dict[str, Any] = {
        "ForCausalLM": transformers.AutoModelForCausalLM,
        "Model": transformers.AutoModel,
    }
    some = next(dense_model.parameters())
    # Every weight is written afterwards; what its constructor draws must not move the global state.
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = heads[suffix].from_config(
            config, dtype=some.dtype, attn_implementation=old._attn_implementation
        )
    settings = getattr(dense_model, "generation_config", None)
    if settings is not None:
        model.generation_config = type(settings).from_dict(settings.to_dict())
    return model.to(some.device)


@torch.no_grad()
def _fill(model: nn.Module, dense_model: nn.Module, e: int, generator: torch.Generator) -> None:
    """Copy what both have, and the feed-forward layers into their experts."""
    source, target = dense_model.state_dict(), model.state_dict()
    config: Any = model.config
    used: set[str] = set()
    filled: dict[str, torch.Tensor] = {}
    for name, old in target.items():
        stem = name.partition(".mlp.")[0]
        parts = [f"{stem}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        if not any(mark in f".{name}" for mark in _NEW):
            if name in source and source[name].shape == old.shape:
                filled[name] = source[name]
                used.add(name)
            continue
        used.update(parts)
        gate, up, down = (source[part] for part in parts)
        if name.endswith("experts.gate_up_proj"):
            filled[name] = torch.cat([gate, up]).expand(e, -1, -1)
        elif name.endswith("experts.down_proj"):
            filled[name] = down.expand(e, -1, -1)
        elif name.endswith("shared_expert.down_proj.weight"):
            filled[name] = torch.zeros_like(old)
        else:
            drawn = torch.randn(old.shape, generator=generator, device=generator.device)
            filled[name] = drawn * config.initializer_range
    if missing := [name for name in target if name not in filled]:
        hint = "The sparse family has weights that the dense one lacks."
        raise InputError("dense_model", "bring all weights", missing, hint)
    if left := [name for name in source if name not in used]:
        hint = "The sparse family has no place for them."
        raise InputError("dense_model", "have no further weights", left, hint)
    model.load_state_dict(filled)


@torch.no_grad()
def _check_equal(
    dense_model: nn.Module, model: nn.Module, generator: torch.Generator, name: str, hint: str
) -> None:
    """Refuse a model whose outputs are not those of the dense one."""
    config: Any = dense_model.config
    device = next(dense_model.parameters()).device
    s = min(16, config.max_position_embeddings)
    shape = (2, s)
    ids = torch.randint(0, config.vocab_size, shape, generator=generator, device=generator.device)
    ids = ids.to(device)
    was = dense_model.training
    try:
        before, after = (
            some.eval()(input_ids=ids, use_cache=False)[0].float() for some in (dense_model, model)
        )
    finally:
        dense_model.train(was)
    exact = torch.finfo(next(model.parameters()).dtype).eps
    room = 1e3 * exact * float(before.abs().max().clamp(min=1.0))
    gap = float((before - after).abs().max())
    if not gap <= room:
        rule = f"give the outputs of the dense model, within {room:.2g}"
        raise InputError(name, rule, f"a gap of {gap:.2g}", hint)


@torch.no_grad()
def _shake(model: nn.Module, noise: float, generator: torch.Generator) -> None:
    """Noise on the experts' matrices, another for each expert."""
    for name, parameter in model.named_parameters():
        if ".mlp.experts." in f".{name}":
            parameter.copy_(
                torch.stack([_table.shaken(one, noise, generator) for one in parameter])
            )

"""TinyLM: a small transformer whose feed-forward layers are mixtures of experts.

For claims, tutorials and tests: big enough that routing matters, small enough to train in seconds.
Pre-normalised blocks of attention and a feed-forward layer, learned positions, no dropout, nothing
else. Every layer has a gate of its own, built from a recipe; a layer without one is dense.

Examples
--------
>>> import torch
>>> config = TinyConfig(vocabulary=11, d=16, l=2, h=2, f=8, e=4, context=6)
>>> model = TinyLM(config, None, generator=torch.Generator().manual_seed(0))
>>> logits, log = model(torch.zeros(3, 6, dtype=torch.int64))
>>> tuple(logits.shape), len(log)
((3, 6, 11), 0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.experts import StackedExperts
from turnout.nn.gates import GateRecipe, RouteContext, RouteLog
from turnout.nn.moe import MoeLayer

__all__ = ["TinyConfig", "TinyLM"]


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of a tiny language model.

    Parameters
    ----------
    vocabulary : int
        Token ids, >= 2.
    d, l, h : int
        Width, layers, heads; d must divide by h.
    f : int
        Inner width of an expert.
    e : int
        Experts of a layer that has a gate.
    dense : int
        Inner width of a layer that has none; 0 = f, the work of one expert.
    context : int
        Longest sequence.
    causal : bool
        Each position sees those before it alone, and gates that look ahead are refused; otherwise
        every position sees all.

    Raises
    ------
    InputError
        A size is out of range.
    """

    vocabulary: int = 128
    d: int = 64
    l: int = 2  # noqa: E741 - the letter of the house for layers
    h: int = 4
    f: int = 64
    e: int = 8
    dense: int = 0
    context: int = 64
    causal: bool = True

    def __post_init__(self) -> None:
        _check.integer("tiny.vocabulary", self.vocabulary, low=2)
        for name in ("d", "l", "h", "f", "e", "context"):
            _check.integer(f"tiny.{name}", getattr(self, name), low=1)
        _check.integer("tiny.dense", self.dense, low=0)
        if self.d % self.h:
            raise InputError("tiny.d", f"divide by the {self.h} heads", self.d, "Change one.")


class TinyLM(nn.Module):
    """A small transformer over token ids.

    Parameters
    ----------
    config : TinyConfig
    gate : GateRecipe, sequence of GateRecipe or None, or None
        The gate of every layer, or of each; None = a dense layer.
    generator : torch.Generator
        Draws every first weight, so that two models with gates of one kind start alike.

    Raises
    ------
    InputError
        As many gates as layers are not given.
    """

    def __init__(
        self,
        config: TinyConfig,
        gate: GateRecipe | Sequence[GateRecipe | None] | None,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        gates = list(gate) if isinstance(gate, Sequence) else [gate] * config.l
        if len(gates) != config.l:
            rule = f"name a gate, or None, for each of the {config.l} layers"
            raise InputError("gate", rule, len(gates), "Give one recipe for all of them.")
        self.config = config
        draw = _Draw(generator)
        self.tokens = nn.Parameter(draw(config.vocabulary, config.d, scale=0.1))
        self.positions = nn.Parameter(draw(config.context, config.d, scale=0.1))
        self.blocks = nn.ModuleList(
            _Block(config, recipe, layer, draw) for layer, recipe in enumerate(gates)
        )
        self.norm = nn.RMSNorm(config.d)
        self.out = nn.Parameter(draw(config.vocabulary, config.d))

    def forward(
        self,
        tokens: torch.Tensor,
        context: RouteContext | None = None,
    ) -> tuple[torch.Tensor, RouteLog]:
        """Logits (b, s, vocabulary) of tokens (b, s), and what the gates decided.

        Parameters
        ----------
        tokens : int64 tensor (b, s)
        context : RouteContext, optional
            Brings the generator, the mask (b * s,) of real tokens, the step and the budget; shape,
            ids, causality and the log are filled in here.

        Raises
        ------
        InputError
            The sequences are longer than the model's context, or a gate looks ahead in a causal
            model.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.config.context:
            rule = f"have shape (b, s) with s <= {self.config.context}"
            raise InputError("tokens", rule, tuple(tokens.shape), "Cut or reshape them.")
        b, s = tokens.shape
        log = RouteLog()
        context = replace(
            RouteContext() if context is None else context,
            causal=self.config.causal,
            shape=(b, s),
            tokens=tokens.reshape(-1),
            log=log,
        )
        x = self.tokens[tokens] + self.positions[:s]
        for block in self.blocks:
            x = block(x, context)
        return functional.linear(self.norm(x), self.out), log


class _Draw:
    """Normal weights from one generator, deviation 1 / sqrt(columns) unless told."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(self, rows: int, columns: int, *, scale: float = 0.0) -> torch.Tensor:
        weights = torch.randn(rows, columns, generator=self.generator)
        return weights * (scale or 1 / math.sqrt(columns))


class _Block(nn.Module):
    """Attention, then a feed-forward layer, each behind a norm and beside a residual."""

    def __init__(
        self, config: TinyConfig, recipe: GateRecipe | None, layer: int, draw: _Draw
    ) -> None:
        super().__init__()
        self.heads, self.causal = config.h, config.causal
        self.norm1, self.norm2 = nn.RMSNorm(config.d), nn.RMSNorm(config.d)
        self.qkv = nn.Parameter(draw(3 * config.d, config.d))
        self.merge = nn.Parameter(draw(config.d, config.d) / math.sqrt(2 * config.l))
        self.feed: nn.Module
        if recipe is None:
            self.feed = _Dense(config.d, config.dense or config.f, draw)
        else:
            experts = StackedExperts(config.e, config.d, config.f, generator=draw.generator)
            gate = recipe.build(config.d, config.e, generator=draw.generator)
            self.feed = MoeLayer(gate, experts, layer=layer)

    def forward(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        """Hidden states (b, s, d) -> (b, s, d)."""
        b, s, d = x.shape
        split = functional.linear(self.norm1(x), self.qkv).reshape(b, s, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + functional.linear(mixed.transpose(1, 2).reshape(b, s, d), self.merge)
        made: torch.Tensor = self.feed(self.norm2(x), context)
        return x + made


class _Dense(nn.Module):
    """One gated feed-forward layer for all tokens."""

    def __init__(self, d: int, f: int, draw: _Draw) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(draw(2 * f, d))
        self.down = nn.Parameter(draw(d, f))

    def forward(self, x: torch.Tensor, context: RouteContext) -> torch.Tensor:
        """Hidden states (b, s, d) -> (b, s, d)."""
        gate, up = functional.linear(x, self.gate_up).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate) * up, self.down)

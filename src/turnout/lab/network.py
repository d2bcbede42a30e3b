"""The laboratory's decoder in torch, for training; :mod:`turnout.lab.model` is its numpy twin.

The weights are one flat dictionary with the names and shapes of `Config.shapes`. Positions are
counted from the start of the answer: the mark that starts it stands at the same position however
long the prompt is, so batches are padded on the left and "the letter three before the end" is a
position, which is what lets networks this small copy and reverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name

if TYPE_CHECKING:
    from turnout.lab.config import Config

__all__ = ["forward", "initial"]


def initial(config: Config, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Fresh weights: normal, smaller where a matrix writes to the residual stream.

    Parameters
    ----------
    config : Config
        Shape of the model.
    generator : torch.Generator
        Source of randomness.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, shape in config.shapes().items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
            continue
        scale = 0.02 if name in ("tokens", "positions") else shape[0] ** -0.5
        if name.endswith((".out", ".down")):
            scale *= (2 * config.layers) ** -0.5
        weights[name] = scale * torch.randn(shape, generator=generator)
    return weights


def forward(
    weights: dict[str, torch.Tensor],
    config: Config,
    ids: torch.Tensor,
    lengths: torch.Tensor,
    scored: torch.Tensor,
) -> torch.Tensor:
    """Scores of the next token where answers are being written.

    Parameters
    ----------
    weights : dict of tensor
        As `Config.shapes` names them.
    config : Config
        Shape of the model.
    ids : tensor (n, t) of int64
        Prompts, each followed by its answer, padded on the right: a causal model never looks
        there, so no mask is needed.
    lengths : tensor (n,) of int64
        Prompt tokens of each row.
    scored : tensor (s,) of int64
        Places in the flattened `ids` after which the next token is scored.

    Returns
    -------
    tensor (s, vocabulary)
    """
    n, t = ids.shape
    d, h = config.width, config.heads
    places = torch.arange(t) + (config.prompt_limit - lengths)[:, None]
    last = config.prompt_limit + config.answer_limit - 1
    x = weights["tokens"][ids] + weights["positions"][places.clamp(max=last)]
    for layer in range(config.layers):
        y = F.layer_norm(x, (d,), weights[f"{layer}.norm1"])
        q, k, v = (y @ weights[f"{layer}.qkv"]).view(n, t, 3, h, d // h).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(n, t, d)
        if layer == config.layers - 1:
            # Only what is scored needs the rest of this layer.
            x, mixed = x.reshape(-1, d)[scored], mixed.reshape(-1, d)[scored]
        x = x + mixed @ weights[f"{layer}.out"]
        y = F.layer_norm(x, (d,), weights[f"{layer}.norm2"])
        x = x + F.relu(y @ weights[f"{layer}.up"]).square() @ weights[f"{layer}.down"]
    return F.layer_norm(x, (d,), weights["norm"]) @ weights["tokens"].T

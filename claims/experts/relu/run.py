"""Whether the controller holds two experts a token, and what the model is worth then.

The figure is met, but says little of the controller's strength: its coefficient ended near or below
the 1e-8 it began with, because the gate grew sparse by itself and the controller let go. The load
is less even than that of top-2 with a balance loss.
"""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.relu import ReluRouting
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import standard_library
from turnout.lab.pretraining import Plan, pretrain
from turnout.nn.balance import Losses, SparsityController, l1_loss, switch_loss
from turnout.nn.gates import Decision, RouteLog
from turnout.nn.tiny import TinyConfig, TinyLM

K = 2


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    config = TinyConfig()
    controller = SparsityController(K, config.e)

    def penalty(step: int, log: RouteLog) -> torch.Tensor:
        terms = []
        for entry in log:
            assert isinstance(entry.decision, Decision)
            terms.append(l1_loss(entry.decision, k=K))
        return controller.coefficient.clone() * torch.stack(terms).mean()

    free = TinyLM(config, ReluRouting(), generator=torch.Generator().manual_seed(seed))
    relu = pretrain(free, corpus, Plan(steps=300, seed=seed), sparsity=controller, each=penalty)
    fixed = TinyLM(config, SoftmaxTopK(k=K), generator=torch.Generator().manual_seed(seed))
    losses = Losses({"switch": (switch_loss, 0.01)})
    topk = pretrain(fixed, corpus, Plan(steps=300, seed=seed, losses=losses))
    return {
        "experts_per_token": relu.per_token,
        "topk_minus_relu": topk.loss - relu.loss,
        "relu_loss": relu.loss,
        "topk_loss": topk.loss,
        "relu_max_violation": relu.max_violation,
        "topk_max_violation": topk.max_violation,
        "coefficient": float(controller.coefficient),
    }

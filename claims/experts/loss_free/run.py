"""Balance by a bias against balance by a loss, on one gate."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from turnout.experts.loss_free import LossFree
from turnout.lab.corpus import standard_library
from turnout.lab.pretraining import Plan, pretrain
from turnout.nn.balance import Balancer, Losses, Sign, biases_of, share_of_scores, switch_loss
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    moved = TinyLM(TinyConfig(), LossFree(k=2), generator=torch.Generator().manual_seed(seed))
    balancer = Balancer(biases_of(moved), Sign(0.001))
    bias = pretrain(moved, corpus, Plan(seed=seed), balancer=balancer)
    bent = TinyLM(TinyConfig(), LossFree(k=2), generator=torch.Generator().manual_seed(seed))
    shares = partial(switch_loss, probabilities=share_of_scores)
    losses = Losses({"switch": (shares, 0.001)})
    aux = pretrain(bent, corpus, Plan(seed=seed, losses=losses))
    return {
        "max_violation_ratio": bias.max_violation / aux.max_violation,
        "bias_minus_aux": bias.loss - aux.loss,
        "bias_max_violation": bias.max_violation,
        "aux_max_violation": aux.max_violation,
        "bias_loss": bias.loss,
        "aux_loss": aux.loss,
    }

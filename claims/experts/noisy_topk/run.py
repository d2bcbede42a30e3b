"""Noisy top-2 with and without its balance losses."""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.noisy_topk import NoisyTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, importance_loss, load_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    without = _train(NoisyTopK(k=2), None, corpus, seed)
    both = Losses({"importance": (importance_loss, 0.1), "load": (load_loss, 0.1)})
    even = _train(NoisyTopK(k=2), both, corpus, seed)
    return {
        "cv_ratio": even.variation / without.variation,
        "with_minus_without": even.loss - without.loss,
        "cv_with": even.variation,
        "cv_without": without.variation,
        "loss_with": even.loss,
        "loss_without": without.loss,
    }


def _train(gate: GateRecipe, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))

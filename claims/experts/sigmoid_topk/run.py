"""Sigmoid against softmax scores, everything else alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from turnout.experts.sigmoid_topk import SigmoidTopK
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, share_of_scores, switch_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    softmax = _train(SoftmaxTopK(k=2), Losses({"switch": (switch_loss, 0.01)}), corpus, seed)
    shares = partial(switch_loss, probabilities=share_of_scores)
    sigmoid = _train(SigmoidTopK(k=2), Losses({"switch": (shares, 0.01)}), corpus, seed)
    return {
        "softmax_minus_sigmoid": softmax.loss - sigmoid.loss,
        "softmax_loss": softmax.loss,
        "sigmoid_loss": sigmoid.loss,
        "softmax_max_violation": softmax.max_violation,
        "sigmoid_max_violation": sigmoid.max_violation,
    }


def _train(gate: GateRecipe, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))

"""Chance against a learned top-1 gate; the consistency loss of THOR is not part of this.

Not seen here: the learned gate is better by 0.12 nats. A character tells a gate much of what to do
with it, even one that has learned little; and without the consistency loss experts drawn at random
all have to learn the same from an eighth of the text each.
"""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.random import Random
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    drawn = _train(Random(k=1), None, corpus, seed)
    balance = Losses({"switch": (switch_loss, 0.01)})
    learned = _train(SoftmaxTopK(k=1, weights="plain"), balance, corpus, seed)
    return {
        "random_minus_learned": drawn.loss - learned.loss,
        "random_max_violation": drawn.max_violation,
        "random_loss": drawn.loss,
        "learned_loss": learned.loss,
        "learned_max_violation": learned.max_violation,
    }


def _train(gate: GateRecipe, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))

"""Top-2 of eight experts against a dense layer of equal work.

Not seen here: over two seeds the two are level within the spread. The likely reason is the length
of the run, 154 thousand characters: each expert sees a quarter of what the dense layer sees, and a
text this short is far from what the dense layer could learn. Balance itself is kept.
"""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    alone = _train(None, None, corpus, seed)
    shared = _train(SoftmaxTopK(k=2), Losses({"switch": (switch_loss, 0.01)}), corpus, seed)
    return {
        "dense_minus_moe": alone.loss - shared.loss,
        "dead_experts": float(sum(int((load == 0).sum()) for load in shared.loads)),
        "dense_loss": alone.loss,
        "moe_loss": shared.loss,
        "max_violation": shared.max_violation,
    }


def _train(gate: GateRecipe | None, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(dense=128), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))

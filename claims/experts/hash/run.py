"""A fixed table against a learned top-1 gate and against chance."""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.hash import Hash
from turnout.experts.random import Random
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import VOCABULARY, Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    table = Hash(vocabulary=VOCABULARY, counts=tuple(corpus.counts().tolist()))
    hashed = _train(table, None, corpus, seed)
    balance = Losses({"switch": (switch_loss, 0.01)})
    learned = _train(SoftmaxTopK(k=1, weights="plain"), balance, corpus, seed)
    drawn = _train(Random(k=1), None, corpus, seed)
    return {
        "learned_minus_hash": learned.loss - hashed.loss,
        "random_minus_hash": drawn.loss - hashed.loss,
        "hash_loss": hashed.loss,
        "learned_loss": learned.loss,
        "random_loss": drawn.loss,
        "hash_max_violation": hashed.max_violation,
        "learned_max_violation": learned.max_violation,
    }


def _train(gate: GateRecipe, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))

"""Experts of few groups against experts of any group."""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.group_limited import GroupLimited
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import Decision, GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM

#: Experts of a group.
SIZE = 2


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    balance = Losses({"switch": (switch_loss, 0.01)})
    limited = _train(GroupLimited(k=4, groups=8, keep=3), balance, corpus, seed)
    free = _train(SoftmaxTopK(k=4, weights="plain"), balance, corpus, seed)
    return {
        "limited_minus_free": limited.loss - free.loss,
        "groups_limited": _groups(limited),
        "groups_free": _groups(free),
        "limited_loss": limited.loss,
        "free_loss": free.loss,
    }


def _train(gate: GateRecipe, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(e=16, f=32), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(steps=300, seed=seed, losses=losses))


def _groups(trained: Pretrained) -> float:
    """Groups a token touches, on average over the last held-out batch and the layers."""
    counts = []
    for entry in trained.log:
        assert isinstance(entry.decision, Decision)
        groups = entry.decision.experts // SIZE
        counts += [len(set(row)) for row in groups.tolist()]
    return sum(counts) / len(counts)

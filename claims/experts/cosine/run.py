"""How far hidden states spread around the centre of those sent to the same expert.

The paper's measure divides by the spread of the centres by a pseudo-inverse; here it is a ratio of
traces, which needs no inverse of a matrix of rank seven. Met on average, but the two seeds
disagree: their spread is more than twice the mean.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from turnout.experts.cosine import Cosine
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, evaluate, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import Decision, Gate, GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    linear, linear_spread = _train(SoftmaxTopK(k=1, weights="plain"), corpus, seed)
    cosine, cosine_spread = _train(Cosine(k=1), corpus, seed)
    return {
        "log_spread_ratio": math.log(cosine_spread / linear_spread),
        "cosine_minus_linear": cosine.loss - linear.loss,
        "cosine_spread": cosine_spread,
        "linear_spread": linear_spread,
        "cosine_loss": cosine.loss,
        "linear_loss": linear.loss,
        "cosine_max_violation": cosine.max_violation,
        "linear_max_violation": linear.max_violation,
    }


def _train(gate: GateRecipe, corpus: Corpus, seed: int) -> tuple[Pretrained, float]:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    plan = Plan(steps=300, seed=seed, losses=Losses({"switch": (switch_loss, 0.01)}))
    trained = pretrain(model, corpus, plan)
    return trained, _spread(model, corpus, plan)


def _spread(model: TinyLM, corpus: Corpus, plan: Plan) -> float:
    """Variance within groups over variance between them, held-out text, mean over layers."""
    seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def keep(module: Any, given: tuple[Any, ...], decision: Decision) -> None:
        seen.setdefault(id(module), []).append((given[0], decision.experts[:, 0]))

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, Gate)]
    evaluate(model, corpus, plan)
    for handle in handles:
        handle.remove()
    found = []
    for parts in seen.values():
        x = torch.cat([part[0] for part in parts])
        expert = torch.cat([part[1] for part in parts])
        within = between = 0.0
        for j in torch.unique(expert).tolist():
            rows = x[expert == j]
            centre = rows.mean(dim=0)
            within += float((rows - centre).square().sum())
            between += len(rows) * float((centre - x.mean(dim=0)).square().sum())
        found.append(within / between)
    return sum(found) / len(found)

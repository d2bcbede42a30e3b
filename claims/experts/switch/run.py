"""How much room a Switch layer needs.

Room behaves as the paper says; the advantage over a dense layer of equal work is not seen. With
room for all (factor 2) the two are level, at factor 1.25 the dropped tokens cost 0.02 nats. The
likely reason is the length of the run: in 400 batches an expert sees some 26 thousand characters,
an eighth of what the dense layer sees, and has not yet learned what makes it worth having.
"""

from __future__ import annotations

from pathlib import Path

import torch

from turnout.experts.switch import Switch
from turnout.lab.corpus import Corpus, standard_library
from turnout.lab.pretraining import Plan, Pretrained, pretrain
from turnout.nn.balance import Losses, switch_loss
from turnout.nn.gates import GateRecipe
from turnout.nn.tiny import TinyConfig, TinyLM


def run(seed: int, data: Path | None) -> dict[str, float]:
    torch.set_num_threads(1)
    corpus = standard_library()
    balance = Losses({"switch": (switch_loss, 0.01)})
    tight, middle, roomy = (
        _train(Switch(capacity=factor), balance, corpus, seed) for factor in (1.0, 1.25, 2.0)
    )
    dense = _train(None, None, corpus, seed)
    return {
        "tight_minus_roomy": tight.loss - roomy.loss,
        "dense_minus_switch": dense.loss - middle.loss,
        "dropped": middle.dropped,
        "dropped_tight": tight.dropped,
        "dropped_roomy": roomy.dropped,
        "tight_loss": tight.loss,
        "middle_loss": middle.loss,
        "roomy_loss": roomy.loss,
        "dense_loss": dense.loss,
    }


def _train(gate: GateRecipe | None, losses: Losses | None, corpus: Corpus, seed: int) -> Pretrained:
    model = TinyLM(TinyConfig(), gate, generator=torch.Generator().manual_seed(seed))
    return pretrain(model, corpus, Plan(seed=seed, losses=losses))

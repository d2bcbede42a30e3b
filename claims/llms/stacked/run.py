"""The stacked router on MMLU, on subjects seen and unseen, beside words alone and length alone.

The form's columns, the way of weighing and the sizes of the forest were compared on the split of
seed 0; the seeds here are others. The rows are the same, so expect the figures to be slightly
optimistic.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.core import Recipe
from turnout.llms.linear import Linear
from turnout.llms.stacked import Stacked


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "routellm_gpt4_mixtral.csv.gz").outcomes
    assert table.group is not None
    table = table.take(np.array([label != "gsm8k" for label in table.group]))
    methods: dict[str, Recipe] = {"stacked": Stacked(), "linear": Linear()}
    found: dict[str, float] = {}
    for name, folds in (("seen", 5), ("unseen", 6)):
        judged = evaluate(
            table,
            methods,
            folds=folds,
            leave_groups_out=name == "unseen",
            seed=seed,
            resamples=1,
        )
        ours, words = judged.row("stacked"), judged.row("linear")
        length = judged.row("prompt_length").apgr
        found |= {
            f"apgr_{name}": ours.apgr,
            f"{name}_minus_linear": ours.apgr - words.apgr,
            f"{name}_minus_length": ours.apgr - length,
            f"ece_{name}": ours.ece,
            f"linear_{name}": words.apgr,
            f"length_{name}": length,
        }
    return found

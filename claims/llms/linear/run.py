"""The linear router in domain on MMLU, out of fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.llms.linear import Linear


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "routellm_gpt4_mixtral.csv.gz").outcomes
    assert table.group is not None
    table = table.take(np.array([label != "gsm8k" for label in table.group]))
    found = evaluate(table, {"linear": Linear()}, folds=5, seed=seed, resamples=1)
    row, length = found.row("linear"), found.row("prompt_length")
    return {
        "apgr": row.apgr,
        "apgr_minus_length": row.apgr - length.apgr,
        "ece": row.ece,
        "cpt50": row.cpt50,
        "cpt80": row.cpt80,
        "length_apgr": length.apgr,
        "group_mean_apgr": found.row("group_mean").apgr,
        "oracle_apgr": found.row("oracle").apgr,
    }

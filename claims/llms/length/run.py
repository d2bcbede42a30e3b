"""The length prior on MMLU, in domain and on subjects left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.llms.length import Length


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "routellm_gpt4_mixtral.csv.gz").outcomes
    assert table.group is not None
    table = table.take(np.array([label != "gsm8k" for label in table.group]))
    methods = {"length": Length()}
    inside = evaluate(table, methods, folds=5, seed=seed, resamples=1).row("length")
    outside = evaluate(table, methods, folds=5, leave_groups_out=True, seed=seed, resamples=1).row(
        "length"
    )
    return {
        "apgr": inside.apgr,
        "apgr_left_out": outside.apgr,
        "ece": inside.ece,
        "cpt50": inside.cpt50,
        "cpt80": inside.cpt80,
    }

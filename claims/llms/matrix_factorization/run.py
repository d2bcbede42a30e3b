"""Matrix factorization on the two models of RouteLLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.llms.matrix_factorization import MatrixFactorization

ROWS = 4000


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "routellm_gpt4_mixtral.csv.gz").outcomes
    order = np.random.default_rng(seed).permutation(table.n)
    train, test = table.take(order[:ROWS]), table.take(order[ROWS : 2 * ROWS])
    found = evaluate(train, {"mf": MatrixFactorization()}, test=test, seed=seed, resamples=1)
    row, length = found.row("mf"), found.row("prompt_length").apgr
    return {
        "apgr": row.apgr,
        "apgr_minus_length": row.apgr - length,
        "apgr_length": length,
        "cpt50": row.cpt50,
        "fit_seconds": row.fit_seconds,
        "decision_us_p50": row.decision_us_p50,
    }

"""kNN against the zero router on two sub-sets of RouterBench."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.core import Outcomes
from turnout.llms.knn import Knn

SUBSETS = ("arc_challenge", "winogrande")


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = _pooled(
        [
            read(data / f"routerbench_0shot_{subset}_{part}.csv.gz").outcomes
            for subset in SUBSETS
            for part in ("train", "test")
        ]
    )
    order = np.random.default_rng(seed).permutation(table.n)
    cut = round(0.7 * table.n)
    found = evaluate(
        table.take(order[:cut]),
        {"k=40": Knn(k=40), "k=5": Knn(k=5)},
        test=table.take(order[cut:]),
        seed=seed,
        resamples=1,
    )
    zero = found.row("zero_router").aiq
    return {
        "knn40_minus_zero": found.row("k=40").aiq - zero,
        "knn5_minus_zero": found.row("k=5").aiq - zero,
        "knn40_aiq": found.row("k=40").aiq,
        "zero_aiq": zero,
        "oracle_aiq": found.row("oracle").aiq,
        "length_aiq": found.row("prompt_length").aiq,
    }


def _pooled(parts: list[Outcomes]) -> Outcomes:
    """One table of several with the same models."""
    names = parts[0].names
    parts = [part.select(names) for part in parts]
    inputs: list[str] = []
    for part in parts:
        inputs.extend(part.inputs)
    return Outcomes(
        inputs=inputs,
        names=names,
        quality=np.vstack([part.quality for part in parts]),
        cost=np.vstack([part.cost for part in parts]),
    )

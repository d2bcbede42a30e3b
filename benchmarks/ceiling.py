"""Estimates how much of the differences between models a prompt's text could tell at all.

    python benchmarks/ceiling.py --data DIR [--json FILE]

One graded answer a cell is a coin toss, so the oracle is out of reach. How far, prompts that are
nearly the same show: what two of them share of the difference between models, its correlation,
is what their common text can tell; the rest is luck, or words that both lack. Pairs are taken by
the cosine of their words and pairs of words (`turnout.parts.texts.bags`), exact repeats left out.

A predictor of differences that tells a share rho of their variance, and is right on average, has

    APGR = 1/2 + G / 2,    G = sqrt(rho * variance) / (mean * sqrt(pi))

if its predictions are normal: G is the Gini index of what it predicts, since the gap recovered
is its concentration curve. That is a rough guide and no bound: prompts may be told apart better
than by the words they share, and the normal law lets predictions fall below nothing.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from turnout.bench import read
from turnout.core import Outcomes
from turnout.core._check import Float, Int
from turnout.parts.texts.bags import learn_features

EDGES = (0.3, 0.4, 0.5, 0.65, 0.8, 0.999)
FEWEST = 50


def pairs(outcomes: Outcomes) -> tuple[Int, Int, Float]:
    """Rows of pairs at least as alike as the first edge, and how alike they are."""
    x = learn_features(outcomes.inputs).transform(outcomes.inputs)
    found = []
    for start in range(0, outcomes.n, 1000):
        alike = (x[start : start + 1000] @ x.T).tocoo()
        kept = (alike.data >= EDGES[0]) & (alike.col > alike.row + start)
        found.append((alike.row[kept] + start, alike.col[kept], alike.data[kept]))
    first, second, cosine = (np.concatenate(part) for part in zip(*found, strict=True))
    return first, second, cosine


def shared(outcomes: Outcomes, resamples: int = 400) -> list[dict[str, float]]:
    """For each band of likeness: how many pairs, and what they share of the differences."""
    difference = outcomes.quality - outcomes.quality.mean(axis=1, keepdims=True)
    difference = difference - difference.mean(axis=0)
    first, second, cosine = pairs(outcomes)
    rng = np.random.default_rng(0)
    rows = []
    for low, high in pairwise(EDGES):
        kept = np.flatnonzero((cosine >= low) & (cosine < high))
        if len(kept) < FEWEST:
            continue
        one, other = difference[first[kept]], difference[second[kept]]
        both = (one * other).sum(axis=1)
        own = ((one**2).sum(axis=1) + (other**2).sum(axis=1)) / 2
        # whole rows are drawn anew, with all of their pairs: a prompt stands in many
        samples = []
        for _ in range(resamples):
            weight = rng.poisson(1.0, outcomes.n)
            pair = weight[first[kept]] * weight[second[kept]]
            samples.append((pair @ both) / max(pair @ own, 1e-12))
        edge = np.quantile(samples, (0.025, 0.975))
        rows.append(
            {
                "from": low,
                "to": high,
                "pairs": len(kept),
                "share": float(both.sum() / own.sum()),
                "share_low": float(edge[0]),
                "share_high": float(edge[1]),
            }
        )
    return rows


def apgr_of(share: float, gain: Float) -> float:
    """What telling a share of the variance of the gain would be worth, by the rough guide."""
    spread = float(np.sqrt(max(share, 0.0) * gain.var()))
    return 0.5 + spread / (2 * float(gain.mean()) * float(np.sqrt(np.pi)))


def main() -> None:
    """Print a table for each set of outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("TURNOUT_DATA"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.data is None:
        parser.error("pass --data DIR or set TURNOUT_DATA: the folder of real tables")
    two = read(options.data / "routellm_gpt4_mixtral.csv.gz").outcomes
    assert two.group is not None
    mmlu = two.take(np.flatnonzero([label != "gsm8k" for label in two.group]))
    nine = read(options.data / "llmrouter_9models.csv.gz").outcomes
    nine = nine.take(np.flatnonzero(~np.isnan(nine.quality).any(axis=1)))
    console, result = Console(highlight=False), dict[str, Any]()
    for name, outcomes in (("MMLU, two models", mmlu), ("nine models", nine)):
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title=name)
        for title in ("cosine", "pairs", "shared of the differences", "APGR that would be"):
            table.add_column(title, justify="right")
        rows = shared(outcomes)
        for row in rows:
            worth = "-"
            if outcomes.m == 2:
                gain = outcomes.quality[:, 1] - outcomes.quality[:, 0]
                gain = gain if gain.mean() > 0 else -gain
                row["apgr"] = apgr_of(row["share"], gain)
                ends = (apgr_of(row[key], gain) for key in ("share_low", "share_high"))
                worth = "{:.2f} [{:.2f}, {:.2f}]".format(row["apgr"], *ends)
            share = "{share:.3f} [{share_low:.3f}, {share_high:.3f}]".format(**row)
            table.add_row(f"{row['from']}-{row['to']}", f"{row['pairs']:,}", share, worth)
        console.print(table)
        console.print()
        result[name] = rows
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

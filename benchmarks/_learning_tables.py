"""The real tables of the learning benchmarks, and what is known of their models beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.bench import read
from turnout.core import Outcomes, Pool

#: Table, its files, and the file that describes its models.
FILES = {
    "llmrouter": ("llmrouter_9models.csv.gz",),
    "routerbench": tuple(
        f"routerbench_0shot_{name}_{split}.csv.gz"
        for name in ("arc_challenge", "winogrande")
        for split in ("train", "test")
    ),
    "routellm": ("routellm_gpt4_mixtral.csv.gz",),
}
DESCRIPTIONS = "llmrouter_prices.json"


@dataclass(frozen=True, eq=False)
class Table:
    """One table, every cell seen, and its models' prices, descriptions and sizes."""

    name: str
    outcomes: Outcomes
    pool: Pool


def load(name: str, folder: Path, rows: int | None = None) -> Table:
    """A table, its files one after another, rows with blanks left out; `rows` of them at most.

    LLMRouter's models come with prices per token, descriptions and sizes. Of the others nothing is
    known but the name and the price of an answer, which is their mean cost.
    """
    parts = [read(folder / file).outcomes for file in FILES[name]]
    whole = parts[0]
    if len(parts) > 1:
        whole = Outcomes(
            inputs=[text for part in parts for text in part.inputs],
            names=whole.names,
            quality=np.concatenate([part.quality for part in parts]),
            cost=np.concatenate([part.cost for part in parts]),
            group=[label for part in parts for label in part.group or ()],  # type: ignore[arg-type]
        )
    blank = np.isnan(whole.quality) | np.isnan(whole.cost)
    kept = np.flatnonzero(~blank.any(axis=1))
    if rows is not None and rows < len(kept):
        kept = np.sort(np.random.default_rng(0).choice(kept, rows, replace=False))
    outcomes = whole.take(kept)
    return Table(name, outcomes, _pool(name, outcomes, folder))


def _pool(name: str, outcomes: Outcomes, folder: Path) -> Pool:
    if name != "llmrouter":
        return outcomes.pool()
    told = json.loads((folder / DESCRIPTIONS).read_text(encoding="utf-8"))
    entries = [told[model] for model in outcomes.names]
    size = [float(entry["size"].removesuffix("B")) for entry in entries]
    return Pool(
        names=outcomes.names,
        usd_per_input_token=np.array([entry["input_price"] for entry in entries]) / 1e6,
        usd_per_output_token=np.array([entry["output_price"] for entry in entries]) / 1e6,
        description=tuple(str(entry["feature"]) for entry in entries),
        features=np.log(size)[:, None],
    )

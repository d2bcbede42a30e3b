"""What `gateway.py` sends, the router it is decided by, and the arrivals it replays."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from _gateway_upstream import PACED  # type: ignore[import-not-found,unused-ignore]

#: Bytes of a request's body.
SIZE = 400
#: Bodies sent in turn, so that no gateway sees one prompt only.
BODIES = 256
TABLE = "routellm_gpt4_mixtral.csv.gz"
TRACE = Path("levels/traces/azure_llm_2023_code.csv.gz")


@dataclass(frozen=True)
class Task:
    """Texts to ask with, the router's file, and what it routes between."""

    texts: list[str]
    router: Path
    names: tuple[str, ...]
    mean_cost: float
    source: str


def make_task(data: Path | None, folder: Path, seed: int = 0) -> Task:
    """Fit the default text router: on the real table where it is, else on a made-up one."""
    import turnout
    from turnout.core import Outcomes
    from turnout.llms.linear import Linear
    from turnout.parts import store

    rng = np.random.default_rng(seed)
    if data is not None and (data / TABLE).is_file():
        from turnout.bench import read

        table = read(data / TABLE).outcomes
        source = "the RouteLLM table (MMLU and GSM8K questions)"
    else:
        inputs = _made_up(rng)
        quality = (rng.random((len(inputs), 2)) < [0.68, 0.81]).astype(float)
        cost = np.tile([0.0002, 0.01], (len(inputs), 1))
        table = Outcomes(inputs=inputs, names=("small", "large"), quality=quality, cost=cost)
        source = "made-up prompts"
    fitted = turnout.fit(Linear(l2=(1.0,)), table)
    path = folder / "router.turnout"
    store.save(path, fitted, table.pool(), method="linear")
    means = np.nanmean(table.cost, axis=0)
    order = rng.permutation(len(table.inputs))[: 4 * BODIES]
    return Task(
        texts=[str(table.inputs[int(i)]) for i in order],
        router=path,
        names=tuple(table.names),
        mean_cost=float(means.mean()),
        source=source,
    )


def _made_up(rng: np.random.Generator, count: int = 4000) -> list[str]:
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = rng.integers(2, 11, 20_000)
    words = np.array(["".join(letters[rng.zipf(1.3, length) % 26]) for length in lengths])
    return [" ".join(words[rng.zipf(1.25, 60) % len(words)]) for _ in range(count)]


def bodies(texts: list[str], model: str, *, stream: bool = False, paced: bool = False) -> list[str]:
    """Chat requests of `SIZE` bytes each, about the texts."""
    made = []
    for i in range(BODIES):
        # letters, digits and blanks only: every byte of the text is one byte of the body
        text = re.sub(r"[^A-Za-z0-9 ]+", " ", texts[i % len(texts)]).strip()
        text = f"{PACED} {text}" if paced else text
        request: dict[str, Any] = {"model": model, "messages": [], "max_tokens": 32}
        if stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        request["messages"] = [{"role": "user", "content": ""}]
        room = SIZE - len(json.dumps(request, separators=(",", ":")))
        filled = " ".join([text] * (room // (len(text) + 1) + 1))[:room]
        request["messages"][0]["content"] = filled.ljust(room, ".")
        made.append(json.dumps(request, separators=(",", ":")))
    return made


@dataclass(frozen=True)
class Arrivals:
    """Seconds at which requests come, and how uneven that is."""

    due: list[float]
    rate: float
    peak: float

    def about(self) -> str:
        """In words."""
        return (
            f"{len(self.due)} arrivals of the Azure code trace of 2023 compressed to "
            f"{self.rate:.0f} a second on average, {self.peak:.0f} a second in the fullest 10 ms"
        )


def arrivals(
    data: Path | None, rate: float, most: int | None = None
) -> tuple[Arrivals | None, str]:
    """A real trace at a mean rate with its bursts; else why not."""
    path = None if data is None else data / TRACE
    if path is None or not path.is_file():
        return None, "the trace is not here: give the folder of the data sets by --data"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        times = [_seconds(row["TIMESTAMP"]) for row in csv.DictReader(file)]
    times = sorted(times)[:most]
    scale = (len(times) - 1) / (times[-1] - times[0]) / rate
    due = [(time - times[0]) * scale for time in times]
    fullest = max(Counter(int(time * 100) for time in due).values()) * 100.0
    return Arrivals(due, rate, fullest), ""


def _seconds(text: str) -> float:
    """Of a time stamp with seven decimals."""
    whole, _, part = text.partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{part or 0}")


def burstiness(due: list[float]) -> float:
    """Squared coefficient of variation of the gaps: 1 where arrivals are Poisson."""
    gaps = np.array([later - earlier for earlier, later in pairwise(due)])
    return float(gaps.var() / gaps.mean() ** 2)


def data_folder(given: Path | None) -> Path | None:
    """The folder of real data sets, if there is one."""
    if given is not None:
        return given
    return Path(os.environ["TURNOUT_DATA"]) if os.environ.get("TURNOUT_DATA") else None

"""Tryage over n-gram models trained on real text, and on nine real language models.

What came out. The best of seven is picked for two thirds of the passages, and seven in ten were
asked for. The generalist is best on half of them, and even the oracle is only some 6 % below its
loss, so that 5 % was hardly there to be had; the router earns about a third of it. Most of what is
missed probably lies in passages of two sources, where the generalist and an expert are close (not
measured apart). On a table drawn with another seed neither more directions, more units, more
passes, nor a wide network over all words picked more often.

A weight is large once it times the least difference in size outweighs any difference in loss: the
two smallest models differ by 0.04 of the range, so that the sweep goes to 50. A first run stopped
at 5; a second went to 50 and found that large penalties were cut to ties, which was put right in
the method. No band was moved.
"""

from __future__ import annotations

import csv
import gzip
import pydoc_data.topics
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.bench import evaluate, read
from turnout.core import Outcomes
from turnout.lab.corpus import standard_library
from turnout.llms.tryage import FittedTryage, Tryage

TEXT, ALL, LENGTH = 100_000, 40_000, 200
TRAIN, TEST = 3000, 1000
#: Characters of a source used to teach the router, and to judge it, after those of the models.
SPARE = 60_000
#: A loss of this many nats a character is a quality of 0: blind guessing among ASCII.
BLIND = float(np.log(128))
MEDICAL = (
    "professional_medicine", "college_medicine", "anatomy", "nutrition", "medical_genetics",
    "high_school_biology", "human_aging",
)  # fmt: skip

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class NGram:
    """A character model by interpolation (Witten and Bell 1991): contexts, counts, kinds."""

    order: int
    tables: list[tuple[Codes, Codes, Codes, Codes, Codes]]

    @property
    def size(self) -> int:
        """Pairs of context and character kept."""
        return sum(len(table[0]) for table in self.tables)

    def loss(self, text: Codes) -> float:
        """Nats a character, each told from those before it in the passage."""
        p = np.full(len(text), 1 / 128)
        for length, (pairs, count, contexts, total, kinds) in enumerate(self.tables):
            context, pair = _codes(text, length)
            found, seen = _look(contexts, total, context), _look(pairs, count, pair)
            many = _look(contexts, kinds, context)
            p = np.where(found > 0, (seen + many * p) / np.maximum(found + many, 1), p)
        return float(-np.log(p).mean())


def train(text: Codes, order: int) -> NGram:
    tables = []
    for length in range(order):
        _, pair = _codes(text, length)
        pairs, count = np.unique(pair[length:], return_counts=True)
        contexts, first, total = np.unique(pairs >> 7, return_index=True, return_counts=True)
        kinds = total.copy()
        total = np.add.reduceat(count, first)
        tables.append((pairs, count, contexts, total, kinds))
    return NGram(order, tables)


def _codes(text: Codes, length: int) -> tuple[Codes, Codes]:
    """The `length` characters before each one, and those with it, as numbers."""
    context = np.zeros(len(text), dtype=np.int64)
    for back in range(length, 0, -1):
        before = np.concatenate((np.zeros(back, dtype=np.int64), text[:-back]))
        context = (context << 7) | before
    return context, (context << 7) | text


def _look(keys: Codes, values: Codes, asked: Codes) -> Codes:
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[at] == asked, values[at], 0)


def sources(data: Path) -> dict[str, str]:
    library = standard_library()
    headers = Path(sysconfig.get_paths()["include"])
    by_task: dict[str, list[str]] = {}
    with gzip.open(data / "routellm_gpt4_mixtral.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_task.setdefault(row["task"], []).append(row["prompt"])
    return {
        "python": bytes(library.train).decode("ascii"),
        "manual": "\n".join(pydoc_data.topics.topics.values()),
        "c": "\n".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(headers.rglob("*.h"))
        ),
        "sums": "\n".join(by_task["gsm8k"]),
        "law": "\n".join(by_task["professional_law"]),
        "medicine": "\n".join(text for task in MEDICAL for text in by_task[task]),
    }


def passages(spare: list[str], n: int, rng: Generator) -> list[str]:
    """Half of one source, half of two: its first part from one, the rest from another."""

    def cut(source: int, length: int) -> str:
        start = int(rng.integers(len(spare[source]) - length))
        return spare[source][start : start + length]

    found = []
    for _ in range(n):
        one, two = rng.choice(len(spare), size=2, replace=False)
        first = LENGTH if rng.random() < 0.5 else int(rng.integers(LENGTH // 4, 3 * LENGTH // 4))
        found.append(cut(int(one), first) + cut(int(two), LENGTH - first))
    return found


def ids(text: str) -> Codes:
    return np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64)


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    rng = np.random.default_rng(seed)
    texts = sources(data)
    needed = TEXT + 2 * SPARE
    assert all(len(text) >= needed for text in texts.values()), {
        k: len(v) for k, v in texts.items()
    }
    models = {name: train(ids(text[:TEXT]), 4) for name, text in texts.items()}
    models["all"] = train(ids("".join(text[:ALL] for text in texts.values())), 5)

    def table(first: int, n: int) -> Outcomes:
        prompts = passages([text[first : first + SPARE] for text in texts.values()], n, rng)
        loss = np.array([[model.loss(ids(text)) for model in models.values()] for text in prompts])
        return Outcomes(
            inputs=prompts,
            names=tuple(models),
            quality=np.clip(1 - loss / BLIND, 0, 1),
            cost=np.ones(loss.shape),
        )

    known, new = table(TEXT, TRAIN), table(TEXT + SPARE, TEST)
    sizes = {name: float(model.size) for name, model in models.items()}
    recipe = Tryage(attributes={"size": sizes})
    fitted = recipe.fit(known, known.pool(), rng=np.random.default_rng(seed))
    plain = replace(recipe, level=1.0).fit(known, known.pool(), rng=np.random.default_rng(seed))
    loss = BLIND * (1 - new.quality)
    rows, best = np.arange(new.n), loss.argmin(axis=1)
    choice = fitted.losses(new.inputs).argmin(axis=1)
    chosen, oracle, general = (
        float(value.mean()) for value in (loss[rows, choice], loss.min(axis=1), loss[:, -1])
    )
    accuracy = float((choice == best).mean())
    centroid = _centroid(fitted, texts, new)
    weights = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 50.0)
    mean_size, smallest = _front(fitted, weights, new, np.array(list(sizes.values())))
    nine = read(data / "llmrouter_9models.csv.gz").outcomes
    order = np.random.default_rng(seed).permutation(nine.n)
    cut = round(0.7 * nine.n)
    found = evaluate(
        nine.take(order[:cut]),
        {"tryage": Tryage()},
        test=nine.take(order[cut:]),
        seed=seed,
        resamples=1,
    )
    return {
        "selection_accuracy": accuracy,
        "above_centroid": accuracy - float((centroid == best).mean()),
        "loss_below_generalist": 1 - chosen / general,
        "regret_share": (chosen - oracle) / (general - oracle),
        "size_rises": float(np.maximum(np.diff(mean_size), 0).sum()),
        "smallest_at_large_weight": smallest,
        "relative_minus_absolute": accuracy
        - float((plain.losses(new.inputs).argmin(axis=1) == best).mean()),
        "nine_minus_zero": found.row("tryage").aiq - found.row("zero_router").aiq,
        "best_single_accuracy": float((np.bincount(best, minlength=len(models)) / new.n).max()),
        "loss_generalist": general,
        "loss_chosen": chosen,
        "loss_oracle": oracle,
        "mean_size_free": mean_size[0] / max(sizes.values()),
        "nine_aiq": found.row("tryage").aiq,
    }


def _centroid(fitted: FittedTryage, texts: dict[str, str], new: Outcomes) -> Codes:
    """The model whose own training text is nearest on the mean; the generalist's is all of it."""
    centres = []
    for text in (*(text[:TEXT] for text in texts.values()), None):
        parts = (
            [text[at : at + LENGTH] for at in range(0, TEXT, LENGTH)]
            if text is not None
            else [t[at : at + LENGTH] for t in texts.values() for at in range(0, ALL, LENGTH)]
        )
        mean = fitted.encoder.encode(parts).mean(axis=0)
        centres.append(mean / np.linalg.norm(mean))
    near: Codes = (fitted.encoder.encode(new.inputs) @ np.array(centres).T).argmax(axis=1)
    return near


def _front(
    fitted: FittedTryage, weights: tuple[float, ...], new: Outcomes, size: NDArray[np.float64]
) -> tuple[list[float], float]:
    """Mean size at each weight, and the share of the smallest model at the largest."""
    found = []
    for weight in weights:
        turned = fitted.with_penalties({"size": weight})
        choice = turned.predict(new.inputs)[0].argmax(axis=1)
        found.append(float(size[choice].mean()))
    return found, float((choice == size.argmin()).mean())

"""Measures whether a large table fits: 100,000 prompts by 50 models, fitted and predicted.

    python benchmarks/large.py [--method NAME] [--rows N] [--models M] [--json FILE]

Marks: at most 8 GB of memory and five minutes, for the fit and for predicting as many new prompts,
each in a process of its own whose peak is its own. One processor thread for linear algebra;
processor seconds stand beside those of the clock, which on a busy machine counts what others do.

Prompts are drawn from a seed: words by Zipf's law from a vocabulary of 200,000 (so that, as in real
text, most words are rare and new ones keep coming), lengths log-normal as those of MMLU questions,
in forty topics, each with words of its own that it takes more often. Models are good at some topics
more than at others. What is learnt from them says nothing of real prompts: only time and memory are
measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from rich.console import Console
from rich.table import Table

from turnout import catalog
from turnout.bench import output
from turnout.core import InputError, Outcomes, TurnoutError
from turnout.core._check import Float, Int
from turnout.parts import store

#: What a fit, and what predicting, may take.
GIGABYTES, SECONDS = 8.0, 300.0
WORDS, TOPICS, OWN = 200_000, 40, 2_000
#: Prompts that are predicted at once.
BATCH = 10_000


@dataclass(frozen=True)
class Step:
    """What one step took, in a process of its own."""

    name: str
    seconds: float
    cpu: float
    gigabytes: float
    before_gigabytes: float

    @property
    def met(self) -> bool:
        """Whether it is within both marks."""
        return self.seconds <= SECONDS and self.gigabytes <= GIGABYTES


def vocabulary(rng: Generator) -> list[str]:
    """Made-up words, the commonest short, as in a language."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weights = 1.0 / np.arange(1, 27)
    rank = np.arange(WORDS)
    sizes = np.clip(rng.poisson(2.0 + 0.55 * np.log1p(rank)), 1, 16)
    marks = rng.choice(letters, size=int(sizes.sum()), p=weights / weights.sum())
    ends = np.cumsum(sizes)
    return ["".join(marks[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def prompts(n: int, words: list[str], own: Int, rng: Generator) -> Iterator[tuple[int, str]]:
    """Topic and text of each prompt; `own` holds the words of each topic (t, w)."""
    lengths = np.clip(rng.lognormal(4.0, 0.8, n), 4, 1500).astype(np.int64)
    topics = rng.integers(0, TOPICS, n)
    ends = np.array([" ", " ", " ", " ", " ", " ", " ", ", ", ". ", "? ", ".\n"])
    for length, topic in zip(lengths.tolist(), topics.tolist(), strict=True):
        # Zipf's law with exponent 1.1, cut off at the end of the vocabulary
        rank = np.minimum(rng.zipf(1.1, length) - 1, WORDS - 1)
        special = rng.random(length) < 0.15
        at: Int = np.where(special, own[topic, np.minimum(rank, OWN - 1)], rank)
        after = ends[rng.integers(0, len(ends), length)]
        yield topic, "".join(words[k] + mark for k, mark in zip(at.tolist(), after, strict=True))


def made_table(n: int, m: int, seed: int, part: int = 0) -> Outcomes:
    """A table of n prompts by m models of known prices, every cell seen.

    Parts of one seed share the language and the models, and have other prompts.
    """
    rng = np.random.default_rng(seed)
    words = vocabulary(rng)
    own = rng.permutation(WORDS)[: TOPICS * OWN].reshape(TOPICS, OWN)
    skill: Float = rng.normal(0.0, 1.0, (TOPICS, m))
    rng = np.random.default_rng([seed, part])
    found = list(prompts(n, words, own, rng))
    topic = np.array([one for one, _ in found])
    chance = 1.0 / (1.0 + np.exp(-(skill[topic] + np.linspace(-0.5, 1.5, m))))
    quality = (rng.random((n, m)) < chance).astype(np.float64)
    size = np.array([len(text) for _, text in found], dtype=np.float64)
    price = np.geomspace(1e-7, 1e-5, m)
    return Outcomes(
        inputs=[text for _, text in found],
        names=tuple(f"model-{j:02d}" for j in range(m)),
        quality=quality,
        cost=(size[:, None] / 4 + 200) * price,
    )


def peak() -> float:
    """Most memory this process has held, in gigabytes (10^9 bytes)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if platform.system() == "Darwin" else 1024) / 1e9


def fit(method: str, n: int, m: int, seed: int, file: Path) -> dict[str, Any]:
    """Fit the method and save it."""
    table = made_table(n, m, seed)
    recipe = catalog.recipe(catalog.find(method, level="llms").name)()
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(seed))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    most = peak()
    store.save(file, fitted, table.pool(), method=f"llms.{method}")
    characters = float(np.mean([len(text) for text in table.inputs]))
    return {
        "seconds": seconds, "cpu": cpu, "gigabytes": most, "before_gigabytes": before,
        "characters": characters, "file_megabytes": file.stat().st_size / 1e6,
    }  # fmt: skip


def predict(n: int, m: int, seed: int, file: Path) -> dict[str, Any]:
    """Predict as many prompts that it has not seen."""
    router = store.load(file).router
    table = made_table(n, m, seed, part=1)
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    total = 0.0
    for first in range(0, n, BATCH):
        quality, _ = router.predict(table.inputs[first : first + BATCH])  # type: ignore[attr-defined]
        total += float(quality.mean()) * len(quality)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu": cpu, "gigabytes": peak(), "before_gigabytes": before,
        "mean_quality": total / n,
    }  # fmt: skip


def apart(step: str, options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """One step in a process of its own, so that its peak is its own.

    Raises
    ------
    InputError
        It failed, with its last words.
    """
    command = [sys.executable, __file__, "--step", step, "--file", str(file)]
    for name in ("method", "rows", "models", "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **threads}
    )
    if done.returncode:
        killed = f"stopped by signal {-done.returncode}" if done.returncode < 0 else "no reason"
        last = (done.stderr.strip().splitlines() or [killed])[-1]
        raise InputError(step, "finish", last, "Fewer rows need less memory.")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def show(steps: list[Step], about: str, console: Console) -> None:
    """One line a step, and whether it is within the marks."""
    console.print(f"{about} (marks: {GIGABYTES:g} GB and {SECONDS:g} s each)")
    table = Table()
    table.add_column("")
    for title in ("seconds", "processor", "peak GB", "of it before", "marks"):
        table.add_column(title, justify="right", no_wrap=True)
    for step in steps:
        table.add_row(
            step.name,
            f"{step.seconds:.1f}",
            f"{step.cpu:.1f}",
            f"{step.gigabytes:.2f}",
            f"{step.before_gigabytes:.2f}",
            "met" if step.met else "missed",
        )
    console.print(table)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of a large table.")
    parser.add_argument("--method", default="linear", help="by its catalogue name")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--step", choices=("fit", "predict"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit status 1 where a mark is missed."""
    options = _options(arguments)
    n, m, seed = options.rows, options.models, options.seed
    if options.step == "fit":
        print(json.dumps(fit(options.method, n, m, seed, options.file)))
        return 0
    if options.step == "predict":
        print(json.dumps(predict(n, m, seed, options.file)))
        return 0
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    try:
        if options.json:
            output.check_folder("--json", options.json)
        catalog.find(options.method, level="llms")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "router.turnout"
            steps: list[Step] = []
            notes: dict[str, Any] = {}
            for name in ("fit", "predict"):
                with errors.status(f"{options.method}: {name}"):
                    found = apart(name, options, file)
                figures = {key: found.pop(key) for key in ("seconds", "cpu", "gigabytes")}
                steps.append(Step(name, **figures, before_gigabytes=found.pop("before_gigabytes")))
                notes |= found
    except TurnoutError as error:
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    show(steps, f"{options.method}, {n:,} prompts by {m} models", console)
    console.print(
        f"mean prompt {notes['characters']:.0f} characters; router file "
        f"{notes['file_megabytes']:.0f} MB; {1e6 * steps[1].seconds / n:.0f} us a prompt predicted"
    )
    if options.json:
        document = {
            "method": options.method, "rows": n, "models": m, "seed": seed, **notes,
            "marks": {"gigabytes": GIGABYTES, "seconds": SECONDS},
            "steps": [asdict(step) | {"met": step.met} for step in steps],
        }  # fmt: skip
        output.write_json("--json", options.json, document)
    return 0 if all(step.met for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())

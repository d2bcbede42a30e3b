"""Train the laboratory's models: `python -m turnout.lab.train`.

Deterministic: step `i` of seed `s` draws its problems from a generator seeded with `(s, i)`, so a
run that was stopped and resumed ends in the weights of a run that was not. Weights and optimiser
state are saved as safetensors; beside the weights lies a JSON record of how they came to be.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from turnout.core.errors import InputError, MissingExtraError
from turnout.lab import tasks, tokenizer
from turnout.lab.config import Config
from turnout.lab.model import LanguageModel
from turnout.lab.plans import PLANS, Plan

try:
    import torch
    import torch.nn.functional as F  # noqa: N812 - the customary name
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise MissingExtraError("torch", "torch") from error

from turnout.lab import network
from turnout.lab.optimiser import Optimiser

__all__ = ["evaluate", "loss_of", "main", "train"]

_WARMUP = 100
_SAVE_SECONDS = 30.0
_PARTS = 4  # a batch is cut by length, which saves padding


def _batch(plan: Plan, seed: int, step: int) -> list[tuple[list[int], list[int]]]:
    """Token ids (prompt, answer) of the training problems of one step, shortest first."""
    rng = np.random.default_rng([seed, 2, step])
    names = tuple(task for task, _ in plan.mix)
    weights = np.array([weight for _, weight in plan.mix])
    rows = []
    for _ in range(plan.batch):
        problem = tasks.sample(rng, evaluation=False, tasks=names, weights=weights)
        prompt = [*tokenizer.encode(problem.prompt), tokenizer.ASK]
        rows.append((prompt, [*tokenizer.encode(problem.answer), tokenizer.END]))
    return sorted(rows, key=lambda row: len(row[0]) + len(row[1]))


def loss_of(
    weights: dict[str, torch.Tensor], config: Config, rows: Sequence[tuple[list[int], list[int]]]
) -> torch.Tensor:
    """Summed cross-entropy, in nats, of the answers' tokens given the prompts."""
    size = max(len(question) + len(reply) for question, reply in rows) - 1
    ids = np.full((len(rows), size), tokenizer.PAD)
    scored: list[int] = []
    target: list[int] = []
    for i, (question, reply) in enumerate(rows):
        begin, end = len(question), len(question) + len(reply) - 1
        ids[i, :end] = question + reply[:-1]
        scored.extend(range(i * size + begin - 1, i * size + end))
        target.extend(reply)
    lengths = torch.tensor([len(question) for question, _ in rows])
    scores = network.forward(weights, config, torch.from_numpy(ids), lengths, torch.tensor(scored))
    return F.cross_entropy(scores, torch.tensor(target), reduction="sum")


def _rate(plan: Plan, step: int) -> float:
    """Learning rate of step `step` (from 0): linear warm-up, then half a cosine to zero."""
    warm = min(_WARMUP, plan.steps // 10 + 1)
    if step < warm:
        return plan.rate * (step + 1) / warm
    return plan.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, plan.steps - warm)))


def evaluate(model: LanguageModel, problems: Sequence[tasks.Problem]) -> dict[str, Any]:
    """Exact-match accuracy on problems: over all, and by task and difficulty."""
    replies = model.generate([problem.prompt for problem in problems])
    marks: dict[str, dict[int, list[float]]] = {}
    for problem, reply in zip(problems, replies, strict=True):
        cell = marks.setdefault(problem.task, {}).setdefault(problem.difficulty, [])
        cell.append(tasks.grade(problem, reply.text))
    every = [mark for row in marks.values() for cell in row.values() for mark in cell]
    return {
        "n": len(every),
        "accuracy": round(float(np.mean(every)), 4),
        "by_task": {
            task: {str(d): round(float(np.mean(row[d])), 3) for d in sorted(row)}
            for task, row in sorted(marks.items())
        },
    }


def _numpy(plan: Plan, weights: dict[str, torch.Tensor]) -> LanguageModel:
    """The model as it will run: weights rounded to the float16 they are stored in."""
    arrays = {name: value.half().float().numpy() for name, value in weights.items()}
    return LanguageModel(plan.name, plan.config, arrays)


def _save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write whole or not at all: a stop while saving leaves the last good file."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata)
    partial.replace(path)


def _load(path: Path, identity: dict[str, Any]) -> tuple[dict[str, torch.Tensor], int, float]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        kept = json.loads(file.metadata()["run"])
    if kept["identity"] != json.loads(json.dumps(identity)):
        raise InputError(
            str(path),
            "be a checkpoint of this run",
            kept["identity"],
            "Pass --fresh to start over.",
        )
    return load_file(path), int(kept["step"]), float(kept["seconds"])


def train(
    plan: Plan,
    out: Path,
    *,
    seed: int = 0,
    fresh: bool = False,
    stop_after: int | None = None,
    examined: int = 3000,
    progress: Any = None,
) -> dict[str, Any] | None:
    """Train one model; write `NAME.safetensors` and `NAME.json` to `out`.

    Parameters
    ----------
    plan : Plan
        What to train.
    out : Path
        Folder; a checkpoint there of the same run is resumed.
    seed : int
        Seed of the weights and the problems.
    fresh : bool
        Ignore a checkpoint.
    stop_after : int, optional
        Save a checkpoint and return after this many steps in all.
    examined : int
        Held-out problems, of all tasks, that the record's accuracies are measured on.
    progress : callable, optional
        Called as `progress(step, loss, accuracy)` after each step; accuracy (held out) is None
        between evaluations.

    Returns
    -------
    dict or None
        The record, or None if stopped before the end.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{plan.name}.checkpoint.safetensors"
    made_by = {name: value for name, value in asdict(plan).items() if name != "summary"}
    identity = {**made_by, "seed": seed, "vocabulary": tokenizer.fingerprint()}
    generator = torch.Generator().manual_seed(seed)
    weights = network.initial(plan.config, generator=generator)
    state, begin, seconds = Optimiser.fresh(weights), 0, 0.0
    if checkpoint.exists() and not fresh:
        tensors, begin, seconds = _load(checkpoint, identity)
        weights = {name: tensors[f"w.{name}"] for name in weights}
        state = {name: tensors[name] for name in state}
    for value in weights.values():
        value.requires_grad_(True)
    optimiser = Optimiser(weights, state)
    names = [task for task, _ in plan.mix]
    watched = tasks.problems(256, seed=999, tasks=names)
    started = saved = perf_counter()

    def keep(step: int) -> None:
        run = {"identity": identity, "step": step, "seconds": seconds + perf_counter() - started}
        tensors = {f"w.{name}": value.detach() for name, value in weights.items()} | state
        _save(checkpoint, tensors, {"run": json.dumps(run)})

    for step in range(begin, plan.steps):
        rows = _batch(plan, seed, step)
        size = math.ceil(len(rows) / _PARTS)
        count = sum(len(reply) for _, reply in rows)
        total = 0.0
        gradients: dict[str, torch.Tensor] = {}
        for start in range(0, len(rows), size):
            loss = loss_of(weights, plan.config, rows[start : start + size]) / count
            parts = torch.autograd.grad(loss, list(weights.values()))
            for name, part in zip(weights, parts, strict=True):
                gradients[name] = gradients[name] + part if name in gradients else part
            total += loss.item()
        norm = torch.stack([value.norm() for value in gradients.values()]).norm()
        scale = min(1.0, 1.0 / (norm.item() + 1e-6))
        gradients = {name: value * scale for name, value in gradients.items()}
        optimiser.step(gradients, _rate(plan, step), step + 1)
        accuracy = None
        if (step + 1) % 250 == 0:
            detached = {name: value.detach() for name, value in weights.items()}
            accuracy = evaluate(_numpy(plan, detached), watched)["accuracy"]
        if progress is not None:
            progress(step + 1, total, accuracy)
        if step + 1 == stop_after and stop_after < plan.steps:
            keep(step + 1)
            return None
        if perf_counter() - saved > _SAVE_SECONDS:
            keep(step + 1)
            saved = perf_counter()
    seconds += perf_counter() - started
    final = {name: value.detach() for name, value in weights.items()}
    # One entry: the file's writer does not keep the order of several, and equal runs shall end
    # in equal bytes.
    model = {"config": asdict(plan.config), "vocabulary": tokenizer.fingerprint()}
    record = {
        **identity,
        "parameters": plan.config.parameters(),
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "held_out": evaluate(_numpy(plan, final), tasks.problems(examined, seed=1)),
    }
    _save(
        out / f"{plan.name}.safetensors",
        {name: value.half() for name, value in final.items()},
        {"model": json.dumps(model)},
    )
    (out / f"{plan.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)
    return record


def _work(plan: Plan, options: argparse.Namespace, queue: Any) -> str:
    """Train one model in a process of its own and report to the queue."""
    torch.set_num_threads(1)
    record = train(
        plan,
        options.out,
        seed=options.seed,
        fresh=options.fresh,
        progress=lambda *news: queue.put((plan.name, *news)),
    )
    accuracy = "stopped" if record is None else f"{record['held_out']['accuracy']:.3f} held out"
    return f"{plan.name}: {accuracy}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the models of the laboratory's pool; a stopped run goes on where it was."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    parser = argparse.ArgumentParser(prog="python -m turnout.lab.train", description=main.__doc__)
    parser.add_argument("--only", choices=sorted(PLANS), help="train this model only")
    parser.add_argument("--out", type=Path, default=Path("lab-weights"), help="folder to write to")
    parser.add_argument("--steps", type=int, help="steps instead of the plan's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore checkpoints")
    parser.add_argument("--jobs", type=int, default=2, help="models trained side by side")
    options = parser.parse_args(arguments)
    plans = [PLANS[options.only]] if options.only else list(PLANS.values())
    if options.steps is not None:
        plans = [replace(plan, steps=options.steps) for plan in plans]
    # The longest first, so that no process is left alone with a long one at the end.
    plans.sort(key=lambda plan: -plan.steps * plan.batch * plan.config.parameters())
    columns = (
        TextColumn("{task.description:8}"), BarColumn(),
        TextColumn("{task.completed}/{task.total}"), TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("exact {task.fields[exact]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(options.jobs, mp_context=context) as workers,
        Progress(*columns) as bar,
    ):
        queue = manager.Queue()
        waiting = {workers.submit(_work, plan, options, queue) for plan in plans}
        rows = {
            plan.name: bar.add_task(plan.name, total=plan.steps, loss=math.nan, exact="-")
            for plan in plans
        }
        while waiting:
            done, waiting = wait(waiting, timeout=0.5)
            while not queue.empty():
                name, step, loss, accuracy = queue.get()
                bar.update(rows[name], completed=step, loss=loss)
                if accuracy is not None:
                    bar.update(rows[name], exact=f"{accuracy:.3f}")
                    if not bar.console.is_terminal:
                        bar.console.print(f"{name} {step}: loss {loss:.3f}, exact {accuracy:.3f}")
            for future in done:
                bar.console.print(future.result())


if __name__ == "__main__":
    main()

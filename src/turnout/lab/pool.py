"""The pool of the laboratory: four trained models, what they charge, and how to ask them.

A price is never set by hand: it is `USD_PER_TFLOP` times the operations an answer really takes
(`Config.flops`). The constant makes the dear generalist cost a few dollars per million tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as read_tensors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from turnout.core import Outcomes, Pool
from turnout.core.errors import DataError, InputError
from turnout.lab import tokenizer
from turnout.lab.config import Config
from turnout.lab.model import LanguageModel
from turnout.lab.plans import PLANS
from turnout.lab.tasks import Problem, grade, problems

__all__ = [
    "USD_PER_TFLOP",
    "Asked",
    "as_pool",
    "ask",
    "cost",
    "load",
    "models",
    "names",
    "one_thread",
    "outcomes",
    "prices",
    "read",
]

USD_PER_TFLOP: Final = 1.0

# A typical request and answer of the tasks, at which the prices per token are taken.
_TYPICAL_PROMPT, _TYPICAL_ANSWER = 14, 4


def names() -> tuple[str, ...]:
    """Names of the models, cheapest first."""
    return tuple(PLANS)


def read(name: str, data: bytes) -> LanguageModel:
    """Read a model from the bytes of a safetensors file that the training wrote.

    Raises
    ------
    DataError
        If the file is damaged or was trained with another vocabulary.
    """
    where = f"weights of {name}"
    hint = "Train it again: python -m turnout.lab.train."
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["model"])
        config, vocabulary = Config.from_dict(about["config"]), about["vocabulary"]
        arrays = read_tensors(data)
    except Exception as error:  # whatever is wrong inside, the file is what to replace
        raise DataError(where, "be a file the training wrote", str(error), hint) from error
    if vocabulary != tokenizer.fingerprint():
        raise DataError(where, "use this vocabulary", vocabulary, hint)
    return LanguageModel(name, config, arrays)


@cache
def load(name: str) -> LanguageModel:
    """One model of the pool with the weights this package ships; read once, then kept.

    Raises
    ------
    InputError
        If there is no such model.
    """
    if name not in PLANS:
        raise InputError("name", "be a model of the pool", name, f"Pick from {', '.join(PLANS)}.")
    return read(name, files("turnout.lab").joinpath("weights", f"{name}.safetensors").read_bytes())


def models() -> dict[str, LanguageModel]:
    """All models by name, cheapest first."""
    return {name: load(name) for name in names()}


def cost(model: LanguageModel, prompt_tokens: int, completion_tokens: int) -> float:
    """Price in USD of one answer: exactly proportional to its operations."""
    return USD_PER_TFLOP * 1e-12 * model.flops(prompt_tokens, completion_tokens)


def prices(model: LanguageModel) -> tuple[float, float]:
    """Price in USD of one more token read and of one more token written, on a typical request.

    A list price must be linear in tokens and attention is not, so this is the slope of
    :func:`cost` at 14 tokens read and 4 written; over the tasks it is within a few per cent of
    the exact cost.
    """
    p, c = _TYPICAL_PROMPT, _TYPICAL_ANSWER
    base = cost(model, p, c)
    return cost(model, p + 1, c) - base, cost(model, p, c + 1) - base


def as_pool() -> Pool:
    """The pool with its list prices per token, as a router and the gateway read it."""
    listed = np.array([prices(model) for model in models().values()])
    return Pool(
        names=names(),
        usd_per_input_token=listed[:, 0],
        usd_per_output_token=listed[:, 1],
        description=tuple(PLANS[name].summary for name in names()),
    )


@dataclass(frozen=True, eq=False)
class Asked:
    """What every model answered to every problem.

    Parameters
    ----------
    names : tuple of str
        The m models, in column order.
    quality : array (n, m)
        1.0 where the answer was right, else 0.0.
    cost : array (n, m)
        USD, exact.
    latency : array (n, m)
        Seconds of computing, measured: the answer's part of its batch's wall time.
    replies : tuple of tuple of str
        The n rows of m answers.
    """

    names: tuple[str, ...]
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    latency: NDArray[np.float64]
    replies: tuple[tuple[str, ...], ...]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let matrix products use one thread while the block runs.

    They are small here: a second thread wins little on an idle computer and, where it has to wait
    for a processor, makes each product wait too, many times over.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def ask(
    asked: Sequence[Problem],
    of: Iterable[LanguageModel] | None = None,
    *,
    progress: Callable[[str, int], None] | None = None,
) -> Asked:
    """Ask models all problems and grade what they answer.

    Parameters
    ----------
    asked : sequence of Problem
        The n problems, at least one.
    of : iterable of LanguageModel, optional
        The m models; the whole pool by default.
    progress : callable, optional
        Called after every batch as `progress(model name, problems just answered)`.

    Returns
    -------
    Asked
    """
    if not asked:
        raise InputError(
            "asked", "hold at least one problem", 0, "Draw some: problems(100, seed=0)."
        )
    chosen = list(models().values() if of is None else of)
    if not chosen:
        raise InputError("of", "hold at least one model", 0, "Leave it out to ask the whole pool.")
    n, m = len(asked), len(chosen)
    quality, price, latency = np.empty((n, m)), np.empty((n, m)), np.empty((n, m))
    columns: list[list[str]] = []
    prompts = [problem.prompt for problem in asked]
    for j, model in enumerate(chosen):
        told = None if progress is None else partial(progress, model.name)
        with one_thread():
            replies = model.generate(prompts, progress=told)
        for i, (problem, reply) in enumerate(zip(asked, replies, strict=True)):
            quality[i, j] = grade(problem, reply.text)
            price[i, j] = USD_PER_TFLOP * 1e-12 * reply.flops
            latency[i, j] = reply.seconds
        columns.append([reply.text for reply in replies])
    rows = tuple(zip(*columns, strict=True))
    return Asked(tuple(model.name for model in chosen), quality, price, latency, rows)


def outcomes(
    n: int, *, seed: int, progress: Callable[[str, int], None] | None = None
) -> tuple[Outcomes, Pool]:
    """Ask the whole pool `n` evaluation problems, as a table to fit and judge routers on.

    Parameters
    ----------
    n : int
        Number of problems, at least 1.
    seed : int
        Seed of the problems.
    progress : callable, optional
        As for :func:`ask`.

    Returns
    -------
    Outcomes
        Prompts, quality, cost in USD, latency in seconds, answers; grouped by task.
    Pool
        The models with their list prices.
    """
    drawn = problems(n, seed=seed)
    asked = ask(drawn, progress=progress)
    table = Outcomes(
        inputs=[problem.prompt for problem in drawn],
        names=asked.names,
        quality=asked.quality,
        cost=asked.cost,
        latency=asked.latency,
        group=tuple(problem.task for problem in drawn),
        answers=np.array(asked.replies, dtype=object).reshape(asked.quality.shape),
    )
    return table, as_pool()

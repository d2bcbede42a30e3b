"""Verification of digits under shift, and of a small language model's answers.

What is missed: at the rate of 0.95 not one answer of the cheap language model is admitted, so
that its accuracy of 1 and the gain of 0 are those of no answer kept. Its verifier is right 78 times
in 100, and 97 times where more than five neighbours agree, but a region in which both classes are
right at 0.95 begins at qt = 2.8, and what is above that the bounds for 600 calibration rows take
away again. At a rate of 0.85, on other rows, 28 per cent were admitted, and right at 0.86. The
method rejects where it cannot know; the default asks for more than this many rows can show.

The bands of the digits were not written blind: while the estimator was built it was tried on seeds
0 and 1 of the same digits and shifts, where it admitted 0.32 and 0.44 in distribution. Only seed 2
is new. The band of 0.25 for that is below the 0.3 expected beforehand; the limit of 0.05 on shifts
and the rate of 0.95 are as expected beforehand. The prompts of the laboratory were new to it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from turnout.core import Outcomes
from turnout.lab import pool
from turnout.llms.sdm import FittedSdm, Sdm
from turnout.parts.learners.sdm import Settings, fit_estimator

FITTED, PROMPTS, TASKS_KEPT_OUT = 1300, 1600, 4


def run(seed: int, data: Path | None) -> dict[str, float]:
    return {**_digits(seed), **_routing(seed)}


def _digits(seed: int) -> dict[str, float]:
    images, digit = load_digits(return_X_y=True)
    images, odd = images / 16.0, digit % 2
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    train, test = order[:FITTED], order[FITTED:]
    fitted = fit_estimator(images[train], odd[train], 2, Settings(runs=3), rng=rng)
    softmax = LogisticRegression(max_iter=2000).fit(images[train], odd[train])
    shifted = _shifts(images[test], rng)
    found: dict[str, float] = {}
    for name, some in {"in": images[test], **shifted}.items():
        estimate = fitted.estimate(some)
        right = estimate.predicted == odd[test]
        found[f"{name}_admitted"] = float(estimate.admitted.mean())
        # nothing admitted is nothing wrong
        found[f"{name}_accuracy"] = _mean(right[estimate.admitted])
        chance = softmax.predict_proba(some)
        sure = chance.max(axis=1) >= 0.95
        found[f"softmax_{name}_admitted"] = float(sure.mean())
        found[f"softmax_{name}_accuracy"] = _mean((chance.argmax(axis=1) == odd[test])[sure])
    found["worst_shift_admitted"] = max(found[f"{name}_admitted"] for name in shifted)
    return found


def _shifts(images: Any, rng: np.random.Generator) -> dict[str, Any]:
    square = images.reshape(-1, 8, 8)
    return {
        "noisy": np.clip(images + 0.35 * rng.standard_normal(images.shape), 0, 1),
        "noisier": np.clip(images + 0.5 * rng.standard_normal(images.shape), 0, 1),
        "turned": np.rot90(square, axes=(1, 2)).reshape(len(images), -1),
        "aside": np.roll(square, 1, axis=2).reshape(len(images), -1),
        "noise": rng.random(images.shape),
    }


def _routing(seed: int) -> dict[str, float]:
    table = _asked()
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.n)
    cut = 3 * table.n // 4
    train, test = table.take(order[:cut]), table.take(order[cut:])
    kept, good, ends = _kept(_fit(train, seed), test)
    tasks = sorted(set(table.group or ()))
    out = set(rng.permutation(tasks)[:TASKS_KEPT_OUT].tolist())
    strange = np.array([task in out for task in table.group or ()])
    known, new = table.take(~strange), table.take(strange)
    fitted = _fit(known, seed)
    admitted, cheap, strong = _kept(fitted, new)
    assert fitted.encoder is not None
    weak = int(fitted.order[0])
    softmax = LogisticRegression(max_iter=2000).fit(
        fitted.encoder.encode(known.inputs), known.quality[:, weak] > 0.5
    )
    chance = softmax.predict_proba(fitted.encoder.encode(new.inputs))[:, 1]
    most = np.zeros(new.n, dtype=bool)
    most[np.argsort(-chance, kind="stable")[: int(admitted.sum())]] = True
    return {
        "lab_admitted": float(kept.mean()),
        "lab_accuracy": _mean(good[kept] > 0.5),
        "lab_cheap_accuracy": float(good.mean()),
        "lab_quality": float(np.where(kept, good, ends).mean()),
        "lab_strong_quality": float(ends.mean()),
        "lab_new_tasks_admitted": float(admitted.mean()),
        "lab_new_tasks_gain": float(
            np.where(admitted, cheap, strong).mean() - np.where(most, cheap, strong).mean()
        ),
    }


@cache
def _asked() -> Outcomes:
    """The same prompts for every seed: two models, the cheapest and the dearest."""
    table, _ = pool.outcomes(PROMPTS, seed=0)
    return table.select([table.names[0], table.names[-1]])


def _fit(table: Outcomes, seed: int) -> FittedSdm:
    return Sdm(runs=5).fit(table, table.pool(), rng=np.random.default_rng(seed))


def _kept(fitted: FittedSdm, table: Outcomes) -> tuple[Any, Any, Any]:
    """Where the cheap answer is kept, and the quality of the cheap and of the dear one."""
    weak, strong = int(fitted.order[0]), int(fitted.order[-1])
    return (
        fitted.gate(table.inputs)[:, weak] == 1,
        table.quality[:, weak],
        table.quality[:, strong],
    )


def _mean(right: Any) -> float:
    return float(right.mean()) if len(right) else 1.0

"""Which rows to learn from and which to judge on."""

from __future__ import annotations

from collections import Counter

import numpy as np

from turnout.core import InputError, Outcomes, _check
from turnout.core._check import Int

__all__ = ["splits"]


def splits(
    outcomes: Outcomes, *, folds: int = 5, leave_groups_out: bool = False, seed: int = 0
) -> list[tuple[Int, Int]]:
    """Rows (train, test) of each fold; every row is in exactly one test part.

    Rows of one prompt always share a fold, or the answer would leak from one to the other.

    Parameters
    ----------
    folds : int
        Parts, >= 2; with `leave_groups_out` at most one a group label.
    leave_groups_out : bool
        Keep each group label whole, so that every test row comes from groups never learnt from.
        A prompt that stands in several groups is then left out of training where it is judged.

    Raises
    ------
    InputError
        There are fewer different prompts than folds, or fewer than two group labels.
    """
    folds = _check.integer("folds", folds, low=2)
    rng = np.random.default_rng(seed)
    prompt = _identities(outcomes)
    if leave_groups_out:
        part = _parts_by_group(outcomes, folds, rng)
    else:
        different = int(prompt.max()) + 1
        if different < folds:
            rule = f"be at most the number of different prompts, {different}"
            raise InputError("folds", rule, folds, "Lower --folds or add rows.")
        part = (rng.permutation(different) % folds)[prompt]
    result = []
    for fold in range(int(part.max()) + 1):
        inside = part == fold
        leaking = np.isin(prompt, prompt[inside])
        train = np.flatnonzero(~leaking)
        if len(train) == 0:
            rule = "leave rows to learn from"
            raise InputError("folds", rule, "every prompt stands in every fold", "Use k folds.")
        result.append((train, np.flatnonzero(inside)))
    return result


def _identities(outcomes: Outcomes) -> Int:
    """A number for each different input, (n,)."""
    inputs = outcomes.inputs
    keys = [row.tobytes() for row in inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    number: dict[object, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def _parts_by_group(outcomes: Outcomes, folds: int, rng: np.random.Generator) -> Int:
    """Whole groups, the largest first, each to the part that is lightest so far."""
    labels = outcomes.group
    sizes = Counter(labels or ())
    if labels is None or len(sizes) < 2:
        rule = "have at least two group labels to leave groups out"
        hint = "Add a column `group`, or judge without --leave-groups-out."
        raise InputError("the table", rule, sorted(sizes), hint)
    order = [str(name) for name in rng.permutation(sorted(sizes))]
    order.sort(key=lambda name: -sizes[name])
    load = np.zeros(min(folds, len(sizes)), dtype=np.int64)
    part_of: dict[str, int] = {}
    for name in order:
        lightest = int(load.argmin())
        part_of[name] = lightest
        load[lightest] += sizes[name]
    return np.array([part_of[label] for label in labels], dtype=np.int64)

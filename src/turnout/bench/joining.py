"""Labels of a model that joins a router, put beside what the table says of the others."""

from __future__ import annotations

import numpy as np

from turnout.core import InputError, Outcomes
from turnout.core._check import Float

__all__ = ["merge_labels"]


def merge_labels(outcomes: Outcomes, labels: Outcomes, name: str) -> tuple[Outcomes, int]:
    """A table with the labels of one destination that another table holds.

    A label goes to the first row of its prompt that has none yet; labels of prompts that are not in
    the table become further rows, which no other destination has answered.

    Parameters
    ----------
    outcomes : Outcomes
        Texts; may hold a column of that name already.
    labels : Outcomes
        Texts; holds a column of that name.
    name : str

    Returns
    -------
    merged : Outcomes
        Its inputs, names, quality and cost alone.
    rows : int
        Rows added.

    Raises
    ------
    InputError
        The labels hold no such column, or one of the tables holds arrays.
    """
    for table, which in ((outcomes, "the table"), (labels, "the labels")):
        if isinstance(table.inputs, np.ndarray):
            raise InputError(which, "hold texts", table.inputs.shape, "Pass prompts.")
    if name not in labels.names:
        hint = f"It holds {', '.join(labels.names)}."
        raise InputError("the labels", f"hold a column {name!r}", "none", hint)
    others = [known for known in outcomes.names if known != name]
    mine = outcomes.names.index(name) if name in outcomes.names else None
    taken = np.zeros(outcomes.n, np.bool_) if mine is None else outcomes.seen[:, mine]
    free: dict[str, list[int]] = {}
    for row in np.flatnonzero(~taken)[::-1]:
        free.setdefault(outcomes.inputs[int(row)], []).append(int(row))
    inputs = list(outcomes.inputs)
    source = np.flatnonzero(labels.seen[:, labels.names.index(name)])
    place = []
    for row in source:
        text = labels.inputs[int(row)]
        if free.get(text):
            place.append(free[text].pop())
        else:
            place.append(len(inputs))
            inputs.append(text)

    def joined(table: Float, told: Float) -> Float:
        made = np.full((len(inputs), len(others) + 1), np.nan)
        made[: outcomes.n, :-1] = table[:, [outcomes.names.index(known) for known in others]]
        if mine is not None:
            made[: outcomes.n, -1] = table[:, mine]
        made[place, -1] = told[source, labels.names.index(name)]
        return made

    merged = Outcomes(
        inputs=inputs,
        names=(*others, name),
        quality=joined(outcomes.quality, labels.quality),
        cost=joined(outcomes.cost, labels.cost),
    )
    return merged, merged.n - outcomes.n

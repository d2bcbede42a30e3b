"""What every fitted method must do, whatever it is."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from turnout.core import Assignment, InputError, Inputs, Pool, TurnoutError
from turnout.parts import store
from turnout.testing.subject import ContractError, Subject
from turnout.testing.watch import bytes_of, changed, global_rng, other_global_rng

__all__ = [
    "assignment_valid",
    "bad_inputs_refused",
    "empty_batch",
    "global_rng_untouched",
    "inputs_not_mutated",
    "one_destination",
    "pickle_round_trip",
    "predict_is_pure",
    "predictions_valid",
    "same_rng_same_route",
    "same_routes",
    "store_round_trip",
    "unknown_destination_refused",
]


def same_rng_same_route(subject: Subject) -> None:
    """Fitting and routing twice with the same rng gives the same route."""
    inputs = subject.test.outcomes.inputs
    first = subject.route(subject.fitted, inputs)
    with other_global_rng():
        again = subject.route(subject.again.fitted, inputs)
    same_routes(first, again, "a second fit with the same rng")


def global_rng_untouched(subject: Subject) -> None:
    """Neither fitting nor routing draws from or seeds a global random number generator."""
    if "rng" in subject.again.touched:
        raise ContractError("fit must draw from its `rng` only; it touched the global generator")
    before = global_rng()
    subject.route(subject.fitted, subject.test.outcomes.inputs)
    if changed(before, global_rng()):
        raise ContractError("route must draw from its `rng` only; it touched the global generator")


def predict_is_pure(subject: Subject) -> None:
    """Routing and predicting twice gives the same answer: nothing is remembered between calls."""
    inputs = subject.test.outcomes.inputs
    first = subject.route(subject.fitted, inputs)
    subject.route(subject.fitted, subject.train.outcomes.inputs)
    same_routes(first, subject.route(subject.fitted, inputs), "a second call")
    if hasattr(subject.fitted, "predict"):
        one, two = subject.predictor.predict(inputs), subject.predictor.predict(inputs)
        if not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
            raise ContractError("predict must be pure; two calls on one batch differ")


def inputs_not_mutated(subject: Subject) -> None:
    """The table, the pool and the batch are left as they were, and may be read-only."""
    for what in ("outcomes", "pool"):
        if what in subject.again.touched:
            raise ContractError(f"fit must not change the {what} it is given")
    pool = subject.pool
    was = bytes_of(pool)
    batch, kept = _fresh(subject.test.outcomes.inputs), _fresh(subject.test.outcomes.inputs)
    subject.route(subject.fitted, batch, pool)
    if bytes_of(pool) != was:
        raise ContractError("route must not change the pool it is given")
    if not np.array_equal(np.asarray(batch), np.asarray(kept)):
        raise ContractError("route must not change the inputs it is given")


def pickle_round_trip(subject: Subject) -> None:
    """The fitted thing survives pickling and gives the same route."""
    inputs = subject.test.outcomes.inputs
    try:
        copy = pickle.loads(pickle.dumps(subject.fitted))
    except Exception as error:
        raise ContractError(f"the fitted router must pickle; {_tell(error)}") from error
    same_routes(
        subject.route(subject.fitted, inputs), subject.route(copy, inputs), "a pickle round trip"
    )


def store_round_trip(subject: Subject) -> None:
    """A router file written by `parts.store.save` and read again gives the same route."""
    inputs, pool = subject.test.outcomes.inputs, subject.pool
    package = type(subject.fitted).__module__.partition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router.turnout"
        try:
            store.save(path, subject.fitted, pool)
            loaded = store.load(path, trust=(package,))
        except TurnoutError as error:
            raise ContractError(f"a router file must hold the fitted router; {error}") from error
    same_routes(
        subject.route(subject.fitted, inputs, pool),
        subject.route(loaded.router, inputs, loaded.pool),
        "a router file",
    )


def empty_batch(subject: Subject) -> None:
    """A batch of no items gets a route of no items."""
    none: Inputs = np.empty((0, 8)) if subject.case.inputs == "array" else ()
    m = subject.pool.m
    assignment = subject.route(subject.fitted, none)
    if assignment.n != 0 or assignment.m != m:
        raise ContractError(f"an empty batch must give shape (0, k) over {m}; got {assignment.n}")
    if hasattr(subject.fitted, "predict"):
        for name, array in zip(("quality", "cost"), subject.predictor.predict(none), strict=True):
            if np.shape(array) != (0, m):
                raise ContractError(
                    f"predict must give {name} of shape (0, {m}) for an empty batch; "
                    f"got {np.shape(array)}"
                )


def one_destination(subject: Subject) -> None:
    """With a single destination everything goes there."""
    problem = subject.train.outcomes
    alone = problem.select(problem.names[:1])
    fitted = subject.fit(alone)
    routed = subject.route(fitted, subject.test.outcomes.inputs, alone.pool())
    if not np.allclose(np.asarray(routed.dense()), 1.0):
        raise ContractError("with one destination every item must go to it with weight 1")


def assignment_valid(subject: Subject) -> None:
    """Every item goes somewhere known, with weights that sum to one."""
    routed = subject.route(subject.fitted, subject.test.outcomes.inputs)
    index, total = np.asarray(routed.index), np.asarray(routed.weight).sum(axis=1)
    if (index < 0).all(axis=1).any():
        row = int(np.flatnonzero((index < 0).all(axis=1))[0])
        raise ContractError(f"every item must go somewhere; item {row} has only -1")
    if not np.allclose(total, 1.0, atol=1e-6):
        row = int(np.abs(total - 1.0).argmax())
        raise ContractError(f"weights must sum to 1 per item; item {row} sums to {total[row]:.6g}")


def predictions_valid(subject: Subject) -> None:
    """Predicted quality lies in [0, 1], predicted cost is finite and >= 0, both (n, m)."""
    table = subject.test.outcomes
    quality, cost = subject.predictor.predict(table.inputs)
    for name, array, high in (("quality", quality, 1.0), ("cost", cost, np.inf)):
        if np.shape(array) != (table.n, table.m):
            raise ContractError(
                f"predicted {name} must have shape ({table.n}, {table.m}); got {np.shape(array)}"
            )
        bad = ~np.isfinite(array) | (array < 0) | (array > high)
        if bad.any():
            value = float(np.asarray(array)[bad][0])
            raise ContractError(f"predicted {name} must be finite and in range; got {value!r}")


def bad_inputs_refused(subject: Subject) -> None:
    """What is no batch is refused with an `InputError` that names `inputs`."""
    bad: dict[str, Any]
    if subject.case.inputs == "array":
        good = np.asarray(subject.test.outcomes.inputs)[:3].copy()
        nan, inf = good.copy(), good.copy()
        nan[1, 0], inf[1, 0] = np.nan, np.inf
        bad = {"NaN": nan, "infinity": inf, "two columns": good[:, :2], "one axis": good[0]}
    else:
        bad = {"an array (3, 4)": np.zeros((3, 4)), "numbers": [1, 2, 3], "None": [None, "a"]}
    for what, value in bad.items():
        try:
            subject.route(subject.fitted, value)
        except InputError as error:
            if "input" not in error.field:
                raise ContractError(
                    f"refusing {what}, the error must name `inputs`; it says: {error}"
                ) from error
        except ContractError:
            raise
        except Exception as error:
            raise ContractError(f"{what} must be refused as InputError; {_tell(error)}") from error
        else:
            raise ContractError(f"{what} must be refused with an InputError; it was routed")


def unknown_destination_refused(subject: Subject) -> None:
    """A pool with a destination never seen in fitting is refused by name."""
    pool = Pool(names=(*subject.pool.names[1:], "newcomer"))
    try:
        subject.route(subject.fitted, subject.test.outcomes.inputs, pool)
    except InputError as error:
        if "newcomer" not in str(error):
            raise ContractError(
                f"the refusal must name the destination; it says: {error}"
            ) from error
    except Exception as error:
        raise ContractError(f"it must be refused as InputError; {_tell(error)}") from error
    else:
        raise ContractError("a pool with an unknown destination must be refused; it was routed")


def same_routes(one: Assignment, two: Assignment, what: str) -> None:
    """Refuse two assignments that differ."""
    first, second = np.asarray(one.dense()), np.asarray(two.dense())
    if first.shape != second.shape or not np.allclose(first, second, atol=1e-9):
        rows = int((np.abs(first - second).max(axis=1) > 1e-9).sum())
        raise ContractError(f"{what} must give the same route; {rows} of {len(first)} items differ")


def _tell(error: Exception) -> str:
    return f"it raised {type(error).__name__}: {error}"


def _fresh(inputs: Inputs) -> Inputs:
    return inputs.copy() if isinstance(inputs, np.ndarray) else list(inputs)

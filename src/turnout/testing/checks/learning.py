"""Whether a method learns what is there, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from turnout.core import Budget, Outcomes, Sequential
from turnout.testing import planted
from turnout.testing.subject import ContractError, Subject, gain, singles

__all__ = [
    "blank_cells",
    "equal_quality",
    "gains_on_planted",
    "never_above_oracle",
    "no_gain_on_noise",
    "zero_costs",
]

#: Least gain on the planted problem over mixtures of single destinations at equal cost.
_GAIN = 0.05
#: Most gain on noise, mean of two shuffles: luck in a cell of the problem is worth some of it.
_NOISE = 0.06


def gains_on_planted(subject: Subject) -> None:
    """On the planted hard problem it gains over the best single destination, for no more cost.

    Its sweep must rise above every mixture of single destinations by 0.05 somewhere, and reach
    the quality of the best single one, plus 0.02, at no more than that one's cost.
    """
    reached = subject.reached
    base = singles(subject.test, drawn=isinstance(subject.fitted, Sequential))
    above = gain(reached, base)
    if above < _GAIN:
        raise ContractError(
            f"on the planted problem it must gain {_GAIN} over mixtures of single destinations; "
            f"got {above:.3f}"
        )
    best = int(base.quality.argmax())
    bar, price = float(base.quality[best]), float(base.cost[best])
    within = reached.quality[reached.cost <= price * (1 + 1e-9)]
    if not len(within) or within.max() < bar + 0.02:
        top = float(within.max()) if len(within) else float("nan")
        raise ContractError(
            f"at the cost of {subject.test.outcomes.names[best]!r} it must beat its quality "
            f"{bar:.3f} by 0.02; got {top:.3f}"
        )


def no_gain_on_noise(subject: Subject) -> None:
    """Fitted on outcomes dealt to other inputs, it gains nothing: there is nothing to learn.

    Judged where spending is free: there one destination leads by far, so that an honest method
    stays with it, and only one that brings its knowledge along can gain by leaving it.
    """
    base = singles(subject.test, drawn=isinstance(subject.fitted, Sequential))
    gains = []
    for seed in (11, 12):
        noise = planted.shuffled(subject.train.outcomes, np.random.default_rng(seed))
        gains.append(gain(subject.sweep(subject.fit(noise), subject.test, prices=(0.0,)), base))
    if np.mean(gains) > _NOISE:
        raise ContractError(
            f"fitted on noise it must gain nothing (at most {_NOISE}); got {np.mean(gains):.3f}: "
            "it knows what its table does not say"
        )


def never_above_oracle(subject: Subject) -> None:
    """What it reaches never exceeds sending each item to its best destination."""
    best = float(subject.test.expected.max(axis=1).mean())
    if isinstance(subject.fitted, Sequential):
        best = float(subject.test.outcomes.quality.max(axis=1).mean())
    reached = float(subject.reached.quality.max())
    if reached > best + 1e-9:
        raise ContractError(
            f"nothing can earn more than the oracle's {best:.4f}; got {reached:.4f}"
        )


def blank_cells(subject: Subject) -> None:
    """With a tenth of the cells never seen it still routes, and predicts no NaN."""
    table = planted.blanked(subject.train.outcomes, 0.1, np.random.default_rng(6))
    _routes(subject, table, "a tenth of the cells blank")


def equal_quality(subject: Subject) -> None:
    """Where every answer is equally good it still routes."""
    table = subject.train.outcomes
    _routes(subject, replace(table, quality=np.full((table.n, table.m), 0.5)), "equal quality")


def zero_costs(subject: Subject) -> None:
    """Where every answer is free it still routes."""
    table = subject.train.outcomes
    _routes(subject, replace(table, cost=np.zeros((table.n, table.m))), "zero costs")


def _routes(subject: Subject, table: Outcomes, what: str) -> None:
    try:
        fitted = subject.fit(table)
        inputs = subject.test.outcomes.inputs
        for budget in (Budget(), Budget(price=40.0)):
            routed = subject.route(fitted, inputs, table.pool(), budget)
            total = np.asarray(routed.weight).sum(axis=1)
            if not np.allclose(total, 1.0, atol=1e-6):
                raise ContractError(f"with {what}, weights must sum to 1; got {total.min():.6g}")
        predict = getattr(fitted, "predict", None)
        if predict is not None and not all(np.isfinite(a).all() for a in predict(inputs)):
            raise ContractError(f"with {what}, predictions must be finite")
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(
            f"with {what} it must still route; it raised {type(error).__name__}: {error}"
        ) from error

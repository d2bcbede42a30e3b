"""Rules of the hard budgets, what is in their purses, and the refusal when there is too little."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.core import BudgetExceededError, InputError, _check
from turnout.serve.money.periods import FOREVER, PERIODS, iso
from turnout.serve.money.units import Pico, show, to_pico

__all__ = ["BudgetRule", "OverBudgetError", "PurseState"]

_PER = ("pool", "key", "model")


@dataclass(frozen=True, kw_only=True)
class BudgetRule:
    """A hard limit on what is spent in a calendar period.

    Parameters
    ----------
    name : str
        Printable.
    usd : float or decimal text
        The limit of each purse, in USD; 0 lets nothing in.
    period : str
        `minute`, `hour`, `day`, `week`, `month` (UTC, weeks from Monday) or `total`.
    per : str
        Whose requests share a purse: `pool` for all, or each `key`, or each `model` its own.
    keys, models : tuple of str
        Names of keys and of destinations the rule is for; empty = all.

    Raises
    ------
    InputError
        A value breaks its rule.
    """

    name: str
    usd: float | str
    period: str = "month"
    per: str = "pool"
    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise InputError("name", "be printable text", self.name, "Give the budget a name.")
        to_pico("usd", self.usd)
        for field, known in (("period", PERIODS), ("per", _PER)):
            value = getattr(self, field)
            if value not in known:
                raise InputError(field, f"be one of {', '.join(known)}", value, "Choose one.")
        for field in ("keys", "models"):
            if getattr(self, field):
                _check.names(field, getattr(self, field), what="name")

    @property
    def limit(self) -> Pico:
        """The limit in pico-dollars."""
        return to_pico("usd", self.usd)

    def holder(self, key: str, destination: str) -> str | None:
        """Whose purse a request touches; None where the rule is not for it."""
        if (self.keys and key not in self.keys) or (self.models and destination not in self.models):
            return None
        return key if self.per == "key" else destination if self.per == "model" else ""


class OverBudgetError(BudgetExceededError):
    """A budget has no room for the request.

    Parameters
    ----------
    state : PurseState
        Of the purse that refused.
    asked : int
        Predicted cost of the request, pico-dollars.
    wait_s : float, optional
        Seconds after which it may be let in; None = never in this form.
    """

    def __init__(self, state: PurseState, asked: Pico, wait_s: float | None) -> None:
        self.state = state
        self.asked = asked
        self.wait_s = wait_s
        whose = f" of {state.per} {state.holder!r}" if state.holder else ""
        limit = show(state.limit)
        if asked > state.limit:
            rule = f"allow the request's predicted {show(asked)} USD at all"
            hint = "Ask for less: a shorter prompt or a lower max_completion_tokens."
        else:
            rule = f"have room for another {show(asked)} USD"
            if state.ends_ms >= FOREVER:
                hint = "It never starts anew; have it raised."
            else:
                hint = f"It starts anew at {iso(state.ends_ms)}."
        span = "in total" if state.period == "total" else f"a {state.period}"
        value = (
            f"{limit} USD {span}, {show(state.spent)} spent and {show(state.reserved)} in flight"
        )
        super().__init__(f"budget {state.budget!r}{whose}", rule, value, hint)

    def __reduce__(self) -> tuple[type[OverBudgetError], tuple[PurseState, Pico, float | None]]:
        return type(self), (self.state, self.asked, self.wait_s)


@dataclass(frozen=True, kw_only=True)
class PurseState:
    """What is in a purse at one moment.

    Parameters
    ----------
    budget : str
        Name of its rule.
    per : str
    holder : str
        Key or model; empty for the whole pool.
    period : str
    limit, spent, reserved : int
        Pico-dollars.
    ends_ms : int
        When it starts anew, milliseconds since 1970; `FOREVER` where it does not.
    """

    budget: str
    per: str
    holder: str
    period: str
    limit: Pico
    spent: Pico
    reserved: Pico
    ends_ms: int

    @property
    def left(self) -> Pico:
        """What may still be reserved, pico-dollars."""
        return max(self.limit - self.spent - self.reserved, 0)

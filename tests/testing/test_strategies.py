"""The contract of strategies catches what it should."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from turnout.core import Budget, Call, Card, InputError, LimitReached, Play, Pool, Reply
from turnout.parts.priced import columns
from turnout.testing import ContractError
from turnout.testing.strategies import CHECKS, StrategyCase, check, checks_for, known

CARD = Card(
    name="llms.mutant",
    system="Mutant",
    title="None",
    authors="Nobody",
    year=2026,
    id="arXiv:0000.00000",
    routes="requests to models",
    kind="policy",
    recipe="Sound",
    signal=("nothing",),
    covers=("nothing",),
    differs=("everything",),
    properties=("multi_step", "price_monotone"),
)
NAMES = ("cheap", "dear")
ITEMS = ("one", "two three")
MEMORY: list[str] = []


@dataclass(frozen=True)
class Sound:
    """Asks each of the pool until one answers with more than a letter; `fault` breaks one rule."""

    names: tuple[str, ...] = NAMES
    fault: str = ""

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        if self.fault == "early":
            rng.random()
            return self._steps(item, pool, budget, np.random.default_rng(0))
        return self._steps(item, pool, budget, rng)

    def _steps(self, item: str, pool: Pool, budget: Budget, rng: np.random.Generator) -> Play:
        if self.fault != "unknown":
            columns(self.names, pool)
        order = [n for n in self.names if n in pool.names and pool.available[pool.index(n)]]
        if self.fault == "down":
            order = [name for name in self.names if name in pool.names]
        if self.fault == "order":
            order = list(pool.names)
        if self.fault == "alone":
            order = list(self.names)
        if self.fault == "global":
            np.random.random()
        if self.fault == "rng":
            item = f"{item} {np.random.default_rng().integers(2**60)}"
        if self.fault == "shared":
            MEMORY.append(item)
        price = budget.price or 0.0
        times = 1 if price < 50 else 0
        if self.fault == "price":
            times = 1 - times
        best = ""
        try:
            while True:
                for name in order:
                    prompt = f"{item} {len(MEMORY)}" if self.fault == "shared" else item
                    (reply,) = yield (Call(to=name, prompt=prompt),)
                    if self.fault == "failed" and reply.failed:
                        raise RuntimeError(reply.failed)
                    best = reply.text or best
                    for _ in range(times):
                        yield (Call(to=name, prompt=item),)
                if best or self.fault != "endless":
                    break
        except LimitReached:
            if self.fault == "halted":
                raise RuntimeError("not now") from None
            return best
        return None if self.fault == "none" else best  # type: ignore[return-value]


@dataclass(frozen=True)
class Unsaved(Sound):
    """Holds what no router file can."""

    thing: object = object


def _ask(call: Call) -> Reply:
    return Reply(text=call.prompt[:3], cost=1.0 if call.to == "cheap" else 9.0)


def _case(strategy: Sound) -> StrategyCase:
    return StrategyCase(make=lambda: strategy, ask=_ask, items=ITEMS)


def test_a_sound_strategy_passes() -> None:
    """Nothing is found where nothing is wrong, and every check ran."""
    report = check(_case(Sound()), card=CARD)
    assert {result.status for result in report.results} == {"passed"}
    assert len(report.results) == len(CHECKS)


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ("early", "nothing_before_it_starts"),
        ("unknown", "unknown_destination_refused"),
        ("down", "down_never_called"),
        ("order", "pool_order"),
        ("alone", "one_destination"),
        ("global", "global_rng_untouched"),
        ("rng", "same_rng_same_play"),
        ("shared", "plays_apart"),
        ("price", "price_monotone"),
        ("price", "price_heard"),
        ("failed", "ends_on_any_reply"),
        ("endless", "ends_on_any_reply"),
        ("halted", "halted_anywhere"),
    ],
)
def test_a_broken_one_is_caught(fault: str, caught: str) -> None:
    """Each fault is found by the check that is about it."""
    MEMORY.clear()
    strategy = Sound(fault=fault)
    if fault == "unknown":
        # it plays pools it was not made for as if nothing were the matter
        strategy = Sound(names=(*NAMES, "nobody knows me"), fault=fault)
        case = StrategyCase(make=lambda: strategy, ask=_ask, items=ITEMS, pool=Pool(names=NAMES))
    else:
        case = _case(strategy)
    with pytest.raises(ContractError, match=caught):
        check(case, card=CARD)


def test_what_cannot_be_saved_is_caught() -> None:
    """A strategy that holds what no file can is told so."""
    with pytest.raises(ContractError, match="store_round_trip"):
        check(_case(Unsaved()), card=CARD)


def test_exemptions_are_strict() -> None:
    """An exemption needs a reason, must name a check, and must be needed."""
    with pytest.raises(InputError, match="reason"):
        StrategyCase(make=Sound, ask=_ask, items=ITEMS, xfail={"odd_items": " "})
    with pytest.raises(InputError, match="name a check"):
        known(StrategyCase(make=Sound, ask=_ask, items=ITEMS, xfail={"nothing": "why"}))
    with pytest.raises(ContractError, match="stale"):
        check(
            StrategyCase(make=Sound, ask=_ask, items=ITEMS, xfail={"odd_items": "why"}), card=CARD
        )
    with pytest.raises(InputError, match="items"):
        StrategyCase(make=Sound, ask=_ask, items=())


def test_price_is_checked_only_where_it_is_claimed() -> None:
    """The card chooses the checks."""
    plain = Card(**{**{f: getattr(CARD, f) for f in CARD.__dataclass_fields__}, "properties": ()})
    assert "price_monotone" not in {item.name for item in checks_for(plain)}
    assert "price_monotone" in {item.name for item in checks_for(CARD)}

"""What any route of several steps must keep to, one function a property."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np

from turnout.core import Budget, Call, InputError, Pool, Reply, TurnoutError
from turnout.parts import store
from turnout.parts.rounds.playing import Limits, Played, Playing, run
from turnout.testing.strategies.subject import MANY, StrategySubject
from turnout.testing.subject import ContractError, NotApplicable
from turnout.testing.watch import changed, global_rng, other_global_rng

__all__ = [
    "down_never_called",
    "ends_on_any_reply",
    "global_rng_untouched",
    "halted_anywhere",
    "nothing_before_it_starts",
    "odd_items",
    "one_destination",
    "pickle_round_trip",
    "plays_apart",
    "pool_order",
    "price_heard",
    "price_monotone",
    "same_rng_same_play",
    "store_round_trip",
    "unknown_destination_refused",
]

_PRICES = (0.0, 1.0, 100.0, 1e4, 1e7)


def _silent(call: Call) -> Reply:
    return Reply(text="")


def _failing(call: Call) -> Reply:
    return Reply(text="", failed="it is away")


def _nonsense(call: Call) -> Reply:
    return Reply(text="<answer>{]' \x00 <search> ???: \n" + "la " * 3000, cost=1e-6)


def ends_on_any_reply(subject: StrategySubject) -> None:
    """A play ends by itself, whether destinations answer, are silent, fail or talk nonsense."""
    for ask in (subject.case.ask, _silent, _failing, _nonsense):
        for price in _PRICES:
            subject.plays(ask=ask, price=price)


def odd_items(subject: StrategySubject) -> None:
    """An empty, an endless or an unreadable input is played to its end or refused by name."""
    for item in ("", "   ", "word " * 5000, "\u202e\u0627\u0644\U0001f600\x00", "{}[]<answer>"):
        try:
            subject.play(item)
        except InputError:
            continue


def down_never_called(subject: StrategySubject) -> None:
    """A destination that is down is never called."""
    pool = subject.pool
    if pool.m == 1:
        raise NotApplicable("there is one destination")
    for name in pool.names:
        for found in subject.plays(pool=pool.with_down([name])):
            if any(call.to == name for call in found.calls):
                raise ContractError(f"{name} is down and was called")


def one_destination(subject: StrategySubject) -> None:
    """A pool of one destination is played with that one."""
    for name in subject.pool.names:
        for found in subject.plays(pool=subject.pool.select([name])):
            if any(call.to != name for call in found.calls):
                raise ContractError(f"the pool holds {name} alone and another was called")


def pool_order(subject: StrategySubject) -> None:
    """The order in which a pool lists its destinations changes nothing."""
    pool = subject.pool.select(subject.pool.names[::-1])
    _same(subject.plays(), subject.plays(pool=pool), "a pool in another order")


def unknown_destination_refused(subject: StrategySubject) -> None:
    """A pool with a destination it does not know is refused by name."""
    pool = Pool(names=(*subject.pool.names, "nobody knows me"))
    try:
        subject.plays(pool=pool)
    except TurnoutError as error:
        if "nobody knows me" in str(error):
            return
        raise ContractError(f"the refusal must name the destination; got {error}") from error
    raise ContractError("a destination it does not know must be refused")


def same_rng_same_play(subject: StrategySubject) -> None:
    """Made and played twice with the same rng, it makes the same calls."""
    first = subject.plays()
    with other_global_rng():
        again = subject.plays(strategy=subject.case.make())
    _same(first, again, "a second play with the same rng")


def global_rng_untouched(subject: StrategySubject) -> None:
    """Playing draws from no global random number generator."""
    before = global_rng()
    subject.plays()
    if changed(before, global_rng()):
        raise ContractError("play must draw from its `rng` only")


def plays_apart(subject: StrategySubject) -> None:
    """Two plays that run at the same time do not touch each other."""
    first, last = subject.case.items[0], subject.case.items[-1]
    alone = subject.play(first)
    one, two = _started(subject, first), _started(subject, last)
    while one.ended is None or two.ended is None:
        for playing in (one, two):
            if playing.ended is None:
                playing.take([subject.case.ask(call) for call in playing.pending])
    _same([alone], [one.ended], "another play beside it")


def nothing_before_it_starts(subject: StrategySubject) -> None:
    """`play` makes no step and no draw before it is asked for the first calls."""
    rng = np.random.default_rng(7)
    state = pickle.dumps(rng.bit_generator.state)
    subject.strategy.play(subject.case.items[0], subject.pool, budget=Budget(), rng=rng).close()
    if pickle.dumps(rng.bit_generator.state) != state:
        raise ContractError("play must not draw before its first step")


def halted_anywhere(subject: StrategySubject) -> None:
    """Out of calls after any step, it ends there, with a text and without an error."""
    for item in subject.case.items:
        calls = len(subject.play(item).calls)
        for limit in range(1, min(calls, 12)):
            found = run(
                subject.strategy,
                item,
                subject.case.ask,
                subject.pool,
                rng=np.random.default_rng(7),
                limits=Limits(calls=limit),
            )
            if len(found.calls) > limit or not isinstance(found.answer, str):
                raise ContractError(f"out of {limit} calls it must end; it made {len(found.calls)}")


def pickle_round_trip(subject: StrategySubject) -> None:
    """A pickled copy plays the same."""
    copy = pickle.loads(pickle.dumps(subject.strategy))
    _same(subject.plays(), subject.plays(strategy=copy), "a pickled copy")


def store_round_trip(subject: StrategySubject) -> None:
    """A file written by `parts.store.save` and read again plays the same."""
    package = type(subject.strategy).__module__.partition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strategy.turnout"
        try:
            store.save(path, subject.strategy, subject.pool)
            loaded = store.load_strategy(path, trust=(package,))
        except TurnoutError as error:
            raise ContractError(f"a router file must hold the strategy; {error}") from error
    _same(subject.plays(), subject.plays(strategy=loaded.strategy), "a router file")


def price_heard(subject: StrategySubject) -> None:
    """At the highest price the plays cost no more together than at none."""
    free, dear = (
        sum(found.cost for found in subject.plays(price=price))
        for price in (_PRICES[0], _PRICES[-1])
    )
    if dear > free * (1 + 1e-9) + 1e-15:
        raise ContractError(
            f"a price of {_PRICES[-1]:g} must not cost more than none; {free:.6g} became {dear:.6g}"
        )


def price_monotone(subject: StrategySubject) -> None:
    """A higher price never raises what the plays cost together."""
    spent = [sum(found.cost for found in subject.plays(price=price)) for price in _PRICES]
    if any(after > before * (1 + 1e-9) + 1e-15 for before, after in zip(spent, spent[1:])):  # noqa: B905,RUF007
        raise ContractError(f"a higher price must not raise the cost; got {spent}")


def _started(subject: StrategySubject, item: str) -> Playing:
    play = subject.strategy.play(
        item, subject.pool, budget=Budget(price=0.0), rng=np.random.default_rng(7)
    )
    return Playing(play, subject.pool, Limits(calls=MANY))


def _same(first: list[Played], again: list[Played], what: str) -> None:
    for one, two in zip(first, again, strict=True):
        if one.calls != two.calls or one.answer != two.answer:
            raise ContractError(f"{what} must play the same; {one.calls} became {two.calls}")

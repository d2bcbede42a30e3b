"""One worker of the gateway: its parts joined, its event loop from the start to the end."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from turnout.serve.build import Make, build, keeper
from turnout.serve.config import Config
from turnout.serve.desk import Desk, Lane, Meters
from turnout.serve.front import Doorman, Front
from turnout.serve.guard.breaker import Breaker
from turnout.serve.guard.gate import Gate
from turnout.serve.guard.keys import Keyring, anyone, check_open
from turnout.serve.guard.retry import Retries
from turnout.serve.metrics import Metrics
from turnout.serve.money.periods import bounds
from turnout.serve.money.store import Store
from turnout.serve.money.units import to_usd
from turnout.serve.pace import PeriodPace
from turnout.serve.pages import create_pages
from turnout.serve.policy import AUTO
from turnout.serve.stage import Stage
from turnout.serve.view import View
from turnout.serve.wire.asgi import Bridge
from turnout.serve.wire.clock import NEVER, Clock
from turnout.serve.wire.server import Server

__all__ = ["Shared", "Worker", "counters"]

_log = logging.getLogger("turnout.serve")

#: Seconds between two looks at what changes slowly.
_BEAT = 0.25


def counters(config: Config, workers: int) -> Metrics:
    """The counters of a gateway, not yet in shared memory."""
    return Metrics(config.served, budgets=[rule.name for rule in config.budgets], workers=workers)


@final
@dataclass(frozen=True, eq=False)
class Shared:
    """What all workers of a gateway share; made before they are forked.

    Parameters
    ----------
    config : Config
    store : Store
    memory : writable buffer
        For the counters: `counters(config, workers).nbytes` long.
    """

    config: Config
    store: Store
    memory: Any


@final
class Worker:
    """One worker; made inside its own process, outside of the event loop.

    Parameters
    ----------
    shared : Shared
    number : int
        Which one.
    host : str
        The numeric address that is listened on.
    make : callable
        Makes what decides and what answers.

    Raises
    ------
    ConfigError, RouterFileError
        A part cannot be made: see `turnout.serve.build`.
    """

    def __init__(self, shared: Shared, number: int, host: str, make: Make = build) -> None:
        config = shared.config
        workers = config.server.workers
        keyring = None if config.keys.file is None else Keyring(config.keys.file)
        local = check_open(host, keys=keyring is not None, allowed=config.server.open)
        self._config = config
        self._clock = Clock()
        self._keyring = keyring
        self._parts = make(config, self._clock)
        metrics = counters(config, shared.store.workers)
        metrics.use(shared.memory, number)
        self._books = shared.store.join(number)
        self._prompts = keeper(config)
        self._desk = self._made(metrics, workers)
        doorman = Doorman(keyring, anyone(admin=local), local=local)
        self._view = View(self._desk, keyring, config.ledger.path, workers, self._prompts)
        self._bridge = Bridge(create_pages(self._view, doorman))
        self._front = Front(
            self._desk, doorman, self._bridge, max_prompt_chars=config.server.max_prompt_chars
        )
        told = self._desk.meters.turned_away
        self._server = self._view.server = Server(self._front, config.limits, self._clock, told)
        self._due = 0.0
        self.deadline = NEVER

    def run(
        self,
        listener: socket.socket,
        *,
        signals: bool,
        ready: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """Serve until told to stop, then finish what is in progress and write what is left.

        Parameters
        ----------
        listener : socket
            Bound and listening; stays open.
        signals : bool
            Stop at SIGTERM and SIGINT; only in a main thread.
        ready : callable, optional
            Called once it serves, with what stops it from any thread.
        """
        try:
            with _runner() as runner:
                runner.run(self._serve(listener, signals, ready))
        finally:
            try:
                self._books.stop()
            finally:
                if self._prompts is not None:
                    self._prompts.close()

    def expired(self) -> None:
        """The beat: look at what changes slowly (called by the clock)."""
        clock = self._clock
        late = time.monotonic() - self._due
        self._due = time.monotonic() + _BEAT
        self.deadline = clock.now + _BEAT
        lag = max(late - 2 * clock.period, 0.0)
        desk = self._desk
        desk.gate.lag = lag
        desk.gate.tick(clock.now)
        desk.tick()
        self._pace()
        if self._keyring is not None:
            self._keyring.tick(clock.now)
        self._view.tick(lag)

    def _pace(self) -> None:
        """Let a hard budget that is to be spread over its period set the target."""
        pace, name = self._desk.policy.pace, self._config.budget.pace
        if not isinstance(pace, PeriodPace) or not pace.due(ms := time.time_ns() // 1_000_000):
            return
        for state in self._books.purses.states(ms):
            if state.budget == name:
                start, end = bounds(state.period, ms)
                pace.tick(ms, to_usd(state.left), end, end - start)

    async def _serve(
        self,
        listener: socket.socket,
        signals: bool,
        ready: Callable[[Callable[[], None]], None] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
        clock = self._clock
        clock.start()
        self._due = time.monotonic() + _BEAT
        self.deadline = clock.now + _BEAT
        clock.watch(self)
        self.expired()
        # the loop closes its socket when it stops listening; ours has to outlive that
        server = await loop.create_server(self._server, sock=listener.dup(), backlog=2048)

        def stopping() -> None:
            loop.call_soon_threadsafe(stop.set)

        if ready is not None:
            ready(stopping)
        try:
            await stop.wait()
        finally:
            server.close()
            await self._server.drain(self._config.server.drain_seconds)
            await self._front.close()
            await self._bridge.close()
            for upstream in self._parts.upstreams.values():
                await upstream.close()
            clock.forget(self)
            clock.stop()

    def _made(self, metrics: Metrics, workers: int) -> Desk:
        config, clock = self._config, self._clock

        def now() -> float:
            return clock.now

        lanes = {
            entry.name: Lane(
                name=entry.name,
                upstream=self._parts.upstreams[entry.name],
                breaker=Breaker(config.breaker, now),
                retries=Retries(config.retry, now, random.Random()),
                charge=self._parts.charges.get(entry.name),
            )
            for entry in config.pool
        }
        rules = {entry.name: entry.lane(workers) for entry in config.pool}
        gate = Gate(config.load.rules(workers), rules, now)
        if self._parts.gauge is not None:
            self._parts.gauge.watch(gate)
        return Desk(
            policy=self._parts.policy,
            lanes=lanes,
            gate=gate,
            books=self._books,
            meters=Meters(metrics, config.served),
            clock=clock,
            fallbacks=config.router.fallbacks,
            keep=None if self._prompts is None else self._prompts.hook,
            stages=self._stages(),
        )

    def _stages(self) -> dict[str, Stage]:
        """Strategies by the name that asks for them."""
        stages = dict(self._parts.stages)
        every = self._config.router.model
        if every in stages:
            stages[AUTO] = stages[every]
        return stages


def _runner() -> asyncio.Runner:
    """A runner on the quickest loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)

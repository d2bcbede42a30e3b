"""One run of `gateway.py`: contestants started, looked at, and timed in turns."""

from __future__ import annotations

import argparse
import http.client
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console

from _gateway_drive import (  # type: ignore[import-not-found,unused-ignore]
    Asking,
    Block,
    Driver,
    Sizes,
    sizes,
)
from _gateway_process import (  # type: ignore[import-not-found,unused-ignore]
    Server,
    core_time,
)
from _gateway_show import (  # type: ignore[import-not-found,unused-ignore]
    AT,
    Row,
    decision_us,
)
from _gateway_systems import (  # type: ignore[import-not-found,unused-ignore]
    SYSTEMS,
    System,
    Yard,
)
from _gateway_task import Arrivals  # type: ignore[import-not-found,unused-ignore]

#: Contestants that cannot keep up with the replay.
TOO_SLOW = ("litellm",)


@dataclass(eq=False)
class Lane:
    """A contestant that runs, and what it may be asked."""

    system: System
    port: int
    server: Server | None
    right: dict[str, Sizes] = field(default_factory=dict)
    asking: dict[str, Asking] = field(default_factory=dict)
    seconds: float = 0.0

    def cpu(self) -> float:
        """Processor seconds so far; none without a gateway."""
        return 0.0 if self.server is None else self.server.cpu()


@dataclass(frozen=True)
class Turn:
    """One contestant's block in one cell."""

    block: Block
    cpu: float
    busy: float
    others: float


class Run:
    """One run over all modes.

    Parameters
    ----------
    options : argparse.Namespace
    yard : Yard
    driver : Driver
    console : Console
        For progress.
    """

    def __init__(
        self, options: argparse.Namespace, yard: Yard, driver: Driver, console: Console
    ) -> None:
        self.options, self.yard, self.driver, self.console = options, yard, driver, console
        self.rows: list[Row] = []
        self.absent: dict[str, str] = {}
        self.notes: list[str] = []
        self.decision: float | None = None
        self.others: list[float] = []

    def go(self, trace: Arrivals | None) -> None:
        """All modes asked for; contestants are started afresh for streams."""
        modes = self.options.modes
        whole = [mode for mode in modes if mode in ("whole", "replay")]
        streams = [mode for mode in modes if mode in ("stream", "paced")]
        for group in (whole, streams):
            if group:
                self.group(group, trace)

    def group(self, modes: list[str], trace: Arrivals | None) -> None:
        """Modes that share an upstream."""
        streams = modes[0] in ("stream", "paced")
        with ExitStack() as stack:
            upstream, about = self.yard.upstream(streams=streams)
            stack.callback(upstream.stop)
            self.notes.append(f"upstream of {', '.join(modes)}: {about}")
            lanes = []
            for name in self.options.systems:
                lane = self.lane(SYSTEMS[name], upstream.port, modes, stack)
                if lane is not None:
                    lanes.append(lane)
            for mode in modes:
                if mode == "replay" and trace is not None:
                    fast = [one for one in lanes if one.system.name not in TOO_SLOW]
                    if len(fast) < len(lanes):
                        self.absent["replay of " + ", ".join(TOO_SLOW)] = "cannot keep up with it"
                    self.replay(fast, trace)
                for connections in self.concurrencies(mode):
                    self.cell(lanes, mode, connections)
            for lane in lanes:
                if lane.system.name == "turnout" and self.decision is None:
                    self.decision = decision_us(lane.port, self.yard.admin)

    def lane(
        self, system: System, upstream: int, modes: list[str], stack: ExitStack
    ) -> Lane | None:
        """A contestant, started and tried; None, and the reason kept, where that fails."""
        lane = Lane(system, upstream, None)
        if system.name != "direct":
            self.say(f"starting {system.name}")
            server, why = self.yard.start(system, upstream, mode=modes[0], say=self.say)
            if server is None:
                self.absent.setdefault(system.name, why)
                return None
            stack.callback(server.stop)
            lane = Lane(system, server.port, server)
        for mode in modes:
            lane.asking[mode] = self.yard.asking(system, mode)
            try:
                lane.right[mode] = sizes(lane.port, lane.asking[mode], system.slack)
            except (OSError, http.client.HTTPException) as error:
                self.absent.setdefault(system.name, f"{mode}: {type(error).__name__}: {error}")
                return None
        return lane

    def concurrencies(self, mode: str) -> list[int]:
        """Numbers of connections of a mode."""
        asked: list[int] = self.options.concurrency
        if mode == "replay":
            return []
        if mode == "paced" or (mode == "stream" and self.options.quick):
            return [AT] if AT in asked else [max(asked)]
        return asked

    def cell(self, lanes: list[Lane], mode: str, connections: int) -> None:
        """All contestants in one cell: first looked at, then timed in turns."""
        self.say(f"{mode}, {connections} connections")
        turns: dict[str, list[Turn]] = {}
        checked: dict[str, dict[str, int]] = {}
        for lane in list(lanes):
            turn = self.block(lane, mode, connections, 1.0, check=True)
            if turn is None:
                lanes.remove(lane)
                continue
            turns[lane.system.name] = []
            checked[lane.system.name] = dict(turn.block.errors)
            # Requests on their way when a block ends have been paid for in part. A slow
            # contestant gets more time, so that they stay few beside those answered.
            slow = 10 * connections / max(turn.block.rps, 0.1)
            lane.seconds = min(max(self.options.seconds, slow), 4 * self.options.seconds)
        for round_ in range(self.options.rounds):
            shift = round_ % max(len(lanes), 1)
            for lane in lanes[shift:] + lanes[:shift]:
                turn = self.block(lane, mode, connections, lane.seconds)
                if turn is None:
                    lanes.remove(lane)
                else:
                    turns[lane.system.name].append(turn)
        base = turns.get("nginx", [])
        for lane in lanes:
            name = lane.system.name
            self.rows.append(self.row(lane, mode, connections, turns[name], base, checked[name]))

    def block(
        self, lane: Lane, mode: str, connections: int, seconds: float, *, check: bool = False
    ) -> Turn | None:
        """Load on one contestant, with what it and its core did meanwhile; None: it is no more."""
        core = self.yard.cores[0]
        began, cpu, (busy, _) = time.monotonic(), lane.cpu(), core_time(core)
        asked, right = lane.asking[mode], lane.right[mode]
        try:
            block = self.driver.block(lane.port, asked, connections, seconds, right, check=check)
        except RuntimeError as error:
            self.absent[lane.system.name] = f"{mode}, {connections} connections: {error}"
            return None
        spent, took = lane.cpu() - cpu, time.monotonic() - began
        others = max(0.0, core_time(core)[0] - busy - spent) / took
        if lane.server is not None:
            lane.server.settle()
        if not check:
            self.others.append(others)
        return Turn(block, spent, spent / took, others)

    def row(
        self,
        lane: Lane,
        mode: str,
        connections: int,
        turns: list[Turn],
        base: list[Turn],
        checked: dict[str, int],
    ) -> Row:
        """Medians and spreads of a cell."""
        cpu = [each(turn) for turn in turns]
        ratios = [mine / each(his) for mine, his in zip(cpu, base, strict=False)]
        memory = (0.0, 0.0) if lane.server is None else lane.server.memory()
        errors = dict(checked)
        for turn in turns:
            for kind, count in turn.block.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        return Row(
            system=lane.system.name,
            mode=mode,
            concurrency=connections,
            rps=[turn.block.rps for turn in turns],
            p50_ms=[turn.block.p50 for turn in turns],
            p99_ms=[turn.block.p99 for turn in turns],
            cpu_us=cpu if lane.server is not None else [],
            busy=median(turn.busy for turn in turns),
            rss_mb=memory[0],
            pss_mb=memory[1],
            ratio_to_nginx=ratios if lane.server is not None else [],
            errors=errors,
        )

    def replay(self, lanes: list[Lane], trace: Arrivals) -> None:
        """Everybody meets the same arrivals, in turns."""
        self.say(f"replay, {trace.due[-1]:.0f} s each")
        told: dict[str, list[dict[str, Any]]] = {lane.system.name: [] for lane in lanes}
        for turn in range(self.options.replays):
            shift = turn % max(len(lanes), 1)
            for lane in lanes[shift:] + lanes[:shift]:
                cpu, asked = lane.cpu(), lane.asking["replay"]
                try:
                    one = self.driver.own(
                        lane.port, asked, lane.right["replay"], {"due": trace.due}
                    )
                except RuntimeError as error:
                    self.absent[lane.system.name] = f"replay: {error}"
                    lanes.remove(lane)
                    continue
                one["cpu"] = lane.cpu() - cpu
                told[lane.system.name].append(one)
        for lane in lanes:
            ones = told[lane.system.name]
            memory = (0.0, 0.0) if lane.server is None else lane.server.memory()
            base = told.get("nginx", [])
            self.rows.append(Row.replayed(lane.system.name, trace, ones, memory, base))

    def remember(self, lanes: list[Lane], modes: list[str]) -> None:
        """What our gateway tells about itself."""
        for lane in lanes:
            if lane.system.name == "turnout" and self.decision is None:
                self.decision = decision_us(lane.port, self.yard.admin)
        del modes

    def say(self, text: str) -> None:
        """Progress."""
        self.console.print(f"[dim]{text}[/]")


def each(turn: Turn) -> float:
    """Microseconds of CPU a request."""
    return float(turn.cpu / max(turn.block.requests, 1) * 1e6)

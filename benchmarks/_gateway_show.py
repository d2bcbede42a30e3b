"""Rows, tables, marks and verdicts of `gateway.py`."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from _gateway_systems import (  # type: ignore[import-not-found,unused-ignore]
    DECISION_METRIC,
    SYSTEMS,
)
from _gateway_task import Arrivals  # type: ignore[import-not-found,unused-ignore]
from _gateway_upstream import EVENTS  # type: ignore[import-not-found,unused-ignore]

REQUEST_US, EVENT_US, TIMES_NGINX, TIMES_LITELLM, WORKER_MB = 60.0, 5.0, 3.0, 250.0, 80.0
#: Connections of the cell that the marks are about.
AT = 32
OURS = ("turnout", "turnout-pinned")


@dataclass(frozen=True)
class Row:
    """One contestant in one cell; lists hold a value a round.

    Parameters
    ----------
    system, mode : str
    concurrency : int
        Connections; 0 where they follow from arrivals.
    rps : list of float
        Right answers a second.
    p50_ms, p99_ms : list of float
        Latency of whole answers.
    cpu_us : list of float
        CPU a request.
    busy : float
        Share of its core the contestant used.
    rss_mb, pss_mb : float
        Resident memory of its largest process; proportional set of all of them.
    ratio_to_nginx : list of float
        CPU a request, over nginx's in the same round.
    errors : dict of str to int
        By kind, over all rounds and the look before them.
    more : dict of str to float
        What only some modes have.
    """

    system: str
    mode: str
    concurrency: int
    rps: list[float]
    p50_ms: list[float]
    p99_ms: list[float]
    cpu_us: list[float]
    busy: float
    rss_mb: float
    pss_mb: float
    ratio_to_nginx: list[float]
    errors: dict[str, int]
    more: dict[str, float] = field(default_factory=dict)

    @classmethod
    def replayed(
        cls,
        system: str,
        trace: Arrivals,
        told: Sequence[dict[str, Any]],
        memory: tuple[float, float],
        base: Sequence[dict[str, Any]],
    ) -> Row:
        """Of a replay: latencies of all rounds together, from the times requests were due."""
        took = [np.array(one["took_ms"] or [0.0]) for one in told]
        late = np.concatenate([np.array(one["late_ms"]) for one in told])
        errors: Counter[str] = Counter()
        for one in told:
            errors.update(one["failures"])
        cpu, his = map(_cpu_us, (told, base))
        return cls(
            system=system,
            mode="replay",
            concurrency=0,
            rps=[len(one["took_ms"]) / one["seconds"] for one in told],
            p50_ms=[float(np.quantile(one, 0.5)) for one in took],
            p99_ms=[float(np.quantile(one, 0.99)) for one in took],
            cpu_us=cpu if system != "direct" else [],
            busy=median(one["cpu"] / one["seconds"] for one in told),
            rss_mb=memory[0],
            pss_mb=memory[1],
            ratio_to_nginx=[]
            if system == "direct"
            else [mine / nginx for mine, nginx in zip(cpu, his, strict=False)],
            errors=dict(errors),
            more={
                "p999_ms": float(np.quantile(np.concatenate(took), 0.999)),
                "sent_late_p99_ms": float(np.quantile(late, 0.99)),
                "connections": max(one["connections"] for one in told),
                "failures": sum(errors.values()),
                "mean_rate": trace.rate,
            },
        )

    @property
    def events(self) -> int:
        """Parts of an answer that are sent one by one."""
        return len(EVENTS) if self.mode in ("stream", "paced") else 1

    def record(self) -> dict[str, Any]:
        """For JSON: medians, with the least and the greatest of the rounds."""
        told: dict[str, Any] = {
            "system": self.system,
            "mode": self.mode,
            "concurrency": self.concurrency,
        }
        for name in ("rps", "p50_ms", "p99_ms", "cpu_us", "ratio_to_nginx"):
            values = getattr(self, name)
            told[name] = round(median(values), 4) if values else None
            if values:
                told[f"{name}_low"] = round(min(values), 4)
                told[f"{name}_high"] = round(max(values), 4)
        if self.events > 1 and self.cpu_us:
            told["cpu_us_per_event"] = round(median(self.cpu_us) / self.events, 4)
        told |= {"rss_mb": round(self.rss_mb, 1), "pss_mb": round(self.pss_mb, 1)}
        told |= {"busy": round(self.busy, 4), "errors": self.errors}
        return told | self.more


def _cpu_us(told: Sequence[dict[str, Any]]) -> list[float]:
    """Microseconds of CPU a request, of each round of a replay."""
    return [one["cpu"] / max(len(one["took_ms"]), 1) * 1e6 for one in told]


@dataclass(frozen=True)
class Mark:
    """What is asked, what was measured (None: nothing was), and whether it is met."""

    what: str
    value: float | None
    met: bool | None
    told: str


def show(
    console: Console,
    rows: Sequence[Row],
    absent: dict[str, str],
    about: Sequence[str],
    decision: float | None,
) -> list[Mark]:
    """The tables, the marks and what is missing."""
    for mode in dict.fromkeys(row.mode for row in rows):
        console.print(_table(mode, [row for row in rows if row.mode == mode]))
    there = [f"{name}: {SYSTEMS[name].about}" for name in dict.fromkeys(row.system for row in rows)]
    for line in ("; ".join(there), *about):
        console.print(line, highlight=False)
    if decision is not None:
        console.print(f"a decision of our gateway took {decision:.1f} us on average")
    told = marks(rows)
    for mark in told:
        verdict = "not measured" if mark.met is None else "met" if mark.met else "missed"
        console.print(f"mark {mark.what}: {verdict} {mark.told}".rstrip(), highlight=False)
    for name, why in absent.items():
        console.print(f"left out: {name}: {why}", highlight=False, markup=False)
    return told


def _table(mode: str, rows: Sequence[Row]) -> Table:
    title = {
        "whole": "Whole answers, closed loop",
        "replay": "Whole answers, a real trace of arrivals",
        "stream": f"Streams of {len(EVENTS)} events, closed loop",
        "paced": f"Streams of {len(EVENTS)} events, one every 5 ms",
    }[mode]
    table = Table(title=title)
    streams, replay = rows[0].events > 1, mode == "replay"
    names = ["", "a second", "p50 ms", "p99 ms"]
    names += ["p99.9 ms", "sent late"] if replay else []
    names += ["CPU us", *(["an event"] if streams else []), "x nginx", "core", "MB", "failed"]
    for name in names:
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    last = None
    for row in rows:
        if not replay and row.concurrency != last:
            last = row.concurrency
            table.add_section()
            table.add_row(f"[bold]{last} connection{'s' if last > 1 else ''}[/]")
        line = [row.system, _spread(row.rps, 0), f"{median(row.p50_ms):,.2f}"]
        line.append(f"{median(row.p99_ms):,.2f}")
        if replay:
            line += [f"{row.more['p999_ms']:,.2f}", f"{row.more['sent_late_p99_ms']:.2f}"]
        line.append(_spread(row.cpu_us, 1))
        if streams:
            line.append(f"{median(row.cpu_us) / row.events:.2f}" if row.cpu_us else "")
        line.append(_spread(row.ratio_to_nginx, 1))
        gateway = bool(row.cpu_us)
        line += [f"{row.busy:.0%}" if gateway else "", f"{row.rss_mb:.0f}" if gateway else ""]
        failed = ", ".join(f"{count} {kind}" for kind, count in row.errors.items())
        table.add_row(*line, failed or "0")
    return table


def _spread(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return ""
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def marks(rows: Sequence[Row]) -> list[Mark]:
    """What is asked of our gateway with everything on."""
    cells = {(row.system, row.mode, row.concurrency): row for row in rows}
    whole, stream = cells.get(("turnout", "whole", AT)), cells.get(("turnout", "stream", AT))
    slow = cells.get(("litellm", "whole", AT))
    told = [
        _at_most(f"CPU a request at {AT} connections", _middle(whole, "cpu_us"), REQUEST_US, "us"),
        _at_most(
            f"CPU a streamed event at {AT} connections",
            None if stream is None else median(stream.cpu_us) / stream.events,
            EVENT_US,
            "us",
        ),
        _at_most("CPU a request beside nginx", _middle(whole, "ratio_to_nginx"), TIMES_NGINX, "x"),
        _at_most("CPU a stream beside nginx", _middle(stream, "ratio_to_nginx"), TIMES_NGINX, "x"),
    ]
    times = None
    if whole is not None and slow is not None:
        times = median(slow.cpu_us) / median(whole.cpu_us)
    met = None if times is None else times >= TIMES_LITELLM
    shown = "" if times is None else f"({times:,.0f} times)"
    told.append(Mark(f"CPU {TIMES_LITELLM:.0f} times less than LiteLLM's", times, met, shown))
    largest = [row.rss_mb for row in rows if row.system in OURS]
    told.append(_at_most("resident a worker", max(largest, default=None), WORKER_MB, "MB"))
    failed = sum(count for row in rows if row.system in OURS for count in row.errors.values())
    told.append(_at_most("failures of our gateway", float(failed) if largest else None, 0.0, ""))
    return told


def _middle(row: Row | None, name: str) -> float | None:
    values = [] if row is None else getattr(row, name)
    return median(values) if values else None


def _at_most(what: str, value: float | None, most: float, unit: str) -> Mark:
    asked = f"{what} <= {most:g} {unit}".rstrip()
    if value is None:
        return Mark(asked, None, None, "")
    return Mark(asked, value, value <= most, f"({value:.1f} {unit})".replace(" )", ")"))


def decision_us(port: int, key: str) -> float | None:
    """Mean time of a decision by the gateway's own count; None where it shows none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {key}"})
        text = connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found = {"_sum": 0.0, "_count": 0.0}
    for line in text.splitlines():
        for part in found:
            if line.startswith(DECISION_METRIC + part):
                found[part] += float(line.split()[-1])
    return found["_sum"] / found["_count"] * 1e6 if found["_count"] else None

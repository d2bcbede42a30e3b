"""Tries that failed after the upstream may have charged: each stands in the books on its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.build import Parts, build
from turnout.serve.config import Config
from turnout.serve.errors import AnswerError
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest
from turnout.serve.upstream import Passing, Reply
from turnout.serve.wire.clock import Clock

from .payloads import WORDS
from .records import kept, series, told
from .rig import SHORT, Gateway, Ordered, configure, ordered, serving
from .test_manners import GUESSED, TOLD
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
Serve = Callable[..., AbstractContextManager[Gateway]]


# --- another destination ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stream", "status", "code"),
    [
        ("die", False, 502, "truncated"),
        ("die:rst", False, 502, "truncated"),
        ("head-dies", False, 502, "truncated"),
        ("head-dies", True, 502, "truncated"),
        ("silent", False, 504, "timeout"),
        ("silent", True, 504, "headers_timeout"),
        ("headers-only", True, 504, "first_token_timeout"),
        ("slow-body", False, 504, "idle_timeout"),
    ],
)
def test_both_stand_in_the_ledger(
    serve: Serve, name: str, stream: bool, status: int, code: str
) -> None:
    """The failed try at its estimate, the answer at its cost; the client hears of the answer's."""
    with serve(name, "good", entries={name: SHORT}) as gateway:
        answer = gateway.chat(f"{name}>good", stream=stream)
        assert (answer.status, answer.text) == (200, ANSWER)
        assert answer.headers["x-turnout-fallback-from"] == name
        failed, last = rows = kept(gateway)
        assert told(rows) == [(name, status, code, GUESSED), ("good", 200, None, TOLD)]
        assert (failed["estimated"], last["estimated"]) == (True, False)
        assert (failed["tries"], last["tries"]) == (1, 2)
        assert (failed["fallback_from"], last["fallback_from"]) == (None, name)
        assert (failed["completion_id"], failed["first_token_s"]) == (None, None)
        assert last["completion_id"] is not None
        assert 0 < failed["latency_s"] < last["latency_s"]
        assert failed["key"] == last["key"]
        assert failed["id"] < last["id"] == answer.id
        assert gateway.reserved() == 0
        assert series(gateway, "requests_total") == {'destination="good",status="200"': 1}
        assert series(gateway, "cost_usd_total") == {
            f'destination="{name}"': GUESSED / 1e12,
            'destination="good"': TOLD / 1e12,
        }


def test_a_failure_that_costs_nothing_has_no_row(serve: Serve) -> None:
    """The request moves on with its place in the books, whatever came before and comes after."""
    names = ("hangup", "die", "status:500", "head-dies", "html", "good")
    router = f'model = "{names[0]}"\nfallbacks = 5'
    with serve(*names, router=router) as gateway:
        answer = gateway.chat(">".join(names))
        rows = kept(gateway)
        assert told(rows) == [
            ("die", 502, "truncated", GUESSED),
            ("head-dies", 502, "truncated", GUESSED),
            ("good", 200, None, TOLD),
        ]
        assert [row["tries"] for row in rows] == [2, 4, 6]
        assert [row["fallback_from"] for row in rows] == [names[0]] * 3
        assert rows[-1]["id"] == answer.id


def test_when_all_fail_each_has_its_row(serve: Serve) -> None:
    """The last failure is the client's, with its id; a circuit that is open is no try."""
    breaker = "in_a_row = 1\nopen_seconds = 60"
    router = 'model = "die"\nfallbacks = 3'
    with serve("die", "head-dies", "die:rst", router=router, breaker=breaker) as gateway:
        assert gateway.chat("head-dies").status == 502
        answer = gateway.chat("die>head-dies>die:rst")
        assert (answer.status, answer.code) == (502, "truncated")
        rows = kept(gateway)[1:]
        assert told(rows) == [
            ("die", 502, "truncated", GUESSED),
            ("die:rst", 502, "truncated", GUESSED),
        ]
        assert rows[-1]["id"] == answer.id
        assert answer.headers["x-turnout-destination"] == "die:rst"


class Settling(Ordered):
    """Also keeps what its decisions have cost."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.names)
        self.settled: list[float] = []

    def settle(self, decision: Decision, cost: float) -> None:
        self.settled.append(cost)


def test_the_policy_hears_the_sum_once(bad: BadUpstream, tmp_path: Path) -> None:
    """Of a request with two rows it hears one cost, as much as both."""
    config = configure(bad, tmp_path, ["die", "good"])
    policy = Settling(config)
    with serving(config, lambda c, k: replace(build(c, k), policy=policy)) as gateway:
        assert gateway.chat("die>good").status == 200
        kept(gateway)
    assert policy.settled == [(GUESSED + TOLD) / 1e12]


# --- the same destination --------------------------------------------------------------------


class Doubtful:
    """An upstream whose first answers get lost after it has worked on them.

    Parameters
    ----------
    upstream : Any
        The one that works.
    failures : sequence of (bool, dict)
        By try: whether it may be charged, and what it had told of its usage.
    """

    def __init__(self, upstream: Any, *failures: tuple[bool, dict[str, int] | None]) -> None:
        self._upstream = upstream
        self._origins = upstream._origins
        self._failures = list(failures)

    async def complete(self, request: ChatRequest) -> Reply:
        reply: Reply = await self._upstream.complete(request)
        if self._failures:
            raise self._lost(self._failures.pop(0)[0])
        return reply

    async def stream(self, request: ChatRequest, passing: Passing) -> None:
        if self._failures:
            charged, passing.usage = self._failures.pop(0)
            passing.events, passing.completion_id = 1000, "lost"
            raise self._lost(charged)
        await self._upstream.stream(request, passing)

    async def close(self) -> None:
        await self._upstream.close()

    def _lost(self, charged: bool) -> AnswerError:
        return AnswerError(
            "good", "lost", "arrive", None, "Ask again.", passing=True, charged=charged
        )


def doubtful(*failures: tuple[bool, dict[str, int] | None]) -> Callable[[Config, Clock], Parts]:
    """Parts whose first destination is a doubtful one."""

    def make(config: Config, clock: Clock) -> Parts:
        parts = ordered(config, clock)
        first = config.names[0]
        upstream = Doubtful(parts.upstreams[first], *failures)
        return replace(parts, upstreams={**parts.upstreams, first: upstream})

    return make


RETRY = "tries = 5\nbase_seconds = 0"


def test_each_try_at_one_destination_has_its_row(bad: BadUpstream, tmp_path: Path) -> None:
    """What was asked three times, and may have been charged twice, stands there as often."""
    config = configure(bad, tmp_path, ["good"], retry=RETRY)
    failures = ((True, None), (False, None), (True, None))
    with serving(config, doubtful(*failures)) as gateway:
        answer = gateway.chat("good")
        rows = kept(gateway)
        lost = ("good", 502, "lost", GUESSED)
        assert told(rows) == [lost, lost, ("good", 200, None, TOLD)]
        assert [row["tries"] for row in rows] == [1, 3, 4]
        assert {row["fallback_from"] for row in rows} == {None}
        assert rows[-1]["id"] == answer.id
        assert gateway.reserved() == 0
        assert series(gateway, "cost_usd_total") == {
            'destination="good"': pytest.approx((2 * GUESSED + TOLD) / 1e12)
        }
    assert bad.counts == {"good": 4}


def test_what_a_failed_try_told_is_its_own(bad: BadUpstream, tmp_path: Path) -> None:
    """Its usage sets its cost, and neither usage, pieces nor name pass to the next one."""
    config = configure(bad, tmp_path, ["no-usage"], retry=RETRY)
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    with serving(config, doubtful((True, usage), (True, None), (False, usage))) as gateway:
        answer = gateway.chat("no-usage", stream=True)
        first, second, last = rows = kept(gateway)
        assert [row["cost_pico"] for row in rows[:2]] == [27_000_000, 11_000_000 + 4_000_000_000]
        assert [row["estimated"] for row in rows] == [False, True, True]
        assert last["cost_pico"] < 2 * GUESSED
        assert (first["completion_id"], second["completion_id"]) == (None, None)
        assert last["completion_id"] not in (None, "lost")
        assert (last["input_tokens"], last["id"]) == (None, answer.id)
        assert series(gateway, "tokens_total") == {
            'destination="no-usage",direction="input"': 7,
            'destination="no-usage",direction="output"': 5,
        }


@pytest.mark.parametrize("charged", [False, True])
def test_a_try_that_told_nothing_is_not_taken_for_the_one_before(
    bad: BadUpstream, tmp_path: Path, charged: bool
) -> None:
    """Where the last one fails without a word, its own estimate counts."""
    config = configure(bad, tmp_path, ["good", "head-dies"])
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    with serving(config, doubtful((charged, usage))) as gateway:
        assert gateway.chat("good>head-dies", stream=True).code == "truncated"
        *before, last = kept(gateway)
        assert told([last]) == [("head-dies", 502, "truncated", GUESSED)]
        assert (last["estimated"], last["completion_id"]) == (True, None)
        assert [row["cost_pico"] for row in before] == [27_000_000] * charged

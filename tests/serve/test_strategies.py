"""Strategies behind the gateway: one request, several calls, one bill."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

import turnout.parts.store as store
from turnout.core import ConfigError, Pool, RouterFileError
from turnout.serve.config import Config
from turnout.serve.stage import StrategyEntry

SAID = "Hello w\u00f6rld"
#: What the fake upstream tells of every answer: 11 tokens read, 3 written.
CHEAP, DEAR = 11e-6 + 3 * 4e-6, 11e-5 + 3 * 4e-5


@pytest.fixture
def strategy_file(tmp_path: Path, plugin: None) -> Path:
    """A strategy that does what the prompt says."""
    from steps import Steps  # type: ignore[import-not-found]

    path = tmp_path / "steps.turnout"
    store.save(path, Steps(), Pool(names=("cheap", "dear")))
    return path


@pytest.fixture
def stage(strategy_file: Path) -> Callable[..., str]:
    """The table of a strategy `steps`, with more keys."""

    def table(more: str = "") -> str:
        return f"""
            [strategies.steps]
            file = "{strategy_file.name}"
            trust = ["steps"]
            {more}
        """

    return table


def _rows(ledger: list[dict[str, Any]]) -> list[tuple[str, float, int]]:
    return [(row["destination"], row["cost_usd"], row["status"]) for row in ledger]


def test_one_request_several_calls(
    gateway: Callable[..., Any],
    ledger_rows: Callable[[Config], list[dict[str, Any]]],
    stage: Callable[..., str],
) -> None:
    """The answer is the strategy's; each call has a row with its cost, the request one without."""
    with gateway(more=stage()) as served:
        answer = served.chat("cheap dear+cheap", model="steps")
        told = answer.json
        assert answer.status == 200
        assert told["choices"][0]["message"]["content"] == " ".join([f"<{SAID}>"] * 3)
        assert told["choices"][0]["finish_reason"] == "stop"
        assert told["usage"] == {"prompt_tokens": 33, "completion_tokens": 9, "total_tokens": 42}
        assert [call["to"] for call in told["turnout"]["calls"]] == ["cheap", "dear", "cheap"]
        assert answer.headers["x-turnout-calls"] == "3"
        spent = float(answer.headers["x-turnout-spent-usd"])
        config, name = served.config, answer.headers["x-turnout-id"]
        assert spent == pytest.approx(2 * CHEAP + DEAR)
    rows = ledger_rows(config)
    assert sorted(_rows(rows)) == sorted(
        [("cheap", CHEAP, 200), ("cheap", CHEAP, 200), ("dear", DEAR, 200), ("steps", 0.0, 200)]
    )
    (own,) = [row for row in rows if row["destination"] == "steps"]
    assert own["id"] == name
    assert own["tries"] == 3
    assert {row["model"] for row in rows} == {"steps"}


def test_a_call_carries_what_the_strategy_says(
    gateway: Callable[..., Any], fake: Any, stage: Callable[..., str]
) -> None:
    """System text, prompt and limit of tokens are the call's; temperature is the client's."""
    with gateway(more=stage()) as served:
        assert served.chat("cheap", model="steps", temperature=0.25, max_tokens=99).status == 200
    (sent,) = [orjson.loads(body) for body in fake.bodies]
    assert sent["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "step 0"},
    ]
    assert (sent["max_tokens"], sent["temperature"], sent["model"]) == (7, 0.25, "ok")


def test_it_can_be_streamed(gateway: Callable[..., Any], stage: Callable[..., str]) -> None:
    """The answer comes as events that end as a stream must, with usage where it is wanted."""
    with gateway(more=stage()) as served:
        answer = served.chat(
            "cheap cheap", model="steps", stream=True, stream_options={"include_usage": True}
        )
    events = [line[6:] for line in answer.body.decode().split("\n\n") if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    chunks = [orjson.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == (
        f"<{SAID}> <{SAID}>"
    )
    assert chunks[1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 28


def test_out_of_calls_it_answers_with_what_it_has(
    gateway: Callable[..., Any], stage: Callable[..., str]
) -> None:
    """The limit is told, and the answer counts as cut short."""
    with gateway(more=stage("calls = 2")) as served:
        told = served.chat("cheap cheap cheap", model="steps").json
    assert told["choices"][0]["message"]["content"] == f"cut <{SAID}> <{SAID}>"
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["turnout"]["stopped"] == "calls"


def test_out_of_money_it_stops(gateway: Callable[..., Any], stage: Callable[..., str]) -> None:
    """Its own limit of cost ends a play."""
    with gateway(more=stage(f"usd = {DEAR}")) as served:
        told = served.chat("dear cheap", model="steps").json
    assert told["turnout"]["stopped"] == "spend"
    assert len(told["turnout"]["calls"]) == 1


def test_a_call_that_hangs_is_broken_off(
    gateway: Callable[..., Any],
    fake: Any,
    ledger_rows: Callable[[Config], list[dict[str, Any]]],
    stage: Callable[..., str],
) -> None:
    """At its own timeout the strategy answers with what came back; the rest is stopped."""
    with gateway(dear="hang", more=stage("timeout_seconds = 0.5")) as served:
        told = served.chat("cheap+dear cheap", model="steps").json
        assert fake.gone.wait(10)
        config = served.config
    assert told["choices"][0]["message"]["content"] == f"cut <{SAID}>"
    assert told["turnout"]["stopped"] == "seconds"
    assert told["turnout"]["calls"][1]["failed"] == "timeout"
    assert ("dear", 499) in [(row["destination"], row["status"]) for row in ledger_rows(config)]


def test_a_failed_call_is_a_failed_reply(
    gateway: Callable[..., Any], stage: Callable[..., str]
) -> None:
    """One destination that fails leaves the answers of the others."""
    with gateway(dear="status-500", more=stage()) as served:
        told = served.chat("dear cheap", model="steps").json
    assert told["choices"][0]["message"]["content"] == f"<{SAID}>"
    assert told["turnout"]["calls"][0]["failed"] == "status_500"


def test_where_all_calls_fail_the_failure_is_told(
    gateway: Callable[..., Any],
    ledger_rows: Callable[[Config], list[dict[str, Any]]],
    stage: Callable[..., str],
) -> None:
    """The client sees the status of the last failure, as if it had asked the destination."""
    with gateway(cheap="status-429", more=stage()) as served:
        answer = served.chat("cheap", model="steps")
        config = served.config
    assert answer.status == 429
    assert answer.error["code"]
    assert [row["status"] for row in ledger_rows(config) if row["destination"] == "steps"] == [429]


def test_a_bug_in_a_strategy_is_a_500_without_its_words(
    gateway: Callable[..., Any], caplog: pytest.LogCaptureFixture, stage: Callable[..., str]
) -> None:
    """Neither client nor log is told what the exception says, which may quote a prompt."""
    with gateway(more=stage()) as served:
        answer = served.chat("cheap break", model="steps")
    assert answer.status == 500
    assert b"quotes" not in answer.body
    assert "quotes" not in caplog.text


def test_budgets_hold_inside(gateway: Callable[..., Any], stage: Callable[..., str]) -> None:
    """A hard budget refuses the call that would break it."""
    budget = f"[budgets.all]\nusd = {1.5 * DEAR}\nperiod = 'total'"
    with gateway(more=stage() + budget) as served:
        first = served.chat("dear", model="steps", max_tokens=3)
        again = [served.chat("dear", model="steps").status for _ in range(3)]
    assert first.status == 200
    assert again[-1] == 429


def test_models_lists_it_and_auto_can_be_it(
    gateway: Callable[..., Any], stage: Callable[..., str], make_config: Callable[..., Config]
) -> None:
    """Clients see strategies beside destinations, and `router.model` may name one."""
    with gateway(more=stage()) as served:
        listed = [model["id"] for model in served.get("/v1/models").json["data"]]
    assert listed == ["auto", "cheap", "dear", "steps"]
    config = make_config(more=stage())
    entry = config.strategies[0]
    assert (entry.name, entry.calls, entry.timeout_seconds) == ("steps", 32, 120.0)


def test_auto_is_the_strategy_where_the_router_names_it(
    serve_parts: Callable[..., Any], make_config: Callable[..., Config], stage: Callable[..., str]
) -> None:
    """`model = "auto"` is played by the strategy."""
    from dataclasses import replace

    from turnout.serve.build import build
    from turnout.serve.tables import RouterConfig

    config = replace(make_config(more=stage()), router=RouterConfig(model="steps"))
    with serve_parts(config, build) as served:
        answer = served.chat("cheap")
    assert answer.headers["x-turnout-strategy"] == "steps"


def test_every_request_draws_from_the_start(
    gateway: Callable[..., Any], stage: Callable[..., str]
) -> None:
    """A strategy that draws answers equal requests by equal calls."""
    with gateway(more=stage("seed = 3")) as served:
        told = [served.chat("draw draw draw", model="steps").json["turnout"] for _ in range(3)]
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    ("more", "field"),
    [({"n": 2}, "n"), ({"tools": [{"type": "function"}]}, "tools")],
)
def test_what_a_strategy_cannot_give_is_refused(
    gateway: Callable[..., Any], stage: Callable[..., str], more: dict[str, Any], field: str
) -> None:
    """Several choices and tools are refused by name."""
    with gateway(more=stage()) as served:
        answer = served.chat("cheap", model="steps", **more)
    assert answer.status == 400
    assert answer.error["param"] == field


def test_a_client_that_goes_away_stops_the_calls(
    gateway: Callable[..., Any],
    fake: Any,
    ledger_rows: Callable[[Config], list[dict[str, Any]]],
    stage: Callable[..., str],
) -> None:
    """Nobody works for nobody, and every row is closed."""
    body = {"model": "steps", "messages": [{"role": "user", "content": "dear"}]}
    with gateway(dear="hang", more=stage()) as served:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
        connection.request("POST", "/v1/chat/completions", orjson.dumps(body))
        assert fake.asked.wait(10)
        connection.close()
        assert fake.gone.wait(10)
        config = served.config
    assert sorted((r["destination"], r["status"]) for r in ledger_rows(config)) == [
        ("dear", 499),
        ("steps", 499),
    ]


def test_a_cascade_is_served(gateway: Callable[..., Any], tmp_path: Path, plugin: None) -> None:
    """A sequential router in a file is a strategy: it goes on until an answer will do."""
    from steps import First  # type: ignore[import-not-found]

    store.save(tmp_path / "first.turnout", First(), Pool(names=("cheap", "dear")))
    table = '[strategies.slow]\nfile = "first.turnout"\ntrust = ["steps"]'
    with gateway(cheap="status-500", more=table) as served:
        told = served.chat("hello", model="slow").json
    assert [call["to"] for call in told["turnout"]["calls"]] == ["cheap", "dear"]
    assert told["choices"][0]["message"]["content"] == SAID


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[strategies.cheap]\nfile = "steps.turnout"', "not be in the pool"),
        ("[strategies.steps]\ncalls = 3", "be given"),
        ('[strategies.steps]\nfile = "steps.turnout"\ncalls = 0', "calls"),
        ('[strategies.steps]\nfile = "steps.turnout"\nusd = 0.0', "usd"),
        ('[strategies.steps]\nfile = "steps.turnout"\ntimeout_seconds = 0', "timeout_seconds"),
        ('[strategies.auto]\nfile = "steps.turnout"', "auto"),
        ('[strategies.steps]\nfile = "steps.turnout"\nprice = -1', "price"),
        ('[strategies.steps]\nfile = "steps.turnout"\nfoo = 1', "foo"),
    ],
)
def test_bad_tables_are_refused(
    make_config: Callable[..., Config], strategy_file: Path, table: str, message: str
) -> None:
    """Every mistake is named before anything starts."""
    with pytest.raises(ConfigError, match=message):
        make_config(more=table)


def test_a_strategy_must_know_the_pool(
    make_config: Callable[..., Config], tmp_path: Path, plugin: None
) -> None:
    """A file made for other destinations is refused; untrusted code, too."""
    from steps import Steps  # type: ignore[import-not-found]

    from turnout.serve.build import build
    from turnout.serve.wire.clock import Clock

    path = tmp_path / "other.turnout"
    store.save(path, Steps(names=("a", "b")), Pool(names=("a", "b")))
    table = '[strategies.steps]\nfile = "other.turnout"'
    with pytest.raises(RouterFileError, match="trust"):
        build(make_config(more=table), Clock())
    with pytest.raises(RouterFileError, match="know a destination"):
        build(make_config(more=table + '\ntrust = ["steps"]'), Clock())


def test_the_entry_has_limits() -> None:
    """Without a limit of cost there is none."""
    limits = StrategyEntry(name="x", file=Path("x")).limits
    assert (limits.calls, limits.seconds, limits.spend) == (32, 120.0, float("inf"))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.core import ConfigError, Outcomes, Pool, RouterFileError
from turnout.llms.length import Length
from turnout.parts import store
from turnout.parts.decide import Decider, compile_decider
from turnout.parts.pacing import Pacer
from turnout.parts.priced import one_choice
from turnout.serve.build import build, check
from turnout.serve.config import parse
from turnout.serve.errors import RequestError
from turnout.serve.pace import FixedPrice, PeriodPace, make_pace
from turnout.serve.policy import Decision, Named, Opaque, Routed
from turnout.serve.request import ChatRequest, prompt_of
from turnout.serve.request import parse as parse_request
from turnout.serve.routers import first_pace, make_policy
from turnout.serve.tables import BudgetConfig
from turnout.serve.wire.clock import Clock

TABLE = Outcomes(
    inputs=["one", "another one", "a third one of them"],
    names=("a", "b"),
    quality=np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
    cost=np.array([[1.0, 2.0]] * 3),
)
MEASURED = [
    {"price": 100.0, "cost": 0.001, "quality": 0.5},
    {"price": 50.0, "cost": 0.01, "quality": 0.7},
    {"price": 60.0, "cost": 0.02, "quality": 0.75},
    {"price": 0.0, "cost": 0.03, "quality": 0.74},
]


class Spy:
    """A pace that remembers."""

    def __init__(self, price: float) -> None:
        self.price = price
        self.heard: list[tuple[float, ...]] = []

    def decided(self, expected_cost: float) -> None:
        self.heard.append((expected_cost,))

    def settled(self, expected_cost: float, actual_cost: float) -> None:
        self.heard.append((expected_cost, actual_cost))


class Figures:
    """A predictor of fixed figures for three destinations."""

    names = ("c", "b", "a")

    def predict(self, inputs: Any) -> Any:
        return np.array([[0.9, 0.5, 0.5]]), np.array([[0.03, 0.02, 0.01]])


def ask(text: str = "hi") -> ChatRequest:
    body = b'{"model": "auto", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()
    return parse_request(body, max_prompt_chars=100)


def test_figures_follow_the_pool_and_the_rest_is_ranked() -> None:
    """Columns are matched by name; fallbacks come by value, ties to the cheaper."""
    pace = Spy(1.0)
    pool = Pool(names=("a", "b", "c"))
    routed = Routed(Decider(Figures(), pool), pace, explore=0.0, rng=np.random.default_rng(0))
    decision = routed.decide(ask())
    assert decision == Decision(
        destination="c",
        propensity=1.0,
        price=1.0,
        names=("a", "b", "c"),
        quality=(0.5, 0.5, 0.9),
        cost=(0.01, 0.02, 0.03),
        order=("a", "b"),
        expected_cost=0.03,
    )
    routed.settle(decision, 0.5)
    assert pace.heard == [(0.03,), (0.03, 0.5)]


def test_the_pace_hears_of_routed_requests_only(
    make_config: Callable[..., Any], serve_parts: Callable[..., Any]
) -> None:
    """What a named model costs is outside the budget of routed ones; a failure has cost nothing."""
    config = make_config("ok", "status-500", router="fallbacks = 0")
    pace = Spy(0.0)
    router = store.load(config.router.file, trust=("by_length",)).router
    pool, rng = Pool(names=config.names), np.random.default_rng(0)
    routed = Routed(compile_decider(router, pool), pace, explore=0.0, rng=rng)
    named = Named(routed, config.names)
    with serve_parts(config, lambda c, k: replace(build(c, k), policy=named)) as served:
        served.chat("hi", "cheap")
        served.chat("hi")
        served.chat("a prompt that is longer than twenty characters")
    cost = pytest.approx((11 + 3 * 4) / 1e6)
    assert pace.heard == [(0.001,), (0.001, cost), (0.02,), (0.02, 0.0)]


class FirstThatIsUp:
    """A router without figures that takes the first destination there is."""

    names = ("a", "b", "c")

    def route(self, inputs: Any, pool: Pool, *, budget: Any, rng: Any) -> Any:
        first = int(np.flatnonzero(pool.available)[0])
        return one_choice(np.full(len(inputs), first), pool.m)


def test_only_what_is_allowed_is_decided_on() -> None:
    """By figures or by a router without any: choice and fallbacks stay within the allowed."""
    pool, rng = Pool(names=("a", "b", "c")), np.random.default_rng(0)
    routed = Routed(Decider(Figures(), pool), FixedPrice(0.0), explore=0.0, rng=rng)
    opaque = Opaque(FirstThatIsUp(), pool, 0.0, rng=rng)
    request = parse_request(
        b'{"model":"auto","messages":[{"role":"user","content":"x"}]}', max_prompt_chars=9
    )
    for policy, first in ((routed, "c"), (opaque, "a")):
        assert policy.decide(request).destination == first
        decision = policy.decide(request, frozenset({"b"}))
        assert (decision.destination, decision.order) == ("b", ())
        decision = policy.decide(request, frozenset({"b", "c"}))
        assert {decision.destination, *decision.order} == {"b", "c"}
    drawn = Routed(Decider(Figures(), pool), FixedPrice(0.0), explore=1.0, rng=rng)
    decisions = [drawn.decide(request, frozenset({"a", "b"})) for _ in range(50)]
    assert {one.destination for one in decisions} == {"a", "b"}
    assert {one.propensity for one in decisions} == {0.5}


def test_budgets_become_prices() -> None:
    """A mean cost is paced from what was measured; a mean quality is looked up there."""
    fixed = make_pace(BudgetConfig(price=3.0), [], 1)
    assert isinstance(fixed, FixedPrice)
    assert fixed.price == 3.0
    assert make_pace(BudgetConfig(), MEASURED, 10).price == 0.0
    paced = make_pace(BudgetConfig(mean_cost_usd=0.01), MEASURED, 10)
    assert isinstance(paced, Pacer)
    assert paced.price == pytest.approx(50.0)
    guessed = make_pace(BudgetConfig(mean_cost_usd=0.01), [], 1)
    assert guessed.price == pytest.approx(10.0)
    assert make_pace(BudgetConfig(mean_quality=0.7), MEASURED, 10).price == 60.0
    assert make_pace(BudgetConfig(mean_quality=0.1), MEASURED, 10).price == 100.0


def test_a_promise_is_the_price_that_was_certified(tmp_path: Path) -> None:
    """Of the router file, for just its pool; without one, or damaged, there is nothing to keep."""
    fitted = Length().fit(TABLE, TABLE.pool(), rng=np.random.default_rng(0))

    def paced(names: tuple[str, ...], **extra: Any) -> Any:
        store.save(tmp_path / "r.turnout", fitted, TABLE.pool(), extra=extra)
        saved = store.load(tmp_path / "r.turnout")
        return first_pace(BudgetConfig(certified=True), saved, names)

    pace = paced(("b", "a"), certified={"price": 2.5})
    assert isinstance(pace, FixedPrice)
    assert pace.price == 2.5
    with pytest.raises(ConfigError, match="a promise in the router file"):
        paced(("a", "b"))
    with pytest.raises(ConfigError, match="just the destinations"):
        paced(("a",), certified={"price": 2.5})
    with pytest.raises(RouterFileError, match="damaged promise"):
        paced(("a", "b"), certified={"price": None})


def test_a_hard_budget_is_spread_over_its_period() -> None:
    """What is left over the requests to come sets the price: less money, or less time, moves it."""
    pace = make_pace(BudgetConfig(pace="all"), MEASURED, 10, paced=(24.0, 1))
    assert isinstance(pace, PeriodPace)
    day = 86_400_000

    def after(left_usd: float, requests: int) -> float:
        made = make_pace(BudgetConfig(pace="all"), MEASURED, 10, paced=(24.0, 1))
        assert isinstance(made, PeriodPace)
        assert made.due(1_000)
        made.tick(1_000, left_usd, day, day)
        assert not made.due(2_000)
        for second in range(1, 13):
            for _ in range(requests):
                made.decided(0.01)
                made.settled(0.01, 0.01)
            made.tick(1_000 + 5_000 * second, left_usd, day, day)
        return made.price

    rich, fair, poor = (after(usd, 10) for usd in (10_000.0, 1_700.0, 100.0))
    assert rich == 0.0
    assert rich < fair < poor
    assert after(1_700.0, 40) > fair  # four times the requests are to come
    assert pace.due(1_000)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (BudgetConfig(mean_cost_usd=0.0001), "be at least 0.001"),
        (BudgetConfig(mean_quality=0.76), "be at most 0.75"),
    ],
)
def test_budgets_out_of_reach_are_refused(budget: BudgetConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_pace(budget, MEASURED, 10)


def test_a_paced_gateway_moves_its_price(gateway: Callable[..., Any]) -> None:
    """Requests expected to cost five times the budget raise the price until the cheap wins."""
    long = "a prompt that is longer than twenty characters"
    with gateway(budget="mean_cost_usd = 0.004\nperiod = 20") as served:
        answers = [served.chat(long).headers for _ in range(40)]
    prices = [float(answer["x-turnout-price"]) for answer in answers]
    assert prices[0] == pytest.approx(0.1 / 0.004)
    assert answers[0]["x-turnout-destination"] == "dear"
    assert prices[1] > prices[0]
    assert "cheap" in {answer["x-turnout-destination"] for answer in answers}


def test_the_prompt_is_what_system_and_user_say() -> None:
    """In order, a line each; parts of text count, images and other roles do not."""
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "x"}},
            {"type": "text", "text": "is this"},
        ]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "user", "content": "again"},
    ]  # fmt: skip
    assert prompt_of(messages) == "be brief\nwhat\nis this\nagain"
    with pytest.raises(RequestError, match="messages must be a list"):
        prompt_of({})


def _names(path: Path, *names: str) -> Any:
    pools = "".join(f'[pool.{name}]\nupstream = "openai:http://127.0.0.1:9/v1"\n' for name in names)
    head = f'[router]\nfile = "{path.name}"\ntrust = ["by_length"]\n'
    return parse(head + pools, path.parent / "turnout.toml")


def test_router_files_that_cannot_serve_are_refused(router_file: Path, tmp_path: Path) -> None:
    """Missing, damaged, of another pool, of a newer version, untrusted, a cascade: all told apart.

    None of them leaves a ledger behind.
    """
    from by_length import Cascade  # type: ignore[import-not-found]

    damaged, cascade, newer = (tmp_path / name for name in ("damaged", "cascade", "newer"))
    damaged.write_bytes(router_file.read_bytes()[:100])
    newer.write_bytes(router_file.read_bytes().replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    store.save(cascade, Cascade(("cheap", "dear")), Pool(names=("cheap", "dear")))
    untrusted = _names(router_file, "cheap").router
    cases = [
        (_names(tmp_path / "none", "cheap"), "must exist"),
        (_names(damaged, "cheap"), "be a router file"),
        (_names(newer, "cheap"), "be at most 1; got 9"),
        (_names(router_file, "cheap", "huge"), "know every destination of the pool; got 'huge'"),
        (_names(cascade, "cheap"), "decides before it sees an answer"),
    ]
    assert untrusted.trust == ("by_length",)
    for config, said in cases:
        with pytest.raises(RouterFileError, match=said):
            build(config, Clock(), {})
        with pytest.raises(RouterFileError, match=said):
            check(config, {})
        assert not config.ledger.path.exists()


def test_a_part_of_the_routers_pool_can_be_served(router_file: Path) -> None:
    """A pool of one known destination is decided for with its own column."""
    decided = make_policy(_names(router_file, "dear")).decide(ask())
    assert (decided.destination, decided.cost) == ("dear", (0.02,))


def test_without_a_router_everything_goes_to_one(tmp_path: Path) -> None:
    text = '[router]\nmodel = "b"\n' + "".join(
        f'[pool.{name}]\nupstream = "openai:http://127.0.0.1:9/v1"\n' for name in "ab"
    )
    decided = make_policy(parse(text, tmp_path / "turnout.toml")).decide(ask())
    assert (decided.destination, decided.propensity) == ("b", 1.0)
    with pytest.raises(ConfigError, match="come with a router"):
        make_policy(parse(text + "[budget]\nprice = 1", tmp_path / "turnout.toml"))


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "be set"), ("", "be set"), ("sk-a\n", "printable ASCII"), ("sk- a", "printable ASCII")],
)
def test_a_key_variable_has_to_hold_a_key(tmp_path: Path, value: str | None, said: str) -> None:
    """The variable is named, its value never, and no ledger is made."""
    text = '[pool.a]\nupstream = "openai:http://127.0.0.1:9/v1"\nkey_env = "MY_KEY"'
    config = parse(text, tmp_path / "turnout.toml")
    with pytest.raises(ConfigError, match=said) as caught:
        build(config, Clock(), {} if value is None else {"MY_KEY": value})
    assert "MY_KEY" in str(caught.value)
    assert "sk-" not in str(caught.value)
    assert not config.ledger.path.exists()


def test_an_unknown_laboratory_model_is_refused(tmp_path: Path) -> None:
    config = parse('[pool.a]\nupstream = "lab:huge"', tmp_path / "turnout.toml")
    with pytest.raises(ConfigError, match=r"pool\.a\.upstream must name a laboratory model"):
        build(config, Clock(), {})

"""What users of other gateways complain about in how a model is chosen, each as a test."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from turnout.core import Outcomes
from turnout.llms.linear import FittedLinear, Linear
from turnout.parts import store
from turnout.parts.texts.words import READ
from turnout.serve.build import build
from turnout.serve.config import Config

from .rig import Gateway, configure, serving
from .upstream import BadUpstream

#: What the destinations are good at, and the price of a request: the last one at everything.
POOL = {"sums": 0.001, "verses": 0.002, "both": 0.02}
SUM, VERSE = "add the numbers {} and {}", "write a poem on {} and {}"


def prompts(pattern: str, count: int) -> list[str]:
    return [pattern.format(i, 7 * i + 1) for i in range(count)]


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    """Somebody's own outcomes: three destinations, graded on sums and on verses."""
    right = {SUM: (1.0, 0.0, 1.0), VERSE: (0.0, 1.0, 1.0)}
    texts = [(pattern, text) for pattern in right for text in prompts(pattern, 60)]
    return Outcomes(
        inputs=[text for _, text in texts],
        names=tuple(POOL),
        quality=np.array([right[pattern] for pattern, _ in texts]),
        cost=np.array([list(POOL.values())] * len(texts)),
    )


@pytest.fixture(scope="session")
def fitted(outcomes: Outcomes) -> FittedLinear:
    return Linear().fit(outcomes, outcomes.pool(), rng=np.random.default_rng(0))


@pytest.fixture
def routed(
    bad: BadUpstream, tmp_path: Path, outcomes: Outcomes, fitted: FittedLinear
) -> Callable[..., Config]:
    """The configuration of a gateway that routes by what was learned from them."""

    def make(budget: str = "", **tables: str) -> Config:
        path = tmp_path / "router.turnout"
        store.save(path, fitted, outcomes.pool())
        free = "usd_per_million_input_tokens = 0\nusd_per_million_output_tokens = 0\n"
        lines = {
            name: f'model = "good"\n{free}usd_per_request = {price}\n'
            for name, price in POOL.items()
        }
        given = {"router": f'file = "{path}"\nseed = 0', **tables}
        if budget:
            given["budget"] = budget
        return configure(bad, tmp_path, list(POOL), entries=lines, **given)

    return make


def destination(gateway: Gateway, text: str) -> str:
    answer = gateway.chat("auto", text)
    assert answer.status == 200, answer.text
    return answer.headers["x-turnout-destination"]


def test_only_two_models_can_be_routed_between(routed: Callable[..., Config]) -> None:
    """Three, learned from somebody's own table; each prompt to the cheapest that is good at it."""
    with serving(routed("price = 10.0"), build) as gateway:
        assert destination(gateway, SUM.format(3, 5)) == "sums"
        assert destination(gateway, VERSE.format(3, 5)) == "verses"


def test_nobody_knows_what_the_threshold_means_for_my_traffic(
    routed: Callable[..., Config],
) -> None:
    """The target is dollars a request, and what this gateway's own requests come to cost."""
    target = 0.0012  # the best that can be had costs 0.0015
    with serving(routed(f"mean_cost_usd = {target}\nperiod = 20"), build) as gateway:
        for pair in zip(prompts(SUM, 150), prompts(VERSE, 150), strict=True):
            for text in pair:
                destination(gateway, text)
    spent = [row["cost_usd"] for row in gateway.rows()]
    # by then it has found the price, from far away
    assert np.mean(spent[200:]) == pytest.approx(target, rel=0.1)


def test_quality_is_a_number_that_somebody_wrote_down(
    routed: Callable[..., Config], fitted: FittedLinear
) -> None:
    """What is told of each candidate is learned, differs by prompt, and is what was decided on."""
    with serving(routed("price = 10.0"), build) as gateway:
        told = [gateway.chat("auto", text).headers for text in (SUM.format(2, 9), VERSE)]
    assert told[0]["x-turnout-quality"] != told[1]["x-turnout-quality"]
    quality, _ = fitted.predict_one(SUM.format(2, 9))
    pairs = dict(pair.split("=") for pair in told[0]["x-turnout-quality"].split(","))
    assert {name: float(value) for name, value in pairs.items()} == pytest.approx(
        dict(zip(POOL, quality, strict=True)), rel=1e-4
    )


def test_a_gateway_that_has_just_started_chooses_badly(routed: Callable[..., Config]) -> None:
    """There is no time of trial: the first request is decided as the hundredth is."""
    text = SUM.format(4, 4)
    with serving(routed("price = 10.0"), build) as gateway:
        first = gateway.chat("auto", text).headers
        for other in prompts(VERSE, 30):
            gateway.chat("auto", other)
        again = gateway.chat("auto", text).headers
    for name in ("destination", "quality", "cost", "propensity"):
        assert first.get(f"x-turnout-{name}") == again.get(f"x-turnout-{name}")


def test_long_prompts_take_long_to_classify(routed: Callable[..., Config]) -> None:
    """However long a prompt is, no more than so much of it is read to decide."""
    start, end = prompts(SUM, 1)[0].ljust(READ // 2), prompts(SUM, 1)[0].rjust(READ // 2)
    middle = VERSE * 10_000
    with serving(routed("price = 10.0"), build) as gateway:
        told = [
            gateway.chat("auto", start + between + end).headers["x-turnout-quality"]
            for between in ("", middle)
        ]
    # the word at the seam is the only other one there may be
    values = [[float(pair.split("=")[1]) for pair in line.split(",")] for line in told]
    assert values[0] == pytest.approx(values[1], abs=0.02)


def test_it_falls_over_at_fifteen_requests_at_once(routed: Callable[..., Config]) -> None:
    """Many clients at once are all answered, each by whom it was routed to."""
    config = routed("price = 10.0")
    wanted = {SUM: "sums", VERSE: "verses"}
    texts = [(pattern, text) for pattern in wanted for text in prompts(pattern, 60)]
    with serving(config, build) as gateway, ThreadPoolExecutor(32) as many:
        found = list(many.map(lambda one: destination(gateway, one[1]), texts))
    assert found == [wanted[pattern] for pattern, _ in texts]

"""The whole analysis of a trace: what it finds where something was planted, and its limits."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.bench.traces import Analysis, analyse, measures, record
from turnout.bench.traces import analysis as module
from turnout.bench.traces.findings import findings, moved
from turnout.core import InputError, Trace


def look(trace: Trace, name: str = "t") -> Analysis:
    return analyse(trace, name, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(routers: SimpleNamespace) -> Analysis:
    """The trace with every field, analysed."""
    return look(routers.full(2400))


def test_planted_structure_is_found(found: Analysis) -> None:
    """Expert 1 is dead, layer 3 follows the domain, layer 5 the token, late choices drop."""
    assert (found.t, found.e, found.layers.tolist()) == (2400, 8, [1, 3, 5])
    assert measures.dead(found.counts).tolist() == [1, 1, 1]
    assert found.counts[:, 1].sum() == 0
    assert found.groups["domain"].names == ("arxiv", "code")
    assert found.groups["domain"].bits.argmax() == 1
    assert found.groups["domain"].bits[0] < 0.01
    assert found.groups["phase"].names == ("prefill", "decode")
    assert found.tokens is not None
    assert found.tokens.bits.argmax() == 2
    assert set(found.tokens.ids[2, 0]) >= {0}
    assert found.positions is not None
    assert found.positions.drops is not None
    assert found.positions.starts[0] == 0
    assert found.positions.ends[-1] == 39
    early, late = found.positions.drops[:, :4], found.positions.drops[:, -4:]
    assert early.max() == 0
    assert late.min() > 0.05
    assert found.drops is not None
    np.testing.assert_allclose(found.drops, (found.k * 0 + 2 - _kept(found)) / 2)
    assert [(one.source, one.target) for one in found.transitions] == [(1, 3), (3, 5)]


def _kept(found: Analysis) -> np.ndarray:
    return found.counts.sum(axis=1) / found.t


def test_tokens_of_experts_by_hand() -> None:
    """Two choices a token: id 7 in 40 tokens, 30 of which choose expert 0; id 9 is too rare."""
    table = np.array([[30, 40, 10], [10, 40, 30], [9, 0, 0]])
    found = module.token_use(np.array([4]), [(np.array([7, 8, 9]), table)], 2.0)
    assert found.ids[0].tolist() == [[7, -1, -1, -1, -1], [-1] * 5, [8, -1, -1, -1, -1]]
    assert found.shares[0, 0, 0] == pytest.approx(30 / 40)
    assert found.shares[0, 2, 0] == pytest.approx(30 / 40)
    assert found.covered[0] == pytest.approx(160 / 169)
    # Of expert 0's tokens 3 in 4 are id 7, of all tokens 1 in 2.
    lean = 0.75 * np.log2(1.5) + 0.25 * np.log2(0.5)
    np.testing.assert_allclose(found.leaning[0], [lean, 0.0, lean], atol=1e-12)


def test_neighbours_share_experts_where_they_do(routers: SimpleNamespace) -> None:
    """SRP of a sticky router lies far above the same tokens in random order."""
    trace = Trace(experts=routers.sticky(2000, 0.9), e=32, requests=np.arange(0, 2001, 500))
    found = look(trace)
    assert found.routing is not None
    assert [row.m for row in found.routing.rows] == [4, 16, 64, 256]
    assert found.routing.tokens == 2000
    for row, chance in zip(found.routing.rows[:3], found.routing.shuffled[:3], strict=True):
        assert row.value > chance.value + 0.1
    assert found.caches is not None
    assert set(found.caches.rates) == set(module.CACHE_WINDOWS)
    assert all(rate[0, -1] == 1.0 for rate in found.caches.rates.values())


def test_samples_are_told_and_bounded(
    routers: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace too large for the work allowed is sampled by pieces of requests."""
    monkeypatch.setattr(module, "_ROUTING_WORK", 600 * 32)
    monkeypatch.setattr(module, "_CACHE_WORK", 300 * 32 * 4)
    experts = routers.sticky(3000, 0.5)
    found = look(Trace(experts=experts, e=32, requests=np.arange(0, 3001, 100)))
    assert found.routing is not None
    assert found.routing.tokens == 600
    assert [row.m for row in found.routing.rows] == [4, 16, 64]
    assert found.caches is not None
    assert found.caches.tokens == 300
    whole = look(Trace(experts=experts, e=32))
    assert whole.routing is not None
    # Two pieces, the first and the last, which is what is left of 3000 tokens.
    assert whole.routing.tokens == module.SAMPLE + 3000 % module.SAMPLE
    assert any("no request boundaries" in note for note in whole.notes)


def test_masked_tokens_count_nowhere(routers: SimpleNamespace) -> None:
    """Padding between real tokens changes no figure, and is told."""
    trace = routers.full(240)
    gaps = np.sort(np.tile(np.arange(240), 2))
    real = np.arange(480) % 2 == 0
    fields: dict[str, Any] = {
        name: np.where(
            real.reshape(-1, *[1] * (getattr(trace, name).ndim - 1)),
            getattr(trace, name)[gaps],
            fill,
        )
        for name, fill in (("experts", -1), ("weights", 0), ("tokens", -1), ("dropped", False))
    }
    padded = Trace(
        e=8,
        mask=real,
        requests=2 * trace.requests,
        phase=trace.phase[gaps],
        layers=trace.layers,
        tags={"domain": trace.tags["domain"][gaps]},
        tag_names=trace.tag_names,
        meta=trace.meta,
        **fields,
    )
    one, two = record(look(trace)), record(look(padded))
    assert two["notes"][0] == "240 of 480 tokens are masked and left out"
    for name in one.keys() - {"notes", "positions"}:
        assert one[name] == two[name], name


def test_relabelling_experts_changes_the_numbers_alone(routers: SimpleNamespace) -> None:
    """Every figure by layer stays; counts move with the names."""
    trace = routers.full(480)
    names = np.random.default_rng(2).permutation(8)
    renamed = np.where(trace.experts >= 0, names[trace.experts], -1)
    one, two = look(trace), look(routers.full(480, experts=renamed))
    assert (two.counts[:, names] == one.counts).all()
    before, after = record(one), record(two)
    for name in ("entropy", "max_over_mean", "variation", "drop_share", "effective_experts"):
        np.testing.assert_allclose(before[name], after[name])
    np.testing.assert_allclose(before["token_ids"]["bits"], after["token_ids"]["bits"])
    assert before["srp"]["rows"] == after["srp"]["rows"]
    assert before["cache_hits"] == after["cache_hits"]


def test_the_same_generator_gives_the_same(routers: SimpleNamespace) -> None:
    """Chance comes from `rng` alone; the global generator is not touched."""
    state = np.random.get_state()[1].copy()
    trace = routers.full(120)
    assert record(look(trace)) == record(look(trace))
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    ("trace", "match"),
    [
        (Trace(experts=np.zeros((0, 1, 1), dtype=int), e=2), "t must hold at least one token"),
        (
            Trace(experts=-np.ones((2, 1, 1), dtype=int), e=2, mask=np.zeros(2, dtype=bool)),
            "t must hold at least one token that is not masked",
        ),
        (Trace(experts=np.zeros((2, 1, 3), dtype=int), e=2), "t must have k <= e = 2"),
        (Trace(experts=-np.ones((2, 1, 1), dtype=int), e=2), "t must hold at least one choice"),
    ],
)
def test_nothing_to_look_at_is_refused(trace: Trace, match: str) -> None:
    """Empty traces, masked ones, and more choices than experts are one clear error."""
    with pytest.raises(InputError, match=match):
        look(trace)


def test_findings_say_what_was_planted(found: Analysis) -> None:
    """The sentences name the layers, experts and shares that a person should look at."""
    text = "\n".join(findings(found))
    assert "3 of 24 experts are dead, that is never chosen: expert 1 of layer 1" in text
    assert "choices are dropped for want of capacity" in text
    assert "At the start of a sequence it is 0 %" in text
    assert "most in layer 5" in text
    assert "The domain tells" in text
    assert "F1" in text
    assert "tokens really use" in text


def test_findings_of_an_even_router(routers: SimpleNamespace) -> None:
    """A router with nothing to find fault with is said to be even."""
    said = findings(look(Trace(experts=routers.even(4000, 2, 2, 8), e=8)))
    assert said[0].startswith("The load is even everywhere")
    assert said[1].startswith("No expert is dead")


def test_findings_of_a_collapsed_router() -> None:
    """One expert for everything: named, with its share, and as much as a shared expert."""
    experts = np.zeros((900, 2, 2), dtype=int)
    experts[:, :, 1] = 1 + np.arange(900)[:, None] % 15
    said = findings(look(Trace(experts=experts, e=16)))
    assert said[0].startswith(
        "Layer 0 is the least even: 1 of its 16 experts takes 50 % of the choices, where an even "
        "share is 6.2 %; its busiest expert carries 8.0 times the mean."
    )
    assert "Expert 0 of layer 0 is chosen by 100 % of the tokens" in said[1]


def test_findings_name_the_fewest_experts_that_take_a_quarter() -> None:
    """A load of 20 %, 10 % and the rest evenly: two experts take 30 %."""
    experts = np.repeat(np.arange(16), [20, 10, *[5] * 14])[:, None, None]
    said = findings(look(Trace(experts=experts, e=16)))
    assert "2 of its 16 experts take 30 % of the tokens, where an even share is 12 %" in said[0]


def test_a_short_trace_is_said_to_be_short(routers: SimpleNamespace) -> None:
    """Dead experts of a handful of tokens may be chance."""
    said = findings(look(Trace(experts=routers.even(4, 1, 1, 16), e=16)))
    assert any("chance may have a part" in line for line in said)


def test_what_moved_between_two_traces(routers: SimpleNamespace) -> None:
    """A quarter of one layer's load on another expert is 25 %."""
    experts = np.arange(400)[:, None, None] % 4 * np.ones((1, 2, 1), dtype=int)
    other = experts.copy()
    other[:, 1][other[:, 1] == 3] = 0
    (said,) = moved(look(Trace(experts=experts, e=4), "a"), look(Trace(experts=other, e=4), "b"))
    assert said == (
        "From a to b, 12 % of the choices go to other experts, averaged over layers; most in "
        "layer 1, 25 %."
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_any_trace_makes_a_record(seed: int) -> None:
    """Small and odd traces too: JSON without NaN, every finding a sentence."""
    rng = np.random.default_rng(seed)
    e, layers, t = rng.integers(1, 6), rng.integers(1, 4), rng.choice([1, 3, 30])
    k = rng.integers(1, min(e, 3) + 1)
    experts = np.argsort(rng.random((t, layers, e)), axis=2)[:, :, :k]
    experts = np.where(rng.random(experts.shape) < rng.choice([0, 0.4]), -1, experts)
    experts[0, 0, 0] = 0
    trace = Trace(
        experts=experts,
        e=int(e),
        weights=np.where(experts < 0, 0.0, rng.random(experts.shape)),
        tokens=rng.integers(-1, 3, t),
        positions=rng.integers(-1, 9, t),
        tags={"domain": rng.integers(-1, 2, t)},
        dropped=(experts < 0) & (rng.random(experts.shape) < 0.5),
    )
    found = look(trace)
    json.dumps(record(found), allow_nan=False)
    assert all(line.endswith(".") and "nan" not in line for line in findings(found))


def test_progress_is_told(routers: SimpleNamespace) -> None:
    """Each step says how far it is, up to its end."""
    told: list[tuple[str, int, int]] = []
    analyse(
        routers.full(600),
        rng=np.random.default_rng(0),
        tick=lambda label, done, total: told.append((label, done, total)),
    )
    labels = {label for label, _, _ in told}
    assert {"pairs of experts", "token ids", "consistency", "consistency by chance"} <= labels
    assert all(0 <= done <= total for _, done, total in told)

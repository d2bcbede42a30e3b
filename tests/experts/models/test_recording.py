"""Recording and replaying: requests, padding, phases, streams; and what is refused."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from turnout.core import InputError, Trace
from turnout.experts import Site, context, record, replay, sites, swap
from turnout.nn.balance import switch_loss
from turnout.nn.gates import Gate, LinearScorer, Positive, Relu, Renormalised, RouteLog, TopK

sys.path.insert(0, str(Path(__file__).parent))
from families import answer, inputs, run, tiny

torch.set_num_threads(1)


@pytest.fixture
def model() -> Any:
    return tiny("mixtral")


def rollout(model: Any) -> tuple[torch.Tensor, Trace]:
    """Sequences of a padded batch, and the trace of their generation."""
    ids, mask = inputs()
    with record(model) as recorder, torch.no_grad():
        made = model.generate(
            ids, attention_mask=mask, max_new_tokens=4, min_new_tokens=4, do_sample=False
        )
    return made, recorder.trace()


def right_padded(made: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences of `rollout` as a trainer holds them: padded on the other side."""
    ids = torch.zeros_like(made)
    ids[0, :-2], ids[1] = made[0, 2:], made[1]
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    return ids, mask


def test_a_trace_says_who_spoke_when(model: Any) -> None:
    """Phases, positions, masks, layers, tags and origin."""
    ids, mask = inputs()
    with context(domain=torch.tensor([4, 5])), record(model) as recorder:
        model.generate(ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3)
    trace = recorder.trace()
    assert (trace.t, trace.l, trace.k, trace.e) == (16, 2, 2, 4)
    assert trace.mask is not None
    assert trace.mask.sum() == 14
    assert (trace.experts[~trace.mask] == -1).all()
    assert (trace.experts[trace.mask] >= 0).all()
    assert trace.phase is not None
    assert trace.phase.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1] + [0] * 6 + [1, 1]
    assert trace.positions is not None
    assert trace.positions.tolist() == [-1, -1, 0, 1, 2, 3, 4, 5, *range(8)]
    assert trace.tags["domain"].tolist() == [4] * 8 + [5] * 8
    assert trace.layer_numbers.tolist() == [0, 1]
    assert trace.meta["family"] == "mixtral"


def test_a_trace_can_be_kept(model: Any, tmp_path: Path) -> None:
    """What was recorded is read back alike, and still fits the model."""
    ids, mask = inputs()
    with record(model) as recorder:
        before = answer(run(model, ids, mask))
    recorder.trace().save(tmp_path / "trace.npz")
    with replay(model, Trace.read(tmp_path / "trace.npz")):
        assert torch.equal(answer(run(model, ids, mask)), before)


def test_a_stream_keeps_nothing(model: Any) -> None:
    """Each forward's trace goes to the sink when it ends."""
    parts: list[Trace] = []
    ids, mask = inputs()
    with record(model, sink=parts.append) as recorder:
        model.generate(ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3)
    assert [part.t for part in parts] == [12, 2, 2]
    with pytest.raises(InputError, match="recorder must have seen a forward pass"):
        recorder.trace()


def test_two_halves_are_two_traces() -> None:
    """Encoder and decoder read different sequences: one has to be named."""
    model = tiny("switch_transformers")
    with record(model) as recorder:
        run(model, *inputs())
    with pytest.raises(InputError, match=r"tower must be one of \['encoder', 'decoder'\]"):
        recorder.trace()
    with pytest.raises(InputError, match="got 'middle'"):
        recorder.trace("middle")
    assert recorder.trace("decoder").l == 2
    recorder.clear()
    assert recorder.towers == ()


def test_batches_become_requests_in_order(model: Any) -> None:
    """Forwards without a common cache are further requests."""
    ids, _ = inputs()
    with record(model) as recorder:
        model(ids)
        model(ids[:1, :3])
    requests = recorder.trace().requests
    assert requests is not None
    assert requests.tolist() == [0, 6, 12, 15]


def test_the_log_is_live(model: Any) -> None:
    """A loss of the latest forward's decisions reaches the native routers."""
    ids, mask = inputs()
    with record(model) as recorder:
        run(model, ids, mask)
        run(model, ids, mask)
    assert len(recorder.log) == 2
    loss = sum(switch_loss(entry.decision) for entry in recorder.log)  # type: ignore[arg-type]
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert all(float(site.router.weight.grad.abs().sum()) > 0 for site in sites(model))  # type: ignore[union-attr, operator]


def test_a_rollout_is_replayed_in_training(model: Any) -> None:
    """Padded on the other side and in one forward, every real token has its recorded experts."""
    made, trace = rollout(model)
    ids, mask = right_padded(made)
    with torch.no_grad():
        for site in sites(model):
            site.router.weight.mul_(-1.0)  # type: ignore[operator, union-attr]
    with replay(model, trace, partial=True), record(model) as recorder:
        run(model, ids, mask)
    again = recorder.trace()
    assert again.requests is not None
    assert trace.requests is not None
    assert again.mask is not None
    assert trace.mask is not None
    for row in range(2):
        told = slice(trace.requests[row], trace.requests[row + 1])
        live = slice(again.requests[row], again.requests[row + 1])
        old = trace.experts[told][trace.mask[told]]
        new = again.experts[live][again.mask[live]]
        assert len(new) == len(old) + 1
        assert np.array_equal(new[:-1], old)


def test_a_generation_is_replayed_step_by_step(model: Any) -> None:
    """Decoding steps go on where the prefill left off."""
    ids, mask = inputs()
    made, trace = rollout(model)
    options = {"attention_mask": mask, "max_new_tokens": 4, "min_new_tokens": 4}
    with replay(model, trace), record(model) as recorder:
        assert torch.equal(model.generate(ids, **options), made)
    assert np.array_equal(recorder.trace().experts, trace.experts)


def test_a_trace_of_an_engine_is_replayed(model: Any) -> None:
    """Experts alone, without padding, ids or requests, are enough for one sequence."""
    ids, _ = inputs()
    experts = np.tile(np.array([2, 3], dtype=np.int32), (6, 2, 1))
    with replay(model, Trace(experts=experts, e=4)), record(model) as recorder:
        model(ids[1:])
    assert np.array_equal(recorder.trace().experts, experts)


def test_what_is_masked_chooses_live(model: Any) -> None:
    """Tokens without recorded experts are left to the router."""
    ids, _ = inputs()
    with record(model) as recorder:
        before = answer(model(ids[:1]))
    trace = recorder.trace()
    experts = trace.experts.copy()
    experts[2:4] = -1
    weights = trace.weights.copy() if trace.weights is not None else None
    assert weights is not None
    weights[2:4] = 0
    partial = dataclasses.replace(trace, experts=experts, weights=weights)
    with replay(model, partial):
        assert torch.equal(answer(model(ids[:1])), before)


def test_a_gate_can_be_replayed(model: Any) -> None:
    """Also one that gives tokens different numbers of experts, from a trace or a log."""

    def gate(site: Site) -> Gate:
        draw = torch.Generator().manual_seed(site.ordinal)
        scorer = LinearScorer(site.d, site.e, generator=draw)
        return Gate(scorer, Positive(), Renormalised(), e=site.e, processors=[Relu()])

    ids, mask = inputs()
    with swap(model, gate, init="fresh"):
        with record(model) as recorder:
            before = answer(run(model, ids, mask))
        for source in (recorder.trace(), recorder.log):
            with replay(model, source):
                again = answer(run(model, ids, mask))
            assert torch.equal(again[mask.bool()], before[mask.bool()])
    with pytest.raises(InputError, match=r"trace.k must be 2|hold 2 experts or none"):
        replay(model, recorder.trace())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_replay_survives_checkpointing(model: Any, reentrant: bool) -> None:
    """The second run of a layer is forced as the first was."""
    ids, mask = inputs()
    with record(model) as recorder:
        run(model, ids, mask)
    trace = recorder.trace()
    moved = np.where(trace.experts >= 0, (trace.experts + 1) % 4, -1)
    trace = dataclasses.replace(trace, experts=moved)
    kept = []
    model.train()
    model.config.use_cache = False
    for on in (False, True):
        model.zero_grad()
        if on:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        with replay(model, trace):
            answer(run(model, ids, mask))[mask.bool()].square().sum().backward()
        kept.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*kept, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-3, atol=1e-5)


def test_replay_holds_in_its_own_thread(model: Any) -> None:
    """Another thread that runs the model meanwhile is not forced."""
    ids, _ = inputs()
    before = answer(model(ids)).detach()
    experts = np.tile(np.array([2, 3], dtype=np.int32), (12, 2, 1))
    trace = Trace(experts=experts, e=4, requests=np.array([0, 6, 12]))
    made: list[torch.Tensor] = []
    with replay(model, trace):
        thread = threading.Thread(target=lambda: made.append(answer(model(ids)).detach()))
        thread.start()
        thread.join()
        assert not torch.equal(answer(model(ids)), before)
    assert torch.equal(made[0], before)


def some(t: int = 12, l: int = 2, k: int = 2, e: int = 4, **more: Any) -> Trace:  # noqa: E741
    requests = np.array([0, t // 2, t])
    row = np.arange(k, dtype=np.int32)
    return Trace(experts=np.tile(row, (t, l, 1)), e=e, requests=requests, **more)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (some(e=8), "trace.e must be 4, the experts of the model; got 8"),
        (some(k=3), "trace.k must be 2, the choices of a token; got 3"),
        (some(l=3), "trace must hold the 2 layers of the model; got 3"),
        (some(layers=np.array([3, 4])), r"trace.layers must be \[0, 1\]"),
    ],
)
def test_a_trace_of_another_model_is_refused(model: Any, trace: Trace, message: str) -> None:
    """What does not fit is named, before anything runs."""
    with pytest.raises(InputError, match=message):
        replay(model, trace)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (some(t=10), "request 0 of the trace must hold the 6 tokens of its sequence; got 5"),
        (some(t=16), "request 0 of the trace must hold the 6 tokens of its sequence; got 8"),
        (some(tokens=np.zeros(12, dtype=int)), "trace.tokens must hold token"),
        (dataclasses.replace(some(), requests=np.array([0, 12])), "hold the 2 sequences"),
    ],
)
def test_a_trace_of_other_tokens_is_refused(model: Any, trace: Trace, message: str) -> None:
    """At the forward that does not fit."""
    with replay(model, trace), pytest.raises(InputError, match=message):
        model(inputs()[0])


def test_a_log_of_another_model_is_refused(model: Any) -> None:
    """Other experts, other tokens, or too few forwards."""
    ids, _ = inputs()
    with record(model) as recorder:
        model(ids)
    with replay(model, recorder.log), pytest.raises(InputError, match="log must hold the 6 tokens"):
        model(ids[:1])
    with replay(model, recorder.log):
        model(ids)
        with pytest.raises(InputError, match="log must hold one more forward"):
            model(ids)
    with pytest.raises(InputError, match=r"log must hold the layers \[0, 1\]; got \[\]"):
        replay(model, RouteLog())
    other = tiny("mixtral")

    def gate(site: Site) -> Gate:
        return Gate(LinearScorer(32, 4), TopK(1), Renormalised(), e=4)

    with swap(other, gate, layers=[0]), record(other) as second:
        other(ids)
    for entry in second.log:
        object.__setattr__(entry.decision, "e", 7)
    with pytest.raises(InputError, match="log of layer 0 must choose among 4 experts; got 7"):
        replay(model, second.log)


def test_towers_have_to_be_named() -> None:
    """A trace that says nothing of its tower does not fit a model with two."""
    model = tiny("switch_transformers")
    with pytest.raises(InputError, match="source must name one of the towers"):
        replay(model, some(k=1))
    with pytest.raises(InputError, match="source must name towers among"):
        replay(model, {"middle": some(k=1)})

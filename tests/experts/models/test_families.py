"""Every mixture-of-experts family of the installed transformers, one property at a time."""

from __future__ import annotations

import dataclasses
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from turnout.experts import Identity, Site, load, record, replay, save, sites, swap
from turnout.nn.dispatch.register import NAME, register
from turnout.nn.gates import (
    CosineScorer,
    Decision,
    Gate,
    LinearScorer,
    Plain,
    Positive,
    Relu,
    Renormalised,
    RouteContext,
    Softmax,
    TopK,
)

sys.path.insert(0, str(Path(__file__).parent))
import families
from families import BORROWED, FAMILIES, LEFT_OUT, answer, inputs, run, shown

torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[3]
#: Families of which some experts are for inputs other than text.
OTHER_INPUTS = {"ernie4_5_vl_moe"}
#: Families whose experts work in another width than the router.
LATENT = {"muse_spark", "nemotron_h"}


def native(name: str) -> Any:
    """The family's model, which every test leaves as it was."""
    return families.shared(name)


def cosine(site: Site) -> Gate:
    """A gate unlike any native one."""
    generator = torch.Generator().manual_seed(site.ordinal)
    scorer = CosineScorer(site.d, site.e, width=8, generator=generator)
    return Gate(scorer, TopK(2), Renormalised(), e=site.e, processors=[Softmax()])


def several(site: Site) -> Gate:
    """A gate that gives some tokens no expert, and some all."""
    generator = torch.Generator().manual_seed(site.ordinal)
    scorer = LinearScorer(site.d, site.e, generator=generator)
    return Gate(scorer, Positive(), Plain(), e=site.e, processors=[Relu()])


def implementations(model: Any) -> list[str]:
    """Experts implementations the model can be set to; one where it has no choice."""
    experts = [site.experts for site in sites(model)]
    if not all(hasattr(one, "_is_expert_parallel") for one in experts):
        return ["eager"]
    register()
    return ["eager", "batched_mm", "grouped_mm", NAME]


def set_implementation(model: Any, name: str) -> None:
    if len(implementations(model)) > 1:
        model.set_experts_implementation(name)


#: Families whose tiny model has a head to generate with.
WRITERS = [name for name, one in FAMILIES.items() if one.model.endswith(("LM", "Generation"))]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_family_is_covered_or_left_out_for_a_reason() -> None:
    """No folder of transformers holds experts and a router that the table does not know."""
    words = re.compile(r"^class \w*(Experts|Router|TopKGating|CDMoE|MoEV1Gate)\b", re.M)
    root = Path(transformers.__file__).parent / "models"
    found = {
        path.parent.name
        for path in root.glob("*/modeling_*.py")
        if words.search(path.read_text(encoding="utf-8"))
    }
    assert found - set(FAMILIES) - set(LEFT_OUT) - {"granite_docling"} == set()
    assert len(FAMILIES) >= 30


def test_the_guide_names_every_family() -> None:
    """The table of the guide is that of the tests."""
    page = (ROOT / "docs" / "experts.md").read_text(encoding="utf-8")
    missing = [name for name in [*FAMILIES, *LEFT_OUT, *BORROWED] if f"`{name}`" not in page]
    assert missing == []


@torch.no_grad()
def test_sites_say_what_the_router_does(family: str) -> None:
    """The e and k found are those of the native decisions, and the layout is read right."""
    model = native(family)
    ids, mask = inputs()
    with record(model) as recorder:
        run(model, ids, mask)
    by_layer = recorder.log.by_layer()
    found = sites(model)
    assert family in OTHER_INPUTS or set(by_layer) == {site.ordinal for site in found}
    for ordinal, decisions in by_layer.items():
        for decision in decisions:
            assert isinstance(decision, Decision)
            decision.check()
            assert (decision.e, decision.k) == (found[ordinal].e, found[ordinal].k)
            assert bool((decision.experts[~mask.bool().reshape(-1)] == decision.e).all())
    assert all(site.d == families.D for site in found)


@torch.no_grad()
def test_identity_changes_nothing(family: str) -> None:
    """Logits are equal, bit for bit, under every experts implementation, and again after."""
    model = native(family)
    ids, mask = inputs()
    keys = list(model.state_dict())
    for name in implementations(model):
        set_implementation(model, name)
        before = answer(run(model, ids, mask))
        with swap(model, Identity()), record(model):
            assert list(model.state_dict()) == keys
            assert torch.equal(answer(run(model, ids, mask)), before), name
        assert torch.equal(answer(run(model, ids, mask)), before), name


def test_a_foreign_gate_is_asked_and_trained(family: str) -> None:
    """Every implementation does what was decided; gradients reach each gate; logits are shown."""
    model = native(family)
    ids, mask = inputs()
    real = mask.bool()
    keys = list(model.state_dict())
    with torch.no_grad():
        before = answer(run(model, ids, mask))
        expected = len(shown(run(model, ids, mask, output_router_logits=True)))
    answers = []
    for name in implementations(model):
        set_implementation(model, name)
        with swap(model, several, init="fresh") as handle, record(model) as recorder:
            output = run(model, ids, mask, output_router_logits=True)
            made = answer(output)
            weights = torch.randn(made.shape, generator=torch.Generator().manual_seed(3))
            (made * weights)[real].sum().backward()
            assert bool(torch.isfinite(made[real]).all())
            assert len(shown(output)) == expected
            asked = recorder.log.by_layer()
            for ordinal, gate in handle.gates.items():
                if ordinal in asked:
                    assert sum(float(p.grad.abs().sum()) for p in gate.parameters()) > 0, ordinal
            for entry in recorder.log:
                assert bool((entry.decision.experts[~real.reshape(-1)] == entry.decision.e).all())
        model.zero_grad(set_to_none=True)
        answers.append(made.detach()[real])
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        set_implementation(model, "grouped_mm")
        restored = answer(run(model, ids, mask))
    torch.testing.assert_close(restored, before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_experts_work_on_what_was_decided(family: str) -> None:
    """Under a foreign gate no expert sees a padded token, and each sees the tokens sent to it."""
    model = native(family)
    ids, mask = inputs()
    seen: dict[int, torch.Tensor] = {}
    with swap(model, several, init="fresh") as handle, record(model) as recorder:
        hooks = []
        for site in handle.sites:
            if not hasattr(site.experts, "_is_expert_parallel"):
                continue

            def look(module: nn.Module, args: Any, ordinal: int = site.ordinal) -> None:
                seen[ordinal] = torch.where(args[2] != 0, args[1], -1)

            assert site.experts is not None
            hooks.append(site.experts.register_forward_pre_hook(look))
        run(model, ids, mask)
        for hook in hooks:
            hook.remove()
    for ordinal, decisions in recorder.log.by_layer().items():
        if ordinal in seen:
            decision = decisions[-1]
            assert isinstance(decision, Decision)
            load = torch.bincount(seen[ordinal][seen[ordinal] >= 0], minlength=decision.e)
            assert load.tolist() == decision.load().tolist()
            assert bool((seen[ordinal][~mask.bool().reshape(-1)] == -1).all())


@torch.no_grad()
@pytest.mark.parametrize("family", WRITERS)
def test_generation_is_the_same_and_recorded_whole(family: str) -> None:
    """Prefill and decoding steps become one request a sequence, with their token ids."""
    model = native(family)
    ids, mask = inputs()
    options = {"attention_mask": mask, "max_new_tokens": 3, "do_sample": False}
    if not model.config.is_encoder_decoder:
        options["min_new_tokens"] = 3
    before = model.generate(ids, **options)
    with record(model) as recorder:
        assert torch.equal(model.generate(ids, **options), before)
    trace = recorder.trace(recorder.towers[-1])
    requests = trace.requests
    assert requests is not None
    assert trace.tokens is not None
    assert len(requests) == 3
    for row, (start, end) in enumerate(pairwise(requests)):
        told = trace.tokens[start:end]
        real = told >= 0
        assert told[real].tolist() == before[row, : len(told)].numpy()[real].tolist()


def test_replay_gives_equal_logits_and_live_gradients(family: str) -> None:
    """What was recorded is forced; the weights are the model's own, and so are the gradients."""
    model = native(family)
    ids, mask = inputs()
    real = mask.bool()
    with record(model) as recorder:
        before = answer(run(model, ids, mask))
    traces = {tower: recorder.trace(tower) for tower in recorder.towers}
    weights = torch.randn(before.shape, generator=torch.Generator().manual_seed(3))
    (before * weights)[real].sum().backward()
    expected = {site.ordinal: _gradient(site.router) for site in sites(model)}
    model.zero_grad(set_to_none=True)
    with replay(model, traces):
        again = answer(run(model, ids, mask))
        (again * weights)[real].sum().backward()
    assert torch.equal(again, before)
    found = {site.ordinal: _gradient(site.router) for site in sites(model)}
    model.zero_grad(set_to_none=True)
    assert found == pytest.approx(expected, rel=1e-4)
    assert family in OTHER_INPUTS or all(value > 0 for value in found.values())
    moved = {
        tower: dataclasses.replace(
            trace, experts=np.where(trace.experts >= 0, (trace.experts + 1) % trace.e, -1)
        )
        for tower, trace in traces.items()
    }
    with torch.no_grad(), replay(model, moved), record(model) as recorder:
        run(model, ids, mask)
    for tower, trace in moved.items():
        forced = np.sort(recorder.trace(tower).experts)
        assert np.array_equal(forced, np.sort(trace.experts))


@torch.no_grad()
def test_gates_are_saved_beside_the_checkpoint(family: str, tmp_path: Path) -> None:
    """The checkpoint stays a stock one; with the side files the logits are those before."""
    model = native(family)
    ids, mask = inputs()
    with swap(model, cosine):
        before = answer(run(model, ids, mask))
        model.save_pretrained(tmp_path)
        save(model, tmp_path)
    fresh = type(model).from_pretrained(tmp_path).eval()
    assert set(fresh.state_dict()) == set(model.state_dict())
    handle = load(fresh, tmp_path, gate=cosine)
    assert len(handle.gates) == len(sites(model))
    made = answer(run(fresh, ids, mask))
    torch.testing.assert_close(made, before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_no_token_at_all(family: str) -> None:
    """A router under a gate answers for T = 0, and for tokens that are all masked."""
    model = native(family)
    ids, mask = inputs()
    with swap(model, several, init="fresh") as handle, record(model) as recorder:
        empty = torch.zeros(0, families.D)
        for site in handle.sites:
            assert handle.gates[site.ordinal](empty, RouteContext()).t == 0
            if site.layout == "triple" and family not in LATENT:
                _, weights, experts = site.router(empty)
                assert site.experts is not None
                assert tuple(site.experts(empty, experts, weights).shape) == (0, families.D)
        run(model, ids, torch.zeros_like(mask))
    assert all(int(entry.decision.load().sum()) == 0 for entry in recorder.log)


def _gradient(router: nn.Module) -> float:
    """Sum of the sizes of a router's gradients."""
    return sum(float(p.grad.abs().sum()) for p in router.parameters() if p.grad is not None)

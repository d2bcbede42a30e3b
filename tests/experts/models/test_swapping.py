"""Swapping: what is asked for is done, what cannot work is refused by name, all of it is undone."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from turnout.core import InputError
from turnout.experts import Handle, Identity, Site, context, record, sites, swap
from turnout.nn.gates import (
    Bias,
    CosineScorer,
    Decision,
    ExpertChoice,
    Gate,
    LinearScorer,
    Plain,
    Renormalised,
    RouteContext,
    Sigmoid,
    Slots,
    Softmax,
    TopK,
)

sys.path.insert(0, str(Path(__file__).parent))
import families
from families import answer, inputs, run, tiny

torch.set_num_threads(1)


@dataclass(frozen=True)
class Recipe:
    """A softmax top-k gate."""

    k: int = 2

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(self.k), Renormalised(), e=e, processors=[Softmax()])


class Spy(nn.Module):
    """A gate that keeps the contexts it is given."""

    causal_safe = True
    batch_coupled = False

    def __init__(self, e: int, needs: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.e = e
        self.needs = needs
        self.seen: list[RouteContext] = []
        self.attended: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, context: RouteContext) -> Decision:
        self.seen.append(context)
        if context.attention is not None:
            self.attended.append(context.attention())
        experts = torch.zeros(len(x), 1, dtype=torch.int64)
        state = {"depth": context.state.get("depth", torch.zeros(())) + 1}
        return Decision(experts=experts, weights=torch.ones(len(x), 1), e=self.e, state=state)


class Soft(Spy):
    """A gate whose decision is soft."""

    def forward(self, x: torch.Tensor, context: RouteContext) -> Any:
        half = torch.full((1, len(x), self.e, 1), 0.5)
        return Slots(dispatch=half, combine=half, logits=half)


@pytest.fixture
def mixtral() -> Any:
    return tiny("mixtral")


def spies(handle: Handle) -> list[Any]:
    return list(handle.gates.values())


def test_sites_are_found_with_all_that_is_known() -> None:
    """Ordinal, layer, path, tower, family, layout, sizes, bias and shared experts."""
    first, second = sites(tiny("deepseek_v3"))
    assert (first.ordinal, second.ordinal) == (0, 1)
    assert (second.layer, second.path, second.tower) == (1, "model.layers.1.mlp", "model")
    assert (second.family, second.layout) == ("deepseek_v3", "triple")
    assert (second.d, second.e, second.k) == (32, 4, 2)
    assert second.bias is not None
    assert second.shared
    assert second.causal


def test_both_halves_of_a_translation_model_are_found() -> None:
    """The encoder sees all tokens, the decoder those before."""
    found = sites(tiny("switch_transformers"))
    assert {(site.tower, site.causal) for site in found} == {("encoder", False), ("decoder", True)}


def test_a_model_without_experts_is_refused() -> None:
    """The message says what was looked for and what was seen."""
    with pytest.raises(InputError, match=r"hold blocks with `experts` and a router.*Linear"):
        sites(nn.Sequential(nn.Linear(2, 2)))


def test_an_unknown_family_is_refused() -> None:
    """A block that has the parts but not their sizes is named, with what was looked for."""
    block = nn.Module()
    block.experts, block.gate = nn.Linear(2, 2), nn.Module()
    model = nn.Sequential(block)
    with pytest.raises(InputError, match=r"block '0' of Module must say its experts \(total_exp"):
        sites(model)


def test_a_router_that_answers_otherwise_is_refused() -> None:
    """An unknown answer is named, with its shapes."""
    block = nn.Module()
    block.experts = nn.Linear(2, 2)
    block.gate = nn.Linear(2, 4, bias=False)
    block.gate.top_k = 2
    model = nn.Sequential(block)
    with record(model), pytest.raises(InputError, match=r"router Linear must answer \(logits"):
        block.gate(torch.zeros(3, 2))


def test_the_native_rows_make_the_native_gate(mixtral: Any) -> None:
    """A softmax top-k gate from the native rows gives Mixtral's own logits."""
    ids, _ = inputs()
    before = answer(run(mixtral, ids))
    with swap(mixtral, Recipe()) as handle:
        assert handle.copied == (0, 1)
        torch.testing.assert_close(answer(run(mixtral, ids)), before)


def test_the_native_bias_is_copied_too() -> None:
    """A sigmoid gate with a balance bias makes DeepSeek-V3's choice."""
    model = tiny("deepseek_v3")
    for site in sites(model):
        assert site.bias is not None
        site.bias.copy_(torch.tensor([0.4, -0.3, 0.2, 0.0]))
    ids, _ = inputs()
    before = answer(run(model, ids))
    scale = model.config.routed_scaling_factor

    def gate(site: Site) -> Gate:
        parts = [Sigmoid(), Bias(site.e)]
        scorer = LinearScorer(site.d, site.e)
        return Gate(scorer, TopK(site.k), Renormalised(scale), e=site.e, processors=parts)

    with swap(model, gate):
        torch.testing.assert_close(answer(run(model, ids)), before)


def test_a_router_that_is_no_linear_map_is_not_copied() -> None:
    """Gemma 4 scores a normed and scaled state: its rows mean something else."""
    with swap(tiny("gemma4"), Recipe()) as handle:
        assert handle.copied == ()


def test_layers_and_mappings_choose_where(mixtral: Any) -> None:
    """Only the layers asked for get a gate, each its own."""
    with swap(mixtral, Recipe(), layers=[1]) as handle:
        assert list(handle.gates) == [1]
    with swap(mixtral, {0: Recipe(1), 1: lambda site: Spy(site.e)}) as handle:
        assert [type(gate) for gate in handle.gates.values()] == [Gate, Spy]
        with record(mixtral) as recorder:
            run(mixtral, inputs()[0])
    assert [decisions[0].k for decisions in recorder.log.by_layer().values()] == [1, 1]


def test_the_same_generator_draws_the_same_gates(mixtral: Any) -> None:
    """First weights come from the generator given, and from seed 0 without one."""
    weights = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        with swap(mixtral, Recipe(), init="fresh", generator=generator) as handle:
            weights.append(handle.gates[0].scorer.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("gate", "options", "message"),
    [
        (Recipe(), {"layers": [2]}, "layers must be among the ordinals 0 to 1"),
        (Recipe(), {"layers": [0, 0]}, "layers must be among the ordinals"),
        ({0: Recipe()}, {"layers": [0]}, "not be given beside a mapping"),
        (Recipe(), {"init": "warm"}, "init must be 'native' or 'fresh'"),
        (Recipe, {}, "gate must be a recipe or a function"),
        (Spy(4), {}, "gate must be a recipe, a function of the site"),
        (lambda site: None, {}, "gate must be a torch.nn.Module"),
        (lambda site: nn.Linear(2, 2), {}, "gate of layer 0 must say `e`"),
        (lambda site: Spy(5), {}, "gate of layer 0 must know the 4 experts"),
        (lambda site: Spy(4, frozenset({"attention"})), {}, "attn_implementation must be 'eager'"),
        (
            lambda site: Gate(LinearScorer(32, 4), ExpertChoice(2.0), Plain(), e=4),
            {},
            "must be causal-safe",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    mixtral: Any, gate: Any, options: dict[str, Any], message: str
) -> None:
    """Before anything is changed."""
    with pytest.raises(InputError, match=message):
        swap(mixtral, gate, **options)
    assert all(type(site.router).__name__ == "MixtralTopKRouter" for site in sites(mixtral))


def test_a_second_gate_in_one_place_is_refused(mixtral: Any) -> None:
    """The handle before has to be restored first."""
    with swap(mixtral, Recipe()), pytest.raises(InputError, match="layer 0 must have no gate yet"):
        swap(mixtral, Recipe())


def test_looking_ahead_can_be_allowed(mixtral: Any) -> None:
    """In words."""
    ids, mask = inputs()

    def gate(site: Site) -> Gate:
        return Gate(LinearScorer(32, 4), ExpertChoice(2.0), Plain(), e=4, processors=[Softmax()])

    with swap(mixtral, gate, look_ahead=True):
        assert bool(torch.isfinite(answer(run(mixtral, ids, mask))[mask.bool()]).all())


def test_more_choices_than_experts_are_refused(mixtral: Any) -> None:
    """The message names both."""
    with swap(mixtral, Recipe(k=5)), pytest.raises(InputError, match=r"k must lie in \[1, 4\]"):
        run(mixtral, inputs()[0])


def test_logits_that_are_not_numbers_are_refused(mixtral: Any) -> None:
    """A gate never routes by NaN."""
    with swap(mixtral, Recipe()) as handle:
        with torch.no_grad():
            handle.gates[0].scorer.weight.fill_(float("nan"))
        with pytest.raises(InputError, match="must be finite"):
            run(mixtral, inputs()[0])


def test_soft_decisions_are_refused(mixtral: Any) -> None:
    """The experts of transformers work on whole tokens."""
    with (
        swap(mixtral, lambda site: Soft(site.e)),
        pytest.raises(InputError, match="answer a Decision"),
    ):
        run(mixtral, inputs()[0])


def test_half_precision_works(mixtral: Any) -> None:
    """The gate scores in float32, the weights fit the experts."""
    model = mixtral.half()
    with swap(model, Recipe()):
        made = answer(run(model, inputs()[0]))
    assert made.dtype == torch.float16
    assert bool(torch.isfinite(made).all())


def test_weights_have_the_native_precision() -> None:
    """float32 where the native router weighs in float32, the hidden states' where it does not."""
    for name, wanted in (("mixtral", torch.float32), ("qwen3_moe", torch.bfloat16)):
        model = tiny(name).bfloat16()
        with swap(model, Recipe()) as handle:
            _, weights, _ = handle.sites[0].router(torch.zeros(3, 32, dtype=torch.bfloat16))
        assert weights.dtype == wanted


def test_gates_are_trained_moved_and_forgotten(mixtral: Any) -> None:
    """They are parameters of the model while they are in it, and gone afterwards."""
    before = {name for name, _ in mixtral.named_parameters()}
    ignored = set(mixtral._keys_to_ignore_on_save)
    with swap(mixtral, Recipe()):
        added = {name for name, _ in mixtral.named_parameters()} - before
        assert len(added) == 2
        assert all(name.endswith("gate.turnout_gate.scorer.weight") for name in added)
        mixtral.train()
        assert all(gate.training for gate in Handle(mixtral).gates.values())
        mixtral.double()
        assert mixtral.get_parameter(min(added)).dtype == torch.float64
    assert {name for name, _ in mixtral.named_parameters()} == before
    assert set(mixtral._keys_to_ignore_on_save) == ignored


def test_transformers_own_balance_loss_is_silenced(mixtral: Any) -> None:
    """It would describe another gate: its coefficient is 0 until the routers are back."""
    ids, _ = inputs()
    with swap(mixtral, Recipe()) as handle:
        output = mixtral(ids, labels=ids, output_router_logits=True)
        assert output.aux_loss is not None
        plain = mixtral(ids, labels=ids)
        assert float(output.loss.detach()) == pytest.approx(float(plain.loss.detach()))
        handle.restore()
        handle.restore()
    assert mixtral.router_aux_loss_coef == mixtral.config.router_aux_loss_coef
    assert "_turnout_router_aux_loss_coef" not in vars(mixtral)


def test_a_gate_is_told_what_is_read(mixtral: Any) -> None:
    """Mask, ids, positions and shape in the prefill; the last position in a decoding step."""
    ids, mask = inputs()
    with swap(mixtral, lambda site: Spy(site.e)) as handle:
        mixtral.generate(ids, attention_mask=mask, max_new_tokens=2, min_new_tokens=2)
        first, second = spies(handle)[1].seen
    assert first.causal
    assert first.layer == 1
    assert first.shape == (2, 6)
    assert first.mask is not None
    assert first.mask.reshape(2, 6).tolist() == mask.bool().tolist()
    assert torch.equal(first.tokens, ids.reshape(-1))
    assert first.positions is not None
    assert first.positions.reshape(2, 6)[:, 2:].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert float(first.state["depth"]) == 1.0
    assert second.shape == (2, 1)
    assert second.positions is not None
    assert second.positions.tolist() == [4, 6]
    assert second.mask is not None
    assert second.mask.tolist() == [True, True]


def test_packed_documents_are_told_apart(mixtral: Any) -> None:
    """Positions that start anew start a new segment."""
    ids, _ = inputs()
    places = torch.tensor([[0, 1, 2, 0, 1, 2]])
    with swap(mixtral, lambda site: Spy(site.e)) as handle, record(mixtral) as recorder:
        mixtral(ids[:1], position_ids=places)
        seen = spies(handle)[0].seen[0]
    assert seen.segments.tolist() == [0, 0, 0, 1, 1, 1]
    assert recorder.trace().requests.tolist() == [0, 3, 6]


def test_a_four_dimensional_mask_is_read_too(mixtral: Any) -> None:
    """A token that may not attend to itself is padding."""
    ids, mask = inputs()
    causal = torch.ones(6, 6, dtype=torch.bool).tril() & mask.bool()[:, None, None, :]
    with swap(mixtral, lambda site: Spy(site.e)) as handle:
        mixtral(ids, attention_mask=causal)
        assert spies(handle)[0].seen[0].mask.reshape(2, 6).tolist() == mask.bool().tolist()


def test_tags_and_more_are_handed_down(mixtral: Any) -> None:
    """One number a sequence, a token, or for all; the inner context wins."""
    ids, _ = inputs()
    generator = torch.Generator()
    with swap(mixtral, lambda site: Spy(site.e)) as handle:
        with (
            context(generator=generator, step=7, budget=1.0, domain=torch.tensor([1, 2])),
            handle.tags(language=3, token=ids),
        ):
            mixtral(ids)
        mixtral(ids)
        inside, outside = spies(handle)[0].seen
    assert inside.tags["domain"].tolist() == [1] * 6 + [2] * 6
    assert inside.tags["language"].tolist() == [3] * 12
    assert torch.equal(inside.tags["token"], ids.reshape(-1))
    assert (inside.step, inside.budget) == (7, 1.0)
    assert inside.generator is generator
    assert outside.tags == {}
    with (
        swap(mixtral, Recipe()),
        context(domain=torch.zeros(5)),
        pytest.raises(InputError, match=r"tags\['domain'\] must have shape \(2,\)"),
    ):
        mixtral(ids)


def test_attention_is_handed_to_gates_that_ask() -> None:
    """The weights of the same layer, under the eager kernel."""
    model = tiny("mixtral")
    model.set_attn_implementation("eager")
    needs = frozenset({"attention"})
    with swap(model, lambda site: Spy(site.e, needs)) as handle:
        model(inputs()[0])
        weights = spies(handle)[0].attended[0]
    assert tuple(weights.shape) == (2, 4, 6, 6)
    assert all(not site.attention._forward_hooks for site in sites(model))


def test_threads_do_not_see_each_other(mixtral: Any) -> None:
    """Two forwards of one model at once each keep their own mask."""
    ids, mask = inputs()
    meet = threading.Barrier(2, timeout=60)
    seen: dict[int, list[int]] = {1: [], 2: []}

    class Meeting(Spy):
        def forward(self, x: torch.Tensor, context: RouteContext) -> Decision:
            meet.wait()
            assert context.mask is not None
            seen[int(context.tags["who"][0])].append(int(context.mask.sum()))
            return super().forward(x, context)

    def work(who: int, mask: torch.Tensor) -> None:
        with context(who=who):
            mixtral(ids, attention_mask=mask)

    with swap(mixtral, lambda site: Meeting(site.e)):
        threads = [
            threading.Thread(target=work, args=(1, mask)),
            threading.Thread(target=work, args=(2, torch.ones_like(mask))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {1: [10, 10], 2: [12, 12]}


def test_a_failed_forward_leaves_nothing_behind(mixtral: Any) -> None:
    """The next one starts afresh."""
    ids, _ = inputs()
    with swap(mixtral, Recipe(k=5)) as handle:
        with pytest.raises(InputError):
            mixtral(ids)
        handle.gates[0].selector.k = handle.gates[1].selector.k = 2
        with record(mixtral) as recorder:
            mixtral(ids)
    assert len(recorder.log) == 2


@pytest.mark.parametrize("name", ["mixtral", "dbrx", "switch_transformers"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_stand_alone(name: str, how: Any) -> None:
    """A copy of a swapped model answers alike, and is restored apart from the first."""
    model = tiny(name)
    ids, mask = inputs()
    plain = answer(run(model, ids, mask))
    handle = swap(model, Recipe(k=1), init="fresh")
    before = answer(run(model, ids, mask))
    other = how(model)
    assert torch.equal(answer(run(other, ids, mask)), before)
    Handle(other).restore()
    assert torch.equal(answer(run(other, ids, mask)), plain)
    assert torch.equal(answer(run(model, ids, mask)), before)
    handle.restore()
    assert torch.equal(answer(run(model, ids, mask)), plain)


def test_two_models_of_one_configuration_do_not_meet() -> None:
    """Swapping one leaves the other's routers and recordings alone."""
    one, two = tiny("mixtral"), tiny("mixtral")
    two.config = one.config
    ids, _ = inputs()
    before = answer(run(two, ids))
    with swap(one, Recipe(), init="fresh"), record(one) as recorder:
        assert torch.equal(answer(run(two, ids)), before)
        assert len(recorder.log) == 0


def test_swaps_and_recorders_end_in_any_order(mixtral: Any) -> None:
    """The last one out gives the classes back."""
    ids, _ = inputs()
    before = answer(run(mixtral, ids))
    recorder = record(mixtral)
    recorder.__enter__()
    handle = swap(mixtral, Recipe(), init="fresh")
    recorder.__exit__(None, None, None)
    assert not torch.equal(answer(run(mixtral, ids)), before)
    handle.restore()
    assert torch.equal(answer(run(mixtral, ids)), before)
    assert all(not module._forward_hooks for module in mixtral.modules())
    assert all(not module._forward_pre_hooks for module in mixtral.modules())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["mixtral", "switch_transformers"])
@pytest.mark.filterwarnings("ignore")
def test_checkpointing_changes_no_gradient(name: str, reentrant: bool) -> None:
    """Two forwards before one backward: each second run knows its own mask, and is not recorded."""
    model = tiny(name).train()
    ids, mask = inputs()
    other = torch.ones_like(mask)
    other[:, 3:] = 0

    def scorer(site: Site) -> Gate:
        draw = torch.Generator().manual_seed(site.ordinal)
        part = CosineScorer(site.d, site.e, width=8, generator=draw)
        return Gate(part, TopK(2), Renormalised(), e=site.e, processors=[Softmax()])

    def gradients() -> tuple[dict[str, torch.Tensor], int]:
        model.zero_grad()
        with record(model) as recorder:
            total = answer(run(model, ids, mask))[mask.bool()].square().sum()
            total = total + answer(run(model, ids, other))[other.bool()].square().sum()
            total.backward()
            count = sum(recorder.trace(tower).t for tower in recorder.towers)
        kept = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return kept, count

    model.config.use_cache = False
    with swap(model, scorer):
        plain, once = gradients()
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        again, twice = gradients()
        model.activation_checkpointing_disable()
    assert once == twice
    assert set(plain) == set(again)
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_answers_alike(mixtral: Any) -> None:
    """Graphs may break at the routers; the logits do not."""
    ids, mask = inputs()
    with torch.no_grad(), swap(mixtral, Recipe(), init="fresh"):
        before = answer(run(mixtral, ids, mask))
        compiled = torch.compile(mixtral.model, backend="eager")
        hidden = compiled(ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(mixtral.lm_head(hidden), before)
    torch.compiler.reset()


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3"])
@pytest.mark.filterwarnings("ignore")
def test_adapters_work_on_a_swapped_model(name: str) -> None:
    """LoRA on attention, experts and router, over a swap and under one."""
    peft = pytest.importorskip("peft")
    model = tiny(name)
    ids, mask = inputs()
    attention = "q_proj" if name == "mixtral" else "q_b_proj"
    config = peft.LoraConfig(
        r=2,
        target_modules=[attention],
        target_parameters=["mlp.experts.down_proj", "mlp.gate.weight"],
    )
    before = answer(run(model, ids, mask))
    with swap(model, Identity()), record(model) as recorder:
        adapted = peft.get_peft_model(model, config)
        made = answer(adapted(ids, attention_mask=mask))
        torch.testing.assert_close(made, before)
        made[mask.bool()].square().sum().backward()
        grown = {n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is not None}
    assert any("gate" in name for name in grown)
    assert any("experts" in name for name in grown)
    assert len(recorder.log) == 2
    assert len(sites(adapted)) == 2
    with swap(adapted, Recipe(), init="fresh") as handle:
        answer(adapted(ids, attention_mask=mask))[mask.bool()].square().sum().backward()
        for gate in handle.gates.values():
            assert float(gate.scorer.weight.grad.abs().sum()) > 0
    torch.testing.assert_close(answer(adapted(ids, attention_mask=mask)), before)


def test_the_package_asks_for_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers the install line is given."""
    import importlib.util

    import turnout.experts
    from turnout.core import MissingExtraError

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"turnout\[experts\]"):
        turnout.experts.__getattr__("swap")
    with pytest.raises(AttributeError, match="no attribute 'swop'"):
        turnout.experts.__getattr__("swop")
    assert set(turnout.experts.__all__) <= set(dir(turnout.experts))
    assert families.EXPERTS == 4

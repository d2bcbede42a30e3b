"""Experts added, removed and merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from turnout.core import InputError, Trace

transformers = pytest.importorskip("transformers")

from turnout.experts.models.sites import sites  # noqa: E402
from turnout.experts.surgery import (  # noqa: E402
    add_experts,
    least_loaded,
    merge_experts,
    remove_experts,
)

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
}
DEEPSEEK = {
    "n_routed_experts": 6,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 4,
    "n_shared_experts": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 6},
    "qwen2_moe": {"num_experts": 6, "norm_topk_prob": True},
    "qwen3_moe": {"num_experts": 6, "norm_topk_prob": True},
    "olmoe": {"num_experts": 6, "norm_topk_prob": False},
    "deepseek_v3": DEEPSEEK,
    "gpt_oss": {"num_local_experts": 6},
    "phimoe": {"num_local_experts": 6},
    "ernie4_5_moe": {"moe_num_experts": 6, "moe_k": 2},
    "llama4_text": {"num_local_experts": 6, "intermediate_size_mlp": 12},
}
RESIZED = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss")
#: Families whose weights are brought back to a sum, or made from the chosen alone.
SUMMED = ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3", "gpt_oss")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _model(family: str, seed: int = 1, **more: Any) -> Any:
    """A small model, its weights large enough for every layer to matter."""
    fields = {**SMALL, **FAMILIES[family], **more}
    config = transformers.AutoConfig.for_model(family, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = _generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for site in sites(model):
            if site.bias is not None:
                site.bias.copy_(torch.randn(site.e, generator=generator) * 0.1)
    return model


def _ids() -> torch.Tensor:
    return torch.randint(0, 50, (3, 11), generator=_generator(2))


def _logits(model: Any, ids: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=_ids() if ids is None else ids).logits
    return logits


def _used(model: Any, ids: torch.Tensor) -> list[set[int]]:
    """Experts each layer chooses on some tokens."""
    found: list[set[int]] = []
    hooks = [
        site.router.register_forward_hook(
            lambda _m, _i, out: found.append(set(out[2].reshape(-1).tolist()))
        )
        for site in sites(model)
    ]
    _logits(model, ids)
    for hook in hooks:
        hook.remove()
    return found


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", RESIZED)
def test_every_expert_twice_and_twice_the_choices(family: str, tmp_path: Any) -> None:
    """Copies share the weight of their original: logits stay, also after saving and loading."""
    model = _model(family)
    before = _logits(model)
    assert float(before.std()) > 0.1
    assert add_experts(model, range(6), k=4) is model
    assert {(site.e, site.k) for site in sites(model)} == {(12, 4)}
    assert _same(before, _logits(model))
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert _same(before, _logits(again))
    assert {(site.e, site.k) for site in sites(again)} == {(12, 4)}


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_one_copy_where_one_is_chosen(family: str) -> None:
    """With k = 1 and weights of one, either copy does what the original did."""
    model = _model(family, num_experts_per_tok=1)
    before = _logits(model)
    add_experts(model, {0: [3], 1: [5]})
    assert {site.e for site in sites(model)} == {7}
    assert _same(before, _logits(model))


def test_a_copy_alone_is_no_identity_where_two_are_chosen() -> None:
    """The case the documentation warns of."""
    model = _model("mixtral")
    before = _logits(model)
    add_experts(model, range(6))
    assert not _same(before, _logits(model))


@pytest.mark.parametrize("family", SUMMED)
def test_an_expert_never_chosen_is_not_missed(family: str, tmp_path: Any) -> None:
    """Two tokens of two choices leave two of six idle in each layer: without them, the same."""
    model = _model(family)
    ids = _ids()[:1, :2]
    idle = [sorted(set(range(6)) - layer)[:2] for layer in _used(model, ids)]
    before = _logits(model, ids)
    remove_experts(model, dict(enumerate(idle)))
    assert {site.e for site in sites(model)} == {4}
    assert _same(before, _logits(model, ids))
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert _same(before, _logits(again, ids))


def test_an_expert_that_is_used_is_missed() -> None:
    """Removing what the text needs changes the logits."""
    model = _model("mixtral")
    before = _logits(model)
    remove_experts(model, {n: [min(used)] for n, used in enumerate(_used(model, _ids()))})
    assert not _same(before, _logits(model))


def test_the_right_rows_stay() -> None:
    """By hand: without 1 and 4, expert 0, 2, 3, 5 move up with their router rows."""
    model = _model("deepseek_v3")
    site = sites(model)[0]
    kept = [0, 2, 3, 5]
    wanted = [
        site.router.weight[kept].clone(),
        site.experts.gate_up_proj[kept].clone(),  # type: ignore[union-attr]
        site.bias[kept].clone(),  # type: ignore[index]
    ]
    remove_experts(model, [1, 4], k=1)
    site = sites(model)[0]
    found = [site.router.weight, site.experts.gate_up_proj, site.bias]  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))  # type: ignore[arg-type]
    assert (site.e, site.k) == (4, 1)
    assert model.config.n_routed_experts == 4
    assert model.config.num_experts_per_tok == 1


def _shuffle_neurons(model: Any, experts: Sequence[int], seed: int = 5) -> None:
    """Put the inner neurons of some experts into a random order: the function stays."""
    generator = _generator(seed)
    with torch.no_grad():
        for site in sites(model):
            bank: Any = site.experts
            f = bank.down_proj.shape[2]
            for j in experts:
                order = torch.randperm(f, generator=generator)
                bank.gate_up_proj[j] = bank.gate_up_proj[j][torch.cat([order, order + f])]
                bank.down_proj[j] = bank.down_proj[j][:, order]


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3"])
def test_copies_merge_back(family: str, tmp_path: Any) -> None:
    """Twice every expert, their neurons in other orders, unequal loads: the old model again."""
    model = _model(family)
    before = _logits(model)
    add_experts(model, range(6), k=4)
    _shuffle_neurons(model, range(6, 12))
    assert _same(before, _logits(model))
    layers = len(sites(model))
    load = np.random.default_rng(0).random((layers, 12))
    merge_experts(model, [[j, j + 6] for j in range(6)], load=load, k=2)
    assert {(site.e, site.k) for site in sites(model)} == {(6, 2)}
    assert _same(before, _logits(model))
    model.save_pretrained(tmp_path)
    assert _same(before, _logits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path)))


def test_alignment_is_what_brings_them_together() -> None:
    """The mean of neurons in different orders is another function."""
    model = _model("mixtral")
    before = _logits(model)
    add_experts(model, range(6), k=4)
    _shuffle_neurons(model, range(6, 12))
    merge_experts(model, [[j, j + 6] for j in range(6)], k=2, align=False)
    assert not _same(before, _logits(model))


def test_unaligned_merging_serves_every_stacked_layout() -> None:
    """gpt-oss keeps its matrices turned and its halves mixed; copies still merge back."""
    model = _model("gpt_oss")
    before = _logits(model)
    add_experts(model, range(6), k=4)
    with pytest.raises(InputError, match="align=False"):
        merge_experts(model, [[j, j + 6] for j in range(6)], k=2)
    merge_experts(model, [[j, j + 6] for j in range(6)], k=2, align=False)
    assert _same(before, _logits(model))


def test_merging_by_hand() -> None:
    """Loads 3 and 1 weigh 3/4 and 1/4, router rows too; who is in no group stays."""
    model = _model("mixtral")
    site = sites(model)[0]
    rows, down = site.router.weight.clone(), site.experts.down_proj.clone()  # type: ignore[union-attr]
    load = np.zeros((2, 6))
    load[:, 1], load[:, 4] = 3.0, 1.0
    merge_experts(model, [[4, 1], [5, 2]], load=load, align=False)
    site = sites(model)[0]
    wanted = torch.stack(
        [rows[0], 0.75 * rows[1] + 0.25 * rows[4], 0.5 * (rows[2] + rows[5]), rows[3]]
    )
    assert torch.allclose(site.router.weight, wanted)
    merged = site.experts.down_proj  # type: ignore[union-attr]
    assert torch.allclose(merged[1], 0.75 * down[1] + 0.25 * down[4])
    assert torch.equal(merged[3], down[3])


def test_noise_is_on_the_copies_alone() -> None:
    """The originals stay, the copies move by what was asked, and the generator decides."""
    models = [_model("qwen3_moe") for _ in range(2)]
    old = sites(models[0])[0].experts.down_proj.clone()  # type: ignore[union-attr]
    for model in models:
        add_experts(model, [0, 1], noise=0.1, generator=_generator())
    new, again = (sites(model)[0].experts.down_proj for model in models)  # type: ignore[union-attr]
    assert torch.equal(new[:6], old)
    assert ((new[6:] - old[:2]).std() / old[:2].std()).item() == pytest.approx(0.1, rel=0.2)
    assert torch.equal(new, again)


def test_the_least_loaded_of_a_trace() -> None:
    """Counts by hand; ties go to the lower number."""
    experts = np.array([[[0, 1], [3, 2]], [[0, 2], [3, 2]], [[1, 0], [3, 0]]])
    trace = Trace(experts=experts, e=4)
    assert least_loaded(trace, 2) == {0: (2, 3), 1: (0, 1)}
    assert least_loaded(trace, 0) == {0: (), 1: ()}
    with pytest.raises(InputError, match="n must"):
        least_loaded(trace, 5)


def test_other_models_of_the_same_configuration_are_left_alone() -> None:
    """The numbers are written into a copy of the configuration."""
    config = transformers.AutoConfig.for_model("mixtral", **SMALL, **FAMILIES["mixtral"])
    first, second = (transformers.AutoModelForCausalLM.from_config(config) for _ in range(2))
    remove_experts(first, [0])
    assert first.config.num_local_experts == first.num_experts == 5
    assert second.config.num_local_experts == config.num_local_experts == 6
    assert first.model.config is first.config


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_trains_after_surgery(family: str) -> None:
    """Router and experts have gradients of their new shapes; the balance loss has its number."""
    model = _model(family)
    add_experts(model, [0, 3], noise=0.1, generator=_generator())
    out = model(input_ids=_ids(), labels=_ids())
    out.loss.backward()
    site = sites(model)[0]
    assert site.router.weight.grad.shape == (8, 16)  # type: ignore[union-attr]
    assert site.experts.gate_up_proj.grad.shape[0] == 8  # type: ignore[union-attr]
    if family == "mixtral":
        assert torch.isfinite(model(input_ids=_ids(), output_router_logits=True).aux_loss)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda m: add_experts(m, [6]), "of"),
        (lambda m: add_experts(m, [1, 1]), "of"),
        (lambda m: add_experts(m, {0: [1]}), "of"),
        (lambda m: add_experts(m, {0: [1], 1: [1, 2]}), "of"),
        (lambda m: add_experts(m, [0], k=8), "k"),
        (lambda m: add_experts(m, [0], noise=0.1), "generator"),
        (lambda m: add_experts(m, [0], noise=-0.1), "noise"),
        (lambda m: remove_experts(m, range(5)), "experts"),
        (lambda m: remove_experts(m, [-1]), "which"),
        (lambda m: merge_experts(m, [[0, 1], [1, 2]]), "groups"),
        (lambda m: merge_experts(m, [[0, 0]]), "groups"),
        (lambda m: merge_experts(m, [[]]), "groups"),
        (lambda m: merge_experts(m, {0: [[0, 1]], 1: [[0, 1, 2]]}), "groups"),
        (lambda m: merge_experts(m, [[0, 1]], load=np.ones((2, 5))), "load"),
        (lambda m: merge_experts(m, [[0, 1]], load=-np.ones((2, 6))), "load[0, 0]"),
        (lambda m: merge_experts(m, [range(6)]), "experts"),
    ],
)
def test_refusals(call: Any, field: str) -> None:
    """What is wrong is refused by name, and the model is as it was."""
    model = _model("mixtral")
    before = _logits(model)
    with pytest.raises(InputError) as caught:
        call(model)
    assert caught.value.field == field
    assert torch.equal(before, _logits(model))


@pytest.mark.parametrize(
    ("family", "more", "said"),
    [
        ("deepseek_v3", {"n_group": 2}, "groups"),
        ("llama4_text", {}, "llama4"),
        ("ernie4_5_moe", {}, "ernie4_5_moe"),
    ],
)
def test_families_that_cannot_be_changed(family: str, more: dict[str, Any], said: str) -> None:
    """Groups of experts, and layouts of another kind, are refused in words."""
    model = _model(family, **more)
    with pytest.raises(InputError, match=said):
        remove_experts(model, [0])


def test_a_router_of_two_choices_keeps_them() -> None:
    """PhiMoE's procedure is for two: its number of experts may change, that of choices not."""
    model = _model("phimoe")
    with pytest.raises(InputError, match="k must stay 2"):
        add_experts(model, range(6), k=4)
    remove_experts(model, [0, 1])
    assert {(site.e, site.k) for site in sites(model)} == {(4, 2)}
    assert torch.isfinite(_logits(model)).all()


def test_numbers_by_other_names_follow() -> None:
    """One family keeps its choices in a block's `num_experts`, and multiplies by it."""
    fields = {**SMALL, "num_local_experts": 6, "pad_token_id": None, "eos_token_id": 1}
    config = transformers.AutoConfig.for_model("openai_privacy_filter", **fields)
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    generator = _generator()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    before = _logits(model)
    add_experts(model, range(6), k=4)
    assert sites(model)[0].block.num_experts == 4
    assert _same(before, _logits(model))


def test_what_is_no_model_of_transformers_is_refused() -> None:
    """A wrapper, or any other module."""
    with pytest.raises(InputError, match="model must be a model of transformers"):
        add_experts(torch.nn.ModuleList([_model("mixtral")]), [0])


def test_a_swapped_router_is_refused() -> None:
    """The gate's own rows would be forgotten."""
    from turnout.experts.models.swapping import Identity, swap

    model = _model("mixtral")
    swap(model, Identity())
    with pytest.raises(InputError, match="Restore the swap first"):
        remove_experts(model, [0])

"""Dense models made sparse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from turnout.core import InputError

transformers = pytest.importorskip("transformers")

from turnout.experts.surgery import upcycle  # noqa: E402
from turnout.nn.gates import Gate, LinearScorer, Plain, Renormalised, Softmax, TopK  # noqa: E402

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "llama": "MixtralForCausalLM",
    "mistral": "MixtralForCausalLM",
    "qwen2": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3MoeForCausalLM",
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _dense(family: str, **more: Any) -> Any:
    """A small dense model, its weights large enough for every layer to matter."""
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **more})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = _generator(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def _ids(seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 50, (3, 11), generator=_generator(seed))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


@pytest.mark.parametrize("family", FAMILIES)
def test_starts_as_the_dense_model(family: str, tmp_path: Any) -> None:
    """Logits are the dense model's, also after saving and loading; every part moved over."""
    dense = _dense(family)
    sparse: Any = upcycle(dense, 4, 2, generator=_generator())
    assert type(sparse).__name__ == FAMILIES[family]
    before = _logits(dense, _ids())
    assert float(before.std()) > 0.1
    assert torch.allclose(before, _logits(sparse, _ids()), atol=1e-5)
    for layer in sparse.model.layers:
        assert layer.mlp.experts.gate_up_proj.shape == (4, 48, 16)
        assert layer.mlp.gate.weight.std().item() > 0
    sparse.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(before, _logits(again, _ids()), atol=1e-5)
    assert again.config.num_experts_per_tok == 2


def test_the_mlp_matters() -> None:
    """The equality above would not hold if the experts were left out."""
    dense = _dense("llama")
    sparse: Any = upcycle(dense, 4, 2, generator=_generator())
    with torch.no_grad():
        sparse.model.layers[1].mlp.experts.down_proj.zero_()
    assert not torch.allclose(_logits(dense, _ids()), _logits(sparse, _ids()), atol=1e-2)


def test_trains_like_any_model() -> None:
    """Router and experts have gradients; the dense model shares no memory with it."""
    dense = _dense("qwen3")
    kept = {name: value.clone() for name, value in dense.state_dict().items()}
    sparse: Any = upcycle(dense.train(), 4, 2, generator=_generator())
    assert sparse.training
    sparse(input_ids=_ids(), labels=_ids()).loss.backward()
    with torch.no_grad():
        for parameter in sparse.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
    assert all(torch.equal(value, dense.state_dict()[name]) for name, value in kept.items())
    assert len({id(parameter) for parameter in (*dense.parameters(), *sparse.parameters())}) == len(
        [*dense.parameters(), *sparse.parameters()]
    )


def test_a_shared_expert_starts_silent_and_learns() -> None:
    """Qwen2-MoE's shared expert adds nothing at first, and its gradient is not zero."""
    sparse: Any = upcycle(_dense("qwen2"), 4, 2, generator=_generator())
    shared = sparse.model.layers[0].mlp.shared_expert.down_proj.weight
    assert not shared.any()
    sparse(input_ids=_ids(), labels=_ids()).loss.backward()
    assert shared.grad is not None
    assert bool(shared.grad.any())


def test_noise_tells_experts_apart() -> None:
    """Experts differ by about the noise asked for, and the same generator gives the same model."""
    dense = _dense("mistral")
    noisy: Any = upcycle(dense, 3, 2, noise=0.1, generator=_generator())
    first, second = noisy.model.layers[0].mlp.experts.gate_up_proj[:2]
    size = ((first - second).std() / first.std()).item()
    assert size == pytest.approx(0.1 * 2**0.5, rel=0.15)
    again: Any = upcycle(dense, 3, 2, noise=0.1, generator=_generator())
    assert torch.equal(_logits(noisy, _ids()), _logits(again, _ids()))
    gap = (_logits(noisy, _ids()) - _logits(dense, _ids())).abs().max()
    assert 1e-4 < float(gap) < 10.0


def test_some_layers_stay_dense() -> None:
    """Qwen's layers can be chosen; the rest keeps its feed-forward layer."""
    dense = _dense("qwen3")
    sparse: Any = upcycle(dense, 4, 2, layers=[1], generator=_generator())
    assert not hasattr(sparse.model.layers[0].mlp, "experts")
    assert hasattr(sparse.model.layers[1].mlp, "experts")
    assert torch.allclose(_logits(dense, _ids()), _logits(sparse, _ids()), atol=1e-5)


def test_windows_tied_embeddings_and_bare_models() -> None:
    """What a configuration holds besides goes along."""
    dense = _dense("mistral", sliding_window=3, tie_word_embeddings=True)
    sparse: Any = upcycle(dense, 2, 1, generator=_generator())
    assert sparse.config.sliding_window == 3
    assert sparse.lm_head.weight is sparse.model.embed_tokens.weight
    assert torch.allclose(_logits(dense, _ids()), _logits(sparse, _ids()), atol=1e-5)
    bare = upcycle(dense.model, 2, 1, generator=_generator())
    assert type(bare).__name__ == "MixtralModel"


def test_low_precision_stays() -> None:
    """A bfloat16 model gives a bfloat16 model."""
    sparse = upcycle(_dense("llama").bfloat16(), 4, 2, generator=_generator())
    assert {parameter.dtype for parameter in sparse.parameters()} == {torch.bfloat16}


def test_the_global_generator_is_left_alone() -> None:
    """Nothing is drawn from torch's default generator."""
    dense = _dense("llama")
    before = torch.get_rng_state()
    upcycle(dense, 4, 2, generator=_generator(), noise=0.1)
    assert torch.equal(before, torch.get_rng_state())


class _Recipe:
    """A softmax top-1 gate that weighs in one of two ways."""

    def __init__(self, weigher: Any) -> None:
        self.weigher = weigher

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(1), self.weigher(), processors=[Softmax()], e=e)


def test_a_gate_may_be_swapped_in() -> None:
    """One whose weights sum to one keeps the outputs, another is refused."""
    dense = _dense("llama")
    sparse = upcycle(dense, 4, 2, gate=_Recipe(Renormalised), generator=_generator())
    assert torch.allclose(_logits(dense, _ids()), _logits(sparse, _ids()), atol=1e-5)
    with pytest.raises(InputError, match="gate must give the outputs"):
        upcycle(dense, 4, 2, gate=_Recipe(Plain), generator=_generator())


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: upcycle(_dense("olmo"), 4, 2, generator=_generator()), "dense_model"),
        (lambda: upcycle(torch.nn.Linear(2, 2), 4, 2, generator=_generator()), "dense_model"),
        (lambda: upcycle(_dense("llama"), 0, 1, generator=_generator()), "e"),
        (lambda: upcycle(_dense("llama"), 4, 5, generator=_generator()), "k"),
        (lambda: upcycle(_dense("llama"), 4, 2, noise=-1.0, generator=_generator()), "noise"),
        (lambda: upcycle(_dense("llama"), 4, 2, layers=[0], generator=_generator()), "layers"),
        (lambda: upcycle(_dense("qwen3"), 4, 2, layers=[], generator=_generator()), "layers"),
        (lambda: upcycle(_dense("qwen3"), 4, 2, layers=[2], generator=_generator()), "layers"),
        (
            lambda: upcycle(_dense("llama", mlp_bias=True), 4, 2, generator=_generator()),
            "config.mlp_bias",
        ),
        (
            lambda: upcycle(_dense("qwen3", attention_bias=True), 4, 2, generator=_generator()),
            "nothing",
        ),
    ],
)
def test_refusals(call: Any, field: str) -> None:
    """What has no sparse counterpart is refused by name; a bias that has one goes along."""
    if field == "nothing":
        assert call().config.attention_bias
    else:
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.field == field

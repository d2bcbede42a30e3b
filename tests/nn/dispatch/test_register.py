"""Models of transformers run their experts through dispatch, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from turnout.core.errors import InputError, MissingExtraError
from turnout.nn.dispatch import BACKENDS, Bank, register

transformers = pytest.importorskip("transformers", minversion="5")

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def config_of(family: str) -> Any:
    """A tiny configuration."""
    made = {
        "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=4),
        "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
            **SIZES, num_experts=4, num_experts_per_tok=2
        ),
        "olmoe": lambda: transformers.OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2),
        "gpt_oss": lambda: transformers.GptOssConfig(
            **SIZES, num_local_experts=4, num_experts_per_tok=2
        ),
    }
    return made[family]()


def model_of(config: Any) -> Any:
    """A model with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "expert" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


IDS = torch.arange(14).view(2, 7)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe", "gpt_oss"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_logits_and_gradients(family: str, backend: str) -> None:
    """Answers and gradients are those of the model's own loop."""
    model = model_of(config_of(family))
    model.set_experts_implementation("eager")
    wanted = model(IDS, labels=IDS)
    wanted.loss.backward()
    right = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with register.use(model, backend=backend) as handle:
        assert handle.modules == 2
        found = model(IDS, labels=IDS)
        found.loss.backward()
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)
    for name, parameter in model.named_parameters():
        if name in right:
            torch.testing.assert_close(parameter.grad, right[name], rtol=1e-3, atol=1e-6)


def test_it_is_really_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block experts go through dispatch, by the backend asked for; after it, not."""
    seen: list[str] = []
    real = register.choose.run

    def watched(*args: Any, backend: str) -> torch.Tensor:
        seen.append(backend)
        return real(*args, backend=backend)

    monkeypatch.setattr(register.choose, "run", watched)
    model = model_of(config_of("mixtral"))
    with torch.no_grad():
        with register.use(model, backend="sorted"):
            model(IDS)
        model(IDS)
    assert seen == ["sorted", "sorted"]


def test_nobody_else_sees_a_change() -> None:
    """Neither the configuration nor another model of it changes, during or after."""
    config = config_of("mixtral")
    model, other = model_of(config), model_of(config)
    before = config._experts_implementation
    handle = register.use(model)
    assert model.config is config
    assert config._experts_implementation == before
    modules = [m for m in model.modules() if type(m).__name__ == "MixtralExperts"]
    assert {m.config._experts_implementation for m in modules} == {register.NAME}
    for module in other.modules():
        assert getattr(module, "config", config) is config
    assert model_of(config).config._experts_implementation == before
    handle.restore()
    handle.restore()
    assert all(m.config is config for m in modules)


def test_generation() -> None:
    """Generated text is the same."""
    model = model_of(config_of("qwen3_moe"))
    wanted = model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0)
    with register.use(model):
        found = model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert torch.equal(found, wanted)


def test_by_name_as_transformers_has_it() -> None:
    """Once registered, the name works in transformers' own switch."""
    register.register()
    register.register()
    model = model_of(config_of("mixtral"))
    with torch.no_grad():
        wanted = model(IDS).logits
        model.set_experts_implementation(register.NAME)
        torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-4, atol=1e-5)


def test_a_number_beyond_none_under_expert_parallelism() -> None:
    """Experts elsewhere are none here, whatever their number."""
    register.register()
    model = model_of(config_of("mixtral"))
    experts = next(m for m in model.modules() if type(m).__name__ == "MixtralExperts")
    ids = torch.tensor([[0, 4], [6, 1]])
    weights = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    x = torch.linspace(-1, 1, 64).view(2, 32)
    experts._is_expert_parallel = True
    with torch.no_grad(), register.use(model):
        found = experts(x, ids, weights)
        alone = experts(x, torch.tensor([[0], [1]]), torch.tensor([[0.5], [0.5]]))
    torch.testing.assert_close(found, alone)


def test_models_without_such_experts_are_refused() -> None:
    """A dense model has nothing to switch."""
    with pytest.raises(InputError, match="model must have experts"):
        register.use(torch.nn.Linear(2, 2))


def test_a_bank_of_a_module() -> None:
    """Layouts are read from the module; what holds no stacked matrices is refused."""
    bank = Bank.of(next(_experts(model_of(config_of("gpt_oss")))))
    assert (bank.e, bank.d, bank.f, bank.d_out) == (4, 32, 48, 32)
    assert bank.transposed
    assert bank.up_bias is not None
    with pytest.raises(InputError, match="experts must hold a tensor"):
        Bank.of(torch.nn.Linear(2, 2))


def _experts(model: Any) -> Any:
    return (m for m in model.modules() if type(m).__name__.endswith("Experts"))


def test_transformers_is_not_needed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing loads no transformers; without it the error says what to install."""
    code = "import sys, turnout.nn.dispatch.register; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setattr(register.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="transformers must be installed"):
        register.register()

"""Dispatch for CUDA tensors: the choice, the grouped product (also on a CPU), CUDA graphs."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import cuda, naive
from turnout.nn.dispatch.bank import Bank

CUDA = torch.cuda.is_available()
on_cuda = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
with_product = pytest.mark.skipif(
    not hasattr(torch.nn.functional, "grouped_mm"), reason="this torch has no grouped_mm"
)


def problem(
    t: int, e: int, k: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Bank]:
    """Random rows, choices (about a tenth of them none), weights and experts of widths 32, 48."""
    draw = torch.Generator().manual_seed(t + 31 * e)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).div(shape[-1] ** 0.5).to(device, dtype)

    ids = torch.rand(t, e, generator=draw).argsort(1)[:, :k]
    ids = ids.masked_fill(torch.rand(t, k, generator=draw) < 0.1, e)
    weights = (torch.rand(t, k, generator=draw) + 0.1).masked_fill(ids == e, 0)
    bank = Bank(gate_up=made(e, 96, 32), down=made(e, 32, 48))
    return made(t, 32) * 32**0.5, ids.to(device), weights.to(device), bank


def agree(
    name: str, t: int, e: int, k: int, *, device: str, dtype: torch.dtype, limit: float
) -> None:
    """Answer and gradients of a path equal those of the reference in float64, by norms."""
    x, ids, weights, bank = problem(t, e, k, device=device, dtype=dtype)
    leaves = [s.detach().clone().requires_grad_() for s in (x, weights, bank.first, bank.down)]
    right = [s.detach().double().requires_grad_() for s in leaves]
    made = cuda.run(
        leaves[0], ids, leaves[1], Bank(gate_up=leaves[2], down=leaves[3]), backend=name
    )
    truth = naive.run(right[0], ids, right[1], Bank(gate_up=right[2], down=right[3]))
    truth = truth + sum(leaf[:0].sum() for leaf in right)
    dy = torch.linspace(-1, 1, made.numel(), device=device).view(made.shape).to(made.dtype)
    found = torch.autograd.grad(made, leaves, dy)
    wanted = torch.autograd.grad(truth, right, dy.double())
    for ours, theirs in [(made, truth), *zip(found, wanted, strict=True)]:
        off = float((ours.detach().double() - theirs.detach()).norm())
        assert off <= limit * float(theirs.detach().norm())


@with_product
@pytest.mark.parametrize(
    ("t", "e", "k"), [(0, 3, 2), (1, 8, 2), (17, 8, 3), (64, 3, 3), (9, 64, 1)]
)
def test_grouped_equals_reference(t: int, e: int, k: int) -> None:
    """Values and gradients of the grouped product are the reference's."""
    agree("grouped", t, e, k, device="cpu", dtype=torch.float32, limit=2e-6)


@with_product
def test_grouped_without_gradients_and_without_experts() -> None:
    """Inference gives the same answer; a token of no expert gets zeros, whatever its features."""
    x, ids, weights, bank = problem(12, 4, 2)
    ids[3], weights[3] = 4, 0
    with torch.no_grad():
        torch.testing.assert_close(
            cuda.grouped(x, ids, weights, bank), naive.run(x, ids, weights, bank)
        )
        x[3] = float("nan")
        assert torch.equal(cuda.grouped(x, ids, weights, bank)[3], torch.zeros(32))
        ids[:], weights[:] = 4, 0
        assert not cuda.grouped(x, ids, weights, bank).any()


@with_product
def test_grouped_adds_biases_and_their_gradients() -> None:
    """Biases act behind each product; slots of no expert leave them alone."""
    x, ids, weights, bank = problem(12, 4, 2)
    draw = torch.Generator().manual_seed(5)
    first, second = torch.randn(4, 96, generator=draw), torch.randn(4, 32, generator=draw)
    found = []
    for run in (cuda.grouped, naive.run):
        pair = first.clone().requires_grad_(), second.clone().requires_grad_()
        made = run(x, ids, weights, replace(bank, up_bias=pair[0], down_bias=pair[1]))
        found.append([made, *torch.autograd.grad(made.square().sum(), pair)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@with_product
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton is interpreted")
def test_choice_goes_by_what_a_path_can_express() -> None:
    """Host tensors: the grouped product where rows fill 16 bytes, else the reference."""
    x, _, _, bank = problem(3, 2, 1)
    assert cuda.choose(x, bank) == "grouped"
    odd = Bank(gate_up=torch.ones(2, 6, 5), down=torch.ones(2, 5, 3))
    assert cuda.choose(torch.ones(1, 5), odd) == "naive"
    with pytest.raises(InputError, match="16 bytes"):
        cuda.grouped(torch.ones(1, 5), torch.zeros(1, 1).long(), torch.ones(1, 1), odd)


@with_product
def test_bias_alone_gets_its_gradient() -> None:
    """Frozen rows, weights and matrices do not cut off the gradient of a bias."""
    x, ids, weights, bank = problem(6, 4, 2)
    bias = torch.zeros(4, 32, requires_grad=True)
    cuda.grouped(x, ids, weights, replace(bank, down_bias=bias)).sum().backward()
    assert bias.grad is not None
    assert float(bias.grad.sum()) == pytest.approx(32 * float(weights.sum()), rel=1e-4)


def test_long_training_is_left_to_the_product() -> None:
    """Large experts with many rows are; small experts, and few rows, are not."""
    assert cuda.long_training(4096, 14336, 8, 1024)
    assert not cuda.long_training(4096, 14336, 8, 32)
    assert not cuda.long_training(2048, 1408, 8, 100_000)


def test_reference_by_name_and_unknown_names() -> None:
    """A name chooses the path; one that does not exist is refused with the list."""
    x, ids, weights, bank = problem(3, 2, 1)
    made = cuda.run(x, ids, weights, bank, backend="naive")
    assert torch.equal(made, naive.run(x, ids, weights, bank))
    with pytest.raises(InputError, match="triton, grouped, naive"):
        cuda.run(x, ids, weights, bank, backend="fast")


@on_cuda
@pytest.mark.parametrize("name", ["triton", "grouped"])
@pytest.mark.parametrize(("t", "e", "k"), [(1, 8, 2), (17, 8, 3), (300, 3, 2), (700, 64, 8)])
def test_device_paths_equal_reference(name: str, t: int, e: int, k: int) -> None:
    """Values and gradients on the device, in bfloat16."""
    agree(name, t, e, k, device="cuda", dtype=torch.bfloat16, limit=1.5e-2)


@on_cuda
@pytest.mark.parametrize("name", ["triton", "grouped"])
@pytest.mark.parametrize("t", [1, 16, 600])
def test_captured_in_a_graph(name: str, t: int) -> None:
    """A CUDA graph replays the call on other choices: nothing waits for the host."""
    x, ids, weights, bank = problem(t, 8, 8, device="cuda", dtype=torch.bfloat16)
    other = ids.flip(1).contiguous()
    with torch.no_grad():
        cuda.run(x, ids, weights, bank, backend=name)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        slots = ids.clone()
        with torch.cuda.graph(graph):
            made = cuda.run(x, slots, weights, bank, backend=name)
        slots.copy_(other)
        graph.replay()
        assert torch.equal(made, cuda.run(x, other, weights, bank, backend=name))

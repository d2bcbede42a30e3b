"""The Triton kernels equal the reference; on a CPU they run in Triton's interpreter.

The interpreter wants TRITON_INTERPRET=1 in the environment before Python starts, Triton 3.6 and
numpy below 2.4. It multiplies bfloat16 matrices wrongly, so 16 bits are tested as float16 there.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from turnout.core.errors import InputError, MissingExtraError
from turnout.nn.dispatch import _triton_launch as launch
from turnout.nn.dispatch import _triton_tiles, naive, triton
from turnout.nn.dispatch.bank import Bank

INSTALLED = importlib.util.find_spec("triton") is not None
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

# The interpreter turns arrays of one element into numbers, which numpy 2 announces to forbid.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

kernels = pytest.mark.skipif(
    not INSTALLED or not (CUDA or os.environ.get("TRITON_INTERPRET") == "1"),
    reason="needs Triton with a CUDA device or with TRITON_INTERPRET=1",
)
TINY = _triton_tiles.Tiling(
    rows=16,
    group=2,
    up=_triton_tiles.Block(n=16, k=32, warps=4, stages=2),
    down=_triton_tiles.Block(n=32, k=16, warps=4, stages=2),
    back=_triton_tiles.Block(n=32, k=16, warps=4, stages=2),
    outer=_triton_tiles.Block(n=32, k=16, warps=4, stages=2),
    height=16,
)


def problem(
    t: int,
    e: int,
    k: int,
    d: int,
    f: int,
    *,
    dtype: torch.dtype = torch.float32,
    gated: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Bank]:
    """Random rows, choices (about a tenth of them none), weights and experts."""
    draw = torch.Generator().manual_seed(t + 31 * e)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).div(shape[-1] ** 0.5).to(DEVICE, dtype)

    ids = torch.rand(t, e, generator=draw).argsort(1)[:, :k]
    ids = ids.masked_fill(torch.rand(t, k, generator=draw) < 0.1, e).to(DEVICE)
    weights = (torch.rand(t, k, generator=draw).to(DEVICE) + 0.1).masked_fill(ids == e, 0)
    first = made(e, 2 * f if gated else f, d)
    x = made(t, d) * d**0.5
    bank = Bank(gate_up=first if gated else None, up=None if gated else first, down=made(e, d, f))
    return x, ids, weights, bank


def agree(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    tiling: _triton_tiles.Tiling | None = None,
    limit: float = 2e-6,
) -> None:
    """Answer and gradients equal those of the reference in float64, by norms."""
    leaves = [s.detach().clone().requires_grad_() for s in (x, weights, bank.first, bank.down)]
    right = [s.detach().double().requires_grad_() for s in leaves]

    def put(first: torch.Tensor, down: torch.Tensor) -> Bank:
        gated = {
            "gate_up" if bank.gated else "up": first,
            "gate_up" if not bank.gated else "up": None,
        }
        return replace(bank, down=down, **gated)

    made = triton.run(leaves[0], ids, leaves[1], put(leaves[2], leaves[3]), tiling=tiling)
    with torch.no_grad():
        alone = triton.run(leaves[0], ids, leaves[1], put(leaves[2], leaves[3]), tiling=tiling)
    truth = naive.run(right[0], ids, right[1], put(right[2], right[3]))
    truth = truth + sum(leaf[:0].sum() for leaf in right)
    dy = torch.linspace(-1, 1, made.numel(), device=DEVICE).view(made.shape)
    found = torch.autograd.grad(made, leaves, dy.to(made.dtype))
    wanted = torch.autograd.grad(truth, right, dy.to(made.dtype).double())
    pairs = [(made, truth), (alone, truth), *zip(found, wanted, strict=True)]
    for ours, theirs in pairs:
        off = float((ours.detach().double() - theirs.detach()).norm())
        assert off <= limit * float(theirs.detach().norm()), (off, float(theirs.detach().norm()))


@kernels
@pytest.mark.parametrize(
    ("t", "e", "k", "d", "f"),
    [
        (1, 3, 2, 24, 20),
        (2, 1, 1, 16, 16),
        (9, 4, 3, 40, 24),
        (18, 3, 3, 16, 48),
        (3, 20, 2, 16, 16),
    ],
)
def test_equals_reference(t: int, e: int, k: int, d: int, f: int) -> None:
    """Values and gradients are the reference's, odd widths and slots of no expert included."""
    agree(*problem(t, e, k, d, f), tiling=TINY)


@kernels
def test_every_token_to_one_expert() -> None:
    """One expert with all rows, the others with none, whose gradients are exactly zero."""
    x, ids, weights, bank = problem(20, 4, 1, 16, 16)
    ids = torch.full_like(ids, 2)
    agree(x, ids, weights, bank, tiling=TINY)
    down = bank.down.clone().requires_grad_()
    triton.run(x, ids, weights, replace(bank, down=down), tiling=TINY).square().sum().backward()
    assert down.grad is not None
    assert torch.equal(down.grad[[0, 1, 3]], torch.zeros_like(down.grad[[0, 1, 3]]))
    assert down.grad[2].abs().sum() > 0


@kernels
@pytest.mark.parametrize("t", [1, 6])
def test_slots_of_no_expert_are_never_read(t: int) -> None:
    """A token without experts gets zeros though its features are no numbers."""
    x, ids, weights, bank = problem(t, 4, 2, 16, 16)
    x[0] = float("nan")
    ids[0], weights[0] = 4, 0
    made = triton.run(x, ids, weights, bank, tiling=TINY)
    assert torch.equal(made[0], torch.zeros(16, device=DEVICE))
    assert made.isfinite().all()


@kernels
def test_no_slots_at_all() -> None:
    """No tokens, and no slots, give zeros and zero gradients."""
    for t, k in ((0, 2), (3, 0)):
        x, ids, weights, bank = problem(t, 4, 2, 16, 16)
        x.requires_grad_()
        made = triton.run(x, ids[:, :k], weights[:, :k], bank)
        assert made.shape == (t, 16)
        made.sum().backward()
        assert x.grad is not None
        assert not x.grad.any()


@kernels
@pytest.mark.parametrize("act", [functional.gelu, functional.relu, torch.nn.GELU("tanh")])
def test_plain_experts_and_other_activations(act: torch.nn.Module) -> None:
    """Experts without a gate and every activation that the kernels name."""
    x, ids, weights, bank = problem(9, 3, 2, 16, 24, gated=False)
    agree(x, ids, weights, replace(bank, act=act), tiling=TINY)


@kernels
def test_transposed_layout_and_strided_rows() -> None:
    """Matrices stored (e, in, out) and rows that are a view of wider ones."""
    x, ids, weights, bank = problem(9, 3, 2, 16, 24)
    assert bank.gate_up is not None
    turned = Bank(
        gate_up=bank.gate_up.transpose(1, 2).contiguous(),
        down=bank.down.transpose(1, 2).contiguous(),
        transposed=True,
    )
    agree(x, ids, weights, turned, tiling=TINY)
    wide = torch.stack([x, x], dim=2)[:, :, 0]
    assert wide.stride(1) != 1
    assert torch.equal(
        triton.run(wide, ids, weights, bank, tiling=TINY),
        triton.run(x, ids, weights, bank, tiling=TINY),
    )


@kernels
def test_sixteen_bits() -> None:
    """16-bit rows and matrices agree to their rounding, and the answer is of their type."""
    dtype = torch.bfloat16 if CUDA else torch.float16
    x, ids, weights, bank = problem(18, 4, 2, 32, 40, dtype=dtype)
    agree(x, ids, weights, bank, tiling=TINY, limit=1.5e-2 if CUDA else 2e-3)
    assert triton.run(x.float(), ids, weights, bank).dtype == torch.float32


@kernels
@pytest.mark.parametrize(
    ("t", "e", "k", "rows"), [(7, 3, 2, 16), (260, 20, 16, 32), (4100, 5, 1, 128)]
)
def test_metadata_is_a_stable_sort(t: int, e: int, k: int, rows: int) -> None:
    """Rows are in stable order, tiles cover each once; both by one launch and by three."""
    draw = torch.Generator().manual_seed(t)
    ids = torch.randint(0, e + 1, (t, k), generator=draw)
    made = launch.route(ids.to(DEVICE), e, rows)
    flat = ids.view(-1)
    live = int((flat < e).sum())
    order = torch.argsort(flat, stable=True)[:live]
    assert made.order[:live].tolist() == order.tolist()
    pos = torch.full((t * k,), -1)
    pos[order] = torch.arange(live)
    assert made.pos.tolist() == pos.tolist()
    counts = torch.bincount(flat, minlength=e + 1)[:e]
    assert made.starts.tolist() == [0, *counts.cumsum(0).tolist()]
    covered = []
    for expert, row in zip(made.tile_expert.tolist(), made.tile_row.tolist(), strict=True):
        if expert >= 0:
            end = min(row + rows, int(made.starts[expert + 1]))
            assert row < end
            covered += list(range(row, end))
    assert covered == list(range(live))


@kernels
def test_equal_calls_give_equal_bits() -> None:
    """Sums have a fixed order, and a later call leaves an earlier answer alone."""
    x, ids, weights, bank = problem(12, 4, 3, 16, 16)
    first = triton.run(x, ids, weights, bank, tiling=TINY)
    kept = first.clone()
    triton.run(x + 1, ids, weights, bank, tiling=TINY)
    assert torch.equal(first, kept)
    assert torch.equal(triton.run(x, ids, weights, bank, tiling=TINY), kept)


@kernels
def test_second_derivatives_are_refused() -> None:
    """The backward pass says that it cannot be differentiated again."""
    x, ids, weights, bank = problem(4, 2, 1, 16, 16)
    x.requires_grad_()
    made = triton.run(x, ids, weights, bank, tiling=TINY)
    (slope,) = torch.autograd.grad(made.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@kernels
def test_refuses_what_the_kernels_cannot_do() -> None:
    """Biases, gates and activations of a bank's own, and fp64, are refused with a reason."""
    x, ids, weights, bank = problem(3, 2, 1, 16, 16)
    double = replace(bank, gate_up=bank.first.double(), down=bank.down.double())
    for odd, word in (
        (replace(bank, down_bias=torch.zeros(2, 16)), "biases"),
        (replace(bank, apply_gate=lambda z: z[:, :16]), "gate"),
        (replace(bank, act=lambda z: z * 2), "activation"),
        (double, "float64"),
    ):
        with pytest.raises(InputError, match=word):
            triton.run(x, ids, weights, odd)


@pytest.mark.skipif(INSTALLED, reason="Triton is installed")
def test_says_when_triton_is_missing() -> None:
    """Without Triton the error names it, and nothing else was tried."""
    x, ids, weights, bank = problem(3, 2, 1, 16, 16)
    assert "not installed" in triton.refusal(x, bank)
    with pytest.raises(MissingExtraError, match="triton"):
        triton.run(x, ids, weights, bank)


@pytest.mark.parametrize(("p", "rows"), [(1, 16), (8 * 30, 32), (8 * 100, 64), (8 * 1000, 128)])
def test_tiles_grow_with_the_rows_of_an_expert(p: int, rows: int) -> None:
    """The table gives higher tiles to more rows per expert, and fp32 small ones."""
    assert _triton_tiles.choose(p, 8, 2).rows == rows
    assert _triton_tiles.choose(p, 8, 4).rows <= 32


@kernels
def test_tuning_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tuner returns one of the tiles it was given, and later calls like it use it."""
    monkeypatch.setattr(_triton_tiles, "TUNED", {})
    x, ids, weights, bank = problem(2, 2, 1, 16, 16)
    tilings = (TINY, replace(TINY, group=1))
    best = triton.tune(x, ids, weights, bank, tilings=tilings)
    assert best in tilings
    assert list(_triton_tiles.TUNED.values()) == [best]
    used = []
    inner = launch.inner
    monkeypatch.setattr(
        launch, "inner", lambda *a, **b: (used.append(a[4].tiling), inner(*a, **b))[1]
    )
    triton.run(x, ids, weights, bank)
    assert used == [best]


@pytest.mark.parametrize("p", [1, 8 * 30, 8 * 100, 8 * 1000])
def test_candidates_are_few_and_start_with_the_table(p: int) -> None:
    """What the tuner tries holds the table's choice, few others, and none twice."""
    tried = _triton_tiles.candidates(p, 8, 2)
    assert tried[0] == _triton_tiles.choose(p, 8, 2)
    assert len(set(tried)) == len(tried) <= 8
    assert all(block.n >= 16 and block.stages >= 1 for t in tried for block in (t.up, t.down))

"""Every path of dispatch equals the loop over experts, in value and in gradient."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from turnout.core.errors import InputError
from turnout.nn.dispatch import BACKENDS, Bank, _memory, choose, naive, native, run
from turnout.nn.dispatch import sorted as by_order

Make = Callable[..., Any]

SHAPES = [
    (t, e, k)
    for t in (0, 1, 2, 17, 64)
    for e in (1, 3, 8, 64)
    for k in sorted({1, min(2, e), min(8, e)})
] + [(2, 64, 64), (17, 8, 8), (400, 3, 2), (1100, 2, 1)]


def loop(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Slot by slot, written without regard to anything in the package."""
    rows = []
    for i in range(len(x)):
        row = torch.zeros(bank.d_out, dtype=x.dtype)
        for j, expert in enumerate(ids[i].tolist()):
            if expert == bank.e:
                continue
            up, down = bank.first[expert], bank.down[expert]
            if bank.transposed:
                up, down = up.t(), down.t()
            z = up @ x[i]
            if bank.up_bias is not None:
                z = z + bank.up_bias[expert]
            made = down @ bank.gate(z[None])[0]
            if bank.down_bias is not None:
                made = made + bank.down_bias[expert]
            row = row + weights[i, j] * made
        rows.append(row)
    return torch.stack(rows) if rows else x.new_zeros(0, bank.d_out)


def near(found: torch.Tensor, truth: torch.Tensor, limit: float) -> None:
    """Equal up to a share of the largest value."""
    size = max(float(truth.abs().max()) if truth.numel() else 0.0, 1.0)
    assert found.shape == truth.shape
    assert (
        found.numel() == 0 or float((found.double() - truth.double()).abs().max()) <= limit * size
    )


@pytest.mark.parametrize("kind", [{}, {"gated": False}, {"bias": True}, {"transposed": True}])
def test_reference_equals_slots_one_by_one(problem: Make, kind: dict[str, bool]) -> None:
    """The reference itself: each slot by hand, in float64."""
    made = problem(9, 5, 3, **kind).cast(torch.float64)
    near(made.answer("naive"), loop(made.x, made.ids, made.weights, made.bank), 1e-12)


@pytest.mark.parametrize(("t", "e", "k"), SHAPES)
def test_values_and_gradients(problem: Make, path: str, t: int, e: int, k: int) -> None:
    """Answer and all gradients equal those of the reference in float64."""
    made = problem(t, e, k)
    exact = made.cast(torch.float64).learning()
    truth = exact.answer("naive")
    near(made.answer(path), truth.detach(), 2e-6)
    dy = torch.linspace(-1, 1, truth.numel()).view(truth.shape)
    wanted = exact.gradients("naive", dy.double())
    for name, found in made.learning().gradients(path, dy).items():
        near(found, wanted[name], 5e-6)


@pytest.mark.parametrize("t", [1, 5, 40])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_layouts(
    problem: Make, path: str, gated: bool, transposed: bool, bias: bool, t: int
) -> None:
    """Plain and gated, with and without biases, either order of the matrices."""
    made = problem(t, 4, 2, gated=gated, transposed=transposed, bias=bias)
    if path == "native" and transposed:
        path = "auto"
    exact = made.cast(torch.float64).learning()
    truth = exact.answer("naive")
    near(made.answer(path), truth.detach(), 2e-6)
    dy = torch.linspace(1, -1, truth.numel()).view(truth.shape)
    wanted = exact.gradients("naive", dy.double())
    for name, found in made.learning().gradients(path, dy).items():
        near(found, wanted[name], 5e-6)


@pytest.mark.parametrize("backend", ["naive", "sorted"])
@pytest.mark.parametrize("kind", [{}, {"gated": False, "bias": True}, {"transposed": True}])
def test_gradients_by_differences(problem: Make, backend: str, kind: dict[str, bool]) -> None:
    """Gradients equal differences of answers, in float64."""
    made = problem(5, 3, 2, d=4, f=3, d_out=2, **kind).cast(torch.float64).learning()
    names = list(made.leaves())

    def answer(*leaves: torch.Tensor) -> torch.Tensor:
        return made.with_leaves(dict(zip(names, leaves, strict=True))).answer(backend)

    assert torch.autograd.gradcheck(answer, tuple(made.leaves().values()))


def test_all_rows_to_one_expert(problem: Make, path: str) -> None:
    """The whole load on one of many experts; the others' gradients are exact zeros."""
    made = problem(50, 16, 1)
    made.ids[:] = 11
    made.weights[:] = 0.5
    near(made.answer(path), made.answer("naive"), 2e-6)
    found = made.learning().gradients(path, torch.ones(50, 48))
    for name in ("gate_up", "down"):
        used = [j for j in range(16) if bool((found[name][j] != 0).any())]
        assert used == [11]


def test_no_expert_at_all(problem: Make, path: str) -> None:
    """Nothing comes back, whatever rows and weights hold, and every gradient is an exact zero."""
    made = problem(6, 4, 2)
    made.ids[:] = 4
    made.x[:] = float("nan")
    made.weights[:] = float("inf")
    assert torch.equal(made.answer(path), torch.zeros(6, 48))
    for found in made.learning().gradients(path, torch.ones(6, 48)).values():
        assert not found.any()


def test_a_slot_of_none_brings_nothing_in(problem: Make, path: str) -> None:
    """A token of no expert may hold anything, and so may the weight of a slot of none."""
    made = problem(8, 4, 2)
    wanted = made.answer("naive")
    made.ids[3] = 4
    wanted[3] = 0
    made.x[3] = float("nan")
    made.weights[made.ids == 4] = float("nan")
    near(made.answer(path), wanted, 2e-6)


@pytest.mark.parametrize("t", [1, 2, 5, 17, 64, 200])
def test_bfloat16(problem: Make, path: str, t: int) -> None:
    """Half precision matrices: as near as half precision answers can be."""
    made = problem(t, 4, 2, bias=True).cast(torch.bfloat16)
    exact = made.cast(torch.float64).learning()
    truth = exact.answer("naive")
    answer = made.answer(path)
    assert answer.dtype == torch.bfloat16
    near(answer, truth.detach(), 2e-2)
    dy = torch.linspace(-1, 1, truth.numel()).view(truth.shape).bfloat16()
    wanted = exact.gradients("naive", dy.double())
    for name, found in made.learning().gradients(path, dy).items():
        assert found.dtype == torch.bfloat16
        near(found, wanted[name], 0.12)


def test_rows_in_another_type_than_the_matrices(problem: Make, path: str) -> None:
    """The answer has the type of the rows; weights may be float beside halves."""
    made = problem(9, 4, 2)
    truth = made.answer("naive")
    answer = run(made.x.bfloat16(), made.ids, made.weights, made.bank, backend=path)
    assert answer.dtype == torch.bfloat16
    near(answer, truth, 2e-2)


def test_any_strides(problem: Make, path: str) -> None:
    """Rows, choices and weights may lie anyhow in memory, and so may the gradient."""
    made = problem(12, 4, 2)
    wanted = made.answer("naive")
    x, ids, weights = (v.t().contiguous().t() for v in (made.x, made.ids, made.weights))
    assert not x.is_contiguous()
    near(run(x, ids, weights, made.bank, backend=path), wanted, 2e-6)
    learning = made.learning()
    spread = torch.ones(1, 1).expand(12, 48)
    truth = made.learning().gradients("naive", torch.ones(12, 48))
    for name, found in learning.gradients(path, spread).items():
        near(found, truth[name], 5e-6)


@pytest.mark.parametrize(
    "names", [("x",), ("weights",), ("gate_up",), ("down",), ("up_bias",), ("x", "down_bias")]
)
def test_gradients_of_some_only(problem: Make, path: str, names: tuple[str, ...]) -> None:
    """What is frozen stays without a gradient; what is not gets the right one."""
    made = problem(20, 4, 2, bias=True)
    dy = torch.linspace(-1, 1, 20 * 48).view(20, 48)
    wanted = made.cast(torch.float64).learning().gradients("naive", dy.double())
    found = made.learning(names).gradients(path, dy)
    assert sorted(found) == sorted(names)
    for name in names:
        near(found[name], wanted[name], 5e-6)


def test_gate_and_activation_of_ones_own(problem: Make) -> None:
    """What kernels do not know runs all the same, learners inside included."""
    slope = torch.nn.PReLU(init=0.3)
    made = problem(20, 4, 2, act=slope)
    found = [torch.autograd.grad(made.answer(b).sum(), slope.weight)[0] for b in BACKENDS]
    for other in found[1:]:
        near(other, found[0], 1e-5)

    def clamped(z: torch.Tensor) -> torch.Tensor:
        gate, up = z[..., ::2].clamp(max=0.5), z[..., 1::2]
        return gate * torch.sigmoid(1.7 * gate) * (up + 1)

    own = replace(made.bank, act=functional.silu, apply_gate=clamped)
    with torch.no_grad():
        answers = [run(made.x, made.ids, made.weights, own, backend=b) for b in BACKENDS]
    for answer in answers[1:]:
        near(answer, answers[0], 2e-6)


def test_answers_stay_when_buffers_are_used_again(problem: Make, path: str) -> None:
    """An answer shares no memory with the buffers of later calls, in any mode, nor do gradients."""
    first, second = problem(20, 4, 2), problem(33, 4, 2, seed=5)
    with torch.inference_mode():
        one = first.answer(path)
    kept = one.clone()
    learning = first.learning()
    answer = learning.answer(path)
    for other in (second, first, second):
        with torch.no_grad():
            other.answer(path)
        other.learning().gradients(path, torch.ones(len(other.x), 48))
    assert torch.equal(one, kept)
    near(answer.detach(), kept, 1e-6)
    leaves = list(learning.leaves().values())
    late = torch.autograd.grad(answer, leaves, torch.ones(20, 48))
    fresh = first.learning().gradients(path, torch.ones(20, 48)).values()
    assert all(torch.equal(a, b) for a, b in zip(late, fresh, strict=True))


def test_equal_calls_give_equal_bits(problem: Make, path: str) -> None:
    """Value and gradients have one order of summation."""
    made = problem(64, 8, 8)
    dy = torch.linspace(-1, 1, 64 * 48).view(64, 48)
    runs = [made.learning().gradients(path, dy) for _ in range(3)]
    for name, value in runs[0].items():
        assert all(torch.equal(value, other[name]) for other in runs[1:])
    assert torch.equal(made.answer(path), made.answer(path))


def test_threads_do_not_meet(problem: Make, path: str) -> None:
    """Calls of several threads at once give what each gives alone."""
    all_ = [problem(10 + 9 * i, 8, 2, seed=i) for i in range(4)]
    wanted = [made.answer(path) for made in all_]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not torch.allclose(all_[i].answer(path), wanted[i], atol=1e-6):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_experts_that_dispatch_themselves(problem: Make, path: str) -> None:
    """A call from within an activation does not take the buffers away from the outer one."""
    inner = problem(7, 4, 2, seed=9)
    alone = inner.answer("naive")

    def act(z: torch.Tensor) -> torch.Tensor:
        assert torch.allclose(inner.answer(path), alone, atol=1e-5)
        return functional.silu(z)

    made = problem(20, 4, 2, act=act)
    plain = replace(made.bank, act=functional.silu)
    wanted = naive.run(made.x, made.ids, made.weights, plain)
    near(made.answer("sorted"), wanted, 2e-6)


@pytest.mark.parametrize("backend", ["sorted", "native"])
def test_second_gradients_are_refused(problem: Make, backend: str) -> None:
    """Paths with a gradient of their own say that it has none."""
    if backend == "native" and not native.available():
        pytest.skip("no compiler: the native kernels were not built")
    made = problem(5, 4, 2).learning()
    grad = torch.autograd.grad(made.answer(backend).square().sum(), made.x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_expert_numbers_are_checked(problem: Make, path: str, wrong: int) -> None:
    """A number that is no expert's is refused before any memory is read by it."""
    made = problem(6, 4, 2)
    made.ids[2, 1] = wrong
    if path == "naive":
        assert torch.isfinite(made.answer(path)).all()
        return
    with pytest.raises(InputError, match=r"ids must lie in \[0, 4\]; got " + str(wrong)):
        made.answer(path)


def test_bad_calls_are_refused(problem: Make) -> None:
    """Shapes and names are checked, and the error lists the names."""
    made = problem(6, 4, 2)
    x, ids, weights, bank = made.x, made.ids, made.weights, made.bank
    with pytest.raises(InputError, match="x must be rows of 16 features"):
        run(x[:, :8], ids, weights, bank)
    with pytest.raises(InputError, match="ids must be whole numbers"):
        run(x, ids[:3], weights[:3], bank)
    with pytest.raises(InputError, match="ids must be whole numbers"):
        run(x, ids.float(), weights, bank)
    with pytest.raises(InputError, match="weights must have the shape of ids"):
        run(x, ids, weights[:, :1], bank)
    with pytest.raises(InputError, match="compiled, grouped, naive, native, sorted"):
        run(x, ids, weights, bank, backend="fast")


def test_autocast_runs_in_the_matrices_type(problem: Make, path: str) -> None:
    """Autocast changes nothing: the answer is that without it."""
    made = problem(9, 4, 2)
    wanted = made.answer(path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.answer(path), wanted)
        made.learning().gradients(path, torch.ones(9, 48))


def test_int32_choices(problem: Make, path: str) -> None:
    """Any whole numbers will do."""
    made = problem(9, 4, 2)
    found = run(made.x, made.ids.int(), made.weights, made.bank, backend=path)
    near(found, made.answer("naive"), 2e-6)


def test_buffers_are_bounded() -> None:
    """A large buffer goes back at the end of the lease, a small one stays, none is shared."""
    space = _memory.Workspace()
    with space.lease() as lease:
        small = lease.take("a", (10,), torch.float32)
        with space.lease() as within:
            assert within.take("a", (10,), torch.float32).data_ptr() != small.data_ptr()
    with space.lease() as lease:
        assert lease.take("a", (4, 2), torch.float32).data_ptr() == small.data_ptr()
        lease.take("b", (_memory.BOUND // 4 + 1,), torch.float32)
    assert not space.buffers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_zeros_that_are_mapped(dtype: torch.dtype) -> None:
    """Large zeros are zeros, can be written, and hold their memory as long as they live."""
    made = _memory.zeros((3, 1024, 512), dtype)
    assert made.dtype == dtype
    assert not made.any()
    part = made[1]
    part.fill_(2)
    del made
    assert float(part.double().sum()) == 2 * 1024 * 512


def test_the_choice_is_a_table(problem: Make) -> None:
    """The first rule that fits is taken; what no kernel knows is left to torch."""
    made = problem(4, 4, 2)
    wanted = "native" if native.available() else "sorted"
    assert choose.choose(made.x, made.ids, made.weights, made.bank) == wanted
    odd = replace(made.bank, act=torch.tanh)
    assert choose.choose(made.x, made.ids, made.weights, odd) == "sorted"
    case = choose.Case(
        t=2, k=8, e=4, d=8, f=8, dtype=torch.float32, device="cpu", learn=False, native=False
    )
    assert case.rows == 4
    assert [rule.backend for rule in choose.RULES if rule.when(case)] == ["sorted"]
    halves = replace(case, dtype=torch.bfloat16, halves=True, native=True)
    for t, learn, wanted in ((2, False, "native"), (8, False, "grouped"), (8, True, "native")):
        many = replace(halves, t=t, learn=learn)
        assert next(rule.backend for rule in choose.RULES if rule.when(many)) == wanted
    for t, learn in ((4096, False), (4096, True), (2, True)):
        plain = replace(case, t=t, learn=learn, native=True)
        assert next(rule.backend for rule in choose.RULES if rule.when(plain)) == "native"
    assert all(rule.why for rule in choose.RULES)


def test_plan_by_hand() -> None:
    """Slots 0 to 5 with experts 2 0 none 2 1 0: the order is stable, none is cut off."""
    made = by_order.plan(torch.tensor([[2, 0], [3, 2], [1, 0]]), 3)
    assert made.order.tolist() == [1, 5, 4, 0, 3]
    assert made.token.tolist() == [0, 2, 2, 0, 1]
    assert (made.counts, made.rows) == ((2, 1, 2), 5)

"""The native kernels: every activation and shape of theirs, threads, and how they are built."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from turnout.core.errors import InputError
from turnout.nn.dispatch import Bank, native, run
from turnout.nn.dispatch import _kinds as kinds
from turnout.nn.dispatch.native import _build

Make = Callable[..., Any]

built = pytest.mark.usefixtures("kernels")
compiles = pytest.mark.skipif(_build.compiler() is None, reason="no compiler")


@pytest.fixture
def kernels() -> None:
    """The kernels, or no test."""
    if not native.available():
        pytest.skip("no compiler: the native kernels were not built")


class ReLUSquaredActivation(torch.nn.Module):
    """Stands in for the module of transformers, which is known by its name."""

    __module__ = "transformers.activations"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """relu(x)^2."""
        return functional.relu(x).square()


ACTS = {
    "silu": functional.silu,
    "gelu": torch.nn.GELU(),
    "gelu_tanh": torch.nn.GELU(approximate="tanh"),
    "relu": torch.nn.ReLU(),
    "relu2": ReLUSquaredActivation(),
}


def agree(made: Any, *, limit: float = 5e-6, backend: str = "native") -> None:
    """Answer and gradients of the kernels are those of the reference in float64."""
    exact = made.cast(torch.float64).learning()
    truth = exact.answer("naive")
    dy = torch.linspace(-1, 1, truth.numel()).view(truth.shape)
    learning = made.learning()
    answer = learning.answer(backend)
    assert torch.equal(answer.detach(), made.answer(backend))
    pairs = [(answer.detach(), truth.detach())]
    wanted = exact.gradients("naive", dy.double())
    pairs += [(g, wanted[name]) for name, g in learning.gradients(backend, dy).items()]
    for found, right in pairs:
        size = max(1.0, float(right.abs().max()))
        assert float((found.double() - right).abs().max()) <= limit * size


@built
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", ACTS)
def test_activations(problem: Make, name: str, gated: bool) -> None:
    """Each activation and its derivative, far out on both sides too."""
    act = ACTS[name]
    assert kinds.kind(act) == name
    for t in (1, 2, 7, 40):
        made = problem(t, 3, 2, gated=gated, act=act, bias=True)
        made.x[0] *= 40
        agree(made, limit=2e-5)


@built
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 33, 63, 530, 1041])
def test_every_number_of_rows(problem: Make, rows: int) -> None:
    """Each way a panel can be filled, in both types, chunks of long experts included."""
    made = problem(rows, 1, 1, none=0)
    agree(made)
    half = made.cast(torch.bfloat16)
    wide = half.cast(torch.float32)
    answer = run(half.x.float(), half.ids, half.weights.float(), half.bank, backend="native")
    torch.testing.assert_close(answer, wide.answer("naive"), rtol=1e-5, atol=1e-5)
    dy = torch.linspace(-1, 1, answer.numel()).view(answer.shape).bfloat16()
    wanted = wide.learning().gradients("naive", dy.float())
    for name, found in half.learning().gradients("native", dy).items():
        torch.testing.assert_close(found.float(), wanted[name], rtol=0.01, atol=0.01)


@built
def test_long_features(problem: Make) -> None:
    """Widths beyond one pass over the features, and with rests in every direction."""
    made = problem(11, 2, 1, d=2064, f=1040, d_out=32)
    agree(made)
    odd = problem(11, 2, 1, d=1029, f=7, d_out=5)
    torch.testing.assert_close(odd.answer("native"), odd.answer("naive"), rtol=1e-5, atol=1e-5)
    halves = odd.cast(torch.bfloat16)
    torch.testing.assert_close(
        halves.answer("native"), halves.answer("naive"), rtol=2e-2, atol=2e-2
    )


@built
def test_two_threads_give_what_one_gives(problem: Make) -> None:
    """The work is cut by columns: only gradients of weights are summed in another order."""
    made = problem(70, 4, 2, d=128, f=256, d_out=128, bias=True)
    dy = torch.linspace(-1, 1, 70 * 128).view(70, 128)
    alone = [made.answer("native"), *made.learning().gradients("native", dy).values()]
    torch.set_num_threads(2)
    both = [made.answer("native"), *made.learning().gradients("native", dy).values()]
    for i, (one, two) in enumerate(zip(alone, both, strict=True)):
        assert torch.equal(one, two) or i == 2
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@built
def test_not_a_number_stays_where_it_is(problem: Make) -> None:
    """A NaN in a row reaches the answer of its own token, and no other."""
    for half in (torch.float32, torch.bfloat16):
        made = problem(20, 3, 2, none=0).cast(half)
        made.x[4, 3] = float("nan")
        answer = made.answer("native")
        assert answer[4].isnan().all()
        assert not answer[torch.arange(20) != 4].isnan().any()


@built
def test_what_kernels_cannot_do_is_said(problem: Make) -> None:
    """Each refusal has its reason, and naming the path anyway raises it."""
    made = problem(4, 3, 2)
    bank: Bank = made.bank
    assert native.refusal(made.x, bank, learn=True) == ""
    cases = {
        "not in this process": (made.x.to("meta"), bank, False),
        "float64": (made.x, made.cast(torch.float64).bank, False),
        "not contiguous": (made.x, problem(4, 3, 2, transposed=True).bank, False),
        "differ in type": (made.x, replace(bank, down_bias=torch.zeros(3, 48).half()), False),
        "none of those known": (made.x, replace(bank, act=torch.tanh), False),
        "no multiples of 16": (made.x, problem(4, 3, 2, f=24).bank, True),
    }
    for words, (x, other, learn) in cases.items():
        assert words in native.refusal(x, other, learn=learn)
    with pytest.raises(InputError, match="native kernels; got 'the activation"):
        run(made.x, made.ids, made.weights, replace(bank, act=torch.tanh), backend="native")


def test_without_kernels(problem: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels are not wanted, "auto" goes another way and the name says why it cannot."""
    monkeypatch.setenv("TURNOUT_NATIVE", "0")
    made = problem(9, 3, 2)
    assert not native.available()
    torch.testing.assert_close(made.answer("auto"), made.answer("naive"))
    with pytest.raises(InputError, match="TURNOUT_NATIVE=0"):
        made.answer("native")


def test_unknown_activations_and_gates() -> None:
    """Nothing is taken for known by its looks."""

    class SiLU(torch.nn.SiLU):
        """Not quite the original."""

    assert kinds.kind(SiLU()) == ""
    assert kinds.kind(torch.tanh) == ""
    assert kinds.kind(lambda z: z) == ""
    bank = Bank(gate_up=torch.zeros(1, 4, 2), down=torch.zeros(1, 2, 2), apply_gate=torch.sin)
    assert not kinds.halves(bank)


# How the kernels are built: tried with a few lines in their place, which compile at once.

TINY = (
    'extern "C" { int turnout_version() { return %d; } long turnout_plan() { return 0; }'
    " int turnout_forward() { return 0; } int turnout_backward() { return 0; } }\n"
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source in place of the kernels, a cache of its own, and nothing loaded."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "kernels.cpp").write_text(TINY % _build.VERSION, encoding="utf-8")
    monkeypatch.setattr(_build, "_FOLDER", source)
    monkeypatch.setattr(_build, "_STATE", {})
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TURNOUT_NATIVE", raising=False)
    return tmp_path


def libraries(folder: Path) -> list[Path]:
    """What the cache holds."""
    return sorted((folder / "cache" / "native").iterdir())


@compiles
def test_built_once_and_found_again(tiny: Path) -> None:
    """One file, and the second process finds it; another source gets a file of its own."""
    assert _build.library() is not None
    (first,) = libraries(tiny)
    before = first.stat().st_mtime_ns
    _build._STATE.clear()
    assert _build.library() is not None
    assert first.stat().st_mtime_ns == before
    _build._STATE.clear()
    (tiny / "source" / "more.h").write_text("// new\n", encoding="utf-8")
    assert _build.library() is not None
    assert len(libraries(tiny)) == 2


@compiles
def test_a_damaged_library_is_built_again(tiny: Path) -> None:
    """What cannot be loaded is replaced."""
    folder = tiny / "cache" / "native"
    folder.mkdir(parents=True)
    path = folder / f"kernels-{_build.source().key(str(_build.compiler()))}.so"
    path.write_bytes(b"no library")
    assert _build.library() is not None
    assert path.stat().st_size > 100


@compiles
def test_another_version_is_not_used(tiny: Path) -> None:
    """A library that speaks another version is left alone."""
    (tiny / "source" / "kernels.cpp").write_text(TINY % 999, encoding="utf-8")
    assert _build.library() is None


@compiles
def test_a_source_that_does_not_compile(tiny: Path) -> None:
    """No library, no exception, and nothing half-written left behind."""
    (tiny / "source" / "kernels.cpp").write_text("no C++\n", encoding="utf-8")
    assert _build.library() is None
    assert libraries(tiny) == []


def test_no_compiler(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No library and no exception."""
    monkeypatch.setenv("PATH", str(tiny))
    monkeypatch.delenv("CXX", raising=False)
    assert _build.compiler() is None
    assert _build.library() is None


@compiles
def test_a_cache_that_cannot_be_written(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the library lives in a private folder that is gone once it is loaded."""
    (tiny / "cache").write_text("a file, not a folder", encoding="utf-8")
    monkeypatch.setenv("TMPDIR", str(tiny))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert _build.library() is not None
    assert not list(tiny.glob("turnout-*"))


#: Builds without torch, which the package around it would load first.
PROCESS = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("build", sys.argv[2])
build = module_from_spec(spec)
spec.loader.exec_module(build)
build._FOLDER = Path(sys.argv[1])
print(build.library() is not None)
"""


@compiles
def test_processes_build_at_the_same_time(tiny: Path) -> None:
    """Each gets a whole library, and one file is left."""
    command = [sys.executable, "-c", PROCESS, str(tiny / "source"), str(_build.__file__)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate()[0].strip() for one in both] == ["True", "True"]
    assert len(libraries(tiny)) == 1


@compiles
@pytest.mark.slow
def test_kernels_for_a_processor_without_wide_vectors(
    problem: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same source for the plainest processor of the kind gives the same answers."""
    target = tmp_path / "plain.so"
    flags = [flag for flag in _build._COMMON if flag != "-O3"]
    command = [str(_build.compiler()), *flags, "-O1", "-o", str(target)]
    subprocess.run([*command, str(_build._FOLDER / "kernels.cpp")], check=True)
    found = _build.source().load_file(target)
    monkeypatch.setattr(_build, "_STATE", {"kernels": found})
    monkeypatch.delenv("TURNOUT_NATIVE", raising=False)
    for t, e, k in ((1, 4, 2), (3, 1, 1), (9, 1, 1), (50, 3, 2)):
        agree(problem(t, e, k, bias=True))

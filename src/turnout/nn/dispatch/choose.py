"""Which path does a layer's work: a table, and one function that reads it.

Rules are tried from the top; the first that fits and can do the work is taken. Each says what it
was measured on. Figures: two cores of an AMD EPYC (Zen 3, AVX2), d = 512, f = 1024, gated,
`benchmarks/moe.py`, where the whole table can be had again; those of matrix units, from another
processor, which has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import _kinds, compiled, naive, native, sorted
from turnout.nn.dispatch.bank import Bank

__all__ = ["BACKENDS", "RULES", "Case", "Rule", "choose", "run"]

#: Names for host tensors that need nothing but torch; "compiled" and "native" need a compiler.
BACKENDS = ("auto", "grouped", "naive", "sorted")
_NAMES = ("auto", "compiled", "grouped", "naive", "native", "sorted")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a choice may depend on.

    Parameters
    ----------
    t, k, e, d, f : int
        Tokens, choices a token, experts, width, inner width.
    dtype : torch.dtype
        Of the matrices.
    device : str
        "cpu", "cuda", ...
    learn : bool
        Whether gradients may be asked for.
    native : bool
        Whether the native kernels can do it and were built.
    halves : bool
        Whether the processor multiplies bfloat16 by itself, and torch's products with it.
    """

    t: int
    k: int
    e: int
    d: int
    f: int
    dtype: torch.dtype
    device: str
    learn: bool
    native: bool
    halves: bool = False

    @property
    def rows(self) -> float:
        """Rows an expert with rows has, at least: t k / min(e, t k)."""
        slots = self.t * self.k
        return slots / max(1, min(self.e, slots))


@dataclass(frozen=True)
class Rule:
    """A path and when to take it.

    Parameters
    ----------
    backend : str
    when : callable
        Case -> bool.
    why : str
        What was measured.
    """

    backend: str
    when: Callable[[Case], bool]
    why: str


RULES = (
    Rule(
        "grouped",
        lambda case: (
            case.halves and case.dtype == torch.bfloat16 and case.rows >= 12 and not case.learn
        ),
        "matrix units (AMX): 43.8 ms beside 97.7 at 16 rows an expert and one thread, 12.0 beside "
        "13.3 on eight; at 1.4 rows native took 8.0 beside 21.3",
    ),
    Rule(
        "sorted",
        lambda case: case.halves and case.dtype == torch.bfloat16 and case.rows >= 64,
        "trained, 533 ms beside 874 at 128 rows and one thread, 191 beside 219 on eight; at "
        "16 rows 141 beside 275 on one thread, but 84 beside 54 on eight",
    ),
    Rule(
        "native",
        lambda case: case.device == "cpu" and case.native,
        "fastest or within the noise of it in every other cell measured, forward and training",
    ),
    Rule(
        "sorted",
        lambda case: True,
        "of the paths that need torch alone; grouped_mm on a processor is a loop of the same "
        "products and differs by the noise",
    ),
)


def choose(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> str:
    """Name of the path that "auto" takes for host tensors.

    Parameters
    ----------
    x : tensor (t, d)
    ids : int64 tensor (t, k)
    weights : tensor (t, k)
    bank : Bank

    Returns
    -------
    str
    """
    learn = _kinds.learns(x, weights, bank)
    able = not native.refusal(x, bank, learn=learn) and native.available()
    case = Case(
        t=ids.shape[0],
        k=ids.shape[1],
        e=bank.e,
        d=bank.d,
        f=bank.f,
        dtype=bank.first.dtype,
        device=x.device.type,
        learn=learn,
        native=able,
        halves=_multiplies_halves(),
    )
    return next(rule.backend for rule in RULES if rule.when(case))


def _multiplies_halves() -> bool:
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def run(
    x: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    bank: Bank,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Send rows to their experts and add up what comes back.

    ::

        out[i] = sum_j weights[i, j] * expert[ids[i, j]](x[i])     over slots with an expert

    Slots of no expert cost nothing, whatever their weight. Under autocast everything runs in the
    matrices' type.

    Parameters
    ----------
    x : tensor (t, d)
    ids : int64 tensor (t, k)
        Expert of each slot, 0 to e - 1; e = none.
    weights : tensor (t, k)
    bank : Bank
    backend : str
        "auto" or a path: "native", "sorted", "grouped", "compiled" (no gradients) or "naive" on a
        host; on CUDA those of `turnout.nn.dispatch.cuda`.

    Returns
    -------
    tensor (t, d_out)
        In the dtype of x.

    Raises
    ------
    InputError
        Shapes do not fit, an expert number lies outside 0 to e, the name is unknown, or the path
        cannot do this.
    """
    _check(x, ids, weights, bank)
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _run(x, ids, weights, bank, backend)
    return _run(x, ids, weights, bank, backend)


def _run(
    x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank, backend: str
) -> torch.Tensor:
    if x.is_cuda:
        from turnout.nn.dispatch import cuda

        return cuda.run(x, ids, weights, bank, backend=backend)
    name = choose(x, ids, weights, bank) if backend == "auto" else backend
    if name == "native":
        return native.run(x, ids, weights, bank)
    if name == "sorted":
        return sorted.run(x, ids, weights, bank)
    if name == "grouped":
        return sorted.run(x, ids, weights, bank, grouped=True)
    if name == "compiled":
        return compiled.run(x, ids, weights, bank)
    if name == "naive":
        return naive.run(x, ids, weights, bank)
    raise InputError("backend", "be one of " + ", ".join(_NAMES), backend, "Correct the name.")


def _check(x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, bank: Bank) -> None:
    if x.ndim != 2 or x.shape[1] != bank.d:
        rule = f"be rows of {bank.d} features"
        raise InputError("x", rule, tuple(x.shape), "Flatten the tokens, or take another bank.")
    if ids.ndim != 2 or ids.shape[0] != x.shape[0] or ids.is_floating_point():
        found = f"{ids.dtype} {tuple(ids.shape)}"
        raise InputError("ids", f"be whole numbers ({x.shape[0]}, k)", found, "One row a token.")
    if weights.shape != ids.shape:
        rule = f"have the shape of ids, {tuple(ids.shape)}"
        raise InputError("weights", rule, tuple(weights.shape), "One weight a choice.")

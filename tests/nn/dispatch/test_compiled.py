"""The compiled gather: the same answers, one compilation a class of shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from turnout.core.errors import InputError
from turnout.nn.dispatch import compiled
from turnout.nn.dispatch.native import _build

Make = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.skipif(_build.compiler() is None, reason="no compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_equals_reference(problem: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of slots of one class share a function; slots of no expert are left out."""
    monkeypatch.setattr(compiled, "_CACHE", {})
    for t in (6, 8):
        made = problem(t, 4, 1, none=0, bias=True)
        torch.testing.assert_close(
            made.answer("compiled"), made.answer("naive"), rtol=1e-4, atol=1e-5
        )
    made.ids[:3], made.x[:3] = 4, float("nan")
    made.weights[:3] = 0
    answer = made.answer("compiled")
    assert not answer[:3].any()
    torch.testing.assert_close(answer[3:], made.answer("naive")[3:], rtol=1e-4, atol=1e-5)
    assert len(compiled._CACHE) == 1


def test_what_is_not_compiled(problem: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, too many slots, a missing compiler are refused by name; no rows need nothing."""
    made = problem(4, 4, 2)
    with pytest.raises(InputError, match="gradients are asked for"):
        made.learning().answer("compiled")
    with pytest.raises(InputError, match="there are 5000 slots"):
        problem(5000, 2, 1).answer("compiled")
    if _build.compiler() is not None:
        made.ids[:] = 4
        assert not made.answer("compiled").any()
    monkeypatch.setattr(_build, "compiler", lambda: None)
    with pytest.raises(InputError, match="no compiler"):
        made.answer("compiled")

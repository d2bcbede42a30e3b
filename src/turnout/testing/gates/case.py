"""GateCase: a small instance of a gate, ready for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from turnout.core import InputError, _check
from turnout.nn.gates import GateRecipe

__all__ = ["GateCase"]


@dataclass(frozen=True, eq=False)
class GateCase:
    """A recipe to run through the contract, with its named exemptions.

    Parameters
    ----------
    recipe : GateRecipe
    d, e : int
        Width and experts to build it for; they must differ, so that the axis of the experts can be
        told from the others, and 4 experts at least.
    vocabulary : int
        Token ids of the batches run from 0 to it, exclusive.
    capacity : float
        What a card that claims "room" means by it: an expert takes ceil(capacity * t / e) tokens.
    xfail : mapping of str to str
        Check name to the reason why it cannot hold. Strict: an exempted check that passes is an
        error.

    Raises
    ------
    InputError
        The recipe has no `build`, a size is out of range, or a reason is empty.
    """

    recipe: GateRecipe
    d: int = 16
    e: int = 8
    vocabulary: int = 32
    capacity: float = 1.0
    xfail: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.recipe, type) or not callable(getattr(self.recipe, "build", None)):
            hint = "Pass an instance, such as GateCase(SoftmaxTopK(k=2))."
            raise InputError("case.recipe", "be a recipe with a method build", self.recipe, hint)
        _check.integer("case.d", self.d, low=1)
        _check.integer("case.e", self.e, low=4)
        _check.integer("case.vocabulary", self.vocabulary, low=1)
        _check.number("case.capacity", self.capacity, low=0.0)
        if self.d == self.e:
            raise InputError("case.d", "differ from case.e", self.d, "Choose another width.")
        for check, reason in self.xfail.items():
            if not isinstance(reason, str) or not reason.strip():
                raise InputError(f"case.xfail[{check!r}]", "give a reason", reason, "Say why.")
        object.__setattr__(self, "xfail", MappingProxyType(dict(self.xfail)))

"""Case: a small instance of a method, ready for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from turnout.core import InputError, Recipe

__all__ = ["Case"]


@dataclass(frozen=True, eq=False)
class Case:
    """A recipe to run through the contract, with its named exemptions.

    Parameters
    ----------
    recipe : Recipe
        A small, fast instance: the whole contract should take about a second.
    xfail : mapping of str to str
        Check name to the reason why it cannot hold. Strict: an exempted check that passes is an
        error, so that no exemption outlives its reason.
    inputs : str
        What the method reads: "text" (the default) or "array" (n, d).

    Raises
    ------
    InputError
        The recipe has no `fit`, a reason is empty, or `inputs` is neither of the two.
    """

    recipe: Recipe
    xfail: Mapping[str, str] = field(default_factory=dict)
    inputs: str = "text"

    def __post_init__(self) -> None:
        if isinstance(self.recipe, type) or not callable(getattr(self.recipe, "fit", None)):
            hint = "Pass an instance, such as Case(Knn(k=5))."
            raise InputError("case.recipe", "be a recipe with a method fit", self.recipe, hint)
        for check, reason in self.xfail.items():
            if not isinstance(reason, str) or not reason.strip():
                raise InputError(f"case.xfail[{check!r}]", "give a reason", reason, "Say why.")
        if self.inputs not in ("text", "array"):
            raise InputError("case.inputs", "be 'text' or 'array'", self.inputs, "Choose one.")
        object.__setattr__(self, "xfail", MappingProxyType(dict(self.xfail)))

"""Experts of transformers models, dispatched by this package.

transformers v5 looks up how experts run by a name in the configuration, in an interface that takes
entries of others (`transformers.integrations.moe`). `register` adds the entry "turnout"; `use`
switches one model to it. The configuration is one object for a whole model, and for every model
built from it, so `use` gives each experts module a copy of its own: nothing else sees a change,
and `restore` leaves none.

Experts that this package cannot read (their own norm behind the second product, matrices that are
not stacked tensors) run as before.
"""

from __future__ import annotations

import copy
import importlib.util
from types import TracebackType
from typing import Any

import torch

from turnout.core.errors import InputError, MissingExtraError
from turnout.nn.dispatch import choose
from turnout.nn.dispatch.bank import Bank

__all__ = ["NAME", "Handle", "register", "use"]

#: Name of the entry in transformers' experts interface.
NAME = "turnout"
_BACKEND = "_turnout_backend"


class Handle:
    """A model that was switched; `restore` switches it back, as does the end of a `with` block.

    Parameters
    ----------
    before : list of (module, configuration)
        Experts modules with the configuration each had.
    """

    def __init__(self, before: list[tuple[Any, Any]]) -> None:
        self._before = before

    @property
    def modules(self) -> int:
        """Number of experts modules switched."""
        return len(self._before)

    def restore(self) -> None:
        """Give every experts module back its configuration. A second call does nothing."""
        for module, config in self._before:
            module.config = config
        self._before = []

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


def register() -> None:
    """Add the entry "turnout" to transformers' experts interface; again is harmless.

    Afterwards `model.set_experts_implementation("turnout")` works as well, with what transformers
    does then: it changes the configuration that other models may share.

    Raises
    ------
    MissingExtraError
        transformers, or its experts interface, is not there.
    """
    _interface().register(NAME, _forward)


def use(model: torch.nn.Module, *, backend: str = "auto") -> Handle:
    """Let a transformers model run its experts through `turnout.nn.dispatch.run`.

    Parameters
    ----------
    model : torch.nn.Module
        Any part of a model, or all of it.
    backend : str
        See `turnout.nn.dispatch.run`.

    Returns
    -------
    Handle
        To switch back.

    Raises
    ------
    InputError
        The model has no experts that take an implementation.
    MissingExtraError
        transformers is not installed.
    """
    register()
    before: list[tuple[Any, Any]] = []
    for module in model.modules():
        if not _switchable(module):
            continue
        held: Any = module.config
        own = copy.copy(held)
        # past the property, which would also change configurations nested in this one
        own.__dict__["_experts_implementation_internal"] = NAME
        own.__dict__[_BACKEND] = backend
        before.append((module, held))
        module.config = own
    if not before:
        rule = "have experts that take an implementation"
        raise InputError("model", rule, type(model).__name__, "Pass a mixture-of-experts model.")
    return Handle(before)


def _switchable(module: Any) -> bool:
    """Whether transformers' decorator made this class look its implementation up."""
    names = ("config", "is_transposed", "has_gate", "has_bias")
    config = getattr(module, "config", None)
    return all(hasattr(module, name) for name in names) and hasattr(
        config, "_experts_implementation_internal"
    )


def _forward(
    experts: Any, hidden: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The entry: what transformers calls in place of a module's own forward."""
    if getattr(experts, "has_post_expert_norm", False) or not _stacked(experts):
        made: torch.Tensor = _interface()["grouped_mm"](experts, hidden, ids, weights)
        return made
    bank = Bank.of(experts)
    backend = experts.config.__dict__.get(_BACKEND, "auto")
    if getattr(experts, "_is_expert_parallel", False):
        ids = ids.clamp(max=bank.e)
    shape = hidden.shape
    made = choose.run(hidden.reshape(-1, shape[-1]), ids, weights, bank, backend=backend)
    return made.view(*shape[:-1], bank.d_out)


def _stacked(experts: Any) -> bool:
    first = "gate_up_proj" if experts.has_gate else "up_proj"
    matrices = (getattr(experts, first, None), getattr(experts, "down_proj", None))
    return all(isinstance(m, torch.Tensor) and m.is_floating_point() for m in matrices)


def _interface() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError("transformers", "experts")
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError:
        raise MissingExtraError("transformers>=5", "experts") from None
    return ALL_EXPERTS_FUNCTIONS

"""Move the correction biases that transformers models carry and never move.

Families from DeepSeek-V3 on keep a bias an expert that is added for the choice alone, and that
training is meant to move against the load (Wang et al., "Auxiliary-Loss-Free Load Balancing
Strategy for Mixture-of-Experts", 2024, arXiv:2408.15664). transformers holds the buffer and no code
that updates it: trained as it is, it stays as it was loaded. ::

    with bias_updates(model, Sign(1e-3), optimizer=optimizer):
        ...                                     the training loop as it was

Loads are counted over all micro-batches of a step, padding left out, second runs of checkpointed
layers left out, and summed over processes where torch.distributed runs.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import distributed, nn
from torch.optim import Optimizer

from turnout.core.errors import InputError
from turnout.experts.models.context import Reading
from turnout.experts.models.hooks import board_of, release, seated
from turnout.experts.models.router import GATE
from turnout.experts.models.sites import BIASES, Seat, Site, sites
from turnout.nn.balance import Balancer, BiasRule, BiasTarget, LoadReport
from turnout.nn.gates import Bias, Decision, Gate

__all__ = ["BiasUpdates", "bias_updates"]


class BiasUpdates:
    """Counts loads and moves biases; made by `bias_updates`. Close it, or use it as a context.

    Parameters
    ----------
    model : torch.nn.Module
    balancer : Balancer
    optimizer : torch.optim.Optimizer, optional

    Attributes
    ----------
    reports : dict of int to LoadReport
        How even each layer was at the latest update, by ordinal.
    """

    def __init__(
        self, model: nn.Module, balancer: Balancer, optimizer: Optimizer | None = None
    ) -> None:
        self.model = model
        self.balancer = balancer
        self.reports: dict[int, LoadReport] = {}
        self._board = seated(model)
        self._board.watch(self)
        self._hook = None
        if optimizer is not None:
            self._hook = optimizer.register_step_post_hook(self._after)

    def begin(self, reading: Reading) -> None:
        """A tower begins to read."""

    def decided(
        self, reading: Reading | None, seat: Seat, iteration: int, decision: Decision
    ) -> None:
        """Count one decision."""
        if seat.ordinal in self.balancer.layers:
            dropped = 0 if decision.dropped is None else int(decision.dropped.sum())
            self.balancer.count(seat.ordinal, decision.load(), dropped=dropped)

    def end(self, reading: Reading, output: Any) -> None:
        """A tower has read."""

    def step(self) -> dict[int, LoadReport]:
        """Move every bias by the loads since the last update; called after `optimizer.step()`."""
        self.reports = self.balancer.step()
        return self.reports

    def callback(self) -> Any:
        """The same as a `transformers.TrainerCallback`, for a Trainer that owns the optimizer."""
        from transformers import TrainerCallback

        updates = self

        class BiasUpdatesCallback(TrainerCallback):
            """Moves the biases after each optimizer step."""

            def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                """After `optimizer.step()`."""
                updates.step()

        return BiasUpdatesCallback()

    def close(self) -> None:
        """Stop counting and updating; a second call does nothing."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if board_of(self.model) is self._board and self in self._board.observers:
            self._board.unwatch(self)
            release(self.model)

    def __enter__(self) -> BiasUpdates:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.step()


def bias_updates(
    model: nn.Module,
    rule: BiasRule,
    *,
    optimizer: Optimizer | None = None,
    group: distributed.ProcessGroup | None = None,
) -> BiasUpdates:
    """Let a rule move the correction bias of every layer that has one.

    Layers with a gate in place move the gate's `Bias`, the others the native one.

    Parameters
    ----------
    model : torch.nn.Module
    rule : BiasRule
        `turnout.nn.balance.Sign` or `Proportional`.
    optimizer : torch.optim.Optimizer, optional
        The biases move after each of its steps. Without it call `step()`, or hand `callback()` to a
        transformers Trainer.
    group : ProcessGroup, optional
        Whose loads are summed; the default group where one is running.

    Returns
    -------
    BiasUpdates

    Raises
    ------
    InputError
        No layer has a bias.
    """
    targets = {}
    for site in sites(model):
        target = _target(site)
        if target is not None:
            targets[site.ordinal] = target
    if not targets:
        rule_text = f"have a correction bias ({', '.join(BIASES)}) in some layer"
        hint = "Swap in a gate with a Bias, or balance by a loss of turnout.nn.balance."
        raise InputError("model", rule_text, type(model).__name__, hint)
    return BiasUpdates(model, Balancer(targets, rule, group=group), optimizer)


class _Row:
    """A bias kept as a matrix of one row, seen as a vector by a `BiasTarget`."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        self.owner = owner
        self.name = name

    @property
    def training(self) -> bool:
        """Whether its owner is in training."""
        return self.owner.training

    @property
    def vector(self) -> torch.Tensor:
        """The only row; writing to it writes to the bias."""
        value: torch.Tensor = getattr(self.owner, self.name)
        return value.detach().view(-1)


def _target(site: Site) -> BiasTarget | None:
    """The bias of a layer: of its gate where there is one, or of its native router."""
    gate = site.router._modules.get(GATE)
    if gate is not None:
        parts = gate.processors if isinstance(gate, Gate) else ()
        found = [part for part in parts if isinstance(part, Bias)]
        return BiasTarget(found[0], e=site.e) if found else None
    bias = site.bias
    if bias is None or site.bias_owner is None:
        return None
    if bias.ndim == 1:
        return BiasTarget(site.bias_owner, site.bias_name, e=site.e)
    row: Any = _Row(site.bias_owner, site.bias_name)
    return BiasTarget(row, "vector", e=site.e)

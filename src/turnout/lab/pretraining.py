"""Pretrain a tiny mixture-of-experts language model on the standard library, and measure it.

What the claims of gates share: the same text, the same optimiser, the same held-out windows, and
the loads the gates gave on them. A run is a function of its plan and its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from turnout.core import _check
from turnout.core.errors import InputError, MissingExtraError
from turnout.lab.corpus import Corpus

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("torch", "torch") from error

from turnout.nn.balance import Balancer, Losses, SparsityController
from turnout.nn.gates import Decision, RouteContext, RouteLog
from turnout.nn.tiny import TinyLM

__all__ = ["Plan", "Pretrained", "evaluate", "pretrain"]

#: Id that stands for a hidden token; no text holds this control character.
_HIDDEN = 1
#: Share of tokens hidden where a model fills gaps.
_GAPS = 0.15


@dataclass(frozen=True)
class Plan:
    """How long, on what, and with which extra terms.

    Parameters
    ----------
    steps, b, s : int
        Updates, sequences a batch, positions a sequence; each >= 1.
    rate : float
        Learning rate of AdamW at its highest, > 0; a tenth of the steps warms up to it and the rest
        falls to nothing along a cosine.
    task : {"next", "gaps"}
        Predict each next character, or fill in the 15 % that are hidden.
    losses : Losses, optional
        Balance losses, added with their weights.
    seed : int
        Of the batches, the gaps and the noise of the gates.

    Raises
    ------
    InputError
        A value is out of range.
    """

    steps: int = 400
    b: int = 8
    s: int = 64
    rate: float = 4e-3
    task: str = "next"
    losses: Losses | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "b", "s"):
            _check.integer(f"plan.{name}", getattr(self, name), low=1)
        if _check.number("plan.rate", self.rate, low=0.0) == 0.0:
            raise InputError("plan.rate", "be > 0", self.rate, "Such as 0.004.")
        if self.task not in ("next", "gaps"):
            raise InputError("plan.task", "be 'next' or 'gaps'", self.task, "Choose one.")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What a run came to, on held-out text.

    Parameters
    ----------
    loss : float
        Nats a predicted character.
    loads : list of tensor (e,)
        Tokens each expert received, a layer.
    dropped : float
        Share of tokens that lost a place for want of room; 0 where nothing is dropped.
    per_token : float
        Experts a token, on average over layers.
    log : RouteLog
        The decisions of the last held-out batch.
    """

    loss: float
    loads: list[torch.Tensor]
    dropped: float
    per_token: float
    log: RouteLog = field(repr=False)

    @property
    def max_violation(self) -> float:
        """MaxVio, largest load over the mean less one, mean over layers."""
        found = [float(load.max() / load.float().mean()) - 1.0 for load in self.loads]
        return sum(found) / len(found)

    @property
    def variation(self) -> float:
        """Coefficient of variation of the loads, mean over layers."""
        found = [
            float(load.float().std(unbiased=False) / load.float().mean()) for load in self.loads
        ]
        return sum(found) / len(found)


def pretrain(
    model: TinyLM,
    corpus: Corpus,
    plan: Plan,
    *,
    balancer: Balancer | None = None,
    sparsity: SparsityController | None = None,
    each: Callable[[int, RouteLog], torch.Tensor | None] | None = None,
) -> Pretrained:
    """Train a model and measure it on held-out text.

    Parameters
    ----------
    model : TinyLM
    corpus : Corpus
    plan : Plan
    balancer : Balancer, optional
        Moved after every update.
    sparsity : SparsityController, optional
        Moved after every update; `each` is to add its loss.
    each : callable, optional
        Told step and log of every training pass; what it gives back is added to the loss.

    Raises
    ------
    InputError
        The task and the model do not fit: gaps are filled by models that see both sides.
    """
    if model.config.causal != (plan.task == "next"):
        rule = "be 'next' for a causal model and 'gaps' for one that sees both sides"
        raise InputError("plan.task", rule, plan.task, "Change TinyConfig.causal, or the task.")
    rng = np.random.default_rng([plan.seed, 1])
    noise = torch.Generator().manual_seed(plan.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=plan.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: _share(n, plan.steps))
    model.train()
    for step, windows in enumerate(corpus.batches(plan.b, plan.s + 1, plan.steps, rng=rng)):
        given, wanted = _exercise(torch.from_numpy(windows), plan.task, rng)
        logits, log = model(given, RouteContext(generator=noise, step=step))
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-1)
        if plan.losses is not None:
            loss = loss + plan.losses(log).total
        extra = each(step, log) if each is not None else None
        if extra is not None:
            loss = loss + extra
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if balancer is not None:
            balancer.observe(log)
            balancer.step()
        if sparsity is not None:
            sparsity.observe(log)
            sparsity.step()
    return evaluate(model, corpus, plan)


def evaluate(model: TinyLM, corpus: Corpus, plan: Plan, *, windows: int = 256) -> Pretrained:
    """Measure a model on held-out text, the same for every model, in batches of the plan's size.

    Parameters
    ----------
    model : TinyLM
    corpus : Corpus
    plan : Plan
        Its b, s, task and seed count.
    windows : int
        Held-out windows, >= 1; rounded down to whole batches, one at least.
    """
    rng = np.random.default_rng(9)
    noise = torch.Generator().manual_seed(9)
    whole = max(1, _check.integer("windows", windows, low=1) // plan.b) * plan.b
    text = torch.from_numpy(corpus.held_out(whole, plan.s + 1))
    losses: list[float] = []
    loads: dict[int, torch.Tensor] = {}
    pairs = dropped = tokens = 0
    log = RouteLog()
    model.eval()
    with torch.no_grad():
        for part in torch.split(text, plan.b):
            given, wanted = _exercise(part, plan.task, rng)
            logits, log = model(given, RouteContext(generator=noise))
            flat = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-1)
            losses.append(float(flat))
            for entry in log:
                decision = entry.decision
                load = decision.load()
                loads[entry.layer] = loads.get(entry.layer, torch.zeros_like(load)) + load
                tokens += decision.t
                pairs += int(load.sum())
                if isinstance(decision, Decision) and decision.dropped is not None:
                    dropped += int(decision.dropped.any(dim=1).sum())
    return Pretrained(
        loss=sum(losses) / len(losses),
        loads=[loads[layer] for layer in sorted(loads)],
        dropped=dropped / max(1, tokens),
        per_token=pairs / max(1, tokens),
        log=log,
    )


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def _exercise(
    windows: torch.Tensor, task: str, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model is given (b, s), and what is wanted of it; -1 = nothing."""
    if task == "next":
        return windows[:, :-1], windows[:, 1:]
    given = windows[:, :-1]
    hidden = torch.from_numpy(rng.random(tuple(given.shape)) < _GAPS)
    return given.masked_fill(hidden, _HIDDEN), given.masked_fill(~hidden, -1)

r"""The cascade of controllers of MasRouter: task, way of working, count, roles, models.

Every controller compares a context with the latent of each choice, so a choice that is new is
only a new vector. Equations, with x the query (d,), h hidden units, and `n(.)` = length one::

    VAE         mu, v = heads(relu(W x));  z = mu + eps * exp(v / 2) * s
                loss = mean (xhat - x)^2 - mean(1 - log 0.01 + v - (mu^2 + e^v) / 0.01) / 2
    task        q = n(A x);  p = softmax(q . n(B tasks) / 0.5)
    way         p = softmax(n(z_x) . n(z_way) / 0.8),  c = n(z_way) of the one drawn
    count       f = n_max * sigmoid(w . n(z'_x));  count = clamp(round(f), 1, n_max)
    roles       g <- LayerNorm(g + last);  p = softmax(n(C [q, c, g]) . n(z_role) / 0.5)
    models      p = softmax(n(D [q, c, g]) . n(z_model));  k ~ multinomial(count, p)
    L           log p_way + sum log p_role + lgamma(f + 1) - sum lgamma(k + 1) + sum k log p

The scale s is 0.1, on top of exp(v / 2), while the loss reads e^v as the variance; the published
code has both. `consistent` makes s = 1. `g` is the history before the last role is added, as
published. L is a surrogate, no log-likelihood: it may exceed 0, because f is no integer. That is
how the gradient reaches the count, and the only way; its slope, digamma(f + 1), has one sign above
f = 0.46, so the count rises where utility is above the baseline, whatever count was drawn.

Source: Yue et al., "MasRouter: Learning to Route LLMs for Multi-Agent Systems", 2025,
arXiv:2502.11133, section 4, and its published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from turnout.core import Pool
from turnout.parts.learners.actor import hashed
from turnout.parts.rounds.teams import MODES, TaskRoles
from turnout.parts.texts.encoder import fit_encoder

__all__ = ["Cascade", "Catalog", "Choice", "Drawn", "apportioned", "build", "catalog", "encoded"]

_PRIOR = 0.1


@dataclass(frozen=True, eq=False)
class Catalog:
    """What can be chosen: one vector each, tensors (., d).

    Parameters
    ----------
    tasks, modes, models : tensor
    roles : tuple of tensor
        The roles of each task.
    up : bool tensor (m,)
        Models that may be drawn.
    """

    tasks: torch.Tensor
    modes: torch.Tensor
    roles: tuple[torch.Tensor, ...]
    models: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True)
class Choice:
    """What was chosen for one query, as places in the catalogue."""

    task: int
    mode: int
    roles: tuple[int, ...]
    models: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Queries (b, d) with what was chosen for each, and the seed of the latent noise."""

    queries: torch.Tensor
    catalog: Catalog
    choices: tuple[Choice, ...]
    noise: int
    truth: tuple[int, ...]


class _Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        made = torch.rand(outputs, inputs, generator=generator) * 2 - 1
        self.weight = nn.Parameter(made * bound)
        self.bias = nn.Parameter((torch.rand(outputs, generator=generator) * 2 - 1) * bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight, self.bias)


class _Vae(nn.Module):
    def __init__(self, d: int, h: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = scale
        self.inner, self.mean = _Linear(d, h, generator), _Linear(h, h, generator)
        self.spread = _Linear(h, h, generator)
        self.back, self.out = _Linear(h, h, generator), _Linear(h, d, generator)

    def forward(
        self, x: torch.Tensor, noise: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of length one (b, h), and the loss."""
        hidden = functional.relu(self.inner(x))
        mean, spread = self.mean(hidden), self.spread(hidden)
        z = mean
        if noise is not None:
            z = mean + torch.randn(mean.shape, generator=noise) * (spread / 2).exp() * self.scale
        loss = functional.mse_loss(self.out(functional.relu(self.back(z))), x)
        variance = _PRIOR**2
        apart = 1 - math.log(variance) + spread - (mean**2 + spread.exp()) / variance
        return functional.normalize(z, dim=-1), loss - 0.5 * apart.mean()


Pick = Callable[[int, str, torch.Tensor], int]


class Cascade(nn.Module):
    """The controllers; as a policy it gives L (b, 1) of what was drawn.

    Parameters
    ----------
    d, h : int
        Length of a text's vector; hidden units.
    most : int
        Most agents of a team, >= 1.
    consistent : bool
        Draw latents with the variance the loss reads.
    generator : torch.Generator
        Draws the first weights.
    """

    def __init__(
        self, d: int, h: int, most: int, *, consistent: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.most = most
        scale = 1.0 if consistent else _PRIOR
        self.query, self.task = _Linear(d, h, generator), _Linear(d, h, generator)
        self.way, self.asked = _Vae(d, h, scale, generator), _Vae(d, h, scale, generator)
        self.sized, self.size = _Vae(d, h, scale, generator), _Linear(h, 1, generator)
        self.role, self.model = _Vae(d, h, scale, generator), _Vae(d, h, scale, generator)
        self.of_role = _Linear(3 * h, h, generator)
        self.of_model = _Linear(3 * h, h, generator)
        self.task_loss = self.latent_loss = torch.zeros(())

    def forward(self, data: Drawn) -> torch.Tensor:
        """L of each choice, (b, 1); also sets `task_loss` and `latent_loss`."""

        def again(row: int, stage: str, logs: torch.Tensor) -> int:
            choice = data.choices[row]
            kind, _, place = stage.partition(" ")
            return choice.mode if kind == "mode" else choice.roles[int(place)]

        def models(row: int, count: int, logs: torch.Tensor) -> tuple[int, ...]:
            return data.choices[row].models

        noise = torch.Generator().manual_seed(data.noise)
        found, _ = self._walk(data.queries, data.catalog, noise, data.truth, again, models)
        return found

    @torch.no_grad()
    def draw(
        self,
        queries: torch.Tensor,
        catalog: Catalog,
        *,
        rng: np.random.Generator | None = None,
        truth: tuple[int, ...] | None = None,
    ) -> Drawn:
        """Choices for queries (b, d): drawn, or the likeliest where there is no `rng`.

        The likeliest team has the mean latents, the likeliest way and roles, and models
        apportioned to their probabilities. `truth` names the tasks where they are known.
        """
        seed = 0 if rng is None else int(rng.integers(2**31))
        noise = None if rng is None else torch.Generator().manual_seed(seed)

        def pick(row: int, stage: str, logs: torch.Tensor) -> int:
            chance = logs.exp().double().numpy()
            if rng is None:
                return int(np.round(chance, 6).argmax())
            return int(rng.choice(len(chance), p=chance / chance.sum()))

        def models(row: int, count: int, logs: torch.Tensor) -> tuple[int, ...]:
            chance = logs.exp().double().numpy()
            if rng is None:
                return apportioned(chance, count)
            drawn = rng.choice(len(chance), size=count, p=chance / chance.sum())
            return tuple(int(j) for j in drawn)

        _, choices = self._walk(queries, catalog, noise, truth, pick, models)
        known = truth or tuple(choice.task for choice in choices)
        return Drawn(queries, catalog, choices, seed, known)

    def difficulty(self, queries: torch.Tensor) -> torch.Tensor:
        """Agents foreseen before rounding, (b,), at the mean latents."""
        z, _ = self.sized(queries, None)
        return self.most * torch.sigmoid(self.size(z))[:, 0]

    def _walk(
        self,
        queries: torch.Tensor,
        catalog: Catalog,
        noise: torch.Generator | None,
        truth: tuple[int, ...] | None,
        pick: Pick,
        models: Callable[[int, int, torch.Tensor], tuple[int, ...]],
    ) -> tuple[torch.Tensor, tuple[Choice, ...]]:
        asked = functional.normalize(self.query(queries), dim=-1)
        known = functional.normalize(self.task(catalog.tasks), dim=-1)
        task_logs = torch.log_softmax(asked @ known.T / 0.5, dim=-1)
        tasks = truth or tuple(int(i) for i in task_logs.argmax(dim=-1))
        way_z, way_loss = self.way(catalog.modes, noise)
        query_z, query_loss = self.asked(queries, noise)
        way_logs = torch.log_softmax(query_z @ way_z.T / 0.8, dim=-1)
        sized_z, sized_loss = self.sized(queries, noise)
        real = self.most * torch.sigmoid(self.size(sized_z))[:, 0]
        role_z, role_losses = zip(
            *(self.role(roles, noise) for roles in catalog.roles), strict=True
        )
        model_z, model_loss = self.model(catalog.models, noise)
        total, choices = [], []
        for row, task in enumerate(tasks):
            mode = pick(row, "mode", way_logs[row])
            logp = way_logs[row, mode]
            count = int(real[row].detach().round().clamp(1, self.most))
            context = torch.cat([asked[row], way_z[mode]])
            history = last = torch.zeros_like(asked[row])
            roles = []
            for place in range(count):
                history = functional.layer_norm(history + last, history.shape)
                seen = functional.normalize(self.of_role(torch.cat([context, history])), dim=-1)
                logs = torch.log_softmax(role_z[task] @ seen / 0.5, dim=-1)
                roles.append(pick(row, f"role {place}", logs))
                last = role_z[task][roles[-1]]
                logp = logp + logs[roles[-1]]
            seen = functional.normalize(self.of_model(torch.cat([context, history])), dim=-1)
            score = (model_z @ seen).masked_fill(~catalog.up, -torch.inf)
            logs = torch.log_softmax(score, dim=-1)
            drawn = models(row, count, logs)
            times = torch.bincount(torch.tensor(drawn), minlength=len(logs)).to(logs.dtype)
            logp = logp + torch.lgamma(real[row] + 1) - torch.lgamma(times + 1).sum()
            logp = logp + torch.where(times > 0, times * logs, 0.0).sum()
            total.append(logp)
            choices.append(Choice(task, mode, tuple(roles), drawn))
        if truth is not None and torch.is_grad_enabled():
            self.task_loss = functional.nll_loss(task_logs, torch.tensor(tasks))
            used = torch.stack([role_losses[task] for task in tasks]).mean()
            self.latent_loss = way_loss + query_loss + sized_loss + used + model_loss
        return torch.stack(total)[:, None], tuple(choices)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights, as arrays by name."""
        return {name: item.detach().numpy().copy() for name, item in self.named_parameters()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over such weights."""
        self.load_state_dict({name: torch.tensor(item) for name, item in arrays.items()})


def apportioned(chance: NDArray[np.float64], count: int) -> tuple[int, ...]:
    """`count` places shared out in proportion to chances: whole shares, then largest remainders.

    >>> apportioned(np.array([0.6, 0.3, 0.1]), 3)
    (0, 0, 1)
    """
    share = np.round(chance / chance.sum() * count, 6)
    whole = np.floor(share).astype(np.int64)
    order = np.argsort(-(share - whole), kind="stable")
    whole[order[: count - int(whole.sum())]] += 1
    return tuple(int(j) for j in np.repeat(np.arange(len(chance)), whole))


def encoded(texts: Sequence[str], encoder: str, d: int) -> torch.Tensor:
    """Vectors (n, d) of texts: "hashed" words, or an encoder that needs no fit."""
    found = list(texts)
    if encoder == "hashed":
        return torch.from_numpy(np.asarray(hashed(found, d), dtype=np.float32))
    made = fit_encoder(encoder, found, d=d, rng=np.random.default_rng(0)).encode(found)
    return torch.from_numpy(np.asarray(made, dtype=np.float32))


def catalog(tasks: Sequence[TaskRoles], pool: Pool, *, encoder: str, d: int) -> Catalog:
    """The catalogue of tasks with their roles, of every way of working, and of a pool."""

    def of(texts: Sequence[str]) -> torch.Tensor:
        return encoded(texts, encoder, d)

    about = pool.description or ("",) * pool.m
    return Catalog(
        of([f"{task.name} : {task.description}" for task in tasks]),
        of([f"{name} : {text}" for name, text in MODES.items()]),
        tuple(of([role.text for role in task.roles]) for task in tasks),
        of([f"{name} : {text}" for name, text in zip(pool.names, about, strict=True)]),
        torch.from_numpy(pool.available.copy()),
    )


def build(shape: tuple[int, int, int], *, consistent: bool, seed: int) -> Cascade:
    """A cascade of vectors of length d, h hidden units and at most so many agents."""
    d, h, most = shape
    generator = torch.Generator().manual_seed(seed)
    return Cascade(d, h, most, consistent=consistent, generator=generator)

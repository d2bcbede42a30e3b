"""What is known of a model that nobody has asked: its price, its traits, its description.

See `turnout.parts.newcomer`.
"""

from __future__ import annotations

import numpy as np

from turnout.core import InputError, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs, lengths

__all__ = ["answer_length", "price", "texts", "traits"]

#: Length of an answer where nothing tells it, and characters of a token, as in `turnout.bench`.
_ANSWER_TOKENS, _CHARACTERS_PER_TOKEN = 200.0, 4.0


def texts(names: tuple[str, ...], pool: Pool | None) -> list[str]:
    """Name and description of each destination."""
    described = ("",) * len(names) if pool is None else pool.description or ("",) * len(names)
    return [f"{name} {text}" for name, text in zip(names, described, strict=True)]


def traits(known: Outcomes, newcomer: Pool, pool: Pool | None, costs: CostModel) -> Float:
    """Log of the mean cost of an answer and the features of each model, (m + 1, f)."""
    cost = np.append(known.mean_cost(), costs.predict(known.inputs).mean())
    told = np.append(~np.isnan(known.cost).all(axis=0), True)
    found = np.zeros((len(cost), 1))
    if (cost > 0).any():
        # what is free is a tenth of the cheapest that is not
        found[:, 0] = np.log(np.maximum(cost, cost[cost > 0].min() / 10))
        found[~told, 0] = found[told, 0].mean()
    if pool is None or pool.features is None or newcomer.features is None:
        return found
    if pool.features.shape[1] != newcomer.features.shape[1]:
        rule = f"have {pool.features.shape[1]} features, as the known destinations do"
        hint = "Describe all by the same ones."
        raise InputError("newcomer.features", rule, newcomer.features.shape[1], hint)
    return np.hstack((found, np.vstack((pool.features, newcomer.features))))


def answer_length(known: Outcomes, pool: Pool | None, answer_tokens: float | None) -> float:
    """Tokens of an answer, as said or as the known destinations' costs tell."""
    if answer_tokens is not None:
        return _check.number("answer_tokens", answer_tokens, low=0.0)
    if pool is None or pool.usd_per_output_token is None or not pool.usd_per_output_token.any():
        return _ANSWER_TOKENS
    read = np.array([lengths(known.inputs).mean() / _CHARACTERS_PER_TOKEN])
    rest = known.mean_cost() - pool.expected_cost(read, np.zeros((1, 1)))[0]
    paid = (pool.usd_per_output_token > 0) & (known.mean_cost() > 0)
    if not paid.any():
        return _ANSWER_TOKENS
    return float(max(np.median(rest[paid] / pool.usd_per_output_token[paid]), 0.0))


def price(outcomes: Outcomes, newcomer: Pool, tokens: float) -> CostModel:
    """From the price, moved by what labelled answers cost as if the price were one of them."""
    (name,) = newcomer.names
    paid = np.full(outcomes.n, np.nan)
    if name in outcomes.names:
        paid = outcomes.cost[:, outcomes.names.index(name)]
    prices = (newcomer.usd_per_item, newcomer.usd_per_input_token, newcomer.usd_per_output_token)
    if all(one is None for one in prices):
        return fit_costs(outcomes.select((name,)))
    item, read, written = (0.0 if one is None else float(one[0]) for one in prices)
    base, slope = item + written * tokens, read / _CHARACTERS_PER_TOKEN
    seen = ~np.isnan(paid)
    if seen.any():
        off = paid[seen] - base - slope * lengths(outcomes.inputs)[seen]
        base += float(off.sum()) / (len(off) + 1)
    return CostModel(np.array([base]), np.array([slope]), np.zeros(1))

"""What an answer cost, where the file does not say: prices, token counts and plain assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turnout.bench.layouts._cells import Prices, number
from turnout.core import DataError
from turnout.core._check import Float

__all__ = ["ANSWER_TOKENS", "CHARACTERS_PER_TOKEN", "estimated", "parse_prices", "unit"]

#: Length of an answer where no count is given.
ANSWER_TOKENS = 200
#: Characters of English that make one token, about.
CHARACTERS_PER_TOKEN = 4


def parse_prices(document: Any, source: str) -> Prices:
    """A price table from JSON.

    Either `{model: {"input_price": ..., "output_price": ...}}` in US$ per million tokens, or
    `{model: price of one answer}`.

    Raises
    ------
    DataError
        The document is no such table, or a price is negative.
    """
    rule = "map each model to input_price and output_price (US$ per million tokens) or to a number"
    hint = 'For example {"small": {"input_price": 0.2, "output_price": 0.6}}.'
    if not isinstance(document, dict) or not document:
        raise DataError(source, rule, document, hint)
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    flat: dict[str, float] = {}

    def price(model: str, field: str, value: Any) -> float:
        figure = number(value)
        if figure is None or not np.isfinite(figure) or figure < 0:
            raise DataError(f"{source}: {field} of {model!r}", "be a number >= 0", value, hint)
        return figure

    for model, entry in document.items():
        if isinstance(entry, dict):
            if "input_price" not in entry or "output_price" not in entry:
                raise DataError(f"{source}: {model!r}", rule, sorted(entry), hint)
            read[model] = price(model, "input_price", entry["input_price"])
            written[model] = price(model, "output_price", entry["output_price"])
        else:
            flat[model] = price(model, "price", entry)
    return Prices(per_million_in=read, per_million_out=written, flat=flat, source=Path(source).name)


def estimated(
    prompts: Sequence[str],
    names: Sequence[str],
    prices: Prices,
    *,
    read: Float | None = None,
    written: Float | None = None,
) -> tuple[Float, list[str]]:
    """Cost (n, m) in US$ from a price table, and the assumptions made.

    Parameters
    ----------
    read, written : array (n, m), optional
        Counted tokens; estimated where absent or NaN.
    """
    missing = [name for name in names if name not in prices.names()]
    if missing:
        rule = "price every model of the table"
        hint = f"Add {', '.join(missing)}, or pass another table with --prices."
        raise DataError(prices.source, rule, f"no price for {missing[0]!r}", hint)
    shape = (len(prompts), len(names))
    guess = np.array([len(prompt) / CHARACTERS_PER_TOKEN for prompt in prompts])[:, None]
    tokens_in = np.broadcast_to(guess, shape) if read is None else read
    tokens_out = np.full(shape, float(ANSWER_TOKENS)) if written is None else written
    tokens_in = np.where(np.isnan(tokens_in), guess, tokens_in)
    tokens_out = np.where(np.isnan(tokens_out), ANSWER_TOKENS, tokens_out)
    by_token = np.array([name in prices.per_million_in for name in names])
    price_in = np.array([prices.per_million_in.get(name, 0.0) for name in names])
    price_out = np.array([prices.per_million_out.get(name, 0.0) for name in names])
    flat = np.array([prices.flat.get(name, 0.0) for name in names])
    cost = np.where(by_token, (tokens_in * price_in + tokens_out * price_out) / 1e6, flat)
    notes = [f"costs in US$ from {prices.source}"]
    if by_token.any() and read is None:
        notes.append(f"assumed: an input of c characters has c / {CHARACTERS_PER_TOKEN} tokens")
    if by_token.any() and written is None:
        notes.append(f"assumed: every answer has {ANSWER_TOKENS} tokens")
    return cost, notes


def unit(quality: Float, names: Sequence[str]) -> tuple[Float, list[str]]:
    """Cost 0 of a call to the weaker of two models and 1 of a call to the stronger.

    The mean cost of a router is then its share of strong calls.

    Raises
    ------
    DataError
        There are not exactly two models.
    """
    if len(names) != 2:
        rule = "tell costs, or come with a price table (two models alone can do without)"
        raise DataError("the table", rule, f"{len(names)} models", "Pass one with --prices FILE.")
    seen = ~np.isnan(quality)
    total = np.where(seen, quality, 0.0).sum(axis=0)
    mean = total / np.maximum(seen.sum(axis=0), 1)
    strong = int(mean[1] >= mean[0])
    cost = np.zeros(quality.shape)
    cost[:, strong] = 1.0
    note = (
        f"no costs in the file: a call to {names[strong]} (the better on average) counts 1, a "
        f"call to {names[1 - strong]} 0, so that mean cost is the share of strong calls"
    )
    return cost, [note]

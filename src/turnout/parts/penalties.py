"""What is held against a model besides what it earns: weighted attributes, and flags.

Attributes (size, age, risk) are brought to [0, 1] by their range over a pool, which is then kept,
so that a weight means the same when a model is added. A flag is a mark such as
"[Flag: Smaller model]" in a prompt that adds to a weight; none is read unless it is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from turnout.core import InputError, Inputs, _check
from turnout.core._check import Float
from turnout.parts.texts.words import texts_of

__all__ = ["Flag", "Penalties", "check_flags", "check_weights", "fit_penalties", "unflagged"]

#: What a flag says, the column of its attribute, and what it adds to the weight.
Flag = tuple[str, int, float]

_FLAG = re.compile(r"\[\s*flag\s*:\s*([^\[\]]*)\]", re.IGNORECASE)


@dataclass(frozen=True, eq=False, kw_only=True)
class Penalties:
    """Attributes of m models, each brought to [0, 1] by its range over the pool of the fit.

    Parameters
    ----------
    keys : tuple of str
        Names of the a attributes.
    values : array (m, a)
    low, high : array (a,)
        Range of each over the pool of the fit; a model added later may lie outside.
    weights : array (a,)
        Standing weight of each, >= 0.
    flags : tuple of (str, int, float)
        None, and nothing is read.
    """

    keys: tuple[str, ...]
    values: Float
    low: Float
    high: Float
    weights: Float
    flags: tuple[Flag, ...]

    def of(self, inputs: Inputs) -> Float:
        """What is added to each model's loss, (b, m)."""
        width = self.high - self.low
        scaled = (self.values - self.low) / np.where(width > 0, width, 1.0)
        weight = np.tile(self.weights, (len(inputs), 1))
        if self.flags and not _is_array(inputs):
            for row, text in enumerate(texts_of(inputs)):
                asked = {_said(found) for found in _FLAG.findall(text)}
                for said, key, more in self.flags:
                    weight[row, key] += more * (said in asked)
        return np.asarray(weight @ scaled.T)

    def read(self, inputs: Inputs) -> Inputs:
        """The inputs without flags, where flags are read."""
        return unflagged(inputs) if self.flags else inputs

    def weighed(self, weights: Mapping[str, float]) -> Penalties:
        """The same with other standing weights; attributes left out weigh nothing."""
        check_weights("penalties", weights, self.keys)
        return replace(self, weights=np.array([float(weights.get(key, 0.0)) for key in self.keys]))

    def with_model(self, given: Mapping[str, float]) -> Penalties:
        """The same with one more model; the ranges stay."""
        for key in self.keys:
            if key not in given:
                raise InputError("attributes", f"give {key!r}", dict(given), "Add it.")
            _check.number(f"attributes[{key!r}]", given[key])
        row = np.array([[float(given[key]) for key in self.keys]]).reshape(1, len(self.keys))
        return replace(self, values=np.vstack((self.values, row)))


def fit_penalties(
    attributes: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, float],
    flags: Mapping[str, tuple[str, float]],
    names: tuple[str, ...],
    *,
    where: str,
) -> Penalties:
    """Ranges over these models.

    Parameters
    ----------
    attributes : mapping of str to mapping of str to float
        By attribute, its value for every model; more of it is worse.
    weights : mapping of str to float
        By attribute, its standing weight; 0 where none is given.
    flags : mapping of str to (str, float)
        By what a flag says, the attribute and what it adds to the weight.
    names : tuple of str
        The models.
    where : str
        What the attributes are called in an error.

    Raises
    ------
    InputError
        An attribute is not given for one of them.
    """
    keys = tuple(attributes)
    values = np.empty((len(names), len(keys)))
    for column, (key, given) in enumerate(attributes.items()):
        for row, name in enumerate(names):
            if name not in given:
                rule = f"give a value for {name!r}"
                raise InputError(f"{where}[{key!r}]", rule, dict(given), "Add it.")
            values[row, column] = given[name]
    return Penalties(
        keys=keys,
        values=values,
        low=values.min(axis=0),
        high=values.max(axis=0),
        weights=np.array([float(weights.get(key, 0.0)) for key in keys]),
        flags=tuple(
            (_said(flag), keys.index(key), float(weight)) for flag, (key, weight) in flags.items()
        ),
    )


def check_weights(where: str, given: Mapping[str, float], keys: tuple[str, ...]) -> None:
    """Refuse a weight below zero, or of an attribute that is not known."""
    for key, weight in given.items():
        if key not in keys:
            hint = "Give its values in attributes."
            raise InputError(where, f"name attributes ({', '.join(keys) or 'none'})", key, hint)
        _check.number(f"{where}[{key!r}]", weight, low=0.0)


def check_flags(where: str, flags: Mapping[str, tuple[str, float]], keys: tuple[str, ...]) -> None:
    """Refuse a flag that is not a text with an attribute and a weight."""
    for flag, told in flags.items():
        if not isinstance(told, tuple) or len(told) != 2 or not flag.strip():
            rule = "map what a flag says to (attribute, weight)"
            raise InputError(where, rule, {flag: told}, "Write a pair.")
        check_weights(f"{where}[{flag!r}]", dict([told]), keys)


def unflagged(inputs: Inputs) -> Inputs:
    """Texts without any flag, known or not; arrays as they are."""
    if _is_array(inputs):
        return inputs
    return [_FLAG.sub("", text).strip() for text in texts_of(inputs)]


def _said(flag: str) -> str:
    """What a flag says, whatever its case and spaces."""
    return " ".join(flag.lower().split())


def _is_array(inputs: Inputs) -> bool:
    return isinstance(inputs, np.ndarray) and inputs.ndim == 2

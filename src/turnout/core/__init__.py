"""The shared nouns and the error tree; numpy only."""

from turnout.core.assignment import Assignment
from turnout.core.budget import Budget
from turnout.core.card import Card
from turnout.core.errors import (
    BudgetExceededError,
    ConfigError,
    DataError,
    InputError,
    MissingExtraError,
    RouterFileError,
    TurnoutError,
    UpstreamError,
)
from turnout.core.frontier import Frontier
from turnout.core.outcomes import Outcomes
from turnout.core.play import Call, LimitReached, Play, Reply, Strategy
from turnout.core.pool import Pool
from turnout.core.protocols import Inputs, Online, Predictor, Recipe, Router, Sequential
from turnout.core.trace import Trace

__all__ = [
    "Assignment",
    "Budget",
    "BudgetExceededError",
    "Call",
    "Card",
    "ConfigError",
    "DataError",
    "Frontier",
    "InputError",
    "Inputs",
    "LimitReached",
    "MissingExtraError",
    "Online",
    "Outcomes",
    "Play",
    "Pool",
    "Predictor",
    "Recipe",
    "Reply",
    "Router",
    "RouterFileError",
    "Sequential",
    "Strategy",
    "Trace",
    "TurnoutError",
    "UpstreamError",
]

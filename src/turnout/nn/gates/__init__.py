"""Gates: who works on a token, as four small parts and one decision.

::

    Gate = Scorer -> Processors -> Selector -> Weigher (-> Limits)      gives a Decision

A gate runs no expert, computes no loss and keeps no balance: dispatch (`turnout.nn.dispatch`),
losses and balancers (`turnout.nn.balance`) and traces read its decisions.
"""

from turnout.nn.gates.context import LogEntry, RouteContext, RouteLog
from turnout.nn.gates.decision import Decision, DropPolicy, Slots, check_policy
from turnout.nn.gates.gate import Gate, GateRecipe, Gating, check_hidden
from turnout.nn.gates.limits import Capacity
from turnout.nn.gates.order import top_columns
from turnout.nn.gates.parts import Limit, Part, Processor, Scorer, Selector, Weigher
from turnout.nn.gates.processors import (
    Bias,
    GroupLimit,
    LearnedNoise,
    Relu,
    Sigmoid,
    Softmax,
    SqrtSoftplus,
)
from turnout.nn.gates.scorers import CosineScorer, LinearScorer, NoScorer, full_precision
from turnout.nn.gates.scores import Scores
from turnout.nn.gates.selectors import (
    ExpertChoice,
    HashTable,
    Positive,
    TopK,
    Uniform,
    room_for,
)
from turnout.nn.gates.weighers import (
    Equal,
    Plain,
    Renormalised,
    SigmoidOfChosen,
    SoftmaxOfChosen,
)

__all__ = [
    "Bias",
    "Capacity",
    "CosineScorer",
    "Decision",
    "DropPolicy",
    "Equal",
    "ExpertChoice",
    "Gate",
    "GateRecipe",
    "Gating",
    "GroupLimit",
    "HashTable",
    "LearnedNoise",
    "Limit",
    "LinearScorer",
    "LogEntry",
    "NoScorer",
    "Part",
    "Plain",
    "Positive",
    "Processor",
    "Relu",
    "Renormalised",
    "RouteContext",
    "RouteLog",
    "Scorer",
    "Scores",
    "Selector",
    "Sigmoid",
    "SigmoidOfChosen",
    "Slots",
    "Softmax",
    "SoftmaxOfChosen",
    "SqrtSoftplus",
    "TopK",
    "Uniform",
    "Weigher",
    "check_hidden",
    "check_policy",
    "full_precision",
    "room_for",
    "top_columns",
]

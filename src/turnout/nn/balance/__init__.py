"""Balance: losses and balancers that read decisions after the fact and never change one.

A loss bends the scores through the gradient; a balancer moves a bias that no gradient reaches. Both
work layer by layer, from the decision that was really used.
"""

from turnout.nn.balance.balancers import (
    Balancer,
    BiasRule,
    BiasTarget,
    Proportional,
    Sign,
    biases_of,
)
from turnout.nn.balance.loads import LoadReport, report, total_over
from turnout.nn.balance.losses import (
    Probabilities,
    communication_loss,
    entropy_loss,
    global_switch_loss,
    group_loss,
    importance_loss,
    l1_loss,
    load_loss,
    sequence_loss,
    share_of_scores,
    smooth_load,
    softmax_of_logits,
    switch_loss,
    z_loss,
)
from turnout.nn.balance.sparsity import SparsityController
from turnout.nn.balance.terms import Loss, Losses, LossValues, attach

__all__ = [
    "Balancer",
    "BiasRule",
    "BiasTarget",
    "LoadReport",
    "Loss",
    "LossValues",
    "Losses",
    "Probabilities",
    "Proportional",
    "Sign",
    "SparsityController",
    "attach",
    "biases_of",
    "communication_loss",
    "entropy_loss",
    "global_switch_loss",
    "group_loss",
    "importance_loss",
    "l1_loss",
    "load_loss",
    "report",
    "sequence_loss",
    "share_of_scores",
    "smooth_load",
    "softmax_of_logits",
    "switch_loss",
    "total_over",
    "z_loss",
]

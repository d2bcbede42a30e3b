"""Expert parallelism: the experts of a layer spread over processes, tokens sent to them and back.

Runs on `torch.distributed`, with whatever backend the process group has. `ParallelExperts` takes
the place of the experts of a `turnout.nn.moe.MoeLayer`, equal to them in value and gradient.
"""

from turnout.nn.parallel.exchange import Exchange, Method
from turnout.nn.parallel.experts import ParallelExperts, part_of
from turnout.nn.parallel.plan import SendPlan, Traffic, share_of
from turnout.nn.parallel.replicas import sum_gradients

__all__ = [
    "Exchange",
    "Method",
    "ParallelExperts",
    "SendPlan",
    "Traffic",
    "part_of",
    "share_of",
    "sum_gradients",
]

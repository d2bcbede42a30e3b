"""Graphs: nodes that hear from their neighbours, in plain torch.

A graph is three arrays: what its nodes are, and where each edge comes from and goes to. Several
graphs are one graph with the node numbers of each moved past those before it (`join`), so a batch
needs no padding. `Conv` sends one kind of message along all edges; `TypedLayer` has weights of its
own for each kind of node and each relation.
"""

from turnout.nn.graph.agents import AgentNet, Asked, AskedTraining, load_agents, train_agents
from turnout.nn.graph.bipartite import Bipartite, Seen
from turnout.nn.graph.edges import EdgeTable, Training, log_odds, masks, network_of, shown, train
from turnout.nn.graph.messages import Conv, gather, segment_softmax
from turnout.nn.graph.reading import QuestionReader, fit_reader
from turnout.nn.graph.typed import TypedGraph, TypedLayer, join
from turnout.nn.graph.weights import gru_cell, linear, numpy_of, to_torch, torch_generator

__all__ = [
    "AgentNet",
    "Asked",
    "AskedTraining",
    "Bipartite",
    "Conv",
    "EdgeTable",
    "QuestionReader",
    "Seen",
    "Training",
    "TypedGraph",
    "TypedLayer",
    "fit_reader",
    "gather",
    "gru_cell",
    "join",
    "linear",
    "load_agents",
    "log_odds",
    "masks",
    "network_of",
    "numpy_of",
    "segment_softmax",
    "shown",
    "to_torch",
    "torch_generator",
    "train",
    "train_agents",
]

"""Messages along edges, plain and typed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest
import torch
from torch.nn import functional

from turnout.core import InputError
from turnout.nn.graph import (
    Conv,
    TypedGraph,
    TypedLayer,
    gather,
    gru_cell,
    join,
    linear,
    numpy_of,
    segment_softmax,
    to_torch,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(seed))


def _edges(v: int, count: int, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = torch.randint(v, (2, count), generator=_generator(seed))
    return pairs[0], pairs[1]


def test_what_is_heard_by_hand() -> None:
    """Two say 1 and 3 to node 0: sum 4, mean 2; nobody speaks to node 1: zero, and no NaN."""
    said, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
    assert gather(said, target, 2).tolist() == [[4.0], [0.0]]
    assert gather(said, target, 2, "mean").tolist() == [[2.0], [0.0]]


def test_shares_sum_to_one_for_each_listener() -> None:
    """Also where scores are large; a lone edge has all of it."""
    scores = torch.tensor([[1000.0], [1000.0], [-5.0]])
    share = segment_softmax(scores, torch.tensor([2, 2, 0]), 3)
    assert share[:, 0].tolist() == pytest.approx([0.5, 0.5, 1.0])


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("edge", [0, 3])
@pytest.mark.parametrize("h", [4, 6])
def test_a_layer_is_its_equation_edge_by_edge(how: str, edge: int, h: int) -> None:
    """Adding first and multiplying after gives what each message alone gives."""
    layer = Conv(4, h, edge=edge, how=how, generator=_generator())
    x, (source, target) = _drawn(7, 4), _edges(6, 15)
    e = _drawn(15, edge, seed=3) if edge else None
    heard = [torch.zeros(0, h) for _ in range(7)]
    for row in range(15):
        one = layer.message(x[source[row]])
        if e is not None:
            one = one + layer.edge(e[row])
        heard[int(target[row])] = torch.vstack((heard[int(target[row])], one))
    each = [said.sum(0) / max(len(said) if how == "mean" else 1, 1) for said in heard]
    assert torch.allclose(layer(x, source, target, e), torch.stack(each) + layer.skip(x), atol=1e-5)


def test_a_linear_message_forgets_which_edge_it_came_with() -> None:
    """Dealing the edges to other speakers changes nothing; bent messages tell them apart."""
    x, target = _drawn(5, 4), torch.full((4,), 4)
    source, e = torch.arange(4), _drawn(4, 3, seed=5)
    for inside, same in (("linear", True), ("relu", False)):
        layer = Conv(4, 4, edge=3, inside=inside, generator=_generator())
        one, other = layer(x, source, target, e), layer(x, source, target, e.flip(0))
        assert torch.allclose(one, other, atol=1e-6) is same


def _typed(seed: int = 0, v: int = 9) -> TypedGraph:
    source, target = _edges(v, 20, seed)
    relation = torch.randint(3, (20,), generator=_generator(seed + 7))
    kind = torch.randint(2, (v,), generator=_generator(seed + 8))
    return TypedGraph(_drawn(v, 8, seed=seed), kind, source, target, relation)


def test_a_typed_layer_is_its_equation_edge_by_edge() -> None:
    """Against a loop over nodes, heads and edges."""
    layer = TypedLayer(8, kinds=2, relations=3, heads=2, generator=_generator())
    with torch.no_grad():
        layer.weight.copy_(_drawn(3, 2, seed=4))
        layer.skip.copy_(torch.tensor([0.3, -0.8]))
    graph = _typed()
    triple = [
        layer.kqv[int(k)](x).reshape(3, 2, 4) for k, x in zip(graph.kind, graph.x, strict=True)
    ]
    result = []
    for t in range(9):
        heard = torch.zeros(2, 4)
        into = (graph.target == t).nonzero()[:, 0].tolist()
        for head in range(2):
            scores = []
            for row in into:
                r, s = int(graph.relation[row]), int(graph.source[row])
                key = triple[s][0, head] @ layer.key[r, head]
                scores.append(triple[t][1, head] @ key * layer.weight[r, head] / 2.0)
            if into:
                share = torch.stack(scores).softmax(0)
                for part, row in zip(share, into, strict=True):
                    r, s = int(graph.relation[row]), int(graph.source[row])
                    heard[head] = heard[head] + part * (triple[s][2, head] @ layer.value[r, head])
        kind = int(graph.kind[t])
        y = layer.out[kind](functional.gelu(heard.reshape(8)))
        gate = layer.skip[kind].sigmoid()
        result.append(gate * y + (1 - gate) * graph.x[t])
    assert torch.allclose(layer(graph), torch.stack(result), atol=1e-5)


def test_graphs_of_a_batch_do_not_touch_each_other() -> None:
    """Joined, each says what it says alone."""
    layer = TypedLayer(8, kinds=2, relations=3, heads=2, generator=_generator())
    graphs = [_typed(0), _typed(1, v=4), _typed(2)]
    together, first = join(graphs)
    assert first.tolist() == [0, 9, 13]
    alone = torch.cat([layer(graph) for graph in graphs])
    assert torch.allclose(layer(together), alone, atol=1e-6)


def test_a_graph_without_edges_is_heard_by_nobody() -> None:
    """Every node gets the shift of its kind and what it was."""
    none = torch.empty(0, dtype=torch.int64)
    graph = TypedGraph(_drawn(2, 8), torch.tensor([0, 1]), none, none, none)
    layer = TypedLayer(8, kinds=2, relations=1, heads=2, generator=_generator())
    gate = layer.skip.sigmoid()[:, None]
    shift = torch.stack([layer.out[0].bias, layer.out[1].bias])
    assert torch.allclose(layer(graph), gate * shift + (1 - gate) * graph.x)


def test_kinds_that_are_absent_are_left_alone() -> None:
    """No gradient, not even zero: an optimiser then lets their weights be; no node is no fault."""
    layer = TypedLayer(8, kinds=3, relations=3, heads=2, generator=_generator())
    layer(_typed()).sum().backward()
    assert layer.kqv[2].weight.grad is None
    assert layer.kqv[1].weight.grad is not None
    none = torch.empty(0, dtype=torch.int64)
    assert layer(TypedGraph(_drawn(0, 8), none, none, none, none)).shape == (0, 8)


def test_gradients_reach_every_weight() -> None:
    """Of both layers."""
    plain = Conv(8, 8, edge=2, generator=_generator())
    typed = TypedLayer(8, kinds=2, relations=3, heads=2, generator=_generator())
    graph = _typed()
    x = plain(graph.x, graph.source, graph.target, _drawn(20, 2))
    typed(
        TypedGraph(x, graph.kind, graph.source, graph.target, graph.relation)
    ).square().sum().backward()
    for module in (plain, typed):
        assert all(bool((w.grad != 0).any()) for w in module.parameters())


def test_gradients_are_the_same_each_time_with_two_threads() -> None:
    """To the bit: many edges leave one node, and what comes back is added up in one order."""
    plain = Conv(16, 16, edge=3, inside="relu", generator=_generator())
    typed = TypedLayer(16, kinds=1, relations=2, heads=2, generator=_generator())
    source, target = _edges(40, 6000)
    graph = TypedGraph(
        _drawn(40, 16).requires_grad_(), torch.zeros(40, dtype=torch.int64), source, target,
        torch.randint(2, (6000,), generator=_generator()),
    )  # fmt: skip
    e, threads = _drawn(6000, 3), torch.get_num_threads()

    def found() -> tuple[torch.Tensor, ...]:
        said = plain(graph.x, source, target, e)
        return *_gradients(said, graph.x), *_gradients(typed(graph), graph.x)

    try:
        torch.set_num_threads(2)
        once, *again = (found() for _ in range(6))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for more in again for a, b in zip(once, more, strict=True))


def test_first_weights_come_from_the_generator_alone() -> None:
    """One seed one layer, the global generator untouched, and back from arrays the same."""
    state = torch.get_rng_state()
    one, two = (Conv(3, 5, edge=2, generator=_generator(4)) for _ in range(2))
    gru_cell(3, 4, generator=_generator())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.message.weight, two.message.weight)
    other = to_torch(Conv(3, 5, edge=2, generator=_generator(5)), numpy_of(one))
    assert torch.equal(other.edge.weight, one.edge.weight)
    assert float(linear(4, 200, generator=_generator()).weight.detach().abs().max()) <= 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(2, 2, how="max", generator=_generator()), "how must be one of sum, mean"),
        (lambda: Conv(2, 2, inside="tanh", generator=_generator()), "inside must be one of"),
        (lambda: gather(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), 1, "max"), "how must"),
        (
            lambda: Conv(2, 2, edge=1, generator=_generator())(_drawn(2, 2), *_edges(2, 3)),
            "e must be given",
        ),
        (
            lambda: TypedLayer(5, kinds=1, relations=1, heads=2, generator=_generator()),
            "d must divide by the 2 heads",
        ),
        (lambda: join([]), "graphs must hold at least one"),
        (
            lambda: TypedGraph(
                _drawn(2, 2), *([torch.tensor([0, 0])] * 2), *([torch.tensor([2, 1])] * 2)
            ),
            "graph.target must name nodes 0 ... 1",
        ),
        (
            lambda: TypedGraph(_drawn(2, 2), torch.tensor([0]), *([torch.tensor([0])] * 3)),
            "graph.kind must hold 2 kinds",
        ),
        (
            lambda: TypedGraph(
                _drawn(1, 2), torch.tensor([0]), torch.tensor([0]), *([torch.tensor([0, 0])] * 2)
            ),
            "graph.relation must hold one source",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    """By name."""
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def _peer(module: str = "nn") -> Any:
    if importlib.util.find_spec("torch_geometric") is None:
        pytest.skip("torch_geometric is not installed: it is compared with where it is")
    return importlib.import_module(f"torch_geometric.{module}")


def _gradients(result: torch.Tensor, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(result.square().sum(), leaves)


def _alike(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("inside", ["linear", "relu"])
def test_as_the_peer_with_equal_weights_plain(how: str, inside: str) -> None:
    """`GeneralConv` says the same, from one set of nodes to another, and so do its gradients.

    It bends no message itself; a layer of one's own that does is made of it as it says.
    """
    general = _peer().GeneralConv

    class Bent(general):  # type: ignore[misc, valid-type]
        def message(
            self, x_i: Any, x_j: Any, edge_index_i: Any, size_i: Any, edge_attr: Any
        ) -> Any:
            said = super().message(x_i, x_j, edge_index_i, size_i, edge_attr)
            return said.relu() if inside == "relu" else said

    ours = Conv(4, 4, edge=3, how=how, inside=inside, generator=_generator())
    theirs = Bent(4, 4, in_edge_channels=3, aggr={"sum": "add"}.get(how, how))
    theirs.lin_msg.load_state_dict(ours.message.state_dict())
    theirs.lin_edge.load_state_dict(ours.edge.state_dict())
    x, own, e = (
        _drawn(*shape, seed=seed).requires_grad_()
        for seed, shape in enumerate(((7, 4), (3, 4), (15, 3)))
    )
    source, target = _edges(7, 15)[0], _edges(2, 15, 3)[1]  # the last of the three hears nothing
    told = own + ours.heard(x, source, target, e, 3)
    found = theirs((x, own), torch.stack((source, target)), edge_attr=e, size=(7, 3))
    assert torch.allclose(told, found, atol=1e-5)
    weights = (ours.message.weight, ours.message.bias, ours.edge.weight, ours.edge.bias)
    others = (*theirs.lin_msg.parameters(), *theirs.lin_edge.parameters())
    assert _alike(_gradients(told, x, own, e, *weights), _gradients(found, x, own, e, *others))


@pytest.mark.filterwarnings("ignore")
def test_as_the_peer_what_is_heard_and_shared() -> None:
    """`SumAggregation`, `MeanAggregation` and `softmax`, and their gradients."""
    aggr, softmax = _peer("nn.aggr"), _peer("utils").softmax
    said, (_, target) = _drawn(20, 2, 3).requires_grad_(), _edges(5, 20)
    for told, found in (
        (gather(said, target, 6), aggr.SumAggregation()(said, target, dim_size=6, dim=0)),
        (gather(said, target, 6, "mean"), aggr.MeanAggregation()(said, target, dim_size=6, dim=0)),
        (segment_softmax(said, target, 6), softmax(said, target, num_nodes=6)),
    ):
        assert torch.allclose(told, found, atol=1e-6)
        assert _alike(_gradients(told, said), _gradients(found, said))


@pytest.mark.filterwarnings("ignore")
def test_as_the_peer_with_equal_weights_typed() -> None:
    """`HGTConv` says the same, and so do its gradients."""
    peer = _peer()
    ours = TypedLayer(8, kinds=2, relations=3, heads=2, generator=_generator())
    with torch.no_grad():
        ours.weight.copy_(_drawn(3, 2, seed=4))
        ours.skip.copy_(torch.tensor([0.3, -0.8]))
    kinds = ["a", "b"]
    meta = [("a", "r0", "b"), ("b", "r1", "a"), ("b", "r2", "b")]
    theirs = peer.HGTConv(8, 8, (kinds, meta), heads=2)
    with torch.no_grad():
        for number, kind in enumerate(kinds):
            theirs.kqv_lin.lins[kind].load_state_dict(ours.kqv[number].state_dict())
            theirs.out_lin.lins[kind].load_state_dict(ours.out[number].state_dict())
            theirs.skip[kind].copy_(ours.skip[number : number + 1])
        theirs.k_rel.weight.copy_(ours.key.transpose(0, 1).reshape(6, 4, 4))
        theirs.v_rel.weight.copy_(ours.value.transpose(0, 1).reshape(6, 4, 4))
        for number, relation in enumerate(meta):
            theirs.p_rel["__".join(relation)].copy_(ours.weight[number : number + 1])
    x = {
        "a": _drawn(4, 8, seed=5).requires_grad_(),
        "b": _drawn(5, 8, seed=6).requires_grad_(),
    }
    edges = {}
    for number, (source, _, target) in enumerate(meta):
        draw = _generator(number)
        edges[meta[number]] = torch.stack(
            [torch.randint(len(x[kind]), (6,), generator=draw) for kind in (source, target)]
        )
    found = theirs(x, edges)
    start = {"a": 0, "b": 4}
    graph = TypedGraph(
        torch.cat((x["a"], x["b"])),
        torch.tensor([0] * 4 + [1] * 5),
        torch.cat([edges[name][0] + start[name[0]] for name in meta]),
        torch.cat([edges[name][1] + start[name[2]] for name in meta]),
        torch.arange(3).repeat_interleave(6),
    )
    told, other = ours(graph), torch.cat((found["a"], found["b"]))
    assert torch.allclose(told, other, atol=1e-5)
    weights = (ours.kqv[0].weight, ours.kqv[1].weight, ours.out[1].bias)
    same = (*(theirs.kqv_lin.lins[kind].weight for kind in kinds), theirs.out_lin.lins["b"].bias)
    assert _alike(_gradients(told, *x.values(), *weights), _gradients(other, *x.values(), *same))

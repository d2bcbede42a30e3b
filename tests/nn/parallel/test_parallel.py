"""Experts over real processes, against the same layer in one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import multiprocessing

from turnout.core import InputError
from turnout.nn.experts import StackedExperts
from turnout.nn.parallel import (
    Exchange,
    ParallelExperts,
    SendPlan,
    part_of,
    share_of,
    sum_gradients,
)

HERE = str(Path(__file__).parent)
WORLD = 4
Results = list[dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def world() -> Any:
    """The module the processes run; found there by its name."""
    sys.path.insert(0, HERE)
    try:
        import _expert_world
    finally:
        sys.path.remove(HERE)
    return _expert_world


@pytest.fixture(scope="module")
def results(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of four processes found, started once for all tests here."""
    folder = tmp_path_factory.mktemp("world")
    sys.path.insert(0, HERE)
    try:
        # The server imports torch once, and the processes are forked from it before it computes.
        modules = ["turnout.nn.balance", "turnout.nn.moe", "turnout.nn.parallel"]
        multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
        multiprocessing.start_processes(
            world.work,
            args=(WORLD, str(folder / "rendezvous"), str(folder)),
            nprocs=WORLD,
            daemon=True,
            start_method="forkserver",
        )
    finally:
        sys.path.remove(HERE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


CASE_NAMES = (
    "four",
    "two",
    "one",
    "uneven experts",
    "fewer experts than processes",
    "a process without tokens",
    "one process has all tokens",
    "no token at all",
    "all to one process",
    "all to one process, two of two",
    "padding",
    "every expert",
    "slots one by one",
    "slots one by one, every expert",
    "pairs",
    "pairs, all to one",
    "unlike experts",
    "another k in every process",
    "three layers",
    "experts by hand",
    "double precision",
)


def test_every_case_is_read(world: Any) -> None:
    """The names here are those the processes run."""
    assert set(CASE_NAMES) == set(world.CASES)


@pytest.mark.parametrize("name", CASE_NAMES)
def test_equal_to_one_process(name: str, world: Any, results: Results) -> None:
    """Value, and gradient of input, gate and experts, to 1e-6 of the single process."""
    found = [of_rank[name] for of_rank in results if name in of_rank]
    assert len(found) == world.CASES[name].ranks
    for gaps in found:
        assert {"value", "x", "0 gate scorer.weight"} <= set(gaps)
        assert max(gaps.values()) < 1e-6, gaps
    assert any("gate_up" in key or "expert" in key for gaps in found for key in gaps)


def test_traffic_by_hand(results: Results) -> None:
    """Rows, bytes and what was saved, for three tokens in each of two processes.

    Process 0 sends its second and third token: two rows, three slots. Process 1 sends its first and
    third. A row is 8 floats; it carries two experts and two weights of 4 bytes, or one of each.
    """
    for rank in (0, 1):
        told = results[rank]["traffic"]
        assert told["once rows_sent"] == told["once rows_received"] == 2
        assert told["once rows_kept"] == 2
        assert told["once bytes_sent"] == told["once bytes_received"] == 2 * (32 + 16)
        assert told["once bytes_returned"] == 2 * 32
        assert told["once rows_saved"] == 1
        assert told["each rows_sent"] == told["each rows_kept"] == 3
        assert told["each bytes_sent"] == 3 * (32 + 8)
        assert told["each rows_saved"] == 0


def test_weights_have_their_gradient(results: Results) -> None:
    """Free combine weights too; and one process that wants more gradients hangs nobody."""
    assert max(results[rank]["weights gradient"]["weights"] for rank in (0, 1)) < 1e-6


def test_inference(results: Results) -> None:
    """Without gradients the value is the same; low precision comes back in its own type."""
    for rank in (0, 1):
        told = results[rank]["without gradient"]
        assert told["value"] < 1e-6
        assert told["needs gradient"] == 0.0
        assert told["bfloat16 comes back"] == 1.0
        assert 0.0 < told["bfloat16"] < 0.1
        assert told["apply_to"] == 0.0


def test_balance_is_of_all_processes(results: Results) -> None:
    """Each process is collapsed onto its own expert, both together are even."""
    for rank in (0, 1):
        told = results[rank]["balance"]
        assert told["local loss"] == pytest.approx(2.0)
        assert told["global loss"] == pytest.approx(1.0)
        assert told["pairs"] == 8
        assert told["max over mean"] == 1.0
        assert told["moved"] == pytest.approx(-0.1)


@settings(max_examples=50, deadline=None)
@given(
    t=st.integers(0, 12),
    k=st.integers(0, 4),
    members=st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(lambda m: sum(m) > 0),
    seed=st.integers(0, 10**6),
    deduplicate=st.booleans(),
)
def test_plan_serves_every_slot_once(
    t: int, k: int, members: list[int], seed: int, deduplicate: bool
) -> None:
    """Every filled slot is served by one row, in the process of its expert; none is not sent."""
    e = sum(members)
    generator = torch.Generator().manual_seed(seed)
    experts = torch.randint(0, e + 1, (t, k), generator=generator)
    plan = SendPlan.of(experts, torch.tensor(members), deduplicate=deduplicate)
    rank = torch.arange(len(members)).repeat_interleave(plan.counts)
    first = [sum(members[:r]) for r in range(len(members))]
    served = []
    for row in range(len(plan.token)):
        assert bool(plan.slots[row].any())
        for column in range(plan.slots.shape[1]):
            r, local = int(rank[row]), int(plan.local[row, column])
            if plan.slots[row, column]:
                slot = (int(plan.token[row]), int(plan.columns[row, column]))
                assert int(experts[slot]) == first[r] + local
                assert local < members[r]
                served.append(slot)
            else:
                assert local == members[r]
    assert sorted(served) == sorted((i, j) for i in range(t) for j in range(k) if experts[i, j] < e)
    assert int(plan.pairs.sum()) == len(served)
    if deduplicate:
        visits = set(zip(rank.tolist(), plan.token.tolist(), strict=True))
        assert len(visits) == len(plan.token)


@given(st.integers(1, 40), st.integers(1, 9))
def test_shares_cover_all_experts(e: int, ranks: int) -> None:
    """Every expert has one process, and no process has two more than another."""
    shares = [share_of(e, ranks, rank) for rank in range(ranks)]
    assert [j for share in shares for j in share] == list(range(e))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_part_is_a_copy() -> None:
    """The rows of those kept, which no longer change with the whole."""
    whole = StackedExperts(5, 4, 8, generator=torch.Generator().manual_seed(0))
    part = part_of(whole, range(1, 3))
    assert isinstance(part, StackedExperts)
    assert part.e == 2
    assert torch.equal(part.down_proj, whole.down_proj[1:3])
    with torch.no_grad():
        whole.down_proj.zero_()
    assert bool(part.down_proj.any())
    assert part_of(whole, range(2, 2)) is None


def test_without_processes() -> None:
    """No group: experts are refused by name, and gradients are left alone."""
    with pytest.raises(InputError, match="group must be a running process group"):
        ParallelExperts(None)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    sum_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 1.0]


def test_refusals() -> None:
    """Wrong words and numbers are refused by name."""
    with pytest.raises(InputError, match="method must"):
        Exchange(method="ring")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="keep must"):
        part_of(StackedExperts(2, 4, 4), range(1, 3))
    for e, ranks, rank in ((0, 1, 0), (1, 0, 0), (1, 1, 1)):
        with pytest.raises(InputError):
            share_of(e, ranks, rank)
